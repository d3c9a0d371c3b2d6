"""Budgets: upper bounds on costs, checked before anything is searched or generated."""

from __future__ import annotations

import decimal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from . import arguments
from .costs import CostStack, CostTable, least
from .errors import BudgetInfeasibleError, InvalidInputError, InvalidTypeError
from .typing import FloatArray

OnInfeasible = Literal["raise", "mark"]

# A budget this far out of range is taken for one in another unit.
_WRONG_UNIT = 100.0
# Digits of a printed range; more where both ends would meet.
_DIGITS = (4, 6, 9, 17)


@dataclass(frozen=True, eq=False)
class Budgets:
    """Checked budgets, one row each.

    Attributes
    ----------
    asked : ndarray of float64, shape (b, n_tables)
        As given; infinite where a cost is left open.
    upper : ndarray of float64, shape (b, n_tables)
        The same, at most the cost of the dearest architecture: finite, and as strict.
    problems : tuple of str
        Why no architecture meets a budget, one text a row; empty where some may.
    notes : tuple of str
        What to know about an answer, one text a row; usually empty.
    """

    asked: FloatArray
    upper: FloatArray
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def check_budgets(
    budgets: npt.ArrayLike, tables: Sequence[CostTable], *, on_infeasible: OnInfeasible = "raise"
) -> Budgets:
    """Check budgets against the range of their tables.

    Parameters
    ----------
    budgets : array of float, shape (), (b,) or (b, len(tables))
        In the units of the tables; a scalar or ``(b,)`` with one table only. ``inf``, like any
        budget above the dearest architecture, leaves a cost open.
    on_infeasible : {"raise", "mark"}
        Whether a budget below the cheapest architecture is an error, or a problem of its row.

    Raises
    ------
    BudgetInfeasibleError
        If a budget is below the cheapest architecture of its table, unless these are marked.
    InvalidInputError
        If a budget is no positive number.
    """
    arguments.one_of(on_infeasible, "on_infeasible", ("raise", "mark"))
    n_tables = len(tables)
    asked = as_budgets(budgets)
    if asked.ndim < 2 and n_tables == 1:
        asked = asked.reshape(-1, 1)
    if asked.ndim != 2 or asked.shape[1] != n_tables:
        raise InvalidInputError(
            f"budgets should have shape (b, {n_tables}), one column for each of "
            f"{', '.join(table.describe() for table in tables)}; found {np.shape(budgets)}"
        )
    problems, notes = [""] * len(asked), [""] * len(asked)
    upper = asked.copy()
    for column, table in enumerate(tables):
        low, high = table.bounds
        values = asked[:, column]
        for row in np.flatnonzero(~(values > 0)).tolist():
            raise InvalidInputError(
                f"budget {values[row]} is not a positive number; give an upper bound in "
                f"{table.unit}, or inf to leave it open; reachable: {reach(table)}"
            )
        for row in np.flatnonzero(values < low).tolist():
            problem = _too_small(float(values[row]), table)
            if on_infeasible == "raise":
                raise BudgetInfeasibleError(problem)
            problems[row] = problems[row] or problem
        np.minimum(values, high, out=upper[:, column])
        # Whoever asks for the largest cost as it was printed somewhere needs no lesson.
        for row in np.flatnonzero((values > high * (1 + 1e-3)) & np.isfinite(values)).tolist():
            note = _too_large(float(values[row]), table)
            notes[row] = f"{notes[row]}; {note}" if notes[row] else note
    return Budgets(asked, upper, tuple(problems), tuple(notes))


def as_budgets(budgets: npt.ArrayLike) -> FloatArray:
    """Return a copy of budgets as numbers, in the shape they came in.

    Raises
    ------
    InvalidInputError
        If they are none.
    """
    try:
        return np.array(arguments.floats(budgets, "budgets"))
    except (InvalidInputError, InvalidTypeError) as error:
        raise InvalidInputError(f"budgets should be numbers: {error}") from error


def reach(table: CostTable) -> str:
    """Print the costs that a table reaches, rounded inwards: both ends can be typed back."""
    low, high = table.bounds
    for digits in _DIGITS:
        first = rounded(low, digits, decimal.ROUND_CEILING)
        last = rounded(high, digits, decimal.ROUND_FLOOR)
        if first <= last:
            break
    return f"{first:.{digits}g} to {last:.{digits}g} {table.unit}"


def not_together(stack: CostStack, budget: FloatArray) -> str:
    """Say that bounds which can be met each alone cannot be met together, and what can.

    Parameters
    ----------
    stack : CostStack
    budget : ndarray of float64, shape (n_tables,)
    """
    tables = stack.tables
    bounded = np.flatnonzero(np.isfinite(budget)).tolist()
    asked = [f"{budget[column]:g} {tables[column].unit}" for column in bounded]
    nearest, exact = [], True
    for column in bounded:
        found = least(stack, budget, column)
        exact = exact and found.exact
        if np.isfinite(found.cost):
            # Upwards: what is printed can be typed back.
            value = rounded(found.cost, _DIGITS[0], decimal.ROUND_CEILING)
            nearest.append(f"{value:.{_DIGITS[0]}g} {tables[column].unit}")
    none = "no architecture" if exact else "no known architecture"
    remedy = "no part alone can give way far enough, so allow more of several"
    if nearest:
        remedy = f"nearest, with the other parts as they are: {' or '.join(nearest)}"
    return (
        f"{none} of '{stack.space.name}' meets budget {', '.join(asked)}: each part alone is "
        f"reachable, together they are not; {remedy}; reachable alone: "
        f"{', '.join(map(reach, tables))}"
    )


def rounded(value: float, digits: int, rounding: str) -> float:
    """Round to significant digits, as `decimal` does by its name for the direction."""
    return float(decimal.Context(digits, rounding).create_decimal_from_float(value))


def _too_small(value: float, table: CostTable) -> str:
    low = table.bounds[0]
    in_unit = f"is it in {table.unit}? " if value * _WRONG_UNIT < low else ""
    cheapest = rounded(low, _DIGITS[0], decimal.ROUND_CEILING)
    bound = f", its mean and {table.caution:.3g} standard deviations" if table.caution else ""
    return (
        f"budget {value:g} {table.unit} is below the cheapest architecture of "
        f"'{table.space.name}' on '{table.device}' ({cheapest:.{_DIGITS[0]}g} {table.unit}"
        f"{bound}); {in_unit}reachable: {reach(table)}"
    )


def _too_large(value: float, table: CostTable) -> str:
    in_unit = f", is it in {table.unit}?" if value > _WRONG_UNIT * table.bounds[1] else ""
    return (
        f"{value:g} {table.unit} is above the dearest architecture{in_unit} "
        f"(reachable: {reach(table)}): nothing is ruled out"
    )
