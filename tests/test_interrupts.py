"""Long calls of the kernels on spaces, costs and windows stop when a signal handler raises."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest

from pnag_fast import _core

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="no timers that send signals"
)

ALARM_S = 0.2
# Half a second is promised; a machine that runs other tests too may wake us late.
ANSWER_S = 0.5 + 0.5

# Rows of zeros are valid here and, unwritten, take no memory; nor does an output that is never
# reached. Each call would take two seconds or more.
N = 200_000_000
SPACE = _core.Space([([9] * 4, 0, None)] * 5)
ENTRIES = np.random.default_rng(0).random((1, 20, 10))
TABLES = _core.CostTables(np.stack([ENTRIES] * 4), np.zeros((4, 1)), [False] * 4, -1, [10] * 20)
SPREAD = _core.CostSpread(np.ones((1, 20, 10, 32)), np.ones((1, 32)), 0.1, -1, [10] * 20)
WINDOWS = _core.WindowSampler(SPACE, ENTRIES, np.zeros(1), -1, [10] * 20)


def zeros(columns, dtype):
    return np.zeros((N, columns), dtype)


def neighborhoods(radius, samples, threads):
    arch = np.ones((1, 20), np.uint8)
    offsets = SPACE.neighborhood_offsets(arch, radius, samples, True, 1)
    return SPACE.neighborhoods(arch, radius, True, 0, offsets, threads)


CALLS = {
    "uniform": lambda: SPACE.sample(N, 0, False, 1),
    "uniform, threads": lambda: SPACE.sample(2 * N, 0, False, 2),
    "decisions": lambda: SPACE.sample(N, 0, True, 1),
    "within": lambda: WINDOWS.sample(N, 10.0, 10.1, 0, 1),
    "within, narrow": lambda: WINDOWS.sample(N, 10.0, 10.0 + 1e-7, 0, 2),
    "mutate": lambda: SPACE.mutate(zeros(20, np.uint8), 0.1, 0, 1),
    "crossover": lambda: SPACE.crossover(zeros(20, np.uint8), zeros(20, np.uint8), 0, 1),
    "lookup": lambda: TABLES.lookup(zeros(20, np.uint8), 1),
    "spread": lambda: SPREAD.lookup(zeros(20, np.uint8), zeros(1, np.float64)[:, 0], 1),
    "offsets of neighbours": lambda: SPACE.neighborhood_offsets(
        zeros(20, np.uint8), 3, -1, True, 1
    ),
    "neighbours": lambda: neighborhoods(4, -1, 1),
    "some neighbours": lambda: neighborhoods(8, 10_000_000, 2),
    "segments": lambda: _core.reduce_segments(
        np.zeros(2 * N), np.arange(0, 2 * N + 1, 1000), "median", 1
    ),
    "enumerate": lambda: SPACE.enumerate(0, N, 1),
    "rank": lambda: SPACE.rank(zeros(20, np.uint8), 1),
    "unrank": lambda: SPACE.unrank(zeros(5, np.int64), 1),
}


class Stop(Exception):
    pass


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_signals_are_answered(call):
    def stop(signum, frame):
        raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    start = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, ALARM_S)
    try:
        with pytest.raises(Stop):
            call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - start < ALARM_S + ANSWER_S
