"""Active search in large spaces, and among given architectures."""

from __future__ import annotations

import numpy as np
import pytest
from tests.conftest import smooth_top1

import pnag_fast as pf
from pnag_fast import pareto
from pnag_fast.errors import InvalidInputError, InvalidTypeError
from pnag_fast.search.result import points


@pytest.fixture(scope="module")
def listed(tiny):
    return tiny.sample(400, seed=3, distribution="decisions")


def oracle_of(space, allowed, asked):
    names = {row.tobytes() for row in allowed}

    def judge(archs):
        for row in archs:
            assert row.tobytes() in names
            asked.append(row.tobytes())
        return smooth_top1(space, archs)

    return pf.accuracy.oracle(space, judge, batch=100)


def test_none_but_given_architectures_are_asked(tiny, tiny_table, listed):
    asked = []
    front = pf.search.active(
        tiny,
        oracle_of(tiny, listed, asked),
        [tiny_table],
        evaluations=100,
        among=np.concatenate([listed, listed[:5]]),
        seed=1,
    )
    assert len(asked) == len(set(asked)) == front.evaluations <= 100
    every = points(smooth_top1(tiny, listed), tiny_table(listed)[:, None])
    exact = every[pareto.is_non_dominated(every)]
    reference = exact.max(axis=0)
    best = pareto.hypervolume(exact, reference)
    # A quarter of the questions reach the front of all of them.
    assert pareto.hypervolume(points(front.top1, front.costs), reference) > 0.995 * best
    drawn = every[np.random.default_rng(0).permutation(len(listed))[:100]]
    assert pareto.hypervolume(drawn, reference) < 0.98 * best


def test_a_search_ends_when_all_that_is_given_is_asked(tiny, tiny_table, listed):
    asked = []
    front = pf.search.active(
        tiny, oracle_of(tiny, listed[:30], asked), [tiny_table], among=listed[:30], tolerance=0.0
    )
    assert len(asked) <= front.evaluations <= 30
    exact = pareto.is_non_dominated(
        points(smooth_top1(tiny, listed[:30]), tiny_table(listed[:30])[:, None])
    )
    assert {row.tobytes() for row in front.archs} == {row.tobytes() for row in listed[:30][exact]}


def test_what_is_no_list_of_architectures_is_refused(tiny, tiny_table, tiny_model, listed):
    def search(**settings):
        pf.search.active(tiny, tiny_model, [tiny_table], evaluations=20, **settings)

    for name in ("among", "initial"):
        with pytest.raises(
            InvalidTypeError, match=rf"{name} should .* space\.from_strings\(rows\)"
        ):
            search(**{name: tiny.to_strings(listed[:3])})
    with pytest.raises(InvalidInputError, match="among should hold at least one"):
        search(among=listed[:0])
    with pytest.raises(InvalidInputError, match="among holds 50001 architectures; at most 50000"):
        search(among=tiny.sample(50_001, seed=0))
    bad = listed[:3].copy()
    bad[1, 0] = 99
    with pytest.raises(InvalidInputError, match="row 1"):
        search(among=bad)
    with pytest.raises(InvalidInputError, match="row 1 of initial, .* is not in among"):
        search(among=listed[:10], initial=listed[9:11])


def test_a_large_space_is_searched_by_what_is_believed(tiny, tiny_table):
    def judge(archs):
        return smooth_top1(tiny, archs)

    fronts = [
        search(
            tiny, pf.accuracy.oracle(tiny, judge, batch=100), [tiny_table], evaluations=80, **own
        )
        for search, own in (
            (pf.search.active, {"batch": 10}),
            (pf.search.nsga2, {"population": 20}),
            (pf.search.random, {}),
        )
    ]
    reference = np.array([-min(front.top1.min() for front in fronts), tiny_table.bounds[1]])
    active, nsga2, random = (
        pareto.hypervolume(points(front.top1, front.costs), reference) for front in fronts
    )
    assert active > 1.1 * max(nsga2, random)
