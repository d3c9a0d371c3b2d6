"""The least that one cost can be while others keep their bounds: what an infeasible vector needs.

Costs are sums over slots, or maxima, so partial architectures can be compared: of two that end
alike, one that costs no more by every table serves as well. Stage by stage the undominated ones
are kept (labels, as in the shortest path with resources: Irnich and Desaulniers 2005) that the rest
of the network can still bring within the bounds. The answer is exact, unless there are too many.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import arguments, pareto
from ..errors import InvalidInputError
from ..spaces import Archs, SearchSpace
from ..typing import BoolArray, FloatArray, IntArray
from .table import CostStack

# Partial architectures held at once; beyond these the least found is not proven to be the least.
_LABELS = 20_000


@dataclass(frozen=True, eq=False)
class Least:
    """An architecture of the least cost within the other bounds.

    Attributes
    ----------
    arch : ndarray of uint8, shape (n_slots,), or None
        None where the other bounds cannot be kept, or no architecture was found that keeps them.
    cost : float
        Infinite without an architecture.
    exact : bool
        Whether nothing less is possible.
    """

    arch: Archs | None
    cost: float
    exact: bool


def least(stack: CostStack, budget: FloatArray, column: int) -> Least:
    """Find the least cost by one table within the bounds on all others.

    Parameters
    ----------
    stack : CostStack
    budget : ndarray of float64, shape (n_tables,)
        Upper bounds; that of `column` is not kept.
    column : int
        From 0.

    Returns
    -------
    Least
        Exact where all tables are sums or maxima. Of cautious tables the means decide which
        architectures are looked at, and the upper bounds which of them count.

    Raises
    ------
    InvalidInputError
        If there is not one bound for each table, one is NaN, or there is no such column.
    """
    n = len(stack.tables)
    column = arguments.integer(column, "column", 0, n - 1)
    limits = np.array(arguments.floats(budget, "budget", (n,), meaning=f"({n},): one per table"))
    if np.isnan(limits).any():
        raise InvalidInputError("budget should be numbers, found NaN; inf leaves a cost open")
    limits[column] = np.inf
    found = Least(None, np.inf, True)
    cautious = any(table.caution for table in stack.tables)
    for context in range(len(stack.tables[0].constants)):
        archs, whole = _labels(stack, limits, column, context)
        if len(archs):
            costs = stack(archs, threads=1)
            value = np.where((costs <= limits).all(axis=1), costs[:, column], np.inf)
            best = int(value.argmin())
            if value[best] < found.cost:
                found = Least(archs[best], float(value[best]), found.exact)
        found = Least(found.arch, found.cost, found.exact and whole and not cautious)
    return found


def _labels(stack: CostStack, limits: FloatArray, column: int, context: int) -> tuple[Archs, bool]:
    """Undominated architectures within the bounds or a rounding above, and whether they are all."""
    space, tables = stack.space, [table.mean for table in stack.tables]
    entries = np.stack([np.nan_to_num(table.entries[context]) for table in tables], axis=-1)
    partial = _Partial(
        np.array([table.constants[context] for table in tables])[None],
        np.zeros((1, space.n_slots), dtype=np.uint8),
        np.array([table.reduce == "max" for table in tables]),
    )
    rests = _rests(space, entries, partial.largest, context)
    # A rounding apart, so that what meets a bound exactly stays.
    limits = limits + 1e-9 * np.abs(np.where(np.isfinite(limits), limits, 0.0))
    whole, first = True, 0
    for number, stage in enumerate(space.stages):
        rest = rests[number + 1]
        if first == space.resolution_slot:
            partial = partial.extended(first, context + 1, entries[first, context + 1])
        elif stage.rows is not None:
            slots = np.arange(first, first + len(stage.slots))
            partial = _union(
                [partial.row(slots, np.array(row, dtype=np.uint8), entries) for row in stage.rows]
            )
            partial, cut = partial.pruned(limits, rest, column)
            whole = whole and not cut
        else:
            ended: list[_Partial] = []
            for i in range(len(stage.slots)):
                slot = first + i
                if i >= stage.min_depth:
                    absent = np.zeros(len(stage.slots) - i, dtype=np.uint8)
                    ended.append(
                        partial.row(np.arange(slot, first + len(stage.slots)), absent, entries)
                    )
                codes = range(1, space.n_codes[slot])
                partial = _union([partial.extended(slot, c, entries[slot, c]) for c in codes])
                partial, cut = partial.pruned(
                    limits,
                    _inside(space, entries, partial.largest, first, i + 1, number, rest),
                    column,
                )
                whole = whole and not cut
            partial, cut = _union([*ended, partial]).pruned(limits, rest, column)
            whole = whole and not cut
        first += len(stage.slots)
    return partial.archs, whole


class _Partial:
    """Architectures up to some slot: costs, shape (n, n_tables), and codes, (n, n_slots)."""

    def __init__(self, costs: FloatArray, archs: Archs, largest: BoolArray) -> None:
        self.costs, self.archs, self.largest = costs, archs, largest

    def where(self, rows: BoolArray | IntArray) -> _Partial:
        return _Partial(self.costs[rows], np.ascontiguousarray(self.archs[rows]), self.largest)

    def extended(self, slot: int, code: int, cost: FloatArray) -> _Partial:
        archs = self.archs.copy()
        archs[:, slot] = code
        return _Partial(_joined(self.costs, cost, self.largest), archs, self.largest)

    def row(self, slots: IntArray, codes: Archs, entries: FloatArray) -> _Partial:
        costs, archs = self.costs, self.archs.copy()
        archs[:, slots] = codes
        for slot, code in zip(slots.tolist(), codes.tolist(), strict=True):
            costs = _joined(costs, entries[slot, code], self.largest)
        return _Partial(costs, archs, self.largest)

    def pruned(self, limits: FloatArray, rest: FloatArray, column: int) -> tuple[_Partial, bool]:
        """Drop what cannot be brought within the bounds, and what is dominated."""
        able = np.asarray((_joined(self.costs, rest, self.largest) <= limits).all(axis=1))
        left = self.where(able)
        if len(left.costs) == 0:
            return left, False
        # Costs without a bound decide nothing, but the one that is to be small.
        counts = np.isfinite(limits)
        counts[column] = True
        values = np.ascontiguousarray(left.costs[:, counts])
        _, first = np.unique(values, axis=0, return_index=True)
        left = left.where(np.sort(first))
        values = np.ascontiguousarray(left.costs[:, counts])
        left = left.where(pareto.is_non_dominated(values, threads=1))
        if len(left.costs) <= _LABELS:
            return left, False
        # The cheapest, relative to the bounds.
        scale = np.where(np.isfinite(limits), limits, left.costs.mean(axis=0))
        order = np.argsort((left.costs / scale)[:, counts].max(axis=1), kind="stable")
        return left.where(order[:_LABELS]), True


def _joined(costs: FloatArray, more: FloatArray, largest: BoolArray) -> FloatArray:
    return np.where(largest, np.maximum(costs, more), costs + more)


def _union(parts: list[_Partial]) -> _Partial:
    return _Partial(
        np.concatenate([part.costs for part in parts]),
        np.concatenate([part.archs for part in parts]),
        parts[0].largest,
    )


def _nothing(largest: BoolArray) -> FloatArray:
    """Cost of no slots at all."""
    return np.where(largest, -np.inf, 0.0)


def _rests(
    space: SearchSpace, entries: FloatArray, largest: BoolArray, context: int
) -> list[FloatArray]:
    """Least cost by each table of the stages from each one on, shape (n_tables,) each."""
    rests = [_nothing(largest)]
    first = space.n_slots
    for number in range(len(space.stages) - 1, -1, -1):
        stage = space.stages[number]
        first -= len(stage.slots)
        if first == space.resolution_slot:
            rests.insert(0, _joined(rests[0], entries[first, context + 1], largest))
        elif stage.rows is not None:
            rows = np.array(stage.rows)
            costs = entries[np.arange(first, first + len(stage.slots)), rows]
            costs = np.where(largest, costs.max(axis=1), costs.sum(axis=1))
            rests.insert(0, _joined(rests[0], costs.min(axis=0), largest))
        else:
            rests.insert(0, _inside(space, entries, largest, first, 0, number, rests[0]))
    return rests


def _inside(
    space: SearchSpace,
    entries: FloatArray,
    largest: BoolArray,
    first: int,
    depth: int,
    number: int,
    rest: FloatArray,
) -> FloatArray:
    """Least cost by each table of what follows the first `depth` slots of a plain stage."""
    stage = space.stages[number]
    absent = _nothing(largest)
    following = _nothing(largest)
    for i in range(len(stage.slots) - 1, depth - 1, -1):
        slot = first + i
        absent = _joined(absent, entries[slot, 0], largest)
        present = entries[slot, 1 : space.n_codes[slot]].min(axis=0)
        following = _joined(following, present, largest)
        if i >= stage.min_depth:
            following = np.minimum(following, absent)
    return _joined(following, rest, largest)
