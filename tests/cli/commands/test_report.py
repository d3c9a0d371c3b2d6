from __future__ import annotations

import json

import pnag_fast as pf


def test_a_saved_front_is_judged(run, tiny, tiny_model, tiny_table, tiny_samples, tmp_path):
    path, judge, out = (tmp_path / name for name in ("front.json", "judge.csv", "verdicts.json"))
    front = pf.search.front(tiny, tiny_model, [tiny_table], evaluations=2000)
    front.save(path)
    pf.accuracy.save_table(judge, tiny, *tiny_samples)
    code, text, _ = run("report", path, "--judge", judge, "--out", out)
    assert code == 0
    assert "gains are confirmed" in text
    assert json.loads(out.read_text())["summary"]["members"] == len(front)
    code, text, _ = run("report", path, "--judge", judge, "--json")
    assert code == 0
    verdicts = json.loads(text)["members"]
    assert {"predicted_gain", "judged_gain", "verdict"} <= set(verdicts[0])
    assert run("report", path)[0] == 2
    code, _, err = run("report", judge, "--judge", judge)
    assert code == 1
    assert "not a pnag-front file" in err


def test_the_archive_of_a_generator_is_judged(
    run, tiny_generator, tiny_generator_path, one_of_each
):
    command = (
        "report",
        tiny_generator_path,
        "--judge",
        one_of_each / "model.safetensors",
        "--json",
    )
    code, text, err = run(*command)
    assert code == 0, err
    assert len(json.loads(text)["members"]) == len(tiny_generator.archive)
