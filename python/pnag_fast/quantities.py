"""Costs as people write and read them: ``20ms``, ``5M``, ``2MiB``, ``4.98M ± 120K``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .costs import CostTable

# Of units of time, memory, energy and power; counts take the large prefixes alone.
_BASES = ("s", "B", "J", "Wh", "W")
_LONG = {"sec": "s", "seconds": "s", "bytes": "B", "byte": "B"}
_SMALL = {"n": 1e-9, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "m": 1e-3}
_LARGE = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}

# Counts from here on are printed with a prefix.
_MANY = 1e4
# A deviation below this share of a cost is what arithmetic leaves of none.
_ROUNDING = 1e-9


def shown(value: float, unit: str, digits: int = 4) -> str:
    """Print a cost without its unit, large counts as ``4.98M``.

    Examples
    --------
    >>> shown(20.123456, "ms"), shown(4_980_123, "parameters"), shown(2_000_000, "bytes")
    ('20.12', '4.98M', '2M')
    """
    counted = base(unit) in (None, ("B", 1.0))
    if value < _MANY or not math.isfinite(value) or not counted:
        return f"{value:.{digits}g}"
    prefix = max(
        (p for p, size in _LARGE.items() if p != "k" and size <= value), key=_LARGE.__getitem__
    )
    return f"{value / _LARGE[prefix]:.{max(digits, 3)}g}{prefix}"


def with_std(value: float, std: float, unit: str) -> str:
    """Print a cost and its standard deviation; what is rounding, or 0, is none."""
    sure = std <= _ROUNDING * abs(value)
    return shown(value, unit) + ("" if sure else f" ± {shown(std, unit, 2)}")


def factor(suffix: str, unit: str) -> float | None:
    """Return how many of `unit` one of `suffix` is; None where that makes no sense.

    Examples
    --------
    >>> factor("us", "ms"), factor("M", "parameters"), factor("KiB", "bytes"), factor("s", "MACs")
    (0.001, 1000000.0, 1024.0, None)
    """
    ours, theirs = base(unit), base(suffix)
    if ours is None:
        return _LARGE.get(suffix.removesuffix(unit).strip() if unit else suffix)
    if ours[0] == "B" and suffix in {**_LARGE, **_BINARY}:
        theirs = base(suffix + "B")
    return theirs[1] / ours[1] if theirs is not None and theirs[0] == ours[0] else None


def base(unit: str) -> tuple[str, float] | None:
    """Take a unit apart into its base and its size in it; None for what is counted."""
    unit = _LONG.get(unit.casefold(), unit)
    for name in _BASES:
        prefix = unit.removesuffix(name)
        if prefix != unit:
            prefixes = {**_LARGE, **(_BINARY if name == "B" else _SMALL)}
            if prefix in prefixes:
                return name, prefixes[prefix]
    return None


def names(tables: Sequence[CostTable], *, apart: bool = False) -> list[str]:
    """Name each cost in a word: by its metric, and where several have it by the device too.

    Parameters
    ----------
    tables : sequence of CostTable
    apart : bool
        Whether the device of the first is said elsewhere: it then goes by its metric alone.
    """
    metrics = [table.metric for table in tables]
    return [
        table.metric
        if metrics.count(table.metric) == 1 or (apart and column == 0)
        else f"{table.metric}@{table.device}"
        for column, table in enumerate(tables)
    ]


def labels(tables: Sequence[CostTable], *, apart: bool = False) -> list[str]:
    """Name each cost with its unit, as the heads of columns do; see `names`."""
    return [
        name if table.unit.casefold() in ("", table.metric.casefold()) else f"{name} {table.unit}"
        for name, table in zip(names(tables, apart=apart), tables, strict=True)
    ]
