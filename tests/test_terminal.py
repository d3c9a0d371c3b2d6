from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pnag_fast import terminal


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


def test_progress_is_escaped_and_says_how_long(harmless, nasty, monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with terminal.showing_progress(quiet=False) as progress:
        progress(nasty, 0, 0)
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
