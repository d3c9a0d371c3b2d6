"""Calibration: any accuracy model, corrected by architectures that were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .. import arguments, files
from ..agreement import absolute as agreement
from ..errors import FileFormatError, InvalidTypeError
from ..objective import Objective
from ..spaces import Archs, SearchSpace
from ..threads import one_thread
from ..typing import BoolArray, Float32Array, FloatArray
from .codes import feature_offsets, one_hot
from .distance import distance_term, reach_term, widened_by_unseen
from .measured import Measured
from .model import AccuracyModel, Tensors, tensor

# Ridge penalties of the codes' terms, for a target of unit variance; with the last there are none.
_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, np.inf)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class CalibratedModel(AccuracyModel):
    """An ensemble of ``constant + scale * base + linear . codes``.

    Attributes
    ----------
    base : AccuracyModel
    constant, scale : ndarray of float32, shape (members,)
    linear : ndarray of float32, shape (members, features)
    """

    base: AccuracyModel
    constant: Float32Array
    scale: Float32Array
    linear: Float32Array

    kind: ClassVar[str] = "calibrated"

    def require_determined(self, space: SearchSpace) -> None:
        """Refuse what the base does not know: it is the base that determines the codes."""
        super().require_determined(space)
        self.base.require_determined(space)

    def _moments(self, archs: Archs, with_variance: bool) -> tuple[FloatArray, FloatArray | None]:
        outputs = self._outputs(archs)
        return outputs.mean(axis=1), outputs.var(axis=1) if with_variance else None

    def _outputs(self, archs: Archs) -> FloatArray:
        """Top-1 by every member, shape (n, members)."""
        terms = np.empty((len(archs), len(self.scale)))
        for start in range(0, len(archs), 8192):
            rows = slice(start, start + 8192)
            terms[rows] = one_hot(self.space, archs[rows]) @ self.linear.T
        base = self.base._moments(archs, False)[0]
        return terms + self.constant + self.scale * base[:, None]

    def _slopes(
        self, archs: Archs, with_variance: bool
    ) -> tuple[Float32Array, Float32Array | None] | None:
        slopes = self.base._slopes(archs, False)
        if slopes is None:
            return None
        of_mean = self.scale.mean() * slopes[0] + self.linear.mean(axis=0)
        if not with_variance:
            return of_mean, None
        outputs = self._outputs(archs)
        excess = (outputs - outputs.mean(axis=1, keepdims=True)).astype(np.float32)
        share = 2 * excess / len(self.scale)
        return of_mean, (share @ self.scale)[:, None] * slopes[0] + share @ self.linear

    def _content(self, prefix: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        tensors, body = self.base.to_tensors(f"{prefix}base.")
        own = {f"{prefix}{name}": getattr(self, name) for name in ("constant", "scale", "linear")}
        return {**tensors, **own}, {"base": body}

    @classmethod
    def _read(
        cls,
        tensors: Tensors,
        body: Mapping[str, Any],
        path: files.StrPath,
        prefix: str,
        common: dict[str, Any],
    ) -> CalibratedModel:
        base = AccuracyModel.from_tensors(
            tensors, files.require(body, "base", dict, path), path, f"{prefix}base."
        )
        scale = tensor(tensors, f"{prefix}scale", (None,), path)
        # With another space the codes of rows would be read wrongly; rows of the same slots fit.
        if base.space.fingerprint != common["space"].fingerprint or len(scale) == 0:
            raise FileFormatError(f"'{path}': an accuracy model and its base do not fit")
        n_features = int(feature_offsets(base.space)[-1])
        return cls(
            base=base,
            constant=tensor(tensors, f"{prefix}constant", (len(scale),), path),
            scale=scale,
            linear=tensor(tensors, f"{prefix}linear", (len(scale), n_features), path),
            **common,
        )


def calibrate(
    model: AccuracyModel,
    archs: Archs,
    top1: npt.ArrayLike,
    *,
    seed: int = 0,
    members: int = 5,
    objective: Objective | None = None,
) -> CalibratedModel:
    """Correct a model by measured architectures: offset, scale, and a small term per code.

    Every member is a ridge regression fitted on all rows but its own fold, with the model's
    prediction as one column that is not penalised. The penalty of the codes' terms is the one that
    is best on the held-out folds; the largest is infinite, which leaves offset and scale. Needs
    numpy only.

    Parameters
    ----------
    model : AccuracyModel
        Any, for example the predictor published with Once-for-All, whose order is good and whose
        level is not.
    archs : ndarray of uint8, shape (n, n_slots)
        An architecture that comes more than once is one row, as in `fit`.
    top1 : array of float, shape (n,)
        Measured accuracy as a fraction, or what the objective says instead.
    seed : int
        Split into folds.
    members : int
        Folds, and members of the ensemble.
    objective : Objective, optional
        What was measured, where it is not what `model` predicts: a predictor of top-1 may well
        order networks by another quality, or the other way round.

    Returns
    -------
    CalibratedModel
        With ``report``: ``kendall``, ``spearman``, ``mean_error``, ``bias`` on held-out networks,
        the same of the uncorrected model under ``before``, and the rest as in `fit`. Codes that the
        uncorrected model does not know stay unknown.
    """
    if not isinstance(model, AccuracyModel):
        raise InvalidTypeError(
            f"calibrate takes an accuracy model, found {arguments.shown(model)}; pf.accuracy.load "
            "reads one, pf.accuracy.fit makes one"
        )
    seed, members = arguments.seed(seed), arguments.integer(members, "members", 2)
    model = model.cautious(0)
    measured = Measured.of(
        model.space, archs, top1, model.objective if objective is None else objective
    )
    measured.require(members)
    with one_thread():
        return _calibrate(model, measured, seed, members)


def _calibrate(
    model: AccuracyModel, measured: Measured, seed: int, members: int
) -> CalibratedModel:
    target = measured.top1
    n = len(target)
    fold = measured.folds(members, seed)
    before = model.predict(measured.archs)
    spread = before.std()
    features = one_hot(model.space, measured.archs)
    columns = np.column_stack(
        [(before - before.mean()) / (spread if spread > 0 else 1.0), features]
    )
    level, unit = target.mean(), target.std()
    normalised = (target - level) / unit

    def by_folds(
        penalties: Sequence[float], weight: FloatArray
    ) -> list[tuple[FloatArray, FloatArray]]:
        """Members, and what they predict on held-out rows, for every penalty."""
        found = [(np.empty((members, columns.shape[1] + 1)), np.empty(n)) for _ in penalties]
        for k in range(members):
            out = fold == k
            solved = _ridge(columns[~out], normalised[~out], penalties, weight[~out])
            for (solutions, held_out), solution in zip(found, solved, strict=True):
                solutions[k] = solution
                held_out[out] = columns[out] @ solution[:-1] + solution[-1]
        return found

    errors = [
        float(np.mean((held_out - normalised) ** 2))
        for _, held_out in by_folds(_PENALTIES, np.ones(n))
    ]
    best = int(np.argmin(errors))
    penalty = _PENALTIES[best]
    weight = measured.weights(float(unit * np.sqrt(errors[best])))
    ((solutions, held_out),) = by_folds([penalty], weight)

    def predict_without(inside: BoolArray) -> FloatArray:
        (solution,) = _ridge(columns[inside], normalised[inside], [penalty], weight[inside])
        return np.asarray(level + unit * (columns @ solution[:-1] + solution[-1]))

    noise = float(unit * np.sqrt(np.mean((held_out - normalised) ** 2)))
    solved = unit * solutions
    scale = solved[:, 0] / (spread if spread > 0 else 1.0)
    found = agreement(level + unit * held_out, target)
    earlier = agreement(before, target)
    warnings = measured.doubts(found["kendall"], noise)
    if measured.objective == model.objective and found["kendall"] < earlier["kendall"] - 0.05:
        warnings.append(
            f"calibrating made the order worse: Kendall {found['kendall']:.2f} instead of "
            f"{earlier['kendall']:.2f}; use the model as it was, or measure more than {n} "
            "architectures"
        )
    # What the base predicts is no sum of codes; to first order it is this one.
    (effects,) = _ridge(
        np.column_stack([np.zeros(n), features]), columns @ solved.mean(axis=0)[:-1], [1.0], weight
    )
    distance = distance_term(measured, features, noise, min(penalty, 1.0), predict_without)
    return CalibratedModel(
        space=model.space,
        source=f"{model.source}; calibrated on {n} measured architectures",
        noise=noise,
        report={
            **measured.facts(),
            **found,
            "before": earlier,
            "terms": "offset, scale" if best == len(_PENALTIES) - 1 else "offset, scale, codes",
            "warnings": warnings,
        },
        distance=widened_by_unseen(measured, distance, noise, predict_without),
        reach=reach_term(measured, features, effects[1:-1], noise, predict_without),
        seen=model.seen,
        objective=measured.objective,
        base=model,
        constant=(level + solved[:, -1] - scale * before.mean()).astype(np.float32),
        scale=scale.astype(np.float32),
        linear=solved[:, 1:-1].astype(np.float32),
    )


def _ridge(
    columns: FloatArray, target: FloatArray, penalties: Sequence[float], weight: FloatArray
) -> list[FloatArray]:
    """Ridge regression, once for each penalty.

    Neither the first column nor the constant, which is the last coefficient, is penalised.
    """
    centre = np.average(columns, axis=0, weights=weight)
    mean = float(np.average(target, weights=weight))
    x = columns - centre
    gram = (x * weight[:, None]).T @ x
    # A model that predicts one value for all rows has no slope to find.
    gram[0, 0] += 1e-9 * len(x)
    products = x.T @ (weight * (target - mean))
    solutions = []
    for penalty in penalties:
        n_free = columns.shape[1] if np.isfinite(penalty) else 1
        system = gram[:n_free, :n_free].copy()
        system[np.arange(1, n_free), np.arange(1, n_free)] += penalty if n_free > 1 else 0.0
        solution = np.zeros(columns.shape[1] + 1)
        solution[:n_free] = np.linalg.solve(system, products[:n_free])
        solution[-1] = mean - float(centre @ solution[:-1])
        solutions.append(solution)
    return solutions
