"""The policy that imitates a front: a plain network from the budgets to one option per decision.

Budgets enter by their rank among the costs of the front, expanded into Fourier features; every
stage's depth and every slot's choice then has its own logits, independent of the others. An
autoregressive policy imitates worse and answers fifty times slower: what a front has at a budget is
one architecture, not a distribution with dependent parts. Weights are trained in
`pnag_fast.generator.methods.expert`, by the same layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ... import files
from ...errors import FileFormatError
from ...spaces import Archs, SearchSpace
from ...spaces.decisions import Decisions
from ...typing import Float32Array, FloatArray
from .policy import BudgetPolicy, Tensors, take

N_LAYERS = 3


@dataclass(frozen=True, eq=False)
class IndependentPolicy(BudgetPolicy):
    """Weights of the network, and the costs by which budgets are ranked.

    Attributes
    ----------
    decisions : Decisions
        By slot.
    nodes : ndarray of float64, shape (n_tables, n)
        Costs of the front at evenly spaced ranks, ascending.
    weights : mapping of str to ndarray of float32
        ``frequency`` (n_tables, f), and ``layer.i`` (in, out) with ``bias.i`` (out,) for i = 0, 1
        and 2; the last has one column for each option of each decision.
    """

    decisions: Decisions
    nodes: FloatArray
    weights: Mapping[str, Float32Array]

    kind: ClassVar[str] = "independent"
    # Budgets are asked for at once with a few slightly smaller ones, as ranks below the budget: at
    # the border between two members of the front the answer may mix both and not fit.
    margins: ClassVar[tuple[float, ...]] = (0.0, 0.004, 0.01, 0.02, 0.04)
    n_candidates: ClassVar[int] = 5

    def __repr__(self) -> str:
        n = sum(array.size for array in self.weights.values())
        return (
            f"<IndependentPolicy over '{self.space.name}': {len(self.nodes)} cost(s) to "
            f"{len(self.decisions)} decisions, {n} weights>"
        )

    @property
    def space(self) -> SearchSpace:
        """Where the answers come from."""
        return self.decisions.space

    def ranks(self, budgets: FloatArray) -> FloatArray:
        """Rank of each budget among the costs of the front, shape (b, n_tables), 0 to 1."""
        levels = np.linspace(0, 1, self.nodes.shape[1])
        columns = [np.interp(b, n, levels) for b, n in zip(budgets.T, self.nodes, strict=True)]
        return np.stack(columns, axis=1)

    def features(self, ranks: FloatArray) -> Float32Array:
        """Ranks (b, n_tables), their sines and cosines, shape (b, n_tables + 2 f)."""
        plain = ranks.astype(np.float32)
        angles = plain @ self.weights["frequency"]
        return np.concatenate([plain, np.sin(angles), np.cos(angles)], axis=1)

    def layers(self, features: Float32Array) -> list[Float32Array]:
        """Pass features through two layers of hidden units, then to the logits of all options.

        Returns
        -------
        list of ndarray of float32, shape (b, out)
        """
        found = [features]
        for i in range(N_LAYERS):
            values = found[-1] @ self.weights[f"layer.{i}"]
            values += self.weights[f"bias.{i}"]
            if i < N_LAYERS - 1:
                np.maximum(values, 0, out=values)
            found.append(values)
        return found[1:]

    def candidates(self, budgets: FloatArray, n: int, rng: np.random.Generator) -> Archs:
        """Propose greedy architectures at each budget and slightly below it; the rest are draws."""
        margins = np.array(self.margins[:n])
        ranks = self.ranks(budgets)[:, None, :] - margins[:, None]
        return self._answers(ranks.clip(0, 1), n - len(margins), rng)

    def sample(self, budgets: FloatArray, n_samples: int, rng: np.random.Generator) -> Archs:
        """Draw every decision by itself; the first architecture of each budget is greedy."""
        return self._answers(self.ranks(budgets)[:, None], n_samples - 1, rng)

    def _answers(self, ranks: FloatArray, draws: int, rng: np.random.Generator) -> Archs:
        """Greedy at each of the ranks (b, k, n_tables), then `draws` at the first of each k."""
        # Weights of a damaged file may overflow; every answer is checked by the generator.
        with np.errstate(over="ignore", invalid="ignore"):
            logits = self.layers(self.features(ranks.reshape(-1, ranks.shape[2])))[-1]
            logits = logits.reshape(*ranks.shape[:2], -1)
            if draws > 0:
                # The largest of logits plus Gumbel noise is a draw from their softmax.
                shape = (len(ranks), draws, logits.shape[2])
                drawn = logits[:, :1] + rng.gumbel(size=shape).astype(np.float32)
                logits = np.concatenate([logits, drawn], axis=1)
        options = self.decisions.largest(logits.reshape(-1, logits.shape[2]))
        return self.decisions.decode(options).reshape(*logits.shape[:2], -1)

    def rescaled(self, space: SearchSpace, costs: FloatArray) -> IndependentPolicy:
        """Rank budgets among other costs."""
        return IndependentPolicy(Decisions(space, "slot"), rank_nodes(costs), self.weights)

    def _content(self, prefix: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        arrays: dict[str, npt.NDArray[Any]] = {**self.weights, "nodes": self.nodes}
        return {f"{prefix}{name}": array for name, array in arrays.items()}, {}

    @classmethod
    def _read(
        cls,
        space: SearchSpace,
        n_tables: int,
        tensors: Tensors,
        body: Mapping[str, Any],
        path: files.StrPath,
        prefix: str,
    ) -> IndependentPolicy:
        del body
        decisions = Decisions(space, "slot")
        nodes = take(tensors, f"{prefix}nodes", np.float64, (n_tables, None), path)
        if (np.diff(nodes, axis=1) < 0).any():
            raise FileFormatError(f"'{path}': '{prefix}nodes' do not ascend")
        frequency = take(tensors, f"{prefix}frequency", np.float32, (n_tables, None), path)
        weights = {"frequency": frequency}
        width = n_tables + 2 * frequency.shape[1]
        for i in range(N_LAYERS):
            columns = int(decisions.starts[-1]) if i == N_LAYERS - 1 else None
            layer = take(tensors, f"{prefix}layer.{i}", np.float32, (width, columns), path)
            width = layer.shape[1]
            weights[f"layer.{i}"] = layer
            weights[f"bias.{i}"] = take(tensors, f"{prefix}bias.{i}", np.float32, (width,), path)
        return cls(decisions, nodes, weights)


def rank_nodes(costs: FloatArray, n_nodes: int = 64) -> FloatArray:
    """Costs that lie evenly spread over the ranks of a front, shape (n_tables, n_nodes)."""
    return np.ascontiguousarray(np.quantile(costs, np.linspace(0, 1, n_nodes), axis=0).T)
