"""What crashes or hangs in a child is an error in the parent, and no more than that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pnag_fast.errors import FileAccessError, MeasurementError, MissingDependencyError
from pnag_fast.latency.device import DeviceClosedError, DeviceLostError
from pnag_fast.latency.worker import DeviceSpec, WorkerDevice
from pnag_fast.progress import ignore_progress


@pytest.fixture
def open_worker(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    opened = []

    def open_one(timeout_s=20.0, **options):
        device = WorkerDevice(
            DeviceSpec("faulty_device:FaultyDevice", options), timeout_s=timeout_s
        )
        opened.append(device)
        return device

    yield open_one
    for device in opened:
        device.close()


def child_of(device):
    return device._child._process._process


def test_a_worker_does_what_its_device_does(open_worker):
    device = open_worker()
    assert (device.name, device.count, device.machine.lanes) == ("faulty", 1, 16)
    assert device.conditions == {"target": "faulty"}
    notes = []
    loaded = device.compile({"a": None}, {}, lambda *note: notes.append(note))
    assert notes == [("compiling", 0, 1)]
    assert loaded.seconds("a", 3) == pytest.approx(3e-5)
    np.testing.assert_array_equal(loaded.run("a", np.arange(3.0)), np.arange(3.0))
    loaded.unload()


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("SIGILL", "SIGILL .the target has instructions that this processor lacks"),
        # Nothing is added to what the process said last, which was nothing.
        ("SIGSEGV", "SIGSEGV while 'seconds'$"),
        ("SIGKILL", "SIGKILL .killed from outside, perhaps because memory ran out"),
        ("abort", "SIGABRT while 'seconds': LLVM ERROR: cannot select"),
    ],
)
def test_a_death_is_told_with_its_cause_and_survived(open_worker, tmp_path, fault, text):
    device = open_worker(faults={"a": fault}, once=str(tmp_path / "happened"))
    loaded = device.compile({"a": None}, {}, ignore_progress)
    with pytest.raises(DeviceLostError, match=text):
        loaded.seconds("a", 1)
    # What was loaded in the old child is gone, and is not mistaken for what is in the new one.
    again = device.compile({"a": None}, {}, ignore_progress)
    with pytest.raises(DeviceLostError, match="restarted"):
        loaded.seconds("a", 1)
    loaded.unload()
    assert again.seconds("a", 1) > 0


def test_silence_has_an_end(open_worker):
    device = open_worker(timeout_s=0.5, faults={"a": "hang"})
    loaded = device.compile({"a": None}, {}, ignore_progress)
    process = child_of(device)
    start = time.monotonic()
    with pytest.raises(DeviceLostError, match=r"no answer for 0\.5 s while 'seconds'"):
        loaded.seconds("a", 1)
    assert time.monotonic() - start < 10
    assert process.poll() == -signal.SIGKILL


@pytest.mark.parametrize("error", [MeasurementError, KeyboardInterrupt])
def test_an_error_while_progress_is_told_leaves_no_old_answer(open_worker, error):
    def refuse(*_):
        raise error("enough")

    device = open_worker(faults={"a": 0.25})
    with pytest.raises(error, match="enough"):
        device.compile({"a": None}, {}, refuse)
    loaded = device.compile({"a": None}, {}, ignore_progress)
    assert loaded.seconds("a", 2) == 0.5


def test_a_stopped_child_is_a_silent_one(open_worker):
    device = open_worker(timeout_s=0.5)
    loaded = device.compile({"a": None}, {}, ignore_progress)
    os.kill(child_of(device).pid, signal.SIGSTOP)
    with pytest.raises(DeviceLostError, match="no answer"):
        loaded.seconds("a", 1)


@pytest.mark.parametrize(
    ("fault", "text"), [("memory", "out of memory"), ("raise", "no such kernel")]
)
def test_an_error_is_passed_on_and_the_child_lives(open_worker, fault, text):
    device = open_worker(faults={"a": fault})
    loaded = device.compile({"a": None, "b": None}, {}, ignore_progress)
    process = child_of(device)
    with pytest.raises(MeasurementError, match=text):
        loaded.seconds("a", 1)
    assert loaded.seconds("b", 1) > 0
    assert process.poll() is None


def test_an_unknown_error_is_passed_on_by_name(open_worker):
    loaded = open_worker().compile({"a": None}, {}, ignore_progress)
    with pytest.raises(MeasurementError, match="TypeError"):
        loaded.seconds("a", "many")


def test_a_twin_is_another_process(open_worker):
    device = open_worker()
    twin = device.twin()
    try:
        assert twin.name == device.name
        assert twin.compile({"a": None}, {}, ignore_progress).seconds("a", 1) > 0
        assert child_of(twin).pid != child_of(device).pid
    finally:
        twin.close()


@pytest.mark.parametrize("moment_s", [0.2, 0.0])
def test_closing_ends_the_child_and_whoever_waits_for_it(open_worker, moment_s):
    device = open_worker(faults={"a": "hang"})
    loaded = device.compile({"a": None}, {}, ignore_progress)
    process, connection = child_of(device), device._child._connection
    closers = []

    class Recorded:
        """The connection, and who closes it."""

        def __getattr__(self, name):
            return getattr(connection, name)

        def close(self):
            closers.append(threading.current_thread())
            connection.close()

    device._child._connection = Recorded()
    errors = []

    def wait():
        try:
            loaded.seconds("a", 1)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(moment_s)
    device.close()
    thread.join(10)
    assert not thread.is_alive()
    assert [type(error) for error in errors] == [DeviceClosedError]
    assert process.poll() is not None
    # Closed once, and by the thread that was using it, if any was.
    assert len(closers) == 1
    assert moment_s == 0.0 or closers == [thread]


def test_a_closed_device_is_not_opened_again(open_worker):
    device = open_worker()
    loaded = device.compile({"a": None}, {}, ignore_progress)
    twin = device.twin()
    device.close()
    device.close()
    with pytest.raises(DeviceClosedError):
        loaded.seconds("a", 1)
    with pytest.raises(DeviceClosedError):
        device.compile({"a": None}, {}, ignore_progress)
    # Another device of the same kind is another device.
    assert twin.compile({"a": None}, {}, ignore_progress).seconds("a", 1) > 0
    twin.close()


def test_closing_leaves_no_descriptor_behind(open_worker):
    if not Path("/proc/self/fd").exists():
        pytest.skip("this operating system has no /proc")
    before = len(os.listdir("/proc/self/fd"))
    for end in ("close", "die", "fail"):
        device = open_worker(faults={"a": "SIGKILL", "b": "raise"})
        loaded = device.compile({"a": None, "b": None}, {}, ignore_progress)
        if end != "close":
            with pytest.raises(MeasurementError):
                loaded.seconds("a" if end == "die" else "b", 1)
        device.close()
    with pytest.raises(MeasurementError):
        WorkerDevice(DeviceSpec("no_such_module:at_all"), timeout_s=5)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_error_about_a_file_in_the_child_is_not_taken_for_its_death(open_worker):
    # Its base is OSError, as is that of a broken connection.
    device = open_worker(faults={"a": "file"})
    loaded = device.compile({"a": None}, {}, ignore_progress)
    process = child_of(device)
    with pytest.raises(FileAccessError, match="no room"):
        loaded.seconds("a", 1)
    assert process.poll() is None


def test_a_hanging_child_ends_with_a_parent_that_was_killed(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    code = (
        "import sys\n"
        "from pnag_fast.latency.worker import DeviceSpec, WorkerDevice\n"
        "spec = DeviceSpec('faulty_device:FaultyDevice', {'faults': {'a': 'hang'}})\n"
        "device = WorkerDevice(spec, timeout_s=600)\n"
        "loaded = device.compile({'a': None}, {}, lambda *_: None)\n"
        "print(device._child._process.pid, flush=True)\n"
        "loaded.seconds('a', 1)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    with parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    end = time.monotonic() + 30
    while is_running(pid):
        assert time.monotonic() < end, "the child outlives its parent"
        time.sleep(0.1)


def is_running(pid):
    """Whether a process runs; one that has ended may wait for whoever adopted it."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.parent.parent.exists():
        pytest.skip("this operating system has no /proc")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_device_that_does_not_open_says_why(open_worker, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    with pytest.raises(MeasurementError, match="unexpected keyword argument 'colour'"):
        WorkerDevice(DeviceSpec("faulty_device:FaultyDevice", {"colour": 1}), timeout_s=5)


def test_a_missing_dependency_keeps_its_kind_on_the_way():
    import pickle

    error = pickle.loads(pickle.dumps(MissingDependencyError("tvm", "tvm", "measuring")))
    assert (error.module, error.extra) == ("tvm", "tvm")
    assert "pip install 'pnag-fast[tvm]'" in str(error)
