"""Children run nothing that lies about in the current folder, and end with their parent."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from pnag_fast import children
from pnag_fast.children import ChildProcess

HERE = Path(__file__).parent
PLANTED = ("numpy", "tvm", "tvm_ffi", "torch", "json", "typing", "socket", "pnag_fast", "site")

# As an installed script begins: its own folder, and not the current one, is searched first.
AS_SCRIPT = "import sys; sys.path[:] = [p for p in sys.path if p]\n"


@pytest.fixture
def trap(tmp_path):
    """A folder with modules that tell on whoever imports them."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    code = f"open({str(tmp_path / 'sprung')!r}, 'a').write(__file__ + '\\n')\nraise SystemExit(3)\n"
    for name in PLANTED:
        (folder / f"{name}.py").write_text(code)
    for name in ("tvm", "multiprocessing"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(code)
    (folder / "sitecustomize.py").write_text(code)
    return folder


def sprung(trap):
    told = trap.parent / "sprung"
    return told.read_text().split() if told.exists() else []


def run(code, folder, **environment):
    """Run `code` as an installed script would, from `folder`."""
    path = [entry for entry in sys.path if os.path.isabs(entry) and Path(entry) != Path.cwd()]
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HOME), *path]), **environment}
    return subprocess.run(
        [sys.executable, "-c", AS_SCRIPT + code],
        cwd=folder,
        env=settings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


HOME = Path(children.__file__).parents[1]


def test_a_planted_module_is_not_imported_by_a_worker(trap):
    code = (
        f"sys.path.append({str(HERE / 'latency')!r})\n"
        "from pnag_fast.latency.worker import DeviceSpec, WorkerDevice\n"
        "device = WorkerDevice(DeviceSpec('faulty_device:FaultyDevice'), timeout_s=60)\n"
        "print(device.compile({'a': None}, {}, lambda *_: None).seconds('a', 1))\n"
        "device.close()\n"
    )
    done = run(code, trap)
    assert sprung(trap) == []
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1e-05")


@pytest.mark.parametrize("runner", ["local", "rpc://127.0.0.1:1/board"])
def test_a_planted_module_is_not_imported_by_a_measurement(trap, tmp_path, runner):
    pytest.importorskip("tvm")
    code = (
        "from pnag_fast.latency.runners import open_fleet\n"
        f"fleet = open_fleet('llvm -mtriple=' + sys.argv[1], runner={runner!r}, patience_s=1)\n"
        "print('opened', fleet.devices[0].name)\n"
        "fleet.close()\n"
    )
    import platform

    code = code.replace("sys.argv[1]", repr(f"{platform.machine()}-unknown-linux-gnu"))
    done = run(code, trap)
    assert sprung(trap) == []
    if runner == "local":
        assert done.stdout.startswith("opened"), done.stderr
    else:
        assert "no tracker at 127.0.0.1:1" in done.stderr


def test_a_planted_module_is_not_imported_by_the_doctor(trap):
    if importlib.util.find_spec("tvm") is None:
        pytest.skip("TVM is not installed")
    done = run("from pnag_fast.cli import main; main(['doctor'])", trap)
    assert sprung(trap) == []
    assert "TVM module survives JSON: yes" in done.stdout, done.stdout + done.stderr


def test_an_empty_entry_of_pythonpath_is_not_passed_on(trap):
    # `export PYTHONPATH=$PYTHONPATH:/some/folder` leaves one. The parent is Python's own doing, so
    # the traps are set after it has started.
    code = (
        "import os, shutil, tempfile\n"
        "from pnag_fast.children import ChildProcess\n"
        f"shutil.copytree({str(trap)!r}, '.', dirs_exist_ok=True)\n"
        "with tempfile.TemporaryFile() as output:\n"
        "    child = ChildProcess('import numpy, json, socket; raise SystemExit(7)', "
        "output=output)\n"
        "    print(child.wait(60))\n"
    )
    empty = trap.parent / "empty"
    empty.mkdir()
    done = run(code, empty, PYTHONPATH=os.pathsep + str(HOME))
    assert sprung(trap) == []
    assert done.stdout.strip() == "7", done.stderr


def test_the_search_path_is_that_of_the_parent_without_the_current_folder(tmp_path, monkeypatch):
    here, other = tmp_path / "here", tmp_path / "other"
    here.mkdir()
    other.mkdir()
    link = tmp_path / "link"
    link.symlink_to(here)
    monkeypatch.chdir(here)
    monkeypatch.setattr(
        sys, "path", ["", ".", str(here), str(link), "relative", str(other), str(HOME)]
    )
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert children.search_path() == [str(other), str(HOME)]
    # Named on purpose, it counts.
    monkeypatch.setenv("PYTHONPATH", f"{os.pathsep}{here}")
    assert children.search_path() == [str(here), str(link), str(other), str(HOME)]


def test_whoever_stands_in_the_installed_packages_still_finds_them(monkeypatch):
    import sysconfig

    packages = sysconfig.get_paths()["purelib"]
    monkeypatch.chdir(packages)
    monkeypatch.setattr(sys, "path", [packages])
    # The package itself may be one of them.
    assert children.search_path() == list(dict.fromkeys([packages, str(HOME)]))


def test_a_folder_that_is_gone_does_no_harm(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert children.run("print('fine')", timeout_s=60) == children.Ended(0, "fine\n")


@pytest.mark.parametrize(
    ("program", "ended"),
    [
        ("print(5)", (0, "5\n")),
        ("import sys; print(6, file=sys.stderr); sys.exit(2)", (2, "6\n")),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", (-11, "")),
        ("import time; time.sleep(600)", (None, "")),
    ],
)
def test_how_a_program_ends(program, ended):
    seconds = 1.0 if ended[0] is None else 60.0
    done = children.run(program, timeout_s=seconds)
    assert (done.code, done.output) == ended


# A compiler may keep the interpreter for a minute: PyDLL holds the lock that other threads need.
BUSY = "import ctypes; ctypes.PyDLL(None).sleep(600)"


@pytest.mark.parametrize("grandchild", [False, True])
def test_a_child_that_holds_the_interpreter_ends_with_a_killed_parent(grandchild):
    program = "import os, subprocess, sys\n"
    if grandchild:
        program += (
            "other = subprocess.Popen(['sleep', '600'])\n"
            "os.write(1, f'{os.getpid()} {other.pid}\\n'.encode())\n"
        )
    else:
        program += "os.write(1, f'{os.getpid()}\\n'.encode())\n"
    code = (
        "import sys, time\n"
        "from pnag_fast.children import ChildProcess\n"
        f"child = ChildProcess({program + BUSY!r}, output=sys.stdout)\n"
        "time.sleep(600)\n"
    )
    path = os.pathsep.join([str(HOME), *(p for p in sys.path if p)])
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    with parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        time.sleep(0.2)
        parent.kill()
    assert len(pids) == 1 + grandchild
    end = time.monotonic() + 20
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < end, "a child outlives its parent"
        time.sleep(0.05)


def test_killing_ends_what_the_child_started():
    program = (
        "import os, subprocess\n"
        "other = subprocess.Popen(['sleep', '600'])\n"
        "print(other.pid, flush=True)\n"
        "os._exit(0)\n"  # the child ends by itself and leaves the other behind
    )
    with tempfile.TemporaryFile() as output:
        child = ChildProcess(program, output=output)
        assert child.wait(60) == 0
        output.seek(0)
        pid = int(output.read())
    end = time.monotonic() + 20
    while is_running(pid):
        assert time.monotonic() < end, "what the child started outlives it"
        time.sleep(0.05)


def is_running(pid):
    """Whether a process runs; one that has ended may wait for whoever adopted it."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("this operating system has no /proc")
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
