"""Unfinished work of earlier releases is gone on with; `test_checkpoint` has those with steps."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import OtherRunError


def ignore(*_):
    pass


@pytest.mark.parametrize("name", ["judged-1.json", "judged-2.jsonl"])
def test_judged_architectures(works, tmp_path, name):
    pytest.importorskip("torch")
    path, calls = tmp_path / name, []
    shutil.copy(works.FILES / name, path)
    known = json.loads((works.FILES / "judged-1.json").read_text())["correct"]
    other = pf.supernet.load(works.FILES / "net.safetensors")
    with pytest.raises(OtherRunError, match=r"of other split \('validation', now 'test'\); judge"):
        pf.supernet.evaluate(other, works.space().enumerate(), works.images(), split="test",
                             checkpoint=path)  # fmt: skip
    top1 = works.judge(path, lambda *call: calls.append(call))["top1"]
    assert calls[0][1] > len(known) == 8
    whole = works.judge(tmp_path / "whole", ignore)["top1"]
    names = works.space().to_strings(works.space().enumerate())
    for arch, found, expected in zip(names, top1, whole, strict=True):
        # The others were judged here.
        assert found == (known[arch] / 30 if arch in known else expected)
    # From now on it is a journal of today, with all in it.
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {"format": "pnag-judged", "version": 2}
    assert {line["arch"] for line in lines if "arch" in line} == set(names)


def test_generators(works, tmp_path):
    pytest.importorskip("torch")
    from pnag_fast.generator import PnagSettings

    path, calls, space = tmp_path / "kept", [], works.space()
    shutil.copy(works.FILES / "generator-1.safetensors", path)
    archs, table = space.enumerate(), pf.costs.macs(space)
    model = pf.accuracy.table(space, archs, np.linspace(0.5, 0.9, len(archs)))
    settings = PnagSettings(
        n_architectures=50, evaluator_steps=6, steps=6, hidden=8, evaluator_hidden=8
    )

    def train(**options):
        return pf.train_generator(
            space, model, [table], method="pnag", settings=settings, **options
        )

    with pytest.raises(OtherRunError, match=r"other seed \(0, now 1\); use"):
        train(seed=1, checkpoint=path)
    found = train(checkpoint=path, progress=lambda *call: calls.append(call))
    assert calls == [("training the policy", step, 6) for step in (4, 5, 6)]
    budgets = np.linspace(*table.bounds, 5)
    np.testing.assert_array_equal(found.generate(budgets).archs, train().generate(budgets).archs)


def test_measurements_and_tuned_tiles(works, tmp_path):
    shutil.copytree(works.FILES / "latency-1", tmp_path / "kept")
    fake = works.module(works.HERE.parent / "latency" / "conftest.py").FakeDevice
    anew, going_on = fake(), fake()
    whole = works.measure(tmp_path / "whole", ignore, anew)
    found = works.measure(tmp_path / "kept", ignore, going_on)
    for name, array in whole.items():
        np.testing.assert_array_equal(found[name], array)
    # Three quarters of it were done.
    assert 0 < going_on.runs < 0.35 * anew.runs
    kept = (works.FILES / "latency-1" / "measurements.jsonl").read_bytes()
    assert (tmp_path / "kept" / "measurements.jsonl").read_bytes().startswith(kept)


def test_results_of_benchmarks(works, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(works.HERE.parents[1] / "bench"))
    from proof import records

    monkeypatch.setattr(records, "code_version", lambda: "a" * 12)
    shutil.copy(works.FILES / "results-1.jsonl", tmp_path)
    found = records.Records(tmp_path, "results-1")
    assert [found.get(None, seed=seed)["value"] for seed in (0, 1)] == [0, 1]
    assert found.get(lambda: {"value": 5}, seed=2)["value"] == 5


def test_folders_of_the_quickstart(works, tmp_path):
    from pnag_fast import quickstart
    from pnag_fast.runs import Run

    folder, notices = tmp_path / "run", []
    shutil.copytree(works.FILES / "quickstart-1", folder)
    settings = {"space": "mbv3-tiny", "architectures": 300, "budgets": 8, "seed": 0}
    identity = {"settings": settings, "images": "digits", "data": "x"}

    def record(**changed):
        now = {**identity, "settings": {**settings, **changed}}
        return quickstart._Record(folder, now, notices.append, Run(checkpoint=folder / "work"))

    def step(kept, name, needs, makes, **options):
        made = []
        kept.step(name, needs=needs, makes=makes, work=lambda *paths: made.append(paths), **options)
        return made

    assert not step(record(), "supernet", [], "supernet.safetensors")
    table = ("accuracy table", ["supernet.safetensors"], "accuracy.csv")
    assert not step(record(), *table)
    assert len(notices) == 2
    assert all("kept from the earlier run" in notice for notice in notices)
    # Where other settings ask for more, it goes on from what it has.
    assert step(record(architectures=400), *table, state="judged-{}.json")
    with pytest.raises(pf.errors.InvalidInputError, match="seed was 0, now 1"):
        record(seed=1)
