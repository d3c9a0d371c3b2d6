from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.costs import Posterior
from pnag_fast.costs.features import n_features
from pnag_fast.errors import BudgetInfeasibleError, InvalidInputError

SETTINGS = pf.generator.ExpertSettings(evaluations=2500, steps=20, hidden=16)
DOWN = pf.accuracy.Objective("error", unit="mm", direction="min")


@pytest.fixture(scope="module", params=["max", "min"])
def cells(cell, request):
    """A generator of a space that can be enumerated, for an objective of either direction."""
    archs = cell.enumerate()
    rng = np.random.default_rng(0)
    # None, skip, 1x1, 3x3, pool: what is dearer is better, on some edges more than on others.
    gain = np.array([0, 0, 0.2, 0.5, 1, 0.3]) * rng.uniform(0.3, 1, size=(cell.n_slots, 1))
    good = gain[np.arange(cell.n_slots), archs].sum(axis=1)
    good = 0.2 + 0.6 * (good - good.min()) / np.ptp(good)
    if request.param == "max":
        model = pf.accuracy.table(cell, archs, good)
    else:
        model = pf.accuracy.table(cell, archs, 100 * (1 - good), objective=DOWN)
    tables = [pf.costs.macs(cell), pf.costs.parameters(cell)]
    return pf.train_generator(cell, model, tables, settings=SETTINGS)


def test_the_cheapest_that_is_good_enough(cells):
    archs = cells.space.enumerate()
    quality, costs = cells.model.predict(archs), cells.stack(archs)
    merit = cells.model.objective.merit
    asked = np.quantile(quality, np.linspace(0.02, 0.98, 9))
    out = cells.cheapest(asked)
    good = merit(quality) >= merit(asked)[:, None]
    np.testing.assert_array_equal(out.costs[:, 0], [costs[row, 0].min() for row in good])
    assert (merit(out.quality) >= merit(asked)).all()
    assert np.isinf(out.budgets).all()
    # With a bound on another cost.
    bound = float(np.median(costs[:, 1]))
    out = cells.cheapest(asked, budgets=[np.inf, bound], on_infeasible="mark")
    within = costs[:, 1] <= bound
    for row, of in enumerate(good & within):
        assert out.feasible[row] == of.any()
        if of.any():
            assert out.costs[row, 0] == costs[of, 0].min()
            assert out.costs[row, 1] <= bound
    assert not out.feasible.all()
    missed = int(np.argmin(out.feasible))
    assert "within the other bounds; ask for" in out.notes[missed]
    assert (out.archs[missed] == 0).all()
    assert np.isnan(out.costs[missed]).all()


def test_other_bounds_are_searched_within(tiny, tiny_model, tiny_table):
    tables = [tiny_table, pf.costs.parameters(tiny)]
    generator = pf.train_generator(tiny, tiny_model, tables, settings=SETTINGS)
    bounds = [np.inf, float(np.mean(tables[1].bounds))]
    asked = float(np.quantile(generator.archive.top1, 0.4))
    (cost,), arch = generator.cheapest(asked, budgets=bounds).costs[:, 0], generator.archive
    fits = (arch.top1 >= asked) & (arch.costs[:, 1] <= bounds[1])
    assert cost <= arch.costs[fits, 0].min()
    # Little below it a search as long finds nothing as good.
    below = generator.generate([[0.99 * cost, bounds[1]]], on_infeasible="mark")
    assert not below.top1[0] >= asked


def test_what_a_budget_is_answered_is_reached(tiny, tiny_model, tiny_table):
    """Within other bounds a search answers better than the archive: so it does here."""
    tables = [tiny_table, pf.costs.parameters(tiny), pf.costs.macs(tiny)]
    settings = dataclasses.replace(SETTINGS, evaluations=400, between=0)
    generator = pf.train_generator(tiny, tiny_model, tables, settings=settings)
    low, high = np.array([table.bounds for table in tables]).T
    beyond = 0
    for share in np.linspace(0.2, 0.8, 7):
        budget = low + share * (high - low)
        best = float(generator.generate([budget]).top1[0])
        known = generator.archive.best(budget[None])[0]
        beyond += best > generator.archive.top1[known] + 1e-6
        out = generator.cheapest(best - 1e-6, budgets=budget)
        assert (out.costs <= budget).all()
        with pytest.raises(BudgetInfeasibleError, match="ask for at most") as refused:
            generator.cheapest(1.0, budgets=budget)
        offered = float(re.search(r"at most ([\d.]+) %", str(refused.value))[1]) / 100
        assert 0 <= best - offered <= 1e-4
    assert beyond
    # Bounds that cannot be kept together are refused as budgets are.
    reverse = dataclasses.replace(
        tiny_table, device="reverse", entries=-tiny_table.entries, constants=high[:1] + 1
    )
    budget = [1.0001 * reverse.bounds[0], 1.0001 * low[1], np.inf]
    with pytest.raises(BudgetInfeasibleError, match="nearest, with the other parts"):
        generator.cheapest(0.0, budgets=budget, device=reverse)


def test_what_is_offered_instead_can_be_asked_for(cells):
    objective = cells.model.objective
    beyond = 1.0 if objective.direction == "max" else 0.0
    with pytest.raises(BudgetInfeasibleError, match="no network known") as refused:
        cells.cheapest(beyond)
    offered = float(re.search(r"ask for .* ([\d.]+)", str(refused.value))[1])
    offered = offered / 100 if objective.is_fraction else offered
    assert cells.cheapest(offered).feasible.all()
    with pytest.raises(InvalidInputError, match="quality"):
        cells.cheapest(np.nan)
    with pytest.raises(InvalidInputError, match=r"shape \(2,\)"):
        cells.cheapest(beyond, budgets=[1.0])
    with pytest.raises(InvalidInputError, match="a number or a list"):
        cells.cheapest([[0.5]])


def test_small_fractions_that_are_offered_can_be_asked_for(cell):
    archs = cell.enumerate()
    macs = pf.costs.macs(cell)
    top1 = 0.0137 * macs(archs) / macs(archs).max()
    model = pf.accuracy.table(cell, archs, top1)
    generator = pf.train_generator(cell, model, [macs], settings=SETTINGS)
    for budget in np.linspace(*macs.bounds, 9):
        out = generator.cheapest(0.5, budgets=[budget], on_infeasible="mark")
        offered = float(re.search(r"at most ([\d.]+) %", out.notes[0])[1]) / 100
        assert generator.cheapest(offered, budgets=[budget]).feasible.all()


def test_rows_without_an_answer_have_no_cost_to_look_up():
    space = pf.spaces.get("compofa-mbv3")
    archs = space.enumerate()
    macs = pf.costs.macs(space)
    # Of such a table nobody knows what the codes of no architecture cost.
    fitted = pf.costs.fit(
        space, archs, macs(archs) / 1e6, metric="latency", unit="ms", device="fitted"
    )
    model = pf.accuracy.table(space, archs, 0.5 + 0.2 * macs(archs) / macs(archs).max())
    generator = pf.train_generator(space, model, [fitted], settings=SETTINGS)
    out = generator.cheapest([0.6, 0.99], on_infeasible="mark")
    np.testing.assert_array_equal(out.feasible, [True, False])
    assert np.isnan(out.gap[1])


def test_confidence_asks_for_the_bound(tiny_generator, tiny_model, tiny_table, tiny):
    asked = float(np.median(tiny_generator.archive.top1))
    plain, sure = tiny_generator.cheapest(asked), tiny_generator.cheapest(asked, confidence=0.95)
    assert plain.top1[0] >= asked > plain.top1[0] - 1.645 * plain.top1_std[0]
    assert sure.top1[0] - 1.6448 * sure.top1_std[0] >= asked
    assert sure.costs[0, 0] > plain.costs[0, 0]
    assert tiny_generator.cheapest(asked, confidence=0.5).costs == plain.costs
    with pytest.raises(BudgetInfeasibleError, match="with this confidence; ask for at most"):
        tiny_generator.cheapest(float(tiny_generator.archive.top1.max()), confidence=0.99)
    # A bound holds for the mean and as many deviations.
    root = np.zeros((n_features(tiny), 1))
    unsure = dataclasses.replace(tiny_table, device="new", posterior=Posterior(root, 0.1))
    budget = [float(plain.costs[0, 0] * 1.05)]
    assert tiny_generator.cheapest(asked, budgets=budget, device=unsure).feasible.all()
    with pytest.raises(BudgetInfeasibleError, match="within the other bounds"):
        tiny_generator.cheapest(asked, budgets=budget, device=unsure, confidence=0.95)
