"""What a table does not know of its own numbers, and what a measurement tells it.

A table is a linear model of an architecture's features (`pnag_fast.costs.features`). Its weights
are known up to a Gaussian with covariance ``root @ root.T``; beside that, networks differ from any
sum over slots, by `misfit` as a share of their cost. So the cost of an architecture with features
f and mean cost m has the variance ``|f @ root|^2 + (misfit * m)^2``, and measurements are taken in
by the formulas of Bayesian linear regression (Bishop, Pattern Recognition and Machine Learning,
2006, eq. 3.50 and 3.51), in the rank of `root`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..typing import FloatArray

# Rows whose features are held at once.
_BLOCK = 8192


@dataclass(frozen=True, eq=False)
class Posterior:
    """The uncertainty of a table.

    Attributes
    ----------
    root : ndarray of float64, shape (n_features, rank)
        In the table's unit, one row per column of `pnag_fast.costs.features.features`.
    misfit : float
        Standard deviation of networks about the best sum over slots, as a share of their cost.
    """

    root: FloatArray
    misfit: float

    def variance(self, features: FloatArray, mean: FloatArray) -> FloatArray:
        """Return the variance of costs, shape (n,), from their features and means."""
        known = np.empty(len(features))
        for start in range(0, len(features), _BLOCK):
            rows = slice(start, start + _BLOCK)
            part = features[rows] @ self.root
            known[rows] = np.einsum("ij,ij->i", part, part)
        return known + (self.misfit * mean) ** 2

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
        return shift, Posterior(self.root @ (directions / np.sqrt(size)), self.misfit)

    def scaled(self, factor: float) -> Posterior:
        """Return the uncertainty of the same table in another unit."""
        return Posterior(self.root * factor, self.misfit)
