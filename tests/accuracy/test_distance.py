from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf


def test_std_grows_away_from_the_measured_rows(tiny):
    """Small networks say little of large ones; errors on held-out ranges say how little."""
    archs = tiny.sample(600, seed=3)
    top1 = 0.5 + 0.02 * (archs > 3).sum(axis=1) + np.random.default_rng(0).normal(0, 0.004, 600)
    known = (archs > 3).sum(axis=1) <= 5
    model = pf.accuracy.fit(tiny, archs[known], top1[known], epochs=50)
    inside = model.predict(archs[known], return_std=True)[1]
    outside = model.predict(archs[~known & model.knows(archs)], return_std=True)[1]
    assert outside.mean() > 1.3 * inside.mean()


@pytest.mark.shared_data
@pytest.mark.parametrize("calibrated", [False, True])
def test_std_is_honest_beyond_the_measured_combinations(shared_data, read_csv, calibrated):
    """Models of deep, large or good networks only are asked about the others."""
    space = pf.spaces.get("ofa-mbv3")
    rows = read_csv(shared_data / "ofa_imagenet" / "measured_w1.0_r224.csv")
    archs = space.from_strings([row["arch"] for row in rows])
    top1 = np.array([float(row["top1_percent"]) for row in rows]) / 100
    depth, macs = (archs > 0).sum(axis=1), pf.costs.macs(space)(archs)
    base = pf.accuracy.load(shared_data / "ofa_imagenet" / "acc_predictor.pth")
    for known in (depth >= 16, macs > np.median(macs), top1 > np.median(top1)):
        some = np.ascontiguousarray(archs[known])
        if calibrated:
            model = pf.accuracy.calibrate(base, some, top1[known])
        else:
            model = pf.accuracy.fit(space, some, top1[known], epochs=20)
        asked = ~known & model.knows(archs)
        predicted, std = model.predict(np.ascontiguousarray(archs[asked]), return_std=True)
        scaled = (predicted - top1[asked]) / std
        # Without reach these are 2.8 to 5.
        assert np.sqrt(np.mean(scaled**2)) < 1.7
        assert np.mean(np.abs(scaled) < 2) > 0.8
        # What was measured does not become doubtful by it.
        assert model.predict(some, return_std=True)[1].mean() < 0.0025
