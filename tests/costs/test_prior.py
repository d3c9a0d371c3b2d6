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
