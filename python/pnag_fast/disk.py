"""Bytes on a disk: read from regular files only, within bounds, and written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import FileAccessError, FileFormatError, InvalidInputError, InvalidTypeError

StrPath = str | os.PathLike[str]

# What no file of any format exceeds without a mistake; formats have bounds of their own.
READ_LIMIT = 1 << 30

# Raises the bound of every reader, for those who cannot pass `limit`: who uses the command.
LIMIT_VARIABLE = "PNAG_FILE_LIMIT_MB"

_TEMPORARY_NAMES = 100
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


# --- reading -------------------------------------------------------------------------------------


def read_bytes(path: StrPath, *, limit: int = READ_LIMIT) -> bytes:
    """Read a whole regular file of at most `limit` bytes.

    Raises
    ------
    FileAccessError
        If it cannot be read, or is no regular file: a pipe may never end, nor a device.
    FileFormatError
        If it is larger than `limit` and than the environment variable PNAG_FILE_LIMIT_MB allows.
    """
    require_path(path)
    try:
        with open_regular(path, limit=limit) as stream:
            return read_handle(stream.fileno(), path, limit)
    except OSError as error:
        if isinstance(error, FileAccessError):
            raise
        raise FileAccessError(f"cannot read '{path}': {error.strerror or error}") from error


def read_handle(handle: int, path: StrPath, limit: int) -> bytes:
    """Read an open file from where it stands, at most `limit` bytes; `path` names it in errors."""
    size = os.fstat(handle).st_size
    _check_size(path, size, limit)
    parts: list[bytes] = []
    total = 0
    # One byte more than there should be: files of /proc have no size, others may grow.
    while part := os.read(handle, max(size + 1 - total, 1 << 16)):
        parts.append(part)
        total += len(part)
        _check_size(path, total, limit)
    return parts[0] if len(parts) == 1 else b"".join(parts)


@contextlib.contextmanager
def open_regular(path: StrPath, *, limit: int = READ_LIMIT) -> Iterator[BinaryIO]:
    """Open a regular file of at most `limit` bytes for reading; raises what `read_bytes` raises."""
    require_path(path)
    try:
        # Looked at before it is opened, which alone makes some devices do things.
        require_regular(path, os.stat(path))
        handle = os.open(
            path,
            os.O_RDONLY
            | getattr(os, "O_BINARY", 0)
            | getattr(os, "O_NOCTTY", 0)
            # Should a pipe have taken its place meanwhile: do not wait for who writes to it.
            | getattr(os, "O_NONBLOCK", 0),
        )
    except OSError as error:
        if isinstance(error, FileAccessError):
            raise
        raise FileAccessError(f"cannot read '{path}': {error.strerror or error}") from error
    except ValueError as error:  # a name with a zero byte, or that is no text of the file system
        raise FileAccessError(f"cannot read {os.fspath(path)!r}: {error}") from error
    with os.fdopen(handle, "rb", buffering=0) as stream:
        found = os.fstat(handle)
        require_regular(path, found)
        _check_size(path, found.st_size, limit)
        yield stream


def require_path(path: object) -> None:
    """Refuse what names no file: an integer would be read from as an open file."""
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidTypeError(
            f"a file is named by a string or a pathlib.Path, found {type(path).__name__}"
        )


def require_regular(path: StrPath, found: os.stat_result) -> None:
    """Refuse what is no regular file by the name of what it is."""
    for is_kind, name in _KINDS:
        if is_kind(found.st_mode):
            raise FileAccessError(
                f"cannot read '{path}': it is {name}, not a regular file"
                + ("" if name == "a folder" else "; copy what it delivers into a file first")
            )


def _check_size(path: StrPath, size: int, limit: int) -> None:
    # The variable is looked at only by those that need it.
    if size > limit and size > (allowed := raised_limit()):
        bound = max(limit, allowed)
        raise FileFormatError(
            f"'{path}' has {size / 1e6:,.1f} MB or more; files of this kind are read up to "
            f"{bound / 1e6:,.1f} MB, so that a wrong or damaged file does not fill the memory; if "
            f"it is right, set the environment variable {LIMIT_VARIABLE} to "
            f"{max(1, -(-size // 1_000_000))} or more (in Python also: limit=, in bytes)"
        )


def raised_limit() -> int:
    """Return the bound in bytes that the environment sets; 0 where it sets none."""
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise InvalidInputError(
            f"the environment variable {LIMIT_VARIABLE} should be a number of megabytes such as "
            f"4000, found {text!r}"
        )
    return int(text) * 1_000_000


# --- writing -------------------------------------------------------------------------------------


def write_bytes(path: StrPath, data: bytes) -> None:
    """Write `data` to `path` atomically: temporary file, sync, rename, sync of the folder.

    A link is followed, and what it names is replaced. An existing file keeps its permissions and,
    where this process may give files away, its owner. What is no file (a pipe, ``/dev/stdout``,
    ``/dev/null``) is written to as it is. What a killed process has left of an earlier try is
    removed.

    Raises
    ------
    FileAccessError
        If the folder does not exist or the disk refuses; the old file, if any, is untouched.
    """
    require_path(path)
    try:
        stream = _stream_of(path)
        if stream is not None:
            _write_through(stream, data)
        else:
            _replace(os.path.realpath(path), data)
    except OSError as error:
        if isinstance(error, FileAccessError):
            raise
        raise FileAccessError(f"cannot write '{path}': {error.strerror or error}") from error
    except ValueError as error:  # a name with a zero byte
        raise FileAccessError(f"cannot write {os.fspath(path)!r}: {error}") from error


def make_folder(path: StrPath) -> Path:
    """Create a folder and its parents if needed and return it."""
    require_path(path)
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except ValueError as error:  # a name with a zero byte
        raise FileAccessError(f"cannot create folder {os.fspath(path)!r}: {error}") from error
    except OSError as error:
        raise FileAccessError(
            f"cannot create folder '{folder}': {error.strerror or error}"
        ) from error
    return folder


def write_whole(handle: int, data: bytes) -> None:
    """Write all of `data`: one call of the system may take a part only."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def lock(handle: int) -> bool | None:
    """Hold an open file for as long as it is open; False if another holds it, None if none can."""
    try:
        import fcntl
    except ImportError:  # no such locks on this operating system
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:  # nor on every file system
            return None
        return False
    return True


def unlock(handle: int) -> None:
    """Give up what `lock` holds, in forked processes that have not closed it yet as well."""
    try:
        import fcntl
    except ImportError:
        return
    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_UN)


def _stream_of(path: StrPath) -> int | None:
    """Open what is no file and can be written to; None where a file is or may be made."""
    own = _own_handle(path)
    if own is not None:
        # As the system does for a pipe: for a file too, or what is printed would be overwritten.
        if sys.stdout is not None:
            sys.stdout.flush()
        return os.dup(own)
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISREG(found.st_mode):
        return None
    if stat.S_ISCHR(found.st_mode) or stat.S_ISFIFO(found.st_mode):
        return os.open(path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0))
    name = next(name for is_kind, name in _KINDS if is_kind(found.st_mode))
    raise FileAccessError(f"cannot write '{path}': it is {name}")


def _own_handle(path: StrPath) -> int | None:
    """Find which open file of this process a path such as ``/dev/stdout`` stands for."""
    place = os.path.abspath(path)
    if not place.startswith(("/dev/", "/proc/")) and not os.path.islink(place):
        return None
    for _ in range(40):  # as many links as Linux follows
        folder, name = os.path.split(place)
        if name.isdigit() and os.path.realpath(folder) in (f"/proc/{os.getpid()}/fd", "/dev/fd"):
            return int(name)
        if not os.path.islink(place):
            return None
        place = os.path.join(folder, os.readlink(place))
    return None


def _write_through(handle: int, data: bytes) -> None:
    try:
        write_whole(handle, data)
    finally:
        os.close(handle)


def _replace(target: str, data: bytes) -> None:
    try:
        old = os.stat(target)
    except FileNotFoundError:
        old = None
    # A new file gets what the system gives new files; asking for the process's mask would mean
    # setting it, for all threads. A file that is replaced may be private from the first byte on.
    handle, temporary = _create(target, 0o666 if old is None else 0o600)
    try:
        write_whole(handle, data)
        if old is not None:
            _take_over(handle, old)
        os.fsync(handle)
        if os.name == "nt":  # which renames no open file
            os.close(handle)
            handle = -1
        os.replace(temporary, target)
    finally:
        # Renamed, its name may be another's by now.
        if handle < 0 or _is_at(handle, temporary):
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if handle >= 0:
            os.close(handle)
    _sync_folder(os.path.dirname(target))


def _take_over(handle: int, old: os.stat_result) -> None:
    """Give a new file the owner and the permissions of the one that it replaces."""
    mode = stat.S_IMODE(old.st_mode)
    if not hasattr(os, "fchown"):
        return
    new = os.fstat(handle)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(handle, old.st_uid, old.st_gid)
        except OSError:
            try:
                os.fchown(handle, -1, old.st_gid)
            except OSError:
                # Another group must not get what was meant for the old one.
                mode = (mode & ~0o070) | (mode & (mode << 3) & 0o070)
    os.fchmod(handle, mode)


def _create(target: str, mode: int) -> tuple[int, str]:
    """Create a temporary file beside `target` that this process holds.

    The names are few, so that the next writer of the same target finds, by their lock, those that
    nobody holds any more: what a killed process has left.
    """
    folder, name = os.path.split(target)
    if len(os.fsencode(name)) > 200:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    names = [os.path.join(folder, f".{name}.pnag-tmp{i or ''}") for i in range(_TEMPORARY_NAMES)]
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    for index, temporary in enumerate(names):
        for _ in range(10):  # others may take it, or take it away, at the same time
            try:
                handle = os.open(temporary, flags, mode)
            except FileExistsError:
                if not _remove_abandoned(temporary):
                    break
                continue
            if lock(handle) is not False and _is_at(handle, temporary):
                for other in names[index + 1 :]:
                    if not (os.path.lexists(other) and _remove_abandoned(other)):
                        break
                return handle, temporary
            os.close(handle)
    temporary = os.path.join(folder, f".{name}.pnag-tmp-{secrets.token_hex(8)}")
    return os.open(temporary, flags, mode), temporary


def _remove_abandoned(temporary: str) -> bool:
    """Remove a temporary file of this user that no process holds; return whether it is gone."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = os.open(temporary, flags)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        found = os.fstat(handle)
        own = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
        if not (own and stat.S_ISREG(found.st_mode) and lock(handle)):
            return False
        if _is_at(handle, temporary):
            os.unlink(temporary)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def _is_at(handle: int, path: str) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except OSError:
        return False


def _sync_folder(folder: str) -> None:
    """Bring a new name to the disk; where folders cannot be opened, the system does it alone."""
    try:
        handle = os.open(folder or ".", os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise
    finally:
        os.close(handle)
