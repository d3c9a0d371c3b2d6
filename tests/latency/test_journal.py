from __future__ import annotations

import errno
import json
import math
import os
import random

import pytest

from pnag_fast.errors import FileAccessError, FileFormatError
from pnag_fast.latency.journal import Journal, Sample

HERE = {"target": "llvm", "threads": 1}
THERE = {"target": "llvm", "threads": 2}


def write(path, conditions=HERE, n=3):
    with Journal(path, conditions) as journal:
        for i in range(n):
            journal.add_sample("block", i, Sample(1.0 + i, 0.5))
        journal.add_failure("other", "it broke")


def test_what_was_written_is_read_back(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path)
    with Journal(path, HERE) as journal:
        assert journal.samples == {"block": {i: Sample(1.0 + i, 0.5) for i in range(3)}}
        assert journal.failures == {"other": "it broke"}
        assert journal.notices == []
        journal.add_sample("other", 0, Sample(2.0, 0.5))
    with Journal(path, HERE) as journal:
        assert journal.failures == {}


def test_every_line_is_on_disk_before_the_journal_is_closed(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path, HERE) as journal:
        journal.add_sample("block", 0, Sample(1.0, 0.5))
        assert path.read_bytes().endswith(b"}\n")
        assert json.loads(path.read_text().splitlines()[-1])["measured"] == "block"


def test_cut_anywhere_it_loses_at_most_the_last_measurement(tmp_path):
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
        with Journal(path, HERE) as journal:
            assert len(journal.samples.get("block", {})) == expected
            torn = length not in (0, *ends) and length > ends[0]
            assert bool(journal.notices) == torn
            journal.add_sample("block", 9, Sample(9.0, 0.5))
        with Journal(path, HERE) as journal:
            assert journal.samples["block"][9] == Sample(9.0, 0.5)
            assert journal.notices == []


def test_measurements_under_other_conditions_are_kept_and_not_mixed_in(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, THERE)
    with Journal(path, HERE) as journal:
        assert journal.samples == {}
        assert journal.failures == {}
        assert "3 measurements" in journal.notices[0]
        journal.add_sample("block", 0, Sample(7.0, 0.5))
    with Journal(path, THERE) as journal:
        assert journal.samples["block"][0] == Sample(1.0, 0.5)
    with Journal(path, HERE) as journal:
        assert journal.samples == {"block": {0: Sample(7.0, 0.5)}}


@pytest.mark.parametrize(
    "content",
    [b"hello", b"hello\nworld\n", b'{"format": "pnag-cost-table", "version": 1}\n', b"\x00\xff\n"],
)
def test_a_foreign_file_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="not a pnag-measurements file"):
        Journal(path, HERE)
    assert path.read_bytes() == content


def test_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"format": "pnag-measurements", "version": 2}\n')
    with pytest.raises(FileFormatError, match="version 2"):
        Journal(path, HERE)


DAMAGE = [
    b"not json",
    b"[1, 2]",
    b'{"measured": "block", "under": "ID", "pass": 0}',
    b'{"measured": "block", "under": "ID", "pass": 0, "ms": -1.0, "reference_ms": 1.0}',
    b'{"measured": "block", "under": "ID", "pass": 0, "ms": 0, "reference_ms": 1.0}',
    b'{"measured": "block", "under": "ID", "pass": 0, "ms": NaN, "reference_ms": 1.0}',
    b'{"measured": "block", "under": "ID", "pass": 0, "ms": 1.0, "reference_ms": Infinity}',
    b'{"measured": "block", "under": "ID", "pass": 0, "ms": 1e999, "reference_ms": 1.0}',
    b'{"measured": "block", "under": "ID", "pass": Infinity, "ms": 1.0, "reference_ms": 1.0}',
    b'{"measured": "block", "under": "ID", "pass": "x", "ms": 1.0, "reference_ms": 1.0}',
    b'{"measured": "block", "under": "ID", "pass": true, "ms": 1.0, "reference_ms": 1.0}',
    b'{"measured": "block", "under": "ID", "pass": -1, "ms": 1.0, "reference_ms": 1.0}',
    b'{"measured": "block", "under": "ID", "pass": 0, "ms": "1.0", "reference_ms": 1.0}',
    b'{"measured": "block", "under": "ID", "pass": 0, "ms": 1.0, "ms": 2.0, "reference_ms": 1.0}',
    b'{"measured": "block", "under": "ID", "pass": 0, "ms": 1%s, "reference_ms": 1}' % (b"0" * 400),
    b'{"measured": "block", "under": "ID", "pass": 1%s, "ms": 1, "reference_ms": 1}'
    % (b"0" * 9000),
    b'{"measured": ["block"], "under": "ID", "pass": 0, "ms": 1.0, "reference_ms": 1.0}',
    b'{"measured": "block", "under": 3, "pass": 0, "ms": 1.0, "reference_ms": 1.0}',
    b'{"failed": "block", "under": "ID", "error": null}',
    b'{"conditions": "ID", "are": null}',
    b'{"conditions": [], "are": {}}',
    b"[" * 100_000,
    b"\x00" * 40,
    b"\xff\xfe",
]


@pytest.mark.parametrize("line", DAMAGE, ids=range(len(DAMAGE)))
def test_damage_in_the_middle_loses_that_record_alone(tmp_path, line):
    path = tmp_path / "journal.jsonl"
    write(path, n=2)
    lines = path.read_bytes().splitlines()
    identity = json.loads(lines[1])["conditions"].encode()
    lines[2] = line.replace(b"ID", identity)
    path.write_bytes(b"\n".join(lines) + b"\n")
    with Journal(path, HERE) as journal:
        assert journal.samples == {"block": {1: Sample(2.0, 0.5)}}
        assert journal.failures == {"other": "it broke"}
        (notice,) = journal.notices
        assert "1 damaged record" in notice
        assert "line 3" in notice
        journal.add_sample("block", 0, Sample(3.0, 0.5))
    with Journal(path, HERE) as journal:
        assert journal.samples["block"] == {0: Sample(3.0, 0.5), 1: Sample(2.0, 0.5)}


def test_no_flipped_byte_changes_a_measurement(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, n=12)
    data = path.read_bytes()
    whole = {i: Sample(1.0 + i, 0.5) for i in range(12)}
    rng = random.Random(0)
    first = data.index(b"\n") + 1
    lost = 0
    for _ in range(400):
        damaged = bytearray(data)
        damaged[rng.randrange(first, len(data) - 1)] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with Journal(path, HERE) as journal:
            found = journal.samples.get("block", {})
            assert found.items() <= whole.items()
            assert set(journal.samples) <= {"block"}
            assert journal.failures in ({}, {"other": "it broke"})
            # A newline that is gone joins two records.
            assert len(found) >= 10
            lost += len(found) < 12
            assert len(found) == 12 or journal.notices
    assert lost > 300


def test_records_of_older_releases_are_read(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, n=2)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    for line in lines[1:]:
        del line["check"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Journal(path, HERE) as journal:
        assert journal.samples == {"block": {i: Sample(1.0 + i, 0.5) for i in range(2)}}
        assert journal.failures == {"other": "it broke"}
        assert journal.notices == []


def test_a_damaged_first_line_is_named_with_what_it_should_be(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path)
    data = path.read_bytes()
    path.write_bytes(b"x" + data)
    with pytest.raises(FileFormatError, match="make its first line") as raised:
        Journal(path, HERE)
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
    with Journal(path, HERE) as journal:
        assert journal.samples == {"block": {i: Sample(1.0 + i, 0.5) for i in range(3)}}
        assert journal.notices == []


@pytest.mark.parametrize("room", [0, 1, 30, 60])
@pytest.mark.parametrize("cut", [True, False])
def test_a_disk_that_fills_and_is_freed_leaves_a_journal_that_goes_on(
    tmp_path, monkeypatch, room, cut
):
    path = tmp_path / "journal.jsonl"
    write(path, n=1)
    before = path.read_bytes()
    with Journal(path, HERE) as journal:
        disk = Disk(monkeypatch, room)
        if not cut:

            def refuse(*_):
                raise OSError(errno.EIO, "Input/output error")

            monkeypatch.setattr(os, "ftruncate", refuse)
        with pytest.raises(FileAccessError, match="No space left"):
            journal.add_sample("block", 1, Sample(2.0, 0.5))
        if cut:
            assert path.read_bytes() == before
        disk.room = 10**6
        journal.add_sample("block", 2, Sample(3.0, 0.5))
    monkeypatch.undo()
    with Journal(path, HERE) as journal:
        assert journal.samples["block"] == {0: Sample(1.0, 0.5), 2: Sample(3.0, 0.5)}
        assert bool(journal.notices) == (not cut and room > 0)


def test_a_limit_on_the_size_of_files_is_a_full_disk(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "journal.jsonl"
    write(path, n=1)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(path, HERE) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 25, limits[1]))
        try:
            with pytest.raises(FileAccessError, match="File too large"):
                journal.add_sample("block", 1, Sample(2.0, 0.5))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before
        journal.add_sample("block", 1, Sample(2.0, 0.5))
    with Journal(path, HERE) as journal:
        assert len(journal.samples["block"]) == 2
        assert journal.notices == []


def test_what_is_no_file_is_no_journal(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero", "/dev/null"):
        with pytest.raises(FileAccessError, match="folder|pipe|device"):
            Journal(path, HERE)


@pytest.mark.parametrize(
    "sample", [Sample(math.inf, 1.0), Sample(1.0, math.nan), Sample(-1.0, 1.0)]
)
def test_a_time_that_cannot_be_is_not_written(tmp_path, sample):
    path = tmp_path / "journal.jsonl"
    with Journal(path, HERE) as journal:
        before = path.read_bytes()
        with pytest.raises(FileFormatError, match="ms"):
            journal.add_sample("block", 0, sample)
        assert path.read_bytes() == before


def test_two_processes_do_not_write_one_journal(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "journal.jsonl"
    with Journal(path, HERE), pytest.raises(FileAccessError, match="in use by another process"):
        Journal(path, HERE)
    with Journal(path, HERE):
        pass


def test_a_folder_that_is_absent_is_named(tmp_path):
    with pytest.raises(FileAccessError, match="absent"):
        Journal(tmp_path / "absent" / "journal.jsonl", HERE)


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(None)
    assert list(tmp_path.iterdir()) == []
