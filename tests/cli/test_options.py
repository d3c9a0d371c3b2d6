from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pnag_fast.cli import options
from pnag_fast.cli.keeping import State
from pnag_fast.cli.options import Checkpoint


@pytest.fixture
def asked():
    """What a command is handed, and what was said on standard error."""

    @click.command()
    @options.checkpoint("the work", older="--journal", older_flag="--no-journal")
    def command(checkpoint):
        seen.append(checkpoint)

    seen = []

    def ask(*arguments):
        done = CliRunner().invoke(command, arguments)
        assert done.exit_code == 0, done.output
        return seen.pop(), done.stderr

    return ask


def test_the_checkpoint_has_one_vocabulary(asked):
    assert asked() == ((None, True, "the work"), "")
    assert asked("--checkpoint", "x") == ((Path("x"), True, "the work"), "")
    assert asked("--no-checkpoint") == ((None, False, "the work"), "")


def test_older_names_work_and_say_what_they_are_called(asked):
    assert asked("--journal", "x") == (
        (Path("x"), True, "the work"),
        "--journal is called --checkpoint now, and will go\n",
    )
    assert asked("--no-journal") == (
        (None, False, "the work"),
        "--no-journal is called --no-checkpoint now, and will go\n",
    )
    # What is said in today's words counts.
    assert asked("--journal", "x", "--checkpoint", "y")[0].path == Path("y")


def test_where_the_state_is_kept(tmp_path):
    out = tmp_path / "out.csv"
    default = Checkpoint(None, True, "work")
    assert default.beside(out) == State(tmp_path / "out.csv.checkpoint", "work")
    assert default.beside(Path("/dev/null")) is None
    assert default._replace(wanted=False).beside(out) is None
    named = default._replace(path=tmp_path / "mine")
    assert named.beside(out, head=1) == State(tmp_path / "mine", "work", temporary=False, head=1)
    earlier = tmp_path / "out.csv.journal"
    assert default.beside(out, older=".journal").path == tmp_path / "out.csv.checkpoint"
    earlier.touch()
    assert default.beside(out, older=".journal").path == earlier
    assert named.beside(out, older=".journal").path == tmp_path / "mine"
    (tmp_path / "out.csv.checkpoint").touch()
    assert default.beside(out, older=".journal").path == tmp_path / "out.csv.checkpoint"
