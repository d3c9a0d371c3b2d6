"""What a result depends on, and what to say where a file belongs to something else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..strict_json import shorten

# Differences that are spelled out; a person changes one thing, or everything.
_SPELLED = 3

# What is longer says nothing to a person: digests, whole definitions.
_SHORT = 32

_ABSENT = object()


def differences(found: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say in what two identities, of JSON values, differ; nothing where they are equal.

    Examples
    --------
    >>> differences({"seed": 1, "data": "ab" * 20}, {"seed": 2, "data": "cd" * 20})
    'data, seed (1, now 2)'
    >>> differences({"options": {"ema": 0.9, "flip": True}}, {"options": {"ema": 0, "flip": True}})
    'options (ema 0.9, now 0)'
    """
    texts = []
    for key in sorted({*found, *now}):
        leaves = list(_leaves("", found.get(key, _ABSENT), now.get(key, _ABSENT)))
        if not leaves:
            continue
        spelled = [text for leaf in leaves if (text := _spelled(*leaf))]
        more = f" and {len(leaves) - _SPELLED} more" if len(leaves) > _SPELLED else ""
        shown = f" ({'; '.join(spelled[:_SPELLED])}{more})" if spelled else ""
        texts.append(_named(key).replace("_", " ") + shown)
    return ", ".join(texts)


def _leaves(name: str, found: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield what differs, by the name of the innermost field that it is in."""
    if isinstance(found, dict) and isinstance(now, dict):
        for key in [*now, *(key for key in found if key not in now)]:
            yield from _leaves(_named(key), found.get(key, _ABSENT), now.get(key, _ABSENT))
    elif isinstance(found, list) and isinstance(now, list) and len(found) == len(now):
        for a, b in zip(found, now, strict=True):
            yield from _leaves(name, a, b)
    elif found != now:
        yield name, found, now


def _named(key: str) -> str:
    # In a file a name may be whatever somebody wrote.
    plain = key.isascii() and key.replace(" ", "_").isidentifier() and len(key) <= _SHORT
    return key if plain else shorten(key)


def _spelled(name: str, found: Any, now: Any) -> str:
    values = [_value(value) for value in (found, now)]
    if any(len(text) > _SHORT for text in values):
        return name
    return f"{name} {values[0]}, now {values[1]}".lstrip()


def _value(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    if isinstance(value, list):
        return f"{len(value)} entries"
    return "an object" if isinstance(value, dict) else repr(value)
