from __future__ import annotations

import json

import numpy as np

import pnag_fast as pf


def test_names_from_files_do_not_command_the_terminal(
    run, harmless, nasty, tiny, tiny_model, tiny_table, quick_settings, tmp_path, monkeypatch
):
    import dataclasses

    table = dataclasses.replace(tiny_table, device=nasty)
    model = dataclasses.replace(tiny_model, source=nasty)
    table.save(tmp_path / "cost.json")
    quick = dataclasses.replace(quick_settings, evaluations=1000, steps=5)
    generator = pf.train_generator(tiny, model, [table], settings=quick)
    path = tmp_path / "generator.safetensors"
    generator.save(path)
    for arguments in (["--budget", "inf"], ["--budget", "1e-9"], ["--budget", "1,2"]):
        for how in ([], ["--json"]):
            _, out, err = run("generate", path, *arguments, *how)
            assert harmless(out + err), arguments
            if how:
                json.loads(out)
    assert r"cpu\x1b]0;owned\x07" in run("generate", path, "--budget", "1e-9")[2]

    front = pf.search.front(tiny, model, [table], evaluations=500)
    front.save(tmp_path / "front.json")
    model.save(tmp_path / "model.safetensors")
    code, out, err = run(
        "report", tmp_path / "front.json", "--judge", tmp_path / "model.safetensors"
    )
    assert code == 0
    assert harmless(out + err)
    assert "owned" in out


def test_names_of_files_and_bad_options_do_not_either(run, harmless, tiny_generator_path, tmp_path):
    for arguments in (
        ["generate", tmp_path / "a\x1b]0;x\x07", "--budget", "1"],
        ["accuracy", "a\x1b]0;x\x07", "--out", "y"],
        ["\x1b]0;x\x07"],
        ["generate", tiny_generator_path, "--budget", "\x1b[2J"],
    ):
        code, out, err = run(*arguments)
        assert code in (1, 2)
        assert r"\x1b" in err
        assert harmless(out + err)


def test_worthless_results_say_so_first(run, tiny, tiny_samples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    noise = rng.uniform(0.4, 0.6, len(tiny_samples[0]))
    pf.accuracy.save_table("noise.csv", tiny, tiny_samples[0], noise)
    code, out, _ = run("accuracy", "noise.csv", "--out", "m.safetensors", "--no-check")
    assert code == 0
    assert out.startswith("WARNING: ")
    assert "Kendall" in out.splitlines()[0]
    said = out.count("WARNING: ")
    code, out, _ = run("accuracy", "noise.csv", "--out", "m.safetensors", "--no-check", "--json")
    warnings = json.loads(out)["warnings"]
    assert len(warnings) == said
    assert sum("Kendall" in line for line in warnings) == 1  # said once, whoever says it
    pf.accuracy.save_table("good.csv", tiny, *tiny_samples)
    code, out, _ = run("accuracy", "good.csv", "--out", "m.safetensors", "--no-check", "--json")
    assert json.loads(out)["warnings"] == []
