"""`make quickstart`, with a Python and a pip that are not really there."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[1] / "Makefile"

pytestmark = pytest.mark.skipif(
    shutil.which("make") is None or not MAKEFILE.exists(), reason="needs make and a checkout"
)

# Says that it is of another version, runs what it is told by -c, and "makes" environments: a folder
# with itself as python, and pip and pnag that only say what they were asked.
FAKE = """#!{real}
import os, sys, types
version, own = {version!r}, {own!r}
sys.version_info = type("V", (tuple,), {{}})((*version, "final", 0))
sys.executable = sys._base_executable = own
if sys.argv[1] == "-c":
    code = sys.argv[2]
    if "Python.h" in code:
        sys.exit(0)
    exec(code)
elif sys.argv[1:3] == ["-m", "venv"]:
    folder = sys.argv[-1]
    print("venv", "by", version, flush=True)
    os.makedirs(folder + "/bin", exist_ok=True)
    for name, text in (("python", open(own).read()), ("pnag", "#!/bin/sh\\necho pnag $*\\n")):
        with open(folder + "/bin/" + name, "w") as stream:
            stream.write(text)
        os.chmod(folder + "/bin/" + name, 0o755)
elif sys.argv[1:3] == ["-m", "pip"]:
    print("pip", "of", version, flush=True)
"""


@pytest.fixture
def checkout(tmp_path):
    shutil.copy(MAKEFILE, tmp_path / "Makefile")
    for name in ("pyproject.toml", "CMakeLists.txt", "constraints.txt", "README.md", "LICENSE"):
        (tmp_path / name).touch()
    for name in ("csrc", "python", "bin"):
        (tmp_path / name).mkdir()
    for name, version in (("old", (3, 9, 1)), ("new", (3, 12, 1)), ("newer", (3, 13, 0))):
        own = tmp_path / "bin" / name
        own.write_text(FAKE.format(real=sys.executable, version=version, own=str(own)))
        own.chmod(own.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def make(folder, *arguments, target="quickstart"):
    variables = {k: v for k, v in os.environ.items() if k not in ("PYTHON", "MAKEFLAGS", "OUT")}
    done = subprocess.run(
        ["make", target, "CXX=true", *arguments],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_an_old_python_is_refused_before_anything_is_made(checkout):
    code, out, err = make(checkout, f"PYTHON={checkout}/bin/old")
    assert code != 0
    assert "needs Python 3.10 or newer" in err
    assert "3.9.1" in err
    assert not (checkout / ".venv").exists()
    assert "pip" not in out


def test_a_missing_python_is_named(checkout):
    code, _, err = make(checkout, "PYTHON=python-of-nowhere")
    assert code != 0
    assert "There is no Python called 'python-of-nowhere'" in err
    assert not (checkout / ".venv").exists()


def test_an_environment_of_another_python_is_made_anew(checkout):
    # As the old Makefile left it: an environment of a Python that is too old.
    subprocess.run([checkout / "bin" / "old", "-m", "venv", checkout / ".venv"], check=True)
    code, out, err = make(checkout, f"PYTHON={checkout}/bin/new")
    assert code == 0, err
    assert "venv by (3, 12, 1)" in out
    assert "pip of (3, 12, 1)" in out
    assert "pnag quickstart --out quickstart" in out
    # How long it takes is said before it is begun.
    assert out.index("minutes") < out.index("pip of")

    # Once more: nothing is made; and without PYTHON the environment's own is taken.
    for arguments in ((f"PYTHON={checkout}/bin/new",), ()):
        code, out, err = make(checkout, *arguments)
        assert code == 0, err
        assert "venv by" not in out
        assert "pip of" not in out
        assert "pnag quickstart" in out

    code, out, err = make(checkout, f"PYTHON={checkout}/bin/newer")
    assert code == 0, err
    assert "venv by (3, 13, 0)" in out
    assert "pip of (3, 13, 0)" in out


def test_the_core_is_built_with_the_tools_of_the_tests(checkout):
    code, _, err = make(checkout, target="core")
    assert code != 0
    assert "run 'make test' once" in err
    assert not (checkout / ".venv").exists()
