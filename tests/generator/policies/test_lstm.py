from __future__ import annotations

import numpy as np
import pytest

from pnag_fast.generator import BudgetScale
from pnag_fast.spaces.decisions import Decisions


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
    from pnag_fast.generator.methods.pnag import _PolicyNetwork

    scale = BudgetScale(np.array([1.0]), np.array([2.0]), 5)
    network = _PolicyNetwork(torch, Decisions(tiny), scale, 16, seed=3)
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
