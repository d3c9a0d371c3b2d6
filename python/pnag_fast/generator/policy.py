"""The budget-conditioned policy pi(architecture | budget), in numpy.

PNAG (Guo et al. 2022), section 3.2: an LSTM takes the embedding of the budget as its first input
and then, decision by decision, the embedding of what it has just decided. The embeddings of K
evenly spaced budgets are learned; any other budget is interpolated linearly between its
neighbours. Weights are trained in `pnag_fast.generator.pnag`; here they only run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .. import files
from ..errors import FileFormatError
from ..spaces import Archs, SearchSpace
from ..spaces.decisions import Decisions, Options
from ..typing import Float32Array, FloatArray

# The policy is asked for the budget and for slightly smaller ones (as a share of the range below
# it): its answers straddle the budget, and those just above it are lost.
_MARGINS = (0.0, 0.01, 0.03, 0.06)


@dataclass(frozen=True, eq=False)
class BudgetScale:
    """Positions of budgets among the K learned ones.

    Attributes
    ----------
    low, high : ndarray of float64, shape (n_tables,)
        Smallest and largest learned budget of every cost.
    n_budgets : int
        K.
    interpolate : bool
        Whether budgets lie between two learned ones, or are taken for the nearest.
    """

    low: FloatArray
    high: FloatArray
    n_budgets: int
    interpolate: bool = True

    def interpolation(self, budgets: FloatArray) -> Float32Array:
        """Weights of the K embeddings for each budget.

        Parameters
        ----------
        budgets : ndarray of float64, shape (b, n_tables)

        Returns
        -------
        ndarray of float32, shape (b, n_tables, K)
            Non-negative, at most two of each K are not zero, their sum is 1.
        """
        span = np.where(self.high > self.low, self.high - self.low, 1.0)
        position = ((budgets - self.low) / span).clip(0, 1) * (self.n_budgets - 1)
        if not self.interpolate:
            position = np.rint(position)
        nodes = np.arange(self.n_budgets)
        weights: Float32Array = np.maximum(0, 1 - np.abs(position[..., None] - nodes)).astype(
            np.float32
        )
        return weights

    def grid(self) -> FloatArray:
        """Return the K learned budgets, shape (K, n_tables)."""
        return np.linspace(self.low, self.high, self.n_budgets)


@dataclass(frozen=True, eq=False)
class Policy:
    """Weights of the policy and their use; ``H`` is the hidden size.

    ``weights`` holds ``budget`` (n_tables, K, H), ``lstm.input`` and ``lstm.hidden`` (H, 4H),
    ``lstm.bias`` (4H,), and for each kind of decision number i ``embed.i`` (options, H),
    ``head.i`` (H, options) and ``head_bias.i`` (options,). Gates are ordered i, f, g, o.
    """

    decisions: Decisions
    scale: BudgetScale
    weights: Mapping[str, Float32Array]

    kind: ClassVar[str] = "lstm"
    n_candidates: ClassVar[int] = 32

    def __repr__(self) -> str:
        n = sum(array.size for array in self.weights.values())
        return (
            f"<Policy over '{self.decisions.space.name}': {len(self.scale.low)} cost(s) to "
            f"{len(self.decisions)} decisions, {n} weights>"
        )

    @property
    def hidden(self) -> int:
        """Size of the LSTM's state."""
        return len(self.weights["lstm.hidden"])

    def sample(
        self,
        budgets: FloatArray,
        n_samples: int,
        rng: np.random.Generator,
    ) -> Archs:
        """Draw architectures; the first of each budget is greedy.

        Parameters
        ----------
        budgets : ndarray of float64, shape (b, n_tables)
        n_samples : int
            Architectures per budget, at least 1.

        Returns
        -------
        ndarray of uint8, shape (b, n_samples, n_slots)
        """
        # Weights of a damaged file may overflow; every answer is checked by the generator.
        with np.errstate(over="ignore", invalid="ignore"):
            options = self._rollout(budgets, n_samples, rng)
        archs = self.decisions.decode(options)
        return archs.reshape(len(budgets), n_samples, -1)

    def _rollout(self, budgets: FloatArray, n_samples: int, rng: np.random.Generator) -> Options:
        weights = self.weights
        kinds = {kind: i for i, kind in enumerate(self.decisions.kinds)}
        interpolation = self.scale.interpolation(budgets)
        embedding = np.einsum("btk,tkh->bh", interpolation, weights["budget"])
        step_input = np.repeat(embedding, n_samples, axis=0)
        n = len(step_input)
        greedy = np.arange(n) % n_samples == 0
        state = np.zeros((n, self.hidden), dtype=np.float32)
        cell = np.zeros_like(state)
        options: Options = np.zeros((n, len(self.decisions)), dtype=np.int64)
        for column, decision in enumerate(self.decisions.decisions):
            gates = (
                step_input @ weights["lstm.input"]
                + state @ weights["lstm.hidden"]
                + weights["lstm.bias"]
            )
            i, f, g, o = np.split(gates, 4, axis=1)
            cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(g)
            state = _sigmoid(o) * np.tanh(cell)
            kind = kinds[decision.kind]
            logits = state @ weights[f"head.{kind}"] + weights[f"head_bias.{kind}"]
            # The largest of logits plus Gumbel noise is a draw from their softmax.
            noise = rng.gumbel(size=logits.shape)
            noise[greedy] = 0.0
            options[:, column] = np.argmax(logits + noise, axis=1)
            step_input = weights[f"embed.{kind}"][options[:, column]]
        return options

    def candidates(self, budgets: FloatArray, n: int, rng: np.random.Generator) -> Archs:
        """Draw `n` architectures for each budget, some for slightly smaller ones.

        Returns
        -------
        ndarray of uint8, shape (b, at least n, n_slots)
        """
        low = self.scale.low
        margins = np.array(_MARGINS[: min(n, len(_MARGINS))])
        asked = low + (budgets - low)[:, None] * (1 - margins)[:, None]
        drawn = self.sample(asked.reshape(-1, len(low)), -(-n // len(margins)), rng)
        return drawn.reshape(len(budgets), -1, drawn.shape[2])

    def rescaled(self, space: SearchSpace, costs: FloatArray) -> Policy:
        """Return the same policy for other tables, by which the old front costs `costs`."""
        scale = dataclasses.replace(self.scale, low=costs.min(axis=0), high=costs.max(axis=0))
        return Policy(Decisions(space), scale, self.weights)

    def to_tensors(self, prefix: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return arrays, their names prefixed, and JSON values."""
        tensors: dict[str, npt.NDArray[Any]] = {
            f"{prefix}{name}": array for name, array in self.weights.items()
        }
        tensors |= {"scale.low": self.scale.low, "scale.high": self.scale.high}
        return tensors, {
            "policy": self.kind,
            "n_budgets": self.scale.n_budgets,
            "interpolate": self.scale.interpolate,
        }

    @classmethod
    def from_tensors(
        cls,
        decisions: Decisions,
        scale: BudgetScale,
        tensors: Mapping[str, npt.NDArray[Any]],
        prefix: str,
        path: files.StrPath,
    ) -> Policy:
        """Read what `to_tensors` returned, checking every name, shape and value."""
        recurrent = tensors.get(f"{prefix}lstm.hidden")
        if recurrent is None or recurrent.ndim != 2:
            raise FileFormatError(f"'{path}' lacks the weights of a policy")
        hidden = len(recurrent)
        shapes: dict[str, tuple[int, ...]] = {
            "budget": (len(scale.low), scale.n_budgets, hidden),
            "lstm.input": (hidden, 4 * hidden),
            "lstm.hidden": (hidden, 4 * hidden),
            "lstm.bias": (4 * hidden,),
        }
        for i, n_options in enumerate(decisions.kinds.values()):
            shapes[f"embed.{i}"] = (n_options, hidden)
            shapes[f"head.{i}"] = (hidden, n_options)
            shapes[f"head_bias.{i}"] = (n_options,)
        weights = {}
        for name, shape in shapes.items():
            array = tensors.get(prefix + name)
            if array is None or array.shape != shape or array.dtype != np.float32:
                found = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
                raise FileFormatError(
                    f"'{path}': weights '{prefix}{name}' should be float32 of shape {shape}, "
                    f"found {found}"
                )
            if not np.isfinite(array).all():
                raise FileFormatError(f"'{path}': weights '{prefix}{name}' are not finite")
            weights[name] = array
        return cls(decisions, scale, weights)


def _sigmoid(x: Float32Array) -> Float32Array:
    # tanh never overflows, exp of a large negative number warns.
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), dtype=np.float32)
