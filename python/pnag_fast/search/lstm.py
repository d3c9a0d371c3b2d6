"""An LSTM that takes decision after decision: its steps, for numpy and torch, and their gradient.

The policies of PNAG (`pnag_fast.generator.policies.lstm`) and of MONAS (`methods.monas`) are this
one. In torch the gradient comes by itself; in numpy it is `gradient`, written out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..spaces.decisions import Decisions, Options

# What the gradient needs to know of a step: its input, the state and the cell before it, the four
# gates as i, f, g, o, and the cell after it.
Step = tuple[Any, ...]


def unroll(
    library: Any,
    decisions: Decisions,
    weights: Mapping[str, Any],
    first: Any,
    choose: Callable[[int, Any], Any],
    *,
    heads: Sequence[int] | None = None,
    tape: list[Step] | None = None,
) -> None:
    """Take all decisions, one after the other.

    Parameters
    ----------
    library : torch, or `InNumpy`
        What the arrays belong to.
    weights : mapping
        ``lstm.input`` and ``lstm.hidden`` (H, 4H), ``lstm.bias`` (4H,), gates ordered i, f, g, o;
        and for each head number i ``embed.i`` (options, H), ``head.i`` (H, options) and
        ``head_bias.i`` (options,).
    first : array of float, shape (n, H)
        Input of the first step: embeddings of what the decisions are taken for.
    choose : callable
        Takes the number of the decision and its logits, shape (n, options), and returns the options
        decided for, shape (n,).
    heads : sequence of int, optional
        Head of each decision; default: decisions of a kind share one.
    tape : list, optional
        Is filled with what `gradient` needs.
    """
    if heads is None:
        kinds = {kind: i for i, kind in enumerate(decisions.kinds)}
        heads = [kinds[decision.kind] for decision in decisions.decisions]
    step_input, hidden = first, first.shape[1]
    state, cell = library.zeros_like(first), library.zeros_like(first)
    for column, head in enumerate(heads):
        gates = library.addmm(weights["lstm.bias"], step_input, weights["lstm.input"])
        gates = library.addmm(gates, state, weights["lstm.hidden"])
        i, f, g, o = library.split(gates, hidden, 1)
        i, f, g, o = library.sigmoid(i), library.sigmoid(f), library.tanh(g), library.sigmoid(o)
        before = state, cell
        cell = f * cell + i * g
        state = o * library.tanh(cell)
        if tape is not None:
            tape.append((step_input, *before, i, f, g, o, cell))
        logits = library.addmm(weights[f"head_bias.{head}"], state, weights[f"head.{head}"])
        step_input = weights[f"embed.{head}"][choose(column, logits)]


def gradient(
    weights: Mapping[str, Any],
    heads: Sequence[int],
    tape: Sequence[Step],
    options: Options,
    slopes: Sequence[Any],
) -> tuple[dict[str, Any], Any]:
    """Gradient of any function of the logits of `unroll`, by backpropagation through time.

    Parameters
    ----------
    weights, heads, tape
        As of `unroll`, in numpy.
    options : ndarray of int64, shape (n, decisions)
        What was decided.
    slopes : sequence of ndarray, each of shape (n, options)
        Derivative by the logits of each decision.

    Returns
    -------
    gradients : dict of ndarray
        By every weight that `unroll` uses.
    first : ndarray, shape (n, H)
        By the input of the first step.
    """
    found = {name: np.zeros_like(array) for name, array in weights.items()}
    by_state = by_cell = by_input = np.zeros_like(tape[0][0])
    for column in reversed(range(len(tape))):
        step_input, state_before, cell_before, i, f, g, o, cell = tape[column]
        head, slope = heads[column], slopes[column]
        bent = np.tanh(cell)
        if column + 1 < len(tape):  # what was decided last is no input
            chosen = options[:, column, None] == np.arange(slope.shape[1])
            found[f"embed.{head}"] += chosen.T.astype(by_input.dtype) @ by_input
        found[f"head.{head}"] += (o * bent).T @ slope
        found[f"head_bias.{head}"] += slope.sum(axis=0)
        by_state = by_state + slope @ weights[f"head.{head}"].T
        by_cell = by_cell + by_state * o * (1 - bent**2)
        gates = np.concatenate(
            [
                by_cell * g * i * (1 - i),
                by_cell * cell_before * f * (1 - f),
                by_cell * i * (1 - g**2),
                by_state * bent * o * (1 - o),
            ],
            axis=1,
        )
        found["lstm.input"] += step_input.T @ gates
        found["lstm.hidden"] += state_before.T @ gates
        found["lstm.bias"] += gates.sum(axis=0)
        by_input = gates @ weights["lstm.input"].T
        by_state = gates @ weights["lstm.hidden"].T
        by_cell = by_cell * f
    return found, by_input


class InNumpy:
    """Functions of torch that `unroll` uses, on arrays of numpy."""

    tanh, zeros_like = np.tanh, np.zeros_like

    @staticmethod
    def addmm(bias: Any, a: Any, b: Any) -> Any:
        """Return ``bias + a @ b``."""
        product = a @ b
        product += bias
        return product

    @staticmethod
    def split(array: Any, size: int, axis: int) -> list[Any]:
        """Cut an array into parts of equal size."""
        return np.split(array, array.shape[axis] // size, axis)

    @staticmethod
    def sigmoid(x: Any) -> Any:
        """Return ``1 / (1 + exp(-x))``."""
        # tanh never overflows, exp of a large negative number warns.
        return 0.5 * (1 + np.tanh(0.5 * x))
