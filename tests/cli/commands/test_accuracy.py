from __future__ import annotations

import json

import numpy as np

import pnag_fast as pf


def test_accuracy_models_are_fitted_and_checked(run, tiny, tiny_samples, tiny_model, tmp_path):
    table, out = tmp_path / "table.csv", tmp_path / "model.safetensors"
    pf.accuracy.save_table(table, tiny, *tiny_samples)
    code, text, _ = run("accuracy", table, "--out", out, "--no-check", "--cautious", 1)
    assert code == 0
    assert "Kendall" in text
    model = pf.accuracy.load(out)
    assert model.caution == 1
    np.testing.assert_array_equal(
        model.predict(tiny_samples[0]), tiny_model.cautious(1).predict(tiny_samples[0])
    )

    base = tmp_path / "base.safetensors"
    tiny_model.save(base)
    code, text, _ = run("accuracy", table, "--out", out, "--calibrate", base, "--json")
    assert code == 0
    report = json.loads(text)
    assert set(report["checks"]) == {"random folds", "ranges of MACs"}
    assert report["checks"]["random folds"]["kendall"] > 0.9
    assert isinstance(pf.accuracy.load(out), pf.accuracy.CalibratedModel)

    # In percent: nothing is overwritten.
    before = out.read_bytes()
    archs, top1 = tiny_samples
    pf.accuracy.save_table(table, tiny, archs, 100 * top1)
    code, _, err = run("accuracy", table, "--out", out)
    assert code == 1
    assert "divide percentages by 100" in err
    assert out.read_bytes() == before


def test_interrupted_checks_of_a_model_go_on(run, interrupting, files, monkeypatch):
    monkeypatch.chdir(files)
    fits = []
    fit = pf.accuracy.fit
    monkeypatch.setattr(pf.accuracy, "fit", lambda *a, **o: fits.append(1) or fit(*a, **o))
    command = ["accuracy", "accuracy.csv", "--out", "out.safetensors", "--json"]
    interrupting(5, "checking")
    code, text, _ = run(*command)
    assert code == 130
    assert json.loads(text)["kept"] == ["out.safetensors.checkpoint"]
    assert pf.accuracy.load(files / "out.safetensors").report  # the model itself is done
    assert len(fits) == 4
    interrupting(0)
    code, text, _ = run(*command)
    assert code == 0
    assert len(fits) == 11  # one, and five folds of two checks: none twice
    assert not (files / "out.safetensors.checkpoint").exists()
    code, again, _ = run(*command, "--no-checkpoint")
    assert json.loads(again)["checks"] == json.loads(text)["checks"]
    assert len(fits) == 22
    # What the user named stays, and what is there is not fitted again.
    named = ["accuracy", "accuracy.csv", "--out", "out.safetensors", "--no-check", "--checkpoint"]
    for _ in range(2):
        assert run(*named, "mine")[0] == 0
        assert len(fits) == 23
        assert len(list((files / "mine").iterdir())) == 1
    code, _, err = run(*named, "cost.json")
    assert code == 1
    assert "--checkpoint 'cost.json' is a file, and should be a folder" in err
