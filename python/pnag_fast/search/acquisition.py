"""What another answer is expected to add to a front, over all budgets: which question to ask next.

A front answers budgets: what an architecture adds is how much better the best within a budget
becomes, in the mean over all budgets. Where these are uniform over the range of one cost, that is
the hypervolume improvement divided by the range, so its expectation under a normal prediction is
the expected hypervolume improvement (Emmerich et al., CEC 2011), here with costs that are known.
"""

from __future__ import annotations

import abc
import math

import numpy as np

from .. import pareto
from ..typing import FloatArray, IntArray

# Candidates of which the gain is computed, the most promising by an upper bound; more where the
# bound does not rule out the rest.
_CHOSEN = 128

# E[max(z + normal, 0)] between -_END and _END: a table is twenty times faster than error functions.
_END, _PER_UNIT = 8, 512
_AT = np.arange(-_END * _PER_UNIT, _END * _PER_UNIT + 2) / _PER_UNIT
_UNIT_GAIN = np.array(
    [
        z * 0.5 * math.erfc(-z / math.sqrt(2)) + math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        for z in _AT.tolist()
    ]
)
# Most candidates are further below what is known than this many deviations.
_FAR = -4.0
_FAR_GAIN = float(_UNIT_GAIN[int((_FAR + _END) * _PER_UNIT)])


def expected_excess(mean: FloatArray, std: FloatArray, level: FloatArray) -> FloatArray:
    """Return ``E[max(value - level, 0)]`` of normal values: the expected improvement."""
    return np.asarray(std * _unit_gain((mean - level) / std))


def _unit_gain(z: FloatArray) -> FloatArray:
    place = np.clip((z + _END) * _PER_UNIT, 0, 2 * _END * _PER_UNIT)
    low = place.astype(np.intp)
    share = place - low
    unit = _UNIT_GAIN[low] * (1 - share) + _UNIT_GAIN[low + 1] * share
    return np.asarray(np.where(z > _END, z, np.where(z < -_END, 0.0, unit)))


def _at_most(mean: FloatArray, std: FloatArray, level: FloatArray) -> FloatArray:
    """Return at least `expected_excess`, and the same where it is not far below the level."""
    z = (mean - level) / std
    unit = np.full(len(z), _FAR_GAIN)
    near = np.flatnonzero(z > _FAR)
    unit[near] = _unit_gain(z[near])
    return np.asarray(std * unit)


class Gain(abc.ABC):
    """Expected gain of the best within a budget, in the mean over budgets, by one more answer."""

    @abc.abstractmethod
    def bound(self, mean: FloatArray, std: FloatArray, costs: FloatArray) -> FloatArray:
        """Return at least `expected`, shape (n,), and cheaply."""

    @abc.abstractmethod
    def expected(self, mean: FloatArray, std: FloatArray, costs: FloatArray) -> FloatArray:
        """Return the gain of architectures by what is predicted of them, shape (n,)."""

    def largest(
        self,
        mean: FloatArray,
        std: FloatArray,
        costs: FloatArray,
        price: FloatArray | None = None,
        n: int = 1,
    ) -> tuple[IntArray, FloatArray]:
        """Find the rows of the largest gains, or gains per price, best first, and their gains.

        Parameters
        ----------
        mean, std : ndarray of float64, shape (m,)
            Of the answers that are expected; std is positive.
        costs : ndarray of float64, shape (m, n_tables)
        price : ndarray of float64, shape (m,), optional
            Of asking each; above zero.
        n : int
            Rows, at most m.
        """
        if n == 0:
            return np.empty(0, dtype=np.intp), np.empty(0)
        weight = np.ones(len(mean)) if price is None else 1 / price
        bound = self.bound(mean, std, costs) * weight
        looked_at = min(_CHOSEN + n, len(bound))
        while True:
            rows = np.sort(np.argpartition(-bound, looked_at - 1)[:looked_at])
            gain = self.expected(mean[rows], std[rows], costs[rows])
            best = np.argsort(-gain * weight[rows], kind="stable")[:n]
            rest = np.delete(bound, rows).max(initial=-np.inf)
            if gain[best[-1]] * weight[rows[best[-1]]] >= rest:
                return rows[best], gain[best]
            looked_at = min(8 * looked_at, len(bound))


class OneCost(Gain):
    """Gain over budgets that are uniform between the cheapest and the dearest.

    Parameters
    ----------
    merit : ndarray of float64, shape (n,)
    costs : ndarray of float64, shape (n, 1)
        Of what is known.
    floor : float
        Merit where nothing known is within a budget.
    low, high : float
        Least and largest budget.
    """

    def __init__(
        self, merit: FloatArray, costs: FloatArray, floor: float, low: float, high: float
    ) -> None:
        order = np.lexsort((-merit, costs[:, 0]))
        best = np.maximum.accumulate(np.append(floor, merit[order]))
        step = best[1:] > best[:-1]
        # Below each reach the best within a budget is the level: what gains must exceed it.
        self.levels = np.append(floor, best[1:][step])
        self.reach = np.append(costs[order, 0][step], max(high, float(costs.max())))
        self.range = max(high - low, 1e-12)

    def bound(self, mean: FloatArray, std: FloatArray, costs: FloatArray) -> FloatArray:
        """Bound it by the lowest level that a row can raise, over all budgets that it is within."""
        cost = costs[:, 0]
        first = np.minimum(np.searchsorted(self.reach, cost, side="right"), len(self.levels) - 1)
        width = np.maximum(self.reach[-1] - cost, 0) / self.range
        return np.asarray(width * _at_most(mean, std, self.levels[first]))

    def expected(self, mean: FloatArray, std: FloatArray, costs: FloatArray) -> FloatArray:
        """Sum over the steps of the front: O(n steps)."""
        excess = expected_excess(mean[:, None], std[:, None], self.levels)
        # What exceeds a level but not the next gains up to where the next level is reached.
        excess[:, :-1] -= excess[:, 1:]
        width = np.maximum(self.reach - costs, 0)
        return np.asarray(np.einsum("ij,ij->i", excess, width) / self.range)


class ManyCosts(Gain):
    """Gain over vectors of budgets, one for each cost.

    Parameters
    ----------
    merit : ndarray of float64, shape (n,)
    costs : ndarray of float64, shape (n, n_tables)
        Of what is known.
    floor : float
        Merit where nothing known is within a budget.
    budgets : ndarray of float64, shape (b, n_tables)
    """

    def __init__(
        self, merit: FloatArray, costs: FloatArray, floor: float, budgets: FloatArray
    ) -> None:
        found = pareto.best_within(costs, merit, budgets, threads=1)
        level = np.where(found >= 0, merit[found], floor)
        # From the lowest level on: the first that a candidate is within is what bounds its gain.
        order = np.argsort(level, kind="stable")
        self.levels, self.budgets = level[order], budgets[order]

    def _within(self, costs: FloatArray) -> np.ndarray:
        within = costs[:, :1] <= self.budgets[:, 0]
        for column in range(1, costs.shape[1]):
            within &= costs[:, column, None] <= self.budgets[:, column]
        return within

    def bound(self, mean: FloatArray, std: FloatArray, costs: FloatArray) -> FloatArray:
        """Bound it by the lowest level among the budgets that a row is within."""
        within = self._within(costs)
        share = within.mean(axis=1)
        return np.asarray(share * _at_most(mean, std, self.levels[within.argmax(axis=1)]))

    def expected(self, mean: FloatArray, std: FloatArray, costs: FloatArray) -> FloatArray:
        """Take the mean over the vectors: O(n budgets)."""
        excess = expected_excess(mean[:, None], std[:, None], self.levels)
        return np.asarray((excess * self._within(costs)).mean(axis=1))
