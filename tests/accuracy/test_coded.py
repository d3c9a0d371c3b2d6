"""Columns of coded spaces, and the process that learns one relevance for each group of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.accuracy.coded import columns
from pnag_fast.accuracy.process import Posterior, Process, described, groups


@pytest.fixture(scope="module")
def worth(tiny):
    """Depth counts, with less and less return, then kernels, and slots a little of their own."""
    own = np.random.default_rng(5).normal(0, 0.02, size=tiny.n_slots)

    def value(archs):
        present = archs > 0
        kernels = present * ((archs.astype(int) - 1) // 2)
        return np.log(1 + present.sum(axis=1)) + 0.05 * kernels.sum(axis=1) + present @ own

    return value


def learned(space, archs, values):
    x, group = described(space, archs), groups(space)
    y = (values - values.mean()) / values.std()
    used = np.ptp(x, axis=0) > 0
    return Process.learned(x[:, used], y, np.ones(len(y)), group[used]), x[:, used], y, used


def test_random_architectures_are_at_a_distance_of_one_by_every_group(tiny):
    made = columns(tiny)
    x = made(tiny.sample(4000, seed=9, distribution="decisions"))
    assert x.shape[1] == len(made.group) == len(described(tiny, tiny.sample(1, seed=0))[0])
    apart = ((x[:2000] - x[2000:]) ** 2).mean(axis=0)
    np.testing.assert_allclose(np.bincount(made.group, apart), 1.0, atol=0.15)
    np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=0.05)
    assert (np.diff(made.group) >= 0).all()
    assert made.group[-1] == made.group[-2] > made.group[-3]  # multiply-adds and parameters


def test_a_space_without_networks_has_columns_of_its_codes(tmp_path):
    slots = [{"name": "a", "choices": ["x", "y", "z"]}, {"name": "b", "choices": [1, 2]}]
    stages = [
        {"name": "one", "slots": slots, "min_depth": 1},
        {"name": "two", "slots": [{"name": "c", "choices": [4]}]},
    ]
    document = {
        "format": "pnag-space",
        "version": 1,
        "space": {"name": "own", "stages": stages},
    }
    path = tmp_path / "own.json"
    path.write_text(json.dumps(document))
    own = pf.spaces.load(path)
    every = own.enumerate()
    x = columns(own)(every)
    assert not columns(own).counted
    assert np.isfinite(x).all()
    # Every two of them differ.
    assert len(np.unique(x.round(9), axis=0)) == len(every)


def test_the_process_is_the_formula(tiny, worth):
    archs, others = tiny.sample(40, seed=1), tiny.sample(25, seed=2)
    process, x, y, used = learned(tiny, archs, worth(archs))
    assert process.linear > 0
    assert process.level > 0

    def kernel(a, b):
        a, b = a * process.relevance, b * process.relevance
        apart = ((a[:, None] - b[None]) ** 2).sum(axis=2)
        return process.level + process.linear * (a @ b.T) + 1 / (1 + apart / 2)

    z = described(tiny, others)[:, used]
    system = kernel(x, x) + process.noise * np.eye(len(x))
    mean = kernel(z, x) @ np.linalg.solve(system, y)
    scale = y @ np.linalg.solve(system, y) / len(y)
    known = kernel(z, x) @ np.linalg.solve(system, kernel(x, z))
    variance = scale * (np.diag(kernel(z, z) - known) + process.noise)
    for found in (
        process.predict(x, y, np.ones(len(y)), z),
        Posterior(process, z, x).predict(y),
    ):
        np.testing.assert_allclose(found[0], mean, atol=1e-8)
        np.testing.assert_allclose(found[1], variance, rtol=1e-6)


def test_rows_that_are_added_are_rows_that_were_there(tiny, worth):
    archs, others = tiny.sample(40, seed=1), tiny.sample(25, seed=2)
    process, x, y, used = learned(tiny, archs, worth(archs))
    z = described(tiny, others)[:, used]
    whole, grown = Posterior(process, z, x), Posterior(process, z, x[:30])
    before = grown.predict(y[:30])
    for row in x[30:]:
        grown.add(row)
    for a, b in zip(whole.predict(y), grown.predict(y), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)
    grown.cut(30)
    np.testing.assert_array_equal(grown.predict(y[:30]), before)


def test_few_networks_tell_of_all_others(tiny, worth):
    archs, others = tiny.sample(60, seed=1), tiny.sample(500, seed=2)
    values, truth = worth(archs), worth(others)
    process, x, y, used = learned(tiny, archs, values)
    mean, variance = process.predict(x, y, np.ones(len(y)), described(tiny, others)[:, used])
    off = (values.mean() + values.std() * mean - truth) / values.std()
    assert np.sqrt(np.mean(off**2)) < 0.15
    # It knows how far off it is.
    assert 0.5 < np.sqrt(np.mean(off**2 / variance)) < 2.0
    # One relevance for each code learns less of as many.
    alone = Process.learned(x, y, np.ones(len(y)))
    guess, _ = alone.predict(x, y, np.ones(len(y)), described(tiny, others)[:, used])
    worse = (values.mean() + values.std() * guess - truth) / values.std()
    assert np.mean(off**2) < 0.5 * np.mean(worse**2)
