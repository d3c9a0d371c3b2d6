"""Files that are never half written and never trusted: JSON and safetensors, nothing executable.

A writer writes to a temporary file beside the target, syncs it and renames it over the target, so
a reader sees the old file or the new one. A reader checks the format name and version first.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import FileAccessError, FileFormatError

StrPath = str | os.PathLike[str]

_METADATA_KEY = "pnag"
_DIGEST_KEY = "sha256"


def write_bytes(path: StrPath, data: bytes) -> None:
    """Write `data` to `path` atomically: temporary file, sync, rename.

    Raises
    ------
    FileAccessError
        If the folder does not exist or the disk refuses; the old file, if any, is untouched.
    """
    target = Path(path)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes private files; give the result the permissions of an ordinary new file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise FileAccessError(f"cannot write '{target}': {error.strerror or error}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def write_text(path: StrPath, text: str) -> None:
    """Write `text` as UTF-8 to `path` atomically."""
    write_bytes(path, text.encode("utf-8"))


def read_bytes(path: StrPath) -> bytes:
    """Read a whole file; `FileAccessError` names the path and the reason if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileAccessError(f"cannot read '{path}': {error.strerror or error}") from error


def make_folder(path: StrPath) -> Path:
    """Create a folder and its parents if needed and return it."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileAccessError(
            f"cannot create folder '{folder}': {error.strerror or error}"
        ) from error
    return folder


def provenance() -> dict[str, str]:
    """Say which program wrote a file, and when (UTC)."""
    from . import __version__

    now = datetime.datetime.now(datetime.timezone.utc)
    return {"program": f"pnag_fast {__version__}", "created": now.isoformat(timespec="seconds")}


def write_json(path: StrPath, format_name: str, version: int, body: Mapping[str, Any]) -> None:
    """Write a JSON document that carries its format, version and provenance."""
    document = {"format": format_name, "version": version, "provenance": provenance(), **body}
    try:
        text = json.dumps(document, indent=1, allow_nan=False)
    except ValueError as error:
        raise FileFormatError(f"cannot write '{path}': {error}") from error
    write_text(path, text + "\n")


def read_json(path: StrPath, format_name: str, version: int) -> dict[str, Any]:
    """Read a JSON document and check that it is a `format_name` of at most `version`.

    Raises
    ------
    FileFormatError
        If the file is not JSON, is another format, or comes from a newer version.
    """
    raw = read_bytes(path)
    try:
        document = json.loads(raw)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise FileFormatError(
            f"'{path}' is not a {format_name} file: it is not valid JSON ({error}); "
            "it may be truncated, or another kind of file"
        ) from error
    if not isinstance(document, dict):
        raise FileFormatError(
            f"'{path}' is not a {format_name} file: its top level is a "
            f"{type(document).__name__}, not an object"
        )
    check_header(document, path, format_name, version)
    return document


def check_header(
    document: Mapping[str, Any], path: StrPath, format_name: str, version: int
) -> None:
    """Check the ``format`` and ``version`` fields of a document."""
    found = document.get("format")
    if found != format_name:
        raise FileFormatError(
            f"'{path}' is not a {format_name} file"
            + (f"; it is a {found!r} file" if isinstance(found, str) else "")
        )
    found_version = document.get("version")
    if not isinstance(found_version, int) or isinstance(found_version, bool) or found_version < 1:
        raise FileFormatError(f"'{path}' has no valid version number (found {found_version!r})")
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
    document[_DIGEST_KEY] = _digest(document, arrays)
    metadata = {_METADATA_KEY: json.dumps(document, allow_nan=False)}
    write_bytes(path, save(arrays, metadata=metadata))


def read_safetensors(
    path: StrPath, format_name: str, version: int
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Read what `write_safetensors` wrote: the arrays and the JSON header.

    Raises
    ------
    FileFormatError
        If the file is truncated, damaged, not safetensors, another format, or from a newer version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    raw = read_bytes(path)
    try:
        # The header is read here, from the bytes that `load` checks, because `load` drops it.
        size = int.from_bytes(raw[:8], "little")
        arrays = load(raw)
        header = json.loads(raw[8 : 8 + size])
    except (SafetensorError, UnicodeDecodeError, ValueError, KeyError, RecursionError) as error:
        raise FileFormatError(
            f"'{path}' is not a {format_name} file: it is not valid safetensors ({error}); "
            "it may be truncated, or another kind of file"
        ) from error
    metadata = header.get("__metadata__") or {}
    try:
        document = json.loads(metadata[_METADATA_KEY])
    except (KeyError, ValueError, RecursionError) as error:
        raise FileFormatError(
            f"'{path}' is not a {format_name} file: it is a safetensors file of another program"
        ) from error
    if not isinstance(document, dict):
        raise FileFormatError(f"'{path}' is not a {format_name} file: its header is no object")
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


def require(
    document: Mapping[str, Any], key: str, kind: type | tuple[type, ...], path: StrPath
) -> Any:
    """Return ``document[key]``, checked to be of type `kind`."""
    if key not in document:
        raise FileFormatError(f"'{path}' lacks the field '{key}'; it may be truncated or edited")
    value = document[key]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join(k.__name__ for k in kinds)
        raise FileFormatError(
            f"'{path}': field '{key}' should be {names}, found {type(value).__name__}"
        )
    return value
