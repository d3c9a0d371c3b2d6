"""Work with items, whose results are records of a file that survives kills, damage and full disks.

One JSON object per line. The first line names the format. Every record carries a checksum of
itself, and the id of the conditions under which it was made, which a line of their own spells out;
so one file serves several conditions and never mixes them, unless it is to serve one alone. What a
record means is up to `accept`; a class of its own, such as `pnag_fast.supernet.judged`, is worth it
where records turn into something that others read.

Examples
--------
>>> asked = {}
>>> def accept(record):
...     asked[record["arch"]] = record["value"]
>>> with Journal(None, "pnag-asked", 1, shapes=[{"arch", "value"}], accept=accept) as journal:
...     journal.append({"arch": "2:3,5", "value": 0.7})
>>> asked
{'2:3,5': 0.7}
"""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TypeVar

from .. import disk, files, strict_json
from ..errors import FileAccessError, FileFormatError, OtherRunError
from .identity import differences

Record = dict[str, Any]

LIMIT = 1 << 30

_CHECK = "check"
_UNDER = "under"
_CONDITIONS = frozenset({"conditions", "are"})

# Line numbers that a notice lists.
_LISTED = 5


_Self = TypeVar("_Self", bound="Journal")


# Journals that this process holds. A lock is held for as long as any process has the file open, and
# workers of a pool, which may be forked while something is asked, live on.
_OPEN: weakref.WeakSet[Journal] = weakref.WeakSet()


class Journal:
    """The records of a file that were made under given conditions; new ones are added at its end.

    Parameters
    ----------
    path : path, optional
        File to read and extend; made if absent. None keeps nothing.
    format_name, version
        As in the first line.
    shapes : collection of sets of str
        The fields of each kind of record. A record with others is damaged.
    accept : callable
        Given each record that was made under `conditions`, in order, those of the file and those
        that are appended; raises `ValueError` where it cannot be. In the file it then counts as
        damaged.
    conditions : dict, optional
        JSON values, by the names that an error should use. Without them records carry no id.
    alone : bool
        Whether a file of other conditions is refused. Else it serves these as well.
    otherwise : str
        What to do with a file that is something else: ``"give another checkpoint"``.
    sync : bool
        Wait for the disk after every `append`; without it a record survives the end of the process,
        but may not survive that of the machine.

    Attributes
    ----------
    notices : list of str
        What a user should know about the file: lines that were damaged or torn.
    foreign : dict
        For each id of other conditions the records made under it; not accepted, only whole.

    Raises
    ------
    FileFormatError
        If the file is another format or from a newer version.
    OtherRunError
        If it is of other conditions, and should be of these alone; it is left alone.
    FileAccessError
        If it cannot be read or written, is no regular file, or another process holds it.
    """

    def __init__(
        self,
        path: files.StrPath | None,
        format_name: str,
        version: int,
        *,
        shapes: Iterable[Collection[str]],
        accept: Callable[[Record], None],
        conditions: Mapping[str, Any] | None = None,
        alone: bool = False,
        otherwise: str = "give another path",
        sync: bool = False,
        limit: int = LIMIT,
    ) -> None:
        self.notices: list[str] = []
        self.foreign: dict[str, list[Record]] = {}
        self._others: dict[str, Any] = {}
        self._path = None if path is None else Path(path)
        self._format, self._version = format_name, version
        self._conditions = None if conditions is None else dict(conditions)
        self._id = None if conditions is None else identify(conditions)
        stamp = () if self._id is None else (_UNDER,)
        self._shapes = {frozenset((*shape, *stamp)) for shape in shapes}
        self._accept, self._otherwise, self._sync = accept, otherwise, sync
        self._named = self._id is None
        self._torn = False
        self._handle: int | None = None
        if self._path is None:
            return
        self._handle = self._open(self._path)
        _OPEN.add(self)
        try:
            if disk.lock(self._handle) is False:
                raise FileAccessError(
                    f"journal '{path}' is in use by another process; wait for it, or {otherwise}"
                )
            self._load(self._handle, self._path, limit)
            if alone and not self._named and (self._others or self.foreign):
                other = next(iter(self._others.values()), None)
                refuse(self._path, other, conditions or {}, otherwise)
        except BaseException:
            self.close()
            raise

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Sync and close the file; other processes may use it from then on."""
        handle, self._handle = self._handle, None
        if handle is not None:
            try:
                os.fsync(handle)
            except OSError:  # what was added is with the operating system all the same
                pass
            finally:
                # A child that is being forked may not have come to closing it yet.
                disk.unlock(handle)
                os.close(handle)

    def _leave(self) -> None:
        """Close the file in a process that was forked, and leave it and its lock to the parent."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def append(self, *records: Mapping[str, Any]) -> None:
        """Accept records, and add them; when this returns they are with the system, whole.

        Raises
        ------
        ValueError
            What `accept` raises: what would be left out when it is read must not be trusted now.
        FileAccessError
            If the disk is full or refuses otherwise; the file is as it was before.
        """
        for record in records:
            self._accept(dict(record))
        if self._path is None:
            return
        stamp = {} if self._id is None else {_UNDER: self._id}
        lines = [encode({**record, **stamp}) for record in records]
        if not self._named:
            lines.insert(0, encode({"conditions": self._id, "are": self._conditions}))
        self._write(b"".join(lines))
        self._named = True

    @staticmethod
    def _open(path: Path) -> int:
        try:
            if path.exists():
                disk.require_regular(path, os.stat(path))
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
            for name in ("O_BINARY", "O_NOCTTY", "O_NONBLOCK"):
                flags |= getattr(os, name, 0)
            handle = os.open(path, flags, 0o666)
        except OSError as error:
            if isinstance(error, FileAccessError):
                raise
            raise FileAccessError(
                f"cannot open journal '{path}': {error.strerror or error}"
            ) from error
        except ValueError as error:
            raise FileAccessError(f"cannot open journal {str(path)!r}: {error}") from error
        try:
            disk.require_regular(path, os.fstat(handle))
        except BaseException:
            os.close(handle)
            raise
        return handle

    def _write(self, lines: bytes) -> None:
        if self._handle is None:
            raise FileAccessError(f"cannot write journal '{self._path}': it is closed")
        start = os.fstat(self._handle).st_size
        try:
            # What an earlier failure has left, and could not be cut off, must not swallow this.
            disk.write_whole(self._handle, b"\n" + lines if self._torn else lines)
            if self._sync:
                os.fsync(self._handle)
            self._torn = False
        except BaseException as error:
            # A disk that is full takes part of a line; when space is found again the next one
            # must not follow that part.
            try:
                os.ftruncate(self._handle, start)
            except OSError:
                self._torn = True
            if isinstance(error, OSError):
                raise FileAccessError(
                    f"cannot write journal '{self._path}': {error.strerror or error}"
                ) from error
            raise

    def _load(self, handle: int, path: Path, limit: int) -> None:
        try:
            data = disk.read_handle(handle, path, limit)
        except OSError as error:
            raise FileAccessError(
                f"cannot read journal '{path}': {error.strerror or error}"
            ) from error
        first = header(self._format, self._version)
        # Before anything is cut off or appended: is this a journal at all?
        if b"\n" not in data:
            if not first.startswith(data):
                self._refuse(data, path)
            os.ftruncate(handle, 0)
            self._write(first)
            return
        top, _, rest = data.partition(b"\n")
        self._check_header(top, rest, path)
        whole, newline, torn = rest.rpartition(b"\n")
        if torn:
            os.ftruncate(handle, len(data) - len(torn))
            self.notices.append(
                f"dropped the torn last line of '{self._path}': what was being written when the "
                "process ended is made again"
            )
        damaged: list[int] = []
        reason = ""
        for number, line in enumerate(whole.split(b"\n") if newline else (), start=2):
            if not line.strip():
                continue
            try:
                self._take(decode(line))
            except (KeyError, TypeError, ValueError) as error:
                damaged.append(number)
                reason = reason or str(error)
        if damaged:
            listed = ", ".join(map(str, damaged[:_LISTED]))
            more = f" and {len(damaged) - _LISTED} more" if len(damaged) > _LISTED else ""
            self.notices.append(
                f"left out {len(damaged)} damaged record{'s' if len(damaged) > 1 else ''} of "
                f"'{self._path}' (line{'s' if len(damaged) > 1 else ''} {listed}{more}; the first: "
                f"{reason}); what is lacking is made again"
            )

    def _take(self, record: Record) -> None:
        if record.keys() == _CONDITIONS:
            if self._id is None or record["conditions"] != identify(record["are"]):
                raise ValueError("conditions that are not those of their id")
            self._named = self._named or record["conditions"] == self._id
            if record["conditions"] != self._id:
                self._others[record["conditions"]] = record["are"]
            return
        if frozenset(record) not in self._shapes:
            raise ValueError(f"fields {strict_json.shorten(sorted(record))}")
        under = record.pop(_UNDER, None)
        if under == self._id:
            self._accept(record)
        elif not isinstance(under, str):
            raise ValueError("an id of conditions that is none")
        else:
            self.foreign.setdefault(under, []).append(record)

    def _check_header(self, top: bytes, rest: bytes, path: Path) -> None:
        try:
            found = strict_json.parse(top)
        except ValueError:
            found = None
        if isinstance(found, dict) and found.get("format") == self._format:
            files.check_header(found, path, self._format, self._version)
            return
        if any(map(_is_checked, rest.split(b"\n")[:100])):
            first = header(self._format, self._version).decode().strip()
            raise FileFormatError(
                f"the first line of '{path}' is damaged; if it is a {self._format} file, "
                f"make its first line {first}, or {self._otherwise}"
            )
        self._refuse(top, path)

    def _refuse(self, top: bytes, path: Path) -> None:
        try:
            found = strict_json.parse(top)
        except ValueError:
            found = None
        if isinstance(found, dict):
            files.check_header(found, path, self._format, self._version)
        raise FileFormatError(f"'{path}' is not a {self._format} file; {self._otherwise}")


def refuse(
    path: files.StrPath, found: object, conditions: Mapping[str, Any], otherwise: str
) -> NoReturn:
    """Raise what says that a journal is of other conditions, and in what they differ."""
    now = json.loads(json.dumps(dict(conditions)))
    other = differences(found, now) if isinstance(found, dict) else "conditions"
    raise OtherRunError(f"journal '{path}' is of other {other}; {otherwise}")


def identify(conditions: Mapping[str, Any]) -> str:
    """Id of conditions: equal exactly when they are."""
    text = json.dumps(dict(conditions), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def header(format_name: str, version: int) -> bytes:
    """First line of a journal."""
    return json.dumps({"format": format_name, "version": version}).encode() + b"\n"


def encode(record: Mapping[str, Any]) -> bytes:
    """Line of a record, with a checksum.

    Raises
    ------
    FileFormatError
        If a value is none of JSON: an infinity, an object.
    """
    try:
        text = json.dumps(dict(record), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise FileFormatError(f"cannot keep a record in a journal: {error}") from error
    return (text[:-1] + _check_field(_checksum(text.encode()))).encode() + b"\n"


def decode(line: bytes) -> Record:
    """Read what `encode` made, or a line without checksum, as older releases wrote it.

    Raises
    ------
    ValueError
        If it is no record, or is not as it was written.
    """
    record = strict_json.parse(line)
    if not isinstance(record, dict):
        raise ValueError(f"a {type(record).__name__} instead of a record")
    written = record.pop(_CHECK, None)
    if written is not None and not _is_whole(line, written):
        raise ValueError("its checksum is another")
    return record


def write(
    path: files.StrPath,
    format_name: str,
    version: int,
    records: Iterable[Mapping[str, Any]],
    conditions: Mapping[str, Any] | None = None,
) -> None:
    """Write a whole journal atomically; what was kept in another way becomes one."""
    lines = [header(format_name, version)]
    stamp = {}
    if conditions is not None:
        stamp = {_UNDER: identify(conditions)}
        lines.append(encode({"conditions": stamp[_UNDER], "are": dict(conditions)}))
    lines.extend(encode({**record, **stamp}) for record in records)
    files.write_bytes(path, b"".join(lines))


def _check_field(checksum: object) -> str:
    return f', "{_CHECK}": "{checksum}"}}'


def _checksum(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


def _is_whole(line: bytes, checksum: object) -> bool:
    """Whether a line has the checksum of the record that it would be without it."""
    end = len(_check_field(checksum))
    return _checksum(line.rstrip()[:-end] + b"}") == checksum


def _is_checked(line: bytes) -> bool:
    try:
        record = strict_json.parse(line)
    except ValueError:
        return False
    return isinstance(record, dict) and _CHECK in record and _is_whole(line, record[_CHECK])


def _leave_to_parent() -> None:
    for journal in list(_OPEN):
        journal._leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
