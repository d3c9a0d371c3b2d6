"""A run over devices that fail ends, or goes on, as it should."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from pnag_fast.errors import MeasurementError
from pnag_fast.latency.fleet import Fleet
from pnag_fast.latency.kernels import Mean
from pnag_fast.latency.measuring import JOURNAL_FILE, Item, Measurer, tune
from pnag_fast.latency.networks import INPUT, Program, Step
from pnag_fast.latency.protocol import Protocol
from pnag_fast.latency.tuning import DATABASE_FILE
from pnag_fast.latency.worker import DeviceSpec, WorkerDevice
from pnag_fast.runs import Run
from pnag_fast.spaces import Stem

ITEMS = {name: Item((Stem(size, 3, 8, 1),)) for name, size in (("a", 4), ("b", 5), ("killer", 6))}
PASSES = 3


@pytest.fixture
def fleet_of(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    fleets = []

    def open_fleet(*options, timeout_s=20.0, **fleet_options):
        devices = [
            WorkerDevice(DeviceSpec("faulty_device:FaultyDevice", o), timeout_s=timeout_s)
            for o in options
        ]
        fleets.append(Fleet(devices, measure_alone=False, **fleet_options))
        return fleets[-1]

    yield open_fleet
    for fleet in fleets:
        fleet.close()


def measure(fleet, work_dir):
    protocol = Protocol(passes=PASSES, extra_passes=0)
    measurer = Measurer(fleet, protocol, Run(checkpoint=work_dir), tiles={})
    return measurer.measure(ITEMS)


def measured(work_dir):
    records = [json.loads(line) for line in (work_dir / JOURNAL_FILE).read_text().splitlines()]
    return {(r["measured"], r["pass"]) for r in records if "measured" in r}


def everything(*but):
    names = {"call", *ITEMS} - set(but)
    return {(name, number) for name in names for number in range(PASSES)}


@pytest.mark.parametrize("fault", ["SIGILL", "SIGKILL", "abort", "memory"])
def test_one_bad_moment_costs_nothing(fleet_of, tmp_path, fault):
    fleet = fleet_of({"faults": {"a": fault}, "once": str(tmp_path / "happened")})
    measure(fleet, tmp_path)
    assert (tmp_path / "happened").exists()
    assert measured(tmp_path) == everything()


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("SIGILL", r"a \(the measuring process died of SIGILL"),
        ("memory", r"a \(out of memory\)"),
        (0.0, r"a \(the device reported 0 ms"),
        (float("nan"), r"a \(the device reported nan ms"),
        (1e10, r"a \(the device reported 1e\+13 ms"),
        (-1.0, r"a \(the device reported -"),
    ],
)
def test_what_always_fails_is_named_and_all_else_measured(fleet_of, tmp_path, fault, text):
    with pytest.raises(MeasurementError, match=f"1 of 4 .*{text}"):
        measure(fleet_of({"faults": {"a": fault}}), tmp_path)
    assert measured(tmp_path) == everything("a")
    # The run after the repair measures just that.
    measure(fleet_of({}), tmp_path)
    assert measured(tmp_path) == everything()


def test_a_hang_ends_at_the_timeout(fleet_of, tmp_path):
    fleet = fleet_of({"faults": {"a": "hang"}, "once": str(tmp_path / "happened")}, timeout_s=1.0)
    start = time.monotonic()
    measure(fleet, tmp_path)
    assert time.monotonic() - start < 30
    assert measured(tmp_path) == everything()


@pytest.mark.parametrize("devices", [1, 2])
def test_what_kills_the_compiler_is_found(fleet_of, tmp_path, devices):
    fleet = fleet_of(*[{"faults": {"compile": "SIGSEGV"}}] * devices)
    with pytest.raises(MeasurementError, match=r"1 of 4 .*killer \(.*SIGSEGV while 'compiling'"):
        measure(fleet, tmp_path)
    assert measured(tmp_path) == everything("killer")


def test_a_compiler_that_always_dies_ends_the_run(fleet_of, tmp_path):
    fleet = fleet_of({"faults": {"compile": "SIGSEGV"}, "killer": ""})
    with pytest.raises(MeasurementError, match="reference program does not compile.*SIGSEGV"):
        measure(fleet, tmp_path)
    assert measured(tmp_path) == set()


def test_a_target_that_kills_everything_ends_the_run(fleet_of, tmp_path):
    with pytest.raises(MeasurementError, match="does not survive the reference program.*SIGILL"):
        measure(fleet_of({"faults": {"reference": "SIGILL"}}), tmp_path)
    assert measured(tmp_path) == set()


def test_all_devices_gone_and_one_back_after_a_while(fleet_of, tmp_path):
    here = tmp_path / "here"
    options = {"available": str(here)}
    fleet = fleet_of(options, options, patience_s=60)
    threading.Timer(1.0, here.touch).start()
    measure(fleet, tmp_path)
    assert measured(tmp_path) == everything()


def test_devices_that_stay_away_end_the_run_in_time(fleet_of, tmp_path):
    fleet = fleet_of({"available": str(tmp_path / "never")}, patience_s=0.5)
    start = time.monotonic()
    with pytest.raises(MeasurementError, match="no device is left.*elsewhere.*waited 0.5 s"):
        measure(fleet, tmp_path)
    assert time.monotonic() - start < 20


def test_a_tile_that_kills_the_device_is_one_failure(fleet_of, tmp_path):
    kernel = Mean(4, 64)
    program = Program((4, 4, 64), (Step(kernel, (INPUT,), "value0"),))
    fleet = fleet_of({"faults": {"1x1x2x16p": "SIGILL"}})
    tuned = tune([program], fleet, Run(checkpoint=tmp_path), trials=50)
    assert (tuned.trials, tuned.failed) == (3, 1)
    records = [json.loads(line) for line in (tmp_path / DATABASE_FILE).read_text().splitlines()]
    (failed,) = [r for r in records if "failed" in r]
    assert failed["failed"] == f"{kernel.name} 1x1x2x16p"
    assert "SIGILL" in failed["error"]
