from __future__ import annotations

import dataclasses
import json

import numpy as np

import pnag_fast as pf


def test_a_device_is_added(run, files, tiny, tiny_table, monkeypatch):
    monkeypatch.chdir(files)
    macs = pf.costs.macs(tiny)
    scale = tiny_table.bounds[1] / macs.bounds[1]
    new = dataclasses.replace(
        macs, metric="latency", unit="ms", device="pi5", entries=scale * macs.entries,
        constants=scale * macs.constants,
    )  # fmt: skip
    new.save("pi5.json")
    command = ("adapt", "generator.safetensors", "--table", "pi5.json", "--evaluations", "300")
    code, text, err = run(*command, "--out", "g2")
    assert code == 0, err
    assert "on test device\nreachable: latency " in text
    assert text.endswith("on pi5\nwritten to g2\n")
    adapted = pf.Generator.load("g2")
    budgets = np.linspace(*new.bounds, 5)
    answers = adapted.generate(budgets, device="pi5")
    assert (new(answers.archs) <= budgets).all()
    # As many questions, the same generator.
    facts = json.loads(run(*command, "--out", "g3", "--json")[1])
    assert facts["adapted"] == ["pi5"]
    assert [of["device"] for of in facts["reachable"]] == ["test device", "pi5"]
    again = pf.Generator.load("g3").generate(budgets, device="pi5")
    np.testing.assert_array_equal(again.archs, answers.archs)
    # A table of another metric is none of a device.
    macs.save("macs.json")
    code, _, err = run("adapt", "generator.safetensors", "--table", "macs.json", "--out", "g4")
    assert code == 1
    assert "one metric in one unit" in err
