"""NSGA-II."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ... import arguments, pareto
from ...runs import Arrays
from ...spaces import Archs
from ...typing import FloatArray
from ..method import Draws, Layout, Method
from ..problem import Problem
from ..result import points


@dataclass(frozen=True, eq=False)
class Nsga2(Method):
    """Run NSGA-II (Deb et al., IEEE Trans. Evol. Comput. 2002) with uniform crossover and mutation.

    Parameters
    ----------
    population : int
        Members per generation, at least 4.
    mutation_rate : float
        Probability of redrawing a depth or a layer.
    """

    population: int = 200
    mutation_rate: float = 0.1

    name: ClassVar[str] = "nsga2"
    title: ClassVar[str] = "NSGA-II"

    def checked(self) -> Mapping[str, Any]:
        return {
            "population": arguments.integer(self.population, "population", 4),
            "mutation_rate": arguments.fraction(self.mutation_rate, "mutation_rate"),
        }

    def layout(self, problem: Problem, names: object) -> Layout:
        return {
            "archs": (np.uint8, (None, problem.space.n_slots)),
            "points": (np.float64, (None, 1 + len(problem.tables))),
            "rank": (np.int32, (None,)),
            "crowding": (np.float64, (None,)),
            "generation": (np.int64, (1,)),
        }

    def begin(self, problem: Problem, draws: Draws) -> Arrays:
        first = problem.space.sample(self.population, seed=draws.seed_of(0))
        archs, merit, costs = problem.evaluate(first)
        return _ranked(archs, points(merit, costs), 1)

    def step(self, problem: Problem, state: Arrays, draws: Draws) -> Arrays:
        archs, generation = state["archs"], int(state["generation"][0])
        rank, crowding = state["rank"], state["crowding"]
        # Binary tournaments: lower rank wins, then larger crowding distance.
        pairs = draws.rng.integers(len(archs), size=(2, self.population, 2))
        better = np.where(
            (rank[pairs[..., 0]] < rank[pairs[..., 1]])
            | (
                (rank[pairs[..., 0]] == rank[pairs[..., 1]])
                & (crowding[pairs[..., 0]] >= crowding[pairs[..., 1]])
            ),
            pairs[..., 0],
            pairs[..., 1],
        )
        mothers, fathers = (np.ascontiguousarray(archs[rows]) for rows in better)
        space = problem.space
        children = space.mutate(
            space.crossover(mothers, fathers, seed=draws.seed_of(2 * generation)),
            rate=self.mutation_rate,
            seed=draws.seed_of(2 * generation + 1),
        )
        children, merit, costs = problem.evaluate(children)
        everyone = _ranked(
            np.concatenate([archs, children]),
            np.concatenate([state["points"], points(merit, costs)]),
            generation + 1,
        )
        # Whoever survives keeps the rank and the distance that it had among all.
        keep = np.lexsort((-everyone["crowding"], everyone["rank"]))[: self.population]
        survivors = {name: array[keep] for name, array in everyone.items() if name != "generation"}
        return {**survivors, "generation": everyone["generation"]}


def _ranked(archs: Archs, values: FloatArray, generation: int) -> Arrays:
    rank = pareto.non_dominated_sort(values)
    crowding = np.empty(len(values))
    for level in np.unique(rank):
        members = rank == level
        crowding[members] = pareto.crowding_distance(np.ascontiguousarray(values[members]))
    return {
        "archs": archs,
        "points": values,
        "rank": rank,
        # Files hold finite numbers; the ends of a front are infinitely far from a neighbour.
        "crowding": np.nan_to_num(crowding, posinf=np.finfo(float).max),
        "generation": np.array([generation]),
    }
