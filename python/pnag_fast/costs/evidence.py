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

# Of the fixed point, at most, and the share of the noise that a last one changes.
_ROUNDS = 12
# Before it is looked at: at first, scales move that say little of the noise.
_FIRST_ROUNDS = 6
_SETTLED = 0.003
# Share of the mean square that is noise, to begin with.
_FIRST_NOISE = 0.01
# Standard deviation of networks about a sum over slots, as a share of their cost, where little is
# known of it; and for how many networks that counts.
EXPECTED_NOISE = 0.02
_NOISE_COUNTS = 3.0
# Of the root of the mean square: measurements are not taken to be better than this, and a prior
# that is a million times wider than the noise could not be inverted.
LEAST_NOISE = 1e-5
# What others leave open of a row is at least this, whatever rounding says.
_LEAST_SHARE = 1e-9
_TINY = 1e-300


class Evidence:
    """Measurements, and components of a prior of what they measure.

    Parameters
    ----------
    features : ndarray of float64, shape (n, n_features)
    target : ndarray of float64, shape (n,)
    components : sequence of Component
    expected : ndarray of float64, shape (n_components,), optional
        Variances of the components that were learned elsewhere, in the units of the target. Each
        counts for one observation, and so does `EXPECTED_NOISE`, for three.
    """

    def __init__(
        self,
        features: FloatArray,
        target: FloatArray,
        components: Sequence[Component],
        expected: FloatArray | None = None,
    ) -> None:
        self.target = target
        self.expected = expected
        self.components = tuple(components)
        # Coordinates are the weights, or, where these are more, the measurements.
        n, n_features = features.shape
        self.rows, self.mix = features, np.eye(n_features)
        seen = [component.root for component in components]
        if n < n_features:
            self.rows, self.mix = np.eye(n), features
            seen = [features @ root for root in seen]
        self.spread = np.stack([root @ root.T for root in seen])

    def regress(
        self, precision: FloatArray | None = None, start: Regression | None = None
    ) -> Regression:
        """Find scales of components and noise, and with them the weights.

        Parameters
        ----------
        precision : ndarray of float64, shape (n,), optional
            What the variance of the noise of each measurement is divided by.
        start : Regression, optional
            To begin from its scales; of nearly the same precision.
        """
        n, rank = self.rows.shape
        rows, target = self.rows, self.target
        if precision is not None:
            rows, target = rows * np.sqrt(precision)[:, None], target * np.sqrt(precision)
        gram, moments, square = rows.T @ rows, rows.T @ target, float(target @ target)
        floor = square / n * LEAST_NOISE**2
        noise = _FIRST_NOISE * square / n
        flat = self.spread.reshape(len(self.spread), -1)
        count, noise_count, likely = 0.0, 0.0, np.zeros(len(flat))
        if self.expected is not None:
            count, noise_count, likely = 1.0, _NOISE_COUNTS, self.expected
        if start is not None:
            noise, variances = start.noise, start.variances
        elif self.expected is not None:
            noise, variances = EXPECTED_NOISE**2, self.expected
        else:
            explained = flat @ gram.ravel()
            shared = square / len(explained)
            variances = np.divide(
                shared, explained, out=np.zeros_like(explained), where=explained > 0
            )
        # Few measurements take no time, and scales move far when one of them counts less.
        enough = _FIRST_ROUNDS if start is None or n < self.mix.shape[1] else 1
        for done in range(_ROUNDS):
            within = np.tensordot(variances, self.spread, 1)
            inverse = np.linalg.inv(noise * np.eye(rank) + gram @ within)
            pull, inner = inverse @ moments, inverse @ gram
            mean = within @ pull
            explained, usual = (self.spread @ pull) @ pull, flat @ inner.ravel()
            # Conjugate priors, of as many observations: `count` times `likely`, over the variance.
            divisor = np.maximum(variances * usual + count, _TINY)
            variances = (variances**2 * explained + count * likely) / divisor
            error = max(square - float(mean @ (2.0 * moments - gram @ mean)), 0.0)
            error += noise_count * EXPECTED_NOISE**2
            before = noise
            noise = error / max(n - float(np.sum(within * inner)) + noise_count, _TINY)
            noise = max(noise, floor)
            if done >= enough and abs(noise - before) <= _SETTLED * before:
                break
        return Regression(self, precision, gram, moments, noise, variances)


@dataclass(frozen=True, eq=False)
class Regression:
    """Weights given measurements, see `Evidence.regress`.

    Attributes
    ----------
    evidence : Evidence
    precision : ndarray of float64, shape (n,), or None for ones
    gram, moments : ndarray of float64, shapes (rank, rank) and (rank,)
        Weighted products of the evidence's rows with themselves, and with its target.
    noise : float
        Variance of a measurement of precision one about the linear model.
    variances : ndarray of float64, shape (n_components,)
        What each component's covariance is multiplied by.
    """

    evidence: Evidence
    precision: FloatArray | None
    gram: FloatArray
    moments: FloatArray
    noise: float
    variances: FloatArray

    @cached_property
    def _within(self) -> FloatArray:
        return np.asarray(np.tensordot(self.variances, self.evidence.spread, 1))

    @cached_property
    def _root(self) -> FloatArray:
        """Of the covariance of the weights before the measurements."""
        pairs = zip(self.variances, self.evidence.components, strict=True)
        return np.concatenate([np.sqrt(v) * component.root for v, component in pairs], axis=1)

    @cached_property
    def _open(self) -> FloatArray:
        """Covariance of the coordinates, over the noise."""
        rank = len(self.gram)
        within = self.noise * np.eye(rank) + self.gram @ self._within
        return np.asarray(np.linalg.solve(within.T, self._within))

    @cached_property
    def _pull(self) -> FloatArray:
        """What the measurements pull each coordinate by, over what they know of it."""
        within = self.noise * np.eye(len(self.gram)) + self.gram @ self._within
        return np.asarray(np.linalg.solve(within, self.moments))

    @cached_property
    def weights(self) -> FloatArray:
        """Mean of the weights, shape (n_features,)."""
        return np.asarray(self._root @ (self._root.T @ (self.evidence.mix.T @ self._pull)))

    def covariance(self, inflation: float = 1.0) -> FloatArray:
        """Return the covariance of the weights, shape (n_features, n_features).

        Parameters
        ----------
        inflation : float
            By how much the variance of the noise is more than what the rows were weighted by.
        """
        noise = self.noise * inflation
        within = noise * np.eye(len(self.gram)) + self.gram @ self._within
        prior = self._root @ self._root.T
        seen = self.evidence.mix @ prior
        return np.asarray(prior - seen.T @ np.linalg.solve(within, self.gram @ seen))

    @cached_property
    def residual(self) -> FloatArray:
        """Target minus fit, shape (n,)."""
        fitted = self.evidence.rows @ (self._within @ self._pull)
        return np.asarray(self.evidence.target - fitted)

    @cached_property
    def left_out(self) -> tuple[FloatArray, FloatArray]:
        """Return what others say of each row: residual, and variance of the linear model, (n,).

        By the inverse of the covariance of the measurements (Rasmussen and Williams, Gaussian
        Processes for Machine Learning, 2006, eq. 5.12).
        """
        rows = self.evidence.rows
        open_ = np.einsum("ij,ij->i", rows @ self._open, rows)
        precision = 1.0 if self.precision is None else self.precision
        share = np.maximum(1.0 - open_ * precision, _LEAST_SHARE)
        return self.residual / share, self.noise * open_ / share

    def left_out_together(self, inside: BoolArray) -> FloatArray:
        """Return the residuals of some rows given all others."""
        rows, residual = self.evidence.rows[inside], self.residual[inside]
        root = np.ones(len(rows)) if self.precision is None else np.sqrt(self.precision[inside])
        weighted = rows * root[:, None]
        without = np.eye(rows.shape[1]) - self._open @ (weighted.T @ weighted)
        shared = np.linalg.solve(without, self._open @ (weighted.T @ (root * residual)))
        return np.asarray(residual + rows @ shared)
