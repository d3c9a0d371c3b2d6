from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import BudgetInfeasibleError, InvalidInputError

FOR_BUDGETS = ("evolution", "reinforce", "independent")


def gap(found, reference, budgets):
    """Points of top-1 below a reference front; a budget without an answer fails the test."""
    rows, best = found.best(budgets), reference.best(budgets)
    assert (rows >= 0).all()
    return 100 * (reference.top1[best] - found.top1[rows])


def grid(table, n=8):
    low, high = table.bounds
    return (low + (high - low) * (np.arange(n) + 1) / n)[:, None]


def test_evolution_finds_the_best_of_each_budget(tiny, tiny_model, tiny_table):
    budgets = grid(tiny_table)
    found = pf.search.evolution(tiny, tiny_model, [tiny_table], budgets=budgets, generations=60)
    assert found.evaluations == 8 * 100 * 61
    reference = pf.search.front(tiny, tiny_model, [tiny_table], evaluations=50_000)
    # Single budgets end in local optima; the next larger budget then knows better.
    assert np.median(gap(found, reference, budgets)) < 0.3
    random = pf.search.random(tiny, tiny_model, [tiny_table], evaluations=found.evaluations, seed=1)
    wide = budgets[1:]
    assert gap(found, reference, wide).mean() < 0.25 * gap(random, reference, wide).mean()


def test_evolution_never_leaves_its_budget(tiny, tiny_model, tiny_table):
    # The cheapest architecture alone fits the first budget: no draw of decisions ever does.
    low, high = tiny_table.bounds
    for budget in (low, low * 1.02, (low + high) / 2):
        found = pf.search.evolution(
            tiny, tiny_model, [tiny_table], budgets=budget, population=20, generations=5
        )
        assert (found.costs <= budget).all()
        assert len(found) >= 1


def test_policy_gradients_learn(tiny, tiny_model, tiny_table):
    budgets = grid(tiny_table)[1:]
    reference = pf.search.front(tiny, tiny_model, [tiny_table], evaluations=50_000)
    random = pf.search.random(tiny, tiny_model, [tiny_table], evaluations=10_000)
    for name in ("reinforce", "independent"):
        found = getattr(pf.search, name)(
            tiny,
            tiny_model,
            [tiny_table],
            budgets=budgets,
            reward="tunas",
            evaluations=10_000,
        )
        ours = gap(found, reference, budgets).mean()
        assert ours < 0.7 * gap(random, reference, budgets).mean(), name


def test_shared_logits_are_what_tells_joint_from_independent(tiny, tiny_model, tiny_table):
    runs = [
        getattr(pf.search, name)(tiny, tiny_model, [tiny_table], evaluations=3000)
        for name in ("reinforce", "independent")
    ]
    assert runs[0].archs.shape != runs[1].archs.shape or (runs[0].archs != runs[1].archs).any()


@pytest.mark.parametrize("reward", ["mnasnet", "tunas"])
@pytest.mark.parametrize("name", ["nasbench201", "compofa-mbv3"])
def test_spaces_without_depths_and_with_rows(reward, name):
    pytest.importorskip("torch")
    space = pf.spaces.get(name)
    macs = pf.costs.macs(space)
    archs = space.sample(200, seed=0)
    model = pf.accuracy.fit(space, archs, 0.5 + 0.3 * macs(archs) / macs.bounds[1])
    found = pf.search.reinforce(space, model, [macs], reward=reward, evaluations=1000)
    space.validate(found.archs)
    found = pf.search.evolution(space, model, [macs], generations=3)
    space.validate(found.archs)


def test_several_costs(tiny, tiny_model, tiny_table):
    tables = [tiny_table, pf.costs.parameters(tiny)]
    bounds = pf.costs.stack(tables).bounds
    budgets = bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * np.array([[0.5, 0.5], [0.9, 0.3]])
    for name in FOR_BUDGETS:
        found = getattr(pf.search, name)(
            tiny, tiny_model, tables, budgets=budgets, evaluations=2000
        )
        assert found.costs.shape == (len(found), 2)
        assert (found.best(budgets) >= 0).all()


@pytest.mark.parametrize("name", FOR_BUDGETS)
def test_bad_budgets_are_named(tiny, tiny_model, tiny_table, name):
    search = getattr(pf.search, name)
    low = tiny_table.bounds[0]
    for budget, error, message in (
        (0.5 * low, BudgetInfeasibleError, "below the cheapest"),
        (np.nan, InvalidInputError, "not a positive number"),
        ([], InvalidInputError, "at least one budget"),
        ([[low, low]], InvalidInputError, "shape"),
        ("fast", InvalidInputError, "numbers"),
        (low / 1000, BudgetInfeasibleError, "is it in ms"),
    ):
        with pytest.raises(error, match=message):
            search(tiny, tiny_model, [tiny_table], budgets=budget)
    with pytest.raises(InvalidInputError, match="evaluations"):
        search(tiny, tiny_model, [tiny_table], evaluations=0)


@pytest.mark.parametrize("name", FOR_BUDGETS)
def test_an_open_budget_is_the_dearest(tiny, tiny_model, tiny_table, name):
    search = getattr(pf.search, name)
    low, high = tiny_table.bounds
    a, b = (
        search(tiny, tiny_model, [tiny_table], budgets=[(low + high) / 2, top], evaluations=2000)
        for top in (high, np.inf)
    )
    np.testing.assert_array_equal(a.archs, b.archs)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("evolution", {"population": 3}),
        ("evolution", {"generations": 0}),
        ("evolution", {"parent_ratio": 1.5}),
        ("evolution", {"mutation_ratio": -0.1}),
        ("reinforce", {"reward": "mine"}),
        ("reinforce", {"exponent": 0.07}),
        ("independent", {"samples": 1}),
    ],
)
def test_bad_settings_are_named(tiny, tiny_model, tiny_table, name, options):
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        getattr(pf.search, name)(tiny, tiny_model, [tiny_table], **options)
