"""Reading ``.npz`` files of strangers: what they unpack to is known before it is unpacked."""

from __future__ import annotations

import errno
import io
import math
import sys
import zipfile
from collections.abc import Callable, Sequence
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from . import files
from .disk import LIMIT_VARIABLE, StrPath
from .errors import DataError, FileAccessError, PnagError

# What numpy writes. Others are slow, rare, and grow without bound.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK = 1 << 20
_REASON_LENGTH = 200


Shape = tuple[int, ...]


def _nothing(_key: str, _shape: Shape) -> int:
    return 0


def read_arrays(
    path: StrPath,
    keys: Sequence[str],
    max_bytes: int,
    *,
    made_of: Callable[[str, Shape], int] = _nothing,
) -> dict[str, npt.NDArray[Any]]:
    """Read some arrays of an ``.npz`` file; pickled ones are refused.

    Parameters
    ----------
    path : path
        A regular file: a pipe or a device could go on for ever.
    keys : sequence of str
        Those that are absent are left out of the answer.
    max_bytes : int
        Most that the arrays may unpack to, together. The sizes are taken from the archive's
        directory and checked against those in the arrays' headers; nothing is unpacked before.
    made_of : callable
        How many bytes more will be made of an array, by its key and shape.

    Raises
    ------
    DataError
        If the file is no archive of arrays, is damaged, says contradictory things about its
        contents, or unpacks to more than `max_bytes`.
    FileAccessError
        If it cannot be read, or is no regular file.
    """
    try:
        # Its own size is no danger: what it unpacks to is bounded here.
        with (
            files.open_regular(path, limit=sys.maxsize) as raw,
            io.BufferedReader(cast(io.RawIOBase, raw)) as stream,
            zipfile.ZipFile(stream) as archive,
        ):
            members = _members(archive, keys)
            size = sum(member.file_size for member in members.values())
            if size <= max_bytes:
                for key, member in members.items():
                    with archive.open(member) as content:
                        size += made_of(key, _header(content, member)[0])
            if size > max_bytes:
                raise DataError(
                    f"'{path}' unpacks to {size:,} bytes, more than the bound of {max_bytes:,}; if "
                    f"you trust the file, set the environment variable {LIMIT_VARIABLE} to "
                    f"{-(-size // 1_000_000)} or more (in Python also: max_bytes=)"
                )
            return {key: _read(archive, member) for key, member in members.items()}
    except PnagError:
        raise
    except OSError as error:
        if error.errno not in (errno.EINVAL, None):  # a seek to where no file can be
            raise FileAccessError(f"cannot read '{path}': {error.strerror or error}") from error
        raise _damaged(path, error) from error
    except Exception as error:  # zipfile, zlib and numpy raise whatever they meet
        raise _damaged(path, error) from error


def reason(error: BaseException) -> str:
    """Return what an error says, in one short line that can go to a terminal."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= _REASON_LENGTH else text[:_REASON_LENGTH] + "..."


def _damaged(path: StrPath, error: BaseException) -> DataError:
    return DataError(
        f"'{path}' cannot be read as .npz ({reason(error)}); save it with numpy.savez(path, "
        "images=..., labels=...) and arrays of numbers"
    )


def _members(archive: zipfile.ZipFile, keys: Sequence[str]) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        key = member.filename.removesuffix(".npy")
        if key not in keys:
            continue
        if key in found:
            raise ValueError(f"it has '{key}' twice")
        if member.flag_bits & 1:
            raise ValueError(f"'{key}' is encrypted")
        if member.compress_type not in _METHODS:
            raise ValueError(f"'{key}' is compressed in a way that numpy does not write")
        found[key] = member
    return found


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    with archive.open(member) as stream:
        shape, by_columns, dtype = _header(stream, member)
        size = math.prod(shape) * dtype.itemsize
        if size == 0:
            return np.empty(shape, dtype)
        raw = np.empty(size, dtype=np.uint8)
        _fill(stream, raw)
    array = raw.view(dtype)
    return array.reshape(shape[::-1]).T if by_columns else array.reshape(shape)


def _header(stream: IO[bytes], member: zipfile.ZipInfo) -> tuple[Shape, bool, np.dtype[Any]]:
    """Read the header of an array, and check that what follows it has its size."""
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"'{member.filename}' has the format {version} of arrays")
    shape, by_columns, dtype = readers[version](stream)
    if dtype.hasobject or dtype.fields is not None or dtype.subdtype is not None:
        raise ValueError(f"'{member.filename}' holds Python objects or records, not numbers")
    size = math.prod(shape) * dtype.itemsize
    held = member.file_size - stream.tell()
    if min(shape, default=0) < 0 or size != held:
        raise ValueError(
            f"'{member.filename}' should have {size:,} bytes by its shape {shape}, and holds "
            f"{held:,}"
        )
    return shape, by_columns, dtype


def _fill(stream: IO[bytes], raw: npt.NDArray[np.uint8]) -> None:
    done = 0
    while done < len(raw):
        chunk = stream.read(min(_CHUNK, len(raw) - done))
        if not chunk:
            raise ValueError(f"it ends after {done:,} of {len(raw):,} bytes")
        raw[done : done + len(chunk)] = np.frombuffer(chunk, dtype=np.uint8)
        done += len(chunk)
