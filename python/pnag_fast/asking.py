"""Asking a judge that is dear: what is given first, then what promises most, and all of it kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import accuracy, search
from .costs import CostTable
from .progress import ProgressCallback, ignore_progress
from .spaces import Archs
from .typing import FloatArray

# Given architectures, and whom to tell how many of them are done, returns their top-1.
Judge = Callable[[Archs, ProgressCallback], FloatArray]

# Architectures chosen at a time: a judge of a supernet computes once what they have in common.
BATCH = 25
# Architectures that a judge is given at a time: all that are asked.
_TOGETHER = 100_000


class _Stopped(BaseException):
    """Carries what a judge raises past the oracle, which would take it for an answer."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def ask(
    judge: Judge,
    tables: Sequence[CostTable],
    initial: Archs,
    n: int,
    *,
    batch: int = BATCH,
    seed: int = 0,
    progress: ProgressCallback = ignore_progress,
) -> tuple[Archs, FloatArray]:
    """Judge given architectures, and then those whose answers are expected to move the front most.

    What is asked depends on the answers and the other arguments only: a judge that remembers makes
    a call that was stopped go on.

    Parameters
    ----------
    tables : sequence of CostTable
        Of one space: what architectures cost.
    initial : ndarray of uint8, shape (m, n_slots)
        Distinct architectures that are judged first; together they should have every code.
    n : int
        Architectures to judge, with those. Fewer where nothing is left to gain, or to ask.
    batch : int
        Chosen at a time: more is faster, and knows less.
    progress : callable
        Told how many are judged, of `n`.

    Returns
    -------
    archs : ndarray of uint8, shape (at most n, n_slots)
        Distinct: `initial`, and what was chosen, in order.
    top1 : ndarray of float64
    """
    space = tables[0].space
    archs: list[Archs] = []
    top1: list[FloatArray] = []

    def asked(rows: Archs) -> FloatArray:
        before = sum(map(len, archs))
        try:
            values = judge(rows, lambda text, done, _: progress(text, before + done, n))
        except Exception as error:  # an oracle would take it for an answer; here it ends the run
            raise _Stopped(error) from error
        archs.append(rows)
        top1.append(values)
        return values

    oracle = accuracy.oracle(space, asked, batch=_TOGETHER, source="what judges here")
    try:
        search.active(space, oracle, tables, evaluations=n, initial=initial, batch=batch, seed=seed)
    except _Stopped as stopped:
        raise stopped.error from None
    return np.concatenate(archs), np.concatenate(top1)
