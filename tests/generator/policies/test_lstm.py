from __future__ import annotations

import numpy as np
import pytest

from pnag_fast.generator import BudgetScale
from pnag_fast.generator.policies.lstm import InNumpy, unroll
from pnag_fast.spaces.decisions import Decisions


def test_interpolated_budgets():
    scale = BudgetScale(np.array([1.0]), np.array([4.0]), 4)
    weights = scale.interpolation(np.array([[1.0], [2.5], [4.0], [9.0], [0.0]]))
    np.testing.assert_allclose(
        weights[:, 0],
        [[1, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0]],
    )
    np.testing.assert_allclose(scale.grid()[:, 0], [1, 2, 3, 4])


def test_functions_of_numpy_are_those_of_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    bias, a, b = (rng.normal(0, 3, s).astype(np.float32) for s in ((8,), (5, 4), (4, 8)))
    for name, arguments in (
        ("addmm", (bias, a, b)),
        ("sigmoid", (a,)),
        ("tanh", (a,)),
        ("zeros_like", (a,)),
        ("split", (a, 2, 1)),
    ):
        found = getattr(InNumpy, name)(*arguments)
        tensors = [torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in arguments]
        for ours, theirs in zip(found, getattr(torch, name)(*tensors), strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-6)
    # No warning of an overflow either.
    assert InNumpy.sigmoid(np.float32([-1e4, 1e4])).tolist() == [0, 1]


def test_what_was_decided_is_what_comes_next(tiny):
    """By hand: one hidden unit that remembers nothing but the embedding of the last option."""
    decisions = Decisions(tiny)
    zeros, ones = (lambda *s: np.zeros(s, np.float32)), (lambda *s: np.ones(s, np.float32))
    weights = {"lstm.input": zeros(1, 4), "lstm.hidden": zeros(1, 4), "lstm.bias": zeros(4)}
    # The input and output gates are open, the forget gate is shut, the cell takes the input.
    weights["lstm.bias"][:] = 40, -40, 0, 40
    weights["lstm.input"][0, 2] = 1
    for i, n in enumerate(decisions.kinds.values()):
        weights |= {f"head.{i}": ones(1, n), f"head_bias.{i}": zeros(n)}
        weights[f"embed.{i}"] = np.arange(n, dtype=np.float32)[:, None]
    seen = []

    def choose(column, logits):
        seen.append(logits)
        return np.full(len(logits), decisions.decisions[column].n_options - 1)

    unroll(InNumpy, decisions, weights, np.float32([[0.5]]), choose)
    inputs = [0.5, *(decision.n_options - 1 for decision in decisions.decisions)]
    for logits, decision, value in zip(seen, decisions.decisions, inputs, strict=False):
        assert logits.shape == (1, decision.n_options)
        np.testing.assert_allclose(logits, np.tanh(np.tanh(value)), rtol=1e-6)


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
