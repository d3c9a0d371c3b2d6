from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError
from pnag_fast.generator import BudgetScale, PnagSettings, dominance
from pnag_fast.generator.decisions import DecisionSequence


def test_dominance_rule_by_the_book():
    rng = np.random.default_rng(0)
    top1, costs = rng.uniform(size=30), rng.uniform(1, 5, size=(30, 1))
    budgets = np.array([[1.5], [3.0], [6.0]])
    result = dominance(top1, costs, budgets, np.array([4.0]))
    for b, (budget,) in enumerate(budgets):
        for i in range(30):
            for j in range(30):
                # PNAG, eq. 3: accuracy decides if both fit the budget, cost otherwise.
                if costs[i, 0] <= budget and costs[j, 0] <= budget:
                    expected = top1[i] >= top1[j]
                else:
                    expected = costs[i, 0] <= costs[j, 0]
                assert result[b, i, j] == expected


def test_interpolated_budgets():
    scale = BudgetScale(np.array([1.0]), np.array([4.0]), 4)
    weights = scale.interpolation(np.array([[1.0], [2.5], [4.0], [9.0], [0.0]]))
    np.testing.assert_allclose(
        weights[:, 0],
        [[1, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0]],
    )
    np.testing.assert_allclose(scale.grid()[:, 0], [1, 2, 3, 4])


def test_numpy_and_torch_run_the_same_policy(tiny):
    torch = pytest.importorskip("torch")
    from pnag_fast.generator.pnag import _PolicyNetwork

    scale = BudgetScale(np.array([1.0]), np.array([2.0]), 5)
    network = _PolicyNetwork(torch, DecisionSequence(tiny), scale, 16, seed=3)
    with torch.no_grad():
        for name, weight in network.weights.items():
            weight.add_(
                torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name)))
            )
    policy = network.export()
    budgets = np.linspace(1, 2, 40)[:, None]
    # Peaked outputs: a draw is the greedy choice, so both must pick the same.
    for key in network.weights:
        if key.startswith("head"):
            network.weights[key].data.mul_(1e6)
    with torch.no_grad():
        archs, log_probability, entropy = network.rollout(
            torch.from_numpy(scale.interpolation(budgets)), torch.Generator().manual_seed(0)
        )
    greedy = policy.sample(budgets, 1, np.random.default_rng(0))[:, 0]
    np.testing.assert_array_equal(greedy, archs)
    np.testing.assert_allclose(log_probability.numpy(), 0, atol=0.01)
    np.testing.assert_allclose(entropy.numpy(), 0, atol=0.01)


def test_log_probabilities_of_absent_layers_do_not_count(tiny):
    torch = pytest.importorskip("torch")
    from pnag_fast.generator.pnag import _PolicyNetwork

    scale = BudgetScale(np.array([1.0]), np.array([2.0]), 2)
    sequence = DecisionSequence(tiny)
    network = _PolicyNetwork(torch, sequence, scale, 8, seed=0)
    with torch.no_grad():
        for weight in network.weights.values():
            weight.zero_()
        archs, log_probability, entropy = network.rollout(
            torch.zeros(200, 1, 2), torch.Generator().manual_seed(0)
        )
    # All outputs zero: every decision that is present adds -log of its options.
    decisions = sequence.encode(archs)
    log_options = np.log([d.n_options for d in sequence.decisions])
    expected = ((decisions >= 0) * log_options).sum(axis=1)
    np.testing.assert_allclose(-log_probability.numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(entropy.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["n_budgets", "steps", "samples_per_budget"])
def test_bad_settings_are_refused(tiny, tiny_model, tiny_table, name):
    with pytest.raises(InvalidInputError, match=name):
        pf.train_generator(tiny, tiny_model, [tiny_table], settings=PnagSettings(**{name: 0}))


def test_a_constant_cost_is_refused(tiny, tiny_model):
    flat = pf.CostTable.build(
        tiny,
        metric="latency",
        unit="ms",
        device="d",
        constants=[1.0],
        entries=np.zeros((1, tiny.n_slots, max(tiny.n_codes))),
    )
    with pytest.raises(InvalidInputError, match="no trade-off"):
        pf.train_generator(tiny, tiny_model, [flat])
    with pytest.raises(InvalidInputError, match="method"):
        pf.train_generator(tiny, tiny_model, [flat], method="magic")
