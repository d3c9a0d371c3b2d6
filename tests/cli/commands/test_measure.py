from __future__ import annotations

import json

import pnag_fast as pf


def test_measuring_says_what_it_found(run, tiny, tiny_table, tmp_path, monkeypatch):
    import dataclasses

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
    assert asked[0]["work_dir"] == tmp_path / "cpu.json.work"
    code, text, _ = run("measure", "--out", out, "--work-dir", tmp_path / "mine", "--json")
    assert code == 0
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
    assert "--work-dir" in err
