"""Linear regression under a prior of several components, whose scales the data choose.

Measurements y = X w + noise, with weights w drawn from a Gaussian whose covariance is a sum of
components, each with a scale of its own. The scales and the noise maximise the probability of what
was measured (MacKay, Bayesian interpolation, Neural Computation 4, 1992), by the fixed point of
each variance: what it explains over what it would explain if the data said nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..typing import BoolArray, FloatArray
from .structure import Component

# Of the fixed point: more change the logarithm of the probability by less than one.
_ROUNDS = 12
# The same, from scales of nearly the same data.
_MORE_ROUNDS = 4
# Share of the mean square that is noise, to begin with, where there are no more data than weights.
_FIRST_NOISE = 0.01
# Standard deviation of networks about a sum over slots, as a share of their cost, where little is
# known of it; and for how many networks that counts.
EXPECTED_NOISE = 0.02
_NOISE_COUNTS = 3.0
# A direction of features that is this much shorter than the longest, squared, is rounding.
_DEPENDENT = 1e-11
# Of the root of the mean square: measurements are not taken to be better than this, and a prior
# that is a million times wider than the noise could not be inverted.
LEAST_NOISE = 1e-5
# What others leave open of a row is at least this, whatever rounding says.
_LEAST_SHARE = 1e-9
_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Regression:
    """Weights given measurements, see `regress`.

    Attributes
    ----------
    basis : ndarray of float64, shape (n, rank)
        Orthonormal columns that span those of the features.
    mix : ndarray of float64, shape (rank, n_features)
        ``basis @ mix`` are the features.
    target : ndarray of float64, shape (n,)
    root : ndarray of float64, shape (n_features, k)
        Of the covariance of the weights before the measurements.
    noise : float
        Variance of a row about the linear model.
    variances : ndarray of float64, shape (n_components,)
        What each component's covariance is multiplied by.
    """

    basis: FloatArray
    mix: FloatArray
    target: FloatArray
    root: FloatArray
    noise: float
    variances: FloatArray

    @cached_property
    def _gain(self) -> FloatArray:
        """What coefficients of the basis are multiplied by to be weights."""
        seen = self.mix @ self.root
        within = seen @ seen.T + self.noise * np.eye(len(seen))
        return np.asarray(np.linalg.solve(within, seen @ self.root.T).T)

    @cached_property
    def _kept(self) -> FloatArray:
        """What is left of coefficients of the basis in the fit: one minus the shrinkage."""
        return np.asarray(self.mix @ self._gain)

    @cached_property
    def weights(self) -> FloatArray:
        """Mean of the weights, shape (n_features,)."""
        return np.asarray(self._gain @ (self.basis.T @ self.target))

    def covariance(self, inflation: float = 1.0) -> FloatArray:
        """Return the covariance of the weights, shape (n_features, n_features).

        Parameters
        ----------
        inflation : float
            By how much the variance of the noise is more than what the rows were weighted by.
        """
        seen = self.mix @ self.root
        # By its eigenvalues: what is measured without noise is definite but for rounding.
        size, directions = np.linalg.eigh(seen.T @ seen)
        precision = np.maximum(size, 0.0) / (self.noise * inflation) + 1.0
        half = self.root @ (directions / np.sqrt(precision))
        return np.asarray(half @ half.T)

    @cached_property
    def _residual(self) -> FloatArray:
        fitted = self.basis @ (self._kept @ (self.basis.T @ self.target))
        return np.asarray(self.target - fitted)

    def left_out(self) -> tuple[FloatArray, FloatArray]:
        """Return residual and variance of each row given all others, shapes (n,).

        By the inverse of the covariance of the measurements (Rasmussen and Williams, Gaussian
        Processes for Machine Learning, 2006, eq. 5.12). The variance includes the noise.
        """
        kept = np.einsum("ij,ij->i", self.basis @ self._kept, self.basis)
        share = np.maximum(1.0 - kept, _LEAST_SHARE)
        return self._residual / share, self.noise / share

    def left_out_together(self, rows: BoolArray) -> FloatArray:
        """Return the residuals of some rows given all others."""
        basis, residual = self.basis[rows], self._residual[rows]
        shared = self._kept @ (basis.T @ residual)
        within = np.eye(len(self.mix)) - self._kept @ (basis.T @ basis)
        return np.asarray(residual + basis @ np.linalg.solve(within, shared))


def regress(
    features: FloatArray,
    target: FloatArray,
    components: Sequence[Component],
    *,
    expected: FloatArray | None = None,
    start: Regression | None = None,
) -> Regression:
    """Find scales of components and noise, and with them the weights.

    Parameters
    ----------
    features : ndarray of float64, shape (n, n_features)
        Rows divided by what the noise of each is proportional to.
    target : ndarray of float64, shape (n,)
        Measurements, divided by the same.
    components : sequence of Component
    expected : ndarray of float64, shape (n_components,), optional
        Variances of the components that were learned elsewhere, in the units of the target. Each
        counts for one observation, and so does `EXPECTED_NOISE`, for three.
    start : Regression, optional
        Of nearly the same data, to begin from its scales.
    """
    basis, mix = _orthonormal(features)
    n, rank = basis.shape
    seen = basis.T @ target
    outside = max(float(target @ target - seen @ seen), 0.0)
    roots = [mix @ component.root for component in components]
    spread = np.stack([root @ root.T for root in roots])
    mean_square = float(target @ target) / n
    floor = mean_square * LEAST_NOISE**2
    prior, prior_noise = (0.0, 0.0) if expected is None else (1.0, _NOISE_COUNTS)
    if start is not None:
        variances, noise = start.variances, start.noise
    elif expected is not None:
        variances, noise = expected, EXPECTED_NOISE**2
    else:
        size = np.trace(spread, axis1=1, axis2=2)
        variances = (seen @ seen) / len(roots) / np.where(size > 0, size, np.inf)
        noise = max(outside / (n - rank) if n > rank else _FIRST_NOISE * mean_square, floor)
    likely = np.zeros(len(roots)) if expected is None else expected
    for _ in range(_ROUNDS if start is None else _MORE_ROUNDS):
        within = np.tensordot(variances, spread, 1) + noise * np.eye(rank)
        inverse = np.linalg.inv(within)
        solved = inverse @ seen
        explained = (spread @ solved) @ solved
        usual = spread.reshape(len(roots), -1) @ inverse.ravel()
        # Conjugate priors, of as many observations: `prior` times `likely`, over the variance.
        divisor = np.maximum(variances * usual + prior, _TINY)
        variances = (variances**2 * explained + prior * likely) / divisor
        noise = (outside + noise**2 * float(solved @ solved) + prior_noise * EXPECTED_NOISE**2) / (
            (n - rank) + noise * float(np.trace(inverse)) + prior_noise
        )
        noise = max(noise, floor)
    scaled = [np.sqrt(v) * c.root for v, c in zip(variances, components, strict=True)]
    return Regression(basis, mix, target, np.concatenate(scaled, axis=1), noise, variances)


def _orthonormal(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return an orthonormal basis of the columns, and what makes the columns of it."""
    if len(features) < features.shape[1]:
        size, directions = np.linalg.eigh(features @ features.T)
        basis = directions[:, size > _DEPENDENT * size[-1]]
        return basis, basis.T @ features
    size, directions = np.linalg.eigh(features.T @ features)
    kept = size > _DEPENDENT * size[-1]
    length, directions = np.sqrt(size[kept]), directions[:, kept]
    return features @ (directions / length), length[:, None] * directions.T
