from __future__ import annotations

import json
import subprocess
import sys

import pytest

import pnag_fast as pf


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["generate", "absent", "--budget", "1"], 1, "FileAccessError"),
        (["generate", "accuracy.csv", "--budget", "1"], 1, "FileFormatError"),
        (["generate", "generator.safetensors", "--budget", "1e-9"], 1, "BudgetInfeasibleError"),
        (["generate", "generator.safetensors", "--budget", "x"], 2, "UsageError"),
        (["generate", "generator.safetensors", "--budget", "200%"], 2, "UsageError"),
        (["generate", "generator.safetensors"], 2, "UsageError"),
        (["generate", "generator.safetensors", "--accuracy", "x"], 2, "UsageError"),
        (["generate", "generator.safetensors", "--accuracy", "1"], 1, "BudgetInfeasibleError"),
        (["generate", "generator.safetensors", "--budget", "1", "--device", "x"], 1, None),
        (["adapt", "generator.safetensors", "--out", "x"], 2, "UsageError"),
        (["adapt", "generator.safetensors", "--table", "front.json", "--out", "x"], 1, None),
        (["adapt", "cost.json", "--table", "cost.json", "--out", "x"], 1, "FileFormatError"),
        (["confirm", "generator.safetensors", "--out", "x"], 2, "UsageError"),
        (["confirm", "cost.json", "--budget", "1", "--out", "x"], 1, "FileFormatError"),
        (["train", "--accuracy", "accuracy.csv", "--out", "x"], 2, "UsageError"),
        (["train", "--accuracy", "accuracy.csv", "--device", "front.json", "--out", "x"], 1, None),
        (["accuracy", "absent", "--out", "x"], 2, "UsageError"),
        (["nonsense"], 2, "UsageError"),
        (["measure", "--space", "resnet", "--out", "x"], 1, "InvalidInputError"),
        (["measure", "--target", "llvm -mcpu=nosuchcpu", "--out", "x"], 1, "InvalidInputError"),
        (["measure", "--runner", "ftp://x", "--out", "x"], 1, "InvalidInputError"),
        (["measure", "--prior", "cost.json", "--out", "x"], 2, None),
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
        (["report", "generator.safetensors", "--out", "front.json"], 1, "InvalidInputError"),
        (["report", ".", "--confidence", "0.9"], 2, "UsageError"),
        (["table", "choose", "--prior", "front.json", "--out", "x"], 1, "FileFormatError"),
        (["table", "choose", "--measured", "accuracy.csv", "--out", "x"], 1, "FileFormatError"),
        (["table", "fit", "accuracy.csv", "--out", "x"], 2, "UsageError"),
        (["table", "fit", "accuracy.csv", "--device", "d", "--out", "x"], 1, "FileFormatError"),
        (["table", "fit", "accuracy.csv", "--column", "x", "--out", "x"], 1, "FileFormatError"),
        (["table", "macs", "--space", "space.csv", "--out", "x"], 1, "InvalidInputError"),
        (["table", "merge", "cost.json", "--out", "x"], 2, "UsageError"),
        (["table", "merge", "cost.json", "--measured", "accuracy.csv", "--out", "x"], 1, None),
        (["table", "merge", "cost.json", "--add", "front.json", "--out", "x"], 1, None),
        (["table", "show", "cost.json", "--arch", "9"], 1, "InvalidInputError"),
        (["table", "show", "accuracy.csv"], 1, "FileFormatError"),
        (["report", "cost.json", "--judge", "model.safetensors"], 1, "FileFormatError"),
        (["quickstart", "--out", "precious"], 1, "InvalidInputError"),
        (["quickstart", "--out", "q", "--space", "nasbench201"], 1, "UnsupportedSpaceError"),
    ],
)
def test_every_failure_is_one_document(run, files, monkeypatch, arguments, code, error):
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


def test_a_fault_of_the_program_is_short_unless_asked(run, tiny_generator_path, monkeypatch):
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
    run, tiny_generator_path, monkeypatch, raised, code, message
):
    def broken(*arguments, **options):
        raise raised

    monkeypatch.setattr(pf.Generator, "load", broken)
    found, text, err = run("generate", tiny_generator_path, "--budget", "1")
    assert (found, text) == (code, "")
    assert message in err
    assert "Traceback" not in err
