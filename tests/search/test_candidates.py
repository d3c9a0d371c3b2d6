"""The pool of what may be asked next in a space too large to look at."""

from __future__ import annotations

import numpy as np
import pytest
from tests.conftest import smooth_top1

import pnag_fast as pf
from pnag_fast import pareto
from pnag_fast.search import candidates
from pnag_fast.search.problem import Problem
from pnag_fast.search.result import points


@pytest.fixture(scope="module")
def worth(tiny):
    def belief(archs):
        return smooth_top1(tiny, archs), np.full(len(archs), 0.01)

    return belief


def pooled(tiny, table, belief, known, generations=12, seed=0):
    return candidates.pool(
        tiny,
        pf.costs.stack([table]),
        belief,
        known,
        n=300,
        generations=generations,
        rng=np.random.default_rng(seed),
    )


def test_a_pool_reaches_what_is_believed_to_be_the_front(tiny, tiny_table, worth):
    known = tiny.sample(30, seed=1)
    found = pooled(tiny, tiny_table, worth, known)
    tiny.validate(found)
    assert len(np.unique(found, axis=0)) == len(found)
    assert len(found) <= 300
    # Better within every budget than a hundred times as many that were drawn.
    drawn = tiny.sample(30_000, seed=2, distribution="decisions")
    budgets = np.linspace(*tiny_table.bounds, 12)[1:, None]
    best = [
        worth(rows)[0][pareto.best_within(tiny_table(rows)[:, None], worth(rows)[0], budgets)]
        for rows in (found, drawn)
    ]
    assert (best[0] >= best[1]).all()
    # Where nothing is sought it is what was known, and a few that were drawn.
    nothing = pooled(tiny, tiny_table, worth, known, generations=0)
    assert not (worth(nothing)[0].max() < worth(known)[0].max())


def test_a_pool_is_of_the_seed_alone(tiny, tiny_table, worth):
    known = tiny.sample(30, seed=1)
    a, b = (pooled(tiny, tiny_table, worth, known, generations=3) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    c = pooled(tiny, tiny_table, worth, known, generations=3, seed=1)
    assert a.shape != c.shape or (a != c).any()


def test_what_is_uncertain_is_in_the_pool(tiny, tiny_table):
    """Nobody is believed to be better, but of deep networks hardly anything is known."""

    def belief(archs):
        depth = (archs > 0).sum(axis=1)
        return np.zeros(len(archs)), 0.01 + (depth == tiny.n_slots)

    found = pooled(tiny, tiny_table, belief, tiny.sample(30, seed=1, distribution="decisions"))
    deep = (found > 0).all(axis=1)
    drawn = (tiny.sample(2000, seed=3, distribution="decisions") > 0).all(axis=1)
    assert deep.mean() > 2 * drawn.mean()


@pytest.mark.parametrize("growth", [1.05, 1.4])
def test_pools_are_made_anew_at_the_same_numbers_of_answers(growth):
    numbers = [candidates.last(n, growth, 4) for n in range(1, 200)]
    assert all(at <= n for n, at in enumerate(numbers, start=1))
    assert numbers == sorted(numbers)
    # A pool is never much older than what is known.
    assert all(n - at < max(4, (growth - 1) * n) + 1 for n, at in enumerate(numbers, start=1))


def test_answers_near_the_front_are_those_that_are_kept(tiny, tiny_model, tiny_table, monkeypatch):
    monkeypatch.setattr(candidates, "_MOST", 50)
    problem = Problem(tiny, tiny_model, [tiny_table], evaluations=500)
    archs, merit, costs = problem.evaluate(tiny.sample(200, seed=4))
    rows = candidates._nearest(problem, archs, merit)
    assert len(rows) == 50
    front = np.flatnonzero(pareto.is_non_dominated(points(merit, costs)))
    assert np.isin(front, rows).all()
    found = candidates.around(problem, archs, merit, seed=0, batch=1)
    assert candidates.around(problem, archs, merit, seed=0, batch=1) is found
    again = Problem(tiny, tiny_model, [tiny_table], evaluations=500)
    again.evaluate(archs)
    np.testing.assert_array_equal(candidates.around(again, archs, merit, seed=0, batch=1), found)
