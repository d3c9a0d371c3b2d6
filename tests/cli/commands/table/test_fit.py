from __future__ import annotations

import json

import numpy as np
import pytest

import pnag_fast as pf


@pytest.fixture
def measured(tiny, tiny_table, tmp_path, monkeypatch):
    """A file of networks and what they cost by a known table, with noise."""
    monkeypatch.chdir(tmp_path)
    archs = tiny.sample(300, seed=3)
    noise = np.random.default_rng(0).normal(0, 0.01, len(archs))
    pf.costs.save_measured(
        "measured.csv", tiny, archs, tiny_table(archs) * (1 + noise), column="latency_ms"
    )
    return tmp_path


def test_a_table_is_fitted(run, measured, tiny, tiny_table):
    code, out, err = run("table", "fit", "measured.csv", "--device", "pi5", "--out", "pi5.json")
    assert code == 0, err
    assert "latency of 'mbv3-tiny' on pi5: " in out
    assert "held out: r2 0.9" in out
    assert out.endswith("written to pi5.json\n")
    table = pf.CostTable.load(measured / "pi5.json")
    archs = tiny.sample(50, seed=4)
    np.testing.assert_allclose(table(archs), tiny_table(archs), rtol=0.02)
    options = ("--metric", "energy", "--unit", "mJ")
    code, _, err = run("table", "fit", "measured.csv", *options, "--device", "d", "--out", "x")
    assert code == 1
    assert "'energy_mJ'" in err
    code, out, err = run(
        "table", "fit", "measured.csv", *options, "--column", "latency_ms", "--out", "e.json",
        "--json",
    )  # fmt: skip
    assert code == 0, err
    facts = json.loads(out)
    assert (facts["metric"], facts["unit"], facts["device"]) == ("energy", "mJ", "latency_ms")
    assert facts["table"] == "e.json"
    assert facts["warnings"] == []


def test_several_files_are_one(run, measured, tmp_path):
    head, *rows = (measured / "measured.csv").read_text().splitlines(keepends=True)
    for name, part in (("a.csv", rows[:100]), ("b.csv", rows[100:])):
        (measured / name).write_text(head + "".join(part))
    tables = []
    for files in (("measured.csv",), ("a.csv", "b.csv")):
        code, _, err = run("table", "fit", *files, "--device", "d", "--out", "t.json")
        assert code == 0, err
        tables.append(pf.CostTable.load("t.json"))
    np.testing.assert_array_equal(tables[0].entries, tables[1].entries)


def test_other_resolutions_tell_of_the_wanted_one(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = (16, 24, 32, 48)
    space = pf.spaces.get("mbv3-tiny", resolutions=sizes)
    archs = space.sample(400, seed=0)
    costs = pf.costs.macs(space)(archs) / 1e6
    lines = ["arch,resolution,gpu"]
    for name, cost in zip(space.to_strings(archs), costs.tolist(), strict=True):
        arch, _, size = name.rpartition(":")
        lines.append(f'"{arch}",{size},{cost!r}')
    (tmp_path / "gpus.csv").write_text("\n".join(lines) + "\n")
    command = ("table", "fit", "gpus.csv", "--column", "gpu", "--out", "gpu.json")
    code, _, err = run(*command, "--resolution", "32")
    assert code == 0, err
    whole = pf.CostTable.load(tmp_path / "gpu.json")
    # In two files, each of other resolutions, as in one.
    parts = [lines[0]], [lines[0]]
    for line in lines[1:]:
        parts[",16," in line].append(line)
    for name, part in zip("ab", parts, strict=True):
        (tmp_path / name).write_text("\n".join(part) + "\n")
    two = ("table", "fit", "a", "b", "--column", "gpu", "--out", "gpu.json", "--resolution", "32")
    assert run(*two)[0] == 0
    table = pf.CostTable.load(tmp_path / "gpu.json")
    np.testing.assert_allclose(table.entries[0], whole.entries[0], rtol=1e-6, atol=1e-9)
    assert table.space == pf.spaces.get("mbv3-tiny", resolutions=(32,))
    wanted = table.space.sample(30, seed=1)
    np.testing.assert_allclose(table(wanted), pf.costs.macs(table.space)(wanted) / 1e6, rtol=0.1)
    # Of few networks it is told by a table that this device resembles, of one resolution.
    pf.costs.macs(table.space).save("macs.json")
    (tmp_path / "few.csv").write_text("\n".join(lines[:60]) + "\n")
    few = ("table", "fit", "few.csv", "--column", "gpu", "--out", "few.json", "--resolution", "32")
    code, _, err = run(*few)
    assert code == 1
    code, out, err = run(*few, "--prior", "macs.json")
    assert code == 0, err
    kept = sum(",32," in line for line in lines[1:60])
    assert f"{59 - kept} networks at other input resolutions were left out" in err
    assert f"networks: {kept}" in out
    few = pf.CostTable.load(tmp_path / "few.json")
    np.testing.assert_allclose(few(wanted), pf.costs.macs(table.space)(wanted) / 1e6, rtol=0.02)
