from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pnag_fast as pf


def test_measuring_says_what_it_found(run, tiny, tiny_table, tmp_path, monkeypatch):
    correction = {"r2": 0.5, "mean_error": 0.2, "networks": 20}
    blocks = {"a": {"steady": True}, "b": {"steady": False}}
    table = dataclasses.replace(
        tiny_table,
        provenance={
            "correction": correction,
            "tuning_trials": 10,
            "tuning": {"speedup": 1.5},
            "blocks": blocks,
        },
    )
    asked = []
    monkeypatch.setattr(pf.latency, "measure", lambda space, **o: asked.append(o) or table)
    out = tmp_path / "cpu.json"
    code, text, err = run("measure", "--out", out)
    assert code == 0, err
    assert text.startswith("WARNING: The cost table of 'test device' explains too little")
    assert "tuned with 10 trials" in text
    assert "1 of 2 blocks are unsteady" in text
    assert asked[0]["checkpoint"] == tmp_path / "cpu.json.checkpoint"
    code, text, err = run("measure", "--out", out, "--checkpoint", tmp_path / "mine", "--json")
    assert (code, err) == (0, "")
    assert asked[1]["checkpoint"] == tmp_path / "mine"
    document = json.loads(text)
    assert document["unsteady_blocks"] == ["b"]
    assert len(document["warnings"]) == 1
    monkeypatch.setattr(
        pf.latency, "measure", lambda space, **o: dataclasses.replace(
            table, provenance={**table.provenance, "tuning_trials": 0}
        )
    )  # fmt: skip
    assert "not tuned" in run("measure", "--out", out)[1]


def test_measuring_into_a_device_asks_where_to_work(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("measure", "--out", "/dev/null")
    assert code == 2
    assert "--checkpoint says where" in err


def test_where_measurements_are_kept(run, tiny_table, tmp_path, monkeypatch):
    provenance = {
        "tuning_trials": 0, "tuning": {"speedup": 1.0}, "blocks": {}, "correction": {"r2": 1.0}
    }  # fmt: skip
    table = dataclasses.replace(tiny_table, provenance=provenance)
    asked = []

    def measure(space, *, checkpoint, **others):
        asked.append(checkpoint)
        Path(checkpoint).mkdir(exist_ok=True)
        return table

    monkeypatch.setattr(pf.latency, "measure", measure)
    command = ["measure", "--out", tmp_path / "cpu.json"]
    assert run(*command)[0] == 0
    assert (tmp_path / "cpu.json.checkpoint").exists()  # others start from it
    assert run(*command, "--no-checkpoint")[0] == 0
    assert not Path(asked[1]).exists()
    # An earlier version kept them elsewhere.
    (tmp_path / "cpu.json.checkpoint").rename(tmp_path / "cpu.json.work")
    assert run(*command)[0] == 0
    code, _, err = run(*command, "--work-dir", tmp_path / "mine")
    assert (code, err) == (0, "--work-dir is called --checkpoint now, and will go\n")
    assert asked[2:] == [tmp_path / "cpu.json.work", tmp_path / "mine"]
    assert "--work-dir" not in run("measure", "--help")[1]
    assert run("measure", "--out", "/dev/null", "--no-checkpoint")[0] == 0
