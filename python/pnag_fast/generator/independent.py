"""The policy that imitates a front: a plain network from the budgets to one choice per decision.

Budgets enter by their rank among the costs of the front, expanded into Fourier features; every
stage's depth and every slot's choice then has its own logits, independent of the others. An
autoregressive policy imitates worse and answers fifty times slower: what a front has at a budget is
one architecture, not a distribution with dependent parts. Weights are trained in
`pnag_fast.generator.expert`; here they only run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .. import files
from ..errors import FileFormatError
from ..spaces import Archs, SearchSpace
from ..spaces.decisions import Decisions
from ..typing import Float32Array, FloatArray


@dataclass(frozen=True, eq=False)
class IndependentPolicy:
    """Weights of the policy and their use.

    Attributes
    ----------
    choices : Choices
    nodes : ndarray of float64, shape (n_tables, n_nodes)
        Costs, ascending, that lie evenly spread over the ranks.
    weights : dict of ndarray of float32
        ``frequency`` (n_tables, f), and ``layer.i`` (inputs, outputs) with ``bias.i`` (outputs,)
        for i = 0, 1, 2; between them ReLU.
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
            f"<IndependentPolicy over '{self.decisions.space.name}': {len(self.nodes)} cost(s) to "
            f"{len(self.decisions)} decisions, {n} weights>"
        )

    def ranks(self, budgets: FloatArray) -> FloatArray:
        """Rank of each budget among the costs of the front, shape (b, n_tables), 0 to 1."""
        levels = np.linspace(0, 1, self.nodes.shape[1])
        columns = [np.interp(b, n, levels) for b, n in zip(budgets.T, self.nodes, strict=True)]
        return np.stack(columns, axis=1)

    def logits(self, ranks: FloatArray) -> Float32Array:
        """Logits of all choices, shape (b, n_options)."""
        weights = self.weights
        values = fourier(ranks.astype(np.float32), weights["frequency"])
        for i in range(3):
            values = values @ weights[f"layer.{i}"] + weights[f"bias.{i}"]
            if i < 2:
                np.maximum(values, 0, out=values)
        return values

    def candidates(self, budgets: FloatArray, n: int, rng: np.random.Generator) -> Archs:
        """Greedy architectures at each budget and slightly below it; any further are draws.

        Returns
        -------
        ndarray of uint8, shape (b, n, n_slots)
        """
        margins = np.array(self.margins[:n])
        ranks = self.ranks(budgets)[:, None, :] - margins[:, None]
        n_tables = ranks.shape[2]
        # Weights of a damaged file may overflow; every answer is checked by the generator.
        with np.errstate(over="ignore", invalid="ignore"):
            logits = self.logits(ranks.clip(0, 1).reshape(-1, n_tables))
            logits = logits.reshape(len(budgets), len(margins), -1)
            draws = n - len(margins)
            if draws > 0:
                # The largest of logits plus Gumbel noise is a draw from their softmax.
                shape = (len(budgets), draws, logits.shape[2])
                drawn = logits[:, :1] + rng.gumbel(size=shape).astype(np.float32)
                logits = np.concatenate([logits, drawn], axis=1)
        archs = self.decisions.decode(self.decisions.largest(logits.reshape(-1, logits.shape[2])))
        return archs.reshape(len(budgets), n, -1)

    def rescaled(self, space: SearchSpace, costs: FloatArray) -> IndependentPolicy:
        """Return the same policy for other tables, by which the old front costs `costs`."""
        return IndependentPolicy(Decisions(space, "slot"), rank_nodes(costs), self.weights)

    def to_tensors(self, prefix: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return arrays, their names prefixed, and JSON values."""
        tensors: dict[str, npt.NDArray[Any]] = {
            f"{prefix}{name}": array for name, array in self.weights.items()
        }
        return {**tensors, f"{prefix}nodes": self.nodes}, {"policy": self.kind}

    @classmethod
    def from_tensors(
        cls,
        space: SearchSpace,
        n_tables: int,
        tensors: Mapping[str, npt.NDArray[Any]],
        prefix: str,
        path: files.StrPath,
    ) -> IndependentPolicy:
        """Read what `to_tensors` returned, checking every name, shape and value."""

        def read(name: str, kind: type, shape: tuple[int | None, ...]) -> npt.NDArray[Any]:
            array = tensors.get(prefix + name)
            if array is None:
                raise FileFormatError(f"'{path}' lacks the policy's array '{prefix}{name}'")
            fits = array.ndim == len(shape) and all(
                n is None or n == m for n, m in zip(shape, array.shape, strict=True)
            )
            if not fits or array.dtype != kind or array.size == 0:
                wanted = tuple("any" if n is None else n for n in shape)
                raise FileFormatError(
                    f"'{path}': '{prefix}{name}' should be {np.dtype(kind)} of shape {wanted}, "
                    f"found {array.dtype} of shape {array.shape}"
                )
            if not np.isfinite(array).all():
                raise FileFormatError(f"'{path}': '{prefix}{name}' is not finite")
            return array

        decisions = Decisions(space, "slot")
        nodes = read("nodes", np.float64, (n_tables, None))
        if (np.diff(nodes, axis=1) < 0).any():
            raise FileFormatError(f"'{path}': '{prefix}nodes' do not ascend")
        weights = {"frequency": read("frequency", np.float32, (n_tables, None))}
        width = n_tables + 2 * weights["frequency"].shape[1]
        for i in range(3):
            columns = int(decisions.starts[-1]) if i == 2 else None
            layer = read(f"layer.{i}", np.float32, (width, columns))
            width = layer.shape[1]
            weights[f"layer.{i}"] = layer
            weights[f"bias.{i}"] = read(f"bias.{i}", np.float32, (width,))
        return cls(decisions, nodes, weights)


def fourier(ranks: Float32Array, frequency: Float32Array) -> Float32Array:
    """Expand ranks (b, n_tables) into ranks, sines and cosines, shape (b, n_tables + 2 f)."""
    angles = ranks @ frequency
    return np.concatenate([ranks, np.sin(angles), np.cos(angles)], axis=1)


def rank_nodes(costs: FloatArray, n_nodes: int = 64) -> FloatArray:
    """Costs that lie evenly spread over the ranks of a front, shape (n_tables, n_nodes)."""
    return np.ascontiguousarray(np.quantile(costs, np.linspace(0, 1, n_nodes), axis=0).T)
