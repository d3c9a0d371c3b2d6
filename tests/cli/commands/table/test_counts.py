from __future__ import annotations

import json

import numpy as np
import pytest

import pnag_fast as pf


@pytest.mark.parametrize("metric", ["macs", "parameters"])
@pytest.mark.parametrize("name", ["mbv3-tiny", "nasbench201"])
def test_counts_are_written(run, tmp_path, metric, name):
    out = tmp_path / "table.json"
    code, text, err = run("table", metric, "--space", name, "--out", out, "--json")
    assert code == 0, err
    expected = getattr(pf.costs, metric)(pf.spaces.get(name))
    archs = expected.space.sample(20, seed=0)
    np.testing.assert_array_equal(pf.CostTable.load(out)(archs), expected(archs))
    facts = json.loads(text)
    assert (facts["metric"], facts["range"]) == (metric, list(expected.bounds))
    assert facts["exact"]


def test_peak_memory_is_written(run, tmp_path):
    out = tmp_path / "table.json"
    command = ("table", "memory", "--bytes-per-value", "4", "--out", out)
    code, text, err = run(*command)
    assert code == 0, err
    assert text.startswith("peak memory of 'mbv3-tiny' on any device: ")
    expected = pf.costs.peak_memory(pf.spaces.get("mbv3-tiny"), bytes_per_value=4)
    archs = expected.space.sample(20, seed=0)
    np.testing.assert_array_equal(pf.CostTable.load(out)(archs), expected(archs))
    facts = json.loads(run("table", "show", out, "--json")[1])
    assert facts["reduce"] == "max"
    # One operation is the largest: of all slots together, in at most all networks.
    assert 0 < max(slot["share"] for slot in facts["slots"]) <= 1
