from __future__ import annotations

import json

import numpy as np
import pytest

import pnag_fast as pf

PERPLEXITY = pf.accuracy.Objective("perplexity", direction="min", low=1.0)


def test_perplexity_from_a_table_to_answers(tiny, tiny_samples, tiny_table, tmp_path, run):
    """The whole way on the command line: CSV, model, generator, answers, and a judged front."""
    pytest.importorskip("torch")
    archs, top1 = tiny_samples
    perplexity = 10 + 40 * (1 - top1)
    table, cost = tmp_path / "measured.csv", tmp_path / "cost.json"
    pf.accuracy.save_table(table, tiny, archs, perplexity, objective=PERPLEXITY)
    assert table.read_text().startswith("arch,perplexity\n")
    tiny_table.save(cost)
    objective = ("--objective", "perplexity,min,low=1")
    model = tmp_path / "model.safetensors"
    code, out, err = run("accuracy", table, "--no-check", *objective, "--out", model)
    assert code == 0, err
    assert "points" not in out
    fitted = pf.accuracy.load(model)
    assert fitted.objective == PERPLEXITY
    assert fitted.report["kendall"] > 0.8
    code, _, err = run("accuracy", table, "--no-check", "--out", model)
    assert code == 1
    assert "top1" in err

    front = pf.search.front(tiny, fitted, [tiny_table], evaluations=3000)
    front.save(tmp_path / "front.json")
    # Dearer networks are better, that is, less perplexed.
    assert (np.diff(front.top1) < 0).all()
    code, out, err = run("report", tmp_path / "front.json", "--judge", model)
    assert code == 0, err
    assert "judged perplexity" in out
    assert "top-1" not in out

    generator = pf.train_generator(
        tiny, fitted, [tiny_table], settings=pf.generator.ExpertSettings(evaluations=4000, steps=50)
    )
    generator.save(tmp_path / "generator.safetensors")
    budget = ("--budget", "50%", "--budget", "inf")
    code, out, err = run("generate", tmp_path / "generator.safetensors", *budget)
    assert code == 0, err
    head = out.splitlines()[0]
    assert " perplexity " in head
    assert "%" not in head
    assert "perplexity, smaller is better is predicted" in err
    code, out, _ = run("generate", tmp_path / "generator.safetensors", *budget, "--json")
    document = json.loads(out)
    assert document["objective"] == PERPLEXITY.to_json()
    assert document["answers"][1]["top1"] < document["answers"][0]["top1"]


def test_commands_refuse_an_objective_that_is_none(tmp_path, run):
    (tmp_path / "t.csv").write_text("arch,loss\n")
    out = ("--out", tmp_path / "m.safetensors")
    code, _, err = run("accuracy", tmp_path / "t.csv", "--objective", "loss,less", *out)
    assert code == 2
    assert "NAME[,min]" in err
