from __future__ import annotations

import numpy as np
import pytest

from pnag_fast.search.lstm import InNumpy, gradient, unroll
from pnag_fast.spaces.decisions import Decisions


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


@pytest.mark.parametrize("shared", [True, False])
def test_the_gradient_is_that_of_torch(tiny, shared):
    """By every weight and the first input; decisions of a kind share a head, or have their own."""
    torch = pytest.importorskip("torch")
    decisions, rng, hidden, n = Decisions(tiny), np.random.default_rng(0), 3, 5
    kinds = list(decisions.kinds)
    heads = [kinds.index(decision.kind) for decision in decisions.decisions]
    if not shared:
        heads = list(range(len(decisions)))
    weights = {
        "lstm.input": rng.normal(size=(hidden, 4 * hidden)),
        "lstm.hidden": rng.normal(size=(hidden, 4 * hidden)),
        "lstm.bias": rng.normal(size=4 * hidden),
    }
    for head, decision in zip(heads, decisions.decisions, strict=True):
        weights[f"embed.{head}"] = rng.normal(size=(decision.n_options, hidden))
        weights[f"head.{head}"] = rng.normal(size=(hidden, decision.n_options))
        weights[f"head_bias.{head}"] = rng.normal(size=decision.n_options)
    first = rng.normal(size=(n, hidden))
    options = decisions.encode(tiny.sample(n, seed=0)).clip(min=0)
    slopes = [rng.normal(size=(n, decision.n_options)) for decision in decisions.decisions]
    tape = []
    unroll(InNumpy, decisions, weights, first, lambda i, _: options[:, i], heads=heads, tape=tape)
    found, by_first = gradient(weights, heads, tape, options, slopes)
    tensors = {name: torch.from_numpy(w).requires_grad_() for name, w in weights.items()}
    start = torch.from_numpy(first).requires_grad_()
    total = []

    def choose(column, logits):
        total.append((logits * torch.from_numpy(slopes[column])).sum())
        return torch.from_numpy(options[:, column])

    unroll(torch, decisions, tensors, start, choose, heads=None if shared else heads)
    sum(total).backward()
    np.testing.assert_allclose(by_first, start.grad.numpy(), atol=1e-10)
    last = f"embed.{heads[-1]}"
    for name, tensor in tensors.items():
        if name == last and not shared:  # what is decided last is no input
            assert (found[name] == 0).all()
        else:
            np.testing.assert_allclose(found[name], tensor.grad.numpy(), atol=1e-10)
            assert np.abs(found[name]).max() > 1e-6
