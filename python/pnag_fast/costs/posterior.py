"""What a table does not know of its own numbers, and what a measurement tells it.

A table is a linear model of an architecture's features (`pnag_fast.costs.features`). Its weights
are known up to a Gaussian with covariance ``root @ root.T``; beside that, networks differ from any
sum over slots, by `misfit` as a share of their cost and by `floor` whatever they cost. So the cost
of an architecture with features f and mean cost m has the variance
``|f @ root|^2 + (misfit * m)^2 + floor^2``, and measurements are taken in
by the formulas of Bayesian linear regression (Bishop, Pattern Recognition and Machine Learning,
2006, eq. 3.50 and 3.51), in the rank of `root`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..typing import FloatArray, Int64Array

# Directions that are kept at most: a table's file stays small, and a lookup fast.
RANK = 48
# Of the largest number of a direction in a file.
_BITS = 11
_LEAST_EXPONENT = -1000
# Share of the variance that may be dropped, or rather spread over all architectures.
_DROPPED = 0.01
# An architecture counts for no more than as if it cost this share of the dearest.
_LEAST_COST = 0.01


@dataclass(frozen=True, eq=False)
class Posterior:
    """The uncertainty of a table.

    Attributes
    ----------
    root : ndarray of float64, shape (n_features, rank)
        In the table's unit, one row per column of `pnag_fast.costs.features.features`.
    misfit : float
        Standard deviation of networks about the best sum over slots, as a share of their cost.
    floor : float
        A part of it that is the same for all, in the table's unit: launches, clocks, timers.
    """

    root: FloatArray
    misfit: float
    floor: float = 0.0

    @classmethod
    def of(
        cls,
        covariance: FloatArray,
        features: FloatArray,
        weights: FloatArray,
        *,
        misfit: float,
        floor: float,
    ) -> Posterior:
        """Keep of a covariance what matters for the costs of architectures.

        Parameters
        ----------
        covariance : ndarray of float64, shape (n_features, n_features)
        features : ndarray of float64, shape (n, n_features)
            Of architectures of all kinds.
        weights : ndarray of float64, shape (n_features,)
        misfit, floor : float
            What is not kept is added to the first, as its mean over the architectures.
        """
        mean = features @ weights
        rows = features / np.maximum(mean, _LEAST_COST * mean.max())[:, None] / len(mean) ** 0.5
        size, directions = np.linalg.eigh(covariance)
        root = directions * np.sqrt(np.maximum(size, 0.0))
        seen = rows @ root
        share, mixed = np.linalg.eigh(seen.T @ seen)
        share = np.maximum(share, 0.0)
        dropped = np.cumsum(share)
        kept = min(max(int((dropped > _DROPPED * dropped[-1]).sum()), 1), RANK)

        rest = float(dropped[-kept - 1]) if kept < len(share) else 0.0
        return cls(root @ mixed[:, -kept:], float(np.hypot(misfit, np.sqrt(rest))), floor).rounded()

    def narrowed(self) -> Posterior:
        """Return the same uncertainty in no more directions than there are features."""
        if self.root.shape[1] <= self.root.shape[0]:
            return self
        return replace(self, root=np.ascontiguousarray(np.linalg.qr(self.root.T)[1].T))

    def apart(self, mean: FloatArray) -> FloatArray:
        """Return the variance of networks about the best sum over slots, shape (n,)."""
        return np.asarray((self.misfit * mean) ** 2 + self.floor**2)

    def conditioned(
        self, features: FloatArray, residual: FloatArray, variance: FloatArray
    ) -> tuple[FloatArray, Posterior]:
        """Take measurements in.

        Parameters
        ----------
        features : ndarray of float64, shape (n, n_features)
        residual : ndarray of float64, shape (n,)
            Measured cost minus the mean.
        variance : ndarray of float64, shape (n,)
            Of each measurement about the sum over slots: noise and misfit; above zero.

        Returns
        -------
        shift : ndarray of float64, shape (n_features,)
            To be added to the weights.
        posterior : Posterior
        """
        design = (features @ self.root) / np.sqrt(variance)[:, None]
        precision = np.eye(self.root.shape[1]) + design.T @ design
        size, directions = np.linalg.eigh(precision)
        scaled = residual / np.sqrt(variance)
        shift = self.root @ (directions @ ((directions.T @ (design.T @ scaled)) / size))
        return shift, replace(self, root=self.root @ (directions / np.sqrt(size)))

    def integers(self) -> tuple[FloatArray, Int64Array]:
        """Return each direction as integers of up to 2,048 and what to multiply them by.

        Returns
        -------
        units : ndarray of float64, shape (rank,)
            Powers of two, so that the products are exact.
        multiples : ndarray of int64, shape (n_features, rank)
        """
        # A little more than the largest, which is then not rounded up to another power of two.
        largest = np.abs(self.root).max(axis=0, initial=0.0) * (1.0 + 2.0**-_BITS)
        units = np.ldexp(1.0, np.maximum(np.frexp(largest)[1] - _BITS, _LEAST_EXPONENT))
        return units, np.rint(self.root / units).astype(np.int64)

    def rounded(self) -> Posterior:
        """Return the same uncertainty to three digits, as files keep it."""
        units, multiples = self.integers()
        return replace(self, root=units * multiples)
