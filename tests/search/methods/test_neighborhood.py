"""What is particular to neighbourhood-aware search."""

from __future__ import annotations

import numpy as np
import pytest
from tests.conftest import smooth_top1

import pnag_fast as pf
from pnag_fast.runs import Checkpoint
from pnag_fast.search.methods import neighborhood


@pytest.fixture(scope="module")
def macs(cell):
    return [pf.costs.macs(cell)]


class Asking:
    """Answers with noise, drawn once for each architecture, and writes down what it was asked."""

    def __init__(self, space, noise=0.03, seed=0, sign=1):
        self.space, self.noise, self.seed, self.sign = space, noise, seed, sign
        self.archs = []

    def __call__(self, archs):
        values = []
        for row in archs:
            rng = np.random.default_rng([self.seed, *row.tolist()])
            self.archs.append(row.copy())
            values.append(rng.normal(0, self.noise))
        return self.sign * (smooth_top1(self.space, archs) + values)


@pytest.mark.parametrize("aggregate", ["mean", "median", "worst"])
@pytest.mark.parametrize("radius", [1, 2])
def test_values_are_those_of_what_was_asked_around(cell, macs, aggregate, radius):
    asking = Asking(cell, sign=-1)
    loss = pf.accuracy.Objective("loss", direction="min")
    front = pf.search.neighborhood(
        cell,
        pf.accuracy.oracle(cell, asking, objective=loss, batch=100, source="mine"),
        macs,
        evaluations=200,
        aggregate=aggregate,
        radius=radius,
        own=1.5,
        prior=2.5,
    )
    asked = np.array(asking.archs)
    assert len(asked) == len(np.unique(asked, axis=0)) == front.evaluations == 200
    answers = Asking(cell, sign=-1)(asked)
    statistic = {"mean": np.mean, "median": np.median, "worst": np.max}[aggregate]

    def value(arch):
        near = (asked != arch).sum(axis=1) <= radius
        own = answers[(asked == arch).all(axis=1)][0]
        total = near.sum() * statistic(answers[near]) + 1.5 * own + 2.5 * answers.mean()
        return total / (near.sum() + 4)

    every = np.array([value(arch) for arch in asked])
    expected = pf.pareto.is_non_dominated(np.column_stack([every, macs[0](asked)]))
    assert {row.tobytes() for row in front.archs} == {row.tobytes() for row in asked[expected]}
    np.testing.assert_allclose(front.top1, [value(arch) for arch in front.archs], rtol=1e-12)
    edits = "1 edit" if radius == 1 else "2 edits"
    assert front.accuracy_source == f"{aggregate} of what was asked within {edits}, of mine"


@pytest.mark.parametrize("aggregate", ["mean", "worst"])
def test_random_centers_alone_have_the_value_of_the_paper(cell, macs, aggregate):
    archs = cell.enumerate()
    model = pf.accuracy.table(cell, archs, smooth_top1(cell, archs))
    front = pf.search.neighborhood(
        cell, model, macs, evaluations=1003, first=0, samples=None, own=0, prior=0,
        aggregate=aggregate,
    )  # fmt: skip
    judged = pf.accuracy.Neighborhood(model, aggregate=aggregate)
    assert front.evaluations == 1003
    assert len(front) > 1
    np.testing.assert_allclose(front.top1, judged.predict(front.archs), rtol=1e-12)


def test_the_luck_of_one_answer_decides_less(cell, macs):
    """True value of the best answer of as many random questions, and of the best neighbourhood."""
    truth = []
    for seed in range(6):
        asked = [pf.accuracy.oracle(cell, Asking(cell, seed=seed), batch=300) for _ in range(2)]
        for search, oracle in zip((pf.search.random, pf.search.neighborhood), asked, strict=True):
            front = search(cell, oracle, macs, evaluations=300, seed=seed)
            best = front.archs[front.top1.argmax()][None]
            truth.append(smooth_top1(cell, np.ascontiguousarray(best))[0])
    by_answer, by_neighborhood = np.array(truth).reshape(-1, 2).T
    assert (by_neighborhood - by_answer).mean() > 0.02


def test_what_failed_is_in_no_neighborhood(cell, macs):
    def half(archs):
        return np.where(archs[:, 0] < 3, np.nan, smooth_top1(cell, archs))

    for first in (0.0, 0.4):
        oracle = pf.accuracy.oracle(cell, half, batch=50)
        front = pf.search.neighborhood(cell, oracle, macs, evaluations=150, first=first, prior=0)
        assert oracle.n_known == front.evaluations == 150
        assert len(front) > 1
        assert (front.archs[:, 0] >= 3).all()
        assert front.top1.min() > 0.4


def test_a_space_that_is_known_ends_the_search(cell):
    small = pf.spaces.get("compofa-mbv3")
    asking = Asking(small)
    oracle = pf.accuracy.oracle(small, asking, batch=100)
    front = pf.search.neighborhood(small, oracle, [pf.costs.macs(small)], evaluations=10_000)
    assert front.evaluations == len(asking.archs) == small.n_architectures


def test_the_worst_of_very_many_answers_are_forgotten(cell, macs, monkeypatch, tmp_path):
    monkeypatch.setattr(neighborhood, "_MOST", 200)
    monkeypatch.setattr(neighborhood, "_BEST", 20)
    monkeypatch.setitem(Checkpoint.__init__.__kwdefaults__, "write_every_s", 0.0)
    archs = cell.enumerate()
    model = pf.accuracy.table(cell, archs, smooth_top1(cell, archs))

    def search(**more):
        return pf.search.neighborhood(cell, model, macs, evaluations=900, seed=1, **more)

    def die(what, count, limit):
        if count > 500:
            raise KeyboardInterrupt

    whole = search()
    assert whole.evaluations == 900
    with pytest.raises(KeyboardInterrupt):
        search(checkpoint=tmp_path / "state", progress=die)
    resumed = search(checkpoint=tmp_path / "state")
    np.testing.assert_array_equal(resumed.archs, whole.archs)
    np.testing.assert_array_equal(resumed.top1, whole.top1)
    best = smooth_top1(cell, whole.archs).max()
    assert best > np.quantile(smooth_top1(cell, archs), 0.99)


@pytest.mark.parametrize("name", ["mbv3-tiny", "compofa-mbv3", "nasbench201"])
def test_edits_are_those_of_the_core(name):
    space = pf.spaces.get(name)
    arch = space.sample(1, seed=0)
    for radius in (1, 2):
        around = space.neighborhoods(arch, radius)
        edits = neighborhood._edits(space, arch, around.archs)[0]
        assert edits.max() == radius
        other = space.sample(300, seed=1)
        inside = {row.tobytes() for row in around.archs}
        expected = [row.tobytes() in inside for row in other]
        found = neighborhood._edits(space, other, arch)[:, 0] <= radius
        np.testing.assert_array_equal(found, expected)
