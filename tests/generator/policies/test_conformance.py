"""What every policy keeps to; a new one is in here by being found, and trained by some method."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from tests.conftest import smooth_top1

import pnag_fast as pf
from pnag_fast.accuracy import AccuracyModel
from pnag_fast.errors import FileFormatError
from pnag_fast.generator import BudgetPolicy
from pnag_fast.generator.methods import known

pytest.importorskip("torch")

METHODS = known()
# Settings of these names make training a matter of a moment.
SMALL = {
    "evaluations": 300,
    "steps": 8,
    "batch": 32,
    "hidden": 16,
    "n_architectures": 100,
    "evaluator_steps": 3,
    "evaluator_batch": 16,
    "evaluator_hidden": 16,
}
SPACES = {
    "layers": ("mbv3-tiny", {}),
    "resolutions": ("mbv3-tiny", {"resolutions": (16, 32)}),
    "rows": ("compofa-mbv3", {}),
    "cells": ("nasbench201", {}),
}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Smooth(AccuracyModel):
    """Every layer and every larger choice adds a little."""

    def _moments(self, archs, with_variance):
        return smooth_top1(self.space, archs), np.zeros(len(archs)) if with_variance else None


def small(name):
    fields = {field.name for field in dataclasses.fields(METHODS[name])}
    return METHODS[name](**{key: value for key, value in SMALL.items() if key in fields})


@dataclasses.dataclass
class Case:
    space: pf.SearchSpace
    generator: pf.Generator

    @property
    def policy(self):
        return self.generator.policy

    def budgets(self, n):
        """Over the range, and beyond both of its ends."""
        low, high = self.generator.stack.bounds.T
        return low + (high - low) * np.linspace(-0.2, 1.2, n)[:, None]


def trained(method, where, n_costs):
    name, options = SPACES[where]
    space = pf.spaces.get(name, **options)
    model = Smooth(space=space, source="smooth")
    tables = [pf.costs.parameters(space), pf.costs.macs(space)][:n_costs]
    return Case(
        space,
        pf.train_generator(space, model, tables, method=method, settings=small(method), seed=3),
    )


@pytest.fixture(
    scope="module",
    params=[(m, s, n) for m in METHODS for s in SPACES for n in (1, 2)],
    ids=lambda param: "-".join(map(str, param)),
)
def case(request):
    return trained(*request.param)


def content(policy):
    return policy.to_tensors("policy.")


def test_every_policy_is_looked_at():
    kinds = {policy.kind for policy in BudgetPolicy.__subclasses__() if policy.kind}
    assert {"independent", "lstm"} <= kinds
    assert {trained(method, "rows", 1).policy.kind for method in METHODS} == kinds


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_answers_are_architectures(case, n):
    budgets = case.budgets(9)
    for found in (
        case.policy.candidates(budgets, n, np.random.default_rng(0)),
        case.policy.sample(budgets, n, np.random.default_rng(0)),
    ):
        assert found.dtype == np.uint8
        assert found.shape[::2] == (9, case.space.n_slots)
        assert found.shape[1] >= n
        case.space.validate(np.ascontiguousarray(found.reshape(-1, case.space.n_slots)))
    assert found.shape[1] == n
    assert case.policy.space == case.space


def test_the_generator_answers_within_the_budget(case):
    low, high = case.generator.stack.bounds.T
    budgets = low + (high - low) * np.linspace(0.4, 1, 8)[:, None]
    answers = case.generator.generate(budgets, on_infeasible="mark")
    assert answers.feasible.any()
    assert (answers.costs[answers.feasible] <= budgets[answers.feasible]).all()


def test_randomness_comes_from_the_generator_alone(case):
    budgets = case.budgets(9)
    for ask in (case.policy.candidates, case.policy.sample):
        a, b = (ask(budgets, 16, np.random.default_rng(5)) for _ in range(2))
        np.testing.assert_array_equal(a, b)
        assert (a != ask(budgets, 16, np.random.default_rng(6))).any()
    # The first is greedy, whatever is drawn.
    first, other = (case.policy.sample(budgets, n, np.random.default_rng(n)) for n in (1, 4))
    np.testing.assert_array_equal(first[:, 0], other[:, 0])
    assert budgets.tolist() == case.budgets(9).tolist()


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_policy(method):
    a, b = (content(trained(method, "layers", 2).policy) for _ in range(2))
    assert a[1] == b[1]
    assert a[0].keys() == b[0].keys()
    for name, array in a[0].items():
        np.testing.assert_array_equal(array, b[0][name])


def same_answers(a, b, budgets, scale=1):
    rngs = [np.random.default_rng(0) for _ in range(2)]
    np.testing.assert_array_equal(
        a.candidates(budgets, 40, rngs[0]), b.candidates(scale * budgets, 40, rngs[1])
    )


def test_files_keep_everything(case, tmp_path):
    tensors, body = content(case.policy)
    path = tmp_path / "policy.safetensors"
    pf.files.write_safetensors(path, "policy", 1, tensors, body)
    tensors, body = pf.files.read_safetensors(path, "policy", 1)
    n_tables = len(case.generator.tables)
    read = BudgetPolicy.from_tensors(case.space, n_tables, tensors, body, path, "policy.")
    assert type(read) is type(case.policy)
    same_answers(case.policy, read, case.budgets(9))


def test_damaged_files_are_refused_by_name(case):
    tensors, body = content(case.policy)
    n_tables = len(case.generator.tables)

    def refused(name, tensors=tensors, body=body, n_tables=n_tables):
        with pytest.raises(FileFormatError, match=name):
            BudgetPolicy.from_tensors(case.space, n_tables, tensors, body, "file", "policy.")

    for name, array in tensors.items():
        refused(name, {key: value for key, value in tensors.items() if key != name})
        for damaged in (array[None], array[..., :0], array.astype(np.int64), array + np.nan):
            refused(name, {**tensors, name: damaged})
    for name in body:
        refused(name, body={**body, name: []})
    refused("unknown kind 'oracle'", body={**body, "policy": "oracle"})
    refused("should be float(32|64) of shape", n_tables=n_tables + 1)


def test_other_costs(case):
    costs = case.generator.archive.costs
    policy = case.policy.rescaled(case.space, costs)
    before = content(case.policy)[0]
    # In units half as large everything costs twice as much.
    same_answers(policy, case.policy.rescaled(case.space, 2 * costs), case.budgets(9), scale=2)
    for name, array in content(case.policy)[0].items():
        np.testing.assert_array_equal(array, before[name])


def test_copies(case):
    for other in (pickle.loads(pickle.dumps(case.policy)), copy.deepcopy(case.policy)):
        assert other.space == case.space
        same_answers(case.policy, other, case.budgets(9))
    assert len(repr(case.policy)) < 200
    assert case.space.name in repr(case.policy)


@pytest.mark.parametrize("method", METHODS)
def test_answers_need_no_torch(method, tiny, tiny_model, tiny_table, tmp_path):
    settings = small(method)
    generator = pf.train_generator(tiny, tiny_model, [tiny_table], method=method, settings=settings)
    generator.save(tmp_path / "generator.safetensors")
    budget = float(np.mean(tiny_table.bounds))
    expected = tiny.to_strings(generator.generate(budget).archs)[0]
    code = f"""
        import sys
        sys.modules["torch"] = None  # importing it now raises ImportError
        import numpy as np
        import pnag_fast as pf
        generator = pf.Generator.load({str(tmp_path / "generator.safetensors")!r})
        print(generator.space.to_strings(generator.generate({budget!r}).archs)[0])
        generator.policy.sample(np.array([[{budget!r}]]), 3, np.random.default_rng(0))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected
