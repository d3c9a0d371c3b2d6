"""How true an accuracy model is: nested cross-validation, and fronts judged by another model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from .. import arguments, files
from ..agreement import absolute as agreement
from ..agreement import kendall
from ..errors import FileFormatError, InvalidInputError, InvalidTypeError
from ..objective import TOP1, Objective
from ..runs import Checkpoint, Run
from ..spaces import Archs, SearchSpace
from ..typing import BoolArray, FloatArray
from .codes import equal_rows
from .measured import Measured
from .model import AccuracyModel, one_line

CONFIRMATION_FORMAT = "pnag-confirmation"
CONFIRMATION_VERSION = 1

Verdict = Literal["confirmed", "unclear", "refuted"]
Fitter = Callable[[SearchSpace, Archs, FloatArray], AccuracyModel]


def cross_validate(
    space: SearchSpace,
    archs: Archs,
    top1: npt.ArrayLike,
    fitter: Fitter,
    *,
    folds: int = 5,
    seed: int = 0,
    checkpoint: files.StrPath | Checkpoint | None = None,
    by: npt.ArrayLike | None = None,
    objective: Objective = TOP1,
) -> dict[str, Any]:
    """Predict every row by a model that has not seen its fold, in any of its choices.

    What `fit` reports rests on folds that also chose its penalty and its number of steps. Here the
    whole of `fitter` runs anew without each fold, so nothing of the figures was chosen on them.

    Parameters
    ----------
    fitter : callable
        ``fitter(space, archs, top1)`` returns a model; for example `pf.accuracy.fit`.
    checkpoint : path, optional
        Written after each fold. Where it exists, what it holds is not fitted again; it must come
        from the same measurements, folds and, which nothing checks, the same `fitter`.
    by : array of float, shape (n,), optional
        Hold out consecutive ranges of these values, such as multiply-adds, instead of random rows.
        The outer folds then ask for extrapolation, which a search does as well: random folds
        flatter.

    Returns
    -------
    dict
        ``kendall``, ``spearman``, ``mean_error`` and ``bias`` of all architectures (``rows``),
        ``spread``: root mean square of error / std (1 where the model's std is right, above where
        it is too sure), and the same per fold (``folds``, a list, lowest range first).
        ``refused``, where there are any: architectures that the model without their fold knows
        nothing of, because none of its rows has one of their codes; they are in none of the
        figures.

    Notes
    -----
    Whatever computes the same is held out together: repeated measurements, and cells that are
    written differently.
    """
    folds, seed = arguments.integer(folds, "folds", 2), arguments.seed(seed)
    measured = Measured.of(space, archs, top1, objective)
    n = len(measured)
    n_networks = len(np.unique(measured.network))
    if folds > n_networks // 2:
        raise InvalidInputError(
            "folds should be from 2 to half the number of different networks, found "
            f"{folds} for {n_networks}"
        )
    _, index = equal_rows(space, archs)
    values = np.asarray(top1, dtype=np.float64)
    if by is None:
        fold = measured.folds(folds, seed)
    else:
        sorted_by = arguments.floats(
            by, "by", (len(archs),), meaning="one finite number per architecture", finite=True
        )
        fold = measured.ranges(np.bincount(index, sorted_by) / measured.count, folds)
        empty = np.setdiff1d(np.arange(folds), fold)
        if len(empty):
            raise InvalidInputError(
                f"by has too few different values for {folds} folds: equal ones are held out "
                "together; choose fewer folds"
            )
    kept = Run(seed=seed, checkpoint=checkpoint).open(
        lambda: {
            "space": space.definition,
            "measurements": _digest(archs, values),
            "by": None if by is None else _digest(sorted_by),
            "folds": folds,
            "seed": seed,
            "objective": repr(objective),
        }
    )
    predicted, std = np.full((2, n), np.nan)
    state = kept.restore("cross-validation")
    if state is not None:
        known = state.take("known", np.bool_, (n,))
        predicted[known] = state.take("predicted", np.float64, (n,))[known]
        std[known] = state.take("std", np.float64, (n,))[known]
    for k in range(0 if state is None else state.check_step(folds), folds):
        inside = (fold != k)[index]
        model = fitter(space, np.ascontiguousarray(archs[inside]), values[inside])
        asked = np.flatnonzero((fold == k) & model.knows(measured.archs))
        if len(asked):
            predicted[asked], std[asked] = model.predict(
                np.ascontiguousarray(measured.archs[asked]), return_std=True
            )
        kept.keep(
            "cross-validation",
            k + 1,
            lambda: {
                "known": ~np.isnan(predicted),
                "predicted": np.nan_to_num(predicted),
                "std": np.nan_to_num(std),
            },
            last=True,
        )

    def figures(rows: BoolArray) -> dict[str, float]:
        rows = rows & ~np.isnan(predicted)
        known = rows & (std > 0)
        scaled = (predicted[known] - measured.top1[known]) / std[known]
        spread = {"spread": float(np.sqrt(np.mean(scaled**2)))} if known.any() else {}
        return {**agreement(predicted[rows], measured.top1[rows]), **spread}

    refused = int(np.isnan(predicted).sum())
    return {
        "split": "random" if by is None else "ranges",
        "rows": n,
        **({"refused": refused} if refused else {}),
        **figures(np.ones(n, dtype=np.bool_)),
        "folds": [figures(fold == k) for k in range(folds)],
    }


def _digest(*arrays: npt.NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


# --- judging a finished front --------------------------------------------------------------------


class FrontLike(Protocol):
    """What is needed of a front; `pnag_fast.search.Front` is one."""

    @property
    def space(self) -> SearchSpace:
        """The space of its architectures."""

    @property
    def archs(self) -> Archs:
        """Architectures, cheapest first, shape (n, n_slots)."""

    @property
    def top1(self) -> FloatArray:
        """Value of the objective as the searched model predicts it, shape (n,)."""

    @property
    def costs(self) -> FloatArray:
        """Costs, shape (n, n_tables)."""

    @property
    def cost_labels(self) -> tuple[str, ...]:
        """Metric and unit of every column of `costs`."""

    @property
    def accuracy_source(self) -> str:
        """Which model was searched."""

    @property
    def objective(self) -> Objective:
        """What it predicts."""


@dataclass(frozen=True, eq=False, repr=False)
class Confirmation:
    """A front seen by a model that was not searched.

    Every member claims to be better than the members that cost no more; its gain is over the best
    of those, once by the searched model and once by the judge, and positive where it is better.

    Attributes
    ----------
    predicted, judged : ndarray of float64, shape (n,)
        Value of the objective by the searched model and by the judge.
    predicted_gain, judged_gain : ndarray of float64, shape (n,)
        Over the best member that costs no more; NaN for a member without one.
    verdicts : tuple of {"confirmed", "unclear", "refuted"}
        Whether the judge sees the gain; refuted where it sees a loss beyond its noise.
    """

    front: FrontLike
    judge_source: str
    judge_noise: float
    judged: FloatArray
    predicted_gain: FloatArray
    judged_gain: FloatArray
    verdicts: tuple[Verdict, ...]

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.verdicts.count(v)} {v}" for v in get_args(Verdict))
        text = f"{len(self.judged)} members judged by {self.judge_source}: {counts}"
        return f"<{type(self).__name__}: {one_line(text)}>"

    @property
    def predicted(self) -> FloatArray:
        """Value of the objective by the searched model."""
        return self.front.top1

    @property
    def objective(self) -> Objective:
        """What both predict."""
        return self.front.objective

    @property
    def kept(self) -> BoolArray:
        """Members that are still on the front when the judge counts, shape (n,)."""
        return ~(self.judged_gain <= 0)

    def summary(self) -> dict[str, Any]:
        """Return the counts of the verdicts and how far the judge is from the prediction."""
        off = self.judged - self.predicted
        return {
            "members": len(self.judged),
            **{v: self.verdicts.count(v) for v in ("confirmed", "unclear", "refuted")},
            "kendall": kendall(self.predicted, self.judged),
            "judged_minus_predicted": float(off.mean()) if len(off) else 0.0,
            "most_overrated": float(-self.objective.merit(off).min()) if len(off) else 0.0,
        }

    def findings(self) -> list[str]:
        """Say in words what the judge found."""
        facts = self.summary()
        shown = self.objective
        lines = [
            f"Searched: {self.front.accuracy_source}.",
            f"Judged by: {self.judge_source}.",
            f"{facts['confirmed']} of {facts['members']} gains are confirmed, {facts['unclear']} "
            f"are within the judge's noise, {facts['refuted']} are refuted: there the judge finds "
            f"a cheaper member better ({shown.title}).",
            f"The judge is {shown.difference(facts['judged_minus_predicted'])} from the "
            f"prediction on average; the most overrated member loses "
            f"{shown.number(facts['most_overrated'], 2)}. Order: Kendall {facts['kendall']:.2f}.",
        ]
        if self._best_cannot_be_trusted():
            lines.append(
                "The member predicted best is not the judge's choice: "
                f"{shown.text(self.judged[shown.merit(self.predicted).argmax()], 2)} against "
                f"{shown.text(self.judged[shown.merit(self.judged).argmax()], 2)}."
            )
        return lines

    def _best_cannot_be_trusted(self) -> bool:
        if len(self.judged) == 0:
            return False
        judged, predicted = map(self.objective.merit, (self.judged, self.predicted))
        return bool(judged.max() - judged[predicted.argmax()] > self.judge_noise)

    @property
    def head(self) -> list[str]:
        """What the columns of `table` hold."""
        unit = "points" if self.objective.is_fraction else self.objective.unit
        gain = f"gain, {unit}" if unit else "gain"
        label = self.objective.label
        predicted, judged = f"predicted {label}", f"judged {label}"
        columns = [predicted, judged, gain, "judged gain", "verdict", "architecture"]
        return [*self.front.cost_labels, *columns]

    def table(self, rows: int = 20) -> list[list[str]]:
        """Return cells in the order of `head`, of at most `rows` members."""
        rows = arguments.integer(rows, "rows", 0)
        chosen = np.unique(np.linspace(0, len(self.judged) - 1, rows).round().astype(int))
        names = self.front.space.to_strings(np.ascontiguousarray(self.front.archs[chosen]))
        return [
            [
                *(f"{cost:.4g}" for cost in self.front.costs[i]),
                self.objective.number(self.predicted[i], 2),
                self.objective.number(self.judged[i], 2),
                self._gain(self.predicted_gain[i]),
                self._gain(self.judged_gain[i]),
                self.verdicts[i],
                name,
            ]
            for i, name in zip(chosen.tolist(), names, strict=True)
        ]

    def _gain(self, gain: float) -> str:
        return "" if np.isnan(gain) else self.objective.difference(gain, 3).split()[0]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        names = self.front.space.to_strings(self.front.archs)
        return {
            "searched": self.front.accuracy_source,
            "judge": self.judge_source,
            "judge_noise": self.judge_noise,
            "objective": self.objective.to_json(),
            "summary": self.summary(),
            "findings": self.findings(),
            "members": [
                {
                    "arch": name,
                    "costs": self.front.costs[i].tolist(),
                    "predicted_top1": float(self.predicted[i]),
                    "judged_top1": float(self.judged[i]),
                    "predicted_gain": _or_none(self.predicted_gain[i]),
                    "judged_gain": _or_none(self.judged_gain[i]),
                    "verdict": self.verdicts[i],
                }
                for i, name in enumerate(names)
            ],
        }

    def save(self, path: files.StrPath) -> None:
        """Write everything as versioned JSON."""
        files.write_json(path, CONFIRMATION_FORMAT, CONFIRMATION_VERSION, self.to_dict())


def confirm(front: FrontLike, judge: AccuracyModel) -> Confirmation:
    """Judge a finished front by a model that was not searched.

    A search finds what its model overrates. A model of another kind, or fitted to other rows, errs
    elsewhere; where it sees no gain, measure before you believe.

    Parameters
    ----------
    front : Front
    judge : AccuracyModel
        For the space of the front; as independent of the searched model as can be had.

    Returns
    -------
    Confirmation
    """
    if not all(
        hasattr(front, name)
        for name in ("space", "archs", "top1", "costs", "cost_labels", "objective")
    ):
        raise InvalidTypeError(f"confirm takes a front, found {arguments.shown(front)}")
    if not isinstance(judge, AccuracyModel):
        raise InvalidTypeError(
            f"a front is judged by an accuracy model, found {arguments.shown(judge)}"
        )
    # A lower bound ranks by what the judge knows little of; a judge says what it expects.
    judge = judge.over(front.space).cautious(0)
    objective = front.objective
    if judge.objective != objective:
        raise InvalidInputError(
            f"the front is of {objective.title}, and the judge predicts {judge.objective.title}: "
            "judge it by a model of the same objective"
        )
    judged = judge.predict(front.archs)
    predicted_gain, judged_gain = (
        _gain(objective.merit(values), front.costs) for values in (front.top1, judged)
    )
    return Confirmation(
        front,
        judge.source,
        judge.noise,
        judged,
        predicted_gain,
        judged_gain,
        tuple(_verdict(gain, judge.noise) for gain in judged_gain.tolist()),
    )


def _gain(merit: FloatArray, costs: FloatArray) -> FloatArray:
    """Merit over the best other member that costs no more in every column; NaN without one."""
    gain = np.full(len(merit), np.nan)
    for i in range(len(merit)):
        cheaper = np.all(costs <= costs[i], axis=1)
        cheaper[i] = False
        if cheaper.any():
            gain[i] = merit[i] - merit[cheaper].max()
    return gain


def _verdict(gain: float, noise: float) -> Verdict:
    # The cheapest member has nothing to gain over: NaN compares false.
    if gain < -noise:
        return "refuted"
    return "unclear" if gain <= 0 else "confirmed"


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def saved_front(path: files.StrPath) -> FrontLike:
    """Read a front as `Front.save` wrote it, with the costs it was written with."""
    from ..spaces import from_definition

    document = files.read_json(path, "pnag-front", 1)
    space = from_definition(files.require(document, "space", dict, path), f"'{path}'")
    archs, top1, costs = front_members(document, space, path)
    labels = tuple(
        cost_label(
            *(
                files.require(table, name, str, path, within=f"costs[{i}]")
                for name in ("metric", "unit")
            )
        )
        for i, table in enumerate(document["costs"])
    )
    source = files.require(document, "accuracy_source", str, path)
    return _SavedFront(space, archs, top1, costs, labels, source, front_objective(document, path))


def cost_label(metric: str, unit: str) -> str:
    """Say a cost in the head of a table: ``latency (ms)``, ``MACs``."""
    return f"{metric} ({unit})" if unit not in ("", metric) else metric


def front_objective(document: Mapping[str, Any], path: files.StrPath) -> Objective:
    """Return the objective of a front's file: top-1 in those that do not say."""
    found = files.require({"objective": TOP1.to_json(), **document}, "objective", dict, path)
    return Objective.from_json(found, path)


def front_members(
    document: Mapping[str, Any], space: SearchSpace, path: files.StrPath
) -> tuple[Archs, FloatArray, FloatArray]:
    """Return the architectures, their top-1 and their costs of a front's file, every one checked.

    Returns
    -------
    archs : ndarray of uint8, shape (n, n_slots)
    top1 : ndarray of float64, shape (n,)
    costs : ndarray of float64, shape (n, n_tables)
    """
    files.check_keys(document, _FRONT_KEYS, path)
    tables = files.require_each(document, "costs", dict, path)
    for i, table in enumerate(tables):
        files.check_keys(table, ("metric", "unit", "device"), path, within=f"costs[{i}]")
    names, top1, costs = [], [], []
    for i, member in enumerate(files.require_each(document, "members", dict, path)):
        within = f"members[{i}]"
        files.check_keys(member, ("arch", "top1", "costs"), path, within=within)
        names.append(files.require(member, "arch", str, path, within=within))
        # Models extrapolate, and predict a little less than none and more than all.
        top1.append(files.require(member, "top1", (int, float), path, within=within))
        costs.append(
            files.require_each(
                member, "costs", (int, float), path, within=within, length=len(tables)
            )
        )
    try:
        archs = space.from_strings(names)
    except (InvalidInputError, InvalidTypeError) as error:
        raise FileFormatError(
            f"'{path}' is not a front of space '{space.name}': {error}"
        ) from error
    return (
        archs,
        np.array(top1, dtype=np.float64),
        np.array(costs, dtype=np.float64).reshape(len(names), len(tables)),
    )


# What `pnag_fast.search.Front.save` writes.
_FRONT_KEYS = (
    "space",
    "accuracy_source",
    "objective",
    "costs",
    "evaluations",
    "seconds",
    "members",
)


@dataclass(frozen=True, eq=False)
class _SavedFront:
    space: SearchSpace
    archs: Archs
    top1: FloatArray
    costs: FloatArray
    cost_labels: tuple[str, ...]
    accuracy_source: str
    objective: Objective
