"""Budgets as the command line writes them: ``latency=20ms,parameters=5M``, ``50%``, ``inf``.

An option ``--budget`` bounds some costs, by name, or all of them in their order. Options that bound
the same costs are alternatives; those that bound different costs hold together, each of the one
with each of the other. So no answer breaks a bound that was given for its cost.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from .. import arguments

if TYPE_CHECKING:
    from ..costs import CostTable

# Of units of time, memory, energy and power; counts take the same prefixes alone.
_BASES = ("s", "B", "J", "Wh", "W")
_LONG = {"sec": "s", "seconds": "s", "bytes": "B", "byte": "B"}
_SMALL = {"n": 1e-9, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "m": 1e-3}
_LARGE = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\d\s].*)", re.ASCII)

# A deviation below this share of a cost is what arithmetic leaves of none.
_ROUNDING = 1e-9
# Counts from here on are printed with a prefix.
_MANY = 1e4


def vectors(options: Sequence[str], tables: Sequence[CostTable]) -> list[list[float]]:
    """Read the options of a command.

    Parameters
    ----------
    options : sequence of str
        Each one bound, or several separated by commas. A bound is ``NAME=VALUE``, or ``VALUE``
        where an option has one for each table, in their order. A name is that of a metric, of a
        device, or both as ``latency@pi5``.
    tables : sequence of CostTable
        What is bounded.

    Returns
    -------
    list of lists of float, shape (b, len(tables))
        In the units of the tables; infinite where nothing was said.

    Raises
    ------
    click.BadParameter
    """
    groups: dict[frozenset[int], list[dict[int, float]]] = {}
    for option in options:
        bounds = _bounds(option, tables)
        groups.setdefault(frozenset(bounds), []).append(bounds)
    for one, other in itertools.combinations(groups, 2):
        if one & other:
            both = names(tables)[min(one & other)]
            raise _refusal(
                f"some options bound {both} alone and others with more: write each budget as one "
                "option, its bounds separated by commas"
            )
    rows = []
    for parts in itertools.product(*groups.values()):
        said = {column: value for part in parts for column, value in part.items()}
        rows.append([said.get(column, math.inf) for column in range(len(tables))])
    return rows


def names(tables: Sequence[CostTable]) -> list[str]:
    """Name each table in a word: by its metric, and where several have it by the device too."""
    metrics = [table.metric for table in tables]
    return [
        table.metric if metrics.count(table.metric) == 1 else f"{table.metric}@{table.device}"
        for table in tables
    ]


def labels(tables: Sequence[CostTable]) -> list[str]:
    """Name each table with its unit, as the heads of columns do."""
    return [
        name if table.unit.casefold() in ("", table.metric.casefold()) else f"{name} {table.unit}"
        for name, table in zip(names(tables), tables, strict=True)
    ]


def shown(value: float, table: CostTable, digits: int = 4) -> str:
    """Print a cost in the table's unit, large counts as ``4.98M``."""
    counted = _base(table.unit) in (None, ("B", 1.0))
    if value < _MANY or not math.isfinite(value) or not counted:
        return f"{value:.{digits}g}"
    prefix = max(
        (p for p, size in _LARGE.items() if p != "k" and size <= value), key=_LARGE.__getitem__
    )
    return f"{value / _LARGE[prefix]:.{max(digits, 3)}g}{prefix}"


def with_std(value: float, std: float, table: CostTable) -> str:
    """Print a cost and its standard deviation; what is rounding, or 0, is none."""
    sure = std <= _ROUNDING * abs(value)
    return shown(value, table) + ("" if sure else f" ± {shown(std, table, 2)}")


def _bounds(option: str, tables: Sequence[CostTable]) -> dict[int, float]:
    """Read one option: a bound for each column that it names."""
    parts = option.split(",")
    named = ["=" in part for part in parts]
    if not any(named):
        if len(parts) != len(tables):
            costs = ", ".join(table.describe() for table in tables)
            word = f"; or name what you bound, as {names(tables)[0]}=50%" if len(tables) > 1 else ""
            raise _refusal(f"this generator takes one number for each of: {costs}{word}")
        return {column: _value(part, tables[column]) for column, part in enumerate(parts)}
    if not all(named):
        raise _refusal(
            f"{arguments.shown(option)} names some of its bounds; name all, or give one for each "
            f"of {', '.join(names(tables))}"
        )
    bounds: dict[int, float] = {}
    for part in parts:
        name, _, value = part.partition("=")
        column = _column(name.strip(), tables)
        if column in bounds:
            raise _refusal(
                f"{arguments.shown(option)} bounds {names(tables)[column]} twice; alternatives "
                "are options of their own"
            )
        bounds[column] = _value(value, tables[column])
    return bounds


def _column(name: str, tables: Sequence[CostTable]) -> int:
    wanted = _plain(name)
    found = [
        column
        for column, table in enumerate(tables)
        if wanted in map(_plain, (table.metric, table.device, f"{table.metric}@{table.device}"))
    ]
    if len(found) == 1:
        return found[0]
    known = names(tables)
    what = "may be any of" if found else "is none of the costs:"
    listed = ", ".join(known[column] for column in found or range(len(known)))
    near = "" if found else arguments.nearest(name, known)
    raise _refusal(f"{arguments.shown(name)} {what} {listed}{near}")


def _plain(name: str) -> str:
    """Return a name as it may be typed: ``peak-memory`` for ``peak memory``."""
    return re.sub(r"[\s_-]+", "-", name.strip()).casefold()


def _value(text: str, table: CostTable) -> float:
    text = text.strip()
    if text.endswith("%"):
        return _share(text, table)
    try:
        return float(text)
    except ValueError:
        pass
    number = _NUMBER.fullmatch(text)
    factor = None if number is None else _factor(number[2].strip(), table.unit)
    if number is None or factor is None:
        base = _base(table.unit)
        units = f"{table.unit}, or with K, M or G" if base is None else table.unit
        also = {"s": "us, ms or s", "B": "KB, MB, GB, KiB, MiB or GiB"}.get(base[0] if base else "")
        raise _refusal(
            f"a budget is a number, a percentage or inf: {arguments.shown(text)} is no "
            f"{table.metric}; numbers are in {units}" + (f", or with {also}" if also else "")
        )
    return float(number[1]) * factor


def _share(text: str, table: CostTable) -> float:
    """Read a share of the way from the cheapest to the dearest network."""
    try:
        share = float(text[:-1])
    except ValueError:
        share = math.nan
    if not 0 <= share <= 100:
        raise _refusal(f"a share of the range is from 0% to 100%, found {arguments.shown(text)}")
    low, high = table.bounds
    return high if share == 100 else low + (high - low) * share / 100


def _factor(suffix: str, unit: str) -> float | None:
    """How many of a table's unit one of what is written is; None where that makes no sense."""
    ours, theirs = _base(unit), _base(suffix)
    if ours is None:
        return _LARGE.get(suffix.removesuffix(unit).strip() if unit else suffix)
    if ours[0] == "B" and suffix in {**_LARGE, **_BINARY}:
        theirs = _base(suffix + "B")
    return theirs[1] / ours[1] if theirs is not None and theirs[0] == ours[0] else None


def _base(unit: str) -> tuple[str, float] | None:
    """Take a unit apart into its base and its size in it; None for what is counted."""
    unit = _LONG.get(unit.casefold(), unit)
    for base in _BASES:
        prefix = unit.removesuffix(base)
        if prefix != unit:
            prefixes = {**_LARGE, **(_BINARY if base == "B" else _SMALL)}
            if prefix in prefixes:
                return base, prefixes[prefix]
    return None


def _refusal(message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint="--budget")
