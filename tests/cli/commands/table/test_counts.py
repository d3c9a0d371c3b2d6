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
