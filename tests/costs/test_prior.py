"""What known devices say of a new one."""

from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.costs import prior as priors
from pnag_fast.errors import InvalidInputError, InvalidTypeError


def made_up(space, compute, launch, *, unit=1.0):
    """A device that needs so many ms for all multiply-adds, and for each block."""
    macs = pf.costs.macs(space)
    entries = compute * macs.entries / macs.bounds[1] + launch
    entries[..., 0] = 0.0
    return pf.CostTable.build(
        space,
        metric="latency",
        unit="ms",
        device=f"{compute} and {launch}",
        constants=unit * (compute * macs.constants / macs.bounds[1] + launch),
        entries=unit * entries,
    )


@pytest.fixture(scope="module")
def known(tiny):
    return [made_up(tiny, *pair) for pair in ((10, 0.1), (3, 0.5), (20, 1.0), (1, 0.7))]


def fit(space, archs, values, prior):
    return pf.costs.fit(space, archs, values, metric="latency", unit="ms", prior=prior)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e4])
def test_five_networks_tell_a_device_of_a_known_kind(tiny, known, unit):
    truth = made_up(tiny, 5, 0.3, unit=unit)
    archs = tiny.sample(5, seed=0, distribution="decisions")
    table = fit(tiny, archs, truth(archs), known)
    fresh = tiny.sample(500, seed=1, distribution="decisions")
    mean, std = table(fresh, return_std=True)
    assert np.abs(mean / truth(fresh) - 1).max() < 0.01
    assert (std > 0).all()


def test_units_of_known_tables_do_not_matter(tiny, known):
    archs = tiny.sample(8, seed=0, distribution="decisions")
    values = made_up(tiny, 5, 0.3)(archs) * np.random.default_rng(0).normal(1, 0.02, 8)
    other = [made_up(tiny, *pair, unit=1e3) for pair in ((10, 0.1), (3, 0.5), (20, 1.0), (1, 0.7))]
    fresh = tiny.sample(50, seed=1)
    one, two = (
        fit(tiny, archs, values, tables)(fresh, return_std=True) for tables in (known, other)
    )
    np.testing.assert_allclose(one, two, rtol=1e-6)


def test_known_devices_narrow_what_is_believed(tiny, known):
    """Tables that differ by two numbers only leave nothing to slots and codes of their own."""

    def own(tables):
        prior = priors.of_tables(tiny, tables)
        return sum(
            variance
            for part, variance in zip(prior.components, prior.expected, strict=True)
            if part.name.endswith(("by slot", "by stage"))
        )

    assert own(known) < own(known[:1]) / 100


def test_what_a_known_table_leaves_open_is_not_taken_for_a_difference(tiny, known):
    """Tables from few networks differ by their errors: the more so, the less is learned of it."""
    rng = np.random.default_rng(0)
    archs = tiny.sample(30, seed=3, distribution="decisions")
    noisy = [
        fit(tiny, archs, table(archs) * rng.normal(1, 0.05, 30), [pf.costs.macs(tiny)])
        for table in known
    ]
    blind = [
        pf.CostTable.build(
            tiny, metric="latency", unit="ms", device="x",
            constants=table.constants, entries=table.entries,
        )
        for table in noisy
    ]  # fmt: skip
    aware, naive = (np.sum(priors.of_tables(tiny, t).variances[2:]) for t in (noisy, blind))
    assert aware < naive


def test_no_architecture_is_free(cell):
    """A sum over edges that fits some cells best would give the empty cell less than nothing."""
    archs = cell.sample(60, seed=0)
    busy = (archs > 2).sum(axis=1)
    values = np.maximum(busy - 1.5, 0.01)
    table = fit(cell, archs, values, [pf.costs.macs(cell)])
    assert table.bounds[0] >= 0.1 * values.min()


def test_refusals(tiny, known):
    archs = tiny.sample(5, seed=0)
    values = known[0](archs)
    with pytest.raises(InvalidTypeError, match="prior should be a list of CostTables, found Cost"):
        fit(tiny, archs, values, known[0])
    with pytest.raises(InvalidTypeError, match="prior should hold CostTables, found str"):
        fit(tiny, archs, values, ["macs.json"])
    with pytest.raises(InvalidInputError, match="is for space 'nasbench201'"):
        fit(tiny, archs, values, [pf.costs.macs(pf.spaces.get("nasbench201"))])
    with pytest.raises(InvalidInputError, match="at least 2 different architectures"):
        fit(tiny, archs[:1], values[:1], known)
    assert fit(tiny, archs, values, ()).bounds[0] > 0


@pytest.mark.shared_data
def test_ten_cells_tell_a_device_that_nobody_knew(shared_data, read_csv, cell):
    """By the protocol of HELP, which reaches a Spearman correlation of 0.932 on average."""
    rows = read_csv(shared_data / "nasbench201" / "accuracy_12_epochs.csv")
    times = {r["index"]: r for r in read_csv(shared_data / "nasbench201" / "latency_ms.csv")}
    archs = cell.from_strings([row["arch"] for row in rows])
    order = np.random.default_rng(0).permutation(len(archs))
    first, offered, judged = order[:500], order[500:1000], order[1000:4000]

    def measured(device, places):
        return np.array([float(times[rows[place]["index"]][device]) for place in places])

    known = [
        fit(cell, archs[first], measured(device, first), [pf.costs.macs(cell)])
        for device in ("1080ti_1", "1080ti_32", "1080ti_256", "silver_4114", "samsung_s7")
    ]
    chosen = pf.latency.choose(cell, 10, prior=known, candidates=archs[offered])
    place_of = {arch.tobytes(): place for place, arch in enumerate(archs)}
    places = [place_of[arch.tobytes()] for arch in chosen]
    covered = []
    for device, spearman in (("gold_6226", 0.97), ("fpga", 0.99), ("titan_rtx_32", 0.98)):
        table = fit(cell, chosen, measured(device, places), known)
        mean, std = table(archs[judged], return_std=True)
        ms = measured(device, judged)
        assert pf.costs.spearman(mean, ms) > spearman
        covered.append(np.mean(np.abs(mean - ms) < 1.645 * std))
    assert np.mean(covered) > 0.8


@pytest.mark.parametrize("values", [[1e308, -1e308], [5e-324, 0.0], [3, 1e300]])
def test_factors_of_any_size(values):
    """Their squares may be no numbers."""
    slots = [{"name": f"layer{i}", "factors": [["size", values]]} for i in range(3)]
    stage = {"name": "body", "slots": slots, "min_depth": 1}
    space = pf.spaces.from_definition({"name": "own", "stages": [stage]}, "space")
    archs = space.enumerate()
    cost = 1.0 + archs.sum(axis=1)
    measured = cost * np.random.default_rng(0).normal(1, 0.01, len(archs))
    fitted = pf.costs.fit(space, archs, measured, metric="latency", unit="ms", prior=[])
    np.testing.assert_allclose(fitted(archs), cost, rtol=0.05)
