"""A quadratic estimate of a model, fitted to its slopes wherever a search has looked at them.

The slopes at one architecture say little about its neighbours: learned accuracy has a kink wherever
one of its units turns on, and whoever follows the slopes is led to where they happen to be too
steep. Over many architectures the kinks average out: that the slopes are linear in the codes is a
small least squares problem, as every architecture tells one slope of each code. What the quadratic
then says of a jump agrees with the model at a correlation of 0.9, the slopes of the origin at 0.3
(Once-for-All's predictor, jumps that an annealing proposes), at a seventh of the model's price.
"""

from __future__ import annotations

import numpy as np

from ..accuracy.codes import feature_offsets, one_hot
from ..runs import Arrays
from ..spaces import Archs, SearchSpace
from ..typing import Float32Array, FloatArray

# Added to the count of every code, against combinations that were hardly seen.
_RIDGE = 10.0
# Fitted again when there are so many times as many rows: the price stays small beside the slopes'.
_GROWTH = 1.15


class Quadratic:
    """``x w + x H x / 2`` over the codes x, from slopes ``w + H x``.

    A fit costs O(features^3), an estimate O(features^2).

    Parameters
    ----------
    space : SearchSpace
    state : dict of ndarray
        Where everything is kept, as `empty` made it; changed in place.
    """

    def __init__(self, space: SearchSpace, state: Arrays) -> None:
        self.space = space
        self._moments, self._products = state["moments"], state["products"]
        self._fitted, self._rows = state["quadratic"], state["fitted"]

    @staticmethod
    def empty(space: SearchSpace) -> Arrays:
        """Return the state of one that has seen nothing."""
        n = int(feature_offsets(space)[-1])
        return {
            "moments": np.zeros((n + 1, n + 1)),
            "products": np.zeros((n + 1, n)),
            "quadratic": np.zeros((n + 1, n), dtype=np.float32),
            "fitted": np.zeros(1),
        }

    def learn(self, archs: Archs, slopes: Float32Array) -> None:
        """Take in slopes, shape (n, n_features)."""
        x = np.ones((len(archs), len(self._moments)), dtype=np.float32)
        x[:, :-1] = one_hot(self.space, archs)
        self._moments += x.T @ x
        self._products += x.T @ slopes
        if self._moments[-1, -1] > _GROWTH * self._rows[0]:
            self._fit()

    def _fit(self) -> None:
        n = len(self._moments) - 1
        ridge = np.append(np.full(n, _RIDGE), 0.0)
        curvature = np.linalg.solve(self._moments + np.diag(ridge), self._products)[:-1]
        # A curvature is symmetric; errors of the fit are not.
        curvature = (curvature + curvature.T) / 2
        rows = self._moments[-1, -1]
        self._fitted[:-1] = curvature
        self._fitted[-1] = (self._products[-1] - self._moments[-1, :-1] @ curvature) / rows
        self._rows[0] = rows

    @property
    def is_fitted(self) -> bool:
        """Whether it has seen slopes."""
        return bool(self._rows[0] > 0)

    @property
    def curvature(self) -> Float32Array:
        """What each code adds to the slope of each, shape (n_features, n_features), symmetric."""
        return self._fitted[:-1]

    @property
    def linear(self) -> Float32Array:
        """Slope of every code where there is none, shape (n_features,)."""
        return np.asarray(self._fitted[-1])

    def slopes(self, archs: Archs) -> Float32Array:
        """Slope of every code, shape (n, n_features)."""
        return np.asarray(one_hot(self.space, archs) @ self._fitted[:-1] + self._fitted[-1])

    def __call__(self, archs: Archs) -> FloatArray:
        """Value up to a constant, shape (n,): differences are meant."""
        x = one_hot(self.space, archs)
        # x is 0 or 1: what is linear fits on the diagonal.
        form = self._fitted[:-1] / 2 + np.diag(self._fitted[-1])
        return np.asarray(np.einsum("ij,ij->i", x @ form, x), dtype=np.float64)
