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
