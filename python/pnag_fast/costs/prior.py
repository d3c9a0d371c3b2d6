"""What tables of other devices say of one that is not known yet."""

from __future__ import annotations

from collections.abc import Sequence

from ..spaces import SearchSpace
from .features import weights
from .structure import Component
from .table import CostTable


def of_tables(space: SearchSpace, tables: Sequence[CostTable]) -> list[Component]:
    """Return a component for each table: so much of it, whatever its unit."""
    found = []
    for table in tables:
        known = table.for_space(space)
        column = weights(space, known.constants, known.entries)
        found.append(Component(column[:, None], f"{table.metric} of {table.device}"))
    return found
