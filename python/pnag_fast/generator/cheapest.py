"""The other question to a front: not how good within a budget, but how cheap for a quality."""

from __future__ import annotations

import decimal
from typing import TYPE_CHECKING

import numpy as np

from ..accuracy import AccuracyModel
from ..budgets import Budgets, not_together, rounded
from ..errors import BudgetInfeasibleError
from ..spaces import Archs
from ..typing import FloatArray
from .answers import Generated

if TYPE_CHECKING:
    from .generator import Generator

# Budgets that are searched within, as shares of the cost of the cheapest that is known.
_LADDER = (0.995, 0.99, 0.98, 0.97, 0.96, 0.95, 0.93, 0.9)


def cheapest(
    view: Generator, model: AccuracyModel, quality: FloatArray, bounds: Budgets, *, mark: bool
) -> Generated:
    """Return the cheapest architecture by the first table that is good enough, for each row.

    The cheapest of the archive, and from there to cheaper architectures one decision away for as
    long as one of these is good enough. No archive covers all vectors of bounds: where another cost
    is bounded and nothing known is good enough, a search within the bounds looks for something that
    is, and searches within slightly smaller budgets for something cheaper.

    Parameters
    ----------
    view : Generator
        For one device.
    model : AccuracyModel
        What has to reach the quality: the generator's, or its bound.
    quality : ndarray of float64, shape (b,)
    bounds : Budgets
        Of b rows.
    mark : bool
        Whether a quality that nothing reaches is a row without an answer.
    """
    merit = model.objective.merit
    wanted = merit(quality)
    known = view.archive
    of_known = merit(known.top1 if model is view.model else model.predict(known.archs))
    n = len(quality)
    archs = np.zeros((n, view.space.n_slots), dtype=np.uint8)
    source, notes = ["infeasible"] * n, list(bounds.problems)
    for row in range(n):
        if notes[row]:
            continue
        upper = bounds.upper[row]
        limited = not view.exact and bool((upper[1:] < view.stack.bounds[1:, 1]).any())
        within = (known.costs <= upper).all(axis=1)
        near, of_near, from_search = known.archs[within], of_known[within], False
        if limited and not (of_near >= wanted[row]).any():
            found, from_search = _within(view, upper), True
            near = np.concatenate([near, found])
            of_near = np.concatenate([of_near, merit(model.predict(found))])
        good = near[of_near >= wanted[row]]
        if not len(good):
            notes[row] = (
                _unreachable(view, model, of_near.max(), quality[row], upper)
                if len(near)
                else not_together(view.stack, bounds.asked[row])
            )
            if not mark:
                raise BudgetInfeasibleError(notes[row])
            continue
        first = good[view.stack(good)[:, 0].argmin()]
        archs[row], moved = _descend(view, model, first, wanted[row], upper)
        source[row] = "archive+neighbours" if moved else "archive"
        cheaper = _searched(view, model, archs[row], wanted[row], upper) if limited else None
        if cheaper is not None:
            archs[row] = cheaper
        if cheaper is not None or from_search:
            source[row] = "search"
        notes[row] = bounds.notes[row]
    answered = np.array([of != "infeasible" for of in source], dtype=np.bool_)
    top1, std, gap = np.full((3, n), np.nan)
    costs, costs_std = np.full((2, n, len(view.tables)), np.nan)
    if answered.any():
        top1[answered], std[answered] = view.model.predict(archs[answered], return_std=True)
    for column, table in enumerate(view.tables):
        costs[answered, column], costs_std[answered, column] = table.mean(
            archs[answered], return_std=True
        )
    best = known.best(view.stack(archs[answered]))
    ahead = merit(known.top1[best]) - merit(top1[answered])
    gap[answered] = np.where(best >= 0, ahead, np.nan)
    return Generated(
        bounds.asked,
        archs,
        top1,
        std,
        costs,
        costs_std,
        tuple(source),
        gap,
        tuple(notes),
        (view.tables[0].device,) * n,
        view.model.objective,
    )


def _within(view: Generator, upper: FloatArray) -> Archs:
    """Return the best network within bounds as a budget is answered, or none, shape (0 or 1, n)."""
    found, merit, _ = view.search(
        upper[None], n_candidates=view.policy.n_candidates, neighbour_steps=0, evaluations=None,
        seed=0,
    )  # fmt: skip
    return found[np.isfinite(merit)]


def _descend(
    view: Generator, model: AccuracyModel, arch: Archs, wanted: float, upper: FloatArray
) -> tuple[Archs, bool]:
    """Move to the cheapest good neighbour while there is a cheaper one."""
    cost, moved = float(view.stack(arch[None])[0, 0]), False
    while True:
        around = view.space.neighbors(arch)
        costs = view.stack(around)
        around = around[(costs[:, 0] < cost) & (costs <= upper).all(axis=1)]
        if len(around):
            around = around[model.objective.merit(model.predict(around)) >= wanted]
        if not len(around):
            return arch, moved
        costs = view.stack(around)[:, 0]
        arch, cost, moved = around[costs.argmin()], float(costs.min()), True


def _searched(
    view: Generator, model: AccuracyModel, arch: Archs, wanted: float, upper: FloatArray
) -> Archs | None:
    """Search below the cost of an architecture for one as good within the other bounds."""
    cost = view.stack(arch[None])[0, 0]
    rungs = np.tile(upper, (len(_LADDER), 1))
    rungs[:, 0] = np.minimum(upper[0], cost * np.array(_LADDER))
    rungs = rungs[rungs[:, 0] >= view.stack.bounds[0, 0]]
    found, merit, _ = view.search(
        rungs, n_candidates=view.policy.n_candidates, neighbour_steps=0, evaluations=None, seed=0
    )
    found = found[np.isfinite(merit)]
    if len(found):
        found = found[model.objective.merit(model.predict(found)) >= wanted]
    if not len(found):
        return None
    return _descend(view, model, found[view.stack(found)[:, 0].argmin()], wanted, upper)[0]


def _unreachable(
    view: Generator,
    model: AccuracyModel,
    merit: float,
    quality: float,
    upper: FloatArray,
) -> str:
    """Say what is reached, with the best merit that is known, where too much was asked for."""
    objective = model.objective
    bound = "" if model is view.model else " with this confidence"
    asked = f"no network known to this generator reaches {objective.name} "
    asked += f"{objective.text(float(quality), 2)}{bound}"
    limits = upper < view.stack.bounds[:, 1]
    if limits.any():
        asked += " within the other bounds"
    best = float(objective.merit(np.array([merit]))[0])
    # What is printed, a fraction in percent with two decimals, can be asked for.
    worse = decimal.ROUND_FLOOR if objective.direction == "max" else decimal.ROUND_CEILING
    if objective.is_fraction:
        best = float(decimal.Decimal(best).quantize(decimal.Decimal("0.0001"), worse))
    else:
        best = rounded(best, 4, worse)
    end = "at most" if objective.direction == "max" else "no less than"
    return f"{asked}; ask for {end} {objective.text(best, 2)}"
