"""Gaussian processes over what describes an architecture, and what they say of those not measured.

Without torch: a search for a dear oracle learns one anew every few questions.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..spaces import Archs, SearchSpace
from ..typing import FloatArray, Int64Array, IntArray
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
# Share of the noise that is an architecture's own, at least, however much repeats differ.
_LEAST_OWN = 0.05
# With groups: few relevances can be learned to the end, from fewer rows. Variances of the level, of
# what is linear and of what is not, and of the noise, of a target of unit variance.
_GROUP_STEPS, _GROUP_LEARNING_RATE, _GROUP_ROWS = 25, 0.3, 150
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
        typical = max(float(squared_distances(x, x).mean()), 1e-12)
        # Logarithms of the squared relevances, and of the noise.
        start = np.append(np.full(x.shape[1], -np.log(typical)), np.log(_NOISE))
        at, best, highest = start.copy(), start, -np.inf
        momentum, squared = np.zeros((2, len(start)))
        for step in range(1, _STEPS + 2):
            process = cls(np.exp(at[:-1] / 2), float(np.exp(at[-1])))
            kernel = process.kernel(x, x)
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
        between = self.kernel(others, x)
        system = self.kernel(x, x) + np.diag(self.noise / weight)
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
        system = self.kernel(x, x) + np.diag(self.noise / weight)
        return np.asarray(self.kernel(others, x) @ np.linalg.solve(system, y))

    def given(self, x: Floats, y: FloatArray) -> Callable[[Floats], tuple[FloatArray, FloatArray]]:
        """Return what is known, given measured rows, of any others.

        Returns
        -------
        callable
            Maps rows of shape (m, features) to the mean and the standard deviation of each, but for
            noise; what depends on the measured ones alone is computed once.
        """
        system = self.kernel(x, x)
        system[np.diag_indices(len(x))] += self.noise
        inverse = np.linalg.inv(np.linalg.cholesky(system))
        solved = inverse @ y
        variance = max(float(solved @ solved) / len(x), 1e-12)
        weights = inverse.T @ solved

        def moments(others: Floats) -> tuple[FloatArray, FloatArray]:
            between = self.kernel(others, x)
            seen = between @ inverse.T
            a = others * self.relevance
            before = self.before(np.einsum("ij,ij->i", a, a))
            unknown = before - np.einsum("ij,ij->i", seen, seen)
            return between @ weights, np.sqrt(variance * np.maximum(unknown, _LEAST_NOISE))

        return moments

    def error(self, x: FloatArray, y: FloatArray) -> float:
        """Return the standard deviation of what the process cannot tell from noise."""
        system = self.kernel(x, x) + self.noise * np.eye(len(x))
        variance = float(y @ np.linalg.solve(system, y)) / len(x)
        return float(np.sqrt(max(variance, 1e-12) * self.noise))

    def before(self, squares: FloatArray) -> FloatArray:
        """Variances before anything is measured, of rows of these squared lengths."""
        return np.asarray(1 + self.level + self.linear * squares)

    def kernel(self, a: Floats, b: Floats) -> FloatArray:
        """Return the covariance of all pairs of described rows, in units of the variance."""
        a, b = a * self.relevance, b * self.relevance
        near = rational_quadratic(a, b)
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
    repeat : ndarray of float64, shape (n,), optional
        Variance between measurements of the same architecture, in units of the process, for each
        row; it is a part of the noise. Default: none, all of the noise is an architecture's own.
    alike : ndarray of int64, shape (n,), optional
        Which architecture a row measures; needed where some are measured repeatedly.
    """

    def __init__(
        self,
        process: Process,
        candidates: Floats,
        x: Floats,
        repeat: FloatArray | None = None,
        alike: Int64Array | None = None,
    ) -> None:
        n = len(x)
        self._process = process
        self._own = process.noise
        self._alike = np.arange(n, dtype=np.int64) if alike is None else alike
        if repeat is not None:
            self._own = max(self._own - float(np.median(repeat)), _LEAST_OWN * self._own)
        self._type: np.dtype[Any] = candidates.dtype
        self._relevance = process.relevance.astype(self._type)
        self._candidates: Floats = candidates * self._relevance
        self._squares = _squares(self._candidates)
        self._before = process.before(self._squares.astype(np.float64))
        self._size = n
        self._rows: Floats = np.zeros((n + _ROOM, x.shape[1]), dtype=self._type)
        self._rows[:n] = x * self._relevance
        self._rows_squares: Floats = np.zeros(n + _ROOM, dtype=self._type)
        self._rows_squares[:n] = _squares(self._rows[:n])
        rows, squares = self._rows[:n], self._rows_squares[:n]
        system = self._kernel(rows, squares, rows, squares).astype(np.float64)
        system += self._own * np.equal.outer(self._alike, self._alike)
        system[np.diag_indices(n)] = process.before(squares.astype(np.float64)) + self._own
        if repeat is not None:
            system[np.diag_indices(n)] += repeat
        self._inverse = np.zeros((n + _ROOM, n + _ROOM))
        self._inverse[:n, :n] = np.tril(np.linalg.inv(_root(system, self._own)))
        self._seen: Floats = np.zeros((n + _ROOM, len(candidates)), dtype=self._type)
        between = self._kernel(rows, squares, self._candidates, self._squares)
        self._seen[:n] = self._inverse[:n, :n].astype(self._type) @ between
        self._known = [np.einsum("ij,ij->j", self._seen[:n], self._seen[:n])]
        self._first = n

    def __len__(self) -> int:
        return self._size

    def add(
        self, x: Floats, repeat: FloatArray | float = 0.0, alike: Int64Array | int = -1
    ) -> None:
        """Add measured rows, shape (k, features) or one, the rest as at first; -1 is alike none."""
        x = np.atleast_2d(x)
        n, k = self._size, len(x)
        while n + k > len(self._rows):
            self._grow()
        new = slice(n, n + k)
        self._rows[new] = x * self._relevance
        self._rows_squares[new] = _squares(self._rows[new])
        rows, squares = self._rows[new], self._rows_squares[new]
        number: Int64Array = np.broadcast_to(np.asarray(alike, dtype=np.int64), (k,))
        between = self._kernel(self._rows[:n], self._rows_squares[:n], rows, squares)
        with_rows = between.astype(np.float64)
        own = self._kernel(rows, squares, rows, squares).astype(np.float64)
        same = np.equal.outer(self._alike, number) & (number >= 0)
        with_rows += self._own * same
        own += self._own * (np.equal.outer(number, number) & (number >= 0))
        own[np.diag_indices(k)] = (
            self._process.before(squares.astype(np.float64)) + self._own + repeat
        )
        inverse = self._inverse[:n, :n]
        left = inverse @ with_rows
        own -= left.T @ left
        # What is known to the last digit may come out as less than nothing.
        own[np.diag_indices(k)] = np.maximum(np.diag(own), self._own / 2)
        pivot = np.linalg.inv(_root(own, self._own / 2))
        self._inverse[new, :n] = -pivot @ (left.T @ inverse)
        self._inverse[new, new] = pivot
        seen = self._kernel(rows, squares, self._candidates, self._squares)
        seen -= left.T.astype(self._type) @ self._seen[:n]
        seen = pivot.astype(self._type) @ seen
        self._seen[new] = seen
        total = self._known[-1]
        for row in seen:
            total = total + row * row
            self._known.append(total)
        self._alike = np.append(self._alike, number)
        self._size += k

    def keep(self, candidates: IntArray) -> None:
        """Go on with these of the candidates alone."""
        self._candidates, self._squares = self._candidates[candidates], self._squares[candidates]
        self._before = self._before[candidates]
        self._seen = np.ascontiguousarray(self._seen[:, candidates])
        self._known = [known[candidates] for known in self._known]

    def cut(self, n: int) -> None:
        """Take back all rows after the first `n`."""
        del self._known[n - self._first + 1 :]
        self._alike = self._alike[:n]
        self._size = n

    def predict(self, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of every candidate, but for what repeats differ by; each (m,).

        Parameters
        ----------
        y : ndarray of float64, shape (n,) or shorter
            What was measured of the first rows; what is measured of the others is their mean.
        """
        solved = self._inverse[: len(y), : len(y)] @ y
        mean = (solved.astype(self._type) @ self._seen[: len(y)]).astype(np.float64)
        variance = max(float(solved @ solved) / len(y), 1e-12)
        unknown = np.maximum(self._before - self._known[-1].astype(np.float64), 0)
        return mean, variance * (unknown + self._own)

    def measured(self, y: FloatArray, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of the architectures that some rows measure; each (k,).

        Without noise between repeats they are what was measured.
        """
        n = self._size
        own, squares = self._rows[:n], self._rows_squares[:n]
        with_rows = self._kernel(own[rows], squares[rows], own, squares).astype(np.float64)
        before = self._process.before(squares[rows].astype(np.float64))
        alike = np.equal.outer(self._alike[rows], self._alike)
        # Of an architecture with itself, to the last digit.
        with_rows = np.where(alike, before[:, None], with_rows) + self._own * alike
        left = self._inverse[:n, :n] @ with_rows.T
        solved = self._inverse[: len(y), : len(y)] @ y
        mean = solved @ left[: len(y)]
        variance = max(float(solved @ solved) / len(y), 1e-12)
        known = np.einsum("ij,ij->j", left, left)
        return mean, variance * np.maximum(before + self._own - known, 0)

    def _kernel(self, a: Floats, a_squares: Floats, b: Floats, b_squares: Floats) -> Floats:
        product = a @ b.T
        near: Floats = product * self._type.type(-1)
        near += a_squares[:, None] / 2 + 1
        near += b_squares / 2
        np.maximum(near, 1, out=near)
        np.reciprocal(near, out=near)
        if self._process.linear:
            product *= self._type.type(self._process.linear)
            near += product
            near += self._type.type(self._process.level)
        return near

    def _grow(self) -> None:
        self._rows = np.pad(self._rows, ((0, _ROOM), (0, 0)))
        self._rows_squares = np.pad(self._rows_squares, (0, _ROOM))
        self._inverse = np.pad(self._inverse, ((0, _ROOM), (0, _ROOM)))
        self._seen = np.pad(self._seen, ((0, _ROOM), (0, 0)))


def _root(matrix: FloatArray, least: float) -> FloatArray:
    """Cholesky factor of a covariance; of one that rounding has made indefinite, nearly."""
    for share in (0.0, *np.geomspace(1, 1e6, 7).tolist()):
        with contextlib.suppress(np.linalg.LinAlgError):
            nearly = matrix + share * least * np.eye(len(matrix))
            return np.asarray(np.linalg.cholesky(nearly), dtype=np.float64)
    raise np.linalg.LinAlgError("a covariance that is not positive definite by far")


def _squares(rows: Floats) -> Floats:
    return np.asarray(np.einsum("ij,ij->i", rows, rows))


def rational_quadratic(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return ``1 / (1 + |a - b|^2 / 2)`` of all pairs of rows."""
    return np.asarray(1 / (1 + squared_distances(a, b) / 2))


def squared_distances(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the squared distances of all pairs of rows."""
    squares = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)
    return np.asarray(np.maximum(squares - 2 * (a @ b.T), 0))
