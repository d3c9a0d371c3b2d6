from __future__ import annotations

import json

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


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[1, 2]",
        b'{"measured": "block", "under": "ID", "pass": 0}',
        b'{"measured": "block", "under": "ID", "pass": 0, "ms": -1.0, "reference_ms": 1.0}',
        b'{"measured": "block", "under": "ID", "pass": 0, "ms": NaN, "reference_ms": 1.0}',
        b'{"measured": "block", "under": "ID", "pass": "x", "ms": 1.0, "reference_ms": 1.0}',
    ],
)
def test_damage_before_the_last_line_is_named(tmp_path, line):
    path = tmp_path / "journal.jsonl"
    write(path, n=1)
    lines = path.read_bytes().splitlines()
    identity = json.loads(lines[1])["conditions"].encode()
    lines.insert(2, line.replace(b"ID", identity))
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(FileFormatError, match="line 3"):
        Journal(path, HERE)


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
