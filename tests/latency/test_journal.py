from __future__ import annotations

import json
import math

import pytest

from pnag_fast.errors import FileFormatError
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


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(None)
    assert list(tmp_path.iterdir()) == []
