"""Whatever a measurement is doing, Ctrl-C ends it at once, and nothing outlives it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest

from pnag_fast import CostTable, latency
from pnag_fast.errors import MeasurementError
from pnag_fast.latency.device import DeviceClosedError
from pnag_fast.latency.fleet import Fleet
from pnag_fast.latency.measuring import JOURNAL_FILE, Item, Measurer
from pnag_fast.latency.protocol import Protocol
from pnag_fast.latency.tuning import DATABASE_FILE
from pnag_fast.latency.worker import DeviceSpec, WorkerDevice
from pnag_fast.progress import ignore_progress
from pnag_fast.runs import Run
from pnag_fast.spaces import Stem

# Generous: it takes some tenths of a second on a machine that is not busy.
DEADLINE_S = 3.0

HOME = Path(latency.__file__).parents[2]


@pytest.fixture
def measuring(tmp_path):
    """Start ``pnag measure`` and wait until it is at a certain point."""
    started = []

    def start(reached, *options):
        path = os.pathsep.join([str(HOME), *(p for p in sys.path if p)])
        command = [sys.executable, "-m", "pnag_fast", "measure", "--out", "table.json", *options]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        end = time.monotonic() + 240
        while not reached(process, tmp_path / "table.json.checkpoint"):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < end, "it never comes to that point"
            time.sleep(0.02)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def lines(path):
    try:
        return path.read_text().count("\n")
    except OSError:
        return 0


def children_of(process):
    try:
        text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    except OSError:
        return []
    return [int(pid) for pid in text.split()]


def descendants_of(process):
    """Also those that a thread started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, parent = int(status.parent.name), status.read_text().rpartition(")")[2].split()[1]
            if int(parent) == process.pid:
                found.append(pid)
    return found


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


MOMENTS = {
    "importing TVM": (lambda process, work: children_of(process), ["--trials", "0"]),
    "compiling": (lambda process, work: (work / JOURNAL_FILE).exists(), ["--trials", "0"]),
    "tuning": (lambda process, work: lines(work / DATABASE_FILE) > 4, ["--trials", "400"]),
    "running": (
        lambda process, work: lines(work / JOURNAL_FILE) > 8,
        ["--trials", "0", "--space", "mini.json"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupt_ends_everything_at_once(mini, measuring, tmp_path, moment, how):
    pytest.importorskip("tvm")
    if not Path("/proc/self/task").exists():
        pytest.skip("this operating system has no /proc")
    mini.save(tmp_path / "mini.json")
    reached, options = MOMENTS[moment]
    process = measuring(reached, *options)
    time.sleep(0.3)  # well into it
    pids = descendants_of(process)
    assert pids
    start = time.monotonic()
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - start < DEADLINE_S
    if how == signal.SIGINT:
        assert process.returncode in (1, 130)
        assert said.strip().splitlines()[-1].startswith("interrupted")
    end = time.monotonic() + DEADLINE_S
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < end, "a child outlives the command"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["compiling", "tuning", "running"])
def test_what_was_killed_goes_on(mini, measuring, tmp_path, moment):
    pytest.importorskip("tvm")
    mini.save(tmp_path / "mini.json")
    reached, _ = MOMENTS[moment]
    options = ["--space", "mini.json", "--trials", "40" if moment == "tuning" else "0"]
    process = measuring(reached, *options)
    process.kill()
    process.communicate()
    work = tmp_path / "table.json.checkpoint"
    before = {path: path.read_bytes() for path in work.glob("*.jsonl")}
    assert before
    again = measuring(lambda process, work: True, *options)
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    for path, data in before.items():  # every whole line is still there, and there are more
        whole = data[: data.rfind(b"\n") + 1]
        assert path.read_bytes().startswith(whole)
    assert lines(work / JOURNAL_FILE) > 100
    assert CostTable.load(tmp_path / "table.json").bounds[0] > 0


@pytest.fixture
def interrupt_after(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    timers = []

    def arm(seconds):
        timer = threading.Timer(seconds, os.kill, [os.getpid(), signal.SIGINT])
        timers.append(timer)
        timer.start()

    yield arm
    for timer in timers:
        timer.cancel()


@pytest.mark.parametrize(
    "options",
    [
        {"faults": {"compile": "hang"}, "killer": ""},
        {"faults": {"reference": "hang"}},
        {"faults": {"a": "hang"}},
        {"available": "/nowhere/at/all"},
    ],
    ids=["compiling", "trying the reference", "running", "waiting for a device"],
)
@pytest.mark.parametrize("devices", [1, 2])
def test_an_interrupted_run_starts_nothing_again(interrupt_after, options, devices):
    spec = DeviceSpec("faulty_device:FaultyDevice", options)
    fleet = Fleet([WorkerDevice(spec, timeout_s=30.0) for _ in range(devices)], measure_alone=False)
    items = {name: Item((Stem(size, 3, 8, 1),)) for name, size in (("a", 4), ("b", 5), ("c", 6))}
    protocol = Protocol(passes=3, extra_passes=0)
    measurer = Measurer(fleet, protocol, Run(), tiles={})
    threads = threading.active_count()
    interrupt_after(1.0)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        measurer.measure(items)
    assert time.monotonic() - start < 1.0 + DEADLINE_S
    end = time.monotonic() + DEADLINE_S
    while threading.active_count() > threads + 1:  # the timer's
        assert time.monotonic() < end, "a thread of the run goes on"
        time.sleep(0.02)
    assert all(device._child is None for device in fleet.devices)
    with pytest.raises(DeviceClosedError):
        fleet.devices[0].compile({}, {}, ignore_progress)


def test_a_device_that_is_opening_is_interrupted(interrupt_after):
    interrupt_after(0.5)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        WorkerDevice(DeviceSpec("faulty_device:slow_to_open"), timeout_s=60)
    assert time.monotonic() - start < 0.5 + DEADLINE_S


def test_compiling_in_this_process_is_interrupted(interrupt_after, monkeypatch):
    class LikeTVM:
        """What TVM does to an interrupt that arrives while it calls back into Python."""

        failures: ClassVar = {}

        def compile(self, *_):
            try:
                ctypes.CDLL(None).usleep(900_000)
            except KeyboardInterrupt:
                raise RuntimeError from None
            return self

    monkeypatch.setattr(latency, "open_device", lambda *_, **__: LikeTVM())
    block = Stem(4, 3, 8, 1)
    interrupt_after(0.3)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        latency.compile_blocks([block])
    assert time.monotonic() - start < 0.3 + DEADLINE_S
    # The next one waits for what was left to itself, and works.
    assert latency.compile_blocks([block]).classes is None


def test_an_error_of_the_compiler_arrives(monkeypatch):
    class Broken:
        def compile(self, *_):
            raise MeasurementError("no compiler")

    monkeypatch.setattr(latency, "open_device", lambda *_, **__: Broken())
    with pytest.raises(MeasurementError, match="no compiler"):
        latency.compile_blocks([Stem(4, 3, 8, 1)])


def test_the_doctor_is_interrupted(interrupt_after, monkeypatch):
    from pnag_fast.latency import doctor

    monkeypatch.setattr(doctor, "_ROUND_TRIP", "import time; time.sleep(600)")
    interrupt_after(0.5)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        doctor._check_round_trip("")
    assert time.monotonic() - start < 0.5 + DEADLINE_S
