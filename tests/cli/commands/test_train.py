from __future__ import annotations

import dataclasses
import functools
import json

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.cli.commands import train
from pnag_fast.generator import ExpertSettings


@pytest.fixture
def quick(monkeypatch):
    """Make training short by its defaults: the command takes no settings."""

    def shorten(**settings):
        shorter = functools.partialmethod(ExpertSettings.__init__, **settings)
        monkeypatch.setattr(ExpertSettings, "__init__", shorter)

    return shorten


def test_train_from_tables(run, tmp_path, tiny, tiny_samples, tiny_table, quick):
    quick(evaluations=2000, steps=20)
    pf.accuracy.save_table(tmp_path / "accuracy.csv", tiny, *tiny_samples)
    tiny_table.save(tmp_path / "cost.json")
    code, out, err = run(
        "train",
        "--accuracy",
        tmp_path / "accuracy.csv",
        "--cost",
        tmp_path / "cost.json",
        "--out",
        tmp_path / "generator.safetensors",
        "--checkpoint",
        tmp_path / "checkpoint.safetensors",
        "--json",
    )
    assert code == 0, err
    assert (tmp_path / "checkpoint.safetensors").exists()
    assert json.loads(out)["record"]["method"] == "expert"
    assert json.loads(out)["reachable"][0]["range"] == list(tiny_table.bounds)
    loaded = pf.Generator.load(tmp_path / "generator.safetensors")
    assert len(loaded.generate(tiny_table.bounds[1])) == 1


def test_a_cost_table_of_another_space_is_refused(run, tmp_path, tiny, tiny_samples):
    pf.accuracy.save_table(tmp_path / "accuracy.csv", tiny, *tiny_samples)
    pf.costs.macs(pf.spaces.get("nasbench201")).save(tmp_path / "cost.json")
    code, _, err = run(
        "train",
        "--accuracy",
        tmp_path / "accuracy.csv",
        "--cost",
        tmp_path / "cost.json",
        "--out",
        tmp_path / "generator.safetensors",
    )
    assert code == 1
    assert "row 0" in err
    assert not (tmp_path / "generator.safetensors").exists()


def test_interrupted_training_of_a_generator_goes_on(run, interrupting, files, monkeypatch, quick):
    from pnag_fast.runs import Checkpoint

    monkeypatch.chdir(files)
    quick(evaluations=2000, steps=40)
    monkeypatch.setitem(Checkpoint.__init__.__kwdefaults__, "write_every_s", 0.0)
    fits = []
    fit = pf.accuracy.fit
    monkeypatch.setattr(pf.accuracy, "fit", lambda *a, **o: fits.append(1) or fit(*a, **o))
    command = ["train", "--accuracy", "accuracy.csv", "--cost", "cost.json", "--out"]
    assert run(*command, "whole", "--no-checkpoint")[0] == 0
    everything = sorted(p.name for p in files.iterdir())
    interrupting(20, "imitating")
    code, _, err = run(*command, "out")
    assert code == 130
    assert "the state of training in 'out.checkpoint'" in err
    assert "the accuracy model in 'out.fitted'" in err
    heard = interrupting(0, "imitating")
    assert run(*command, "out")[0] == 0
    assert heard[0][1] > 1
    assert len(fits) == 2
    assert sorted(p.name for p in files.iterdir()) == sorted([*everything, "out"])
    budgets = np.linspace(*pf.CostTable.load(files / "cost.json").bounds, 9)
    whole, out = (pf.Generator.load(files / name).generate(budgets) for name in ("whole", "out"))
    np.testing.assert_array_equal(whole.archs, out.archs)


def test_training_prints_what_can_be_reached(run, files, monkeypatch, quick):
    monkeypatch.chdir(files)
    quick(evaluations=1000, steps=5)
    code, text, err = run(
        "train", "--accuracy", "model.safetensors", "--cost", "cost.json", "--out", "g",
        "--cautious", "1",
    )  # fmt: skip
    assert code == 0, err
    assert "reachable: " in text
    assert "written to g" in text


def test_several_devices_and_a_second_cost(run, files, tiny, tiny_table, monkeypatch, quick):
    monkeypatch.chdir(files)
    quick(evaluations=1000, steps=5)
    dataclasses.replace(tiny_table, device="pi5").save("pi5.json")
    pf.costs.parameters(tiny).save("parameters.json")
    devices = ("--device", "cost.json", "--device", "pi5.json")
    code, text, err = run(
        "train", "--accuracy", "model.safetensors", *devices, "--table", "parameters.json",
        "--out", "fleet",
    )  # fmt: skip
    assert code == 0, err
    for line in ("latency ", "on test device", "on pi5", "reachable: parameters "):
        assert line in text
    fleet = pf.Generator.load("fleet")
    assert [table.device for table in fleet.devices] == ["test device", "pi5"]
    assert [table.metric for table in fleet.tables] == ["latency", "parameters"]
    code, _, err = run("train", "--accuracy", "model.safetensors", "--out", "x")
    assert code == 2
    assert "--table, or --device" in err


def test_all_methods_are_on_offer():
    from pnag_fast.generator.methods import known

    ours = [name for name, method in known().items() if method.__module__.startswith("pnag_fast.")]
    assert ours == train._METHODS
