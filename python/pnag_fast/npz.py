"""Reading ``.npz`` files of strangers: what they unpack to is known before it is unpacked."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from .errors import DataError, FileAccessError, PnagError
from .files import StrPath

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
        with regular_file(path) as stream, zipfile.ZipFile(stream) as archive:
            members = _members(archive, keys)
            size = sum(member.file_size for member in members.values())
            if size <= max_bytes:
                for key, member in members.items():
                    with archive.open(member) as content:
                        size += made_of(key, _header(content, member)[0])
            if size > max_bytes:
                raise DataError(
                    f"'{path}' unpacks to {size:,} bytes, more than the bound of {max_bytes:,}; if "
                    f"you trust the file, {how_to_raise('BYTES')}"
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


def how_to_raise(what: str) -> str:
    """Say how the bound on "BYTES" or "PIXELS" is raised."""
    return f"raise the bound with max_{what.lower()}= or the variable PNAG_MAX_IMAGE_{what}"


@contextlib.contextmanager
def regular_file(path: StrPath) -> Iterator[BinaryIO]:
    """Open a file to read, unless it is a pipe, a device or a folder.

    Raises
    ------
    OSError
        As from `open`.
    FileAccessError
        If it is no regular file.
    """
    # Asked before it is opened as well: opening a pipe waits, and opening some devices acts.
    _require_regular(os.stat(path).st_mode, path)
    with open(path, "rb", opener=_without_waiting) as stream:
        _require_regular(os.fstat(stream.fileno()).st_mode, path)
        yield stream


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_regular(mode: int, path: StrPath) -> None:
    for kind, name in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if kind(mode):
            raise FileAccessError(f"cannot read '{path}': it is {name}, not a regular file")
    if not stat.S_ISREG(mode):
        raise FileAccessError(f"cannot read '{path}': it is a device, not a regular file")


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
