from __future__ import annotations

import math

import pytest

from pnag_fast.errors import InvalidInputError, MeasurementError
from pnag_fast.latency.journal import Sample
from pnag_fast.latency.protocol import Plan, Protocol, reference_level, summarize


def constant(seconds):
    return lambda runs: seconds * runs


def test_samples_are_filled_with_runs():
    plan = Protocol(sample_ms=2.0, reference_ms=0.5).plan(constant(1e-5), constant(5e-5))
    assert plan.runs in (200, 201)
    assert plan.reference_runs in (10, 11)


def test_an_item_longer_than_a_sample_runs_once():
    assert Protocol().plan(constant(1.0), constant(1e-5)).runs == 1


def test_the_number_of_runs_is_what_the_docstring_says():
    runs = []

    def item(n):
        runs.append(n)
        return 1e-3 * n

    Protocol(samples=4).time(item, constant(1e-5), Plan(2, 50))
    assert runs == [1, 2, 2, 2, 2]


def test_a_machine_that_slows_down_changes_nothing():
    speeds = iter([1.0, 1.0, 1.5, 1.5, 3.0, 3.0, 1.0, 1.0, 2.0, 2.0])

    def reference(runs):
        return 2e-5 * next(speeds) * runs

    def item(runs):
        return 1e-5 * next(speeds) * runs

    protocol = Protocol()
    item_calls = iter([None])
    sample = protocol.time(
        # The warm-up run happens at no particular speed.
        lambda runs: 1e-5 if next(item_calls, item) is None else item(runs),
        reference,
        Plan(1, 1),
    )
    assert sample.ms / sample.reference_ms == pytest.approx(0.5)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf, 1e9])
def test_times_that_cannot_be_are_refused(seconds):
    with pytest.raises(MeasurementError, match="cannot be"):
        Protocol().time(constant(seconds), constant(1e-5), Plan(1, 1))
    with pytest.raises(MeasurementError, match="cannot be"):
        Protocol().plan(constant(1e-5), constant(seconds))


@pytest.mark.parametrize("passes", [0, 2, -1, True])
def test_too_few_passes_are_refused(passes):
    with pytest.raises(InvalidInputError, match="passes"):
        Protocol(passes=passes)


def test_passes_are_brought_to_one_level_and_the_median_counts():
    # Pass 1 ran on a machine at half the speed; pass 2 was disturbed.
    passes = {0: Sample(1.0, 0.1), 1: Sample(2.0, 0.2), 2: Sample(5.0, 0.1)}
    assert reference_level({"a": passes}) == pytest.approx(0.1)
    summary = summarize(passes, 0.1)
    assert summary.ms == pytest.approx(1.0)
    assert summary.passes == 3
    assert summary.spread == pytest.approx(2.0)
