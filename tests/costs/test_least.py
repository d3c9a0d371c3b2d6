from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.budgets import not_together


def random_tables(space, n, seed, largest=()):
    rng = np.random.default_rng(seed)
    shape = (max(1, len(space.resolutions)) if space.resolution_slot is not None else 1,)
    shape = (*shape, space.n_slots, max(space.n_codes))
    return [
        pf.CostTable.build(
            space,
            metric=f"cost {i}",
            unit=f"u{i}",
            device="any",
            constants=np.full(shape[0], 20.0),
            # Some entries are below zero: a fitted table has such.
            entries=rng.integers(-1, 12, size=shape).astype(float),
            reduce="max" if i in largest else "sum",
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("name", ["nasbench201", "compofa-mbv3"])
@pytest.mark.parametrize("largest", [(), (1,)])
def test_the_least_is_the_least_of_all(name, largest):
    space = pf.spaces.get(name)
    stack = pf.costs.stack(random_tables(space, 3, 0, largest))
    costs = stack(space.enumerate())
    rng = np.random.default_rng(1)
    unmet = 0
    for _ in range(12):
        low, high = stack.bounds.T
        budget = np.floor(low + (high - low) * rng.random(3) ** 3)
        budget[rng.integers(3)] *= rng.choice([1.0, np.inf])
        for column in range(3):
            others = np.delete(np.arange(3), column)
            within = (costs[:, others] <= budget[others]).all(axis=1)
            found = pf.costs.least(stack, budget, column)
            assert found.exact
            if not within.any():
                unmet += 1
                assert found.arch is None
                assert found.cost == np.inf
                continue
            space.validate(found.arch[None])
            own = stack(found.arch[None])[0]
            assert own[column] == found.cost == costs[within, column].min()
            assert (own[others] <= budget[others]).all()
    assert 0 < unmet < 36


def test_resolutions_and_depths_are_looked_through():
    space = pf.spaces.get("mbv3-tiny", resolutions=(16, 32))
    tables = [pf.costs.macs(space), pf.costs.parameters(space), pf.costs.peak_memory(space)]
    stack = pf.costs.stack(tables)
    archs = space.sample(20_000, seed=0, distribution="decisions")
    costs = stack(archs)
    for budget in costs[:8]:
        for column in range(3):
            found = pf.costs.least(stack, budget, column)
            others = np.delete(np.arange(3), column)
            within = (costs[:, others] <= budget[others]).all(axis=1)
            assert found.exact
            assert found.cost <= costs[within, column].min()
            assert (stack(found.arch[None])[0, others] <= budget[others]).all()


def test_what_is_cut_short_does_not_claim_to_be_exact(monkeypatch):
    space = pf.spaces.get("ofa-mbv3")
    stack = pf.costs.stack(random_tables(space, 4, 2))
    low, high = stack.bounds.T
    budget = low + 0.6 * (high - low)
    monkeypatch.setitem(pf.costs.least.__globals__, "_LABELS", 50)
    found = pf.costs.least(stack, budget, 0)
    assert not found.exact
    assert found.arch is not None
    assert (stack(found.arch[None])[0, 1:] <= budget[1:]).all()


def test_cautious_tables_are_met_by_their_upper_bounds():
    space = pf.spaces.get("mbv3-tiny")
    archs = np.unique(space.sample(300, seed=4, distribution="decisions"), axis=0)
    values = pf.costs.macs(space)(archs) * np.random.default_rng(0).normal(1, 0.03, len(archs))
    table = pf.costs.fit(space, archs, values / 1e6, metric="latency", unit="ms").cautious(1.6)
    stack = pf.costs.stack([table, pf.costs.parameters(space)])
    low, high = stack.bounds.T
    budget = low + 0.4 * (high - low)
    found = pf.costs.least(stack, budget, 1)
    assert not found.exact
    assert stack(found.arch[None])[0, 0] <= budget[0]


def test_a_refusal_names_what_can_be_typed_back():
    space = pf.spaces.get("nasbench201")
    tables = random_tables(space, 2, 3)
    stack = pf.costs.stack(tables)
    costs = stack(space.enumerate())
    # Neither alone is out of reach, both together are.
    budget = stack.bounds[:, 0] + 1
    assert not (costs <= budget).all(axis=1).any()
    text = not_together(stack, budget)
    nearest = [costs[costs[:, 1 - c] <= budget[1 - c], c].min() for c in range(2)]
    assert f"nearest, with the other parts as they are: {nearest[0]:g} u0 or {nearest[1]:g} u1" in (
        text
    )
    assert text.startswith("no architecture of 'nasbench201' meets budget")
    three = pf.costs.stack(random_tables(space, 3, 4))
    assert "allow more of several" in not_together(three, three.bounds[:, 0])


def test_a_rounding_above_a_bound_is_above_it(cell):
    """The cheapest that is let through for rounding does not hide one that is within."""
    entries = np.random.default_rng(0).random((1, 6, 6))
    latency = pf.CostTable.build(
        cell, metric="latency", unit="ms", device="any", constants=[1.0], entries=entries
    )
    stack = pf.costs.stack([pf.costs.macs(cell), latency])
    costs = stack(cell.enumerate())
    for front in costs[pf.pareto.is_non_dominated(costs)]:
        for share in (1e-10, 1e-14):
            budget = front * (1 - share)
            for column in range(2):
                within = costs[:, 1 - column] <= budget[1 - column]
                found = pf.costs.least(stack, budget, column)
                assert found.cost == costs[within, column].min(initial=np.inf)


@pytest.mark.parametrize(
    ("budget", "column", "message"),
    [
        ([1e8, 1e6], 2, "column should be"),
        ([1e8, 1e6], -1, "column should be"),
        ([1e8], 0, "one per table"),
        ([np.nan, 1e6], 0, "NaN"),
    ],
)
def test_bounds_that_are_none_are_refused(cell, budget, column, message):
    stack = pf.costs.stack([pf.costs.macs(cell), pf.costs.parameters(cell)])
    with pytest.raises(pf.errors.InvalidInputError, match=message):
        pf.costs.least(stack, budget, column)
