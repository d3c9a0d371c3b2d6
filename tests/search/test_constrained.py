from __future__ import annotations

import numpy as np
import pytest
from tests.conftest import smooth_top1

import pnag_fast as pf
from pnag_fast.accuracy import AccuracyModel
from pnag_fast.search import Front, constrained


def fitted(space, n=300):
    pytest.importorskip("torch")
    archs = np.unique(space.sample(n, seed=3), axis=0)
    return pf.accuracy.fit(space, archs, smooth_top1(space, archs), epochs=60)


def tabulated(space):
    archs = space.enumerate()
    return pf.accuracy.table(space, archs, smooth_top1(space, archs))


def some_front(space, model, tables, n=60):
    archs = space.sample(n, seed=1)
    archs = np.concatenate([archs, pf.search.extremes(tables)])
    return Front.of(
        archs,
        model.predict(archs),
        pf.costs.stack(tables)(archs),
        tables,
        accuracy_source="",
        evaluations=n,
        seconds=0.0,
    )


def peak(space):
    """A cost that takes the largest entry."""
    entries = np.nan_to_num(pf.costs.parameters(space).entries)
    constants = np.full(len(entries), 1.0)
    return pf.CostTable.build(
        space,
        metric="peak memory",
        unit="bytes",
        device="any",
        constants=constants,
        entries=entries,
        reduce="max",
    )


def bounds(space, tables, n, seed):
    """Bounds that a random architecture meets, some of them open."""
    rng = np.random.default_rng(seed)
    costs = pf.costs.stack(tables)(space.sample(n, seed=seed + 1))
    return np.where(rng.random(costs.shape) < 0.2, np.inf, costs * rng.uniform(1, 1.2, costs.shape))


@pytest.mark.parametrize(
    ("name", "options", "make"),
    [
        ("nasbench201", {}, fitted),
        ("nasbench201", {}, tabulated),
        ("mbv3-tiny", {"resolutions": (16, 32)}, fitted),
        ("compofa-mbv3", {}, fitted),
    ],
)
def test_answers_are_within_the_bounds_and_not_worse_than_the_start(name, options, make):
    space = pf.spaces.get(name, **options)
    model: AccuracyModel = make(space)
    tables = [pf.costs.macs(space), pf.costs.parameters(space), peak(space)]
    archive = some_front(space, model, tables)
    budgets = bounds(space, tables, 25, 5)
    known = archive.best(budgets)
    archs, merit = archive.archs[known], np.where(known >= 0, archive.top1[known], -np.inf)
    frozen = [a.copy() for a in (budgets, archs, merit)]
    for array in (budgets, archs, merit):
        array.flags.writeable = False
    asked = []
    predict = type(model).predict
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            type(model),
            "predict",
            lambda self, rows: asked.append(len(rows)) or predict(self, rows),
        )
        found, value = constrained(model, archive, budgets, archs, merit, evaluations=300, seed=2)
    assert 0 < sum(asked) <= 300 * len(budgets)
    for before, after in zip(frozen, (budgets, archs, merit), strict=True):
        np.testing.assert_array_equal(before, after)
    space.validate(found)
    met = np.isfinite(value)
    assert (pf.costs.stack(tables)(found[met]) <= budgets[met]).all()
    assert (value >= merit).all()
    assert (value > merit + 1e-9).mean() > 0.5
    # Every vector was met by a random architecture; a search finds one as well.
    assert met.mean() > 0.9
    np.testing.assert_allclose(value[met], model.predict(found[met]), atol=1e-6)
    again, same = constrained(
        model, archive, budgets, archs, merit, evaluations=300, seed=2, threads=3
    )
    np.testing.assert_array_equal(found, again)
    np.testing.assert_array_equal(value, same)


def test_the_best_of_a_small_space_is_found():
    space = pf.spaces.get("nasbench201")
    model = fitted(space)
    tables = [pf.costs.macs(space), pf.costs.parameters(space), peak(space)]
    archive = some_front(space, model, tables)
    budgets = bounds(space, tables, 30, 7)
    known = archive.best(budgets)
    merit = np.where(known >= 0, archive.top1[known], -np.inf)
    value = constrained(
        model, archive, budgets, archive.archs[known], merit, evaluations=1500, seed=0
    )[1]
    every = space.enumerate()
    costs, top1 = pf.costs.stack(tables)(every), model.predict(every)
    best = np.array([top1[(costs <= budget).all(axis=1)].max() for budget in budgets])
    assert (value >= best - 1e-6).mean() >= 0.9


def test_cautious_tables_hold_their_upper_bounds():
    space = pf.spaces.get("mbv3-tiny")
    model = fitted(space)
    archs = np.unique(space.sample(300, seed=4, distribution="decisions"), axis=0)
    macs = pf.costs.macs(space)
    rng = np.random.default_rng(0)
    table = pf.costs.fit(
        space,
        archs,
        macs(archs) / 1e6 * rng.normal(1, 0.03, len(archs)),
        metric="latency",
        unit="ms",
    )
    assert table.posterior is not None
    tables = [table.cautious(1.645), pf.costs.parameters(space)]
    archive = some_front(space, model, tables)
    budgets = bounds(space, tables, 20, 9)
    known = archive.best(budgets)
    merit = np.where(known >= 0, archive.top1[known], -np.inf)
    found, value = constrained(
        model, archive, budgets, archive.archs[known], merit, evaluations=400, seed=1
    )
    met = np.isfinite(value)
    assert met.mean() > 0.8
    assert (value > merit).mean() > 0.5
    assert (pf.costs.stack(tables)(found[met]) <= budgets[met]).all()


def test_an_objective_that_is_to_be_small_is_made_small():
    space = pf.spaces.get("mbv3-tiny")
    archs = space.sample(420, seed=8)
    objective = pf.accuracy.Objective("loss", direction="min", low=0.0)
    pytest.importorskip("torch")
    loss = 10 * (1 - smooth_top1(space, archs))
    model = pf.accuracy.fit(space, archs, loss, objective=objective, epochs=60)
    tables = [pf.costs.macs(space), pf.costs.parameters(space)]
    start = space.sample(80, seed=2)
    front = Front.of(
        start,
        model.predict(start),
        pf.costs.stack(tables)(start),
        tables,
        accuracy_source="",
        evaluations=1,
        seconds=0.0,
        objective=objective,
    )
    budgets = np.full((1, 2), np.inf)
    known = front.best(budgets)
    merit = objective.merit(front.top1[known])
    found, value = constrained(
        model, front, budgets, front.archs[known], merit, evaluations=400, seed=1
    )
    assert model.predict(found)[0] == pytest.approx(-value[0])
    assert value[0] > merit[0]


def test_no_bounds_and_no_questions_change_nothing():
    space = pf.spaces.get("nasbench201")
    model = tabulated(space)
    tables = [pf.costs.macs(space), pf.costs.parameters(space)]
    archive = some_front(space, model, tables)
    archs, merit = constrained(
        model, archive, np.empty((0, 2)), archive.archs[:0], np.empty(0), evaluations=9, seed=0
    )
    assert archs.shape == (0, space.n_slots)
    assert merit.shape == (0,)
    archs, merit = constrained(
        model,
        archive,
        archive.costs[:3],
        archive.archs[:3],
        archive.top1[:3],
        evaluations=0,
        seed=0,
    )
    np.testing.assert_array_equal(archs, archive.archs[:3])


@pytest.mark.parametrize("bound", [0.0, -1.0, 1e-310])
def test_bounds_that_nothing_can_meet_are_exceeded_as_little_as_can_be(bound):
    space = pf.spaces.get("mbv3-tiny", resolutions=(16, 32))
    model = fitted(space)
    tables = [pf.costs.macs(space), pf.costs.parameters(space)]
    archive = some_front(space, model, tables)
    nothing = np.zeros((1, space.n_slots), dtype=np.uint8)
    budgets = np.array([[np.inf, bound]])
    found, merit = constrained(
        model, archive, budgets, nothing, np.array([-np.inf]), evaluations=200, seed=0
    )
    space.validate(found)
    assert merit == -np.inf
    assert tables[1](found) == tables[1].bounds[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgets": np.array([[1e8, np.nan]])}, "NaN"),
        ({"budgets": np.array([[1e8]])}, "one column for each cost"),
        ({"merit": np.zeros(2)}, "merit has shape"),
        ({"archs": np.zeros((2, 6), dtype=np.uint8)}, "one row for each row of budgets"),
        ({"archs": np.zeros((1, 6), dtype=np.uint8)}, "row 0"),
        ({"evaluations": -1}, "evaluations"),
    ],
)
def test_bounds_and_answers_that_are_none_are_refused(cell, change, message):
    model = tabulated(cell)
    tables = [pf.costs.macs(cell), pf.costs.parameters(cell)]
    given = {
        "budgets": np.array([[1e8, 1e6]]),
        "archs": cell.sample(1, seed=0),
        "merit": np.array([0.5]),
        "evaluations": 10,
        **change,
    }
    with pytest.raises(pf.errors.InvalidInputError, match=message):
        constrained(model, some_front(cell, model, tables), seed=0, **given)
