from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pnag_fast import outputs
from pnag_fast.cli import options
from pnag_fast.errors import FileAccessError

COMMANDS = {
    "measure": ["measure", "--space", "space.json"],
    "supernet train": ["supernet", "train", "--space", "space.json"],
    "supernet import": ["supernet", "import", "accuracy.csv"],
    "supernet evaluate": ["supernet", "evaluate", "supernet.safetensors"],
    "accuracy": ["accuracy", "accuracy.csv", "--space", "space.json"],
    "train": ["train", "--accuracy", "accuracy.csv", "--cost", "cost.json"],
    "adapt": ["adapt", "generator.safetensors", "--table", "cost.json"],
    "confirm": ["confirm", "generator.safetensors", "--budget", "inf", "--program", "true"],
    "export": ["export", "--supernet", "supernet.safetensors", "--arch", "x"],
    "table choose": ["table", "choose", "--space", "space.json"],
    "table fit": ["table", "fit", "accuracy.csv", "--device", "d"],
    "table import": ["table", "import", "accuracy.csv"],
    "table macs": ["table", "macs", "--space", "space.json"],
    "table memory": ["table", "memory", "--space", "space.json"],
    "table merge": ["table", "merge", "cost.json", "--add", "cost.json"],
    "table parameters": ["table", "parameters", "--space", "space.json"],
    "report of a generator": ["report", "generator.safetensors"],
    "report": ["report", "front.json", "--judge", "model.safetensors"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_outputs_are_checked_before_the_work(run, files, monkeypatch, command):
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


def test_the_measurements_survive_their_own_command(run, files, monkeypatch):
    monkeypatch.chdir(files)
    before = (files / "accuracy.csv").read_bytes()
    code, _, err = run("accuracy", "accuracy.csv", "--out", "accuracy.csv", "--no-check")
    assert code == 1
    assert "would be lost" in err
    assert (files / "accuracy.csv").read_bytes() == before


def test_what_may_be_replaced(run, files, monkeypatch):
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
def test_folders_and_files_without_permission(run, files, monkeypatch):
    monkeypatch.chdir(files)
    (files / "model.safetensors").chmod(0o444)
    judge = ["accuracy", "accuracy.csv", "--out"]
    assert "write-protected" in run(*judge, "model.safetensors")[2]
    (files / "locked").mkdir(mode=0o555)
    assert "Permission denied" in run(*judge, "locked/x")[2]


def test_outputs_do_not_become_part_of_the_images(run, tmp_path, tiny, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "a").mkdir(parents=True)
    code, _, err = run("supernet", "train", "--data", "photos", "--out", "photos/net")
    assert code == 1
    assert "lies in 'photos'" in err
    # What is built in is no path, even where a folder has its name.
    (tmp_path / "digits").mkdir()
    outputs.check(tmp_path / "digits" / "x", outputs.SUPERNET, inputs=options.files("digits"))
