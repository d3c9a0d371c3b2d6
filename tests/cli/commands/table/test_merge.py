from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.costs import Posterior, features


@pytest.fixture
def unsure(tiny, tiny_table, tmp_path, monkeypatch):
    """A table that may be wrong by as much in every weight, in a file."""
    monkeypatch.chdir(tmp_path)
    root = 0.05 * np.eye(features.n_features(tiny))
    table = dataclasses.replace(tiny_table, posterior=Posterior(root, 0.01))
    table.save(tmp_path / "table.json")
    return table


def test_measured_networks_correct_a_table(run, unsure, tiny, tmp_path):
    archs = tiny.sample(20, seed=5)
    pf.costs.save_measured("more.csv", tiny, archs, 1.1 * unsure(archs), column="latency_ms")
    code, out, err = run(
        "table", "merge", "table.json", "--measured", "more.csv", "--noise", "0.01",
        "--out", "corrected.json",
    )  # fmt: skip
    assert code == 0, err
    assert "standard deviation of a network" in out
    table = pf.CostTable.load(tmp_path / "corrected.json")
    expected = unsure.updated(archs, 1.1 * unsure(archs), noise=0.01)
    np.testing.assert_allclose(table(archs), expected(archs), rtol=1e-9)
    assert (table(archs, return_std=True)[1] < unsure(archs, return_std=True)[1]).all()
    assert "WARNING" not in out
    # Measurements that contradict what the table says of itself are told.
    pf.costs.save_measured("far.csv", tiny, archs, 3 * unsure(archs), column="latency_ms")
    merge = ("table", "merge", "table.json", "--measured", "far.csv", "--out", "corrected.json")
    assert "times as far from the table" in run(*merge)[1].splitlines()[0]
    assert "WARNING" not in run(*merge, "--noise", "2")[1]


def test_parts_of_a_cost_are_added(run, unsure, tiny, tmp_path):
    command = ("table", "merge", "table.json", "--add", "table.json", "--device", "two chips")
    code, _, err = run(*command, "--out", "sum.json")
    assert code == 0, err
    table = pf.CostTable.load(tmp_path / "sum.json")
    archs = tiny.sample(5, seed=0)
    np.testing.assert_allclose(table(archs), 2 * unsure(archs), rtol=1e-12)
    assert table.device == "two chips"


def test_networks_of_other_resolutions_are_refused(run, unsure, tiny, tmp_path):
    arch = tiny.to_strings(tiny.sample(1))[0]
    (tmp_path / "m.csv").write_text(f'arch,resolution,latency_ms\n"{arch}",64,1.0\n')
    code, _, err = run("table", "merge", "table.json", "--measured", "m.csv", "--out", "x.json")
    assert code == 2
    assert "leave them out" in err
