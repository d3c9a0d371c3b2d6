"""Several devices: which tables are theirs, and the searches that fill the bank for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import arguments, search
from ..accuracy import AccuracyModel
from ..costs import CostTable
from ..errors import InvalidInputError, InvalidTypeError
from ..progress import ProgressCallback, ignore_progress
from ..runs import Run
from ..search import Front, Problem
from .bank import Bank

# Standard deviations above the mean for which a front is searched beside that of the means, where a
# table knows how far it may be wrong: a bound that holds with 95 %. What answers any confidence is
# non-dominated by one of both, or nearly.
CAUTION = 1.645


def check_devices(tables: Sequence[CostTable], *, unique: bool = True) -> None:
    """Refuse tables that are not those of several devices.

    Raises
    ------
    InvalidInputError
        If metrics or units differ, or, with `unique`, two devices have one name.
    """
    if not isinstance(tables, (list, tuple)) or not all(
        isinstance(table, CostTable) for table in tables
    ):
        raise InvalidTypeError(
            "devices should be a list of cost tables, one for each device, found "
            f"{arguments.shown(tables)}"
        )
    if not tables:
        raise InvalidInputError("devices should hold at least one cost table, found none")
    for table in tables:
        if (table.metric, table.unit) != (tables[0].metric, tables[0].unit):
            raise InvalidInputError(
                "tables of several devices should be of one metric in one unit: found "
                f"{tables[0].describe()} and {table.describe()}"
            )
    names = [table.device for table in tables]
    if unique and len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise InvalidInputError(f"two tables are of the same device, {arguments.shown(twice)}")


def searched(
    bank: Bank,
    model: AccuracyModel,
    tables: Sequence[CostTable],
    source: Front,
    *,
    evaluations: int,
    seed: int,
    time_limit_s: float | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Bank:
    """Return the bank with what a search for these tables finds that starts from it.

    Where a table knows how far it may be wrong, half of the questions are for upper bounds.

    Parameters
    ----------
    evaluations : int
        Questions in all.
    time_limit_s : float, optional
        In all.
    """
    views = [tables]
    cautious = [table.cautious(CAUTION) for table in tables]
    if any(a is not b for a, b in zip(cautious, tables, strict=True)):
        views.append(cautious)
    for view in views:
        found = search.front(
            tables[0].space,
            model,
            list(view),
            seed=seed,
            evaluations=max(1, evaluations // len(views)),
            time_limit_s=None if time_limit_s is None else time_limit_s / len(views),
            start=bank.front(model, view, source).archs,
            progress=progress,
        )
        bank = Bank.of([bank, found])
    return bank


def fill(
    problem: Problem,
    model: AccuracyModel,
    archive: Front,
    devices: Sequence[CostTable],
    run: Run,
) -> tuple[Bank | None, dict[str, Any]]:
    """Search for what a generator should know beside its archive.

    Parameters
    ----------
    problem : Problem
        What the archive was searched for: with devices, of the first.
    model : AccuracyModel
    archive : Front
    devices : sequence of CostTable
        Empty for one device.
    run : Run
        Its checkpoint is open.

    Returns
    -------
    bank : Bank or None
        None where nothing was to be searched for: one device, all tables exact.
    record : dict
        What was searched for, JSON.
    """
    others = [(table, *problem.tables[1:]) for table in devices[1:]]
    exact = all(table.posterior is None for table in problem.tables)
    if not others and exact:
        return None, {}
    bank, kept = Bank.of([archive]), run.open(dict)
    state = kept.restore("bank")
    if state is not None:
        archs = state.take_archs("archs", problem.space)
        bank = Bank(archs, state.take("top1", np.float64, (len(archs),)))
    targets = [problem.tables, *others] if not exact else others
    for step in range(0 if state is None else state.check_step(len(targets)), len(targets)):
        bank = searched(
            bank,
            model,
            targets[step],
            archive,
            evaluations=problem.limit,
            seed=run.seed,
            progress=run.progress,
        )
        kept.keep("bank", step + 1, bank.arrays, last=True)
    return bank, {"devices": [table.device for table in devices], "bank": len(bank)}
