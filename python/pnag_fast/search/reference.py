"""The reference search for the front of accuracy against costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..accuracy import AccuracyModel
from ..costs import CostTable
from ..progress import ProgressCallback, ignore_progress
from ..spaces import Archs, SearchSpace
from .evaluations import Evaluations, mixed_seed
from .result import Front, extremes

# Spaces up to this size are searched by looking at every architecture.
EXHAUSTIVE_LIMIT = 200_000


def front(
    space: SearchSpace,
    model: AccuracyModel,
    tables: Sequence[CostTable],
    *,
    seed: int = 0,
    evaluations: int = 200_000,
    time_limit_s: float | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Front:
    """Search for the front: exhaustively where the space is small, else by evolving an archive.

    The archive holds every non-dominated architecture met so far. Each round draws parents from it
    evenly over the costs, so that sparse regions get as many children as dense ones, and tries
    mutations at several rates, crossovers, and a few fresh samples.

    Parameters
    ----------
    evaluations : int
        Predictions of the accuracy model to spend at most.
    time_limit_s : float, optional
        Stop after this many seconds, whatever is left of the evaluations. With a limit the result
        depends on the speed of the machine; without, only on the seed.

    Returns
    -------
    Front
    """
    if space.n_architectures <= min(EXHAUSTIVE_LIMIT, evaluations):
        run = Evaluations(
            space, model, tables, space.n_architectures, None, progress, "exhaustive search"
        )
        run.evaluate(space.enumerate())
        return run.front()
    run = Evaluations(space, model, tables, evaluations, time_limit_s, progress, "front search")
    rng = np.random.default_rng(seed)
    # Many small rounds evolve further, few large ones waste less time between them.
    batch = min(max(evaluations // 100, 64), 4096)
    first = min(8192, 4 * batch)
    run.evaluate(
        np.concatenate(
            [
                extremes(run.tables),
                space.sample(first // 2, seed=mixed_seed(seed, 0)),
                space.sample(first // 2, seed=mixed_seed(seed, 1), distribution="decisions"),
            ]
        )
    )
    rates = (0.02, 0.05, 0.1, 0.2)
    generation = 2
    while run.left > 0:
        n = min(run.left, batch)
        parents = _spread_parents(run, n, rng)
        partners = _spread_parents(run, n // 4, rng)
        seeds = [mixed_seed(seed, generation * 8 + i) for i in range(6)]
        share = n // 8
        children = [
            space.mutate(parents[i * share : (i + 1) * share], rate=rate, seed=seeds[i])
            for i, rate in enumerate(rates)
        ]
        mates = np.ascontiguousarray(parents[: len(partners)])
        crossed = space.crossover(mates, partners, seed=seeds[4])
        children.append(crossed)
        rest = n - sum(map(len, children))
        children.append(space.mutate(parents[-rest:], rate=1.5 / space.n_slots, seed=seeds[5]))
        run.evaluate(np.concatenate(children))
        generation += 1
    return run.front()


def _spread_parents(run: Evaluations, n: int, rng: np.random.Generator) -> Archs:
    """Draw archive members so that every part of one randomly chosen cost range is as likely."""
    column = run.costs[:, rng.integers(run.costs.shape[1])]
    wanted = rng.uniform(column.min(), column.max(), size=n)
    order = np.argsort(column, kind="stable")
    right = np.searchsorted(column[order], wanted).clip(0, len(order) - 1)
    left = np.maximum(right - 1, 0)
    nearer_left = wanted - column[order[left]] < column[order[right]] - wanted
    return np.ascontiguousarray(run.archs[order[np.where(nearer_left, left, right)]])
