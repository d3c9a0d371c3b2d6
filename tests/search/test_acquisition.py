from __future__ import annotations

import math

import numpy as np
import pytest

from pnag_fast import pareto
from pnag_fast.search import acquisition


@pytest.fixture
def known():
    """A front and what it dominates: merits, and one or two costs between 1 and 2."""
    rng = np.random.default_rng(0)
    costs = rng.uniform(1, 2, (40, 2))
    return costs.sum(axis=1) / 4 + rng.normal(0, 0.1, 40), costs


@pytest.fixture
def candidates():
    rng = np.random.default_rng(1)
    costs = rng.uniform(1, 2, (500, 2))
    return rng.normal(0.6, 0.3, 500), rng.uniform(0.01, 0.3, 500), costs


def volume(merit, costs, floor):
    points = np.column_stack([-merit, costs])
    return pareto.hypervolume(points, [-floor, 2.0])


def test_expected_excess_is_that_of_a_normal_value():
    mean, std = np.linspace(-3, 3, 121), np.full(121, 0.35)
    z = mean / std
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    below = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])
    found = acquisition.expected_excess(mean, std, np.zeros(121))
    np.testing.assert_allclose(found, mean * below + std * density, rtol=1e-4, atol=1e-9)
    assert (found >= np.maximum(mean, 0) - 1e-12).all()


def test_gain_over_one_cost_is_the_expected_hypervolume_improvement(known, candidates):
    merit, costs = known[0], known[1][:, :1]
    mean, std, at = (values[:40] for values in candidates)
    at, floor = at[:, :1], float(merit.min())
    gain = acquisition.OneCost(merit, costs, floor, 1.0, 2.0)
    before = volume(merit, costs, floor)
    # Nodes of Gauss and Hermite do not see the kinks of a front: many quantiles do.
    shares = (np.arange(100) + 0.5) / 100
    quantiles = np.interp(
        shares,
        [0.5 * math.erfc(-z / math.sqrt(2)) for z in np.linspace(-5, 5, 4001)],
        np.linspace(-5, 5, 4001),
    )
    expected = [
        np.mean(
            [
                volume(np.append(merit, m + s * q), np.append(costs, [c], axis=0), floor) - before
                for q in quantiles
            ]
        )
        for m, s, c in zip(mean, std, at, strict=True)
    ]
    np.testing.assert_allclose(gain.expected(mean, std, at), expected, atol=2e-3)
    assert max(expected) > 0.05


def test_several_costs_agree_with_one_where_there_is_one(known, candidates):
    merit, costs = known[0], known[1][:, :1]
    mean, std, at = candidates
    budgets = 1 + (np.arange(4000)[:, None] + 0.5) / 4000
    one = acquisition.OneCost(merit, costs, float(merit.min()), 1.0, 2.0)
    many = acquisition.ManyCosts(merit, costs, float(merit.min()), budgets)
    np.testing.assert_allclose(
        many.expected(mean, std, at[:, :1]), one.expected(mean, std, at[:, :1]), atol=1e-3
    )


@pytest.mark.parametrize("n_costs", [1, 2])
@pytest.mark.parametrize("priced", [False, True])
def test_the_largest_are_found_without_computing_all(known, candidates, n_costs, priced):
    merit, costs = known[0], known[1][:, :n_costs]
    mean, std, at = candidates[0], candidates[1], candidates[2][:, :n_costs]
    floor = float(merit.min())
    if n_costs == 1:
        gain = acquisition.OneCost(merit, costs, floor, 1.0, 2.0)
    else:
        budgets = np.random.default_rng(2).uniform(1, 2, (64, 2))
        gain = acquisition.ManyCosts(merit, costs, floor, budgets)
    price = np.random.default_rng(3).uniform(0.5, 5, len(mean)) if priced else None
    every = gain.expected(mean, std, at)
    assert (gain.bound(mean, std, at) >= every - 1e-12).all()
    worth = every if price is None else every / price
    rows, gains = gain.largest(mean, std, at, price, n=20)
    np.testing.assert_array_equal(rows, np.argsort(-worth, kind="stable")[:20])
    np.testing.assert_allclose(gains, every[rows])
    assert len(gain.largest(mean[:0], std[:0], at[:0], n=0)[0]) == 0
