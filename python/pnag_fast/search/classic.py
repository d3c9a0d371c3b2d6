"""Random search and NSGA-II."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .. import arguments, pareto
from ..accuracy import AccuracyModel
from ..costs import CostTable
from ..progress import ProgressCallback, ignore_progress
from ..spaces import SearchSpace
from .evaluations import Evaluations, mixed_seed
from .result import Front, objectives

FloatArray = npt.NDArray[np.float64]


def random(
    space: SearchSpace,
    model: AccuracyModel,
    tables: Sequence[CostTable],
    *,
    seed: int = 0,
    evaluations: int = 20_000,
    time_limit_s: float | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Front:
    """Sample uniformly and keep what is not dominated."""
    seed = arguments.seed(seed)
    run = Evaluations(space, model, tables, evaluations, time_limit_s, progress, "random search")
    batch = 0
    while run.left > 0:
        run.evaluate(space.sample(min(run.left, 8192), seed=mixed_seed(seed, batch)))
        batch += 1
    return run.front()


def nsga2(
    space: SearchSpace,
    model: AccuracyModel,
    tables: Sequence[CostTable],
    *,
    seed: int = 0,
    evaluations: int = 20_000,
    time_limit_s: float | None = None,
    population: int = 200,
    mutation_rate: float = 0.1,
    progress: ProgressCallback = ignore_progress,
) -> Front:
    """Run NSGA-II (Deb et al., IEEE Trans. Evol. Comput. 2002) with uniform crossover and mutation.

    Parameters
    ----------
    population : int
        Members per generation, at least 4.
    """
    population, seed = arguments.integer(population, "population", 4), arguments.seed(seed)
    mutation_rate = arguments.fraction(mutation_rate, "mutation_rate")
    run = Evaluations(space, model, tables, evaluations, time_limit_s, progress, "NSGA-II")
    rng = np.random.default_rng(seed)
    archs, top1, costs = run.evaluate(space.sample(population, seed=mixed_seed(seed, 0)))
    rank, crowding = _rank_and_crowding(objectives(top1, costs))
    generation = 1
    while run.left > 0:
        # Binary tournaments: lower rank wins, then larger crowding distance.
        pairs = rng.integers(len(archs), size=(2, population, 2))
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
        children = space.mutate(
            space.crossover(mothers, fathers, seed=mixed_seed(seed, 2 * generation)),
            rate=mutation_rate,
            seed=mixed_seed(seed, 2 * generation + 1),
        )
        new_archs, new_top1, new_costs = run.evaluate(children)
        archs = np.concatenate([archs, new_archs])
        top1, costs = np.concatenate([top1, new_top1]), np.concatenate([costs, new_costs])
        rank, crowding = _rank_and_crowding(objectives(top1, costs))
        keep = np.lexsort((-crowding, rank))[:population]
        archs, top1, costs = archs[keep], top1[keep], costs[keep]
        rank, crowding = rank[keep], crowding[keep]
        generation += 1
    return run.front()


def _rank_and_crowding(points: FloatArray) -> tuple[npt.NDArray[np.int32], FloatArray]:
    rank = pareto.non_dominated_sort(points)
    crowding = np.empty(len(points))
    for level in np.unique(rank):
        members = rank == level
        crowding[members] = pareto.crowding_distance(np.ascontiguousarray(points[members]))
    return rank, crowding
