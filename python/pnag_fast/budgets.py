"""Budgets: upper bounds on costs, checked before anything is searched or generated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .costs import CostTable
from .errors import BudgetInfeasibleError, InvalidInputError

FloatArray = npt.NDArray[np.float64]

# A budget this far out of range is taken for one in another unit.
_WRONG_UNIT = 100.0


def check_budgets(budgets: npt.ArrayLike, tables: Sequence[CostTable]) -> FloatArray:
    """Return budgets as an array of shape (b, len(tables)).

    Parameters
    ----------
    budgets : array of float, shape (), (b,) or (b, len(tables))
        In the units of the tables; a scalar or ``(b,)`` with one table only.

    Raises
    ------
    BudgetInfeasibleError
        If a budget is below the cheapest architecture of its table.
    InvalidInputError
        If a budget is not a positive number, or above the dearest architecture.
    """
    n_tables = len(tables)
    try:
        wanted = np.array(budgets, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"budgets should be numbers, found {budgets!r}") from error
    if wanted.ndim < 2 and n_tables == 1:
        wanted = wanted.reshape(-1, 1)
    if wanted.ndim != 2 or wanted.shape[1] != n_tables:
        raise InvalidInputError(
            f"budgets should have shape (b, {n_tables}), one column for each of "
            f"{', '.join(table.describe() for table in tables)}; found {np.shape(budgets)}"
        )
    for column, table in enumerate(tables):
        low, high = table.bounds
        for value in wanted[:, column].tolist():
            _check_budget(value, low, high, table)
    return wanted


def _check_budget(value: float, low: float, high: float, table: CostTable) -> None:
    """Refuse a budget that is no positive number, or outside the reach of the space."""
    unit = table.unit
    if not np.isfinite(value) or value <= 0:
        raise InvalidInputError(
            f"budget {value} is not a positive number; give an upper bound in {unit}, "
            f"reachable: {low:.4g} to {high:.4g}"
        )
    in_unit = f"is it in {unit}? " if not low / _WRONG_UNIT <= value <= high * _WRONG_UNIT else ""
    if value < low:
        raise BudgetInfeasibleError(
            f"budget {value:g} {unit} is below the cheapest architecture of '{table.space.name}' "
            f"on '{table.device}' ({low:.4g} {unit}); {in_unit}reachable: {low:.4g} to {high:.4g} "
            f"{unit}"
        )
    # One unit in the last printed digit: whoever asks for the printed maximum gets it.
    if value > high * (1 + 1e-3):
        raise InvalidInputError(
            f"budget {value:g} {unit} is above the dearest architecture of '{table.space.name}' "
            f"on '{table.device}' ({high:.4g} {unit}); {in_unit}reachable: {low:.4g} to {high:.4g} "
            f"{unit}"
        )
