from __future__ import annotations

import errno
import json
import math
import os
import random
import warnings

import pytest

from pnag_fast import files
from pnag_fast.errors import FileAccessError, FileFormatError, OtherRunError
from pnag_fast.runs import journal

HERE = {"target": "llvm", "threads": 1}
THERE = {"target": "llvm", "threads": 2}


class Values(journal.Journal):
    """Values by number."""

    def __init__(self, path, conditions=HERE, **options):
        self.values = {}
        super().__init__(
            path,
            "pnag-values",
            1,
            shapes=[("number", "value")],
            accept=self._take_value,
            conditions=conditions,
            **options,
        )

    def _take_value(self, record):
        number = files.integer(record["number"], "'number'", low=0)
        self.values[number] = files.number(record["value"], "'value'")

    def add(self, number, value):
        self.append({"number": number, "value": value})


def write(path, conditions=HERE, n=3):
    with Values(path, conditions) as kept:
        for i in range(n):
            kept.add(i, 1.0 + i)


def test_every_line_is_on_disk_before_the_journal_is_closed(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Values(path) as kept:
        kept.add(0, 1.0)
        assert path.read_bytes().endswith(b"}\n")
        assert json.loads(path.read_text().splitlines()[-1])["number"] == 0


def test_cut_anywhere_it_loses_at_most_the_last_record(tmp_path):
    whole = tmp_path / "journal.jsonl"
    write(whole)
    data = whole.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    # Every seventh place, and each side of every line's end.
    cuts = {*range(0, len(data), 7), *ends, *(end - 1 for end in ends), *(end + 1 for end in ends)}
    for length in sorted(cut for cut in cuts if cut <= len(data)):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(data[:length])
        # Two lines come before the first sample: the header and the conditions.
        expected = max(0, min(3, sum(end <= length for end in ends) - 2))
        with Values(path) as kept:
            assert len(kept.values) == expected
            torn = length not in (0, *ends) and length > ends[0]
            assert bool(kept.notices) == torn
            kept.add(9, 9.0)
        with Values(path) as kept:
            assert kept.values[9] == 9.0
            assert kept.notices == []


@pytest.mark.parametrize(
    "content",
    [b"hello", b"hello\nworld\n", b'{"format": "pnag-cost-table", "version": 1}\n', b"\x00\xff\n"],
)
def test_a_foreign_file_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="not a pnag-values file"):
        Values(path)
    assert path.read_bytes() == content


def test_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"format": "pnag-values", "version": 2}\n')
    with pytest.raises(FileFormatError, match="version 2"):
        Values(path)


def test_no_flipped_byte_changes_a_record(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, n=12)
    data = path.read_bytes()
    whole = {i: 1.0 + i for i in range(12)}
    rng = random.Random(0)
    first = data.index(b"\n") + 1
    lost = 0
    for _ in range(400):
        damaged = bytearray(data)
        damaged[rng.randrange(first, len(data) - 1)] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with Values(path) as kept:
            found = kept.values
            assert found.items() <= whole.items()
            # A newline that is gone joins two records.
            assert len(found) >= 10
            lost += len(found) < 12
            assert len(found) == 12 or kept.notices
    assert lost > 300


def test_a_damaged_first_line_is_named_with_what_it_should_be(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path)
    data = path.read_bytes()
    path.write_bytes(b"x" + data)
    with pytest.raises(FileFormatError, match="make its first line") as raised:
        Values(path)
    assert data.splitlines()[0].decode() in str(raised.value)


class Disk:
    """A disk that takes `room` bytes, at most half of what it is given at once."""

    def __init__(self, monkeypatch, room):
        self.room, self._write = room, os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, handle, data):
        taken = min(self.room, max(1, len(data) // 2))
        if taken == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= taken
        return self._write(handle, bytes(data)[:taken])


def test_short_writes_are_finished(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    Disk(monkeypatch, 10**6)
    write(path)
    with Values(path) as kept:
        assert kept.values == {i: 1.0 + i for i in range(3)}
        assert kept.notices == []


@pytest.mark.parametrize("room", [0, 1, 30, 60])
@pytest.mark.parametrize("cut", [True, False])
def test_a_disk_that_fills_and_is_freed_leaves_a_journal_that_goes_on(
    tmp_path, monkeypatch, room, cut
):
    path = tmp_path / "journal.jsonl"
    write(path, n=1)
    before = path.read_bytes()
    with Values(path) as kept:
        disk = Disk(monkeypatch, room)
        if not cut:

            def refuse(*_):
                raise OSError(errno.EIO, "Input/output error")

            monkeypatch.setattr(os, "ftruncate", refuse)
        with pytest.raises(FileAccessError, match="No space left"):
            kept.add(1, 2.0)
        if cut:
            assert path.read_bytes() == before
        disk.room = 10**6
        kept.add(2, 3.0)
    monkeypatch.undo()
    with Values(path) as kept:
        assert kept.values == {0: 1.0, 2: 3.0}
        assert bool(kept.notices) == (not cut and room > 0)


def test_a_limit_on_the_size_of_files_is_a_full_disk(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "journal.jsonl"
    write(path, n=1)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Values(path) as kept:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 25, limits[1]))
        try:
            with pytest.raises(FileAccessError, match="File too large"):
                kept.add(1, 2.0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before
        kept.add(1, 2.0)
    with Values(path) as kept:
        assert len(kept.values) == 2
        assert kept.notices == []


def test_what_is_no_file_is_no_journal(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero", "/dev/null"):
        with pytest.raises(FileAccessError, match="folder|pipe|device"):
            Values(path)


def test_two_processes_do_not_write_one_journal(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "journal.jsonl"
    with Values(path), pytest.raises(FileAccessError, match="in use by another process"):
        Values(path)
    with Values(path):
        pass


def test_a_folder_that_is_absent_is_named(tmp_path):
    with pytest.raises(FileAccessError, match="absent"):
        Values(tmp_path / "absent" / "journal.jsonl")


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Values(None) as kept:
        kept.add(0, 1.0)
        assert kept.values == {0: 1.0}
        with pytest.raises(FileFormatError, match="'value'"):
            kept.add(1, math.inf)
    assert kept.values == {0: 1.0}
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_back_is_not_written(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Values(path) as kept:
        before = path.read_bytes()
        for value in (math.nan, "1", None):
            with pytest.raises(FileFormatError, match="'value'"):
                kept.add(0, value)
        assert path.read_bytes() == before


def test_one_file_serves_several_conditions_or_one_alone(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, THERE)
    with pytest.raises(OtherRunError, match=r"is of other threads \(2, now 1\); give another path"):
        Values(path, alone=True)
    # The refusal let go of the file.
    with Values(path, THERE, alone=True) as kept:
        assert kept.values == {i: 1.0 + i for i in range(3)}
    with Values(path) as kept:
        assert kept.values == {}
        assert sum(len(records) for records in kept.foreign.values()) == 3
        kept.add(0, 7.0)
    # Both are in it now.
    for conditions, values in ((HERE, {0: 7.0}), (THERE, {i: 1.0 + i for i in range(3)})):
        with Values(path, conditions, alone=True) as kept:
            assert kept.values == values


def test_a_file_that_has_lost_what_it_is_of_is_refused_as_well(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, THERE)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"".join(lines[2:]))
    with pytest.raises(OtherRunError, match="is of other conditions; give another path"):
        Values(path, alone=True)


def test_one_that_is_empty_but_for_its_first_line_is_of_anything(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, THERE, n=0)
    with Values(path, alone=True) as kept:
        kept.add(0, 1.0)
    with pytest.raises(OtherRunError):
        Values(path, THERE, alone=True)


def test_without_conditions_records_carry_none(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, None)
    assert "under" not in path.read_text()
    with Values(path, None, alone=True) as kept:
        assert len(kept.values) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_process_that_is_forked_meanwhile_does_not_keep_it(tmp_path):
    """A worker of a pool that was filled while a question was asked, and lives on."""
    path = tmp_path / "journal"
    waits, ends = os.pipe()
    with Values(path) as held, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads are of no concern here
        child = os.fork()
        if child == 0:  # pragma: no cover
            os.close(ends)
            os.read(waits, 1)
            os._exit(3 if held._handle is None else 4)
        held.add(1, 2.0)
        with pytest.raises(FileAccessError, match="in use by another process"):
            Values(path)
    try:
        with Values(path) as again:
            assert again.values == {1: 2.0}
    finally:
        os.close(ends)
        os.close(waits)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 3
