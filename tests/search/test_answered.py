from __future__ import annotations

import numpy as np

from pnag_fast.search.answered import Memory


def test_what_was_asked_is_known(tiny):
    memory = Memory(tiny, Memory.empty(5000))
    archs = np.unique(tiny.sample(1200, seed=0), axis=0)
    known, new = archs[::2], archs[1::2]
    assert not memory.recall(archs)[0].any()
    memory.add(known, np.arange(len(known), dtype=np.float64))
    found, answers = memory.recall(known)
    # A place holds one answer; of about 600 in 16,384 places few had to go, and none is mistaken.
    assert found.mean() > 0.95
    np.testing.assert_array_equal(answers[found], np.flatnonzero(found))
    assert not memory.recall(new)[0].any()
    memory.add(known[:1], np.array([7.5]))
    assert memory.recall(known[:1])[1] == 7.5


def test_every_architecture_counts_once(tiny):
    memory = Memory(tiny, Memory.empty(1))
    archs = np.concatenate(
        [tiny.sample(50, seed=0), tiny.sample(50, seed=0), tiny.sample(9, seed=1)]
    )
    first, place = memory.distinct(archs)
    np.testing.assert_array_equal(archs[first][place], archs)
    assert len(first) == len(np.unique(archs, axis=0))


def test_its_size_is_bounded():
    assert len(Memory.empty(1)["asked"]) == 1 << 10
    assert len(Memory.empty(10**12)["asked"]) == 1 << 19
