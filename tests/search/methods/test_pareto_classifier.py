from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import smooth_top1

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError
from pnag_fast.search import Draws, Problem
from pnag_fast.search.methods import pareto_classifier
from pnag_fast.search.methods.pareto_classifier import alpha_dominated


def by_definition(x, references, alpha):
    """Ikeda et al. 2001, for one point, objective by objective."""
    for r in references:
        less = [a - b for a, b in zip(r, x, strict=True)]
        weighed = []
        for i, own in enumerate(less):
            weight = alpha if i == 0 else max(alpha, 0)
            weighed.append(own + weight * sum(d for j, d in enumerate(less) if j != i))
        if all(g <= 0 for g in weighed) and any(g < 0 for g in weighed):
            return True
    return False


def problem_of(space, top1, tables, *, asked, seed=0):
    archs = space.enumerate()
    problem = Problem(space, pf.accuracy.table(space, archs, top1), tables, evaluations=10**5)
    archs, merit, _ = problem.evaluate(space.sample(asked, seed=seed))
    return problem, archs, merit


def energy(space, seed=9):
    entries = np.random.default_rng(seed).uniform(0.1, 1.0, (1, space.n_slots, max(space.n_codes)))
    return pf.CostTable.build(
        space, metric="energy", unit="mJ", device="d", constants=[1.0], entries=entries
    )


def labels_of(space, *, tables=None, asked=150, most=8, clustering="kmeans"):
    top1 = smooth_top1(space, space.enumerate())
    problem, archs, merit = problem_of(
        space, top1, tables or [pf.costs.parameters(space)], asked=asked
    )
    return problem, archs, merit, pareto_classifier._Labels(problem, archs, merit, most, clustering)


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_an_alpha_of_zero_is_domination_by_brute_force(objectives):
    rng = np.random.default_rng(objectives)
    for _ in range(20):
        # Of few values, so that points tie in some objectives, or in all.
        points, references = (rng.integers(4, size=(n, objectives)) / 3 for n in (60, 5))
        found = alpha_dominated(points, references, 0.0)
        expected = [
            any(
                (r <= x).all() and (r < x).any() for r in references.tolist() for r in [np.array(r)]
            )
            for x in points
        ]
        np.testing.assert_array_equal(found, expected)
        assert 0 < found.sum() < len(found)


@pytest.mark.parametrize("alpha", [-0.7, -0.1, 0.1, 0.6])
def test_alpha_domination_is_its_definition(alpha):
    rng = np.random.default_rng(1)
    for objectives in (2, 3, 4):
        points, references = (rng.random((n, objectives)) for n in (80, 3))
        found = alpha_dominated(points, references, alpha)
        np.testing.assert_array_equal(found, [by_definition(x, references, alpha) for x in points])


def test_a_larger_alpha_dominates_more():
    rng = np.random.default_rng(2)
    points, references = rng.random((500, 3)), rng.random((4, 3))
    found = [alpha_dominated(points, references, a) for a in (-1, -0.5, -0.1, 0, 0.1, 0.5, 0.9)]
    for less, more in itertools.pairwise(found):
        assert (more | ~less).all()
        assert more.sum() > less.sum()


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.3])
def test_labels_of_a_search_are_those_of_all_pairs(cell, alpha):
    for tables in ([pf.costs.macs(cell)], [pf.costs.macs(cell), energy(cell)]):
        problem, archs, merit, labels = labels_of(cell, tables=tables)
        found = labels.dominated(alpha)
        values = np.column_stack([-merit, pf.costs.stack(tables)(archs)])
        if alpha == 0:
            # The members of the front that it compares with are enough to know them by.
            members = np.column_stack([-labels._merit, labels._costs])
            brute = [any((m <= x).all() and (m < x).any() for m in members) for x in values]
            np.testing.assert_array_equal(found, brute)
        # Costs known, one objective is left, and the label says on which side of a value it is.
        boundary = labels.boundary(labels.costs, alpha)
        clear = np.abs(merit - boundary) > 1e-9
        np.testing.assert_array_equal(found[clear], (merit < boundary)[clear])
        assert clear.mean() > 0.8
        assert pf.pareto.is_non_dominated(problem.points).all()


def test_alpha_balances_the_classes(cell):
    _, _, _, labels = labels_of(cell, most=30)
    alone = 1 - labels.dominated(0.0).mean()
    assert alone < 0.15
    alpha = labels.balancing_alpha()
    assert -1 <= alpha < 0
    assert 0.15 <= 1 - labels.dominated(alpha).mean() < 0.25
    # One reference, of six objectives, dominates few.
    tables = [pf.costs.macs(cell), *(energy(cell, seed) for seed in range(4))]
    _, _, _, labels = labels_of(cell, tables=tables, most=1)
    assert 1 - labels.dominated(0.0).mean() > 0.85
    alpha = labels.balancing_alpha()
    assert 0 < alpha < 1
    assert 0.7 < 1 - labels.dominated(alpha).mean() <= 0.85
    # What is balanced is left alone.
    _, _, _, labels = labels_of(cell, tables=[pf.costs.macs(cell), energy(cell)], most=1)
    assert 0.15 < 1 - labels.dominated(0.0).mean() < 0.85
    assert labels.balancing_alpha() == 0


def test_references_are_of_every_cluster():
    rng = np.random.default_rng(3)
    centres = np.linspace(0, 1, 4)
    first = np.concatenate(
        [c + rng.uniform(-0.02, 0.02, n) for c, n in zip(centres, (30, 2, 5, 9), strict=True)]
    )
    front = np.column_stack([first, 1 - first])
    found = pareto_classifier._clustered(front, 4, "kmeans")
    assert len(found) == 4
    np.testing.assert_allclose(np.sort(front[found, 0]), centres, atol=0.02)
    uniform = pareto_classifier._clustered(front, 4, "uniform")
    # Evenly along it, the ends included: the large cluster has most of them.
    assert (np.sort(front[uniform, 0])[:2] < 0.05).all()
    assert first.argmin() in uniform
    assert first.argmax() in uniform
    np.testing.assert_array_equal(pareto_classifier._clustered(front, 46, "kmeans"), range(46))


def test_the_posterior_is_highest_where_its_slope_says(cell):
    archs = cell.sample(120, seed=0)
    x = pareto_classifier._encoder(cell, 0)(archs)
    rng = np.random.default_rng(4)
    edge, side = rng.normal(size=120), np.where(rng.random(120) < 0.4, 1.0, -1.0)
    kernel = pareto_classifier.rational_quadratic(x, x)
    slope, curvature = pareto_classifier._laplace(kernel, edge, side)
    # Rasmussen and Williams, eq. 3.17: there the value is the kernel times the slope.
    value = kernel @ slope
    soft = pareto_classifier._SOFT
    expected = side / soft / (1 + np.exp(side * (value - edge) / soft))
    np.testing.assert_allclose(slope, expected, atol=0.02 / soft)
    assert (curvature > 0).all()


def test_the_classifier_tells_the_classes_of_what_it_has_not_seen(cell):
    everything = cell.enumerate()
    top1 = smooth_top1(cell, everything)
    problem, archs, merit, labels = labels_of(cell, asked=200)
    alpha = labels.balancing_alpha()
    classifier = pareto_classifier._Classifier.trained(
        cell,
        archs,
        merit,
        labels.boundary(labels.costs, alpha),
        ~labels.dominated(alpha),
        Draws(0),
    )
    rows = np.random.default_rng(5).choice(len(everything), 1000, replace=False)
    boundary = labels.boundary(problem.stack(everything[rows]), alpha)
    open_ = np.isfinite(boundary)
    guess = classifier.promise(everything[rows][open_], boundary[open_]) > 0
    truth = (top1[rows] > boundary)[open_]
    assert 0.1 < truth.mean() < 0.9
    assert (guess == truth).mean() > 0.85


def share_of_hypervolume(front, exact):
    both = np.concatenate([exact, front])
    low, high = exact.min(axis=0), both.max(axis=0)
    unit = [(p - low) / (high - low) for p in (front, exact)]
    found, best = (pf.pareto.hypervolume(np.ascontiguousarray(p), np.full(2, 1.1)) for p in unit)
    return found / best


def hypervolume(front, table):
    points = pf.search.objectives(front.top1, front.costs)
    low, high = table.bounds
    unit = (points - [0.0, low]) / [1.0, high - low]
    return pf.pareto.hypervolume(np.ascontiguousarray(unit), np.ones(2))


@pytest.mark.parametrize("settings", [{}, {"clustering": "uniform", "alpha": 0.0}])
def test_it_finds_more_than_random_search_with_ten_times_the_questions(tiny, tiny_table, settings):
    # Layers that help or harm each other, so that none can be chosen by itself.
    codes = max(tiny.n_codes)
    pairs = np.random.default_rng(6).normal(0, 0.004, (tiny.n_slots, codes, tiny.n_slots, codes))
    slots = np.arange(tiny.n_slots)

    def top1(archs):
        mixed = [pairs[slots, row][:, slots, row].sum() for row in archs]
        return np.clip(smooth_top1(tiny, archs) + np.array(mixed), 0, 1)

    def found(name, evaluations, **more):
        oracle = pf.accuracy.oracle(tiny, top1, batch=1500)
        search = getattr(pf.search, name)
        fronts = [
            search(tiny, oracle, [tiny_table], evaluations=evaluations, seed=seed, **more)
            for seed in range(3)
        ]
        return np.mean([hypervolume(front, tiny_table) for front in fronts])

    ours = found("pareto_classifier", 150, **settings)
    assert ours > found("random", 1500)
    assert ours > found("nsga2", 150, population=20)


def test_failures_are_neither_references_nor_parents(cell):
    asked = []

    def often(archs):
        asked.extend(archs.tolist())
        if (archs == 2).any():
            raise OSError("no such network")
        return (archs == 4).mean(axis=1)

    oracle = pf.accuracy.oracle(cell, often)
    front = pf.search.pareto_classifier(cell, oracle, [pf.costs.macs(cell)], evaluations=150)
    assert front.evaluations == len(asked) == 150
    assert not (front.archs == 2).any()
    assert len(np.unique(asked, axis=0)) == 150
    # 74 of 100 fail at random.
    failed = [2 in row for row in asked]
    assert np.mean(failed[:30]) > 0.5
    assert np.mean(failed[-50:]) < 0.5


def test_it_stops_when_everything_is_known():
    space = pf.spaces.get("compofa-mbv3")
    archs = space.enumerate()
    top1 = smooth_top1(space, archs)
    table = pf.costs.macs(space)
    model = pf.accuracy.table(space, archs, top1)
    front = pf.search.pareto_classifier(space, model, [table], evaluations=10_000)
    assert front.evaluations == len(archs) == 243
    exact = pf.search.exhaustive(space, model, [table])
    np.testing.assert_array_equal(front.archs, exact.archs)


def test_alpha_is_below_one(cell):
    model = pf.accuracy.table(cell, cell.enumerate(), np.full(15625, 0.5))
    for alpha in (1.0, -1.5, np.nan):
        with pytest.raises(InvalidInputError, match="alpha"):
            pf.search.pareto_classifier(cell, model, [pf.costs.macs(cell)], alpha=alpha)
    with pytest.raises(InvalidInputError, match="kmeans"):
        pf.search.pareto_classifier(cell, model, [pf.costs.macs(cell)], clustering="k-means")


@pytest.mark.shared_data
def test_two_hundred_questions_are_enough_for_cells(shared_data, monkeypatch):
    """Problems that no setting was chosen on; `bench/searches.py` has all of them."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "bench"))
    import searches_problems

    found = [
        [
            cells.deficit(
                searches_problems.trace(name, cells, seed=seed, evaluations=200, **settings)
            )
            for name, settings in (("pareto_classifier", {}), ("nsga2", {"population": 20}))
            for cells in (
                searches_problems.problem(shared_data, "gold_6226", data_set)
                for data_set in ("cifar10-test", "cifar100-test")
            )
        ]
        for seed in range(3)
    ]
    ours, theirs = np.mean(found, axis=0).reshape(2, 2).mean(axis=1)
    assert ours < 1.5
    assert ours < theirs
