from __future__ import annotations

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.costs import features


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


def scaled(table, dearest, **changes):
    """A table of which the dearest network costs so much; spaces that train fast are small."""
    factor = dearest / table.bounds[1]
    return dataclasses.replace(
        table, constants=factor * table.constants, entries=factor * table.entries, **changes
    )


@pytest.fixture(scope="module")
def new(tiny_table):
    """A device that no generator knows."""
    return scaled(tiny_table, 100, device="new")


@pytest.fixture(scope="module")
def fleet(tiny, tiny_model, tiny_table):
    """A generator of latency on two devices, of which one may be wrong, and of parameters."""
    root = np.full((features.n_features(tiny), 1), 0.02)
    devices = [
        scaled(tiny_table, 40, device="pi5", posterior=pf.costs.Posterior(root, 0.03)),
        scaled(pf.costs.macs(tiny), 20, metric="latency", unit="ms", device="phone"),
    ]
    parameters = scaled(pf.costs.parameters(tiny), 2e7)
    settings = pf.generator.ExpertSettings(evaluations=2000, steps=20, hidden=16)
    return pf.train_generator(tiny, tiny_model, [parameters], devices=devices, settings=settings)


@pytest.fixture
def folder(fleet, new, tiny_generator_path, tmp_path, monkeypatch):
    """What the examples of the command read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()
    shutil.copy(tiny_generator_path, "quickstart/generator.safetensors")
    fleet.save("fleet.safetensors")
    new.save("new.json")
    return tmp_path


def answers_of(run, *arguments):
    code, out, err = run("generate", *arguments, "--json")
    assert code == 0, err + out
    return json.loads(out)["answers"]


def test_several_costs_have_names(run, folder):
    budgets = ("--budget", "latency=20ms", "--budget", "parameters=8M", "--budget", "latency=1s")
    command = ("fleet.safetensors", "--device", "pi5", *budgets)
    code, out, err = run("generate", *command)
    assert code == 0, err
    head, first, second = out.splitlines()
    assert head.split()[:8] == [
        "device", "latency", "budget", "parameters", "budget", "latency", "ms", "parameters",
    ]  # fmt: skip
    assert first.split()[:3] == ["pi5", "20", "8M"]
    assert second.split()[:3] == ["pi5", "1000", "8M"]
    assert " ± " in first
    for answer, limits in zip(answers_of(run, *command), ([20, 8e6], [1000, 8e6]), strict=True):
        assert answer["budget"] == limits
        assert answer["metrics"] == ["latency", "parameters"]
        assert (np.array(answer["costs"]) <= limits).all()
    code, _, err = run("generate", "fleet.safetensors", "--device", "pi5", "--budget", "20")
    assert code == 2
    assert "or name what you bound, as latency=20" in err


def test_a_search_of_its_own_may_be_longer_or_none(run, folder):
    ask = ("fleet.safetensors", "--device", "phone", "--budget", "latency=40%,parameters=40%")
    (without,) = answers_of(run, *ask, "--evaluations", "0")
    (long,) = answers_of(run, *ask, "--evaluations", "3000")
    assert without["source"] in ("policy", "archive")
    assert long["top1"] >= without["top1"]
    assert long["source"] not in ("policy", "archive") or long["codes"] == without["codes"]


def test_devices_are_asked_for_by_name_or_table(run, folder, new):
    fleet = "fleet.safetensors"
    found = answers_of(run, fleet, "--budget", "50%,inf", "--device", "all", "--device", "new.json")
    assert [answer["device"] for answer in found] == ["pi5", "phone", "new"]
    # A share is one of the device's own range.
    assert found[2]["budget"][0] == pytest.approx(np.mean(new.bounds))
    assert found[2]["costs"][0] == pytest.approx(new(np.array([found[2]["codes"]], np.uint8))[0])
    code, _, err = run("generate", fleet, "--budget", "50%,inf")
    assert code == 2
    assert "for 2 devices: give --device, one of pi5, phone, or a cost table" in err
    code, _, err = run("generate", fleet, "--budget", "50%,inf", "--device", "phon")
    assert code == 1
    assert "did you mean 'phone'" in err
    code, _, err = run("generate", fleet, "--budget", "50%,inf", "--device", "gone.json")
    assert code == 2
    assert "no file 'gone.json'" in err


def test_columns_of_several_devices_are_of_none(run, folder, tiny_table, fleet):
    board = scaled(tiny_table, 100, device="board")
    dataclasses.replace(fleet, tables=(fleet.tables[0], board)).save("bounded.safetensors")
    ask = ("bounded.safetensors", "--device", "all", "--budget", "60%,80%", "--evaluations", "0")
    code, out, err = run("generate", *ask)
    assert code == 0, err
    head = re.split("  +", out.splitlines()[0].strip())
    assert head[:5] == [
        "device", "latency budget", "latency@board budget", "latency ms", "latency@board ms",
    ]  # fmt: skip


def test_a_confidence_keeps_room(run, folder):
    budget = ("fleet.safetensors", "--device", "pi5", "--budget", "latency=15")
    (plain,), (sure,) = answers_of(run, *budget), answers_of(run, *budget, "--confidence", "0.95")
    assert sure["costs"][0] + 1.64 * sure["costs_std"][0] <= 15
    assert plain["costs"][0] > sure["costs"][0]
    assert "bounds hold with 95 %" in run("generate", *budget, "--confidence", "0.95")[2]
    assert run("generate", *budget, "--confidence", "1")[0] == 2


def test_the_cheapest_network_that_reaches_an_accuracy(run, folder, tiny_generator):
    path = "quickstart/generator.safetensors"
    asked = [f"{value:.3f}" for value in np.quantile(tiny_generator.archive.top1, (0.3, 0.6))]
    command = [path, "--accuracy", asked[0], "--accuracy", f"{100 * float(asked[1]):.1f}%"]
    found = answers_of(run, *command)
    expected = tiny_generator.cheapest([float(value) for value in asked])
    assert [answer["codes"] for answer in found] == expected.archs.tolist()
    assert [answer["quality"] for answer in found] == [float(value) for value in asked]
    code, out, err = run("generate", *command)
    assert code == 0, err
    assert out.split()[:5] == ["at", "least", "%", "latency", "ms"]
    # Bounds hold as well.
    limit = ("--budget", "latency=1us")
    assert "below the cheapest" in run("generate", *command, *limit)[2]
    command = ["fleet.safetensors", "--device", "phone", *command[1:], "--budget", "parameters=9M"]
    assert all(answer["costs"][1] <= 9e6 for answer in answers_of(run, *command))
    assert "parameters budget" in run("generate", *command)[1]
    for wrong, code, message in (
        ("1.0", 1, "no network known"), ("75", 2, "write 75%"), ("750", 1, "from 0 to 1"),
        ("x", 2, "number"),
    ):  # fmt: skip
        found, _, err = run("generate", path, "--accuracy", wrong)
        assert found == code
        assert message in err


def test_something_has_to_be_asked(run, tiny_generator_path):
    code, _, err = run("generate", tiny_generator_path)
    assert code == 2
    assert "--budget, or --accuracy" in err
    for option in ("--candidates", "--evaluations"):
        code, _, err = run("generate", tiny_generator_path, "--accuracy", "0.6", option, "3")
        assert code == 2
        assert "go with budgets" in err


def test_the_examples_of_generate_work(run, folder):
    import shlex

    text = run("generate", "--help")[1].replace("\\\n", " ")
    examples = re.findall(r"^ +pnag (generate .*)$", text, re.M)
    assert len(examples) == 4
    for example in examples:
        code, out, err = run(*shlex.split(example))
        assert code == 0, err
        assert len(out.splitlines()) == (2 if "pi5" in example else 4 if "all" in example else 3)


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
