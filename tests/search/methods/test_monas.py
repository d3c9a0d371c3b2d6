from __future__ import annotations

import copy

import numpy as np
import pytest
from tests.conftest import smooth_top1

import pnag_fast as pf
from pnag_fast.errors import BudgetInfeasibleError, InvalidInputError
from pnag_fast.search import Draws, Problem, objectives
from pnag_fast.search.lstm import InNumpy, unroll
from pnag_fast.search.methods.monas import Monas, _Policy


def toy(*, layers, depth):
    """Stages of layers that choose a kernel; with depths a layer may be absent."""
    definition = copy.deepcopy(pf.spaces.get("mbv3-tiny").definition) | {"name": "toy"}
    definition["min_depth"] = 1
    definition["mobilenetv3"] |= {
        "channels": [8] * (layers + 1),
        "strides": [1] * layers,
        "activations": ["relu"] * layers,
        "squeeze_excite": [False] * layers,
        "max_depth": depth,
        "kernels": [3, 5, 7],
        "expand_ratios": [2],
    }
    return pf.spaces.from_definition(definition)


def log_probabilities(policy, options):
    """Of rows of options under every condition, shape (n, conditions), from the logits alone."""
    weights = policy._named(policy._vector)
    present, found = policy.decisions.present(options), []
    for condition in weights["condition"]:
        total = np.zeros(len(options))

        def choose(column, logits, total=total):
            logs = np.array(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))
            total += present[:, column] * logs[np.arange(len(logs)), options[:, column]]
            return options[:, column]

        first = np.tile(condition, (len(options), 1))
        unroll(InNumpy, policy.decisions, weights, first, choose, heads=policy._heads)
        found.append(total)
    return np.stack(found, axis=1)


class Learned:
    """A search by hand, whose policy can be looked at afterwards."""

    def __init__(self, space, model, tables, *, evaluations, seed=0, **settings):
        method = Monas(**settings)
        self.problem = Problem(space, model, tables, evaluations=evaluations)
        draws = Draws(seed)
        state = method.begin(self.problem, draws)
        while self.problem.left:
            state = method.step(self.problem, state, draws)
        self.policy = _Policy(space, method._n_conditions(self.problem), method.hidden)
        self.policy.restore(state)

    def drawn(self, n=400):
        """Merit, (n, conditions), and costs, (n, conditions, n_tables), of draws."""
        archs = self.policy.draw(n, 1.0, np.random.default_rng(7))
        flat = np.ascontiguousarray(archs.reshape(-1, archs.shape[-1]))
        merit = self.problem.objective.merit(self.problem.model.predict(flat))
        costs = self.problem.stack(flat).reshape(*archs.shape[:2], -1)
        return merit.reshape(archs.shape[:2]), costs


@pytest.fixture(scope="module")
def cells(cell):
    """Cells whose accuracy is worth something, with returns that diminish, and a latency."""
    archs, rng = cell.enumerate(), np.random.default_rng(5)
    entries = np.sort(rng.uniform(0.05, 1.0, (1, cell.n_slots, max(cell.n_codes))), axis=2)
    latency = pf.CostTable.build(
        cell, metric="latency", unit="ms", device="d", constants=[0.5], entries=entries
    )
    low, high = latency.bounds
    share = (latency(archs) - low) / (high - low)
    top1 = 0.3 + 0.3 * np.sqrt(share) + 0.3 * smooth_top1(cell, archs)
    top1 += rng.normal(0, 0.005, len(archs))
    return cell, pf.accuracy.table(cell, archs, top1), [latency]


@pytest.mark.parametrize("entropy", [0.0, 0.4])
@pytest.mark.parametrize(("layers", "depth", "tokens"), [(2, 1, 2), (1, 2, 3)])
def test_the_gradient_is_that_of_the_expected_reward(layers, depth, tokens, entropy):
    """Finite differences, over all architectures: then it is the plain policy gradient."""
    space = toy(layers=layers, depth=depth)
    policy = _Policy(space, 2, 5)
    policy.start(np.random.default_rng(1))
    policy._vector = policy._vector.astype(np.float64) * 3
    assert len(policy.decisions) == tokens
    archs = space.enumerate()
    options = np.maximum(policy.decisions.encode(archs), 0)
    rewards = np.random.default_rng(2).normal(size=(len(archs), 2))
    np.testing.assert_allclose(np.exp(log_probabilities(policy, options)).sum(axis=0), 1)
    unit = rewards.max(axis=0) - np.median(rewards, axis=0)

    def expected():
        logs = log_probabilities(policy, options)
        return (np.exp(logs) * (rewards / unit - entropy * logs)).sum(axis=0).mean()

    rows = np.repeat(options[:, None], 2, axis=1)
    slope = policy.slope(rows, rewards, entropy)
    numeric = np.empty_like(slope)
    for i, value in enumerate(policy._vector):
        ends = []
        for move in (1e-5, -1e-5):
            policy._vector[i] = value + move
            ends.append(expected())
        policy._vector[i] = value
        numeric[i] = (ends[0] - ends[1]) / 2e-5
    np.testing.assert_allclose(slope, numeric, atol=1e-8, rtol=1e-5)
    assert (np.abs(numeric) > 1e-4).mean() > 0.3


def test_the_gradient_over_some_is_that_of_the_policy_confined_to_them():
    space = toy(layers=2, depth=1)
    policy = _Policy(space, 1, 4)
    policy.start(np.random.default_rng(3))
    policy._vector = policy._vector.astype(np.float64) * 3
    options = np.maximum(policy.decisions.encode(space.enumerate()[[0, 2, 5, 7]]), 0)
    rewards = np.array([[0.1], [0.7], [0.5], [0.2]])

    def expected():
        p = np.exp(log_probabilities(policy, options))
        return float((p / p.sum() * rewards).sum() / (0.7 - 0.35))

    slope = policy.slope(options[:, None], rewards, 0.0)
    for i in np.random.default_rng(0).integers(policy.size, size=40):
        value, ends = policy._vector[i], []
        for move in (1e-5, -1e-5):
            policy._vector[i] = value + move
            ends.append(expected())
        policy._vector[i] = value
        assert slope[i] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-8)


def test_draws_have_the_probabilities_that_are_learned():
    space = toy(layers=1, depth=2)
    policy = _Policy(space, 2, 4)
    policy.start(np.random.default_rng(3))
    policy._vector *= 4
    archs = space.enumerate()
    options = np.maximum(policy.decisions.encode(archs), 0)
    expected = np.exp(log_probabilities(policy, options))
    drawn = policy.draw(20_000, 1.0, np.random.default_rng(0))
    for row, p in zip(archs, expected, strict=True):
        np.testing.assert_allclose((drawn == row).all(axis=2).mean(axis=0), p, atol=0.012)
    assert np.ptp(expected) > 0.05


def test_a_sweep_of_alpha_goes_along_the_front(cells):
    """What its policy draws costs more, and is better, the more the quality counts."""
    alphas = [0.1, 0.7, 0.9]
    learned = Learned(*cells, alpha=alphas, evaluations=300)
    merit, costs = learned.drawn()
    for values in (merit.mean(axis=0), costs[..., 0].mean(axis=0)):
        assert (np.diff(values) > 0).all()
    # The best of everything asked moves along the front as well.
    problem = learned.problem
    rewards = Monas(alpha=alphas).rewards(problem, problem.merit, problem.costs)
    best = rewards.argmax(axis=0)
    assert (np.diff(problem.costs[best, 0]) >= 0).all()
    assert (np.diff(problem.merit[best]) >= 0).all()
    assert len(set(best.tolist())) == 3


@pytest.mark.parametrize("share", [0.03, 0.3])
def test_draws_end_within_a_budget(cells, share):
    """One that three cells of a hundred meet, and a third."""
    space, _, (latency,) = cells
    budget = np.quantile(latency(space.enumerate()), share)
    learned = Learned(*cells, budgets=budget, evaluations=200)
    merit, costs = learned.drawn()
    assert (costs <= budget).mean() >= 0.9
    within = learned.problem.model.predict(space.enumerate())[latency(space.enumerate()) <= budget]
    assert merit[costs[..., 0] <= budget].mean() > np.quantile(within, 0.8)


def test_draws_end_within_budgets_of_several_costs(cells):
    space, model, (latency,) = cells
    tables = [latency, pf.costs.parameters(space)]
    low, high = pf.costs.stack(tables).bounds.T
    budgets = [low + 0.4 * (high - low), [low[0] + 0.3 * (high[0] - low[0]), np.inf]]
    learned = Learned(space, model, tables, budgets=budgets, evaluations=300)
    _, costs = learned.drawn()
    within = (costs <= budgets).all(axis=2)
    assert (within.mean(axis=0) >= 0.9).all()


def test_draws_end_above_an_accuracy(cells):
    space, model, tables = cells
    top1 = model.predict(space.enumerate())
    wanted = float(np.quantile(top1, 0.95))
    learned = Learned(space, model, tables, accuracy=wanted, evaluations=300)
    merit, costs = learned.drawn()
    assert (merit >= wanted).mean() >= 0.9
    reaching = tables[0](space.enumerate())[top1 >= wanted]
    assert costs[merit >= wanted].mean() < np.quantile(reaching, 0.2)


def test_an_accuracy_of_what_should_be_small_is_the_most(cells):
    """The same search, of losses."""
    space, model, tables = cells
    objective = pf.accuracy.Objective("loss", direction="min")
    loss = pf.accuracy.oracle(
        space, lambda archs: 1 - model.predict(archs), objective=objective, batch=100
    )
    gain = pf.accuracy.oracle(
        space,
        lambda archs: model.predict(archs) - 1,
        objective=pf.accuracy.Objective("gain"),
        batch=100,
    )
    fronts = [
        pf.search.monas(space, asked, tables, accuracy=bound, evaluations=100)
        for asked, bound in ((loss, 0.25), (gain, -0.25))
    ]
    np.testing.assert_array_equal(fronts[0].archs, fronts[1].archs)


def test_weights_say_which_cost_counts(cells):
    space, model, (latency,) = cells
    rng = np.random.default_rng(1)
    entries = rng.uniform(0.1, 1.0, (1, space.n_slots, max(space.n_codes)))
    other = pf.CostTable.build(
        space, metric="energy", unit="mJ", device="d", constants=[1.0], entries=entries
    )
    means = []
    for weights in ([1, 0], [0, 1]):
        learned = Learned(
            space, model, [latency, other], alpha=0.1, weights=weights, evaluations=200
        )
        means.append(learned.drawn()[1].mean(axis=(0, 1)))
    assert means[0][0] < means[1][0]
    assert means[0][1] > means[1][1]


def test_more_of_the_front_than_random_search_finds(cells):
    space, model, tables = cells
    archs = space.enumerate()
    points = objectives(model.predict(archs), tables[0](archs)[:, None])
    nadir = points[pf.pareto.is_non_dominated(points)].max(axis=0)
    whole = pf.pareto.hypervolume(points[pf.pareto.is_non_dominated(points)], nadir)

    def share(name, seed):
        oracle = pf.accuracy.oracle(space, model.predict, batch=1000)
        front = getattr(pf.search, name)(space, oracle, tables, evaluations=300, seed=seed)
        return pf.pareto.hypervolume(objectives(front.top1, front.costs), nadir) / whole

    ours = [share("monas", seed) for seed in range(2)]
    random = [share("random", seed) for seed in range(2)]
    assert np.mean(ours) > 0.95
    assert 1 - np.mean(ours) < 0.5 * (1 - np.mean(random))


def test_an_oracle_is_asked_nothing_twice(cells):
    """Every question is new while there are new ones; failures count, and teach to keep away."""
    space, model, tables = cells
    asked = []

    def judged(archs):
        asked.extend(row.tobytes() for row in archs)
        if (archs[:, 0] == 2).any():
            raise OSError("no such luck")
        return model.predict(archs)

    front = pf.search.monas(space, pf.accuracy.oracle(space, judged), tables, evaluations=200)
    assert len(set(asked)) == len(asked) == front.evaluations == 200
    assert not (front.archs[:, 0] == 2).any()
    failed = np.array([np.frombuffer(row, dtype=np.uint8)[0] == 2 for row in asked])
    assert failed[-100:].mean() < 0.5 * failed[:50].mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "alpha should be from 0 to 1"),
        ({"alpha": []}, "alpha should be a number or a list"),
        ({"alpha": 0.5, "budgets": 3.0}, "found alpha and budgets"),
        ({"accuracy": 75.0}, "accuracy 75 is no top-1, which lies in .0, 1.*is it in that unit"),
        ({"weights": [1, 1]}, "weights should be 1, one for each cost table, found 2"),
        ({"weights": [-1]}, "weights should be 0 or more"),
        ({"weights": [1], "budgets": 3.0}, "give one of the two"),
        ({"samples": 0}, "samples"),
        ({"updates": 0}, "updates"),
        ({"learning_rate": 2}, "learning_rate"),
        ({"entropy": -1}, "entropy"),
    ],
)
def test_what_is_out_of_range_is_named(cells, options, message):
    with pytest.raises(InvalidInputError, match=message):
        pf.search.monas(*cells, **options)


def test_a_budget_below_everything_is_refused(cells):
    with pytest.raises(BudgetInfeasibleError, match="below the cheapest"):
        pf.search.monas(*cells, budgets=0.1)
