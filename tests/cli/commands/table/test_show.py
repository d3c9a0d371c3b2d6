from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.costs import Posterior


def test_what_a_table_is(run, tiny, tiny_table, tmp_path):
    arch = tiny.to_strings(tiny.sample(1, seed=8))[0]
    cost = tiny_table(tiny.from_strings([arch]))[0]
    tiny_table.save(tmp_path / "table.json")
    code, out, err = run("table", "show", tmp_path / "table.json", "--arch", arch)
    assert code == 0, err
    assert "latency of 'mbv3-tiny' on test device: " in out
    assert "counts as exact" in out
    assert out.splitlines()[-1].split() == [f"{cost:.4g}", arch]
    facts = json.loads(run("table", "show", tmp_path / "table.json", "--arch", arch, "--json")[1])
    assert facts["range"] == list(tiny_table.bounds)
    assert facts["archs"] == [{"arch": arch, "cost": cost, "std": 0.0}]
    for name, found in zip(("cheapest", "dearest"), tiny_table.bounds, strict=True):
        assert tiny_table(tiny.from_strings([facts[name]]))[0] == found
    archs = tiny.sample(1000, seed=0)
    shared = tiny_table.constants[0] / tiny_table(archs).mean()
    assert sum(slot["share"] for slot in facts["slots"]) == pytest.approx(1 - shared)
    assert len(facts["slots"]) == tiny.n_slots


def test_what_a_table_does_not_know(run, tiny, tiny_table, tmp_path):
    root = np.zeros((1 + sum(n - 1 for n in tiny.n_codes), 1))
    provenance = {"held_out": {"r2": 0.5}, "networks": 7, "blocks": {"a": {"median": 1}}}
    table = dataclasses.replace(tiny_table, posterior=Posterior(root, 0.125), provenance=provenance)
    table.save(tmp_path / "table.json")
    arch = tiny.to_strings(tiny.sample(1, seed=8))[0]
    code, out, _ = run("table", "show", tmp_path / "table.json", "--arch", arch)
    assert code == 0
    assert out.startswith("WARNING: The cost table of 'test device' explains too little")
    assert "standard deviation of a network: 12.5 % (median), 12.5 %" in out
    assert "networks: 7" in out
    assert "held out: r2 0.5" in out
    assert "blocks" not in out
    assert " ± " in out.splitlines()[-1]


def test_a_choice_of_resolutions_is_no_slot_that_costs(run, tmp_path):
    space = pf.spaces.get("mbv3-tiny", resolutions=(24, 32))
    pf.costs.macs(space).save(tmp_path / "table.json")
    code, out, err = run("table", "show", tmp_path / "table.json", "--json")
    assert code == 0, err
    assert "resolution" not in {slot["slot"] for slot in json.loads(out)["slots"]}
