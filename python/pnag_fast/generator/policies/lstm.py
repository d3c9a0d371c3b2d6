"""The policy of PNAG: an LSTM that takes decision after decision.

PNAG (Guo et al. 2022), section 3.2: an LSTM takes the embedding of the budget as its first input
and then, decision by decision, the embedding of what it has just decided. The embeddings of K
evenly spaced budgets are learned; any other budget is interpolated linearly between its
neighbours. Its steps are `pnag_fast.search.lstm.unroll`; weights are trained in
`pnag_fast.generator.methods.pnag`, by the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ... import files
from ...search.lstm import InNumpy, unroll
from ...spaces import Archs, SearchSpace
from ...spaces.decisions import Decisions, Options
from ...typing import Float32Array, FloatArray
from .policy import BudgetPolicy, Tensors, take

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
class LstmPolicy(BudgetPolicy):
    """Weights of the policy and their use; ``H`` is the hidden size.

    ``weights`` holds ``budget`` (n_tables, K, H), ``lstm.input`` and ``lstm.hidden`` (H, 4H),
    ``lstm.bias`` (4H,), and for each kind of decision number i ``embed.i`` (options, H),
    ``head.i`` (H, options) and ``head_bias.i`` (options,). Gates are ordered i, f, g, o.
    """

    decisions: Decisions
    scale: BudgetScale
    weights: Mapping[str, Float32Array]

    kind: ClassVar[str] = "lstm"

    def __repr__(self) -> str:
        n = sum(array.size for array in self.weights.values())
        return (
            f"<LstmPolicy over '{self.space.name}': {len(self.scale.low)} cost(s) to "
            f"{len(self.decisions)} decisions, {n} weights>"
        )

    @property
    def space(self) -> SearchSpace:
        """Where the answers come from."""
        return self.decisions.space

    def sample(self, budgets: FloatArray, n_samples: int, rng: np.random.Generator) -> Archs:
        """Draw architectures; the first of each budget is greedy."""
        weights, n = self.weights, len(budgets) * n_samples
        greedy = np.arange(n) % n_samples == 0
        options: Options = np.zeros((n, len(self.decisions)), dtype=np.int64)

        def choose(column: int, logits: Float32Array) -> Options:
            # The largest of logits plus Gumbel noise is a draw from their softmax.
            noise = rng.gumbel(size=logits.shape)
            noise[greedy] = 0.0
            options[:, column] = np.argmax(logits + noise, axis=1)
            return options[:, column]

        interpolation = self.scale.interpolation(budgets)
        # Weights of a damaged file may overflow; every answer is checked by the generator.
        with np.errstate(over="ignore", invalid="ignore"):
            embedding = np.einsum("btk,tkh->bh", interpolation, weights["budget"])
            embedding = np.repeat(embedding, n_samples, axis=0)
            unroll(InNumpy, self.decisions, weights, embedding, choose)
        return self.decisions.decode(options).reshape(len(budgets), n_samples, -1)

    def candidates(self, budgets: FloatArray, n: int, rng: np.random.Generator) -> Archs:
        """Draw `n` architectures for each budget, some for slightly smaller ones."""
        low = self.scale.low
        margins = np.array(_MARGINS[: min(n, len(_MARGINS))])
        asked = low + (budgets - low)[:, None] * (1 - margins)[:, None]
        drawn = self.sample(asked.reshape(-1, len(low)), -(-n // len(margins)), rng)
        return drawn.reshape(len(budgets), -1, drawn.shape[2])

    def rescaled(self, space: SearchSpace, costs: FloatArray) -> LstmPolicy:
        """Take the K learned budgets for evenly spaced ones of other costs."""
        scale = dataclasses.replace(self.scale, low=costs.min(axis=0), high=costs.max(axis=0))
        return LstmPolicy(Decisions(space), scale, self.weights)

    def _content(self, prefix: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        tensors = {f"{prefix}{name}": array for name, array in self.weights.items()}
        scale = self.scale
        return {**tensors, "scale.low": scale.low, "scale.high": scale.high}, {
            "n_budgets": scale.n_budgets,
            "interpolate": scale.interpolate,
        }

    @classmethod
    def _read(
        cls,
        space: SearchSpace,
        n_tables: int,
        tensors: Tensors,
        body: Mapping[str, Any],
        path: files.StrPath,
        prefix: str,
    ) -> LstmPolicy:
        n_budgets = files.integer(
            body.get("n_budgets"), f"'{path}': field 'n_budgets'", low=1, high=100_000
        )
        scale = BudgetScale(
            take(tensors, "scale.low", np.float64, (n_tables,), path),
            take(tensors, "scale.high", np.float64, (n_tables,), path),
            n_budgets,
            files.require({"interpolate": True, **body}, "interpolate", bool, path),
        )
        decisions = Decisions(space)
        hidden = len(take(tensors, f"{prefix}lstm.hidden", np.float32, (None, None), path))
        shapes: dict[str, tuple[int, ...]] = {
            "budget": (n_tables, n_budgets, hidden),
            "lstm.input": (hidden, 4 * hidden),
            "lstm.hidden": (hidden, 4 * hidden),
            "lstm.bias": (4 * hidden,),
        }
        for i, n_options in enumerate(decisions.kinds.values()):
            shapes[f"embed.{i}"] = (n_options, hidden)
            shapes[f"head.{i}"] = (hidden, n_options)
            shapes[f"head_bias.{i}"] = (n_options,)
        weights = {
            name: take(tensors, f"{prefix}{name}", np.float32, shape, path)
            for name, shape in shapes.items()
        }
        return cls(decisions, scale, weights)
