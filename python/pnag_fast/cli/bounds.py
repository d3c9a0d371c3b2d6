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

from .. import arguments, quantities

if TYPE_CHECKING:
    from ..costs import CostTable

_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\d\s].*)", re.ASCII)


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
            both = quantities.names(tables)[min(one & other)]
            raise _refusal(
                f"some options bound {both} alone and others with more: write each budget as one "
                "option, its bounds separated by commas"
            )
    rows = []
    for parts in itertools.product(*groups.values()):
        said = {column: value for part in parts for column, value in part.items()}
        rows.append([said.get(column, math.inf) for column in range(len(tables))])
    return rows


def _bounds(option: str, tables: Sequence[CostTable]) -> dict[int, float]:
    """Read one option: a bound for each column that it names."""
    parts = option.split(",")
    named = ["=" in part for part in parts]
    if not any(named):
        if len(parts) != len(tables):
            costs = ", ".join(table.describe() for table in tables)
            example = f"{quantities.names(tables)[0]}={parts[0].strip()}"
            word = f"; or name what you bound, as {example}" if len(tables) > 1 else ""
            raise _refusal(f"this generator takes one number for each of: {costs}{word}")
        return {column: _value(part, tables[column]) for column, part in enumerate(parts)}
    if not all(named):
        raise _refusal(
            f"{arguments.shown(option)} names some of its bounds; name all, or give one for each "
            f"of {', '.join(quantities.names(tables))}"
        )
    bounds: dict[int, float] = {}
    for part in parts:
        name, _, value = part.partition("=")
        column = _column(name.strip(), tables)
        if column in bounds:
            raise _refusal(
                f"{arguments.shown(option)} bounds {quantities.names(tables)[column]} twice; "
                "alternatives are options of their own"
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
    known = quantities.names(tables)
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
        if "_" not in text:
            return float(text)
    except ValueError:
        pass
    number = _NUMBER.fullmatch(text)
    factor = None if number is None else quantities.factor(number[2].strip(), table.unit)
    if number is None or factor is None:
        base = quantities.base(table.unit)
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


def _refusal(message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint="--budget")
