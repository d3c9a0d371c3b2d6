from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

import pnag_fast as pf
from pnag_fast import cli, outputs, terminal
from pnag_fast.errors import FileAccessError


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
    assert process.returncode == 130
    assert "interrupted; kept: all that was finished in" in err
    assert "run the same command again to go on" in err
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


# --- outputs ------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path, tiny, tiny_samples, tiny_model, tiny_table, tiny_generator_path):
    """One file of every kind, by its option."""
    pf.accuracy.save_table(tmp_path / "accuracy.csv", tiny, *tiny_samples)
    tiny_table.save(tmp_path / "cost.json")
    tiny_model.save(tmp_path / "model.safetensors")
    shutil.copy(tiny_generator_path, tmp_path / "generator.safetensors")
    pf.supernet.save(pf.supernet.build(tiny), tmp_path / "supernet.safetensors")
    front = pf.search.front(tiny, tiny_model, [tiny_table], evaluations=500)
    front.save(tmp_path / "front.json")
    tiny.save(tmp_path / "space.json")
    return tmp_path


COMMANDS = {
    "measure": ["measure", "--space", "space.json"],
    "supernet train": ["supernet", "train", "--space", "space.json"],
    "supernet import": ["supernet", "import", "accuracy.csv"],
    "supernet evaluate": ["supernet", "evaluate", "supernet.safetensors"],
    "accuracy": ["accuracy", "accuracy.csv", "--space", "space.json"],
    "train": ["train", "--accuracy", "accuracy.csv", "--cost", "cost.json"],
    "export": ["export", "--supernet", "supernet.safetensors", "--arch", "x"],
    "report": ["report", "front.json", "--judge", "model.safetensors"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_outputs_are_checked_before_the_work(files, monkeypatch, command):
    """Every command with an output: what is wrong with it is said first, and nothing is touched."""
    monkeypatch.chdir(files)
    (files / "precious.txt").write_text("mine")
    (files / "folder").mkdir()
    before = {p.name: p.read_bytes() for p in files.iterdir() if p.is_file()}
    own = next(part for part in command[1:] if (files / part).is_file())
    (files / "link").symlink_to(own)
    os.link(own, files / "hard")
    for out, message in (
        ("absent/file", "there is no folder"),
        ("folder", "is a folder"),
        ("precious.txt", "did not write"),
        ("front.json" if own != "front.json" else "space.json", "of another kind"),
        (own, "is what this command reads"),
        ("link", "is what this command reads"),
        ("hard", "is what this command reads"),
    ):
        code, text, err = run(*command, "--out", out)
        assert (code, text) == (1, ""), out
        assert message in err, (out, err)
        assert "'" + out in err
        assert len(err.strip().splitlines()) == 1
    code, _, err = run(*command, "--out", own, "--force")
    assert code == 1
    assert "is what this command reads" in err
    after = {p.name: p.read_bytes() for p in files.iterdir() if p.is_file()}
    assert before == {name: after[name] for name in before}
    assert set(after) == {*before, "link", "hard"}


def test_the_measurements_survive_their_own_command(files, monkeypatch):
    monkeypatch.chdir(files)
    before = (files / "accuracy.csv").read_bytes()
    code, _, err = run("accuracy", "accuracy.csv", "--out", "accuracy.csv", "--no-check")
    assert code == 1
    assert "would be lost" in err
    assert (files / "accuracy.csv").read_bytes() == before


def test_what_may_be_replaced(files, monkeypatch):
    monkeypatch.chdir(files)
    judge = ["report", "front.json", "--judge", "model.safetensors", "--out"]
    (files / "empty").touch()
    assert run(*judge, "empty")[0] == 0
    assert outputs.kind_of(files / "empty") == "pnag-confirmation"
    assert run(*judge, "empty")[0] == 0  # a file of the same kind
    assert run(*judge, "cost.json")[0] == 1
    assert run(*judge, "cost.json", "--force")[0] == 0
    assert outputs.kind_of(files / "cost.json") == "pnag-confirmation"
    assert run(*judge, "/dev/null")[0] == 0
    assert "goes with --judge" in run("report", "front.json", "--out", "x")[2]


def test_kinds_are_known_by_what_is_in_the_file(files, tmp_path):
    expected = {
        "accuracy.csv": "accuracy table",
        "cost.json": "pnag-cost-table",
        "model.safetensors": "pnag-accuracy-model",
        "generator.safetensors": "pnag-generator",
        "supernet.safetensors": "pnag-supernet",
        "front.json": "pnag-front",
    }
    assert {name: outputs.kind_of(files / name) for name in expected} == expected
    for data in (b"", b"{}", b"\x00" * 99, b"arch,top2\n", '{"format": "€"}'.encode()):
        (tmp_path / "x").write_bytes(data)
        assert outputs.kind_of(tmp_path / "x") is None
    with pytest.raises(FileAccessError, match="absent"):
        outputs.kind_of(tmp_path / "absent")


def test_a_disk_that_takes_nothing_is_found_out_before_the_work(files):
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from pnag_fast import accuracy, cli\n"
        "accuracy.load_table = None  # what comes first of the work\n"
        "cli.main(['accuracy', 'accuracy.csv', '--out', 'new.safetensors'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=files, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "cannot write 'new.safetensors': File too large" in done.stderr
    assert sorted(files.iterdir()) == sorted(p for p in files.iterdir() if p.name[:3] != "new")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folders_and_files_without_permission(files, monkeypatch):
    monkeypatch.chdir(files)
    (files / "model.safetensors").chmod(0o444)
    judge = ["accuracy", "accuracy.csv", "--out"]
    assert "write-protected" in run(*judge, "model.safetensors")[2]
    (files / "locked").mkdir(mode=0o555)
    assert "Permission denied" in run(*judge, "locked/x")[2]


def test_outputs_do_not_become_part_of_the_images(tmp_path, tiny, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "a").mkdir(parents=True)
    code, _, err = run("supernet", "train", "--data", "photos", "--out", "photos/net")
    assert code == 1
    assert "lies in 'photos'" in err
    # What is built in is no path, even where a folder has its name.
    (tmp_path / "digits").mkdir()
    outputs.check(tmp_path / "digits" / "x", outputs.SUPERNET, inputs=cli._files("digits"))


def test_measuring_into_a_device_asks_where_to_work(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("measure", "--out", "/dev/null")
    assert code == 2
    assert "--work-dir" in err


# --- what is kept when work is stopped ------------------------------------------------------------


def interrupting(monkeypatch, after, match=""):
    """Have the progress of commands press Ctrl-C at its report number `after` that fits `match`."""
    import contextlib

    seen = []

    @contextlib.contextmanager
    def showing(*, quiet):
        def update(description, done, total):
            if match in description and total:
                seen.append((description, done, total))
                if len(seen) == after:
                    raise KeyboardInterrupt

        yield update

    monkeypatch.setattr(cli, "showing_progress", showing)
    return seen


@pytest.fixture(scope="module")
def small_supernet(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "supernet.safetensors"
    code, _, err = run(
        "supernet", "train", "--resolution", "8", "--epochs", "1", "--out", path, "--threads", "1"
    )
    assert code == 0, err
    assert [p.name for p in path.parent.iterdir()] == ["supernet.safetensors"]
    return path


def test_an_interrupted_evaluation_goes_on(small_supernet, tmp_path, monkeypatch):
    from pnag_fast.supernet import evaluation

    monkeypatch.setattr(evaluation, "_KEPT_TOGETHER", 4)
    command = ["supernet", "evaluate", small_supernet, "--architectures", 12, "--out"]
    assert run(*command, tmp_path / "whole.csv", "--no-journal")[0] == 0

    out = tmp_path / "out.csv"
    interrupting(monkeypatch, 1)
    code, text, err = run(*command, out)
    assert (code, text) == (130, "")
    assert "nothing of it was kept" in err  # which is the truth
    heard = interrupting(monkeypatch, 8, "judging")
    code, _, err = run(*command, out)
    assert code == 130
    assert err.strip().startswith("interrupted; kept: what was judged in '")
    assert f"{out}.journal" in err
    assert "same command" in err
    assert not out.exists()
    reached = heard[-1][1]
    heard = interrupting(monkeypatch, 0)
    code, _, err = run(*command, out)
    assert code == 0, err
    assert reached - 4 <= heard[0][1] + 1
    assert heard[0][1] > 0
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv", "whole.csv"]
    # A journal that the user named stays.
    assert run(*command, out, "--journal", tmp_path / "mine")[0] == 0
    assert (tmp_path / "mine").exists()


def test_an_interrupted_training_of_a_supernet_goes_on(small_supernet, tmp_path, monkeypatch):
    out = tmp_path / "net.safetensors"
    command = [
        "supernet", "train", "--resolution", "8", "--epochs", "1", "--out", out, "--threads", "1",
        "--checkpoint-every", "2", "--json",
    ]  # fmt: skip
    interrupting(monkeypatch, 5)
    code, text, _ = run(*command)
    assert code == 130
    document = json.loads(text)
    assert document["error"] == "Interrupted"
    assert document["kept"] == [f"{out}.checkpoint"]
    heard = interrupting(monkeypatch, 0)
    assert run(*command)[0] == 0
    assert heard[0][1] == 5
    assert not (tmp_path / "net.safetensors.checkpoint").exists()
    net, same = (pf.supernet.load(path).state_dict() for path in (small_supernet, out))
    assert all((same[name] == value).all() for name, value in net.items())


def test_long_epochs_are_kept_as_time_passes(tmp_path, monkeypatch):
    """Without --checkpoint-every: an epoch on real images takes hours."""
    from pnag_fast.supernet import training

    monkeypatch.setattr(training, "WRITE_EVERY_S", 0.0)
    out = tmp_path / "net.safetensors"
    interrupting(monkeypatch, 5)
    code, _, err = run("supernet", "train", "--resolution", "8", "--epochs", "1", "--out", out)
    assert code == 130
    assert "kept: the state of training in" in err
    assert (tmp_path / "net.safetensors.checkpoint").exists()


def test_interrupted_training_of_a_generator_goes_on(files, monkeypatch):
    import pnag_fast.generator as generator
    from pnag_fast.runs import Checkpoint

    monkeypatch.chdir(files)
    quick = generator.ExpertSettings(evaluations=2000, steps=40)
    monkeypatch.setitem(generator.METHODS, "expert", quick)
    monkeypatch.setitem(Checkpoint.__init__.__kwdefaults__, "write_every_s", 0.0)
    fits = []
    fit = pf.accuracy.fit
    monkeypatch.setattr(pf.accuracy, "fit", lambda *a, **o: fits.append(1) or fit(*a, **o))
    command = ["train", "--accuracy", "accuracy.csv", "--cost", "cost.json", "--out"]
    assert run(*command, "whole", "--no-checkpoint")[0] == 0
    everything = sorted(p.name for p in files.iterdir())
    interrupting(monkeypatch, 20, "imitating")
    code, _, err = run(*command, "out")
    assert code == 130
    assert "the state of training in 'out.checkpoint'" in err
    assert "the accuracy model in 'out.fitted'" in err
    heard = interrupting(monkeypatch, 0, "imitating")
    assert run(*command, "out")[0] == 0
    assert heard[0][1] > 1
    assert len(fits) == 2
    assert sorted(p.name for p in files.iterdir()) == sorted([*everything, "out"])
    budgets = np.linspace(*pf.CostTable.load(files / "cost.json").bounds, 9)
    whole, out = (pf.Generator.load(files / name).generate(budgets) for name in ("whole", "out"))
    np.testing.assert_array_equal(whole.archs, out.archs)


def test_interrupted_checks_of_a_model_go_on(files, monkeypatch):
    monkeypatch.chdir(files)
    fits = []
    fit = pf.accuracy.fit
    monkeypatch.setattr(pf.accuracy, "fit", lambda *a, **o: fits.append(1) or fit(*a, **o))
    command = ["accuracy", "accuracy.csv", "--out", "out.safetensors", "--json"]
    interrupting(monkeypatch, 5, "checking")
    code, text, _ = run(*command)
    assert code == 130
    assert json.loads(text)["kept"] == ["out.safetensors.checkpoint"]
    assert pf.accuracy.load(files / "out.safetensors").report  # the model itself is done
    assert len(fits) == 4
    interrupting(monkeypatch, 0)
    code, text, _ = run(*command)
    assert code == 0
    assert len(fits) == 11  # one, and five folds of two checks: none twice
    assert not (files / "out.safetensors.checkpoint").exists()
    code, again, _ = run(*command, "--no-checkpoint")
    assert json.loads(again)["checks"] == json.loads(text)["checks"]
    assert len(fits) == 22


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["generate", "absent", "--budget", "1"], 1, "FileAccessError"),
        (["generate", "accuracy.csv", "--budget", "1"], 1, "FileFormatError"),
        (["generate", "generator.safetensors", "--budget", "1e-9"], 1, "BudgetInfeasibleError"),
        (["generate", "generator.safetensors", "--budget", "x"], 2, "UsageError"),
        (["generate", "generator.safetensors", "--budget", "200%"], 2, "UsageError"),
        (["generate", "generator.safetensors"], 2, "UsageError"),
        (["accuracy", "absent", "--out", "x"], 2, "UsageError"),
        (["nonsense"], 2, "UsageError"),
        (["measure", "--space", "resnet", "--out", "x"], 1, "InvalidInputError"),
        (["measure", "--target", "llvm -mcpu=nosuchcpu", "--out", "x"], 1, "InvalidInputError"),
        (["measure", "--runner", "ftp://x", "--out", "x"], 1, "InvalidInputError"),
        (["supernet", "train", "--device", "cuda:9", "--out", "x"], 1, "InvalidInputError"),
        (["supernet", "train", "--device", "bogus", "--out", "x"], 1, "InvalidInputError"),
        (["supernet", "train", "--learning-rate", "nan", "--out", "x"], 1, "InvalidInputError"),
        (["supernet", "train", "--classes", "3", "--out", "x"], 1, "InvalidInputError"),
        (["supernet", "train", "--data", "absent", "--out", "x"], 1, None),
        (["supernet", "train", "--precision", "float16", "--out", "x"], 1, "InvalidInputError"),
        (["supernet", "evaluate", "cost.json", "--out", "x"], 1, "FileFormatError"),
        (["supernet", "import", "cost.json", "--space", "ofa-mbv3", "--out", "x"], 1, None),
        (["train", "--accuracy", "cost.json", "--cost", "cost.json", "--out", "x"], 1, None),
        (["train", "--accuracy", "accuracy.csv", "--cost", "front.json", "--out", "x"], 1, None),
        (["export", "--supernet", "supernet.safetensors", "--arch", "9", "--out", "x"], 1, None),
        (["report", "."], 1, None),
        (["report", "cost.json", "--judge", "model.safetensors"], 1, "FileFormatError"),
        (["quickstart", "--out", "precious"], 1, "InvalidInputError"),
        (["quickstart", "--out", "q", "--space", "nasbench201"], 1, "UnsupportedSpaceError"),
    ],
)
def test_every_failure_is_one_document(files, monkeypatch, arguments, code, error):
    monkeypatch.chdir(files)
    (files / "precious").mkdir()
    (files / "precious" / "file").write_text("mine")
    before = sorted(p for p in files.rglob("*") if p.is_file())
    found, text, _ = run(*arguments, "--json")
    document = json.loads(text)
    assert found == code, document
    assert set(document) == {"error", "message", "remedy", "kept"}
    assert all(document[key] for key in ("error", "message", "remedy"))
    assert document["error"] == (error or document["error"]) != "InternalError"
    assert sorted(p for p in files.rglob("*") if p.is_file()) == before
    plain, text, err = run(*arguments)
    assert (plain, text) == (code, "")
    assert "Traceback" not in err
    assert document["message"].splitlines()[0].replace("\x1b", "") in err


ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        return None

sys.meta_path.insert(0, Absent())
from pnag_fast.cli import main
main({arguments!r})
"""


@pytest.mark.parametrize(
    ("name", "extra", "arguments"),
    [
        ("torch", "train", ["train", "--accuracy", "accuracy.csv", "--cost", "cost.json"]),
        ("torch", "train", ["accuracy", "accuracy.csv"]),
        ("torch", "train", ["supernet", "train"]),
        ("torch", "train", ["supernet", "evaluate", "supernet.safetensors"]),
        ("torch", "train", ["supernet", "import", "cost.json"]),
        ("torch", "train", ["export", "--supernet", "supernet.safetensors", "--arch", "x"]),
        ("torch", "train", ["report", "front.json", "--judge", "accuracy.csv"]),
        ("torch", "train", ["quickstart"]),
        ("tvm", "tvm", ["quickstart"]),
        ("tvm", "tvm", ["measure"]),
        ("sklearn", "train", ["supernet", "train"]),
    ],
)
def test_what_is_not_installed_is_named(files, name, extra, arguments):
    code = ABSENT.format(names={name}, arguments=[*arguments, "--out", "new", "--json"])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=files, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert document["error"] == "MissingDependencyError"
    assert f"pnag-fast[{extra}]" in document["remedy"]
    assert {"sklearn": "scikit-learn"}.get(name, name) in document["message"]
    assert "Traceback" not in done.stderr


def test_a_fault_of_the_program_is_short_unless_asked(tiny_generator_path, monkeypatch):
    def broken(*arguments, **options):
        raise ZeroDivisionError("so be it")

    monkeypatch.setattr(pf.Generator, "load", broken)
    monkeypatch.delenv("PNAG_DEBUG", raising=False)
    command = ["generate", tiny_generator_path, "--budget", "1"]
    code, text, err = run(*command)
    assert (code, text) == (1, "")
    assert err.startswith("unexpected ZeroDivisionError: so be it; ")
    assert "PNAG_DEBUG=1" in err
    assert len(err.splitlines()) == 1
    code, text, _ = run(*command, "--json")
    assert json.loads(text)["error"] == "InternalError"
    monkeypatch.setenv("PNAG_DEBUG", "1")
    code, _, err = run(*command)
    assert code == 1
    assert "Traceback" in err
    assert "in broken" in err


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (MemoryError(), 1, "MemoryShortageError: out of memory; use fewer"),
        (PermissionError(13, "Permission denied", "/x"), 1, "FileAccessError: '/x': Permission"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 1, "pnag-fast[train]"),
        (ModuleNotFoundError("No module named 'other'", name="other"), 1, "unexpected"),
        (KeyboardInterrupt(), 130, "interrupted; nothing of it was kept"),
    ],
)
def test_what_python_raises_is_told_like_the_rest(
    tiny_generator_path, monkeypatch, raised, code, message
):
    def broken(*arguments, **options):
        raise raised

    monkeypatch.setattr(pf.Generator, "load", broken)
    found, text, err = run("generate", tiny_generator_path, "--budget", "1")
    assert (found, text) == (code, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
@pytest.mark.parametrize("arguments", [["--help"], ["--json"], []])
def test_a_full_standard_output(tiny_generator_path, arguments):
    command = [sys.executable, "-m", "pnag_fast", "generate", tiny_generator_path]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*command, "--budget", "inf", *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("arguments", [["--json"], []])
def test_a_reader_that_has_left(tiny_generator_path, arguments):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "pnag_fast", "generate", tiny_generator_path, "--budget", "inf",
         *arguments],
        stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_closed_standard_output(tiny_generator_path):
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "pnag_fast", "generate",
         str(tiny_generator_path), "--budget", "inf", "--json"],
        stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "standard output is closed" in done.stderr
    assert "Traceback" not in done.stderr


# --- what reaches the terminal --------------------------------------------------------------------

NASTY = "cpu\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202egnp.exe\u2028\ttail\nnext"


def harmless(text):
    return not any(c in text for c in "\x1b\x07\r\x9b\u202e\u2028\t")


def test_names_from_files_do_not_command_the_terminal(
    tiny, tiny_model, tiny_table, quick_settings, tmp_path, monkeypatch
):
    import dataclasses

    table = dataclasses.replace(tiny_table, device=NASTY)
    model = dataclasses.replace(tiny_model, source=NASTY)
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


def test_names_of_files_and_bad_options_do_not_either(tmp_path):
    for arguments in (
        ["generate", tmp_path / "a\x1b]0;x\x07", "--budget", "1"],
        ["accuracy", "a\x1b]0;x\x07", "--out", "y"],
        ["\x1b]0;x\x07"],
        ["generate", "x", "--budget", "\x1b[2J"],
    ):
        code, out, err = run(*arguments)
        assert code in (1, 2)
        assert r"\x1b" in err
        assert harmless(out + err)


def test_printable():
    assert terminal.printable("plain ± ü 中") == "plain ± ü 中"
    assert terminal.printable("a\nb") == r"a\nb"
    assert terminal.printable("a\nb\x1b", lines=True) == "a\nb\\x1b"
    assert terminal.printable("\ud800\u2066") == r"\ud800\u2066"


def test_a_terminal_without_the_signs_we_use(tiny_generator_path):
    done = subprocess.run(
        [sys.executable, "-m", "pnag_fast", "generate", tiny_generator_path, "--budget", "inf"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert r"\xb1" in done.stdout


def test_progress_is_escaped_and_says_how_long(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with terminal.showing_progress(quiet=False) as progress:
        progress(NASTY, 0, 0)
        for done in range(1, 6):
            now[0] += 3
            progress("judging \x1b[2J", done, 100)
    err = capsys.readouterr().err
    assert harmless(err)
    assert "about 5 min on this machine" in err
    assert err.count("on this machine") == 1
    with terminal.showing_progress(quiet=True) as progress:
        progress("nothing", 1, 2)
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with terminal.showing_progress(quiet=False) as progress:
        progress("\x1b]0;owned\x07 [bold]name[/bold]", 0, 0)
        progress("work \x1b]0;owned\x07", 1, 2)
        progress("work \x1b]0;owned\x07", 2, 2)
    err = capsys.readouterr().err
    assert "\x1b]0;owned" not in err
    assert "[bold]name[/bold]" in err


def test_estimates():
    said, now = [], [0.0]
    estimates = terminal.Estimates(said.append, clock=lambda: now[0])
    for done in range(0, 5):
        estimates.update("short", done, 5)
        now[0] += 0.1
    assert said == []
    # Resumed: what was done before says nothing about the speed, nor does the first piece, which
    # warms everything up.
    estimates.update("long", 50, 100)
    now[0] += 60
    for done in (51, 52, 53):
        estimates.update("long", done, 100)
        now[0] += 2
    assert said == []
    estimates.update("long", 54, 100)
    assert said == ["long: about 2 min on this machine (54 of 100)"]
    for done in range(55, 60):
        now[0] += 9
        estimates.update("long", done, 100)
    assert len(said) == 1
    # What was done long ago under the same name says nothing either.
    for done in range(0, 6):
        now[0] += 1e4 if done == 0 else 0.01
        estimates.update("short", done, 63)
    assert len(said) == 1


# --- worthless results ---------------------------------------------------------------------------


def test_worthless_results_say_so_first(tiny, tiny_samples, tmp_path, monkeypatch):
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


def test_networks_that_guess_are_called_out(tiny, tmp_path):
    net = pf.supernet.build(pf.spaces.get("mbv3-tiny", resolutions=(8,)))
    pf.supernet.save(net, tmp_path / "untrained.safetensors")
    command = [
        "supernet", "evaluate", tmp_path / "untrained.safetensors", "--architectures", 10,
        "--data", "digits", "--out", tmp_path / "t.csv",
    ]  # fmt: skip
    code, out, err = run(*command)
    assert code == 0, err
    assert out.startswith("WARNING: ")
    assert "evaluated architectures guess" in out.splitlines()[0]
    code, out, _ = run(*command, "--json")
    assert len(json.loads(out)["warnings"]) == 1


def test_a_generator_of_a_poor_table_says_so(
    tiny, tiny_model, tiny_table, quick_settings, tmp_path
):
    import dataclasses

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


# --- the rest of the commands --------------------------------------------------------------------


def test_budgets_as_shares_of_the_range(tiny_generator_path, tiny_table):
    low, high = tiny_table.bounds
    code, out, err = run(
        "generate", tiny_generator_path, *(f"--budget={b}" for b in ("0%", "50%", "100%", "inf")),
        "--json",
    )  # fmt: skip
    assert code == 0, err
    answers = json.loads(out)["answers"]
    assert answers[1]["budget"][0] == pytest.approx((low + high) / 2)
    assert [answers[i]["budget"][0] for i in (0, 2, 3)] == [low, high, None]


def test_the_examples_of_generate_work(tiny_generator_path, tmp_path, monkeypatch):
    import re
    import shlex

    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()
    shutil.copy(tiny_generator_path, "quickstart/generator.safetensors")
    examples = re.findall(r"^ +pnag (generate .*)$", run("generate", "--help")[1], re.M)
    assert examples
    for example in examples:
        code, out, err = run(*shlex.split(example))
        assert code == 0, err
        assert len(out.splitlines()) == 3


def test_dry_runs_of_every_recipe():
    for recipe in ("sandwich", "single-path", "progressive"):
        code, out, _ = run("supernet", "train", "--recipe", recipe, "--dry-run", "--out", "x")
        assert code == 0
        assert out.strip()
        code, out, _ = run(
            "supernet", "train", "--recipe", recipe, "--dry-run", "--out", "x", "--json"
        )
        assert {"name", "epochs"} <= set(json.loads(out)[0])


def test_a_supernet_is_imported_and_a_network_exported(tiny, small_supernet, tmp_path, monkeypatch):
    from pnag_fast import supernet

    monkeypatch.setattr(supernet, "load_ofa", lambda path, space: supernet.build(space))
    (tmp_path / "published").write_text("x")
    out = tmp_path / "imported.safetensors"
    code, text, err = run("supernet", "import", tmp_path / "published", "--out", out)
    assert code == 0, err
    assert "million parameters" in text
    code, text, _ = run("supernet", "import", tmp_path / "published", "--out", out, "--json")
    assert json.loads(text)["space"] == "mbv3-tiny"

    space = pf.supernet.load(small_supernet).space
    arch = space.to_strings(space.sample(1))[0]
    onnx = tmp_path / "net.onnx"
    command = ["export", "--supernet", small_supernet, "--arch", arch, "--out", onnx]
    code, text, err = run(*command)
    assert code == 0, err
    assert "on validation images" in text
    assert outputs.kind_of(onnx) == "ONNX"
    # An ONNX file of ours may be replaced.
    code, text, _ = run(*command, "--data", "digits", "--seed", "3", "--json")
    assert code == 0
    assert 0 <= json.loads(text)["top1_validation"] <= 1


def test_a_supernet_is_judged_on_what_it_was_trained_on(small_supernet, tiny, tmp_path):
    """Not on digits whatever it was trained on, nor on digits of another split."""
    import dataclasses

    net = pf.supernet.load(small_supernet)
    photos = dataclasses.replace(net.trained_on, name="photos", calibration=None)
    net.trained_on = photos
    pf.supernet.save(net, tmp_path / "photos.safetensors")
    net.trained_on = None
    pf.supernet.save(net, tmp_path / "unknown.safetensors")
    arch = net.space.to_strings(net.space.sample(1))[0]
    for name, message in (("photos", "trained on 'photos'"), ("unknown", "nothing says")):
        path = tmp_path / f"{name}.safetensors"
        for command in (
            ["supernet", "evaluate", path, "--out", tmp_path / "new"],
            ["export", "--supernet", path, "--arch", arch, "--out", tmp_path / "new"],
        ):
            code, _, err = run(*command)
            assert code == 1
            assert message in err or (
                command[0] == "export" and "carries no training images" in err
            )
            assert not (tmp_path / "new").exists()
    # The seed of the command draws architectures; the supernet knows how its images were split.
    code, _, err = run(
        "supernet", "evaluate", small_supernet, "--architectures", 3, "--seed", 7,
        "--out", tmp_path / "t.csv",
    )  # fmt: skip
    assert code == 0, err


def test_measuring_says_what_it_found(tiny, tiny_table, tmp_path, monkeypatch):
    import dataclasses

    correction = {"r2": 0.5, "mean_error": 0.2, "networks": 20}
    blocks = {"a": {"steady": True}, "b": {"steady": False}}
    table = dataclasses.replace(
        tiny_table,
        provenance={
            "correction": correction,
            "tuning_trials": 10,
            "tuning": {"speedup": 1.5},
            "blocks": blocks,
        },
    )
    asked = []
    monkeypatch.setattr(pf.latency, "measure", lambda space, **o: asked.append(o) or table)
    out = tmp_path / "cpu.json"
    code, text, err = run("measure", "--out", out)
    assert code == 0, err
    assert text.startswith("WARNING: The cost table of 'test device' explains too little")
    assert "tuned with 10 trials" in text
    assert "1 of 2 blocks are unsteady" in text
    assert asked[0]["work_dir"] == tmp_path / "cpu.json.work"
    code, text, _ = run("measure", "--out", out, "--work-dir", tmp_path / "mine", "--json")
    assert code == 0
    document = json.loads(text)
    assert document["unsteady_blocks"] == ["b"]
    assert len(document["warnings"]) == 1
    monkeypatch.setattr(
        pf.latency, "measure", lambda space, **o: dataclasses.replace(
            table, provenance={**table.provenance, "tuning_trials": 0}
        )
    )  # fmt: skip
    assert "not tuned" in run("measure", "--out", out)[1]


def test_training_prints_what_can_be_reached(files, monkeypatch):
    import pnag_fast.generator as generator

    monkeypatch.chdir(files)
    quick = generator.ExpertSettings(evaluations=1000, steps=5)
    monkeypatch.setitem(generator.METHODS, "expert", quick)
    code, text, err = run(
        "train", "--accuracy", "model.safetensors", "--cost", "cost.json", "--out", "g",
        "--cautious", "1",
    )  # fmt: skip
    assert code == 0, err
    assert "reachable: " in text
    assert "written to g" in text


def test_the_doctor_speaks_to_people(monkeypatch):
    from pnag_fast import doctor
    from pnag_fast.doctor import Check

    checks = [
        Check("python", "ok", "3"),
        Check("torch", "absent", "not installed", "pip install it"),
        Check("tvm\x1b", "broken", "dies"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda: checks)
    code, out, _ = run("doctor")
    assert code == 1
    assert "absent  torch: not installed; pip install it" in out
    assert harmless(out)
    assert json.loads(run("doctor", "--json")[1])["ok"] is False
    monkeypatch.setattr(doctor, "examine", lambda: checks[:2])
    assert run("doctor")[0] == 0


def test_a_run_is_told_and_its_report_written_anew(tmp_path, monkeypatch):
    from pnag_fast import quickstart
    from pnag_fast.report import FrontReport

    out = tmp_path / "run"
    report = FrontReport("mbv3-tiny", NASTY, "m", (), (), 1.0, {}, ("nothing of this is true",))

    def fake(folder, *, images, settings, progress, notice):
        folder.mkdir(exist_ok=True)
        notice(f"step {settings.epochs}")
        report.save(folder / "front.json")
        return report

    monkeypatch.setattr(quickstart, "run", fake)
    code, text, err = run("quickstart", "--out", out, "--epochs", "7")
    assert code == 0
    assert text.startswith("WARNING: nothing of this is true")
    assert "step 7" in err
    code, text, err = run("quickstart", "--out", out, "--json")
    assert json.loads(text)["warnings"] == ["nothing of this is true"]
    assert err == ""
    pytest.importorskip("matplotlib")
    code, text, _ = run("report", out)
    assert code == 0
    assert "WARNING: nothing of this is true" in text
    page = (out / "report.html").read_text()
    assert page.index("nothing of this is true") < page.index("Asked and answered")
    assert "\x1b" not in page


def test_as_many_are_judged_as_were_asked_for(small_supernet, tmp_path):
    out = tmp_path / "out.csv"
    code, text, err = run(
        "supernet", "evaluate", small_supernet, "--architectures", 40, "--out", out, "--json"
    )
    assert code == 0, err
    assert json.loads(text)["architectures"] == 40
    space = pf.supernet.load(small_supernet).space
    archs, _ = pf.accuracy.load_table(out, space)
    assert len(pf.accuracy.covering(space, archs)) == 0


def test_what_was_wrong_is_not_called_kept(tiny_generator_path, files, tmp_path, monkeypatch):
    monkeypatch.chdir(files)
    code, _, err = run(
        "train", "--accuracy", "accuracy.csv", "--cost", "cost.json", "--out", tmp_path / "new",
        "--checkpoint", "front.json",
    )  # fmt: skip
    assert code == 1
    assert "front.json' is not a" in err
    assert "state of training in" not in err
    os.symlink("loop", tmp_path / "loop")
    code, _, err = run("accuracy", "accuracy.csv", "--no-check", "--out", tmp_path / "loop")
    assert code == 1
    assert "leads in a circle" in err
    assert not (tmp_path / "loop.fitted").exists()
    assert not (tmp_path / "loop.checkpoint").exists()
