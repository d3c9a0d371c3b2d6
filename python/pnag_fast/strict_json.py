"""JSON as it is defined, and no more: what Python's reader lets pass is refused by name.

Python takes the last of two equal keys, reads ``NaN`` and ``Infinity``, makes an infinity of
``1e999`` and an integer of any length; each of them is an error that shows far from its cause.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

# Deeper than anything that this package writes, and shallow enough for every function that walks
# a document by calling itself.
MAX_DEPTH = 100

# Only texts with one of these, once all digits are zeros, need the slow reader, that looks at every
# number: below 200 digits and an exponent of two, no number leaves the range of float64.
_ZEROS = bytes.maketrans(b"123456789E", b"000000000e")
_SUSPICIOUS = (b"0" * 200, b"0e000")
_SPACED_KEY = re.compile(r'"[ \t\r\n]+:')
_CONTAINERS = {dict, list}
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
    zeros = text.encode(errors="surrogatepass").translate(_ZEROS, b"+")
    slowly = any(sign in zeros for sign in _SUSPICIOUS)
    try:
        document = json.loads(
            text,
            parse_constant=_constant,
            parse_int=_integer if slowly else None,
            parse_float=_float if slowly else None,
        )
        # A key that came twice is one fewer in the document. What looks like a key within text
        # makes the counts differ too: then every object is looked at while it is read.
        if _count_keys(document) != text.count('":') or _SPACED_KEY.search(text):
            json.loads(text, object_pairs_hook=_check_object)
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels") from error
    if _LONE_SURROGATE.search(text):
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("it has text with half of a surrogate pair") from error
    return document


def _check_object(pairs: Sequence[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {shorten(key)} is there twice in one object")
            seen.add(key)


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


def _count_keys(document: Any) -> int:
    """Count the keys of all objects, level by level, and refuse too many levels."""
    level = [document] if isinstance(document, (dict, list)) else []
    keys = depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        keys += sum(len(node) for node in level if node.__class__ is dict)
        level = [
            member
            for node in level
            for member in (node.values() if node.__class__ is dict else node)
            if member.__class__ in _CONTAINERS
        ]
    return keys


def shorten(value: object, length: int = 60) -> str:
    """Show a value of a file in a message: escaped, and no longer than a line."""
    text = ascii(value)
    return text if len(text) <= length else text[: length - 1] + "…"
