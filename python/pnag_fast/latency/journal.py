"""The journal of measurements: what records of times and failures look like in it.

How a file of records survives a kill, damage and a full disk is in `pnag_fast.runs.journal`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import files
from ..runs import journal
from .device import Conditions

FORMAT = "pnag-measurements"
VERSION = 1

_MEASURED = ("measured", "pass", "ms", "reference_ms")
_FAILED = ("failed", "error")

# Any time at all; 0 ms is what no clock shows.
_SMALLEST_MS = 5e-324


@dataclass(frozen=True, slots=True)
class Sample:
    """Milliseconds of one item in one pass, and of the reference program just before it."""

    ms: float
    reference_ms: float


class Journal(journal.Journal):
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
    """

    def __init__(self, path: files.StrPath | None, conditions: Conditions) -> None:
        self.samples: dict[str, dict[int, Sample]] = {}
        self.failures: dict[str, str] = {}
        super().__init__(
            path,
            FORMAT,
            VERSION,
            shapes=(_MEASURED, _FAILED),
            accept=self._remember,
            conditions=conditions,
            otherwise="give another checkpoint",
        )
        others = self.foreign.values()
        if foreign := sum("measured" in record for records in others for record in records):
            self.notices.append(
                f"left out {foreign} measurements of '{path}' that were made under other "
                "conditions (target, processor, threads, versions or protocol)"
            )

    def add_sample(self, item: str, number: int, sample: Sample) -> None:
        """Record one measurement of `item`, in pass `number`."""
        self.append(
            {
                "measured": item,
                "pass": number,
                "ms": sample.ms,
                "reference_ms": sample.reference_ms,
            }
        )

    def add_failure(self, item: str, error: str) -> None:
        """Record that `item` could not be measured, and why."""
        self.append({"failed": item, "error": error})

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
