"""An append-only journal of measurements that survives being killed at any moment.

One JSON object per line. The first line names the format. Each measurement carries the id of the
conditions under which it was made, so that one file serves several targets and never mixes them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from .. import files
from ..errors import FileAccessError, FileFormatError
from .device import Conditions

FORMAT = "pnag-measurements"
VERSION = 1
_HEADER = json.dumps({"format": FORMAT, "version": VERSION}).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Sample:
    """Milliseconds of one item in one pass, and of the reference program just before it."""

    ms: float
    reference_ms: float


class Journal:
    """Measurements made under given conditions, each on disk as soon as it is known.

    Parameters
    ----------
    path : path, optional
        File to read and extend; without it the journal lives in memory only.
    conditions
        Only measurements with exactly these are returned; others in the file are left alone.

    Attributes
    ----------
    samples : dict of dict
        For each item the sample of each pass.
    failures : dict
        The last error text of each item that failed and has not been measured since.
    notices : list of str
        What a user should know about the file: a torn line that was dropped, measurements that
        belong to other conditions.

    Raises
    ------
    FileFormatError
        If the file is no journal, or is damaged before its last line.
    FileAccessError
        If it cannot be read or written, or another process holds it.
    """

    def __init__(self, path: files.StrPath | None, conditions: Conditions) -> None:
        self.samples: dict[str, dict[int, Sample]] = {}
        self.failures: dict[str, str] = {}
        self.notices: list[str] = []
        text = json.dumps(dict(conditions), sort_keys=True)
        self._id = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._stream: BinaryIO | None = None
        self._path = None if path is None else Path(path)
        if self._path is None:
            return
        try:
            # Unbuffered, so that a line is with the operating system when append returns.
            self._stream = open(self._path, "a+b", buffering=0)  # noqa: SIM115 - closed in close()
        except OSError as error:
            raise FileAccessError(
                f"cannot open journal '{self._path}': {error.strerror or error}"
            ) from error
        try:
            self._lock(self._stream)
            if not self._load(self._stream):
                self._append({"conditions": self._id, "are": dict(conditions)})
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Journal:
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
        if self._stream is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._stream.fileno())
            self._stream.close()
            self._stream = None

    def add_sample(self, item: str, number: int, sample: Sample) -> None:
        """Record one measurement of `item`, in pass `number`."""
        self.samples.setdefault(item, {})[number] = sample
        self.failures.pop(item, None)
        self._append(
            {
                "measured": item,
                "under": self._id,
                "pass": number,
                "ms": sample.ms,
                "reference_ms": sample.reference_ms,
            }
        )

    def add_failure(self, item: str, error: str) -> None:
        """Record that `item` could not be measured, and why."""
        self.failures[item] = error
        self._append({"failed": item, "under": self._id, "error": error})

    def _append(self, record: Mapping[str, Any]) -> None:
        if self._stream is None:
            return
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        try:
            # One write per line: a process that is killed leaves whole lines or one torn last one.
            self._stream.write(line)
        except OSError as error:
            raise FileAccessError(
                f"cannot write journal '{self._path}': {error.strerror or error}"
            ) from error

    def _lock(self, stream: BinaryIO) -> None:
        try:
            import fcntl
        except ImportError:  # no such locks on this operating system
            return
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FileAccessError(
                f"journal '{self._path}' is in use by another process; wait for it, or give "
                "another work directory"
            ) from error

    def _load(self, stream: BinaryIO) -> bool:
        """Read the file and return whether it already names these conditions."""
        stream.seek(0)
        data = stream.read()
        # Before anything is cut off or appended: is this a journal at all?
        if not data.startswith(_HEADER):
            if not _HEADER.startswith(data):
                self._refuse(data)
            stream.truncate(0)
            stream.write(_HEADER)
            return False
        whole, newline, torn = data.rpartition(b"\n")
        if torn:
            stream.truncate(len(whole) + len(newline))
            self.notices.append(
                f"dropped the torn last line of '{self._path}': the measurement that was running "
                "when the process ended is made again"
            )
        named, foreign = False, 0
        for number, line in enumerate(whole.split(b"\n"), start=1):
            if number == 1:
                continue
            record = self._parse(line, number)
            if record.get("under") == self._id:
                self._remember(record, number)
            elif "measured" in record:
                foreign += 1
            named = named or record.get("conditions") == self._id
        if foreign:
            self.notices.append(
                f"left out {foreign} measurements of '{self._path}' that were made under other "
                "conditions (target, processor, threads, versions or protocol)"
            )
        return named

    def _refuse(self, data: bytes) -> None:
        try:
            header = json.loads(data.split(b"\n", 1)[0])
        except (UnicodeDecodeError, ValueError, RecursionError):
            header = None
        if isinstance(header, dict):
            files.check_header(header, str(self._path), FORMAT, VERSION)
        raise FileFormatError(f"'{self._path}' is not a {FORMAT} file; give another work directory")

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except (UnicodeDecodeError, ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise FileFormatError(
                f"'{self._path}' is damaged: line {number} is not a record; delete that line, or "
                "the file to measure everything again"
            )
        return record

    def _remember(self, record: Mapping[str, Any], number: int) -> None:
        try:
            if "failed" in record:
                self.failures[str(record["failed"])] = str(record["error"])
                return
            sample = Sample(float(record["ms"]), float(record["reference_ms"]))
            item, index = str(record["measured"]), int(record["pass"])
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(
                f"'{self._path}' is damaged: line {number} lacks {error}; delete that line, or the "
                "file to measure everything again"
            ) from error
        if not (0 < sample.ms < math.inf and 0 < sample.reference_ms < math.inf):
            raise FileFormatError(
                f"'{self._path}' is damaged: line {number} has a time of {sample.ms} ms; delete "
                "that line, or the file to measure everything again"
            )
        self.samples.setdefault(item, {})[index] = sample
        self.failures.pop(item, None)
