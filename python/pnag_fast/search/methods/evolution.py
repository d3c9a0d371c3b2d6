"""Once-for-All's evolutionary search, for given budgets.

All budgets advance together in one batch, and what is returned is the front of everything asked,
which knows at least as much as the best of each budget that the paper reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ... import arguments
from ...accuracy import AccuracyModel
from ...accuracy.oracle import Oracle
from ...costs import CostTable
from ...errors import BudgetInfeasibleError
from ...runs import Arrays
from ...spaces import Archs, SearchSpace
from ...typing import FloatArray
from ..method import Draws, Layout, Method
from ..problem import Problem, given_budgets, n_budgets
from ..result import extremes
from ..within import met_by

# Rounds of drawing until all children fit their budget. Once-for-All draws for ever; here a child
# that still does not fit is replaced by its parent.
_TRIES = 100
# Members for each budget where nobody says how many; of an oracle its questions are enough for so
# many generations, unless there would be too few members.
_POPULATION, _GENERATIONS, _LEAST = 100, 8, 4


@dataclass(frozen=True, eq=False)
class Evolution(Method):
    """Run the evolutionary search of Once-for-All (Cai et al., ICLR 2020), once per budget.

    As in the tutorial published with it: the best quarter of the population are the parents of the
    next, half of the children are mutations of one and half uniform crossovers of two, and whoever
    exceeds the budget is drawn again. Settings default to that tutorial's. A layer's kernel and
    expand ratio are one decision here, inherited together; in the tutorial each is inherited alone.

    By default it asks ``population * (generations + 1)`` for each budget, 50,100; an oracle 300 in
    all. Nobody is asked about what exceeds its budget, so all that constrained dominance would
    compare is the quality. A question that failed counts as the worst there is. Cost: what is
    asked, and O(children) for each redraw.

    Parameters
    ----------
    budgets : array of float, shape (), (b,) or (b, n_tables), optional
        Default: five, evenly spaced over the reachable range. One that nothing meets is a
        `BudgetInfeasibleError`.
    population : int, optional
        Default: 100; of an oracle an eighth of a budget's questions, from 4 to 100.
    generations : int
    parent_ratio, mutation_ratio : float
        Share of the population that become parents, share of the children that are mutations.
    mutation_rate : float
        Probability of redrawing a depth or a layer.
    """

    budgets: FloatArray | None = None
    population: int | None = None
    generations: int = 500
    parent_ratio: float = 0.25
    mutation_ratio: float = 0.5
    mutation_rate: float = 0.1

    name: ClassVar[str] = "evolution"
    title: ClassVar[str] = "evolutionary search"
    evaluations: ClassVar[int | None] = None

    def checked(self) -> Mapping[str, Any]:
        population = self.population
        if population is not None:
            population = arguments.integer(population, "population", 4)
        return {
            "budgets": given_budgets(self.budgets),
            "population": population,
            "generations": arguments.integer(self.generations, "generations", 1),
            "parent_ratio": arguments.fraction(self.parent_ratio, "parent_ratio"),
            "mutation_ratio": arguments.fraction(self.mutation_ratio, "mutation_ratio"),
            "mutation_rate": arguments.fraction(self.mutation_rate, "mutation_rate"),
        }

    def default_evaluations(
        self, space: SearchSpace, model: AccuracyModel | Oracle, tables: Sequence[CostTable]
    ) -> int:
        if isinstance(model, Oracle):
            return super().default_evaluations(space, model, tables)
        population = _POPULATION if self.population is None else self.population
        return n_budgets(self.budgets) * population * (self.generations + 1)

    def _size(self, problem: Problem) -> int:
        """Members for each budget."""
        if self.population is not None:
            return self.population
        if isinstance(problem.model, Oracle):
            share = problem.limit // (n_budgets(self.budgets) * _GENERATIONS)
            return min(max(share, _LEAST), _POPULATION)
        return _POPULATION

    def layout(self, problem: Problem, names: object) -> Layout:
        n_slots = problem.space.n_slots
        return {
            "members": (np.uint8, (None, None, n_slots)),
            "merit": (np.float64, (None, None)),
            "generation": (np.int64, (1,)),
        }

    def begin(self, problem: Problem, draws: Draws) -> Arrays:
        wanted = problem.budgets(self.budgets)
        members = _first_population(problem, wanted, self._size(problem), draws.rng)
        return self._ask(problem, members[:, :0], np.empty((len(wanted), 0)), members, 0)

    def step(self, problem: Problem, state: Arrays, draws: Draws) -> Arrays:
        wanted = problem.budgets(self.budgets)
        rows = np.arange(len(wanted))[:, None]
        population = self._size(problem)
        n_parents = max(2, round(self.parent_ratio * population))
        order = np.argsort(-state["merit"], axis=1, kind="stable")[:, :n_parents]
        parents, merit = state["members"][rows, order], state["merit"][rows, order]
        children = _children(
            problem,
            parents,
            wanted,
            population,
            round(self.mutation_ratio * population),
            self.mutation_rate,
            draws.rng,
        )
        return self._ask(problem, parents, merit, children, int(state["generation"][0]) + 1)

    def _ask(
        self,
        problem: Problem,
        parents: Archs,
        parents_merit: FloatArray,
        children: Archs,
        generation: int,
    ) -> Arrays:
        """Ask about the next members, (b, n, n_slots); the last generation ends the search."""
        merit = problem.evaluate(children.reshape(-1, problem.space.n_slots))[1]
        whole = len(merit) == children[..., 0].size
        if not whole or generation == self.generations:
            problem.stop()
        if not whole:
            children, merit = children[:, :0], merit[:0]
        return {
            "members": np.concatenate([parents, children], axis=1),
            "merit": np.concatenate([parents_merit, merit.reshape(children.shape[:2])], axis=1),
            "generation": np.array([generation]),
        }


def _first_population(
    problem: Problem, budgets: FloatArray, population: int, rng: np.random.Generator
) -> Archs:
    """Draw architectures within each budget, shape (b, population, n_slots).

    Decisions are uniform, as in Once-for-All. What a tight budget leaves open after many tries is
    drawn uniformly from all architectures within it.
    """
    space, stack = problem.space, problem.stack
    members = np.empty((len(budgets), population, space.n_slots), dtype=np.uint8)
    filled = np.zeros(len(budgets), dtype=int)
    for _ in range(_TRIES):
        if (filled == population).all():
            break
        drawn = space.sample(
            8 * population, seed=int(rng.integers(2**63)), distribution="decisions"
        )
        fits = np.all(stack(drawn)[None] <= budgets[:, None], axis=2)
        for row in np.flatnonzero(filled < population):
            found = drawn[fits[row]][: population - filled[row]]
            members[row, filled[row] : filled[row] + len(found)] = found
            filled[row] += len(found)
    for row in np.flatnonzero(filled < population):
        rest = population - int(filled[row])
        known = members[row, : filled[row]]
        members[row, filled[row] :] = _tight(problem, budgets[row], rest, known, rng)
    return members


def _tight(
    problem: Problem, budget: FloatArray, n: int, known: Archs, rng: np.random.Generator
) -> Archs:
    table = problem.tables[0]
    if len(problem.tables) == 1 and table.reduce == "sum" and not table.caution:
        window = (table, table.bounds[0], float(budget[0]))
        return problem.space.sample(n, seed=int(rng.integers(2**63)), within=window)
    ends = extremes(problem.tables)
    known = np.concatenate([known, ends[(problem.stack(ends) <= budget).all(axis=1)]])
    if len(known) == 0:
        known = met_by(problem, budget)
    if len(known) == 0:
        raise BudgetInfeasibleError(
            f"none of {8 * _TRIES} times the population of '{problem.space.name}' meets the "
            f"budgets {budget.tolist()} together; allow more of one of the costs"
        )
    return known[rng.integers(len(known), size=n)]


def _children(
    problem: Problem,
    parents: Archs,
    budgets: FloatArray,
    n: int,
    n_mutated: int,
    mutation_rate: float,
    rng: np.random.Generator,
) -> Archs:
    """Draw `n` children per budget that fit it, shape (b, n, n_slots); the first are mutations."""
    n_budgets, n_parents, n_slots = parents.shape
    children = np.empty((n_budgets, n, n_slots), dtype=np.uint8)
    left = np.ones((n_budgets, n), dtype=bool)
    mutated = np.broadcast_to(np.arange(n) < n_mutated, left.shape)
    for attempt in range(_TRIES + 1):
        for kind in (True, False):
            row, column = np.nonzero(left & (mutated == kind))
            if len(row) == 0:
                continue
            born = np.ascontiguousarray(parents[row, rng.integers(n_parents, size=len(row))])
            draw = int(rng.integers(2**63))
            if attempt == _TRIES:
                pass
            elif kind:
                born = problem.space.mutate(born, rate=mutation_rate, seed=draw)
            else:
                mates = np.ascontiguousarray(parents[row, rng.integers(n_parents, size=len(row))])
                born = problem.space.crossover(born, mates, seed=draw)
            fits = np.all(problem.stack(born) <= budgets[row], axis=1)
            children[row[fits], column[fits]] = born[fits]
            left[row[fits], column[fits]] = False
        if not left.any():
            break
    return children
