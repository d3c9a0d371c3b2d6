"""NSGA-II."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ... import arguments, pareto
from ...accuracy.oracle import Oracle
from ...runs import Arrays, Run
from ...spaces import Archs
from ...typing import BoolArray, FloatArray
from ..constrained import excess
from ..method import Draws, Layout, Method
from ..problem import Problem, given_budgets
from ..result import Front, points
from ..within import met_by, one_vector, only_within

# Members where nobody says how many; of an oracle its questions are enough for so many generations,
# unless there would be too few members.
_POPULATION, _GENERATIONS, _LEAST = 200, 15, 8
# First objective of what failed: files hold finite numbers.
_FAILED = np.finfo(float).max


@dataclass(frozen=True, eq=False)
class Nsga2(Method):
    """Run NSGA-II (Deb et al., IEEE Trans. Evol. Comput. 2002) with uniform crossover and mutation.

    With bounds, members are compared by its constrained dominance (section VI): who is within the
    bounds is better than who is not, who exceeds them less is better than who exceeds them more,
    and within them rank and crowding decide. What exceeds them steers by its costs alone, so nobody
    is asked about it, and it is no part of the front. A question that failed comes last.

    Parameters
    ----------
    budgets : float or array of float, shape (n_tables,), optional
        Upper bounds in the units of the tables; ``inf`` leaves a cost open. Bounds that nothing
        meets are a `BudgetInfeasibleError`, before anything is asked.
    population : int, optional
        Members per generation, at least 4. Default: 200; of an oracle a fifteenth of the questions,
        from 8 to 200.
    mutation_rate : float
        Probability of redrawing a depth or a layer.

    Returns
    -------
    Front
        Of everything asked; with bounds, of what is within them.
    """

    budgets: FloatArray | None = None
    population: int | None = None
    mutation_rate: float = 0.1

    name: ClassVar[str] = "nsga2"
    title: ClassVar[str] = "NSGA-II"

    def checked(self) -> Mapping[str, Any]:
        population = self.population
        if population is not None:
            population = arguments.integer(population, "population", 4)
        return {
            "budgets": given_budgets(self.budgets),
            "population": population,
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

    def run(self, problem: Problem, run: Run) -> Front:
        if self.budgets is None:
            return super().run(problem, run)
        bounds = one_vector(problem, self.budgets)
        met_by(problem, bounds)
        return only_within(super().run(problem, run), bounds)

    def begin(self, problem: Problem, draws: Draws) -> Arrays:
        first = problem.space.sample(self._population(problem), seed=draws.seed_of(0))
        if self.budgets is not None:
            # Something is within the bounds from the first question on.
            met = met_by(problem, one_vector(problem, self.budgets))
            first = np.concatenate([met, first])[: len(first)]
        return self._ranked(problem, *self._asked(problem, first), 1)

    def step(self, problem: Problem, state: Arrays, draws: Draws) -> Arrays:
        archs, generation = state["archs"], int(state["generation"][0])
        rank, crowding = state["rank"], state["crowding"]
        population = self._population(problem)
        # Binary tournaments: lower rank wins, then larger crowding distance.
        pairs = draws.rng.integers(len(archs), size=(2, population, 2))
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
        children, values = self._asked(problem, children)
        everyone = self._ranked(
            problem,
            np.concatenate([archs, children]),
            np.concatenate([state["points"], values]),
            generation + 1,
        )
        # Whoever survives keeps the rank and the distance that it had among all.
        keep = np.lexsort((-everyone["crowding"], everyone["rank"]))[:population]
        survivors = {name: array[keep] for name, array in everyone.items() if name != "generation"}
        return {**survivors, "generation": everyone["generation"]}

    def _population(self, problem: Problem) -> int:
        if self.population is not None:
            return self.population
        if isinstance(problem.model, Oracle):
            return min(max(problem.limit // _GENERATIONS, _LEAST), _POPULATION)
        return _POPULATION

    def _asked(self, problem: Problem, archs: Archs) -> tuple[Archs, FloatArray]:
        """Ask about what is within the bounds; return members and their points.

        Merits of what nobody was asked about are 0, and nobody looks at them.
        """
        outside: BoolArray = np.zeros(len(archs), dtype=bool)
        costs = np.empty((len(archs), len(problem.tables)))
        if self.budgets is not None:
            costs = problem.stack(archs, threads=problem.threads)
            outside = np.asarray((costs > one_vector(problem, self.budgets)).any(axis=1))
        asked, merit, asked_costs = problem.evaluate(np.ascontiguousarray(archs[~outside]))
        values = points(merit, asked_costs)
        if isinstance(problem.model, Oracle):
            # It remembers what it has just answered.
            values[~np.isfinite(problem.model(asked)), 0] = _FAILED
        rest = points(np.zeros(outside.sum()), costs[outside])
        return np.concatenate([asked, archs[outside]]), np.concatenate([values, rest])

    def _ranked(
        self, problem: Problem, archs: Archs, values: FloatArray, generation: int
    ) -> Arrays:
        """Rank by constrained dominance, then crowding among equals."""
        over = np.zeros(len(values))
        if self.budgets is not None:
            over = excess(values[:, 1:], one_vector(problem, self.budgets))
        over[values[:, 0] == _FAILED] = np.inf
        levels, level = np.unique(over, return_inverse=True)
        rank = np.empty(len(values), dtype=np.int32)
        lowest = 0
        for number, amount in enumerate(levels):
            members = level == number
            rank[members] = lowest
            if amount == 0:
                rank[members] += pareto.non_dominated_sort(
                    np.ascontiguousarray(values[members]), threads=problem.threads
                )
            lowest = int(rank[members].max()) + 1
        crowding = np.empty(len(values))
        for front in np.unique(rank):
            members = rank == front
            crowding[members] = pareto.crowding_distance(
                np.ascontiguousarray(values[members]), threads=problem.threads
            )
        return {
            "archs": archs,
            "points": values,
            "rank": rank,
            # Files hold finite numbers; the ends of a front are infinitely far from a neighbour.
            "crowding": np.nan_to_num(crowding, posinf=np.finfo(float).max),
            "generation": np.array([generation]),
        }
