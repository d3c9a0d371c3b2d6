from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import FileFormatError, InvalidInputError
from pnag_fast.runs import Checkpoint, Run
from pnag_fast.search import Draws, Problem
from pnag_fast.search.method import ORACLE_EVALUATIONS
from pnag_fast.search.problem import spread

# A whole method: everything that a new one has to say.
CLIMB = '''
"""Climbing from the cheapest architecture."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pnag_fast import arguments
from pnag_fast.search.method import Method
from pnag_fast.search.result import extremes


@dataclass(frozen=True, eq=False)
class Climb(Method):
    """Ask about mutations of what is known.

    Parameters
    ----------
    children : int
    """

    children: int = 16

    name: ClassVar[str] = "climb"
    title: ClassVar[str] = "climbing"

    def checked(self):
        return {"children": arguments.integer(self.children, "children", 1, 10_000)}

    def begin(self, problem, draws):
        problem.evaluate(extremes(problem.tables))
        return {}

    def step(self, problem, state, draws):
        known = problem.archs if len(problem.archs) else extremes(problem.tables)
        parents = known[draws.rng.integers(len(known), size=self.children)]
        problem.evaluate(problem.space.mutate(parents, rate=0.2, seed=draws.next_seed()))
        return state
'''


@pytest.mark.slow
def test_a_new_method_is_one_file(tmp_path):
    """A file in a copy of the package: called, signed, resumed, and held to what others are."""
    package = Path(pf.__file__).parent
    shutil.copytree(package, tmp_path / "pnag_fast", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pnag_fast" / "search" / "methods" / "climb.py").write_text(CLIMB)
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
            *("--benchmark-disable", "-k", "climb"),
            Path(__file__).with_name("test_conformance.py"),
        ],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    n_tests = int(done.stdout.rsplit(" passed", 1)[0].split()[-1])
    assert n_tests >= 17


def test_a_users_own_method_is_called_like_the_others(tiny, tiny_model, tiny_table):
    @dataclass(frozen=True, eq=False)
    class Twice(pf.search.Method):
        """Ask about the same twice."""

        n: int = 3
        name = "twice"
        title = "asking twice"
        evaluations = 10

        def begin(self, problem, draws):
            return {"archs": problem.space.sample(self.n, seed=draws.seed)}

        def step(self, problem, state, draws):
            problem.evaluate(np.concatenate([state["archs"], state["archs"]]))
            return state

    assert "twice" in pf.search.names()
    found = pf.search.twice(tiny, tiny_model, [tiny_table], n=2)
    assert found.evaluations == 10
    expected = np.unique(tiny.sample(2, seed=0), axis=0)
    assert {row.tobytes() for row in found.archs} <= {row.tobytes() for row in expected}
    # An oracle is asked once: then there is nothing new, and the search ends.
    oracle = pf.accuracy.oracle(tiny, lambda archs: archs.mean(axis=1) / 10)
    assert pf.search.twice(tiny, oracle, [tiny_table]).evaluations == 3 == oracle.n_known


@pytest.mark.parametrize("name", ["random", "nsga2", "evolution", "front"])
def test_an_oracle_is_asked_little_unless_more_is_allowed(cell, name):
    oracle = pf.accuracy.oracle(cell, lambda archs: archs.mean(axis=1) / 10, batch=300)
    search, tables = getattr(pf.search, name), [pf.costs.macs(cell)]
    assert search(cell, oracle, tables).evaluations == ORACLE_EVALUATIONS == 300
    assert search(cell, oracle, tables, evaluations=301).evaluations == 301


def test_whoever_asks_for_everything_gets_it_of_an_oracle():
    small = pf.spaces.get("compofa-mbv3", resolutions=(192, 224))
    oracle = pf.accuracy.oracle(small, lambda archs: archs.mean(axis=1) / 10, batch=500)
    found = pf.search.exhaustive(small, oracle, [pf.costs.macs(small)])
    assert found.evaluations == small.n_architectures > ORACLE_EVALUATIONS


def test_a_method_that_asks_nothing_more_ends(tiny, tiny_model, tiny_table):
    @dataclass(frozen=True, eq=False)
    class Lazy(pf.search.Method):
        """Ask once."""

        name = "lazy"
        title = "asking once"

        def begin(self, problem, draws):
            problem.evaluate(problem.space.sample(5, seed=draws.seed))
            return {}

        def step(self, problem, state, draws):
            return state

    assert pf.search.lazy(tiny, tiny_model, [tiny_table]).evaluations == 5


def test_a_problem_by_hand(tiny, tiny_model, tiny_table):
    """What a method sees: merits, costs, what is left, and the archive as points."""
    problem = Problem(tiny, tiny_model, [tiny_table], evaluations=50)
    archs = tiny.sample(40, seed=0)
    asked, merit, costs = problem.evaluate(archs)
    np.testing.assert_array_equal(asked, archs)
    np.testing.assert_array_equal(merit, tiny_model.predict(archs))
    np.testing.assert_array_equal(costs[:, 0], tiny_table(archs))
    assert (problem.count, problem.left, problem.spent) == (40, 10, 0.8)
    assert len(problem.evaluate(archs)[0]) == 10
    assert problem.left == 0
    everything = np.column_stack([-merit, costs])
    best = everything[pf.pareto.is_non_dominated(everything)]
    np.testing.assert_array_equal(np.unique(problem.points, axis=0), np.unique(best, axis=0))
    within = problem.front_at(np.array([[costs.min()], [costs.max()], [0.0]]))
    assert within[0] == merit[costs[:, 0] == costs.min()].max()
    assert within[1] == merit.max()
    assert within[2] == problem.floor == 0.0


def test_an_archive_holds_an_architecture_once(tiny, tiny_model):
    """Repeated in a batch and between batches; others of the same cost stay."""
    archs = tiny.sample(300, seed=0)
    shape = (2, 1, tiny.n_slots, max(tiny.n_codes))
    entries = np.round(np.random.default_rng(0).uniform(1, 3, shape))
    tables = [
        pf.CostTable.build(tiny, metric="m", unit="u", device=name, constants=[1.0], entries=part)
        for name, part in zip("ab", entries, strict=True)
    ]
    problem = Problem(tiny, tiny_model, tables, evaluations=2000)
    for batch in (archs[:50], archs[:50], np.repeat(archs, 3, axis=0), archs[::-1]):
        problem.evaluate(np.ascontiguousarray(batch))
    everything = np.column_stack([-tiny_model.predict(archs), problem.stack(archs)])
    best = np.unique(archs[pf.pareto.is_non_dominated(everything)], axis=0)
    assert len(np.unique(problem.costs[:, 0])) < len(best)
    assert len(problem.archs) == len(best)
    np.testing.assert_array_equal(np.unique(problem.archs, axis=0), best)


def test_seeds_of_streams_are_apart():
    draws = Draws(3)
    assert len({draws.seed_of(i) for i in range(100)}) == 100
    assert Draws(3).seed_of(5) == draws.seed_of(5) != Draws(4).seed_of(5)
    first = draws.rng.random()
    assert Draws(3).rng.random() == first
    draws.restart(1)
    assert draws.rng.random() != first


def test_files_of_other_runs_and_damaged_ones_are_refused(tiny, tiny_model, tiny_table, tmp_path):
    path = tmp_path / "checkpoint"

    def search(model=tiny_model, tables=(tiny_table,), **options):
        options = {"evaluations": 300, "population": 20, "checkpoint": path} | options
        return pf.search.nsga2(tiny, model, list(tables), **options)

    search()
    for other, what in (
        ({"seed": 1}, "seed"),
        ({"evaluations": 301}, "evaluations"),
        ({"population": 21}, "settings"),
        ({"model": tiny_model.cautious(1)}, "accuracy model"),
        ({"tables": [pf.costs.macs(tiny)]}, "cost tables"),
    ):
        with pytest.raises(InvalidInputError, match=what):
            search(**other)
    good = Checkpoint(path, run_identity(path)).restore("nsga2")
    for name, wrong in (
        ("method.archs", np.full_like(good.arrays["method.archs"], 250)),
        ("method.points", good.arrays["method.points"][:, :1]),
        ("method.rank", good.arrays["method.rank"].astype(np.int64)),
        ("costs", good.arrays["costs"] + 1),
        ("spent", good.arrays["spent"] * 1000),
        ("merit", good.arrays["merit"][:-1]),
        ("random", good.arrays["random"][:-1]),
    ):
        kept = Checkpoint(tmp_path / "new", {})
        arrays = good.arrays | {name: wrong}
        kept.keep("nsga2", good.step, lambda arrays=arrays: arrays, last=True)
        problem = Problem(tiny, tiny_model, [tiny_table], evaluations=300)
        with pytest.raises(FileFormatError, match="delete the file"):
            type_of("nsga2")(population=20).run(problem, Run(checkpoint=kept))
        (tmp_path / "new").unlink()


def run_identity(path):
    """The identity that a checkpoint's file names."""
    from pnag_fast import files
    from pnag_fast.runs import checkpoint

    for name in dir(checkpoint):
        if name.endswith("_FORMAT"):
            prefix = name.removesuffix("_FORMAT")
            try:
                version = getattr(checkpoint, f"{prefix}_VERSION")
                return files.read_safetensors(path, getattr(checkpoint, name), version)[1][
                    "identity"
                ]
            except FileFormatError:
                continue
    raise AssertionError


def type_of(name):
    return next(m for m in pf.search.Method.__subclasses__() if m.name == name)


def test_a_cut_front_keeps_its_volume_in_many_objectives():
    """Points on a sphere, as many as an archive never holds: what is left still covers them."""
    rng = np.random.default_rng(0)
    values = np.abs(rng.normal(size=(3000, 5)))
    values = 1 - values / np.linalg.norm(values, axis=1, keepdims=True)
    kept = spread(values, 200)
    assert 100 < len(kept) <= 200
    assert (np.diff(kept) > 0).all()
    np.testing.assert_array_equal(values[kept].min(axis=0), values.min(axis=0))
    # Nothing that was dropped is far from what stays: less than the crowding distance leaves.
    crowded = np.argsort(-pf.pareto.crowding_distance(values), kind="stable")[: len(kept)]

    def furthest(rows):
        return max(np.abs(values[rows] - point).max(axis=1).min() for point in values)

    assert furthest(kept) < 0.85 * furthest(crowded)
    worst = np.full(5, 1.1)
    volumes = [pf.pareto.hypervolume(values[rows], worst) for rows in (kept, crowded)]
    assert volumes[0] > volumes[1]


@pytest.mark.parametrize("n_objectives", [2, 3, 7])
def test_cutting_a_front_takes_any_points(n_objectives):
    rng = np.random.default_rng(1)
    values = rng.integers(0, 3, size=(500, n_objectives)).astype(float)
    values[:, -1] = 2.5  # one that does not vary
    for n in (n_objectives, 20):
        kept = spread(values, n)
        assert 1 <= len(kept) <= n
        np.testing.assert_array_equal(values[kept].min(axis=0), values.min(axis=0))


def test_the_archive_is_cut_where_it_overflows(tiny, tiny_model, tiny_table, monkeypatch):
    monkeypatch.setattr("pnag_fast.search.problem.ARCHIVE_LIMIT", 30)
    monkeypatch.setattr("pnag_fast.search.problem.ARCHIVE_SLACK", 10)
    tables = [tiny_table, pf.costs.parameters(tiny), pf.costs.macs(tiny)]
    problem = Problem(tiny, tiny_model, tables, evaluations=4000)
    for seed in range(20):
        problem.evaluate(tiny.sample(200, seed=seed))
        assert 2 <= len(problem.archs) <= 40
    assert pf.pareto.is_non_dominated(problem.points).all()
