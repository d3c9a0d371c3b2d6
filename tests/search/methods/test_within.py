"""Bounds that a search keeps to: constrained dominance, and what an oracle is spared."""

from __future__ import annotations

import numpy as np
import pytest
from tests.conftest import smooth_top1

import pnag_fast as pf
from pnag_fast.errors import BudgetInfeasibleError, InvalidInputError
from pnag_fast.search import Draws, Problem
from pnag_fast.search.constrained import excess
from pnag_fast.search.methods.nsga2 import Nsga2


@pytest.fixture(scope="module")
def asking(cell):
    """An oracle of cells that writes down what it is asked, and two costs."""
    archs = cell.enumerate()
    top1 = smooth_top1(cell, archs)
    model = pf.accuracy.table(cell, archs, top1)
    rng = np.random.default_rng(3)
    entries = rng.uniform(0.1, 1.0, (1, cell.n_slots, max(cell.n_codes)))
    energy = pf.CostTable.build(
        cell, metric="energy", unit="mJ", device="d", constants=[1.0], entries=entries
    )
    tables = [pf.costs.macs(cell), energy]

    def oracle(fails=None):
        asked = []

        def judged(rows):
            asked.extend(row.tobytes() for row in rows)
            if fails is not None and fails(rows).any():
                raise OSError("no such luck")
            return model.predict(rows)

        return pf.accuracy.oracle(cell, judged), asked

    return cell, archs, top1, tables, oracle


def tight(tables, archs, share):
    """Bounds that this share of all architectures meets together."""
    costs = pf.costs.stack(tables)(archs)
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        bounds = np.quantile(costs, middle, axis=0)
        low, high = (
            (low, middle) if (costs <= bounds).all(axis=1).mean() > share else (middle, high)
        )
    return np.quantile(costs, high, axis=0)


@pytest.mark.parametrize("share", [0.3, 0.001])
def test_nothing_beyond_the_bounds_is_asked_or_returned(asking, share):
    space, archs, top1, tables, oracle = asking
    bounds = tight(tables, archs, share)
    judge, asked = oracle()
    front = pf.search.nsga2(space, judge, tables, budgets=bounds, evaluations=150, seed=1)
    rows = np.frombuffer(b"".join(asked), dtype=np.uint8).reshape(-1, space.n_slots)
    costs = pf.costs.stack(tables)
    assert (costs(rows) <= bounds).all()
    assert (front.costs <= bounds).all()
    within = (costs(archs) <= bounds).all(axis=1)
    assert len(asked) == min(front.evaluations, within.sum())
    # The best within the bounds is found, or nearly.
    assert front.top1.max() > np.quantile(top1[within], 0.95) - 1e-9


def test_bounds_lead_to_better_answers_than_filtering(asking):
    """Questions within the bounds are worth more than those that are thrown away."""
    space, archs, _, tables, oracle = asking
    bounds = tight(tables, archs, 0.02)
    best = {True: [], False: []}
    for seed in range(3):
        for bounded, values in best.items():
            options = {"budgets": bounds} if bounded else {}
            front = pf.search.nsga2(
                space, oracle()[0], tables, evaluations=120, population=15, seed=seed, **options
            )
            within = (front.costs <= bounds).all(axis=1)
            values.append(front.top1[within].max(initial=0))
    assert np.mean(best[True]) > np.mean(best[False])


def test_open_bounds_leave_the_search_as_it_is(asking):
    space, _, _, tables, oracle = asking
    plain, bounded = (
        pf.search.nsga2(space, oracle()[0], tables, evaluations=80, population=10, **options)
        for options in ({}, {"budgets": [np.inf, np.inf]})
    )
    assert plain.evaluations == bounded.evaluations == 80
    assert (bounded.costs <= pf.costs.stack(tables).bounds[:, 1]).all()


def test_ranks_are_those_of_constrained_dominance(asking):
    """By the definition of section VI, pair by pair; what failed is worse than all."""
    space, archs, _, tables, oracle = asking
    bounds = tight(tables, archs, 0.2)
    method = Nsga2(budgets=bounds, population=40)
    judge, _ = oracle(fails=lambda rows: rows[:, 0] == 2)
    problem = Problem(space, judge, tables, evaluations=200)
    state = method.begin(problem, Draws(0))
    values, rank = state["points"], state["rank"]
    over = excess(values[:, 1:], np.asarray(bounds))
    failed = (over == 0) & (state["archs"][:, 0] == 2)
    assert failed.any()
    assert 5 < (over > 0).sum() < 35
    for i in range(len(rank)):
        for j in range(len(rank)):
            if failed[i] or failed[j]:
                assert failed[i] <= failed[j] or rank[i] > rank[j]
            elif over[i] != over[j]:
                # The one is feasible and the other is not, or both are not.
                assert (rank[i] < rank[j]) == (over[i] < over[j])
            elif over[i] == 0 and (values[i] <= values[j]).all() and (values[i] < values[j]).any():
                assert rank[i] < rank[j]


def test_what_failed_is_nobodys_parent_for_long(asking):
    """Failures are cheap here: as the worst quality alone they would be an end of the front."""
    space, _, _, tables, oracle = asking
    cheap = tables[0].cheapest()[0]
    judge, asked = oracle(fails=lambda rows: rows[:, 0] == cheap)
    front = pf.search.nsga2(space, judge, tables, evaluations=200, population=20)
    failed = np.array([row[0] == cheap for row in asked])
    assert failed[:20].sum() > 0
    assert failed[-80:].mean() < 0.5 * failed[:40].mean()
    assert not (front.archs[:, 0] == cheap).any()


@pytest.mark.parametrize("name", ["nsga2", "evolution"])
def test_bounds_that_nothing_meets_are_refused_before_a_question(asking, name):
    """Each of them can be met, both cannot; the refusal says what can, and that is accepted."""
    space, archs, _, tables, oracle = asking
    opposed = pf.CostTable.build(
        space,
        metric="energy",
        unit="mJ",
        device="d",
        constants=[1.0],
        entries=1.0 - tables[0].entries / tables[0].entries.max(),
    )
    both = [tables[0], opposed]
    bounds = np.quantile(pf.costs.stack(both)(archs), 0.02, axis=0)
    judge, asked = oracle()
    search = getattr(pf.search, name)
    with pytest.raises(BudgetInfeasibleError, match="together they are not; nearest") as refused:
        search(space, judge, both, budgets=bounds[None])
    assert not asked
    nearest = str(refused.value).split("as they are: ")[1]
    first, second = (float(text.split()[0]) for text in nearest.split(";")[0].split(" or "))
    for near in ([first, bounds[1]], [bounds[0], second]):
        front = search(space, judge, both, budgets=[near], evaluations=20)
        assert (front.costs <= near).all()
    with pytest.raises(BudgetInfeasibleError, match="below the cheapest"):
        search(space, judge, both, budgets=[[1.0, np.inf]])


def test_the_only_architecture_within_is_found(asking):
    """Without a question to anything else, however rare it is."""
    space, _, _, tables, oracle = asking
    bounds = [tables[0].bounds[0], np.inf]
    judge, asked = oracle()
    front = pf.search.nsga2(space, judge, tables, budgets=bounds, evaluations=10)
    assert asked
    assert (front.costs[:, 0] == bounds[0]).all()
    failing, _ = oracle(fails=lambda rows: np.ones(len(rows), dtype=bool))
    with pytest.raises(InvalidInputError, match="failed for each|has a value and is within"):
        pf.search.nsga2(space, failing, tables, budgets=bounds, evaluations=10)


def test_one_vector_is_what_nsga2_takes(asking):
    space, _, _, tables, oracle = asking
    low = pf.costs.stack(tables).bounds[:, 0]
    for budgets, message in (
        ([low * 2, low * 3], "one vector of bounds"),
        ([1e8, np.nan], "not a positive number"),
        ([1e8, 3.0, 4.0], "shape"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            pf.search.nsga2(space, oracle()[0], tables, budgets=budgets)


def test_an_oracle_has_generations_by_default(asking):
    """300 questions are several generations for every budget, not a part of the first."""
    space, _, _, tables, oracle = asking
    for name in ("nsga2", "evolution"):
        judge, asked = oracle()
        front = getattr(pf.search, name)(space, judge, tables[:1])
        assert front.evaluations == len(set(asked)) == 300
        costs = tables[0](np.frombuffer(b"".join(asked), np.uint8).reshape(-1, space.n_slots))
        low, high = tables[0].bounds
        # Dear architectures are asked about as well as cheap ones.
        assert costs.max() > low + 0.4 * (high - low)
        assert costs.min() < low + 0.2 * (high - low)


def test_a_search_within_bounds_goes_on_after_a_kill(asking, tmp_path, monkeypatch):
    monkeypatch.setitem(pf.runs.Checkpoint.__init__.__kwdefaults__, "write_every_s", 0.0)
    space, archs, _, tables, oracle = asking
    bounds = tight(tables, archs, 0.05)
    options = {"budgets": bounds, "evaluations": 90, "population": 12, "seed": 4}

    def fails(rows):
        return rows[:, 1] == 3

    whole = pf.search.nsga2(space, oracle(fails)[0], tables, **options)

    class Killed(BaseException):
        pass

    def die(what, count, limit):
        if count > 40:
            raise Killed

    path = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        pf.search.nsga2(space, oracle(fails)[0], tables, **options, checkpoint=path, progress=die)
    resumed = pf.search.nsga2(space, oracle(fails)[0], tables, **options, checkpoint=path)
    np.testing.assert_array_equal(resumed.archs, whole.archs)
    assert resumed.evaluations == whole.evaluations
