"""Gaussian processes over what describes an architecture, and what they say of those not measured.

Without torch: a search for a dear oracle learns one anew every few questions.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from ..spaces import Archs, SearchSpace
from ..typing import FloatArray, IntArray
from .coded import columns

# Of single or double precision.
Floats = npt.NDArray[np.floating[Any]]

_STEPS = 10
_LEARNING_RATE = 0.3
# Precision of the prior on the logarithms, which start at features that count alike: fifty rows say
# little of two hundred features.
_PRIOR = 0.3
_NOISE = 3e-3
_LEAST_NOISE = 1e-5
# With groups: few relevances can be learned to the end, from fewer rows. Variances of the level, of
# what is linear and of what is not, and of the noise, of a target of unit variance.
_GROUP_STEPS, _GROUP_LEARNING_RATE, _GROUP_ROWS = 40, 0.2, 250
_LEVEL, _LINEAR, _CURVED, _GROUP_NOISE = 1.0, 0.3, 0.3, 0.1
# Rows that a posterior has room for beside those that it began with, before it takes more.
_ROOM = 64


def described(space: SearchSpace, archs: Archs) -> Floats:
    """Describe architectures by numbers, shape (n, features); equal rows compute the same."""
    return columns(space)(archs) if space.features is None else space.features(archs)


def groups(space: SearchSpace) -> IntArray | None:
    """Say which of `described` share a relevance, shape (features,); None where none do."""
    return columns(space).group if space.features is None else None


@dataclasses.dataclass(frozen=True, eq=False)
class Process:
    """A Gaussian process with a rational quadratic kernel, ``1 / (1 + |relevance (a - b)|^2 / 2)``.

    Attributes
    ----------
    relevance : ndarray of float64, shape (features,)
        Automatic relevance determination (Neal, 1996): what does not matter has hardly any.
    noise : float
        Variance of the noise of a row of weight 1, in units of the process.
    linear, level : float
        What is added to the kernel: ``level + linear * <relevance a, relevance b>``, a sum of what
        features are worth, in the same units.
    """

    relevance: FloatArray
    noise: float
    linear: float = 0.0
    level: float = 0.0

    @classmethod
    def learned(
        cls, x: FloatArray, y: FloatArray, weight: FloatArray, group: IntArray | None = None
    ) -> Process:
        """Maximise the marginal likelihood (Rasmussen and Williams, 2006, eq. 5.9), a few steps.

        Few: what two hundred relevances gain later is overfitting.

        Parameters
        ----------
        x : ndarray of float64, shape (n, features)
        y, weight : ndarray of float64, shape (n,)
            Of zero mean and unit variance, as far as the rows are typical.
        group : ndarray of intp, shape (features,), optional
            Ascending: features of a group share a relevance, and count as a sum as well.
        """
        if group is not None:
            return cls._learned_by_groups(x, y, weight, group)
        n = len(x)
        typical = max(float(_squared_distances(x, x).mean()), 1e-12)
        # Logarithms of the squared relevances, and of the noise.
        start = np.append(np.full(x.shape[1], -np.log(typical)), np.log(_NOISE))
        at, best, highest = start.copy(), start, -np.inf
        momentum, squared = np.zeros((2, len(start)))
        for step in range(1, _STEPS + 2):
            process = cls(np.exp(at[:-1] / 2), float(np.exp(at[-1])))
            kernel = process._kernel(x, x)
            system = kernel + np.diag(process.noise / weight)
            inverse = np.linalg.inv(system)
            solved = inverse @ y
            # The variance of the process that is most likely, given the rest.
            variance = max(float(y @ solved) / n, 1e-12)
            away = at - start
            value = -0.5 * (n * np.log(variance) + _PRIOR * float(away @ away))
            value -= float(np.log(np.diag(np.linalg.cholesky(system))).sum())
            if value > highest:
                best, highest = at.copy(), value
            by_system = 0.5 * (np.outer(solved, solved) / variance - inverse)
            by_distance = -0.5 * by_system * kernel**2
            slope = np.append(
                2
                * (by_distance.sum(axis=1) @ x**2 - np.einsum("if,if->f", x, by_distance @ x))
                * np.exp(at[:-1]),
                float(np.diag(by_system) @ (process.noise / weight)),
            )
            slope -= _PRIOR * away
            # Adam: the slopes differ by orders of magnitude.
            momentum = 0.8 * momentum + 0.2 * slope
            squared = 0.9 * squared + 0.1 * slope**2
            size = np.sqrt(squared / (1 - 0.9**step)) + 1e-12
            at = at + _LEARNING_RATE * momentum / (1 - 0.8**step) / size
            at[-1] = max(at[-1], np.log(_LEAST_NOISE))
        return cls(np.exp(best[:-1] / 2), float(np.exp(best[-1])))

    @classmethod
    def _learned_by_groups(
        cls, x: FloatArray, y: FloatArray, weight: FloatArray, group: IntArray
    ) -> Process:
        rows = np.sort(np.random.default_rng(0).permutation(len(x))[:_GROUP_ROWS])
        x, y, weight = x[rows], y[rows], weight[rows]
        n, own = len(x), np.unique(group)
        # Products and squared distances by each group: of their sums the kernel is made.
        products = np.stack([x[:, group == k] @ x[:, group == k].T for k in own])
        squares = np.einsum("kii->ki", products)
        distances = np.maximum(squares[:, :, None] + squares[:, None] - 2 * products, 0)
        products, distances = products.reshape(len(own), -1), distances.reshape(len(own), -1)
        # Logarithms of the squared relevances, of what is linear and what is not, and of the noise.
        relevances = np.full(len(own), 1 / len(own))
        start = np.log(np.concatenate([relevances, [_LINEAR, _CURVED, _GROUP_NOISE]]))
        at, best, highest = start.copy(), start, -np.inf
        momentum, squared = np.zeros((2, len(start)))
        for step in range(1, _GROUP_STEPS + 2):
            relevances, (linear, curved, noise) = np.exp(at[:-3]), np.exp(at[-3:])
            sums, near = relevances @ products, 1 / (1 + relevances @ distances / 2)
            system = (_LEVEL + linear * sums + curved * near).reshape(n, n)
            system[np.diag_indices(n)] += noise / weight
            inverse = np.linalg.inv(system)
            solved = inverse @ y
            away = at - start
            value = -0.5 * float(y @ solved + _PRIOR * away @ away)
            value -= float(np.log(np.diag(np.linalg.cholesky(system))).sum())
            if value > highest:
                best, highest = at.copy(), value
            by_system = 0.5 * (np.outer(solved, solved) - inverse)
            by_noise = noise * float(np.diag(by_system) @ (1 / weight))
            by_sums, by_near = linear * by_system.ravel(), curved * by_system.ravel() * near
            by_relevance = products @ by_sums - 0.5 * (distances @ (by_near * near))
            rest = [float(by_sums @ sums), float(by_near.sum()), by_noise]
            slope = np.append(relevances * by_relevance, rest) - _PRIOR * away
            # Adam: the slopes differ by orders of magnitude.
            momentum = 0.8 * momentum + 0.2 * slope
            squared = 0.9 * squared + 0.1 * slope**2
            size = np.sqrt(squared / (1 - 0.9**step)) + 1e-12
            at = at + _GROUP_LEARNING_RATE * momentum / (1 - 0.8**step) / size
            at[-1] = max(at[-1], np.log(_LEAST_NOISE))
        linear, curved, noise = np.exp(best[-3:]).tolist()
        return cls(
            np.exp(best[:-3] / 2)[np.searchsorted(own, group)],
            noise / curved,
            linear / curved,
            _LEVEL / curved,
        )

    def predict(
        self, x: FloatArray, y: FloatArray, weight: FloatArray, others: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of one measurement of other rows, given measured ones; each (m,)."""
        between = self._kernel(others, x)
        system = self._kernel(x, x) + np.diag(self.noise / weight)
        solved = np.linalg.solve(system, np.column_stack([y, between.T]))
        variance = max(float(y @ solved[:, 0]) / len(x), 1e-12)
        known = np.einsum("ij,ji->i", between, solved[:, 1:])
        a = others * self.relevance
        before = self.before(np.einsum("ij,ij->i", a, a)) + self.noise
        return between @ solved[:, 0], variance * np.maximum(before - known, self.noise)

    def mean(
        self, x: FloatArray, y: FloatArray, weight: FloatArray, others: FloatArray
    ) -> FloatArray:
        """Mean alone of other rows, given measured ones; shape (m,), and O(n) for each."""
        system = self._kernel(x, x) + np.diag(self.noise / weight)
        return np.asarray(self._kernel(others, x) @ np.linalg.solve(system, y))

    def error(self, x: FloatArray, y: FloatArray) -> float:
        """Return the standard deviation of what the process cannot tell from noise."""
        system = self._kernel(x, x) + self.noise * np.eye(len(x))
        variance = float(y @ np.linalg.solve(system, y)) / len(x)
        return float(np.sqrt(max(variance, 1e-12) * self.noise))

    def before(self, squares: FloatArray) -> FloatArray:
        """Variances before anything is measured, of rows of these squared lengths."""
        return np.asarray(1 + self.level + self.linear * squares)

    def _kernel(self, a: FloatArray, b: FloatArray) -> FloatArray:
        a, b = a * self.relevance, b * self.relevance
        near = 1 / (1 + _squared_distances(a, b) / 2)
        return np.asarray(near + self.level + self.linear * (a @ b.T) if self.linear else near)


class Posterior:
    """What a process says of candidates, while one measured row after the other is added.

    A row costs O(n (n + candidates)): with ``L L^T`` the covariance of what was measured, it is one
    more row of ``L^-1`` and of ``L^-1 K(measured, candidates)``, from which the means and variances
    of all candidates are sums. Rows can be taken back, so that what a batch would teach can be
    tried out.

    Parameters
    ----------
    process : Process
    candidates : ndarray of float32 or float64, shape (m, features)
        In whose precision they are predicted. Half the digits suffice for what is compared with the
        noise, at twice the speed, but not beside sums, whose variance is many times larger.
    x : ndarray of float, shape (n, features)
        Measured rows to begin with, at least one.
    """

    def __init__(
        self,
        process: Process,
        candidates: Floats,
        x: Floats,
    ) -> None:
        self._process = process
        self._type: np.dtype[Any] = candidates.dtype
        self._relevance = process.relevance.astype(self._type)
        self._candidates: Floats = candidates * self._relevance
        self._squares = np.einsum("ij,ij->i", self._candidates, self._candidates)
        self._before = process.before(self._squares.astype(np.float64))
        rows: Floats = x * self._relevance
        n = len(rows)
        squares = np.einsum("ij,ij->i", rows, rows)
        system = self._kernel(rows, rows, squares).astype(np.float64)
        system[np.diag_indices(n)] = process.before(squares.astype(np.float64)) + process.noise
        self._size = n
        self._rows = np.zeros((n + _ROOM, rows.shape[1]), dtype=self._type)
        self._rows[:n] = rows
        self._inverse = np.zeros((n + _ROOM, n + _ROOM))
        self._inverse[:n, :n] = np.tril(np.linalg.inv(np.linalg.cholesky(system)))
        self._seen = np.zeros((n + _ROOM, len(candidates)), dtype=self._type)
        between = self._kernel(rows, self._candidates, self._squares)
        self._seen[:n] = self._inverse[:n, :n].astype(self._type) @ between
        self._known = [np.einsum("ij,ij->j", self._seen[:n], self._seen[:n], dtype=np.float64)]
        self._first = n

    def __len__(self) -> int:
        return self._size

    def add(self, x: Floats) -> None:
        """Add one measured row, shape (features,)."""
        n = self._size
        if n == len(self._rows):
            self._grow()
        row = np.asarray(x * self._relevance, dtype=self._type)[None]
        own = self._rows[:n]
        with_rows = self._kernel(row, own, np.einsum("ij,ij->i", own, own))[0].astype(np.float64)
        inverse = self._inverse[:n, :n]
        left = inverse @ with_rows
        least = self._process.noise / 2
        before = self._process.before(row[0].astype(np.float64) @ row[0]) + self._process.noise
        pivot = float(np.sqrt(max(before - left @ left, least)))
        self._rows[n] = row
        self._inverse[n, :n] = -(left @ inverse) / pivot
        self._inverse[n, n] = 1 / pivot
        seen = self._kernel(row, self._candidates, self._squares)[0]
        seen -= left.astype(self._type) @ self._seen[:n]
        seen /= self._type.type(pivot)
        self._seen[n] = seen
        self._known.append(self._known[-1] + seen.astype(np.float64) ** 2)
        self._size += 1

    def cut(self, n: int) -> None:
        """Take back all rows after the first `n`."""
        del self._known[n - self._first + 1 :]
        self._size = n

    def predict(self, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of one measurement of every candidate; each (m,).

        Parameters
        ----------
        y : ndarray of float64, shape (n,) or shorter
            What was measured of the first rows; what is measured of the others is their mean.
        """
        solved = self._inverse[: len(y), : len(y)] @ y
        mean = (solved.astype(self._type) @ self._seen[: len(y)]).astype(np.float64)
        variance = max(float(solved @ solved) / len(y), 1e-12)
        noise = self._process.noise
        return mean, variance * np.maximum(self._before + noise - self._known[-1], noise)

    def _kernel(self, a: Floats, b: Floats, squares: Floats) -> Floats:
        product = a @ b.T
        distance = -2 * product
        distance += np.einsum("ij,ij->i", a, a)[:, None]
        distance += squares
        np.maximum(distance, 0, out=distance)
        distance /= 2
        distance += 1
        near: Floats = np.reciprocal(distance, out=distance)
        if self._process.linear:
            near += self._process.level
            near += product * self._type.type(self._process.linear)
        return near

    def _grow(self) -> None:
        self._rows = np.pad(self._rows, ((0, _ROOM), (0, 0)))
        self._inverse = np.pad(self._inverse, ((0, _ROOM), (0, _ROOM)))
        self._seen = np.pad(self._seen, ((0, _ROOM), (0, 0)))


def _squared_distances(a: FloatArray, b: FloatArray) -> FloatArray:
    squares = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)
    return np.asarray(np.maximum(squares - 2 * (a @ b.T), 0))
