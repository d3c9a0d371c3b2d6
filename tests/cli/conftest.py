from __future__ import annotations

import contextlib
import shutil

import pytest
from click.testing import CliRunner

import pnag_fast as pf
from pnag_fast import cli
from pnag_fast.cli import keeping


def _run(*arguments):
    """Run the command in this process; return exit code, standard output and standard error."""
    runner = CliRunner()
    with runner.isolation() as streams:
        try:
            cli.main([str(a) for a in arguments])
        except SystemExit as exit_:
            code = exit_.code
        return code, streams[0].getvalue().decode(), streams[1].getvalue().decode()


@pytest.fixture(scope="session")
def run():
    return _run


@pytest.fixture
def interrupting(monkeypatch):
    """Have the progress of commands press Ctrl-C at its report number `after` that fits `match`."""

    def interrupt(after, match=""):
        seen = []

        @contextlib.contextmanager
        def showing(*, quiet):
            def update(description, done, total):
                if match in description and total:
                    seen.append((description, done, total))
                    if len(seen) == after:
                        raise KeyboardInterrupt

            yield update

        monkeypatch.setattr(keeping, "showing_progress", showing)
        return seen

    return interrupt


@pytest.fixture(scope="session")
def one_of_each(tmp_path_factory, tiny, tiny_samples, tiny_model, tiny_table, tiny_generator_path):
    """A folder with one file of every kind that is written."""
    folder = tmp_path_factory.mktemp("files")
    pf.accuracy.save_table(folder / "accuracy.csv", tiny, *tiny_samples)
    tiny_table.save(folder / "cost.json")
    tiny_model.save(folder / "model.safetensors")
    shutil.copy(tiny_generator_path, folder / "generator.safetensors")
    pf.supernet.save(pf.supernet.build(tiny), folder / "supernet.safetensors")
    front = pf.search.front(tiny, tiny_model, [tiny_table], evaluations=500)
    front.save(folder / "front.json")
    tiny.save(folder / "space.json")
    return folder


@pytest.fixture
def files(one_of_each, tmp_path):
    """A copy of them, to read and to spoil."""
    shutil.copytree(one_of_each, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="session")
def small_supernet(tmp_path_factory, run):
    path = tmp_path_factory.mktemp("small") / "supernet.safetensors"
    code, _, err = run(
        "supernet", "train", "--resolution", "8", "--epochs", "1", "--out", path, "--threads", "1"
    )
    assert code == 0, err
    assert [p.name for p in path.parent.iterdir()] == ["supernet.safetensors"]
    return path
