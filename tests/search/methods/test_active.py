"""Active search: what it asks, where answers are noisy, dear or missing."""

from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError, InvalidTypeError
from pnag_fast.search.method import Draws
from pnag_fast.search.methods import active
from pnag_fast.search.problem import Problem


@pytest.fixture(scope="module")
def cells(cell):
    """Every cell, its accuracy (convolutions on live paths), and its cost."""
    archs = cell.enumerate()
    features = cell.features(archs).astype(float)
    depth = features[:, -4] + 0.6 * features[:, -10]
    rough = np.random.default_rng(0).normal(0, 0.004, len(archs))
    top1 = 0.9 - 0.6 * np.exp(-0.35 * depth) + rough
    return archs, top1.clip(0, 1), pf.costs.macs(cell)


class Judge:
    """The accuracy of cells, with what every answer adds to it; counts what it was asked."""

    def __init__(self, cells, noise=0.0, seed=0):
        self.archs, self.top1, _ = cells
        self.row = {arch.tobytes(): i for i, arch in enumerate(self.archs)}
        self.noise, self.rng, self.asked = noise, np.random.default_rng(seed), []

    def __call__(self, archs):
        rows = [self.row[arch.tobytes()] for arch in archs]
        self.asked += rows
        return (self.top1[rows] + self.rng.normal(0, self.noise, len(rows))).clip(0, 1)

    def truth(self, archs):
        return self.top1[[self.row[arch.tobytes()] for arch in archs]]


def regret(cells, front):
    """Mean over budgets of what the best known within each is truly below the best cell."""
    archs, top1, table = cells
    costs = table(archs)
    budgets = np.linspace(*np.percentile(costs, [5, 95]), 50)[:, None]
    best = top1[pf.pareto.best_within(costs[:, None], top1, budgets)]
    return float((best - Judge(cells).truth(front.archs[front.best(budgets)])).mean())


def test_a_few_chosen_questions_are_worth_many_random_ones(cell, cells):
    chosen, drawn = Judge(cells), Judge(cells)
    oracles = [pf.accuracy.oracle(cell, judge, batch=100) for judge in (chosen, drawn)]
    a = pf.search.active(cell, oracles[0], [cells[2]], evaluations=80, seed=1)
    b = pf.search.random(cell, oracles[1], [cells[2]], evaluations=800, seed=1)
    assert len(set(chosen.asked)) == len(chosen.asked) == a.evaluations == 80
    assert regret(cells, a) < 0.5 * regret(cells, b)


def test_batches_are_chosen_as_if_their_questions_were_answered(cell, cells):
    """A batch spreads over the front: its questions are hardly worse than one at a time."""
    judge = Judge(cells)
    oracle = pf.accuracy.oracle(cell, judge, batch=100)
    found = pf.search.active(cell, oracle, [cells[2]], evaluations=80, batch=10, seed=1)
    drawn = pf.search.random(
        cell, pf.accuracy.oracle(cell, Judge(cells)), [cells[2]], evaluations=800, seed=1
    )
    assert regret(cells, found) < 0.5 * regret(cells, drawn)
    batch = np.array(judge.asked[20:30])
    assert len(set(batch.tolist())) == 10
    assert np.ptp(cells[2](cells[0][batch])) > 0.2 * np.ptp(cells[2].bounds)


def test_what_is_dear_to_ask_is_asked_where_it_gains_more(cell, cells):
    """Asking costs what the cell computes: then cheaper ones are asked about."""
    archs, _, table = cells
    prices = []
    for asking in (None, table):
        judge = Judge(cells)
        oracle = pf.accuracy.oracle(cell, judge, batch=100)
        pf.search.active(cell, oracle, [table], evaluations=60, asking=asking, seed=2)
        prices.append(float(table(archs[judge.asked]).mean()))
    assert prices[1] < 0.8 * prices[0]


def test_noisy_answers_are_asked_again_and_their_mean_is_believed(cell, cells):
    """The luckiest draw makes a front that is neither true nor good."""
    fronts, judges = [], []
    for repeats in (1, 6):
        judges.append(Judge(cells, noise=0.03, seed=3))
        oracle = pf.accuracy.oracle(cell, judges[-1], batch=100, repeats=repeats)
        fronts.append(pf.search.active(cell, oracle, [cells[2]], evaluations=150, seed=3))
    lucky, believed = fronts
    assert len(set(judges[0].asked)) == 150
    times = np.bincount(judges[1].asked)
    assert believed.evaluations == len(judges[1].asked) <= 150
    assert 3 <= times.max() <= 6
    boast = [float((f.top1 - judges[0].truth(f.archs)).mean()) for f in fronts]
    assert abs(boast[1]) < 0.3 * boast[0]
    assert regret(cells, believed) < regret(cells, lucky)
    # Of what is dominated by another nothing is left, by what is believed of both.
    points = np.column_stack([-believed.top1, believed.costs])
    assert pf.pareto.is_non_dominated(points).all()


def test_a_noise_that_is_told_is_not_learnt(cell, cells):
    judge = Judge(cells, noise=0.03, seed=4)
    oracle = pf.accuracy.oracle(cell, judge, batch=100, noise=0.03)
    found = pf.search.active(cell, oracle, [cells[2]], evaluations=80, seed=4)
    assert np.bincount(judge.asked).max() == 1
    # What is believed of a cell is not what was answered about it.
    answers = oracle(found.archs)
    assert (found.top1 != answers).all()
    assert np.abs(found.top1 - judge.truth(found.archs)).mean() < 0.02


class Killed(BaseException):
    pass


def test_a_noisy_search_that_was_killed_goes_on_with_the_same_answers(
    cell, cells, tmp_path, monkeypatch
):
    monkeypatch.setitem(pf.runs.Checkpoint.__init__.__kwdefaults__, "write_every_s", 0.0)

    def search(name, dies_at=None):
        judge = Judge(cells, noise=0.03, seed=5)
        # Each process draws its own noise: only the journal knows what was answered.
        judge.rng = np.random.default_rng([5, len(answered)])
        reports = []

        def told(what, count, limit):
            reports.append(count)
            if dies_at is not None and count >= dies_at:
                raise Killed

        def function(archs):
            values = judge(archs)
            for i, arch in enumerate(archs):
                key = arch.tobytes(), len([a for a in answered if a == arch.tobytes()])
                values[i] = noisy.setdefault(key, values[i])
                answered.append(arch.tobytes())
            return values

        oracle = pf.accuracy.oracle(
            cell, function, repeats=5, checkpoint=tmp_path / f"{name}.jsonl", source="judge"
        )
        return pf.search.active(
            cell,
            oracle,
            [cells[2]],
            evaluations=40,
            seed=5,
            checkpoint=tmp_path / name,
            progress=told,
        )

    noisy, answered = {}, []
    whole = search("whole")
    answered = []
    for dies_at in (12, 29, 36):
        with pytest.raises(Killed):
            search("parts", dies_at)
    found = search("parts")
    np.testing.assert_array_equal(found.archs, whole.archs)
    np.testing.assert_array_equal(found.top1, whole.top1)
    assert len(answered) == 40


def test_questions_that_fail_are_answers(cell, cells):
    judge = Judge(cells)

    def sometimes(archs):
        values = judge(archs)
        values[archs[:, 0] == 5] = np.nan
        return values

    oracle = pf.accuracy.oracle(cell, sometimes, batch=100)
    found = pf.search.active(cell, oracle, [cells[2]], evaluations=60, seed=6)
    assert found.evaluations == 60
    failed = cells[0][judge.asked][:, 0] == 5
    assert failed.any()
    assert not (found.archs[:, 0] == 5).any()
    # It is not asked again.
    assert len(set(judge.asked)) == 60


def test_it_ends_when_nothing_is_expected_to_move_the_front(cell, cells):
    ended, went_on = (
        pf.search.active(
            cell,
            pf.accuracy.oracle(cell, Judge(cells), batch=100),
            [cells[2]],
            evaluations=120,
            tolerance=tolerance,
            seed=1,
        )
        for tolerance in (1e-3, 0.0)
    )
    assert 20 < ended.evaluations < 100
    assert went_on.evaluations == 120
    assert regret(cells, ended) - regret(cells, went_on) < 0.005


def test_a_small_space_is_asked_to_the_end(tmp_path):
    space = pf.spaces.get("compofa-mbv3")
    archs = space.enumerate()
    oracle = pf.accuracy.oracle(space, lambda rows: 0.5 + rows.mean(axis=1) / 100, batch=10)
    found = pf.search.active(
        space, oracle, [pf.costs.macs(space)], evaluations=1000, batch=60, tolerance=0.0
    )
    assert found.evaluations == len(archs) == oracle.n_known


def test_promising_candidates_run_out(cell, cells, monkeypatch):
    """The short list is asked to the end, and another one is made."""
    monkeypatch.setattr(active, "_SHORT", 15)
    oracle = pf.accuracy.oracle(cell, Judge(cells), batch=100)
    found = pf.search.active(cell, oracle, [cells[2]], evaluations=100, tolerance=0.0, seed=7)
    assert found.evaluations == 100
    assert regret(cells, found) < 0.02


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"batch": 0}, InvalidInputError, "batch"),
        ({"first": 0}, InvalidInputError, "first"),
        ({"tolerance": -1.0}, InvalidInputError, "tolerance"),
        ({"asking": 3.0}, InvalidTypeError, "cost table"),
    ],
)
def test_settings_are_checked(cell, cells, settings, error, message):
    oracle = pf.accuracy.oracle(cell, Judge(cells))
    with pytest.raises(error, match=message):
        pf.search.active(cell, oracle, [cells[2]], **settings)


def test_asking_has_to_cost_something(cell, cells, tmp_path):
    free = pf.CostTable.build(
        cell,
        metric="time",
        unit="s",
        device="d",
        constants=[1.0],
        entries=np.where(np.arange(max(cell.n_codes)) == 1, -0.1, 0.5) * np.ones((1, 6, 1)),
    )
    other = pf.costs.macs(pf.spaces.get("mbv3-tiny"))
    oracle = pf.accuracy.oracle(cell, Judge(cells))
    with pytest.raises(InvalidInputError, match="space"):
        pf.search.active(cell, oracle, [cells[2]], asking=other)
    # A search that goes on is told from one with other prices.
    path = tmp_path / "checkpoint"
    found = pf.search.active(cell, oracle, [cells[2]], asking=free, evaluations=30, checkpoint=path)
    assert found.evaluations == 30
    with pytest.raises(InvalidInputError, match="settings"):
        pf.search.active(cell, oracle, [cells[2]], asking=cells[2], evaluations=30, checkpoint=path)


def test_what_is_given_to_ask_first_is_asked_once(cell):
    given = np.repeat(cell.sample(2, seed=4), 9, axis=0)
    asked = []

    def top1(archs):
        asked.extend(map(bytes, archs))
        return (archs == 4).mean(axis=1)

    front = pf.search.active(
        cell, pf.accuracy.oracle(cell, top1), [pf.costs.macs(cell)], evaluations=12, initial=given
    )
    assert front.evaluations == len(asked) == len(set(asked)) == 12
    assert set(asked[:2]) == set(map(bytes, given))
    with pytest.raises(InvalidInputError, match="at least one architecture"):
        pf.search.active(
            cell, pf.accuracy.oracle(cell, top1), [pf.costs.macs(cell)], initial=given[:0]
        )


def _kernels(archs):
    """Large kernels are worth most, and each more hardly as much."""
    return 0.5 + 0.4 * np.tanh((archs > 6).sum(axis=1) / 10 + archs.sum(axis=1) / 1000)


def test_of_a_large_pool_those_that_promise_most_are_looked_at(monkeypatch):
    """Nothing that was asked is in a pool, so that nothing of it has to be closed."""
    monkeypatch.setattr(active, "_SHORT", 100)
    space = pf.spaces.get("mbv3-tiny")
    assert space.n_architectures > active.ENUMERATED
    oracle = pf.accuracy.oracle(space, _kernels, batch=100)
    front = pf.search.active(space, oracle, [pf.costs.macs(space)], evaluations=40, batch=5)
    assert front.evaluations == oracle.n_known == 40


def test_what_a_search_knows_is_to_the_last_bit_a_function_of_its_state():
    """Sums over columns differ by how many rows are computed together."""
    space = pf.spaces.get("ofa-mbv3")
    problem = Problem(
        space,
        pf.accuracy.oracle(space, _kernels, batch=100),
        [pf.costs.macs(space)],
        evaluations=100,
    )
    method, draws = active.Active(), Draws(0)
    state = method.step(problem, method.begin(problem, draws), draws)

    def predicted():
        candidates = active._candidates(problem, state, draws, 1)
        surrogate = active._surrogate(problem, state, candidates)
        return surrogate.posterior.predict(surrogate.y)

    for arch in space.sample(20, seed=1):
        known = predicted()
        state = active._ask(problem, state, arch[None])
    known, problem.memo = predicted(), {"every": None}
    np.testing.assert_array_equal(known, predicted())


def test_noisy_answers_are_not_believed_as_they_are_where_the_search_ends_at_once():
    space = pf.spaces.get("nasbench201")
    rng = np.random.default_rng(0)

    def judge(archs):
        return np.clip(0.5 + rng.normal(0, 0.1, len(archs)), 0, 1)

    oracle = pf.accuracy.oracle(space, judge, noise=0.1)
    front = pf.search.active(space, oracle, [pf.costs.macs(space)], tolerance=1e9)
    assert front.evaluations < 300
    assert abs(front.top1 - 0.5).max() < 0.5 * abs(oracle(front.archs) - 0.5).max()
