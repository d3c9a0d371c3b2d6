"""Accuracy of cells: a Gaussian process over what they compute, tabulated for the whole space."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from ..agreement import absolute as agreement
from ..progress import ProgressCallback
from ..spaces import Archs
from ..typing import BoolArray, Float32Array, FloatArray
from .codes import feature_keys
from .measured import Measured
from .table import TableModel, arranged

# Networks that relevance is learned from, of one half and of all: each of its steps inverts a
# matrix of this size.
_HALF, _ALL = 400, 600
# Networks that predictions rest on; a matrix of their squared number is solved.
_MOST = 4000
_STEPS = 10
_LEARNING_RATE = 0.3
# Precision of the prior on the logarithms, which start at features that count alike: fifty rows say
# little of two hundred features.
_PRIOR = 0.3
_NOISE = 3e-3
_LEAST_NOISE = 1e-5


def fit_cells(
    measured: Measured,
    features_of: Callable[[Archs], Float32Array],
    seed: int,
    folds: int,
    progress: ProgressCallback,
) -> TableModel:
    """Tabulate what a Gaussian process predicts of every cell of a small space.

    A measured cell is what was measured, as in any table. The others have the std of the process,
    scaled to the errors on held-out rows. Cells that compute the same are one network, and are held
    out together. Folds are predicted with relevances that were learned from the other half of the
    networks, so what is reported of them rests on nothing that they said.
    """
    space, top1 = measured.space, measured.top1
    every = space.enumerate()
    all_features = features_of(every)
    distinct, first = np.unique(measured.network, return_index=True)
    features = features_of(measured.archs)[first]
    used = np.ptp(features, axis=0) > 0
    x = features[:, used].astype(np.float64)
    fold = measured.folds(folds, seed)[first]
    mean, scale = float(top1.mean()), float(top1.std())

    def networks(weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean of every network's cells, and the sum of their weights."""
        total: FloatArray = np.bincount(measured.network, weight).astype(np.float64)
        return np.bincount(measured.network, weight * (top1 - mean) / scale) / total, total

    order = np.random.default_rng(seed).permutation(len(distinct))
    step, steps = 0, 4 + folds

    def learn(inside: BoolArray, most: int) -> _Process:
        nonlocal step
        progress("fitting the accuracy model", step, steps)
        step += 1
        rows = order[inside[order]][:most]
        return _Process.learned(x[rows], y[rows], weight[rows])

    y, weight = networks(np.ones(len(top1)))
    whole = learn(np.ones(len(x), dtype=np.bool_), _ALL)
    # From now on it is known what is noise and what the process cannot express.
    y, weight = networks(measured.weights(scale * whole.error(x[order[:_ALL]], y[order[:_ALL]])))
    halves = [learn(fold % 2 != half, _HALF) for half in (0, 1)]
    guess, variance = np.empty((2, len(x)))
    for k in range(folds):
        progress("fitting the accuracy model", step, steps)
        step += 1
        out = fold == k
        inside = order[~out[order]][:_MOST]
        guess[out], variance[out] = halves[k % 2].predict(
            x[inside], y[inside], weight[inside], x[out]
        )
    held_out = measured.objective.clip(mean + scale * guess)[measured.network]
    std = scale * np.sqrt(variance)[measured.network]
    noise = float(np.sqrt(np.mean((held_out - top1) ** 2)))
    # A process that knows its error by construction has 1 here.
    wider = float(np.sqrt(np.mean(((held_out - top1) / std) ** 2)))

    _, index, same = np.unique(feature_keys(all_features), return_index=True, return_inverse=True)
    inside = order[:_MOST]
    predicted, variance = whole.predict(
        x[inside], y[inside], weight[inside], all_features[index][:, used].astype(np.float64)
    )
    deviations = np.maximum(wider * scale * np.sqrt(variance), 1e-9 * scale)
    values = measured.objective.clip(mean + scale * predicted)
    fields = arranged(space, every, values[same], deviations[same])
    model = TableModel(
        space=space,
        source=f"fitted on {len(top1)} measured architectures, which are looked up",
        noise=noise,
        seen=measured.codes,
        objective=measured.objective,
        **fields,
    )
    known = model.index(measured.archs)
    fields["cells"][known] = top1
    fields["deviations"][known] = (measured.noise or 0.0) / np.sqrt(measured.count)
    progress("fitting the accuracy model", steps, steps)
    found = agreement(held_out, top1)
    return dataclasses.replace(
        model,
        report={
            **measured.facts(),
            **found,
            "warnings": measured.doubts(found["kendall"], noise) + measured.unseen(),
        },
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Process:
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
    def learned(cls, x: FloatArray, y: FloatArray, weight: FloatArray) -> _Process:
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


def _squared_distances(a: FloatArray, b: FloatArray) -> FloatArray:
    squares = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)
    return np.asarray(np.maximum(squares - 2 * (a @ b.T), 0))
