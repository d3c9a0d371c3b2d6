from __future__ import annotations

import json


def test_doctor_speaks_json(run):
    code, out, err = run("doctor", "--json")
    document = json.loads(out)
    assert code == (0 if document["ok"] else 1), err
    assert {"python", "C++ core", "torch"} <= {check["subject"] for check in document["checks"]}


def test_the_doctor_speaks_to_people(run, harmless, monkeypatch):
    from pnag_fast import doctor
    from pnag_fast.doctor import Check

    checks = [
        Check("python", "ok", "3"),
        Check("torch", "absent", "not installed", "pip install it"),
        Check("tvm\x1b", "broken", "dies"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda: checks)
    code, out, _ = run("doctor")
    assert code == 1
    assert "absent  torch: not installed; pip install it" in out
    assert harmless(out)
    assert json.loads(run("doctor", "--json")[1])["ok"] is False
    monkeypatch.setattr(doctor, "examine", lambda: checks[:2])
    assert run("doctor")[0] == 0
