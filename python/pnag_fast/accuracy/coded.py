"""A Gaussian process over the codes of a space: what few judged networks say of all others.

What a network of a coded space is worth depends on few regularities: how deep its stages are, how
large its kernels, the same in all slots, in those of a stage, or in a slot of its own. The process
has one relevance for each such component of variance (`pnag_fast.costs.structure`) instead of one
for each code: fifty networks say a dozen numbers, and not two hundred.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from .. import costs
from ..costs import CostTable, structure
from ..costs.features import features as code_columns
from ..spaces import Archs, SearchSpace
from ..typing import FloatArray, IntArray

# Networks that relevances are learned from: each of the steps inverts a matrix of this size.
_LEARNED_FROM = 250
_STEPS, _MORE_STEPS = 40, 8
_LEARNING_RATE = 0.2
# Precision of the prior on the logarithms, which start at components that count alike.
_PRIOR = 0.3
_LINEAR, _CURVED, _NOISE = 0.3, 0.3, 0.1
_LEAST_NOISE = 1e-5
# Architectures that say how far apart two are by a component.
_REFERENCE = 1000
# Frequencies that a draw is made of.
_FREQUENCIES = 400


@dataclass(frozen=True, eq=False)
class Columns:
    """Architectures as columns of numbers, in groups that share a relevance.

    Attributes
    ----------
    roots : ndarray of float64, shape (n_indicators, n_columns)
        What the columns of `pnag_fast.costs.features.features` are multiplied by; random
        architectures are at a squared distance of 1 by each group.
    group : ndarray of intp, shape (n_columns,)
    counted : tuple of CostTable
        Multiply-adds and parameters, where the space knows its networks. The logarithm of each is
        one more column, in a group of their own: accuracy bends with them as it does with no sum
        over slots.
    apart : ndarray of float64, shape (len(counted),)
        What the logarithms are divided by.
    """

    roots: FloatArray
    group: IntArray
    counted: tuple[CostTable, ...]
    apart: FloatArray

    @property
    def n_groups(self) -> int:
        """Number of relevances."""
        return int(self.group.max(initial=-1)) + 1 + bool(self.counted)

    def weighted(self, relevance: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return what `embed` multiplies by for these relevances, shape (n_groups,)."""
        root = self.roots * np.sqrt(relevance[self.group])
        # The same distances in no more columns than there are codes.
        narrow = np.linalg.qr(root.T, mode="r").T if root.shape[1] > len(root) else root
        return narrow, np.sqrt(relevance[-1]) / self.apart

    def logarithms(self, archs: Archs) -> FloatArray:
        """Return logarithms of what is counted, shape (n, len(counted))."""
        return np.log([table(archs) for table in self.counted]).T.reshape(len(archs), -1)


@lru_cache(maxsize=8)
def columns(space: SearchSpace) -> Columns:
    """Return the columns of a space."""
    parts = [part for part in structure.of_space(space) if not part.name.startswith("constant")]
    rows = space.sample(_REFERENCE, seed=0, distribution="decisions")
    plain = code_columns(space, rows)
    roots, groups = [], []
    for part in parts:
        apart = 2 * float((plain @ part.root).var(axis=0).sum())
        if apart > 0:
            roots.append(part.root / np.sqrt(apart))
            groups.append(np.full(part.root.shape[1], len(groups), dtype=np.intp))
    counted = () if space.network is None else (costs.macs(space), costs.parameters(space))
    made = Columns(np.hstack(roots), np.concatenate(groups), counted, np.ones(len(counted)))
    if not counted:
        return made
    apart = np.sqrt(2 * made.logarithms(rows).var(axis=0).sum())
    return Columns(made.roots, made.group, counted, np.full(len(counted), apart))


@dataclass(frozen=True, eq=False)
class CodedProcess:
    """A Gaussian process of the quality of architectures, given some that were judged.

    Its kernel is ``1 + linear * <a, b> + curved / (1 + |a - b|^2 / 2)``, where architectures are
    columns times the roots of their relevances: a sum over slots whose weights resemble each other,
    and a rational quadratic on top of it (Rasmussen and Williams, 2006, eq. 4.19). Targets are
    scaled to zero mean and unit variance.

    Attributes
    ----------
    logarithms : ndarray of float64, shape (n_groups + 3,)
        Of the relevances, `linear`, `curved`, and the variance of the noise. With these, `of`
        returns the same process of the same judgements.
    """

    space: SearchSpace
    logarithms: FloatArray
    mean: float
    scale: float
    _map: tuple[FloatArray, FloatArray] = field(repr=False)
    _rows: FloatArray = field(repr=False)
    _target: FloatArray = field(repr=False)
    _error: FloatArray = field(repr=False)
    _inverse: FloatArray = field(repr=False)

    @classmethod
    def learned(
        cls,
        space: SearchSpace,
        archs: Archs,
        values: FloatArray,
        weight: FloatArray | None = None,
        start: FloatArray | None = None,
    ) -> CodedProcess:
        """Maximise the marginal likelihood (Rasmussen and Williams, 2006, eq. 5.9), a few steps.

        Parameters
        ----------
        archs : ndarray of uint8, shape (n, n_slots)
        values : ndarray of float64, shape (n,)
        weight : ndarray of float64, shape (n,), optional
            Inverse variances of their noise, mean 1.
        start : ndarray of float64, optional
            `logarithms` of a process of fewer judgements, which takes fewer steps.
        """
        weight = np.ones(len(archs)) if weight is None else weight
        n = min(len(archs), _LEARNED_FROM)
        some = np.sort(np.random.default_rng(0).permutation(len(archs))[:n])
        found = _likeliest(columns(space), space, archs[some], values[some], weight[some], start)
        return cls.of(space, archs, values, found, weight)

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        archs: Archs,
        values: FloatArray,
        logarithms: FloatArray,
        weight: FloatArray | None = None,
    ) -> CodedProcess:
        """Return the process of these logarithms, given judgements."""
        weight = np.ones(len(archs)) if weight is None else weight
        mean, scale = _standard(values)
        found = columns(space)
        weighted = found.weighted(np.exp(logarithms[:-3]))
        rows = _embedded(space, found, weighted, archs)
        target, error = (values - mean) / scale, np.exp(logarithms[-1]) / weight
        kernel = _kernel(rows, rows, logarithms) + np.diag(error)
        return cls(
            space=space,
            logarithms=logarithms,
            mean=mean,
            scale=scale,
            _map=weighted,
            _rows=rows,
            _target=target,
            _error=error,
            _inverse=np.linalg.inv(kernel),
        )

    @property
    def noise(self) -> float:
        """Standard deviation of one judgement about what is predicted, in the unit of values."""
        return float(self.scale * np.exp(self.logarithms[-1] / 2))

    def predict(self, archs: Archs) -> FloatArray:
        """Return means, shape (n,); no noise is in them."""
        return self._means(self._between(archs)[1])

    def moments(self, archs: Archs) -> tuple[FloatArray, FloatArray]:
        """Return means and standard deviations of what is without noise, each of shape (n,)."""
        rows, between = self._between(archs)
        linear, curved = np.exp(self.logarithms[-3:-1])
        before = 1 + curved + linear * np.einsum("ij,ij->i", rows, rows)
        known = np.einsum("ij,ij->i", between @ self._inverse, between)
        variance = np.maximum(before - known, _LEAST_NOISE)
        return self._means(between), self.scale * np.sqrt(variance)

    def covariance(self, archs: Archs) -> FloatArray:
        """Return covariances of what is without noise, shape (n, n)."""
        rows, between = self._between(archs)
        found = _kernel(rows, rows, self.logarithms) - between @ self._inverse @ between.T
        return np.asarray(self.scale**2 * found)

    def draws(self, n: int, rng: np.random.Generator) -> Callable[[Archs], FloatArray]:
        """Draw functions from the process, each defined for every architecture.

        By Matheron's rule (Wilson et al., Efficiently sampling functions from Gaussian process
        posteriors, 2020, eq. 13): a draw from the prior, of random Fourier features, is moved by
        what it misses at the judged networks. The rational quadratic is a mixture of squared
        exponentials with precisions of an exponential distribution.

        Parameters
        ----------
        n : int
        rng : numpy.random.Generator

        Returns
        -------
        callable
            Maps m architectures to an array of shape (m, n).
        """
        width = self._rows.shape[1]
        linear, curved = np.exp(self.logarithms[-3:-1])
        sizes = np.sqrt(rng.exponential(size=_FREQUENCIES))
        frequencies = rng.normal(size=(width, _FREQUENCIES)) * sizes
        phases = rng.uniform(0, 2 * np.pi, size=_FREQUENCIES)
        level = rng.normal(size=n)
        slopes = np.sqrt(linear) * rng.normal(size=(width, n))
        waves = np.sqrt(2 * curved / _FREQUENCIES) * rng.normal(size=(_FREQUENCIES, n))

        def prior(rows: FloatArray) -> FloatArray:
            return np.asarray(level + rows @ slopes + np.cos(rows @ frequencies + phases) @ waves)

        noisy = np.sqrt(self._error)[:, None] * rng.normal(size=(len(self._rows), n))
        missed = self._inverse @ (self._target[:, None] - prior(self._rows) - noisy)

        def drawn(archs: Archs) -> FloatArray:
            rows, between = self._between(archs)
            return np.asarray(self.mean + self.scale * (prior(rows) + between @ missed))

        return drawn

    def _between(self, archs: Archs) -> tuple[FloatArray, FloatArray]:
        """Return rows of other architectures, and their kernel with the judged ones."""
        rows = _embedded(self.space, columns(self.space), self._map, archs)
        return rows, _kernel(rows, self._rows, self.logarithms)

    def _means(self, between: FloatArray) -> FloatArray:
        return np.asarray(self.mean + self.scale * (between @ (self._inverse @ self._target)))


def _standard(values: FloatArray) -> tuple[float, float]:
    scale = float(values.std())
    return float(values.mean()), scale if scale > 0 else 1.0


def _embedded(
    space: SearchSpace, found: Columns, weighted: tuple[FloatArray, FloatArray], archs: Archs
) -> FloatArray:
    narrow, factor = weighted
    centre = _centre(space)
    rows = (code_columns(space, archs) - centre[0]) @ narrow
    if not found.counted:
        return np.asarray(rows)
    return np.hstack([rows, (found.logarithms(archs) - centre[1]) * factor])


@lru_cache(maxsize=8)
def _centre(space: SearchSpace) -> tuple[FloatArray, FloatArray]:
    """Means over random architectures: slopes turn about these."""
    rows = space.sample(_REFERENCE, seed=0, distribution="decisions")
    logarithms = columns(space).logarithms(rows)
    return code_columns(space, rows).mean(axis=0), logarithms.mean(axis=0)


def _kernel(a: FloatArray, b: FloatArray, logarithms: FloatArray) -> FloatArray:
    linear, curved = np.exp(logarithms[-3:-1])
    product = a @ b.T
    squares = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)
    apart = np.maximum(squares - 2 * product, 0)
    return np.asarray(1 + linear * product + curved / (1 + apart / 2))


def _likeliest(
    found: Columns,
    space: SearchSpace,
    archs: Archs,
    values: FloatArray,
    weight: FloatArray,
    start: FloatArray | None,
) -> FloatArray:
    """Return the logarithms of the likeliest process."""
    n, n_groups = len(archs), found.n_groups
    mean, scale = _standard(values)
    target = (values - mean) / scale
    # Products and squared distances by each group; their sum by relevances is that of the process.
    products = np.empty((n_groups, n, n))
    for k in range(n_groups):
        relevance = np.zeros(n_groups)
        relevance[k] = 1.0
        rows = _embedded(space, found, found.weighted(relevance), archs)
        products[k] = rows @ rows.T
    squares = np.einsum("kii->ki", products)
    distances = np.maximum(squares[:, :, None] + squares[:, None] - 2 * products, 0)
    products, distances = products.reshape(n_groups, -1), distances.reshape(n_groups, -1)

    rest = np.log([_LINEAR, _CURVED, _NOISE])
    middle = np.concatenate([np.full(n_groups, -np.log(n_groups)), rest])
    at = middle.copy() if start is None else start.copy()
    best, highest = at.copy(), -np.inf
    momentum, squared = np.zeros((2, len(at)))
    for step in range(1, (_STEPS if start is None else _MORE_STEPS) + 2):
        relevance = np.exp(at[:-3])
        linear, curved, noise = np.exp(at[-3:])
        sums = relevance @ products
        near = 1 / (1 + relevance @ distances / 2)
        system = (1 + linear * sums + curved * near).reshape(n, n)
        system[np.diag_indices(n)] += noise / weight
        inverse = np.linalg.inv(system)
        solved = inverse @ target
        away = at - middle
        value = -0.5 * float(target @ solved + _PRIOR * away @ away)
        value -= float(np.log(np.diag(np.linalg.cholesky(system))).sum())
        if value > highest:
            best, highest = at.copy(), value
        by_system = 0.5 * (np.outer(solved, solved) - inverse)
        by_noise = float(np.diag(by_system) @ (noise / weight))
        by_system = by_system.ravel()
        by_near = by_system * near
        slope = np.concatenate(
            [
                relevance
                * (linear * (products @ by_system) - 0.5 * curved * (distances @ (by_near * near))),
                [linear * (by_system @ sums), curved * by_near.sum(), by_noise],
            ]
        )
        slope -= _PRIOR * away
        # Adam: the slopes differ by orders of magnitude.
        momentum = 0.8 * momentum + 0.2 * slope
        squared = 0.9 * squared + 0.1 * slope**2
        size = np.sqrt(squared / (1 - 0.9**step)) + 1e-12
        at = at + _LEARNING_RATE * momentum / (1 - 0.8**step) / size
        at[-1] = max(at[-1], np.log(_LEAST_NOISE))
    return best
