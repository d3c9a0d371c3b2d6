"""The parts of a cost table's file: entries, and how far they may be wrong, as JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import arguments
from ..errors import InvalidInputError
from ..spaces import SearchSpace
from ..typing import FloatArray
from .features import n_contexts, n_features
from .posterior import Posterior

# What a table's file may hold; the last are those of `files.write_json`.
FIELDS = (
    "space",
    "metric",
    "unit",
    "device",
    "reduce",
    "constants",
    "entries",
    "measured",
    "determined_by",
    "posterior",
    "caution",
    "format",
    "version",
    "provenance",
    "sha256",
)


def written_entries(space: SearchSpace, entries: FloatArray) -> list[list[list[float]]]:
    """List entries, those of codes that a slot does not have left out: JSON knows no NaN."""
    return [
        [row[:n].tolist() for row, n in zip(context, space.n_codes, strict=True)]
        for context in entries
    ]


def read_entries(space: SearchSpace, listed: Sequence[object]) -> FloatArray:
    """Read entries as a file lists them, one row of numbers for each slot in each context."""
    shape = (n_contexts(space), space.n_slots, max(space.n_codes))
    entries = np.full(shape, np.nan)
    _require_list(listed, shape[0], "entries")
    for context, rows in enumerate(listed):
        where = f"entries{context_name(space, context)}"
        for slot, row in enumerate(_require_list(rows, shape[1], where)):
            name = f"slot {slot} ('{space.slots[slot].name}'){context_name(space, context)}"
            values = _require_list(row, space.n_codes[slot], name)
            # Checked at once where all is well; a file of a large space has 100,000 entries.
            if not _are_finite(values):
                values = [
                    arguments.number(value, f"entry of {name}, code {code}")
                    for code, value in enumerate(values)
                ]
            entries[context, slot, : len(values)] = values
    return entries


def written_posterior(posterior: Posterior) -> dict[str, Any]:
    """Write a posterior, each direction as a text of numbers and the unit that they are in.

    Numbers that `Posterior.rounded` made are integers there, a fifth of the size that JSON lists of
    them would have; all others are written in full.
    """
    units, multiples = posterior.integers()
    whole = (units * multiples == posterior.root).all(axis=0)
    units = np.where(whole, units, 1.0)
    columns = [
        (multiples if exact else posterior.root)[:, index].tolist()
        for index, exact in enumerate(whole.tolist())
    ]
    return {
        "misfit": posterior.misfit,
        "floor": posterior.floor,
        "root": [
            {"unit": unit, "numbers": " ".join(map(repr, column))}
            for unit, column in zip(units.tolist(), columns, strict=True)
        ],
    }


def read_posterior(space: SearchSpace, document: Mapping[str, Any]) -> Posterior:
    """Read what `written_posterior` wrote; `root` may also be an array, one row per feature."""
    arguments.known_keys(document, ("root", "misfit", "floor"), "posterior")
    misfit = arguments.number(document.get("misfit"), "posterior misfit", 0)
    floor = arguments.number(document.get("floor", 0.0), "posterior floor", 0)
    root, n = document.get("root"), n_features(space)
    if isinstance(root, np.ndarray):
        return Posterior(arguments.floats(root, "posterior root", (n, None)), misfit, floor)
    if not isinstance(root, list):
        raise InvalidInputError("posterior root should be a list of directions")
    columns = [_direction(item, n, f"direction {i} of the root") for i, item in enumerate(root)]
    return Posterior(np.stack(columns, axis=1) if columns else np.zeros((n, 0)), misfit, floor)


def _direction(item: object, length: int, where: str) -> FloatArray:
    if not isinstance(item, dict):
        raise InvalidInputError(f"{where} should be an object, found {arguments.shown(item)}")
    arguments.known_keys(item, ("unit", "numbers"), where)
    text = item.get("numbers")
    words = text.split(" ") if isinstance(text, str) else []
    if len(words) != length:
        raise InvalidInputError(f"numbers of {where} should be {length} in one text")
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError as error:
        raise InvalidInputError(f"numbers of {where}: {error}") from error
    unit = arguments.number(item.get("unit"), f"unit of {where}", 0)
    # What is not finite is refused with the table.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(unit * numbers)


def _require_list(value: object, length: int, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) != length:
        found = f"{len(value)}" if isinstance(value, list) else arguments.shown(value)
        raise InvalidInputError(f"{what} should be a list of {length}, found {found}")
    return value


def _are_finite(values: list[Any]) -> bool:
    try:
        return set(map(type, values)) <= {int, float} and all(map(math.isfinite, values))
    except OverflowError:  # an integer of 400 digits
        return False


def context_name(space: SearchSpace, context: int) -> str:
    """Name an input resolution, for messages; nothing where there is only one."""
    return "" if space.resolution_slot is None else f" at {space.resolutions[context]} px"
