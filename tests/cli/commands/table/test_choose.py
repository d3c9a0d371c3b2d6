from __future__ import annotations

import json

import numpy as np
import pytest

import pnag_fast as pf


@pytest.fixture
def folder(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pf.costs.macs(tiny).save("macs.json")
    return tmp_path


def test_networks_to_measure(run, folder, tiny):
    command = ("table", "choose", "--prior", "macs.json", "--count")
    code, out, err = run(*command, "6", "--out", "few.csv")
    assert code == 0, err
    assert out == "6 networks; written to few.csv: measure them, and fill in 'latency_ms'\n"
    head, *rows = (folder / "few.csv").read_text().splitlines()
    assert head == "arch,latency_ms"
    archs = tiny.from_strings([row.rstrip(",").strip('"') for row in rows])
    macs = [pf.costs.macs(tiny)]
    np.testing.assert_array_equal(archs, pf.latency.choose(tiny, 6, prior=macs))
    # Not filled in, or not wholly, it is no measurement.
    code, _, err = run("table", "fit", "few.csv", "--device", "d", "--out", "t.json")
    assert code == 1
    assert "latency_ms of row 0 should be a number" in err
    # Somebody may have filled it in.
    code, _, err = run(*command, "6", "--out", "few.csv")
    assert code == 1
    assert "or say --force" in err
    assert run(*command, "6", "--out", "few.csv", "--force")[0] == 0


def test_what_was_measured_is_not_chosen_again(run, folder, tiny):
    archs = pf.latency.choose(tiny, 4, prior=[pf.costs.macs(tiny)])
    pf.costs.save_measured("m.csv", tiny, archs, np.ones(4), column="energy_mJ")
    code, out, err = run(
        "table", "choose", "--prior", "macs.json", "--measured", "m.csv", "--count", "5",
        "--metric", "energy", "--unit", "mJ", "--out", "more.csv", "--json",
    )  # fmt: skip
    assert code == 0, err
    facts = json.loads(out)
    assert facts["column"] == "energy_mJ"
    assert len(facts["archs"]) == 5
    assert not set(facts["archs"]) & set(tiny.to_strings(archs))


def test_a_table_of_the_device_says_what_is_unknown(run, folder, tiny, tiny_table):
    archs = tiny.sample(12, seed=0, distribution="decisions")
    macs = [pf.costs.macs(tiny)]
    table = pf.costs.fit(tiny, archs, tiny_table(archs), metric="latency", unit="ms", prior=macs)
    table.save("own.json")
    command = ("table", "choose", "--count", "5", "--out", "more.csv", "--json", "--table")
    code, out, err = run(*command, "own.json")
    assert code == 0, err
    own = tiny.to_strings(pf.latency.choose(tiny, 5, prior=table))
    assert json.loads(out)["archs"] == own
    # As a table of another device it would say less.
    assert own != tiny.to_strings(pf.latency.choose(tiny, 5, prior=[table]))
    code, out, _ = run(*command, "own.json", "--prior", "macs.json")
    assert code == 2
    assert "give --table alone" in json.loads(out)["message"]
