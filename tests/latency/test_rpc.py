"""TVM's own tracker and servers, on this machine."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError, MeasurementError
from pnag_fast.latency.measuring import measure_table
from pnag_fast.latency.protocol import Protocol
from pnag_fast.latency.runners import open_fleet
from pnag_fast.runs import Run

tvm = pytest.importorskip("tvm")
pytest.importorskip("tornado", reason="TVM's tracker needs it")

# Says what the processor is, as a target for another machine has to.
TARGET = f"llvm -mtriple={platform.machine()}-unknown-linux-gnu"
KEY = "board"


class Farm:
    """A tracker, and servers that can be stopped, killed and started."""

    def __init__(self, folder):
        self._folder = folder
        self._processes = []
        # tvm_ffi imports torch where it can, and a server has no use for it.
        (folder / "torch.py").write_text("raise ImportError")
        path = os.environ.get("PYTHONPATH", "")
        self._environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{path}"}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._start("rpc_tracker", "--port", str(self.port), "--port-end", str(self.port + 1))
        self._wait(self._answers)

    def _start(self, program, *arguments):
        with open(self._folder / f"{program}-{len(self._processes)}.log", "w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"tvm.exec.{program}", "--host", "127.0.0.1", *arguments],
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def server(self, key=KEY):
        before = self.count(key)
        tracker = f"127.0.0.1:{self.port}"
        process = self._start(
            "rpc_server",
            "--tracker",
            tracker,
            "--key",
            key,
            "--port",
            "20000",
            "--port-end",
            "60000",
        )
        self._wait(lambda: self.count(key) > before)
        return process

    def count(self, key=KEY):
        from tvm import rpc

        tracker = rpc.connect_tracker("127.0.0.1", self.port)
        keys = [server["key"] for server in tracker.summary()["server_info"]]
        tracker.close()
        return keys.count(f"server:{key}")

    def runner(self, key=KEY):
        return f"rpc://127.0.0.1:{self.port}/{key}"

    def _answers(self):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        return False

    @staticmethod
    def _wait(condition):
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, "the farm does not come up"
            time.sleep(0.1)

    def clear(self):
        """End all servers."""
        while len(self._processes) > 1:
            end_of(self._processes.pop())

    def close(self):
        self.clear()
        end_of(self._processes.pop())


def end_of(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def tracker(tmp_path_factory):
    farm = Farm(tmp_path_factory.mktemp("farm"))
    yield farm
    farm.close()


@pytest.fixture
def farm(tracker):
    yield tracker
    tracker.clear()


class Notes:
    def __init__(self):
        self.started = threading.Event()
        self.lines = []

    def __call__(self, description, done, total):
        self.lines.append(description)
        if description == "measuring" and done >= 10:
            self.started.set()


def measure(space, farm, work_dir, notes, *, timeout_s=10.0, patience_s=60.0, passes=3):
    fleet = open_fleet(TARGET, runner=farm.runner(), timeout_s=timeout_s, patience_s=patience_s)
    with contextlib.closing(fleet):
        table = measure_table(
            space,
            fleet,
            Protocol(passes=passes, extra_passes=0),
            Run(progress=notes, checkpoint=work_dir),
            trials=0,
            n_networks=8,  # enough that noise of a busy machine does not turn their order
        )
    return table, fleet


def test_two_servers_measure_a_table(mini, farm, tmp_path):
    first, second = farm.server(), farm.server()
    table, fleet = measure(mini, farm, tmp_path / "w", Notes())
    assert len(fleet.devices) == 2
    assert (table(mini.enumerate()) > 0).all()
    assert table.device == "board, 1 thread"
    assert table.provenance["conditions"]["runner"] == "rpc/board"
    assert table.provenance["conditions"]["clock"] == "wall"
    # Both devices are free again, and answer through the public functions.
    times = pf.latency.measure_networks(
        mini, mini.sample(2, seed=0), target=TARGET, runner=farm.runner(), passes=3
    )
    assert (times.ms > 0).all()
    assert first.poll() is None
    assert second.poll() is None


def test_tuning_on_a_device(mini, farm, tmp_path):
    farm.server()
    table = pf.latency.measure(
        mini,
        target=TARGET,
        runner=farm.runner(),
        tuning_trials=12,
        work_dir=tmp_path,
        n_networks=4,
        passes=3,
    )
    assert table.provenance["tuning_trials"] == 12


def test_what_a_device_computes_is_right(mini, farm):
    from pnag_fast.latency.networks import network_program, pack_weights, random_weights

    farm.server()
    blocks = mini.layers(mini.sample(1, seed=0)[0])
    weights = random_weights(blocks, 3)
    image = np.random.default_rng(0).standard_normal((8, 8, 3), dtype=np.float32)
    programs = {"network": network_program(blocks)}
    parameters = {"network": pack_weights(blocks, weights)}
    with contextlib.closing(open_fleet(TARGET, runner=farm.runner())) as fleet:
        remote = fleet.devices[0].compile(programs, parameters, lambda *_: None)
        result = remote.run("network", image)
    here = pf.latency.compile_network(mini, mini.sample(1, seed=0)[0], weights, target=TARGET)
    expected = here.run(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
    np.testing.assert_allclose(result.reshape(-1)[:3], expected[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "hangs"])
def test_the_work_of_a_lost_device_goes_to_the_other(mini, farm, tmp_path, fate):
    victim, _ = farm.server(), farm.server()
    notes = Notes()

    def strike():
        notes.started.wait(60)
        os.killpg(victim.pid, fate)

    thread = threading.Thread(target=strike)
    thread.start()
    # Enough passes that the blow falls while there is work.
    table, _ = measure(mini, farm, tmp_path, notes, timeout_s=3.0, patience_s=5.0, passes=10)
    thread.join()
    assert (table(mini.enumerate()) > 0).all()
    assert all(block["passes"] == 10 for block in table.provenance["blocks"].values())


def test_all_gone_and_one_back_after_a_while(mini, farm, tmp_path):
    victim = farm.server()
    notes = Notes()

    def strike():
        notes.started.wait(60)
        end_of(victim)
        time.sleep(1.0)
        farm.server()

    thread = threading.Thread(target=strike)
    thread.start()
    table, _ = measure(mini, farm, tmp_path, notes, timeout_s=5.0, passes=10)
    thread.join()
    assert (table(mini.enumerate()) > 0).all()


def test_all_gone_ends_the_run_and_keeps_what_was_measured(mini, farm, tmp_path):
    victim = farm.server()
    notes = Notes()

    def strike():
        notes.started.wait(60)
        end_of(victim)

    thread = threading.Thread(target=strike)
    thread.start()
    with pytest.raises(MeasurementError, match="no device is left"):
        measure(mini, farm, tmp_path, notes, timeout_s=3.0, patience_s=1.0, passes=100)
    thread.join()
    farm.server()
    again = Notes()
    measure(mini, farm, tmp_path, again, passes=3)
    assert any(line.startswith("reusing") for line in again.lines)


def test_no_tracker_and_no_device_are_told(mini, farm, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"target": TARGET, "work_dir": tmp_path, "patience_s": 0.5}
    with pytest.raises(MeasurementError, match=f"no tracker at 127.0.0.1:{port}.*rpc_tracker"):
        pf.latency.measure(mini, runner=f"rpc://127.0.0.1:{port}/x", **options)
    farm.server("other")
    text = re.compile("no device 'board' is registered .*keys it knows: other; .*rpc_server")
    with pytest.raises(MeasurementError, match=text):
        pf.latency.measure(mini, runner=farm.runner(), **options)


def test_code_for_another_processor_is_told(mini, farm, tmp_path):
    other = "aarch64" if platform.machine() != "aarch64" else "x86_64"
    farm.server()
    with pytest.raises(MeasurementError, match="no device is left.*uploading"):
        pf.latency.measure(
            mini,
            target=f"llvm -mtriple={other}-linux-gnu",
            runner=farm.runner(),
            work_dir=tmp_path,
            patience_s=0.5,
        )


def test_a_target_has_to_say_what_the_device_is(mini, farm, tmp_path):
    farm.server()
    with pytest.raises(InvalidInputError, match="does not say what processor the device has"):
        pf.latency.measure(mini, target="cpu", runner=farm.runner(), work_dir=tmp_path)


def test_a_server_without_the_wanted_kind_of_device_is_told(mini, farm, tmp_path):
    farm.server()
    if tvm.cuda(0).exist:
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(MeasurementError, match="no device is left.*'board' has no cuda device"):
        pf.latency.measure(
            mini,
            target="cuda -arch=sm_80",
            runner=farm.runner(),
            work_dir=tmp_path,
            patience_s=5,
        )
