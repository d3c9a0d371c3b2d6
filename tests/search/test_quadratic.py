from __future__ import annotations

import numpy as np
import pytest

from pnag_fast.accuracy.codes import one_hot
from pnag_fast.search.quadratic import Quadratic


def a_quadratic(space, rng):
    """Return slopes and values of a random quadratic over the codes."""
    n = one_hot(space, space.sample(1, seed=0)).shape[1]
    half = rng.normal(size=(n, n))
    curvature, linear = half + half.T, rng.normal(size=n)

    def slopes(archs):
        return (one_hot(space, archs) @ curvature + linear).astype(np.float32)

    def values(archs):
        x = one_hot(space, archs).astype(np.float64)
        return x @ linear + ((x @ curvature) * x).sum(axis=1) / 2

    return slopes, values


def centred(slopes):
    return slopes - slopes.mean(axis=1, keepdims=True)


def test_a_quadratic_is_recovered_from_its_slopes(tiny, monkeypatch):
    monkeypatch.setattr("pnag_fast.search.quadratic._RIDGE", 1e-3)
    slopes, values = a_quadratic(tiny, np.random.default_rng(0))
    quadratic = Quadratic(tiny, Quadratic.empty(tiny))
    for seed in range(10):
        archs = tiny.sample(200, seed=seed)
        quadratic.learn(archs, slopes(archs))
    new = tiny.sample(100, seed=99)
    found, true = quadratic(new), values(new)
    np.testing.assert_allclose(found - found[0], true - true[0], atol=0.2)
    assert np.ptp(true) > 20
    # What all codes of a slot add that is never absent is open: only differences mean anything.
    of_first = slice(0, tiny.n_codes[0] - 1)
    assert tiny.stages[0].min_depth >= 1
    np.testing.assert_allclose(
        centred(quadratic.slopes(new)[:, of_first]), centred(slopes(new)[:, of_first]), atol=0.05
    )


def test_kinks_average_out(tiny):
    """Slopes with much noise, as those of a network with kinks: values are right all the same."""
    rng = np.random.default_rng(1)
    slopes, values = a_quadratic(tiny, rng)
    quadratic = Quadratic(tiny, Quadratic.empty(tiny))
    for seed in range(20):
        archs = tiny.sample(500, seed=seed)
        clean = slopes(archs)
        quadratic.learn(archs, clean + rng.normal(0, 5, clean.shape).astype(np.float32))
    new = tiny.sample(300, seed=99)
    assert np.corrcoef(quadratic(new), values(new))[0, 1] > 0.99


def test_its_state_is_all_that_it_knows(tiny):
    slopes, _ = a_quadratic(tiny, np.random.default_rng(2))
    state, archs = Quadratic.empty(tiny), tiny.sample(50, seed=0)
    assert Quadratic(tiny, state)(archs) == pytest.approx(0)
    Quadratic(tiny, state).learn(archs, slopes(archs))
    kept = {name: array.copy() for name, array in state.items()}
    for each in (state, kept):
        Quadratic(tiny, each).learn(archs[:9], slopes(archs[:9]))
    for name, array in state.items():
        np.testing.assert_array_equal(array, kept[name])
