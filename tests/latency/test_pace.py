"""How long a long step takes is told once, from what was seen."""

from __future__ import annotations

import itertools

import pytest

from pnag_fast.latency import measuring
from pnag_fast.latency.fleet import Fleet
from pnag_fast.latency.measuring import Item, Measurer, _CompilerWatch
from pnag_fast.latency.pace import Pace
from pnag_fast.latency.protocol import Protocol
from pnag_fast.runs import Run
from pnag_fast.spaces import Stem


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def told():
    notes = []

    def tell(description, done, total):
        notes.append((description, done, total))

    tell.notes = notes
    return tell


def test_a_long_step_is_told_once_after_its_first_seconds(told):
    clock = Clock()
    pace = Pace("tuning 5 kernels", told, clock=clock)
    clock.now = 100.0  # preparing
    pace.begin(10)
    for done in range(11, 200):
        clock.now += 1.0
        pace.step(done, 1000)
    assert told.notes == [
        ("tuning 5 kernels: about 16 min to go on this machine, by the first 5 of 990", 0, 0)
    ]


def test_a_short_step_is_not_told(told):
    clock = Clock()
    pace = Pace("measuring", told, clock=clock)
    for done in range(1, 21):
        clock.now += 1.0
        pace.step(done, 20)
    assert told.notes == []


def test_the_compiler_is_told_from_the_time_of_scheduling(told, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("pnag_fast.latency.measuring.time.monotonic", clock)
    watch = _CompilerWatch(113, told)
    watch("scheduling kernels", 0, 181)
    clock.now = 4.0
    watch("scheduling kernels", 181, 181)
    watch("compiling", 0, 113)
    notices = [note for note in told.notes if note[2] == 0]
    assert notices == [("compiling 113 programs of 181 kernels: about 80 s on this machine", 0, 0)]
    # Everything else is passed on as it is.
    assert [note for note in told.notes if note[2]] == [
        ("scheduling kernels", 0, 181),
        ("scheduling kernels", 181, 181),
        ("compiling", 0, 113),
    ]


def test_a_measurement_tells_how_long_it_takes(told, fake_device, monkeypatch):
    seconds = itertools.count(0.0, 5.0)  # each look at the clock is five seconds later
    monkeypatch.setattr(
        measuring,
        "Pace",
        lambda what, progress: Pace(what, progress, clock=lambda: next(seconds)),
    )
    items = {f"item {n}": Item((Stem(4 + n, 3, 8, 1),)) for n in range(8)}
    protocol = Protocol(passes=3, extra_passes=0)
    Measurer(Fleet([fake_device()]), protocol, Run(progress=told), tiles={}).measure(items)
    notices = [note[0] for note in told.notes if note[2] == 0]
    assert len([n for n in notices if n.startswith("measuring 9 items: about 3 min")]) == 1
