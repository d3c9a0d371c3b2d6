"""The journal of judged architectures: how many images each got right, and on which images."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from pnag_fast import files, strict_json
from pnag_fast.errors import FileFormatError
from pnag_fast.runs import journal

FORMAT = "pnag-judged"
# 1 was one JSON document, written anew each time; it is read, and becomes a journal.
VERSION = 2

_JUDGED = ("arch", "correct")
_OTHERWISE = "judge what it was made for, give another path, or delete the file"


class JudgedJournal(journal.Journal):
    """Counts of right answers, each on disk before the next are made.

    Parameters
    ----------
    path : path
        Made if absent.
    identity : dict
        What the counts depend on, by the names that an error should use.
    n_images : int
        No count is larger.

    Attributes
    ----------
    correct : dict
        Images that each architecture got right.
    """

    def __init__(self, path: files.StrPath, identity: Mapping[str, Any], n_images: int) -> None:
        self.correct: dict[str, int] = {}
        self._n_images = n_images
        if _is_version_1(path):
            self._convert(path, identity)
        super().__init__(
            path,
            FORMAT,
            VERSION,
            shapes=[_JUDGED],
            accept=self._remember,
            conditions=identity,
            alone=True,
            otherwise=_OTHERWISE,
            sync=True,
        )

    def add(self, correct: Mapping[str, int]) -> None:
        """Add the counts of architectures, by their notation."""
        self.append(*({"arch": arch, "correct": n} for arch, n in correct.items()))

    def _remember(self, record: journal.Record) -> None:
        arch = files.require(record, "arch", str, "a record")
        count = files.integer(record["correct"], "'correct'", low=0, high=self._n_images)
        self.correct[arch] = count

    def _convert(self, path: files.StrPath, identity: Mapping[str, Any]) -> None:
        document = files.read_json(path, FORMAT, 1, limit=journal.LIMIT)
        found = files.require(document, "of", dict, path)
        if found != identity:
            journal.refuse(path, found, identity, _OTHERWISE)
        counts = files.require(document, "correct", dict, path)
        for arch, n in counts.items():
            files.integer(
                n,
                f"journal '{path}' (delete it to judge everything again): the count of "
                f"{strict_json.shorten(arch)}",
                low=0,
                high=self._n_images,
            )
        records = [{"arch": arch, "correct": n} for arch, n in counts.items()]
        journal.write(path, FORMAT, VERSION, records, identity)


def _is_version_1(path: files.StrPath) -> bool:
    with contextlib.suppress(OSError, FileFormatError):
        with files.open_regular(path, limit=journal.LIMIT) as stream:
            head = stream.read(4096)
        first, newline, _ = head.partition(b"\n")
        if not newline:
            return len(head) == 4096
        if first.strip() == b"{":
            return True
        with contextlib.suppress(ValueError):
            found = strict_json.parse(first)
            return isinstance(found, dict) and found.get("version") == 1
    return False
