from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.costs import Posterior, features
from pnag_fast.errors import InvalidInputError


def test_sums_and_their_uncertainty(tiny, tiny_table):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(2, features.n_features(tiny), 2)) / 10
    parts = [
        dataclasses.replace(tiny_table, device=device, posterior=Posterior(part, misfit))
        for device, part, misfit in zip("ab", root, (0.01, 0.03), strict=True)
    ]
    total = pf.costs.add([*parts, tiny_table])
    archs = tiny.sample(50, seed=0)
    costs, std = total(archs, return_std=True)
    np.testing.assert_allclose(costs, 3 * tiny_table(archs), rtol=1e-12)
    rows = features.features(tiny, archs)
    known = [np.square(rows @ part.posterior.root).sum(axis=1) for part in parts]
    np.testing.assert_allclose(std**2, sum(known) + (0.03 * costs) ** 2, rtol=1e-12)
    assert total.device == "a + b + test device"
    assert pf.costs.add(parts, device="both").device == "both"
    assert pf.costs.add([tiny_table]).posterior is None
    assert pf.costs.add([parts[0].cautious(2), parts[1]]).caution == 2


def test_what_cannot_be_added_is_refused(tiny, tiny_table):
    with pytest.raises(InvalidInputError, match="latency in ms on test device and macs in MACs"):
        pf.costs.add([tiny_table, pf.costs.macs(tiny)])
    with pytest.raises(InvalidInputError, match="largest of its entries"):
        pf.costs.add([tiny_table, dataclasses.replace(tiny_table, reduce="max")])
    with pytest.raises(InvalidInputError, match="at least one"):
        pf.costs.add([])
