from __future__ import annotations

import subprocess
import sys

import click
import pytest

from pnag_fast import cli
from pnag_fast.cli.commands import CommandFiles


def every_command(group=cli.pnag, above=()):
    for name, command in group.commands.items():
        yield (*above, name), command
        if isinstance(command, click.Group):
            yield from every_command(command, (*above, name))


COMMANDS = {" ".join(names): command for names, command in every_command()}


def test_what_is_there():
    assert COMMANDS.keys() == {
        "accuracy", "adapt", "confirm", "doctor", "export", "generate", "measure", "quickstart",
        "report", "supernet", "supernet evaluate", "supernet import", "supernet train", "table",
        "table choose", "table fit", "table import", "table macs", "table memory",
        "table merge", "table parameters", "table show", "train",
    }  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(run, name):
    *above, own = name.split()
    command = COMMANDS[name]
    assert command.name == own
    listed = run(*above, "--help")[1].partition("Commands:")[2]
    assert f"\n  {own} " in listed
    code, text, _ = run(*name.split(), "--help")
    assert code == 0
    if not isinstance(command, click.Group):
        assert "Example" in text
        assert f"pnag {name}" in text
        assert "--json" in text


def test_a_command_is_one_file(tmp_path):
    """Nothing but the file: it is listed, found, suggested, and run."""
    (tmp_path / "greet_.py").write_text(
        "import click\n"
        "@click.command('greet')\n"
        "@click.argument('name')\n"
        "def greet_(name):\n"
        "    'Say hello to somebody.'\n"
        "    click.echo(f'hello {name}')\n"
    )
    program = (
        "from pnag_fast.cli import commands, main\n"
        f"commands.__path__.append({str(tmp_path)!r})\n"
        "main()"
    )

    def pnag(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    assert "  greet       Say hello to somebody." in pnag("--help")[1]
    assert pnag("greet", "you") == (0, "hello you\n", "")
    code, _, err = pnag("gret")
    assert code == 2
    assert "greet" in err


def test_only_what_is_asked_for_is_imported():
    program = (
        "import sys\n"
        "from pnag_fast.cli import pnag\n"
        "pnag.commands['generate'], list(pnag.commands)\n"
        "print(sorted(n for n in sys.modules if n.startswith('pnag_fast.cli.commands.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "['pnag_fast.cli.commands.generate']", done.stderr


def test_names_that_are_no_file():
    found = CommandFiles("pnag_fast.cli.commands")
    for name in ("", "nonsense", "options", "../options", "generate.generate", "import_"):
        assert name not in found
    assert len(found) == len(list(found))
