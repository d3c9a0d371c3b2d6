from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf


@pytest.mark.shared_data
def test_a_table_of_once_for_all_is_brought(run, shared_data, tmp_path):
    pytest.importorskip("yaml")
    path, out = shared_data / "ofa_latency" / "note10" / "224_lookup_table.yaml", tmp_path / "t"
    command = ("table", "import", path, "--space", "ofa-mbv3", "--width", "1.2", "--out", out)
    code, text, err = run(*command)
    assert code == 0, err
    assert "latency of 'ofa-mbv3' on note10: " in text
    space = pf.spaces.get("ofa-mbv3", width=1.2)
    archs = space.sample(20, seed=0)
    expected = pf.costs.from_ofa_yaml(path, space)(archs)
    np.testing.assert_array_equal(pf.CostTable.load(out)(archs), expected)
    assert run(*command, "--device", "phone")[1].startswith("latency of 'ofa-mbv3' on phone: ")
