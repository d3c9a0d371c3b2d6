from __future__ import annotations

import dataclasses
import gc
from typing import ClassVar

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.errors import FileFormatError, InvalidInputError, InvalidTypeError
from pnag_fast.generator import (
    BudgetPolicy,
    BudgetScale,
    ExpertSettings,
    GeneratorMethod,
    LstmPolicy,
)
from pnag_fast.generator.methods import known
from pnag_fast.search.methods.random import Random


def define():
    """A method and its policy, each one class, with nothing said of them anywhere else."""

    @dataclasses.dataclass(frozen=True, eq=False)
    class Member(BudgetPolicy):
        """Any member of a list, whatever the budget."""

        members: pf.SearchSpace
        archs: np.ndarray

        kind: ClassVar[str] = "member"
        n_candidates: ClassVar[int] = 3

        @property
        def space(self):
            return self.members

        def candidates(self, budgets, n, rng):
            return self.archs[rng.integers(len(self.archs), size=(len(budgets), n))]

        sample = candidates

        def rescaled(self, space, costs):
            return Member(space, self.archs)

        def _content(self, prefix):
            return {f"{prefix}archs": self.archs}, {"drawn": len(self.archs)}

        @classmethod
        def _read(cls, space, n_tables, tensors, body, path, prefix):
            archs = tensors[f"{prefix}archs"]
            if body.get("drawn") != len(archs):
                raise FileFormatError(f"'{path}': field 'drawn' is another")
            return cls(space, archs)

    @dataclasses.dataclass(frozen=True)
    class Sampling(GeneratorMethod):
        """Random search, and its front as the policy."""

        evaluations: int = 200

        name: ClassVar[str] = "sampling"

        def check(self):
            object.__setattr__(self, "evaluations", int(self.evaluations))

        def train(self, problem, run):
            archive = Random().run(problem, run)
            return Member(problem.space, archive.archs), archive, {"members": len(archive)}

    return Member, Sampling


@pytest.fixture
def sampling():
    member, method = define()
    yield method
    # Classes are found for as long as somebody holds them.
    del member, method
    gc.collect()


def test_a_new_method_and_a_new_policy_are_one_class_each(
    sampling, tiny, tiny_model, tiny_table, tmp_path
):
    path, seen = tmp_path / "generator.safetensors", []
    trained = pf.train_generator(
        tiny,
        tiny_model,
        [tiny_table],
        method="sampling",
        seed=2,
        checkpoint=tmp_path / "checkpoint",
        progress=lambda *call: seen.append(call),
    )
    assert seen[-1][1:] == (200, 200)
    assert trained.record["settings"] == {"evaluations": 200}
    assert trained.record["members"] == len(trained.archive)
    other = pf.train_generator(
        tiny, tiny_model, [tiny_table], method="sampling", settings=sampling(evaluations=50)
    )
    assert other.archive.evaluations == 50
    trained.save(path)
    loaded = pf.Generator.load(path)
    assert loaded.policy.kind == "member"
    low, high = tiny_table.bounds
    budgets = np.linspace(low + 0.3 * (high - low), high, 20)
    np.testing.assert_array_equal(loaded.generate(budgets).archs, trained.generate(budgets).archs)
    moved = trained.retarget([pf.costs.macs(tiny)], evaluations=100)
    assert type(moved.policy) is type(trained.policy)
    # What a file may hold is what its own policy writes.
    tensors, body = files.read_safetensors(path, "pnag-generator", 3)
    for written_by_files in ("format", "version", "provenance"):
        del body[written_by_files]
    for message, extra, values in (
        ("'n_budgets'", {}, {"n_budgets": 3}),
        ("'drawn'", {}, {"drawn": 0}),
        ("extra tensor 'policy.more'", {"policy.more": np.zeros(1)}, {}),
        ("extra tensor 'scale.low'", {"scale.low": np.zeros(1)}, {}),
    ):
        files.write_safetensors(path, "pnag-generator", 3, {**tensors, **extra}, body | values)
        with pytest.raises(FileFormatError, match=message):
            pf.Generator.load(path)


def test_classes_that_are_gone_are_not_found():
    gc.collect()
    assert list(known()) == ["expert", "pnag"]


def test_a_policy_without_a_kind_is_not_saved(tiny_generator, tmp_path):
    class Mine(type(tiny_generator.policy)):
        pass

    own = tiny_generator.policy
    mine = dataclasses.replace(tiny_generator, policy=Mine(own.decisions, own.nodes, own.weights))
    # It inherits a kind, and comes back as what files know.
    mine.save(tmp_path / "generator.safetensors")
    assert type(pf.Generator.load(tmp_path / "generator.safetensors").policy) is type(own)

    class Nameless(BudgetPolicy):
        space = tiny_generator.space
        candidates = sample = rescaled = None

    with pytest.raises(InvalidInputError, match="a Nameless cannot be saved"):
        dataclasses.replace(tiny_generator, policy=Nameless()).save(tmp_path / "other")


def test_the_former_name_of_the_lstm_warns():
    with pytest.warns(DeprecationWarning, match="LstmPolicy"):
        assert pf.generator.Policy is LstmPolicy
    with pytest.raises(AttributeError, match="Polcy"):
        _ = pf.generator.Polcy
    assert BudgetScale(np.zeros(1), np.ones(1), 2).interpolate


def test_an_oracle_is_no_accuracy_model(tiny, tiny_table):
    oracle = pf.accuracy.oracle(tiny, lambda archs: np.zeros(len(archs)))
    with pytest.raises(InvalidTypeError, match="fit one to what the oracle answered"):
        pf.train_generator(tiny, oracle, [tiny_table])


def test_presets_belong_to_a_method(tiny, tiny_model, tiny_table):
    with pytest.raises(InvalidInputError, match="presets are for method 'pnag', not for 'expert'"):
        pf.train_generator(
            tiny, tiny_model, [tiny_table], preset="nag", settings=ExpertSettings(steps=1)
        )
