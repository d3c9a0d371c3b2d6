"""Accuracy by what a Gaussian process says of an architecture, given those that were judged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .. import arguments, files
from ..agreement import absolute as agreement
from ..errors import FileFormatError, InvalidInputError
from ..objective import TOP1, Objective
from ..progress import ProgressCallback, ignore_progress
from ..spaces import Archs, SearchSpace
from ..threads import one_thread
from ..typing import BoolArray, Float32Array, FloatArray
from .measured import Measured
from .model import AccuracyModel, Tensors, tensor
from .process import Process, described, groups

# Architectures predicted at a time.
_ROWS = 2048


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ProcessModel(AccuracyModel):
    """What a Gaussian process says of an architecture, given judged ones.

    Near to what was judged it knows more, and its standard deviation says so: a cautious search
    stays there. It is that of an architecture's quality, not of one more measurement of it.

    Attributes
    ----------
    rows : ndarray of uint8, shape (n, n_slots)
        What was judged.
    judged : ndarray of float32, shape (n,)
        Their values, in standard deviations from their mean.
    weight : ndarray of float32, shape (n,)
        How well each is known.
    relevance : ndarray of float32, shape (features,)
        Of what describes an architecture; see `pnag_fast.accuracy.process.Process`.
    process_noise, linear, level : float
        The rest of the process.
    centre, unit : float
        Mean and standard deviation of the judged values.
    widening : float
        What deviations are multiplied by, so that they are those of held-out rows.
    """

    rows: Archs
    judged: Float32Array
    weight: Float32Array
    relevance: Float32Array
    process_noise: float
    linear: float
    level: float
    centre: float
    unit: float
    widening: float = 1.0

    kind: ClassVar[str] = "process"

    @cached_property
    def _process(self) -> Process:
        return Process(
            self.relevance.astype(np.float64), self.process_noise, self.linear, self.level
        )

    @cached_property
    def _solved(self) -> tuple[FloatArray, FloatArray, FloatArray, float]:
        """Described rows, inverse root of their covariance, its product with them, variance."""
        process, target = self._process, self.judged.astype(np.float64)
        x = np.asarray(described(self.space, self.rows), dtype=np.float64)
        system = process.kernel(x, x)
        system[np.diag_indices(len(x))] += process.noise / self.weight
        inverse = np.linalg.inv(np.linalg.cholesky(system))
        solved = inverse.T @ (inverse @ target)
        return x, inverse, solved, max(float(target @ solved) / len(x), 1e-12)

    def _moments(self, archs: Archs, with_variance: bool) -> tuple[FloatArray, FloatArray | None]:
        x, inverse, solved, variance = self._solved
        process = self._process
        mean = np.empty(len(archs))
        spread = np.empty(len(archs)) if with_variance else None
        for start in range(0, len(archs), _ROWS):
            rows = slice(start, start + _ROWS)
            others = np.asarray(described(self.space, archs[rows]), dtype=np.float64)
            between = process.kernel(others, x)
            mean[rows] = self.centre + self.unit * (between @ solved)
            if spread is not None:
                seen = between @ inverse.T
                scaled = others * process.relevance
                before = process.before(np.einsum("ij,ij->i", scaled, scaled))
                left = np.maximum(before - np.einsum("ij,ij->i", seen, seen), 0.0)
                spread[rows] = (self.widening * self.unit) ** 2 * variance * left
        return mean, spread

    def _unexplained(self, archs: Archs) -> FloatArray:
        # `noise` is of held-out rows, whose deviations the process knows.
        return np.zeros(len(archs))

    def _content(self, prefix: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        names = ("rows", "judged", "weight", "relevance")
        return {f"{prefix}{name}": getattr(self, name) for name in names}, {
            "process": {name: getattr(self, name) for name in _NUMBERS}
        }

    @classmethod
    def _read(
        cls,
        tensors: Tensors,
        body: Mapping[str, Any],
        path: files.StrPath,
        prefix: str,
        common: dict[str, Any],
    ) -> ProcessModel:
        rows = tensors.get(f"{prefix}rows")
        space: SearchSpace = common["space"]
        if rows is None or not len(rows):
            raise FileFormatError(f"'{path}': an accuracy model rests on no rows")
        try:
            space.validate(rows)
        except InvalidInputError as error:
            raise FileFormatError(f"'{path}': array '{prefix}rows': {error}") from error
        n_features = described(space, rows[:1]).shape[1]
        found = files.require(body, "process", dict, path)

        def number(name: str) -> float:
            what = f"'{path}': field 'process.{name}'"
            return files.number(found.get(name), what, low=_NUMBERS[name])

        weight = tensor(tensors, f"{prefix}weight", (len(rows),), path)
        if (weight <= 0).any():
            raise FileFormatError(f"'{path}': array '{prefix}weight' should be above 0")
        return cls(
            rows=rows,
            judged=tensor(tensors, f"{prefix}judged", (len(rows),), path),
            weight=weight,
            relevance=tensor(tensors, f"{prefix}relevance", (n_features,), path),
            process_noise=number("process_noise"),
            linear=number("linear"),
            level=number("level"),
            centre=number("centre"),
            unit=number("unit"),
            widening=number("widening"),
            **common,
        )


# Lowest values of what a file has of a process; with no noise equal rows have no solution.
_NUMBERS = {
    "process_noise": 1e-9,
    "linear": 0.0,
    "level": 0.0,
    "centre": -math.inf,
    "unit": 0.0,
    "widening": 0.0,
}


def fit_process(
    space: SearchSpace,
    archs: Archs,
    top1: npt.ArrayLike,
    *,
    seed: int = 0,
    folds: int = 5,
    objective: Objective = TOP1,
    progress: ProgressCallback = ignore_progress,
) -> ProcessModel:
    """Fit a Gaussian process to judged architectures, and keep what they say; numpy only.

    Where many were chosen because they promise much, `fit` errs near them: an ensemble of networks
    smooths over what it was given, and a search finds where it promises more. A process stays near
    to what was judged, and knows how far it is from it.

    Parameters
    ----------
    archs : ndarray of uint8, shape (n, n_slots)
        As for `fit`.
    top1 : array of float, shape (n,)
    seed : int
        Splits.
    folds : int
        For the report: each is predicted by a process that was learned without it.

    Returns
    -------
    ProcessModel
        With ``report`` as of `fit`.
    """
    seed, folds = arguments.seed(seed), arguments.integer(folds, "folds", 2)
    measured = Measured.of(space, archs, top1, objective)
    measured.require(folds, "folds")
    with one_thread():
        fold = measured.folds(folds, seed)
        whole = _conditioned(measured, np.ones(len(measured), dtype=np.bool_))
        held_out, std = np.empty((2, len(measured)))
        for k in range(folds):
            progress("fitting the accuracy model", k, folds)
            out = fold == k
            held_out[out], std[out] = _conditioned(measured, ~out).predict(
                np.ascontiguousarray(measured.archs[out]), return_std=True
            )
        progress("fitting the accuracy model", folds, folds)
    error = held_out - measured.top1
    noise = float(np.sqrt(np.mean(error**2)))
    # Of a held-out row's error, part is that of judging it.
    judging = whole.unit**2 * whole._solved[-1] * whole.process_noise
    wider = float(np.sqrt(np.mean(error**2 / (std**2 + judging))))
    found = agreement(held_out, measured.top1)
    return replace(
        whole,
        source=f"a Gaussian process given {len(measured)} judged architectures",
        noise=noise,
        widening=max(wider, 1.0),
        report={
            **measured.facts(),
            **found,
            "judging_noise": float(np.sqrt(judging)),
            "warnings": measured.doubts(found["kendall"], noise) + measured.unseen(),
        },
    )


def _conditioned(measured: Measured, inside: BoolArray) -> ProcessModel:
    space = measured.space
    archs, top1 = np.ascontiguousarray(measured.archs[inside]), measured.top1[inside]
    x = np.asarray(described(space, archs), dtype=np.float64)
    centre, unit = float(top1.mean()), float(top1.std()) or 1.0
    target = (top1 - centre) / unit
    used = np.ptp(x, axis=0) > 0
    shared = groups(space)
    group = None if shared is None else shared[used]
    weight = np.ones(len(x))
    process = Process.learned(x[:, used], target, weight, group)
    if measured.noise:
        # What was measured repeatedly is known better, as far as that can be told from noise.
        weight = measured.weights(unit * process.error(x[:, used], target))[inside]
        process = Process.learned(x[:, used], target, weight, group)
    relevance = np.zeros(x.shape[1], dtype=np.float32)
    relevance[used] = process.relevance
    return ProcessModel(
        space=space,
        source="",
        objective=measured.objective,
        seen=measured.codes,
        rows=archs,
        judged=target.astype(np.float32),
        weight=weight.astype(np.float32),
        relevance=relevance,
        process_noise=float(process.noise),
        linear=float(process.linear),
        level=float(process.level),
        centre=centre,
        unit=unit,
    )
