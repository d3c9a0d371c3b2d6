"""Exchanges: the best changes of one or two slots, by a quadratic estimate, without listing them.

A search by jumps ends beside an optimum as often as in it: two slots are wrong, and changing either
alone is worse. All pairs of changes of an architecture (12,000 in Once-for-All's space) are one sum
of matrices of the quadratic, so the most promising hundred cost less to find than to ask.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..accuracy.codes import feature_offsets
from ..costs import CostTable
from ..spaces import Archs, SearchSpace
from ..typing import FloatArray, IntArray
from .quadratic import Quadratic


class Exchanges:
    """Proposes changes of one or two present slots; depths, listed rows and resolutions stay."""

    def __init__(self, space: SearchSpace, tables: Sequence[CostTable]) -> None:
        self._resolution = space.resolution_slot
        self._slots = np.repeat(np.arange(space.n_slots), np.array(space.n_codes) - 1)
        self._firsts = feature_offsets(space)
        self._codes = np.arange(len(self._slots)) - self._firsts[self._slots] + 1
        entries = np.stack([table.entries for table in tables], axis=-1)
        self._entries = entries[:, self._slots, self._codes]
        listed = np.concatenate(
            [np.full(len(stage.slots), stage.rows is not None) for stage in space.stages]
        )
        if self._resolution is not None:
            listed[self._resolution] = True
        # Each pair of slots once, and no pair within a slot.
        self._pairs = (self._slots[:, None] < self._slots) & ~listed[self._slots]
        self._pairs &= ~listed[self._slots][:, None]

    def best(
        self, quadratic: Quadratic, archs: Archs, weights: FloatArray, k: int
    ) -> tuple[Archs, IntArray]:
        """Find the changes that promise most of ``merit - weight * cost``.

        Parameters
        ----------
        archs : ndarray of uint8, shape (n, n_slots)
        weights : ndarray of float64, shape (n, n_tables)
            Merit that one unit of each cost is worth.
        k : int
            Changes of every row, at most.

        Returns
        -------
        archs : ndarray of uint8, shape (at most n * k, n_slots)
        owner : ndarray of intp
            Row that each was made of. Cost: O(features^2) for each of these.
        """
        slopes, curvature = quadratic.slopes(archs), quadratic.curvature
        diagonal = curvature.diagonal()
        every = np.arange(len(curvature))
        changed, owner = [archs[:0]], [np.empty(0, dtype=np.intp)]
        for row, (arch, weight, slope) in enumerate(zip(archs, weights, slopes, strict=True)):
            code = arch[self._slots].astype(np.intp)
            present = code > 0
            now = np.where(present, self._firsts[self._slots] + code - 1, 0)
            context = 0 if self._resolution is None else int(arch[self._resolution]) - 1
            cost = self._entries[context] @ weight
            alone = slope - slope[now] - (cost - cost[now])
            alone += (diagonal + diagonal[now]) / 2 - curvature[every, now]
            together = curvature - curvature[now]
            together = together - together[:, now] + alone[:, None] + alone
            changes = self._codes != code
            allowed = self._pairs & present[:, None] & present & (changes[:, None] | changes)
            together = np.where(allowed, together, -np.inf).ravel()
            n = min(k, len(together))
            best = np.argpartition(-together, n - 1)[:n]
            best = best[np.isfinite(together[best])]
            first, second = np.divmod(best, len(curvature))
            made = np.repeat(arch[None], len(best), axis=0)
            rows = np.arange(len(best))
            made[rows, self._slots[first]] = self._codes[first]
            made[rows, self._slots[second]] = self._codes[second]
            changed.append(made)
            owner.append(np.full(len(best), row))
        return np.concatenate(changed), np.concatenate(owner)
