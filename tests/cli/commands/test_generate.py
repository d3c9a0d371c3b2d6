from __future__ import annotations

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

import pnag_fast as pf


def test_generate_prints_an_architecture(run, tiny_generator_path, tiny_table, tiny):
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
def test_bad_budgets(run, tiny_generator_path, budget, code, message):
    found, out, err = run("generate", tiny_generator_path, "--budget", budget)
    assert found == code
    assert message in err
    assert out == ""
    assert "Traceback" not in err


def test_large_open_and_infeasible_budgets(run, tiny_generator_path, tiny_table):
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


def test_foreign_files(run, tmp_path, tiny_table):
    tiny_table.save(tmp_path / "table.json")
    for path in (tmp_path / "table.json", tmp_path / "absent"):
        code, _, err = run("generate", path, "--budget", "1")
        assert code == 1
        assert path.name in err
        assert len(err.strip().splitlines()) == 1


def test_budgets_as_shares_of_the_range(run, tiny_generator_path, tiny_table):
    low, high = tiny_table.bounds
    code, out, err = run(
        "generate", tiny_generator_path, *(f"--budget={b}" for b in ("0%", "50%", "100%", "inf")),
        "--json",
    )  # fmt: skip
    assert code == 0, err
    answers = json.loads(out)["answers"]
    assert answers[1]["budget"][0] == pytest.approx((low + high) / 2)
    assert [answers[i]["budget"][0] for i in (0, 2, 3)] == [low, high, None]


@pytest.fixture(scope="module")
def several(tiny, tiny_model, tiny_table):
    """A generator of latency and parameters; the tables of a space too small for real budgets."""
    tables = [tiny_table, pf.costs.parameters(tiny)]
    scale = 2e7 / tables[1].bounds[1], 40 / tables[0].bounds[1]
    tables = [
        dataclasses.replace(
            table, constants=factor * table.constants, entries=factor * table.entries
        )
        for table, factor in zip(tables, scale[::-1], strict=True)
    ]
    settings = pf.generator.ExpertSettings(evaluations=3000, steps=20)
    return pf.train_generator(tiny, tiny_model, tables, settings=settings)


def test_several_costs_have_names(run, several, tmp_path):
    several.save(tmp_path / "g")
    budgets = ("--budget", "latency=20ms", "--budget", "parameters=8M", "--budget", "latency=1s")
    code, out, err = run("generate", tmp_path / "g", *budgets)
    assert code == 0, err
    head, first, second = out.splitlines()
    assert head.split()[:7] == [
        "latency", "budget", "parameters", "budget", "latency", "ms", "parameters",
    ]  # fmt: skip
    assert first.split()[:2] == ["20", "8M"]
    assert second.split()[:2] == ["1000", "8M"]
    assert first.split()[3].endswith("M")
    answers = json.loads(run("generate", tmp_path / "g", *budgets, "--json")[1])["answers"]
    for answer, bounds in zip(answers, ([20, 8e6], [1000, 8e6]), strict=True):
        assert answer["budget"] == bounds
        assert answer["metrics"] == ["latency", "parameters"]
        assert (np.array(answer["costs"]) <= bounds).all()
    code, _, err = run("generate", tmp_path / "g", "--budget", "20")
    assert code == 2
    assert "or name what you bound, as latency=50%" in err


def test_the_examples_of_generate_work(run, tiny_generator_path, several, tmp_path, monkeypatch):
    import shlex

    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()
    shutil.copy(tiny_generator_path, "quickstart/generator.safetensors")
    several.save("several.safetensors")
    examples = re.findall(r"^ +pnag (generate .*)$", run("generate", "--help")[1], re.M)
    assert examples
    for example in examples:
        code, out, err = run(*shlex.split(example))
        assert code == 0, err
        assert len(out.splitlines()) == (2 if "several" in example else 3)


def test_a_generator_of_a_poor_table_says_so(
    run, tiny, tiny_model, tiny_table, quick_settings, tmp_path
):
    poor = dataclasses.replace(tiny_table, provenance={"correction": {"r2": 0.4}})
    quick = dataclasses.replace(quick_settings, evaluations=1000, steps=5)
    path = tmp_path / "generator.safetensors"
    pf.train_generator(tiny, tiny_model, [poor], settings=quick).save(path)
    code, _, err = run("generate", path, "--budget", "inf")
    assert code == 0
    assert err.startswith("WARNING: The cost table of 'test device' explains too little")
    assert (
        "R2 0.40"
        in json.loads(run("generate", path, "--budget", "inf", "--json")[1])["warnings"][0]
    )
