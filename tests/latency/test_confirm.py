from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.costs import Posterior
from pnag_fast.costs.features import n_features
from pnag_fast.errors import BudgetInfeasibleError, InvalidInputError, InvalidTypeError
from pnag_fast.generator import ExpertSettings
from pnag_fast.latency import confirm

OPTIONS = {"evaluations": 500}


class Device:
    """The device of a table: slower than it as a whole, in its entries, and from time to time."""

    def __init__(self, table, *, slower=0.03, entries=0.02, noise=0.005, seed=0):
        rng = np.random.default_rng(seed)
        factor = (1 + slower) * (1 + entries * rng.normal(size=table.entries.shape))
        self.truth = replace(table, entries=table.entries * factor, posterior=None)
        self.noise, self.rng, self.calls = noise, np.random.default_rng([seed, 1]), []

    def __call__(self, archs):
        assert len(np.unique(archs, axis=0)) == len(archs)
        self.calls.append(archs)
        return self.truth(archs) * (1 + self.noise * self.rng.normal(size=len(archs)))


@pytest.fixture(scope="module")
def generator(tiny, tiny_table, tiny_model):
    table = replace(
        tiny_table,
        metric="latency",
        unit="ms",
        posterior=Posterior(np.zeros((n_features(tiny), 1)), 0.01),
    )
    settings = ExpertSettings(evaluations=1500, steps=30, hidden=16)
    return pf.train_generator(tiny, tiny_model, [table], settings=settings, seed=0)


def spread(table, n):
    low, high = table.bounds
    return low + (high - low) * (np.arange(n) + 0.5) / n


@pytest.mark.parametrize("seed", range(2))
def test_every_budget_is_met_on_the_device(generator, seed):
    table = generator.tables[0]
    budgets = spread(table, 8)
    device = Device(table, seed=seed)
    found = confirm(generator, budgets, device, seed=seed, **OPTIONS)
    before = generator.generate(budgets)
    assert (device.truth(before.archs) > budgets).any()
    assert found.confirmed.all()
    assert found.notes == ("",) * 8
    assert (found.measured <= budgets).all()
    assert (found.room >= 0).all()
    # By the truth, which nobody has measured.
    assert (device.truth(found.archs) <= budgets * 1.003).all()
    assert found.n_rounds == len(device.calls) <= 3
    assert ((found.rounds >= 1) & (found.rounds <= 3)).all()
    assert found.networks == len(np.unique(np.concatenate(device.calls), axis=0))
    # The best that the truth allows for a little less, by a generator that knows it.
    ideal = generator.adapt(device.truth, evaluations=1500).generate(0.96 * budgets)
    assert (found.top1 >= ideal.top1 - 1e-12).mean() >= 0.75


def test_what_was_learned_stays_learned(generator, tmp_path):
    table = generator.tables[0]
    device = Device(table, slower=0.08)
    budgets = spread(table, 6)
    found = confirm(generator, budgets, device, **OPTIONS)
    archs = table.space.sample(200, seed=3)
    truth = device.truth(archs)
    assert (
        np.abs(found.table(archs) / truth - 1).mean()
        < 0.5 * np.abs(table(archs) / truth - 1).mean()
    )
    np.testing.assert_array_equal(found.costs[:, 0], found.table(found.archs))
    found.generator.save(tmp_path / "corrected.safetensors")
    again = pf.Generator.load(tmp_path / "corrected.safetensors")
    answers = again.generate(budgets, confidence=0.9)
    assert (device.truth(answers.archs) <= budgets * 1.02).all()


def test_what_was_measured_within_is_never_given_up(generator):
    """Whatever is asked for after the first round turns out to be slow."""
    table = generator.tables[0]
    budgets = spread(table, 4)
    first = []

    def measure(archs):
        names = table.space.to_strings(archs)
        first.extend(names if not first else [])
        slow = np.array([name not in first for name in names])
        return table(archs) * np.where(slow, 5.0, 0.9)

    found = confirm(generator, budgets, measure, **OPTIONS)
    assert found.networks > len(first)
    assert found.confirmed.all()
    assert (found.rounds == 1).all()


def test_room_is_used(generator):
    """A device that is faster than its table is asked for more."""
    table = generator.tables[0]
    budgets = spread(table, 6)
    device = Device(table, slower=-0.2, entries=0)
    found = confirm(generator, budgets, device, **OPTIONS)
    before = generator.generate(budgets)
    assert found.confirmed.all()
    assert (found.top1 >= before.top1 - 1e-12).all()
    assert found.top1.mean() > before.top1.mean()


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_least_budget_there_is(generator, rounds):
    """The cheapest network is measured, though the table is not sure of it."""
    table = generator.tables[0]
    budget = [table.bounds[0]]
    device = Device(table, slower=-0.05, entries=0)
    found = confirm(generator, budget, device, rounds=rounds, **OPTIONS)
    assert found.measured < budget
    np.testing.assert_array_equal(device.calls[0], table.cheapest()[None])
    device = Device(table, slower=0.05, entries=0)
    found = confirm(generator, budget, device, rounds=rounds, **OPTIONS)
    assert not found.confirmed
    assert "above the budget" in found.notes[0]


def test_what_cannot_be_met_is_said(generator):
    table = generator.tables[0]
    budgets = np.array([table.bounds[0] * 1.001, table.bounds[1]])
    found = confirm(generator, budgets, lambda archs: 1.1 * table(archs), **OPTIONS)
    assert found.confirmed.tolist() == [False, True]
    assert "9.9 % above the budget" in found.notes[0] or "9.9% above the budget" in found.notes[0]
    assert found.notes[1] == ""
    # What came nearest is the cheapest there is.
    np.testing.assert_array_equal(found.archs[0], table.cheapest())
    assert "1 of 2 budgets" in repr(found)


def test_a_device_that_cannot_be_read_is_said_to_be_so(generator):
    budget = 1.05 * generator.tables[0].bounds[0]
    times = np.array([0.97, 0.999, 1.028]) * budget
    options = {**OPTIONS, "confidence": 0.99}
    found = confirm(generator, [budget], lambda archs: np.tile(times, (len(archs), 1)), **options)
    assert found.confirmed.tolist() == [False]
    assert "cannot be read that finely: 0.10%" in found.notes[0]
    assert found.measured[0] == pytest.approx(0.999 * budget)
    assert found.spread > 0.015


def test_repeats_within_a_call_count(generator):
    table = generator.tables[0]
    device = Device(table, noise=0.02)
    found = confirm(
        generator,
        spread(table, 3),
        lambda archs: np.stack([device(archs) for _ in range(5)], axis=1),
        **OPTIONS,
    )
    assert (found.repeats % 5 == 0).all()
    assert 0.01 < found.spread < 0.03


def test_one_budget_of_several_costs(tiny, tiny_table, tiny_model):
    latency = replace(tiny_table, metric="latency", unit="ms")
    tables = [latency, pf.costs.parameters(tiny)]
    settings = ExpertSettings(evaluations=1500, steps=30, hidden=16)
    generator = pf.train_generator(tiny, tiny_model, tables, settings=settings)
    high = [table.bounds[1] for table in tables]
    budgets = [[0.6 * high[0], 0.5 * high[1]], [0.4 * high[0], np.inf], [np.inf, 0.5 * high[1]]]
    found = confirm(generator, budgets, Device(latency), **OPTIONS)
    assert found.confirmed.all()
    assert (found.costs[:, 1] <= np.array(budgets)[:, 1]).all()
    assert np.isnan(found.room).tolist() == [False, False, True]
    # An exact table has learned too.
    assert found.table.posterior is not None


def test_a_device_of_several(generator, tiny_table):
    other = replace(generator.tables[0], device="other", entries=1.5 * tiny_table.entries)
    both = generator.adapt(other, evaluations=1000)
    budgets = spread(other, 3)
    found = confirm(both, budgets, Device(other), device="other", **OPTIONS)
    assert found.confirmed.all()
    assert found.table.device == "other"
    first = generator.tables[0].device
    assert found.generator.on(first).tables[0] is both.on(first).tables[0]


def test_a_stopped_call_ends_as_it_would_have(generator, tmp_path):
    table = generator.tables[0]
    budgets = spread(table, 5)

    def device(seen):
        def measure(archs):
            if len(seen) == stop_at:
                raise KeyboardInterrupt
            seen.append(archs)
            # Noise that belongs to the network and the call.
            rng = np.random.default_rng([len(seen), *archs.sum(axis=0)])
            return 1.03 * table(archs) * (1 + 0.01 * rng.normal(size=len(archs)))

        return measure

    stop_at = -1
    whole = confirm(generator, budgets, device([]), **OPTIONS)
    assert whole.n_rounds > 1
    path = tmp_path / "confirmed.jsonl"
    stop_at, seen = 1, []
    with pytest.raises(KeyboardInterrupt):
        confirm(generator, budgets, device(seen), checkpoint=path, **OPTIONS)
    stop_at, notes = -1, []
    resumed = confirm(
        generator,
        budgets,
        device(seen),
        checkpoint=path,
        progress=lambda *a: notes.append(a[0]),
        **OPTIONS,
    )
    np.testing.assert_array_equal(resumed.archs, whole.archs)
    np.testing.assert_array_equal(resumed.measured, whole.measured)
    assert any(note.startswith("reusing the measurements of") for note in notes)
    # Once more, nothing is measured.
    again = confirm(generator, budgets, lambda archs: 1 / 0, checkpoint=path, **OPTIONS)
    np.testing.assert_array_equal(again.archs, whole.archs)
    # Other budgets know what is there.
    seen.clear()
    other = confirm(generator, budgets[:3], device(seen), checkpoint=path, **OPTIONS)
    assert other.confirmed.all()
    assert (other.rounds == 0).any()
    assert "measured" in other.source
    # Another table's are not used.
    moved = generator.adapt(replace(table, constants=table.constants * 1.1), evaluations=500)
    seen.clear()
    confirm(moved, budgets[2:], device(seen), checkpoint=path, **OPTIONS)
    assert seen
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({record["under"] for record in records if "under" in record}) == 2


@pytest.mark.parametrize(
    ("measure", "error"),
    [
        (lambda archs: np.zeros(len(archs)), "positive and finite, found 0.0"),
        (lambda archs: np.full(len(archs), np.nan), "positive and finite, found nan"),
        (lambda archs: np.ones(len(archs) + 1), "one row for each"),
        (lambda archs: np.ones((len(archs), 0)), "one row for each"),
    ],
)
def test_measurements_that_cannot_be_are_named(generator, measure, error, tmp_path):
    path = tmp_path / "confirmed.jsonl"
    with pytest.raises(InvalidInputError, match=error):
        confirm(generator, spread(generator.tables[0], 2), measure, checkpoint=path)
    assert path.read_text().count("\n") <= 1


def test_bad_arguments_are_refused_before_anything_is_measured(generator):
    def measure(archs):
        raise AssertionError

    budgets = spread(generator.tables[0], 2)
    for options in ({"rounds": 0}, {"confidence": 0.4}, {"confidence": 1}, {"tolerance": 2}):
        with pytest.raises(InvalidInputError, match=next(iter(options))):
            confirm(generator, budgets, measure, **options)
    with pytest.raises(InvalidTypeError, match="function"):
        confirm(generator, budgets, 3.0)
    with pytest.raises(BudgetInfeasibleError):
        confirm(generator, budgets / 1e3, measure)
    with pytest.raises(InvalidInputError, match="no budgets"):
        confirm(generator, [], measure)
