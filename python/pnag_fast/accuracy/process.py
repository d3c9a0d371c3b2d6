"""Gaussian processes over what describes an architecture, and what they say of those not measured.

Without torch: a search for a dear oracle learns one anew every few questions.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ..spaces import Archs, SearchSpace
from ..typing import Float32Array, FloatArray
from .codes import one_hot

_STEPS = 10
_LEARNING_RATE = 0.3
# Precision of the prior on the logarithms, which start at features that count alike: fifty rows say
# little of two hundred features.
_PRIOR = 0.3
_NOISE = 3e-3
_LEAST_NOISE = 1e-5
# Rows that a posterior has room for beside those that it began with, before it takes more.
_ROOM = 64


def described(space: SearchSpace, archs: Archs) -> Float32Array:
    """Describe architectures by numbers, shape (n, features); equal rows compute the same."""
    return one_hot(space, archs) if space.features is None else space.features(archs)


@dataclasses.dataclass(frozen=True, eq=False)
class Process:
    """A Gaussian process with a rational quadratic kernel, ``1 / (1 + |relevance (a - b)|^2 / 2)``.

    Attributes
    ----------
    relevance : ndarray of float64, shape (features,)
        Automatic relevance determination (Neal, 1996): what does not matter has hardly any.
    noise : float
        Variance of the noise of a row of weight 1, in units of the process.
    """

    relevance: FloatArray
    noise: float

    @classmethod
    def learned(cls, x: FloatArray, y: FloatArray, weight: FloatArray) -> Process:
        """Maximise the marginal likelihood (Rasmussen and Williams, 2006, eq. 5.9), a few steps.

        Few: what two hundred relevances gain later is overfitting.

        Parameters
        ----------
        x : ndarray of float64, shape (n, features)
        y, weight : ndarray of float64, shape (n,)
            Of zero mean and unit variance, as far as the rows are typical.
        """
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

    def predict(
        self, x: FloatArray, y: FloatArray, weight: FloatArray, others: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of one measurement of other rows, given measured ones; each (m,)."""
        between = self._kernel(others, x)
        system = self._kernel(x, x) + np.diag(self.noise / weight)
        solved = np.linalg.solve(system, np.column_stack([y, between.T]))
        variance = max(float(y @ solved[:, 0]) / len(x), 1e-12)
        known = np.einsum("ij,ji->i", between, solved[:, 1:])
        return between @ solved[:, 0], variance * np.maximum(1 + self.noise - known, self.noise)

    def error(self, x: FloatArray, y: FloatArray) -> float:
        """Return the standard deviation of what the process cannot tell from noise."""
        system = self._kernel(x, x) + self.noise * np.eye(len(x))
        variance = float(y @ np.linalg.solve(system, y)) / len(x)
        return float(np.sqrt(max(variance, 1e-12) * self.noise))

    def _kernel(self, a: FloatArray, b: FloatArray) -> FloatArray:
        return 1 / (1 + _squared_distances(a * self.relevance, b * self.relevance) / 2)


class Posterior:
    """What a process says of candidates, while one measured row after the other is added.

    A row costs O(n (n + candidates)): with ``L L^T`` the covariance of what was measured, it is one
    more row of ``L^-1`` and of ``L^-1 K(measured, candidates)``, from which the means and variances
    of all candidates are sums. Rows can be taken back, so that what a batch would teach can be
    tried out.

    Parameters
    ----------
    process : Process
    candidates : ndarray of float, shape (m, features)
    x : ndarray of float, shape (n, features)
        Measured rows to begin with, at least one.
    """

    def __init__(self, process: Process, candidates: Float32Array, x: Float32Array) -> None:
        self._process = process
        relevance = process.relevance.astype(np.float32)
        self._candidates = candidates * relevance
        self._squares = np.einsum("ij,ij->i", self._candidates, self._candidates)
        rows = x * relevance
        n = len(rows)
        system = self._kernel(rows, rows, np.einsum("ij,ij->i", rows, rows)).astype(np.float64)
        system[np.diag_indices(n)] = 1 + process.noise
        self._size = n
        self._rows = np.zeros((n + _ROOM, rows.shape[1]), dtype=np.float32)
        self._rows[:n] = rows
        self._inverse = np.zeros((n + _ROOM, n + _ROOM))
        self._inverse[:n, :n] = np.tril(np.linalg.inv(np.linalg.cholesky(system)))
        # Half the digits suffice for what is compared with the noise, at twice the speed.
        self._seen = np.zeros((n + _ROOM, len(candidates)), dtype=np.float32)
        between = self._kernel(rows, self._candidates, self._squares)
        self._seen[:n] = self._inverse[:n, :n].astype(np.float32) @ between
        self._known = [np.einsum("ij,ij->j", self._seen[:n], self._seen[:n], dtype=np.float64)]
        self._first = n

    def __len__(self) -> int:
        return self._size

    def add(self, x: Float32Array) -> None:
        """Add one measured row, shape (features,)."""
        n = self._size
        if n == len(self._rows):
            self._grow()
        row = (x * self._process.relevance.astype(np.float32))[None]
        own = self._rows[:n]
        with_rows = self._kernel(row, own, np.einsum("ij,ij->i", own, own))[0].astype(np.float64)
        inverse = self._inverse[:n, :n]
        left = inverse @ with_rows
        least = self._process.noise / 2
        pivot = float(np.sqrt(max(1 + self._process.noise - left @ left, least)))
        self._rows[n] = row
        self._inverse[n, :n] = -(left @ inverse) / pivot
        self._inverse[n, n] = 1 / pivot
        seen = self._kernel(row, self._candidates, self._squares)[0]
        seen -= left.astype(np.float32) @ self._seen[:n]
        seen /= np.float32(pivot)
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
        mean = (solved.astype(np.float32) @ self._seen[: len(y)]).astype(np.float64)
        variance = max(float(solved @ solved) / len(y), 1e-12)
        noise = self._process.noise
        return mean, variance * np.maximum(1 + noise - self._known[-1], noise)

    def _kernel(self, a: Float32Array, b: Float32Array, squares: Float32Array) -> Float32Array:
        distance = a @ b.T
        distance *= -2
        distance += np.einsum("ij,ij->i", a, a)[:, None]
        distance += squares
        np.maximum(distance, 0, out=distance)
        distance /= 2
        distance += 1
        return np.asarray(np.reciprocal(distance, out=distance))

    def _grow(self) -> None:
        self._rows = np.pad(self._rows, ((0, _ROOM), (0, 0)))
        self._inverse = np.pad(self._inverse, ((0, _ROOM), (0, _ROOM)))
        self._seen = np.pad(self._seen, ((0, _ROOM), (0, 0)))


def _squared_distances(a: FloatArray, b: FloatArray) -> FloatArray:
    squares = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)
    return np.asarray(np.maximum(squares - 2 * (a @ b.T), 0))
