"""Jumps: the best rows of whole stages by the first-order effect of every code on the accuracy.

At an architecture the accuracy model says what each code in each slot would add to top-1, to first
order; a cost table says exactly what it would add to the cost. Of all rows of a stage (7,371 in
Once-for-All's) the best under a weight on the costs is then found without listing them: the best
code of every slot, and the depth with the largest sum. What is proposed is evaluated exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..costs import CostTable
from ..spaces import Archs, SearchSpace
from ..typing import Float32Array, FloatArray

# Noise on the score of each code, as a power of ten of top-1: the runners-up get their turn.
_NOISE = (-4.5, -2.5)
# Share of the proposals that change one stage; in the others each stage has a chance of one half.
_SINGLE = 0.8


class Jumps:
    """Proposes architectures from the slopes of an accuracy model and the entries of tables."""

    def __init__(self, space: SearchSpace, tables: Sequence[CostTable]) -> None:
        self.space = space
        n_codes = np.array(space.n_codes)
        codes = np.arange(n_codes.max())
        entries = np.stack([table.entries for table in tables], axis=-1)
        exists = codes < n_codes[:, None]
        self._entries = np.where(exists[..., None], entries, 0.0).astype(np.float32)
        self._forbidden = np.where(exists & (codes > 0), 0, -np.inf).astype(np.float32)
        self._columns = np.flatnonzero((exists & (codes > 0)).ravel())
        self._n_stages = len(space.stages)
        self._firsts = np.cumsum([0] + [len(stage.slots) for stage in space.stages])
        # The input resolution changes every cost: it stays as it is.
        self._jumping = np.array(
            [first != space.resolution_slot for first in self._firsts[:-1].tolist()]
        )

    def by_code(self, compact: Float32Array) -> Float32Array:
        """Slopes of every code, shape (n, n_slots, max_codes), from those of present ones."""
        slopes = np.zeros((len(compact), self._forbidden.size), dtype=np.float32)
        slopes[:, self._columns] = compact
        return slopes.reshape(len(compact), *self._forbidden.shape)

    def propose(
        self, origins: Archs, slopes: Float32Array, weights: FloatArray, rng: np.random.Generator
    ) -> Archs:
        """Jump from every origin under every one of its weights.

        Parameters
        ----------
        origins : ndarray of uint8, shape (n, n_slots)
        slopes : ndarray of float32, shape (n, n_slots, max_codes)
        weights : ndarray of float64, shape (n, k, n_tables)
            Top-1 that one unit of each cost is worth.

        Returns
        -------
        ndarray of uint8, shape (n * k, n_slots)
        """
        n, k = weights.shape[:2]
        owner = np.repeat(np.arange(n), k)
        flat = weights.reshape(n * k, -1).astype(np.float32)
        stages = (rng.random((n * k, 1)) >= _SINGLE) & (rng.random((n * k, self._n_stages)) < 0.5)
        jumping = np.flatnonzero(self._jumping)
        stages[np.arange(n * k), rng.choice(jumping, size=n * k)] = True
        stages &= self._jumping
        scale = np.float32(10) ** rng.uniform(*_NOISE, size=(n * k, 1, 1)).astype(np.float32)
        slot = self.space.resolution_slot
        context = np.zeros(n, dtype=np.intp) if slot is None else origins[:, slot].astype(int) - 1
        archs = np.repeat(origins, k, axis=0)
        for stage in jumping.tolist():
            rows, slots = np.flatnonzero(stages[:, stage]), self._slots(stage)
            origin = owner[rows]
            scores = slopes[origin, slots]
            for c in np.unique(context[origin]).tolist():
                there = context[origin] == c
                entries = self._entries[c, slots].reshape(-1, flat.shape[1])
                scores[there] -= (flat[rows[there]] @ entries.T).reshape(-1, *scores.shape[1:])
            scores += scale[rows] * rng.standard_normal(scores.shape, dtype=np.float32)
            archs[rows, slots] = self.best_rows(stage, scores)
        return np.ascontiguousarray(archs)

    def _slots(self, stage: int) -> slice:
        return slice(*self._firsts[stage : stage + 2].tolist())

    def best_rows(self, stage: int, scores: Float32Array) -> Archs:
        """Rows of one stage with the largest sum of scores.

        Parameters
        ----------
        stage : int
        scores : ndarray of float32, shape (n, slots of the stage, max_codes)

        Returns
        -------
        ndarray of uint8, shape (n, slots of the stage)
        """
        of = self.space.stages[stage]
        if of.rows is not None:
            rows = np.array(of.rows, dtype=np.uint8)
            sums = sum(scores[:, i][:, rows[:, i]] for i in range(len(of.slots)))
            return np.asarray(rows[np.asarray(sums).argmax(axis=1)])
        present = scores + self._forbidden[self._slots(stage)]
        archs: Archs = present.argmax(axis=2).astype(np.uint8)
        if of.min_depth < len(of.slots):
            # What a slot adds by being present: absent may have a score of its own.
            sums = np.cumsum(present.max(axis=2) - scores[:, :, 0], axis=1)
            sums = np.concatenate([np.zeros_like(sums[:, :1]), sums], axis=1)
            depth = of.min_depth + sums[:, of.min_depth :].argmax(axis=1)
            archs *= np.arange(len(of.slots)) < depth[:, None]
        return archs
