"""Devices share work, and the work survives them."""

from __future__ import annotations

import threading
import time

import pytest

from pnag_fast.errors import MeasurementError
from pnag_fast.latency.device import (
    DeviceLostError,
    DeviceUnavailableError,
    DeviceUnusableError,
)
from pnag_fast.latency.fleet import ATTEMPTS, Failed, Fleet


class Device:
    def __init__(self, name):
        self.name = name
        self.closed = 0

    def close(self):
        self.closed += 1


def fleet_of(n, **options):
    return Fleet([Device(str(i)) for i in range(n)], **{"patience_s": 0.5, **options})


def test_every_job_is_done_once_in_order_on_one_device():
    results = list(fleet_of(1).run(range(20), lambda slot, job: job * job))
    assert results == [(job, job * job) for job in range(20)]


def test_several_devices_share():
    meeting = threading.Barrier(2, timeout=10)

    def work(slot, job):
        meeting.wait()  # nobody gets through here alone
        return slot.device.name

    results = dict(fleet_of(2, measure_alone=False).run(range(10), work))
    assert sorted(results) == list(range(10))
    assert set(results.values()) == {"0", "1"}


def test_no_jobs_are_no_work():
    assert list(fleet_of(2).run([], lambda slot, job: 1 / 0)) == []


def test_one_machine_runs_one_thing_at_a_time_but_compiles_meanwhile():
    running, most, overlapped = [], [], threading.Event()

    def work(slot, job):
        with slot.compiling():
            time.sleep(0.01)
            if running:
                overlapped.set()
        with slot.running():
            running.append(job)
            most.append(len(running))
            time.sleep(0.02)
            running.remove(job)

    fleet = fleet_of(2)
    assert len(list(fleet.run(range(12), work))) == 12
    assert max(most) == 1
    assert overlapped.is_set()
    shares = fleet.shares
    assert shares.running > 0.2
    assert shares.compiling > 0.1
    assert "compiling" in str(shares)


def test_what_fails_is_tried_again():
    tries = []

    def work(slot, job):
        tries.append(job)
        if tries.count(job) < ATTEMPTS:
            raise MeasurementError("glitch")
        return "fine"

    assert list(fleet_of(1).run([7], work)) == [(7, "fine")]
    assert tries == [7] * ATTEMPTS


def test_what_always_fails_is_a_result_with_its_error():
    def work(slot, job):
        if job == 1:
            raise MeasurementError("no good")
        return job

    results = dict(fleet_of(2).run(range(4), work))
    assert results == {0: 0, 1: Failed("no good"), 2: 2, 3: 3}


def test_a_job_moves_from_a_dying_device_to_another():
    def work(slot, job):
        if slot.device.name == "0":
            raise DeviceLostError("unplugged")
        time.sleep(0.01)
        return slot.device.name

    fleet = fleet_of(2, measure_alone=False)
    done = [result for _, result in fleet.run(range(30), work)]
    # Device 0 may use up the attempts of a job or two before it is given up.
    assert done.count("1") >= 28


def test_a_device_that_is_always_lost_is_given_up():
    with pytest.raises(
        MeasurementError, match="no device is left, with .* 6 losses in a row.*gone"
    ):
        list(fleet_of(1).run(range(100), lambda slot, job: raising(DeviceLostError("gone"))))


def test_an_unusable_device_ends_its_part_at_once():
    tried = []

    def work(slot, job):
        tried.append(job)
        raise DeviceUnusableError("it is a toaster")

    with pytest.raises(MeasurementError, match="toaster"):
        list(fleet_of(1).run(range(5), work))
    assert tried == [0]


def test_a_device_that_comes_back_goes_on():
    start = time.monotonic()

    def work(slot, job):
        if time.monotonic() - start < 0.4:
            raise DeviceUnavailableError("out for lunch")
        return job

    assert len(list(fleet_of(2, patience_s=20).run(range(6), work))) == 6


def test_patience_ends():
    start = time.monotonic()
    with pytest.raises(MeasurementError, match=r"out for lunch \(waited 0\.5 s\)"):
        list(
            fleet_of(2).run(range(3), lambda s, j: raising(DeviceUnavailableError("out for lunch")))
        )
    assert time.monotonic() - start < 10


def test_what_was_done_before_all_went_is_kept():
    def work(slot, job):
        return job if job < 3 else raising(DeviceUnavailableError("gone"))

    results = fleet_of(1).run(range(5), work)
    assert [next(results) for _ in range(3)] == [(job, job) for job in range(3)]
    with pytest.raises(MeasurementError, match="with 2 jobs to do"):
        next(results)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_other_errors_end_the_run_and_close_the_devices(error):
    fleet = fleet_of(2)
    with pytest.raises(error):
        list(fleet.run(range(50), lambda slot, job: raising(error())))
    assert all(device.closed for device in fleet.devices)


def test_an_interrupt_of_the_caller_ends_the_threads():
    fleet = fleet_of(2)
    before = threading.active_count()
    results = fleet.run(range(1000), lambda slot, job: time.sleep(0.005))
    next(results)
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)
    assert threading.active_count() == before
    assert all(device.closed for device in fleet.devices)


def test_progress_arrives_in_the_thread_of_the_caller():
    notes = []

    def note(*content):
        notes.append((threading.get_ident(), content))

    def work(slot, job):
        slot.progress("compiling", job, 3)

    list(fleet_of(2).run(range(3), work, progress=note))
    assert sorted(content for _, content in notes) == [("compiling", i, 3) for i in range(3)]
    assert {thread for thread, _ in notes} == {threading.get_ident()}


def raising(error):
    raise error
