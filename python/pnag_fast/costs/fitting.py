"""Tables from measurements of whole networks, and how far they may be wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import arguments
from ..agreement import relative as agreement
from ..errors import InvalidInputError
from ..spaces import Archs, SearchSpace
from ..threads import one_thread
from ..typing import BoolArray, FloatArray, IntArray
from . import prior as priors
from .evidence import LEAST_NOISE, Evidence, Regression
from .features import entries as entries_of
from .features import features
from .least_squares import FAR, GROSS, MANY, Design, Robust, fit_robust, hold_out
from .posterior import Posterior
from .prior import Prior
from .table import CostTable, require_text

# Below this on networks left out, a table explains too little to compare networks by.
LEAST_R2 = 0.9
# Of the cost: an interval beyond this is said to be wide.
_WIDE = 0.10
# Below this it explains nothing: where values are noise, all networks are predicted about alike.
_LEAST_SKILL = 0.05
# Noise is in proportion to the cost where a prior says what that is, but for the cheapest.
_LEAST_SHARE = 0.1
# The cheapest architecture costs at least this share of the cheapest one measured; so often is one
# raised to that at most, by a little more than needed.
_LEAST_COST, _RAISED, _ROUNDING = 0.1, 50, 1e-6
_SMALLEST, _LARGEST = 1e-60, 1e60
# Listed in a table's provenance at most.
_LISTED = 100
# Degrees of freedom of the noise: what lies three standard deviations off counts a third.
_FREEDOM = 4.0
_REWEIGHTINGS = 10
# Mean change of the weights, as a logarithm, that is not worth another round.
_SETTLED = 0.03
# The share of networks that an interval of so many standard deviations should hold.
_SHARE, _DEVIATIONS = 0.90, 1.6448536269514722
# The same, of a half; so many residuals are as good a guide to the larger interval as their half.
_HALF = (0.5, 0.6744897501960817)
_FEW_RESIDUALS = 20
# Square of the ratio of an interval of the t distribution to one of the normal, of that share.
_WIDER = (2.1318467863266495 / _DEVIATIONS) ** 2
# Parts of the variance of a network of median cost that do not grow with the cost, which from so
# many residuals on are weighed.
_CONSTANT, _MANY_RESIDUALS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0), 40
# Of the noise, at least so much is no noise of the measurement.
_LEAST_MISFIT = 0.1
# Architectures that directions of the uncertainty are chosen by.
_SAMPLED = 1200


def fit(
    space: SearchSpace,
    archs: Archs,
    values: npt.ArrayLike,
    *,
    metric: str,
    unit: str,
    device: str = "unknown",
    folds: int = 5,
    seed: int = 0,
    prior: Sequence[CostTable] | None = None,
) -> CostTable:
    """Fit a table to whole-network measurements, and find how far it may be wrong.

    A regression in which entries resemble each other as far as the measurements say that they do:
    choices of one slot, slots of one stage, and stages, see `pnag_fast.costs.structure`. What is
    measured without noise is fitted exactly. With several resolutions in the space, every entry is
    linear in the multiply-adds of its blocks, so that measurements at all resolutions are used
    together.

    An architecture that was measured several times counts once, with the median, and is held out
    as a whole. Measurements that lie far off while nearly all others agree are left out and named
    under ``outliers`` in ``provenance``; of the others, those count less that lie further off
    (Lange, Little and Taylor, Robust statistical modeling using the t distribution, 1989).

    Parameters
    ----------
    archs : ndarray of uint8, shape (n, n_slots)
    values : array of float, shape (n,)
        Measured costs in `unit`, positive, from 1e-60 to 1e60.
    folds : int
        For the error on held-out networks, recorded under ``held_out`` in ``provenance``:
        ``r2``, ``spearman``, ``mean_error`` and ``worst_error`` (both relative). Outliers off by
        more than a factor of two are not judged by; all others are.
    seed : int
        For the choice of folds.
    prior : sequence of CostTable, optional
        Tables of the same space, as of other devices, or counts: likely, the entries of this device
        are much like a mixture of theirs. Measurements may then be fewer than unknowns.

    Returns
    -------
    CostTable
        Its `domain` is `space`, and its `posterior` says what the measurements leave open, with
        an interval of 1.645 standard deviations that holds 90 % of the networks left out.
        ``provenance`` has ``networks`` (distinct architectures), ``noise``
        where some were measured repeatedly (``spread``, the relative standard deviation of one
        measurement), and ``warnings`` where the table should not be trusted.

    Raises
    ------
    InvalidInputError
        If the architectures leave open what others of the space cost: names codes, or combinations
        of codes, that should be measured. If the table predicts networks that were left out no
        better than their mean does, or an architecture would cost less than nothing. With `prior`,
        only the last is refused.
    """
    for name, value in (("metric", metric), ("unit", unit), ("device", device)):
        require_text(value, name)
    space.validate(archs)
    target = arguments.floats(
        values, "values", (len(archs),), meaning=f"({len(archs)},): one per architecture"
    )
    folds, seed = arguments.integer(folds, "folds", 2), arguments.seed(seed)
    bad = np.flatnonzero(~(np.isfinite(target) & (target > 0)))
    if len(bad):
        raise InvalidInputError(f"value {target[bad[0]]} of row {bad[0]} is not a positive number")
    # Their fourth powers, and one over their squares, are numbers.
    bad = np.flatnonzero((target < _SMALLEST) | (target > _LARGEST))
    if len(bad):
        raise InvalidInputError(
            f"value {target[bad[0]]} of row {bad[0]} is not from {_SMALLEST:g} to {_LARGEST:g}: "
            f"choose another unit than {unit}"
        )
    measured = _Measured.of(archs, target)
    with one_thread():
        if prior is not None:
            fitted = _fit_any(space, measured, priors.of_tables(space, prior), folds, seed)
            fitted = _none_free(space, measured, fitted)
        else:
            fitted = _fit_determined(space, measured, priors.of_space(space), folds, seed)
            _require_skill(fitted.quality["r2"], measured, metric)
        constants, entries = entries_of(space, fitted.weights)
        try:
            return CostTable.build(
                space,
                metric=metric,
                unit=unit,
                device=device,
                constants=constants,
                entries=entries,
                provenance=_fit_provenance(space, measured, fitted, unit),
                domain=space,
                posterior=fitted.posterior,
            )
        except InvalidInputError as error:
            raise InvalidInputError(
                f"{error}. The cheapest network that was measured has {measured.values.min():.4g} "
                f"{unit}: measure more networks that are cheap"
            ) from error


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Weights, what they leave open, what they were not fitted to, and networks left out."""

    weights: FloatArray
    posterior: Posterior
    robust: Robust
    quality: dict[str, float]


def _fit_determined(
    space: SearchSpace,
    measured: _Measured,
    prior: Prior,
    folds: int,
    seed: int,
) -> _Fitted:
    """Fit to measurements that by themselves determine what every network costs."""
    design = Design.of(space, measured.archs)
    n, rank = design.basis.shape
    if folds > n or n * (folds - 1) // folds < rank:
        raise InvalidInputError(
            f"{n} measured architectures are too few for a table of space '{space.name}': with "
            f"{folds} folds it needs at least {math.ceil(rank * folds / (folds - 1))}; tables of "
            "other devices as prior= make do with fewer"
        )
    if np.ptp(measured.values) == 0:
        raise InvalidInputError(
            f"all {n} architectures measure {measured.values[0]:g}: there is nothing to fit"
        )
    robust = fit_robust(design, measured.values)
    error = (measured.values - robust.fitted)[~robust.left_out]
    noise = math.sqrt(error @ error / max(len(error) - rank, 1)) / measured.values.mean()
    if noise > LEAST_NOISE:
        learned = _Learned.of(space, measured, prior, robust.left_out)
        return learned.fitted(space, measured, robust, folds, seed)
    held_out, judged = hold_out(design, measured.values, robust, folds, seed)
    weights = design.back @ robust.solution
    return _Fitted(
        weights,
        Posterior(np.zeros((len(weights), 1)), noise),
        robust,
        agreement(held_out[judged], measured.values[judged]),
    )


def _fit_any(
    space: SearchSpace,
    measured: _Measured,
    prior: Prior,
    folds: int,
    seed: int,
) -> _Fitted:
    """Fit to measurements that may leave costs open."""
    n = len(measured.values)
    if n < 2:
        raise InvalidInputError(f"a fit needs at least 2 different architectures, found {n}")
    folds = min(folds, n)
    none = np.zeros(n, dtype=np.bool_)
    first = _Learned.of(space, measured, prior, none)
    residual, variance = first.regression.left_out
    off = np.abs(residual) / np.sqrt(variance + first.regression.noise / first.alone)
    others = measured.values - residual
    gross = (measured.values > GROSS * others) | (GROSS * measured.values < others)
    far = (off > FAR) | (gross & (off > FAR / 2))
    left_out = far if far.sum() <= max(1, MANY * n) else none
    learned = _Learned.of(space, measured, prior, left_out) if left_out.any() else first
    fitted = learned.features @ learned.weights
    robust = Robust(learned.weights, fitted, left_out, none, float(far.mean()))
    return learned.fitted(space, measured, robust, folds, seed)


def _none_free(space: SearchSpace, measured: _Measured, fitted: _Fitted) -> _Fitted:
    """Change weights as their uncertainty allows so that no architecture is free.

    By few measurements some network that costs little may be taken to cost less than nothing. That
    it does not is knowledge too: the mean is moved to where the cheapest costs a share of what the
    cheapest measured one does, if need be by what all networks share.
    """
    least = _LEAST_COST * float(measured.values.min())
    weights, root = fitted.weights.copy(), fitted.posterior.root
    for left in reversed(range(_RAISED)):
        # Not built, which refuses a table by which one is free.
        table = CostTable(space, "cost", "unit", "device", *entries_of(space, weights))
        row = features(space, table.cheapest()[None])[0]
        missing = (least - float(row @ weights)) * (1 + _ROUNDING)
        seen = row @ root
        if missing <= 0:
            break
        if left and seen.any():
            weights += root @ seen * (missing / (seen @ seen))
        else:
            weights[0] += missing
    return replace(fitted, weights=weights)


@dataclass(frozen=True, eq=False)
class _Learned:
    """A regression under a prior, with noise whose tails are heavy.

    Attributes
    ----------
    features : ndarray of float64, shape (n, n_features)
        Of all that was measured.
    inside : ndarray of bool, shape (n,)
        What was fitted to.
    regression : Regression
        Of the rows inside.
    level : float
        Weights of the regression are in units of this.
    mean : ndarray of float64, shape (n_features,)
        What they are added to.
    alone : ndarray of float64, shape (rows inside,)
        Precision of each row by its repeats, wherever it lies.
    """

    features: FloatArray
    inside: BoolArray
    regression: Regression
    level: float
    mean: FloatArray
    alone: FloatArray

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        measured: _Measured,
        prior: Prior,
        left_out: BoolArray,
    ) -> _Learned:
        inside = ~left_out
        every = features(space, measured.archs)
        x, y = every[inside], measured.values[inside]
        level = prior.level(x, y)
        known = level * (x @ prior.mean)
        evidence = Evidence(level * x, y - known, prior.components, prior.variances)
        typical = float(np.median(y))
        alone = np.ones(len(y))
        if prior.variances is not None:
            alone = 1.0 / np.maximum(known, _LEAST_SHARE * typical) ** 2
        found = evidence.regress(alone)
        if measured.least_noise > 0:
            # More repeats, less noise; the rest is what no sum over slots can follow.
            noise = measured.least_noise / measured.repeats[inside]
            total = found.noise / (float(np.median(alone)) * typical**2)
            misfit = max(total - float(noise.mean()), _LEAST_MISFIT * total)
            alone = alone * (misfit + noise.mean()) / (misfit + noise)
        before = alone
        for _ in range(_REWEIGHTINGS):
            residual, variance = found.left_out
            square = residual**2 / (variance + found.noise / alone)
            precision = alone * (_FREEDOM + 1.0) / (_FREEDOM + square)
            found = evidence.regress(precision, start=found)
            if np.abs(np.log(precision / before)).mean() < _SETTLED:
                break
            before = precision
        return cls(every, inside, found, level, prior.mean, alone)

    @cached_property
    def weights(self) -> FloatArray:
        return self.level * (self.mean + self.regression.weights)

    def fitted(
        self, space: SearchSpace, measured: _Measured, robust: Robust, folds: int, seed: int
    ) -> _Fitted:
        """Add what is unknown, and predictions of what is left out fold by fold."""
        held_out = self.features @ self.weights
        mean = np.maximum(held_out, measured.values / 2)
        fold = np.random.default_rng(seed).permutation(len(held_out)) % folds
        for k in range(folds):
            rows = (fold == k) & self.inside
            residual = self.regression.left_out_together(rows[self.inside])
            held_out[rows] = measured.values[rows] - residual
        judged = ~robust.gross
        misfit, floor = self._misfit(measured, mean)
        # What noise there is was told by as few networks: the interval of Student's t, by the first
        # term of its expansion (Abramowitz and Stegun, 26.7.5).
        few = 1.0 + (_DEVIATIONS**2 + 1.0) / (4.0 * max(int(self.inside.sum()) - 1, 1))
        return _Fitted(
            self.weights,
            Posterior.of(
                (few * self.level) ** 2 * self.regression.covariance(self._inflation()),
                features(space, priors.sample(space, _SAMPLED)),
                self.weights,
                misfit=few * misfit,
                floor=few * floor,
            ),
            robust,
            agreement(held_out[judged], measured.values[judged]),
        )

    def _inflation(self) -> float:
        """Return by how much weighted rows say less than their weights.

        The variance of an M-estimate over that of least squares with its weights (Huber, Robust
        Statistics, 1981, section 7.6).
        """
        residual, variance = self.regression.left_out
        square = residual**2 / (variance + self.regression.noise / self.alone)
        weight = (_FREEDOM + 1.0) / (_FREEDOM + square)
        slope = weight * (_FREEDOM - square) / (_FREEDOM + square)
        found = float(np.mean(weight**2 * square) * np.mean(weight) / np.mean(slope) ** 2)
        # Where a prior expects more noise than the rows have, their weights are no promise.
        return max(found, 1.0)

    def _misfit(self, measured: _Measured, mean: FloatArray) -> tuple[float, float]:
        """Return by how much networks differ from the sum over slots: a share, and a floor.

        Such that the interval holds the share of networks that it should, of all that were
        measured, each predicted by the others. How much of it does not grow with the cost is what
        makes the residuals likely, by the density of their tails.
        """
        residual, variance = self.regression.left_out
        n, fitted = len(mean), mean[self.inside]
        typical = float(np.median(mean))

        def needed(shape: FloatArray, share: float, deviations: float) -> float:
            """Square of the misfit at which the interval holds a share of networks."""
            squares = ((residual / deviations) ** 2 - variance) / shape
            # One more than there are: of networks that are still to come (conformal).
            rank = min(math.ceil(share * (n + 1)), len(squares))
            return max(float(np.sort(squares)[rank - 1]), LEAST_NOISE**2)

        def surprise(shape: FloatArray) -> float:
            width = (needed(shape, _SHARE, _DEVIATIONS) * shape + variance) / _WIDER
            tails = (_FREEDOM + 1.0) * np.log1p(residual**2 / (_FREEDOM * width))
            return float(np.mean(np.log(width) + tails))

        constant = _CONSTANT if n >= _MANY_RESIDUALS else _CONSTANT[:1]
        shapes = [(1.0 - part) * fitted**2 + part * typical**2 for part in constant]
        best = int(np.argmin([surprise(shape) for shape in shapes]))
        believed = n / (n + _FEW_RESIDUALS)
        square = believed * needed(shapes[best], _SHARE, _DEVIATIONS)
        square += (1.0 - believed) * needed(shapes[best], *_HALF)
        square -= measured.least_noise * float(np.mean(1.0 / measured.repeats))
        total, part = math.sqrt(max(square, LEAST_NOISE**2)), constant[best]
        return total * math.sqrt(1.0 - part), total * typical * math.sqrt(part)


@dataclass(frozen=True)
class _Measured:
    """Distinct architectures, in the order in which they first came, and the median of each."""

    archs: Archs
    values: FloatArray
    rows: tuple[IntArray, ...]
    noise: Mapping[str, Any] | None

    @property
    def repeats(self) -> IntArray:
        """How often each was measured."""
        return np.array([len(rows) for rows in self.rows])

    @property
    def least_noise(self) -> float:
        """Variance of a measurement, relative, as far as repeats are enough to be sure of it."""
        if self.noise is None:
            return 0.0
        freedom = self.noise["measurements"] - self.noise["networks"]
        sure = max(1.0 - _DEVIATIONS * math.sqrt(2.0 / freedom), 0.0)
        return float(sure * self.noise["spread"] ** 2)

    @classmethod
    def of(cls, archs: Archs, target: FloatArray) -> _Measured:
        _, first, group = np.unique(archs, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(first)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        group = place[group.reshape(-1)]
        by_group = np.lexsort((target, group))
        starts = np.searchsorted(group[by_group], np.arange(len(first)))
        rows = tuple(np.split(by_group, starts[1:]))
        counts = np.diff(np.append(starts, len(archs)))
        ordered = target[by_group]
        medians = (ordered[starts + (counts - 1) // 2] + ordered[starts + counts // 2]) / 2
        noise = None
        if len(first) < len(archs):
            means = np.add.reduceat(ordered, starts) / counts
            relative = ordered / np.repeat(means, counts) - 1.0
            noise = {
                "networks": int((counts > 1).sum()),
                "measurements": int(counts[counts > 1].sum()),
                "spread": float(np.sqrt(np.sum(relative**2) / np.sum(counts - 1))),
            }
        return cls(np.ascontiguousarray(archs[first[order]]), medians, rows, noise)


def _require_skill(r2: float, measured: _Measured, metric: str) -> None:
    if r2 > _LEAST_SKILL:
        return
    noise = ""
    if measured.noise is not None:
        noise = f"; repeated measurements differ by {measured.noise['spread']:.1%} of their mean"
    raise InvalidInputError(
        f"a table fitted to these {len(measured.values)} networks predicts those left out no "
        f"better than their mean does (R2 {r2:.2g}{noise}): the values are noise, belong to other "
        "rows, or are no sum over slots; check that values and archs are in the same order, and "
        f"measure the {metric} longer or of more networks"
    )


def _fit_provenance(
    space: SearchSpace, measured: _Measured, fitted: _Fitted, unit: str
) -> dict[str, Any]:
    n, robust, quality = len(measured.values), fitted.robust, fitted.quality
    provenance: dict[str, Any] = {
        "source": "whole networks",
        "networks": n,
        "held_out": quality,
    }
    warnings = []
    if quality["r2"] < LEAST_R2:
        warnings.append(
            f"the table explains {quality['r2']:.0%} of how networks that were left out differ "
            f"(R2, good is {LEAST_R2} or more): do not trust close decisions; measure more "
            f"networks than these {n}, more steadily, or in larger batches"
        )
    typical = float(np.median(measured.values))
    spread = math.sqrt(float(fitted.posterior.apart(np.array([typical]))[0])) / typical
    interval = _DEVIATIONS * spread
    if interval > _WIDE:
        explained = _DEVIATIONS * math.sqrt(measured.least_noise)
        remedy = (
            f"repeats differ by {explained:.0%} only, so measure answers before you rely on them"
            if explained
            else "measure some 20 networks five times each, to tell noise from what is no sum"
        )
        warnings.append(
            f"networks differ by up to {interval:.0%} from what a table can say of them (90 % of "
            f"those left out), so that bounds which hold are as much above what is likely; {remedy}"
        )
    if measured.noise is not None:
        provenance["noise"] = dict(measured.noise)
    out = np.flatnonzero(robust.left_out)
    if len(out):
        worst = out[
            np.argsort(
                -np.abs(np.log(measured.values[out] / np.maximum(robust.fitted[out], 1e-300)))
            )
        ]
        names = space.to_strings(np.ascontiguousarray(measured.archs[worst[:_LISTED]]))
        provenance["outliers"] = {
            "networks": len(out),
            "rows": [
                {
                    "row": int(measured.rows[index].min()),
                    "arch": name,
                    "measured": float(measured.values[index]),
                    "fitted": float(robust.fitted[index]),
                }
                for index, name in zip(worst.tolist(), names, strict=False)
            ],
        }
        first = provenance["outliers"]["rows"][0]
        warnings.append(
            f"{len(out)} of {n} networks lie far off and were left out, the farthest in row "
            f"{first['row']}: {first['measured']:.4g} {unit} measured, {first['fitted']:.4g} by "
            "the others; measure them again"
        )
    elif robust.far > MANY:
        warnings.append(
            f"{robust.far:.0%} of the networks lie far off, too many to be left out: they were "
            "measured under other conditions, or do not add up over slots"
        )
    if warnings:
        provenance["warnings"] = warnings
    return provenance
