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
# Scores held at once, in float32 values.
_SCORES = 4_000_000


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

    @staticmethod
    def gain(slopes: Float32Array, origins: Archs, archs: Archs) -> FloatArray:
        """First-order estimate of what top-1 gains from `origins` to `archs`, shape (n,)."""
        slots = np.arange(archs.shape[1])
        rows = np.arange(len(archs))[:, None]
        change = slopes[rows, slots, archs] - slopes[rows, slots, origins]
        return np.asarray(change.sum(axis=1), dtype=np.float64)

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
        rows = max(1, _SCORES // max(k * self._forbidden.size, 1))
        best = np.concatenate(
            [
                self._best(origins[i : i + rows], slopes[i : i + rows], weights[i : i + rows], rng)
                for i in range(0, n, rows)
            ]
        )
        stages = np.zeros((n * k, len(self._jumping)), dtype=bool)
        jumping = np.flatnonzero(self._jumping)
        several = rng.random((n * k, 1)) >= _SINGLE
        stages |= several & (rng.random(stages.shape) < 0.5)
        stages[np.arange(n * k), rng.choice(jumping, size=n * k)] = True
        stages &= self._jumping
        slots = np.repeat(stages, np.diff(self._firsts), axis=1)
        return np.asarray(np.where(slots, best, np.repeat(origins, k, axis=0)))

    def _best(
        self, origins: Archs, slopes: Float32Array, weights: FloatArray, rng: np.random.Generator
    ) -> Archs:
        """Best row of every stage by the perturbed scores, shape (n * k, n_slots)."""
        n, k, n_tables = weights.shape
        slot = self.space.resolution_slot
        context = np.zeros(n, dtype=np.intp) if slot is None else origins[:, slot].astype(int) - 1
        entries = self._entries[context].reshape(n, -1, n_tables)
        penalty = weights.astype(np.float32) @ entries.transpose(0, 2, 1)
        scores = slopes.reshape(n, 1, -1) - penalty
        scale = np.float32(10) ** rng.uniform(*_NOISE, size=(n, k, 1)).astype(np.float32)
        scores += scale * rng.standard_normal(scores.shape, dtype=np.float32)
        return self._best_rows(scores.reshape(n * k, *self._forbidden.shape))

    def _best_rows(self, scores: Float32Array) -> Archs:
        """Rows with the largest sum of scores in every stage, shape (n, n_slots)."""
        present = scores + self._forbidden
        archs: Archs = present.argmax(axis=2).astype(np.uint8)
        # What a slot adds by being present: absent may have a score of its own.
        adds = present.max(axis=2) - scores[:, :, 0]
        for stage, first in zip(self.space.stages, self._firsts.tolist(), strict=False):
            slots = slice(first, first + len(stage.slots))
            if stage.rows is not None:
                rows = np.array(stage.rows, dtype=np.uint8)
                sums = sum(scores[:, first + i][:, rows[:, i]] for i in range(len(stage.slots)))
                archs[:, slots] = rows[np.asarray(sums).argmax(axis=1)]
            elif stage.min_depth < len(stage.slots):
                sums = np.cumsum(adds[:, slots], axis=1)
                sums = np.concatenate([np.zeros_like(sums[:, :1]), sums], axis=1)
                depth = stage.min_depth + sums[:, stage.min_depth :].argmax(axis=1)
                archs[:, slots] *= np.arange(len(stage.slots)) < depth[:, None]
        return archs
