"""The journal of measurements: what records of times and failures look like in it.

How a file of records survives a kill, damage and a full disk is in `pnag_fast.runs.journal`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

from .. import files
from ..runs import journal
from .device import Conditions

FORMAT = "pnag-measurements"
VERSION = 1

_MEASURED = frozenset({"measured", "pass", "ms", "reference_ms"})
_FAILED = frozenset({"failed", "error"})

# Any time at all; 0 ms is what no clock shows.
_SMALLEST_MS = 5e-324


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
        What a user should know about the file: lines that were dropped because they were torn or
        damaged, measurements that belong to other conditions.

    Raises
    ------
    FileFormatError
        If the file is no journal.
    FileAccessError
        If it cannot be read or written, or another process holds it.
    """

    def __init__(self, path: files.StrPath | None, conditions: Conditions) -> None:
        self.samples: dict[str, dict[int, Sample]] = {}
        self.failures: dict[str, str] = {}
        self.notices: list[str] = []
        self._file: journal.Journal | None = None
        if path is None:
            return
        self._file = journal.Journal(
            path,
            FORMAT,
            VERSION,
            shapes=(_MEASURED, _FAILED),
            accept=self._remember,
            conditions=conditions,
            otherwise="give another work directory",
        )
        self.notices.extend(self._file.notices)
        others = self._file.foreign.values()
        if foreign := sum("measured" in record for records in others for record in records):
            self.notices.append(
                f"left out {foreign} measurements of '{path}' that were made under other "
                "conditions (target, processor, threads, versions or protocol)"
            )

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
        if self._file is not None:
            self._file.close()

    def add_sample(self, item: str, number: int, sample: Sample) -> None:
        """Record one measurement of `item`, in pass `number`."""
        self._add(
            {
                "measured": item,
                "pass": number,
                "ms": sample.ms,
                "reference_ms": sample.reference_ms,
            }
        )

    def add_failure(self, item: str, error: str) -> None:
        """Record that `item` could not be measured, and why."""
        self._add({"failed": item, "error": error})

    def _add(self, record: journal.Record) -> None:
        # Checked as when it is read: what would be left out then must not be trusted now.
        self._remember(record)
        if self._file is not None:
            self._file.append(record)

    def _remember(self, record: journal.Record) -> None:
        what = "a record of a measurement"
        if "failed" in record:
            item = files.require(record, "failed", str, what)
            self.failures[item] = files.require(record, "error", str, what)
            return
        item = files.require(record, "measured", str, what)
        number = files.integer(record["pass"], "'pass'", low=0)
        ms, reference_ms = (
            files.number(record[key], f"'{key}'", low=_SMALLEST_MS)
            for key in ("ms", "reference_ms")
        )
        self.samples.setdefault(item, {})[number] = Sample(ms, reference_ms)
        self.failures.pop(item, None)
