from __future__ import annotations

import signal
import subprocess
import sys
import time

import pnag_fast as pf


def test_version_and_bad_usage(run):
    code, out, _ = run("--version")
    assert code == 0
    assert pf.__version__ in out
    assert run("nonsense")[0] == 2
    assert run("generate")[0] == 2
    assert run("quickstart")[0] == 2


def test_importing_is_light():
    code = (
        "import sys, pnag_fast, pnag_fast.cli; pnag_fast.latency, pnag_fast.search\n"
        "commands = dict(pnag_fast.cli.pnag.commands)\n"
        "dict(commands['supernet'].commands)\n"
        "heavy = {'torch', 'tvm', 'matplotlib', 'sklearn', 'onnx', 'PIL'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_interruption_is_one_line(tmp_path):
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


def test_unknown_spaces_and_options(run, tmp_path):
    code, _, err = run("measure", "--space", "resnet", "--out", tmp_path / "x.json")
    assert code == 1
    assert "'resnet' is neither a search space nor a file" in err
    code, _, err = run("measure", "--space", "nasbench201", "--out", tmp_path / "x.json")
    assert code == 1
    assert "layered network" in err
    assert list(tmp_path.iterdir()) == []
