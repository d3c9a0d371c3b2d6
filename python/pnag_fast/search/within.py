"""Bounds that a whole search keeps to: checked before anything is asked, kept by what it returns.

Costs are known without a question, so whether an architecture is within its bounds is as well.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from .. import costs as cost_tables
from ..budgets import not_together
from ..errors import BudgetInfeasibleError, InvalidInputError
from ..spaces import Archs
from ..typing import FloatArray
from .problem import Problem
from .result import Front


def one_vector(problem: Problem, budgets: FloatArray) -> FloatArray:
    """Return upper bounds on the costs of a problem, shape (n_tables,), which can be met each.

    Parameters
    ----------
    budgets : ndarray of float64, shape (), (n_tables,) or (1, n_tables)

    Raises
    ------
    BudgetInfeasibleError
        If a bound is below the cheapest architecture.
    InvalidInputError
        If it is not one vector, or a bound is no positive number.
    """
    rows = budgets.reshape(1, -1) if budgets.ndim < 2 else budgets
    if len(rows) != 1:
        raise InvalidInputError(
            "budgets should be one vector of bounds, one for each cost, found "
            f"{len(rows)} vectors; search once for each"
        )
    return np.asarray(problem.budgets(rows)[0])


def met_by(problem: Problem, bounds: FloatArray) -> Archs:
    """Architectures within bounds: the cheapest by each cost, found from the tables alone.

    Parameters
    ----------
    bounds : ndarray of float64, shape (n_tables,)

    Returns
    -------
    ndarray of uint8, shape (n, n_slots)
        Each once; none where tables are cautious and nothing is known to be within.

    Raises
    ------
    BudgetInfeasibleError
        If nothing meets the bounds together; says what does.
    """
    stack = problem.stack
    found = [cost_tables.least(stack, bounds, column) for column in range(len(bounds))]
    met = [
        least.arch
        for column, least in enumerate(found)
        if least.arch is not None and least.cost <= bounds[column]
    ]
    if not met and any(least.exact for least in found):
        raise BudgetInfeasibleError(not_together(stack, bounds))
    return np.unique(np.array(met, dtype=np.uint8).reshape(-1, stack.space.n_slots), axis=0)


def only_within(front: Front, bounds: FloatArray) -> Front:
    """Return the members within bounds: the front of everything that is.

    Nothing beyond a bound dominates what is within, so none was lost to the others.

    Raises
    ------
    BudgetInfeasibleError
        If there is no such member.
    """
    rows = np.flatnonzero((front.costs <= bounds).all(axis=1))
    if len(rows) == 0:
        tables = ", ".join(
            f"{bound:g} {table.unit}" for bound, table in zip(bounds, front.tables, strict=True)
        )
        raise BudgetInfeasibleError(
            f"no architecture that was asked about has a value and is within {tables}: allow more "
            "of one of the costs, or more evaluations"
        )
    return dataclasses.replace(
        front,
        archs=np.ascontiguousarray(front.archs[rows]),
        top1=front.top1[rows],
        costs=front.costs[rows],
    )
