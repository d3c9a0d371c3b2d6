from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.asking import ask
from pnag_fast.errors import MemoryShortageError


@pytest.fixture(scope="module")
def space():
    return pf.spaces.get("mbv3-tiny")


def test_given_ones_come_first_and_chosen_ones_are_better_for_their_cost(space):
    table = pf.costs.macs(space)
    initial = space.sample(40, seed=3)
    told = []

    def judge(archs, progress):
        progress("judging", len(archs), len(archs))
        # What is good has no large kernels, which is no matter of size.
        return 0.9 - 0.01 * (archs % 3).mean(axis=1) + 0.01 * (archs > 0).mean(axis=1)

    def judged(**options):
        told.clear()
        return ask(judge, [table], initial, 70, progress=lambda *what: told.append(what), **options)

    archs, top1 = judged(batch=10, seed=1)
    np.testing.assert_array_equal(archs[:40], initial)
    assert len(archs) == len(np.unique(archs, axis=0)) == 70
    np.testing.assert_array_equal(top1, judge(archs, lambda *_: None))
    assert told == [("judging", done, 70) for done in (40, 50, 60, 70)]
    # Same seed and answers, same questions.
    again, _ = judged(batch=10, seed=1)
    np.testing.assert_array_equal(again, archs)
    within = np.quantile(table(archs[:40]), [0.3, 0.6, 1.0])
    for budget in within:
        fits = table(archs) <= budget
        assert top1[40:][fits[40:]].max() > top1[:40][fits[:40]].max()


def test_what_stops_a_judge_is_no_answer(space):
    def judge(archs, progress):
        raise MemoryShortageError("memory ran out; judge fewer")

    with pytest.raises(MemoryShortageError, match="memory ran out"):
        ask(judge, [pf.costs.macs(space)], space.sample(5), 10)
