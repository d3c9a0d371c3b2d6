"""Files that are never half written and never trusted: JSON and safetensors, nothing executable.

A writer writes to a temporary file beside the target, syncs it and renames it over the target, so
a reader sees the old file or the new one. A reader checks size, format name, version and checksum
first, then every field by the functions at the end of this module.
"""

from __future__ import annotations

import datetime
import difflib
import hashlib
import json
import math
import sys
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from . import arguments, strict_json
from .disk import READ_LIMIT, StrPath, make_folder, open_regular, read_bytes, write_bytes
from .errors import FileAccessError, FileFormatError
from .strict_json import shorten

__all__ = [
    "HEADER_KEYS",
    "JSON_LIMIT",
    "READ_LIMIT",
    "SAFETENSORS_LIMIT",
    "StrPath",
    "check_header",
    "check_keys",
    "file_digest",
    "integer",
    "make_folder",
    "number",
    "open_regular",
    "parse_json",
    "provenance",
    "read_bytes",
    "read_json",
    "read_safetensors",
    "require",
    "require_each",
    "write_bytes",
    "write_json",
    "write_safetensors",
    "write_text",
]

# Reading a document takes some ten times its size in memory.
JSON_LIMIT = 64 << 20
SAFETENSORS_LIMIT = 4 << 30

_METADATA_KEY = "pnag"
_DIGEST_KEY = "sha256"
HEADER_KEYS = ("format", "version", "provenance", _DIGEST_KEY)


def write_text(path: StrPath, text: str) -> None:
    """Write `text` as UTF-8 to `path` atomically."""
    write_bytes(path, text.encode("utf-8"))


def provenance() -> dict[str, str]:
    """Say which program wrote a file, and when (UTC)."""
    from . import __version__

    now = datetime.datetime.now(datetime.timezone.utc)
    return {"program": f"pnag_fast {__version__}", "created": now.isoformat(timespec="seconds")}


def write_json(path: StrPath, format_name: str, version: int, body: Mapping[str, Any]) -> None:
    """Write a JSON document that carries its format, version, provenance and a checksum."""
    document = {"format": format_name, "version": version, "provenance": provenance(), **body}
    if _DIGEST_KEY in body:
        raise FileFormatError(f"cannot write '{path}': '{_DIGEST_KEY}' is the checksum's own field")
    try:
        text = json.dumps(document, indent=1, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise FileFormatError(f"cannot write '{path}': {error}") from error
    write_text(path, text[: -len(_END)] + _digest_line(_text_digest(text)) + "\n")


def read_json(
    path: StrPath, format_name: str, version: int, *, limit: int = JSON_LIMIT
) -> dict[str, Any]:
    """Read a JSON document and check that it is a `format_name` of at most `version`.

    Its checksum, of the text as it was written, is checked and left out of what is returned. A
    document without one is one written by hand, or by a release that wrote none.

    Raises
    ------
    FileFormatError
        If the file is not JSON, is another format, comes from a newer version, is larger than
        `limit` bytes, or is not as it was written.
    FileAccessError
        If it cannot be read, or is no regular file.
    """
    raw = read_bytes(path, limit=limit)
    document = parse_json(raw, f"'{path}' is not a {format_name} file: it")
    if not isinstance(document, dict):
        raise FileFormatError(
            f"'{path}' is not a {format_name} file: its top level is a "
            f"{type(document).__name__}, not an object"
        )
    check_header(document, path, format_name, version)
    _check_digest(document, raw, path)
    return document


def file_digest(path: StrPath) -> str:
    """SHA-256 of a regular file of any size, read piece by piece."""
    digest = hashlib.sha256()
    with open_regular(path, limit=sys.maxsize) as stream:
        try:
            while part := stream.read(1 << 20):
                digest.update(part)
        except OSError as error:
            raise FileAccessError(f"cannot read '{path}': {error.strerror or error}") from error
    return digest.hexdigest()


def parse_json(raw: bytes | str, what: str) -> Any:
    """Read JSON strictly; `what` begins the message of a `FileFormatError` where it is none.

    Refused are, besides what is no JSON: keys that occur twice in one object, NaN and infinities,
    numbers that float64 has no room for, and nesting deeper than 100 levels.
    """
    try:
        return strict_json.parse(raw)
    except ValueError as error:
        raise FileFormatError(
            f"{what} is not valid JSON ({error}); it may be truncated, or another kind of file"
        ) from error


# How a document ends, and how it does with its checksum: the digest of the text without it. To
# take it from what the text says would cost three times as much as reading it.
_END = "\n}"


def _digest_line(digest: str) -> str:
    return f',\n "{_DIGEST_KEY}": "{digest}"{_END}'


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _check_digest(document: dict[str, Any], raw: bytes, path: StrPath) -> None:
    """Take the checksum out of a document, and compare."""
    written = document.pop(_DIGEST_KEY, None)
    if written is None:
        # Damage to the field's name, or to its place, must not turn the check off.
        last = next(reversed(document))
        like = last if _is_like_a_digest(document[last]) else _misplaced(document)
        if like is not None:
            raise FileFormatError(
                f"'{path}' is damaged, or edited: its field {shorten(like)} looks like the "
                f"checksum '{_DIGEST_KEY}' of the whole. If you edited it, remove that field; "
                "otherwise copy the file again from where it came, or make it again"
            )
        return
    # Some programs change the ends of lines on the way.
    text = raw.replace(b"\r\n", b"\n").removeprefix(b"\xef\xbb\xbf").strip()
    end = _digest_line(str(written)).encode()
    if hashlib.sha256(text[: -len(end)] + _END.encode()).hexdigest() != written:
        raise FileFormatError(
            f"'{path}' is not as it was written: it was damaged, or edited. If you edited it, "
            f"remove its field '{_DIGEST_KEY}', and it is read as it is; otherwise copy it again "
            "from where it came, or make it again"
        )


def _is_like_a_digest(value: object) -> bool:
    return (
        isinstance(value, str)
        and 24 <= len(value) <= 96
        and sum(c in "0123456789abcdef" for c in value) > 0.8 * len(value)
    )


def _misplaced(value: Any) -> str | None:
    """Return a key, at any depth, that is the checksum's or nearly so."""
    if isinstance(value, dict):
        for key in value:
            if difflib.SequenceMatcher(None, key, _DIGEST_KEY).ratio() > 0.7:
                return str(key)
    elif not isinstance(value, list):
        return None
    members = value.values() if isinstance(value, dict) else value
    return next((key for member in members if (key := _misplaced(member)) is not None), None)


def check_header(
    document: Mapping[str, Any], path: StrPath, format_name: str, version: int
) -> None:
    """Check the ``format`` and ``version`` fields of a document."""
    found = document.get("format")
    if found != format_name:
        raise FileFormatError(
            f"'{path}' is not a {format_name} file"
            + (f"; it is a {shorten(found)} file" if isinstance(found, str) else "")
        )
    found_version = document.get("version")
    if not isinstance(found_version, int) or isinstance(found_version, bool) or found_version < 1:
        raise FileFormatError(
            f"'{path}' has no valid version number (found {shorten(found_version)})"
        )
    if found_version > version:
        raise FileFormatError(
            f"'{path}' is a {format_name} file of version {found_version}; this release reads up "
            f"to version {version}: upgrade pnag-fast to read it"
        )


def write_safetensors(
    path: StrPath,
    format_name: str,
    version: int,
    tensors: Mapping[str, npt.NDArray[Any]],
    body: Mapping[str, Any],
) -> None:
    """Write arrays and a JSON header into one safetensors file, atomically.

    The header carries a digest of itself and the arrays: a flipped bit in a weight is as good a
    weight as any other, and would only show in what the network answers.
    """
    from safetensors.numpy import save

    document = {"format": format_name, "version": version, "provenance": provenance(), **body}
    arrays = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    try:
        document[_DIGEST_KEY] = _digest(document, arrays)
        metadata = {_METADATA_KEY: json.dumps(document, allow_nan=False)}
    except (TypeError, ValueError, RecursionError) as error:
        raise FileFormatError(f"cannot write '{path}': {error}") from error
    write_bytes(path, save(arrays, metadata=metadata))


def read_safetensors(
    path: StrPath,
    format_name: str,
    version: int,
    *,
    former: Mapping[str, int] | None = None,
    limit: int = SAFETENSORS_LIMIT,
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Read what `write_safetensors` wrote: the arrays and the JSON header.

    Parameters
    ----------
    former : dict, optional
        Formats that are read as well, and up to which version: what was written before.

    Raises
    ------
    FileFormatError
        If the file is truncated, damaged, not safetensors, another format, from a newer version, or
        larger than `limit` bytes.
    FileAccessError
        If it cannot be read, or is no regular file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    raw = read_bytes(path, limit=limit)
    try:
        # The header is read here, from the bytes that `load` checks, because `load` drops it.
        size = int.from_bytes(raw[:8], "little")
        arrays = load(raw)
        header = strict_json.parse(raw[8 : 8 + size])
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise FileFormatError(
            f"'{path}' is not a {format_name} file: it is not valid safetensors ({error}); "
            "it may be truncated, or another kind of file"
        ) from error
    metadata = header.get("__metadata__") or {}
    if _METADATA_KEY not in metadata:
        raise FileFormatError(
            f"'{path}' is not a {format_name} file: it is a safetensors file of another program"
        )
    document = parse_json(
        metadata[_METADATA_KEY], f"'{path}' is not a {format_name} file: its header"
    )
    if not isinstance(document, dict):
        raise FileFormatError(f"'{path}' is not a {format_name} file: its header is no object")
    found = document.get("format")
    if former and isinstance(found, str) and found in former:
        format_name, version = found, former[found]
    check_header(document, path, format_name, version)
    written = document.pop(_DIGEST_KEY, None)  # absent in files of the first days
    if written is not None and written != _digest(document, arrays):
        raise FileFormatError(
            f"'{path}' is damaged: its contents are not those that were written; copy it again "
            "from where it came, or make it again"
        )
    return arrays, document


def _digest(document: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """SHA-256 of a header, as JSON keeps it, and of arrays with their names, types and shapes."""
    kept = json.loads(json.dumps(document))
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()


# --- fields of documents -------------------------------------------------------------------------


def require(
    document: Mapping[str, Any],
    key: str,
    kind: type | tuple[type, ...],
    path: StrPath,
    *,
    within: str = "",
) -> Any:
    """Return ``document[key]``, checked to be of type `kind`; numbers are finite.

    Parameters
    ----------
    within : str
        Name of the object, where it is not the whole document: ``"members[3]"``.
    """
    name = f"{within}.{key}" if within else key
    if key not in document:
        raise FileFormatError(f"'{path}' lacks the field '{name}'; it may be truncated or edited")
    value = document[key]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join(k.__name__ for k in kinds)
        raise FileFormatError(
            f"'{path}': field '{name}' should be {names}, found {type(value).__name__}"
        )
    if float in kinds:
        number(value, f"'{path}': field '{name}'")
    return value


def require_each(
    document: Mapping[str, Any],
    key: str,
    kind: type | tuple[type, ...],
    path: StrPath,
    *,
    within: str = "",
    length: int | None = None,
) -> list[Any]:
    """Return ``document[key]``, checked to be a list whose elements are all of type `kind`."""
    values: list[Any] = require(document, key, list, path, within=within)
    name = f"{within}.{key}" if within else key
    if length is not None and len(values) != length:
        raise FileFormatError(
            f"'{path}': field '{name}' should have {length} elements, found {len(values)}"
        )
    for index, value in enumerate(values):
        require({f"{key}[{index}]": value}, f"{key}[{index}]", kind, path, within=within)
    return values


def check_keys(
    document: Mapping[str, Any], known: Collection[str], path: StrPath, *, within: str = ""
) -> None:
    """Refuse fields that a format of ours does not have; those of every header are known.

    A field that would be passed over is one that the reader of the file relies on in vain. A later
    release that adds a field to a format raises its version.
    """
    for key in document:
        if key not in known and (within or key not in HEADER_KEYS):
            raise FileFormatError(
                f"'{path}' has the unknown field {shorten(key)}"
                + (f" in '{within}'" if within else "")
                + arguments.nearest(key, known)
                + f" (known: {', '.join(sorted(known))})"
            )


def number(value: object, what: str, *, low: float = -math.inf, high: float = math.inf) -> float:
    """Check that a value of a document is a finite number from `low` to `high`, and return it.

    Parameters
    ----------
    what : str
        Begins the message: ``"'table.json': entry 3 of slot 2"``.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if math.isfinite(found) and low <= found <= high:
            return found
    raise FileFormatError(f"{what} should be {_range('a number', low, high)}, found {_show(value)}")


def integer(value: object, what: str, *, low: float = -math.inf, high: float = math.inf) -> int:
    """Check that a value of a document is an integer from `low` to `high`, and return it."""
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise FileFormatError(
        f"{what} should be {_range('an integer', low, high)}, found {_show(value)}"
    )


def _show(value: object) -> str:
    # Python refuses to print integers of thousands of digits, and nobody would read them.
    if isinstance(value, int) and value.bit_length() > 200:
        return "an integer of more than 60 digits"
    return shorten(value)


def _range(kind: str, low: float, high: float) -> str:
    if math.isfinite(low) and math.isfinite(high):
        return f"{kind} from {low:g} to {high:g}"
    if math.isfinite(low):
        return f"{kind} of at least {low:g}"
    if math.isfinite(high):
        return f"{kind} of at most {high:g}"
    return kind if kind == "an integer" else "a finite number"
