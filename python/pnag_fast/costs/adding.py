"""Costs that are sums of others: the energy of two chips, a network and what prepares its input."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import InvalidInputError
from .posterior import Posterior
from .table import CostTable, stack


def add(tables: Sequence[CostTable], *, device: str | None = None) -> CostTable:
    """Return the table of the sum of several costs.

    Parameters
    ----------
    tables : sequence of CostTable
        Of one metric in one unit, over one space.
    device : str, optional
        Name to record; default: those of the tables, joined.

    Returns
    -------
    CostTable
        What each table does not know of itself is taken to be independent of the others; the part
        that no sum over slots describes is at most the largest share among them.

    Raises
    ------
    InvalidInputError
        If there is no table, metrics, units or spaces differ, or one takes the largest entry.

    Examples
    --------
    >>> import pnag_fast as pf
    >>> macs = pf.costs.macs(pf.spaces.get("nasbench201"))
    >>> add([macs, macs], device="both").bounds == tuple(2 * bound for bound in macs.bounds)
    True
    """
    tables = stack(tables).tables
    first = tables[0]
    for table in tables:
        if (table.metric, table.unit) != (first.metric, first.unit):
            raise InvalidInputError(
                f"only costs of one metric and unit can be added, found {first.describe()} and "
                f"{table.describe()}"
            )
        if table.reduce != "sum":
            raise InvalidInputError(
                f"the {table.metric} of '{table.device}' is the largest of its entries, and "
                "largest entries of several tables do not add up"
            )
    uncertain = [table.posterior for table in tables if table.posterior is not None]
    posterior = None
    if uncertain:
        posterior = Posterior(
            np.hstack([part.root for part in uncertain]),
            max(part.misfit for part in uncertain),
            math.hypot(*(part.floor for part in uncertain)),
        )
    total = CostTable.build(
        first.space,
        metric=first.metric,
        unit=first.unit,
        device=device or " + ".join(dict.fromkeys(table.device for table in tables)),
        constants=np.sum([table.constants for table in tables], axis=0),
        entries=np.sum([table.entries for table in tables], axis=0),
        provenance={
            "source": "sum of tables",
            "tables": [{"device": table.device, **_short(table)} for table in tables],
            "warnings": [text for table in tables for text in table.warnings],
        },
        # Each is determined over this space; over what others, only itself knows.
        domain=None if all(table.domain is None for table in tables) else first.space,
        posterior=posterior,
    )
    return total.cautious(max(table.caution for table in tables))


def _short(table: CostTable) -> dict[str, object]:
    return {key: table.provenance[key] for key in ("source", "networks") if key in table.provenance}
