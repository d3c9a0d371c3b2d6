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
from .process import Process
from .table import TableModel, arranged

# Networks that relevance is learned from, of one half and of all: each of its steps inverts a
# matrix of this size.
_HALF, _ALL = 400, 600
# Networks that predictions rest on; a matrix of their squared number is solved.
_MOST = 4000


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

    def learn(inside: BoolArray, most: int) -> Process:
        nonlocal step
        progress("fitting the accuracy model", step, steps)
        step += 1
        rows = order[inside[order]][:most]
        return Process.learned(x[rows], y[rows], weight[rows])

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
