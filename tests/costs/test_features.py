"""Architectures as rows of a linear model."""

from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.costs.features import entries, features, n_features, shares


@pytest.fixture(scope="module")
def sized():
    return pf.spaces.get("ofa-mbv3", resolutions=(129, 160, 224))


def test_shares_are_those_of_the_multiply_adds(sized):
    share = shares(sized)
    assert (share[-1] == 1).all()
    assert (np.diff(share, axis=0) >= 0).all()
    # 129 pixels leave 5 at stride 32, as 160 do, and 65 of 80 at stride 2; the squeeze and the
    # excitation are the same at all sizes.
    first, last = 1, share.shape[1] - 1
    assert share[0, last] == share[1, last]
    assert share[0, first] == pytest.approx((65 / 112) ** 2, rel=0.02)


def test_multiply_adds_are_linear_in_the_features(sized):
    """Exactly: a fit to few networks predicts all others, at every resolution."""
    table = pf.costs.macs(sized)
    archs = sized.sample(1500, seed=0)
    rows = features(sized, archs)
    assert rows.shape == (1500, n_features(sized))
    weights = np.linalg.lstsq(rows[:1000], table(archs[:1000]), rcond=None)[0]
    np.testing.assert_allclose(rows[1000:] @ weights, table(archs[1000:]), rtol=1e-6)


@pytest.mark.parametrize("resolutions", [(224,), (129, 160, 224)])
def test_entries_cost_what_the_features_do(resolutions):
    space = pf.spaces.get("ofa-mbv3", resolutions=resolutions)
    weights = np.random.default_rng(0).random(n_features(space)) + 0.1
    constants, found = entries(space, weights)
    table = pf.CostTable.build(
        space, metric="latency", unit="ms", device="x", constants=constants, entries=found
    )
    archs = space.sample(50, seed=1)
    np.testing.assert_allclose(table(archs), features(space, archs) @ weights, rtol=1e-12)


def test_sizes_at_which_a_stage_computes_the_same():
    """208 and 224 pixels both leave 7 at stride 32."""
    space = pf.spaces.get("ofa-mbv3", resolutions=(160, 208, 224))
    late = shares(space)[:, -1]
    assert late[0] < late[1] == late[2]
    two = pf.spaces.get("ofa-mbv3", resolutions=(208, 224))
    assert (shares(two)[0] < 1).all()
    archs = two.sample(1500, seed=0)
    macs = pf.costs.macs(two)
    np.testing.assert_allclose(features(two, archs) @ macs.weights, macs(archs), rtol=1e-9)
    measured = macs(archs) * (1 + 0.01 * np.random.default_rng(0).normal(size=1500))
    table = pf.costs.fit(two, archs, measured, metric="a", unit="b")
    assert table.provenance["held_out"]["r2"] > 0.9
    fitted = pf.costs.fit(two, archs[:40], measured[:40], metric="a", unit="b", prior=[macs])
    assert np.abs(fitted(archs) / macs(archs) - 1).mean() < 0.02
    # What is not known of three sizes is not known of two of them either.
    root = np.random.default_rng(1).normal(size=(n_features(space), 3))
    macs = pf.costs.macs(space)
    uncertain = pf.CostTable.build(
        space,
        metric="a",
        unit="b",
        device="c",
        constants=macs.constants,
        entries=macs.entries,
        posterior=pf.costs.Posterior(root, 0.0),
    )
    three = archs.copy()
    three[:, -1] += 1
    for sizes in ((208, 224), (224,), (160, 208)):
        least = space.resolutions.index(sizes[0])
        rows = three[np.isin(three[:, -1], least + 1 + np.arange(len(sizes)))]
        some = rows.copy()
        some[:, -1] -= least
        if len(sizes) == 1:
            some = np.ascontiguousarray(some[:, :-1])
        np.testing.assert_allclose(
            uncertain.at(sizes)(some, return_std=True)[1],
            uncertain(rows, return_std=True)[1],
            rtol=1e-9,
        )


def test_what_few_sizes_leave_open_is_named():
    space = pf.spaces.get("ofa-mbv3", resolutions=(160, 208, 224))
    archs = space.sample(1500, seed=0)
    for codes, found in (([3], "resolution 224, which"), ([2, 3], "208, 224, where some blocks")):
        some = archs[np.isin(archs[:, -1], codes)]
        with pytest.raises(pf.errors.InvalidInputError, match=found):
            pf.costs.fit(space, some, np.arange(len(some)) + 1.0, metric="a", unit="b")


def test_a_table_that_is_no_line_serves_as_a_prior():
    """By its weights the cheapest networks cost less than nothing."""
    space = pf.spaces.get("mbv3-tiny", resolutions=(16, 24, 32))
    macs = pf.costs.macs(space)
    scale = np.array([1e-3, 1e-3, 1.0])
    odd = pf.CostTable.build(
        space,
        metric="a",
        unit="b",
        device="c",
        constants=scale * macs.constants,
        entries=scale[:, None, None] * macs.entries,
    )
    archs = space.sample(60, seed=0)
    assert (features(space, archs) @ odd.weights).min() < 0
    fitted = pf.costs.fit(space, archs, macs(archs), metric="a", unit="b", prior=[odd, macs])
    assert np.isfinite(fitted(archs, return_std=True)).all()
    assert pf.latency.choose(space, 5, prior=[odd]).shape == (5, space.n_slots)
