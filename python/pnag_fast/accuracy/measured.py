"""Measurements as models learn from them: one row per architecture, folds that hold out whole ones.

A measured architecture that is in the training rows once more, even as another cell that computes
the same, makes whatever is held out look better than it is: what is held out is always a network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import arguments
from ..errors import InvalidInputError, InvalidTypeError
from ..objective import TOP1, Objective
from ..spaces import Archs, SearchSpace
from ..spaces.space import require_space
from ..typing import BoolArray, FloatArray, Int64Array, IntArray
from .codes import codes_in, codes_reached, describe_code, equal_rows, feature_keys

# Below this a held-out fold holds a handful of rows and says nothing.
MINIMUM_ROWS = 20

# Measured again, an architecture differs by a tenth of a point; more than this is a mistake, unless
# the others differ as much: networks trained again and again differ by several points.
_CONTRADICTION = 0.01
_USUAL_RANGES = 6
_USUAL_AT_LEAST = 5

# Held-out order worse than this is no order to search by.
LEAST_KENDALL = 0.2


@dataclass(frozen=True, eq=False)
class Measured:
    """Measured values of an objective, one row per architecture.

    Attributes
    ----------
    space : SearchSpace
    archs : ndarray of uint8, shape (n, n_slots)
        Distinct, in the order in which they first came.
    top1, spread : ndarray of float64, shape (n,)
        Mean of what was measured, and its standard deviation; spread is 0 where it was once. Of the
        objective, whatever it is.
    count : ndarray of int64, shape (n,)
        How often it was measured.
    noise : float, optional
        Standard deviation of one measurement, pooled over all that were repeated; None where none
        was.
    repeats : int
        Measurements that repeat another.
    """

    space: SearchSpace
    archs: Archs
    top1: FloatArray
    spread: FloatArray
    count: Int64Array
    noise: float | None
    repeats: int
    objective: Objective = TOP1

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        archs: Archs,
        top1: npt.ArrayLike,
        objective: Objective = TOP1,
    ) -> Measured:
        """Check measurements, one clear message for each fault, and merge the repeated ones."""
        require_space(space)
        require_objective(objective)
        space.validate(archs)
        values = arguments.floats(
            top1,
            objective.column,
            (len(archs),),
            meaning=f"of shape ({len(archs)},): one number per architecture",
        )
        objective.check(values, objective.column)
        first, index = equal_rows(space, archs)
        count = np.bincount(index, minlength=len(first))
        # A mean of equal values may differ from them in the last bit.
        offset = values - values[first][index]
        mean = values[first] + np.bincount(index, offset, len(first)) / np.maximum(count, 1)
        squared = np.bincount(index, (values - mean[index]) ** 2, len(first))
        _refuse_contradictions(space, archs, values, index, count, objective)
        repeats = len(values) - len(first)
        variance = float(squared.sum()) / max(repeats, 1)
        return cls(
            space=space,
            archs=np.ascontiguousarray(archs[first]),
            top1=mean,
            spread=np.sqrt(squared / np.maximum(count - 1, 1)),
            count=count,
            # Equal values are one measurement, written down again.
            noise=float(np.sqrt(variance)) if repeats else None,
            repeats=repeats,
            objective=objective,
        )

    def __len__(self) -> int:
        return len(self.top1)

    @cached_property
    def network(self) -> Int64Array:
        """Rows with the same number compute the same, shape (n,)."""
        return _same_networks(self.space, self.archs)

    @cached_property
    def codes(self) -> BoolArray:
        """Which codes of which slots occur, as `codes_in`."""
        return codes_in(self.space, self.archs)

    def folds(self, folds: int, seed: int) -> IntArray:
        """Draw a fold for every row, the same for all that compute the same."""
        n_networks = int(self.network.max()) + 1
        fold: IntArray = np.random.default_rng(seed).permutation(n_networks) % folds
        return fold[self.network]

    def ranges(self, by: FloatArray, folds: int) -> IntArray:
        """Cut rows into ranges of equal size of these values, lowest first.

        Equal values, and rows that compute the same, stay together.
        """
        size = np.bincount(self.network)
        value = np.bincount(self.network, by) / size
        # Networks of the same value are one set; a mean may differ from it in its last bits.
        close = 1e-12 * max(float(np.abs(value).max(initial=0.0)), 1e-300)
        order = np.argsort(value, kind="stable")
        sets = np.concatenate([[0], np.cumsum(np.diff(value[order]) > close)])
        members = np.bincount(sets, size[order])
        before = np.cumsum(members) - members
        middle = before + members / 2
        of_set = np.minimum((middle * folds / len(by)).astype(np.intp), folds - 1)
        fold = np.empty(len(value), dtype=np.intp)
        fold[order] = of_set[sets]
        return fold[self.network]

    def require(self, members: int, what: str = "members") -> None:
        """Check that there is enough to learn from for this many folds."""
        n = len(self)
        if n < MINIMUM_ROWS:
            repeated = f" ({n + self.repeats} rows)" if self.repeats else ""
            raise InvalidInputError(
                f"{n} measured architectures{repeated} are too few to fit an accuracy model; "
                f"measure at least {MINIMUM_ROWS}, better a few hundred"
            )
        if np.ptp(self.top1) == 0:
            raise InvalidInputError(
                f"all {n} architectures have the same {self.objective.name} ({self.top1[0]}): "
                "there is nothing to learn; check that the supernet is trained and that its "
                "sub-networks are set"
            )
        n_networks = int(self.network.max()) + 1
        if not 2 <= members <= n_networks // 2:
            raise InvalidInputError(
                f"{what} should be from 2 to half the number of different networks, found "
                f"{members} for {n_networks}"
            )

    def weights(self, misfit: float) -> FloatArray:
        """Weigh rows by how well they are known, for a model that errs by `misfit`; mean 1.

        What was measured k times has the noise of one measurement over the root of k; what the
        model cannot express stays.
        """
        if not self.noise:
            return np.ones(len(self))
        variance = self.noise**2 / self.count
        rest = max(misfit**2 - float(variance.mean()), 0.1 * misfit**2)
        weight = 1 / (rest + variance)
        return np.asarray(weight / weight.mean())

    def facts(self) -> dict[str, Any]:
        """Return what a report says of the measurements."""
        facts: dict[str, Any] = {"rows": len(self)}
        if self.noise is not None:
            facts |= {
                "measurements": int(self.count.sum()),
                "repeats": self.repeats,
                "measurement_noise": self.noise,
            }
        return facts

    @property
    def _spread(self) -> str:
        """How much architectures differ, for a text."""
        return self.objective.number(float(self.top1.std()), 2)

    def doubts(self, kendall: float | None = None, error: float | None = None) -> list[str]:
        """Say what makes a model of these measurements worthless, each with its remedy.

        Parameters
        ----------
        kendall, error : float, optional
            Of held-out rows: rank correlation and root mean square error.
        """
        n = len(self)
        doubts = []
        if kendall is not None and kendall < LEAST_KENDALL:
            doubts.append(
                f"held-out Kendall is {kendall:.2f}: the model hardly orders networks that it has "
                f"not seen, so a search with it is hardly better than chance; measure more than "
                f"{n} architectures, with more images each, or train the supernet longer"
            )
        if error is not None and error >= self.top1.std() > 0:
            doubts.append(
                f"held-out predictions are {self.objective.size(error)} off, and the mean of all "
                f"rows only {self._spread}: the model knows less than the "
                f"mean; measure more than {n} architectures"
            )
        classes = getattr(self.space.network, "classes", None)
        judged = self.objective == TOP1 and n > 0
        if isinstance(classes, int) and judged and _at_chance(self.top1, 1 / classes):
            doubts.append(
                f"the measured networks have {100 * float(np.median(self.top1)):.2f} %, and "
                f"guessing one of {classes} classes gives {100 / classes:.2f} %: train the "
                "supernet first, and check that images and labels belong together"
            )
        if self.noise is not None and n > 1 and self.noise >= self.top1.std():
            doubts.append(
                f"one measurement is {self.objective.size(self.noise)} uncertain, and "
                f"architectures differ by {self._spread}: most of what is measured is noise; "
                "measure with more images, or each architecture more often"
            )
        return doubts

    def unseen(self) -> list[str]:
        """Say which codes of the space no row has, as `doubts` does."""
        open_codes = np.flatnonzero(codes_reached(self.space) & ~self.codes)
        if len(open_codes) == 0:
            return []
        more = f" and {len(open_codes) - 1} more" if len(open_codes) > 1 else ""
        return [
            f"no measured architecture has {describe_code(self.space, int(open_codes[0]))}{more}: "
            f"networks with it are refused, and so are searches of '{self.space.name}'; measure "
            "those of pf.accuracy.covering(space, archs) as well"
        ]


def require_objective(objective: object) -> None:
    """Refuse what is no objective."""
    if not isinstance(objective, Objective):
        raise InvalidTypeError(
            "objective should be a pnag_fast.accuracy.Objective, found "
            f"{arguments.shown(objective)}"
        )


def _at_chance(top1: FloatArray, chance: float) -> bool:
    """Whether accuracies are those of guessing, but for the luck of some hundred images."""
    middle, best = float(np.median(top1)), float(top1.max())
    return middle <= min(1.5 * chance, chance + 0.05) and best <= min(3 * chance, chance + 0.15)


def _refuse_contradictions(
    space: SearchSpace,
    archs: Archs,
    values: FloatArray,
    index: Int64Array,
    count: Int64Array,
    objective: Objective,
) -> None:
    """Refuse one architecture with two values that cannot both be right."""
    order = np.lexsort((values, index))
    ends = np.cumsum(count)
    low, high = order[ends - count], order[ends - 1]
    apart = values[high] - values[low]
    limit = _CONTRADICTION if objective.is_fraction else float(values.std())
    if not (apart > limit).any():
        return
    again = count > 1
    if again.sum() >= _USUAL_AT_LEAST:
        limit = max(limit, _USUAL_RANGES * float(np.median(apart[again])))
    worst = int(apart.argmax())
    if apart[worst] <= limit:
        return
    a, b = sorted((int(low[worst]), int(high[worst])))
    raise InvalidInputError(
        f"rows {a} and {b} are the same architecture, "
        f"{space.to_strings(np.ascontiguousarray(archs[a : a + 1]))[0]}, with "
        f"{objective.name} {values[a]} and {values[b]}, {objective.size(apart[worst])} apart, "
        f"where repeated measurements may differ by {objective.number(limit, 2)}; keep the one "
        "that is right"
    )


def _same_networks(space: SearchSpace, archs: Archs) -> Int64Array:
    """Count off the networks behind distinct rows, in the order in which they first come."""
    if space.features is None or len(archs) == 0:
        return np.arange(len(archs), dtype=np.int64)
    # Cells may be written differently and compute the same: their features are equal.
    keys = feature_keys(space.features(archs))
    _, first, same = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return np.asarray(rank[same.reshape(-1)])
