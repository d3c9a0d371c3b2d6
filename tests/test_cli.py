from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

import pnag_fast as pf
from pnag_fast import cli


def run(*arguments):
    """Run the command in this process; return exit code, standard output and standard error."""
    runner = CliRunner()

    with runner.isolation() as streams:
        try:
            cli.main([str(a) for a in arguments])
        except SystemExit as exit_:
            code = exit_.code
        return code, streams[0].getvalue().decode(), streams[1].getvalue().decode()


def test_every_command_has_help_with_an_example():
    code, out, _ = run("--help")
    assert code == 0
    for command in (
        "quickstart",
        "measure",
        "supernet train",
        "supernet import",
        "supernet evaluate",
        "accuracy",
        "train",
        "generate",
        "export",
        "report",
        "doctor",
    ):
        assert command.split()[0] in out
        code, text, _ = run(*command.split(), "--help")
        assert code == 0
        assert "Example" in text
        assert f"pnag {command}" in text


def test_version_and_bad_usage():
    code, out, _ = run("--version")
    assert code == 0
    assert pf.__version__ in out
    assert run("nonsense")[0] == 2
    assert run("generate")[0] == 2
    assert run("quickstart")[0] == 2


def test_generate_prints_an_architecture(tiny_generator_path, tiny_table, tiny):
    budget = round(float(np.mean(tiny_table.bounds)), 3)
    code, out, err = run("generate", tiny_generator_path, "--budget", budget)
    assert code == 0, err
    assert str(budget) in out
    assert "top-1 is predicted" in err
    code, out, _ = run("generate", tiny_generator_path, "--budget", budget, "--json")
    document = json.loads(out)
    (answer,) = document["answers"]
    archs = tiny.from_strings([answer["arch"]])
    assert archs[0].tolist() == answer["codes"]
    assert tiny_table(archs)[0] == answer["costs"][0] <= budget
    assert document["elapsed_ms"] > 0


@pytest.mark.parametrize(
    ("budget", "code", "message"),
    [
        ("0.000001", 1, "BudgetInfeasibleError"),
        ("nan", 1, "not a positive number"),
        ("much", 2, "a budget is a number"),
        ("1,2", 2, "one number for each of"),
    ],
)
def test_bad_budgets(tiny_generator_path, budget, code, message):
    found, out, err = run("generate", tiny_generator_path, "--budget", budget)
    assert found == code
    assert message in err
    assert out == ""
    assert "Traceback" not in err


def test_large_open_and_infeasible_budgets(tiny_generator_path, tiny_table):
    budgets = ["--budget", "1e9", "--budget", "inf"]
    code, out, err = run("generate", tiny_generator_path, *budgets)
    assert code == 0
    assert "is it in ms?" in err
    large, open_ = out.splitlines()[1:]
    assert large.split()[-1] == open_.split()[-1]
    code, out, err = run("generate", tiny_generator_path, *budgets, "--budget", "1e-6")
    assert (code, out) == (1, "")
    code, out, err = run(
        "generate", tiny_generator_path, *budgets, "--budget", "1e-6", "--on-infeasible", "mark"
    )
    assert code == 0
    assert "infeasible" in out.splitlines()[3]
    assert "below the cheapest" in err
    code, out, _ = run(
        "generate", tiny_generator_path, *budgets, "--budget", "1e-6", "--on-infeasible", "mark",
        "--json",
    )  # fmt: skip
    answers = json.loads(out)["answers"]
    assert [a["feasible"] for a in answers] == [True, True, False]
    assert [a["budget"] for a in answers] == [[1e9], [None], [1e-6]]
    assert answers[2]["arch"] is None
    assert "below the cheapest" in answers[2]["note"]


def test_foreign_files(tmp_path, tiny_table):
    tiny_table.save(tmp_path / "table.json")
    for path in (tmp_path / "table.json", tmp_path / "absent"):
        code, _, err = run("generate", path, "--budget", "1")
        assert code == 1
        assert path.name in err
        assert len(err.strip().splitlines()) == 1


def test_train_from_tables(tmp_path, tiny, tiny_samples, tiny_table, monkeypatch):
    import pnag_fast.generator as generator

    quick = generator.ExpertSettings(evaluations=2000, steps=20)
    monkeypatch.setitem(generator.METHODS, "expert", quick)
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


def test_a_cost_table_of_another_space_is_refused(tmp_path, tiny, tiny_samples):
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


def test_unknown_spaces_and_options(tmp_path):
    code, _, err = run("measure", "--space", "resnet", "--out", tmp_path / "x.json")
    assert code == 1
    assert "'resnet' is neither a search space nor a file" in err
    code, _, err = run("measure", "--space", "nasbench201", "--out", tmp_path / "x.json")
    assert code == 1
    assert "layered network" in err
    assert list(tmp_path.iterdir()) == []


def test_doctor_speaks_json():
    code, out, err = run("doctor", "--json")
    document = json.loads(out)
    assert code == (0 if document["ok"] else 1), err
    assert {"python", "C++ core", "torch"} <= {check["subject"] for check in document["checks"]}


def test_importing_is_light():
    code = (
        "import sys, pnag_fast, pnag_fast.cli; pnag_fast.latency, pnag_fast.search\n"
        "heavy = {'torch', 'tvm', 'matplotlib', 'sklearn', 'onnx', 'PIL'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_interruption_is_one_line(tmp_path):
    import signal

    process = subprocess.Popen(
        [sys.executable, "-m", "pnag_fast", "quickstart", "--out", str(tmp_path / "run")],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted; what was finished is kept" in err
    assert "Traceback" not in err


def test_accuracy_models_are_fitted_and_checked(tiny, tiny_samples, tiny_model, tmp_path):
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


def test_a_saved_front_is_judged(tiny, tiny_model, tiny_table, tiny_samples, tmp_path):
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
