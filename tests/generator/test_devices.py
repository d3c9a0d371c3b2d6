from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.costs import Posterior
from pnag_fast.costs.features import n_features
from pnag_fast.errors import (
    BudgetInfeasibleError,
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
)
from pnag_fast.generator import Bank, ExpertSettings, devices

SETTINGS = ExpertSettings(evaluations=1500, steps=30, hidden=16)


def spread(table, n):
    low, high = table.bounds
    return low + (high - low) * (np.arange(n) + 0.5) / n


def made(space, device, entries, constants):
    return pf.CostTable.build(
        space, metric="latency", unit="ms", device=device, constants=constants, entries=entries
    )


@pytest.fixture(scope="module", autouse=True)
def few_synthetic():
    """Each is a search: enough that there are mixtures among them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "SYNTHETIC", 4)
        yield


@pytest.fixture(scope="module")
def launch(tiny, tiny_table):
    """A device on which every layer takes the same time."""
    entries = np.where(np.isnan(tiny_table.entries), np.nan, 0.0)
    entries[:, :, 1:] += 1.0
    # Not quite the same: ties would hide mistakes.
    entries[:, :, 1:] += 0.01 * np.arange(entries.shape[2] - 1)
    return made(tiny, "launch", entries, [0.5])


@pytest.fixture(scope="module")
def new(tiny, tiny_table):
    """A device that is none of the others, slow in its last layers."""
    slower = np.linspace(0.5, 2.0, tiny.n_slots)[:, None]
    return made(tiny, "new", tiny_table.entries * slower, tiny_table.constants)


@pytest.fixture(scope="module")
def uncertain(tiny, tiny_table):
    """The first device, known to a few percent, its first layers worse than its last."""
    rng = np.random.default_rng(0)
    scale = np.full(n_features(tiny), 0.01 * tiny_table.bounds[0])
    scale[: len(scale) // 3] *= 10
    root = rng.normal(size=(n_features(tiny), 4)) * scale[:, None]
    return dataclasses.replace(tiny_table, device="measured", posterior=Posterior(root, 0.01))


@pytest.fixture(scope="module")
def fleet(tiny, tiny_model, tiny_table, launch):
    return pf.train_generator(
        tiny, tiny_model, [], devices=[tiny_table, launch], settings=SETTINGS, seed=1
    )


def test_devices_are_answered_by_name(tiny_table, launch, fleet):
    for table in (tiny_table, launch):
        budgets = spread(table, 30)
        out = fleet.generate(budgets, device=table.device)
        assert out.devices == (table.device,) * 30
        np.testing.assert_array_equal(out.costs[:, 0], table(out.archs))
        assert (out.costs[:, 0] <= budgets).all()
        assert (out.costs_std == 0).all()
        alone = fleet.on(table.device)
        assert alone.devices == ()
        np.testing.assert_array_equal(alone.generate(budgets).archs, out.archs)
    assert "test device, launch" in repr(fleet)
    assert fleet.record["devices"] == ["test device", "launch"]


def test_several_devices_in_one_call(tiny_table, launch, new, fleet):
    tables = [tiny_table, launch, new]
    rng = np.random.default_rng(2)
    which = rng.integers(3, size=40)
    budgets = np.array([rng.uniform(*tables[i].bounds) for i in which])
    names = [new if i == 2 else tables[i].device for i in which]
    out = fleet.generate(budgets, device=names)
    assert out.devices == tuple(tables[i].device for i in which)
    np.testing.assert_array_equal(out.budgets[:, 0], budgets)
    for i, table in enumerate(tables):
        rows = which == i
        np.testing.assert_array_equal(out.costs[rows, 0], table(out.archs[rows]))
        assert (out.costs[rows, 0] <= budgets[rows]).all()
    # One bound for all of them, one of which it rules out.
    low = max(table.bounds[0] for table in tables)
    together = fleet.generate(low, device=["test device", "launch"], on_infeasible="mark")
    assert len(together) == 2
    assert together.feasible[1 if low == launch.bounds[0] else 0]


def test_a_device_that_was_never_seen(tiny, tiny_model, new, fleet):
    budgets = spread(new, 30)
    out = fleet.generate(budgets, device=new)
    assert (new(out.archs) <= budgets).all()
    # The cheapest there is, whatever the known devices are like.
    lowest = fleet.generate(new.bounds[0], device=new)
    assert lowest.costs[0, 0] == new.bounds[0]
    random = pf.search.random(tiny, tiny_model, [new], evaluations=300)
    assert out.top1.mean() > random.top1[random.best(budgets[:, None])].mean()
    assert fleet.on(new) is fleet.on(new)


def test_devices_that_are_not_known_are_named(tiny, tiny_table, fleet, tiny_generator):
    budget = tiny_table.bounds[1]
    with pytest.raises(InvalidInputError, match=r"knows 'test device', 'launch'; did you mean"):
        fleet.generate(budget, device="lunch")
    with pytest.raises(InvalidInputError, match="2 devices: give device="):
        fleet.generate(budget)
    with pytest.raises(InvalidInputError, match="one metric in one unit"):
        fleet.generate(budget, device=pf.costs.macs(tiny))
    with pytest.raises(InvalidInputError, match="2 devices for 1 budgets"):
        fleet.generate([budget], device=["launch", "launch"])
    for odd in (3, [], [None], {"launch"}, np.array(["launch"])):
        with pytest.raises(InvalidTypeError, match="device"):
            fleet.generate([budget], device=odd)
    assert tiny_generator.generate(budget, device="test device").devices == ("test device",)
    with pytest.raises(InvalidInputError, match="'launch' is not known"):
        tiny_generator.generate(budget, device="launch")


def test_devices_of_training_are_checked(tiny, tiny_model, tiny_table, launch):
    for given, message in (
        ([], "at least one"),
        ([tiny_table, pf.costs.macs(tiny)], "one metric in one unit"),
        ([tiny_table, tiny_table], "same device, 'test device'"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            pf.train_generator(tiny, tiny_model, [], devices=given)
    for given in (tiny_table, "launch", [None]):
        with pytest.raises(InvalidTypeError, match="list of cost tables"):
            pf.train_generator(tiny, tiny_model, [], devices=given)
    constant = made(tiny, "flat", np.zeros_like(launch.entries), [1.0])
    with pytest.raises(InvalidInputError, match="on 'flat'"):
        pf.train_generator(tiny, tiny_model, [], devices=[tiny_table, constant])


def test_other_costs_stand_beside_that_of_the_device(tiny, tiny_model, tiny_table, launch):
    macs = pf.costs.macs(tiny)
    generator = pf.train_generator(
        tiny, tiny_model, [macs], devices=[tiny_table, launch], settings=SETTINGS
    )
    budgets = [[launch.bounds[1], np.mean(macs.bounds)], [np.mean(launch.bounds), np.inf]]
    out = generator.generate(budgets, device="launch")
    np.testing.assert_array_equal(out.costs, np.column_stack([launch(out.archs), macs(out.archs)]))
    assert (out.costs <= budgets).all()


def test_adapting_adds_a_device(tiny_table, launch, new, fleet, tiny_generator):
    budgets = spread(new, 60)
    adapted = fleet.adapt(new, evaluations=1500, seed=3)
    again = fleet.adapt(new, evaluations=1500, seed=3)
    np.testing.assert_array_equal(again.bank.archs, adapted.bank.archs)
    assert [table.device for table in adapted.devices] == ["test device", "launch", "new"]
    before = fleet.generate(budgets, device=new)
    after = adapted.generate(budgets, device="new")
    assert (after.top1 >= before.top1 - 1e-6).all()
    assert after.top1.mean() > before.top1.mean()
    # What one device has found serves the others.
    budgets = spread(launch, 30)
    a, b = (g.generate(budgets, device="launch").top1 for g in (fleet, adapted))
    assert (b >= a - 1e-6).all()
    both = tiny_generator.adapt(new, evaluations=500)
    assert [table.device for table in both.devices] == ["test device", "new"]
    assert len(both.adapt(launch, seconds=0.05).devices) == 3
    for seconds in (0, -1, np.nan, np.inf, 1e305):
        with pytest.raises(InvalidInputError, match="seconds"):
            both.adapt(launch, seconds=seconds)


def test_adapting_to_a_known_name_replaces_its_table(tiny_table, launch, new, fleet):
    for known in (tiny_table, launch):
        other = dataclasses.replace(new, device=known.device)
        adapted = fleet.adapt(other, evaluations=500)
        assert len(adapted.devices) == 2
        out = adapted.generate(spread(other, 20), device=known.device)
        np.testing.assert_array_equal(out.costs[:, 0], other(out.archs))
        assert adapted.tables[0] is adapted.devices[0]
        assert (adapted.archive.costs[:, 0] == adapted.tables[0](adapted.archive.archs)).all()


def test_confidence_holds_budgets_by_upper_bounds(tiny, tiny_model, uncertain):
    generator = pf.train_generator(tiny, tiny_model, [uncertain], settings=SETTINGS)
    assert len(generator.bank) > len(generator.archive)
    bound = uncertain.cautious(1.6448536)
    budgets = spread(bound, 40)
    out = generator.generate(budgets, confidence=0.95)
    mean, std = uncertain(out.archs, return_std=True)
    np.testing.assert_array_equal(out.costs[:, 0], mean)
    np.testing.assert_array_equal(out.costs_std[:, 0], std)
    assert (mean + 1.64485 * std <= budgets).all()
    plain = generator.generate(budgets)
    assert (plain.costs[:, 0] <= budgets).all()
    assert (plain.costs[:, 0] + 1.64485 * plain.costs_std[:, 0] > budgets).any()
    assert plain.top1.mean() > out.top1.mean()
    # Half of the networks cost more than their mean.
    np.testing.assert_array_equal(generator.generate(budgets, confidence=0.5).archs, plain.archs)
    # The least bound that there is can be asked for to the last bit.
    for confidence in np.linspace(0.5, 0.99, 12):
        lowest = generator.on(confidence=confidence).tables[0].bounds[0]
        assert generator.generate(lowest, confidence=confidence).feasible.all()
    low = uncertain.bounds[0]
    with pytest.raises(BudgetInfeasibleError, match="its mean and 1.64 standard deviations"):
        generator.generate(low, confidence=0.95)
    for odd in (0.4, 1.0, 95, "high", np.nan):
        with pytest.raises(InvalidInputError, match="confidence"):
            generator.generate(low, confidence=odd)


def test_confidence_changes_nothing_of_exact_tables(tiny_generator, tiny_table):
    budgets = spread(tiny_table, 20)
    a, b = tiny_generator.generate(budgets), tiny_generator.generate(budgets, confidence=0.99)
    np.testing.assert_array_equal(a.archs, b.archs)
    np.testing.assert_array_equal(a.top1, b.top1)
    assert (b.costs_std == 0).all()
    assert tiny_generator.bank is None


def test_files_keep_devices(fleet, uncertain, new, tmp_path):
    path = tmp_path / "fleet.safetensors"
    generator = fleet.adapt(uncertain, evaluations=300)
    generator.save(path)
    loaded = pf.Generator.load(path)
    copies = [loaded, pickle.loads(pickle.dumps(generator)), copy.deepcopy(generator)]
    for device in ("test device", "launch", "measured", new):
        table = generator.on(device).tables[0].cautious(2)
        budgets = spread(table, 20)
        expected = generator.generate(budgets, device=device, confidence=0.95)
        for other in copies:
            out = other.generate(budgets, device=device, confidence=0.95)
            # Uncertainty is kept in single precision.
            np.testing.assert_allclose(out.top1, expected.top1, atol=1e-4)
            np.testing.assert_allclose(out.costs_std, expected.costs_std, rtol=1e-4, atol=1e-9)
    again = loaded.adapt(new, evaluations=300)
    assert len(again.devices) == 4


def test_damaged_files_of_devices_are_refused(fleet, uncertain, tmp_path):
    path = tmp_path / "fleet.safetensors"
    fleet.adapt(uncertain, evaluations=300).save(path)
    tensors, body = files.read_safetensors(path, "pnag-generator", 3)
    for written_by_files in ("format", "version", "provenance"):
        del body[written_by_files]

    def refused(message, tensors=tensors, **changes):
        files.write_safetensors(path, "pnag-generator", 3, tensors, {**body, **changes})
        with pytest.raises(FileFormatError, match=message):
            pf.Generator.load(path)

    def without(name):
        return {key: value for key, value in tensors.items() if key != name}

    refused("bank of known architectures is damaged", without("bank.top1"))
    refused("lacks the array 'posterior.0'", without("posterior.0"))
    refused("extra tensor 'posterior.1'", {**tensors, "posterior.1": tensors["posterior.0"]})
    refused("posterior", {**tensors, "posterior.0": tensors["posterior.0"][1:]})
    refused("same device", devices=[*body["devices"], body["devices"][0]])
    refused("unknown", device=[])
    broken = tensors["bank.archs"].copy()
    broken[0, 0] = 99
    refused("inconsistent", {**tensors, "bank.archs": broken})


def test_training_of_devices_goes_on_where_it_was(tiny, tiny_model, tiny_table, launch, tmp_path):
    tables = [tiny_table, launch]

    def train(**options):
        return pf.train_generator(
            tiny, tiny_model, [], devices=tables, settings=SETTINGS, seed=4, **options
        )

    class Killed(Exception):
        pass

    seen, after = [], None

    def report(*call):
        seen.append(call)
        if len(seen) == after:
            raise Killed

    whole, path = train(progress=report), tmp_path / "checkpoint"
    imitated = [title for title, _, _ in seen].index("imitating the front") + SETTINGS.steps
    after, seen = (imitated + len(seen)) // 2, []
    with pytest.raises(Killed):
        train(progress=report, checkpoint=path)
    seen, after = [], None
    np.testing.assert_array_equal(
        train(progress=report, checkpoint=path).bank.archs, whole.bank.archs
    )
    # It did not begin again.
    assert not any(title == "imitating the front" for title, _, _ in seen)


def test_a_bank_holds_each_architecture_once(fleet):
    bank = Bank.of([fleet.bank, fleet.archive, fleet.bank])
    assert len(bank) == len(np.unique(bank.archs, axis=0)) == len(fleet.bank)
    np.testing.assert_allclose(bank.top1, fleet.model.predict(bank.archs), atol=1e-6)


def test_synthetic_devices_are_of_the_kinds_that_real_ones_are(tiny, tiny_table, launch):
    made = devices.synthetic([tiny_table, launch], 12, seed=0)
    archs = tiny.sample(200, seed=1, distribution="decisions")
    costs = np.array([table(archs) for table in made])
    counted = [
        (archs > 0).sum(axis=1),
        pf.costs.macs(tiny)(archs),
        pf.costs.parameters(tiny)(archs),
    ]
    # The first are pure.
    for i, count in enumerate(counted):
        assert np.corrcoef(costs[i], count)[0, 1] > 1 - 1e-9
    correlation = np.corrcoef(costs)
    assert correlation[np.triu_indices(12, 1)].max() < 1 - 1e-9
    assert (costs.mean(axis=1) < 3).all()
    again = devices.synthetic([tiny_table, launch], 3, seed=0)[2]
    np.testing.assert_array_equal(again.entries, made[2].entries)


def test_no_synthetic_device_is_free(tiny, tiny_table):
    entries = tiny_table.entries.copy()
    entries[:, :, 1:] -= 1.0
    (free,) = tiny_table.constants
    low = made(tiny, "low", entries, [free + 1.02 * tiny.n_slots])
    found = devices.synthetic([low], 24, seed=0)
    assert 3 < len(found) < 24
    assert all(table.bounds[0] > 0 for table in found)


def test_a_generator_of_another_device_forgets_nothing(cell):
    archs = cell.enumerate()
    model = pf.accuracy.table(cell, archs, np.random.default_rng(0).random(len(archs)))
    macs = pf.costs.macs(cell)
    first = made(cell, "a", macs.entries, macs.constants)
    whole = ExpertSettings(evaluations=20_000, steps=10, hidden=16)
    generator = pf.train_generator(cell, model, [first], settings=whole)
    reverse = made(cell, "b", np.ones_like(macs.entries) * np.arange(6)[::-1], [1.0])
    view = generator.on(reverse)
    assert len(view.archive) < len(generator.archive)
    np.testing.assert_array_equal(view.on(first).archive.archs, generator.archive.archs)
    # All were looked at for the one device: of the other the front may miss some.
    assert generator.exact
    assert not view.exact


def test_small_spaces_are_known_as_a_whole(cell):
    archs = cell.enumerate()
    top1 = np.random.default_rng(0).random(len(archs))
    model = pf.accuracy.table(cell, archs, top1)
    macs = pf.costs.macs(cell)
    given = [
        made(cell, "a", macs.entries / 1e6, macs.constants / 1e6),
        made(cell, "b", np.ones_like(macs.entries) * np.arange(6), [1.0]),
    ]
    generator = pf.train_generator(cell, model, [], devices=given, settings=SETTINGS)
    other = made(cell, "c", np.ones_like(macs.entries) * np.arange(6)[::-1], [1.0])
    budgets = spread(other, 20)
    out = generator.generate(budgets, device=other)
    best = [top1[other(archs) <= budget].max() for budget in budgets]
    np.testing.assert_allclose(out.top1, best)
