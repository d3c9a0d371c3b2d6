"""JSON as it is defined, and no more: what Python's reader lets pass is refused by name.

Python takes the last of two equal keys, reads ``NaN`` and ``Infinity``, makes an infinity of
``1e999`` and an integer of any length; each of them is an error that shows far from its cause.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

# Deeper than anything that this package writes, and shallow enough for every function that walks
# a document by calling itself.
MAX_DEPTH = 100

# Only texts with these need the slow reader, which looks at every number: below 200 digits and an
# exponent of two, no number leaves the range of float64.
_SUSPICIOUS_NUMBER = re.compile(r"[0-9]{200}|[eE]\+?[0-9]{3}")
_LONE_SURROGATE = re.compile(r"\\u[dD][89abAB]|\\u[dD][c-fC-F]")


def parse(raw: bytes | str) -> Any:
    """Read one JSON document.

    Raises
    ------
    ValueError
        If it is not JSON in UTF-8, -16 or -32, names a key twice, holds a number that float64 has
        no room for, NaN or an infinity, text that is no Unicode, or is nested too deeply. The
        message gives the reason alone.
    """
    # Strictly: the reader of the standard library lets half a surrogate pair through.
    text = raw.decode(json.detect_encoding(raw)) if isinstance(raw, bytes) else raw
    text = text.removeprefix("\ufeff")
    slowly = _SUSPICIOUS_NUMBER.search(text) is not None
    try:
        document = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=_integer if slowly else None,
            parse_float=_float if slowly else None,
        )
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels") from error
    _check_depth(document)
    if _LONE_SURROGATE.search(text):
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("it has text with half of a surrogate pair") from error
    return document


def digest(document: Any) -> str:
    """SHA-256 of what a document says, whatever its order of keys and its white space."""
    return hashlib.sha256(canonical(document)).hexdigest()


def canonical(document: Any) -> bytes:
    """Return a document of JSON values as text that depends on what it says alone."""
    return json.dumps(document, sort_keys=True, allow_nan=False).encode()


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {shorten(key)} is there twice in one object")
            seen.add(key)
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > 309 or math.isinf(float(digits)):
        raise ValueError(f"the number {digits[:12]}… of {len(digits)} digits is too large")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(
            f"the number {digits if len(digits) <= 40 else digits[:40] + '…'} is too large"
        )
    return value


def _check_depth(document: Any) -> None:
    level = [document] if isinstance(document, (dict, list)) else []
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]


def shorten(value: object, length: int = 60) -> str:
    """Show a value of a file in a message: escaped, and no longer than a line."""
    text = ascii(value)
    return text if len(text) <= length else text[: length - 1] + "…"
