"""Searches for the front of accuracy against cost: the reference search and its baselines.

All take a space, an accuracy model and cost tables, count their evaluations and their time, and
return a `Front`.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import costs as cost_tables
from .. import files, pareto
from ..accuracy import AccuracyModel
from ..costs import CostTable
from ..errors import FileFormatError, InvalidInputError
from ..progress import ProgressCallback, ignore_progress
from ..spaces import Archs, SearchSpace

__all__ = ["Front", "front", "nsga2", "random"]

FloatArray = npt.NDArray[np.float64]

FRONT_FORMAT = "pnag-front"
FRONT_VERSION = 1

# Spaces up to this size are searched by looking at every architecture.
EXHAUSTIVE_LIMIT = 200_000
# Parents are drawn from this many members of the archive; more only slows the sort.
ARCHIVE_LIMIT = 4000


@dataclass(frozen=True, eq=False)
class Front:
    """Architectures none of which dominates another, cheapest first.

    Attributes
    ----------
    archs : ndarray of uint8, shape (n, n_slots)
    top1 : ndarray of float64, shape (n,), in [0, 1]
    costs : ndarray of float64, shape (n, n_tables)
    tables : tuple of CostTable
    accuracy_source : str
        Which accuracy model ``top1`` comes from. A front is only as true as its model.
    evaluations, seconds : int, float
        What the search took.
    """

    space: SearchSpace
    archs: Archs
    top1: FloatArray
    costs: FloatArray
    tables: tuple[CostTable, ...]
    accuracy_source: str
    evaluations: int
    seconds: float

    def __len__(self) -> int:
        return len(self.archs)

    @classmethod
    def of(
        cls,
        archs: Archs,
        top1: FloatArray,
        costs: FloatArray,
        tables: Sequence[CostTable],
        *,
        accuracy_source: str,
        evaluations: int,
        seconds: float,
    ) -> Front:
        """Keep the non-dominated rows of evaluated architectures, each once."""
        archs, first = np.unique(archs, axis=0, return_index=True)
        top1, costs = top1[first], costs[first]
        keep = pareto.is_non_dominated(objectives(top1, costs))
        order = np.lexsort((-top1[keep], *costs[keep].T[::-1]))
        return cls(
            tables[0].space,
            np.ascontiguousarray(archs[keep][order]),
            top1[keep][order],
            costs[keep][order],
            tuple(tables),
            accuracy_source,
            evaluations,
            seconds,
        )

    def best(self, budgets: FloatArray) -> npt.NDArray[np.intp]:
        """Row of the most accurate member within each budget, or -1 where none is.

        Parameters
        ----------
        budgets : ndarray of float64, shape (b, n_tables)

        Returns
        -------
        ndarray of intp, shape (b,)
        """
        fits: npt.NDArray[np.bool_] = np.all(self.costs[None] <= budgets[:, None], axis=2)
        scores = np.where(fits, self.top1[None], -np.inf)
        if len(self) == 0:
            return np.full(len(budgets), -1)
        found: npt.NDArray[np.intp] = np.where(fits.any(axis=1), scores.argmax(axis=1), -1)
        return found

    def to_csv(self) -> str:
        """Return one line per member: architecture, top-1, and every cost."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = [f"{table.metric}_{table.unit}" for table in self.tables]
        writer.writerow(["arch", "top1", *names])
        for arch, top1, row in zip(
            self.space.to_strings(self.archs), self.top1.tolist(), self.costs.tolist(), strict=True
        ):
            writer.writerow([arch, top1, *row])
        return text.getvalue()

    def save(self, path: files.StrPath) -> None:
        """Write the front as versioned JSON, with the tables and the model it rests on named."""
        body = {
            "space": self.space.definition,
            "accuracy_source": self.accuracy_source,
            "costs": [
                {"metric": t.metric, "unit": t.unit, "device": t.device} for t in self.tables
            ],
            "evaluations": self.evaluations,
            "seconds": self.seconds,
            "members": [
                {"arch": arch, "top1": top1, "costs": row}
                for arch, top1, row in zip(
                    self.space.to_strings(self.archs),
                    self.top1.tolist(),
                    self.costs.tolist(),
                    strict=True,
                )
            ],
        }
        files.write_json(path, FRONT_FORMAT, FRONT_VERSION, body)

    @classmethod
    def load(cls, path: files.StrPath, tables: Sequence[CostTable]) -> Front:
        """Read a front; costs are looked up anew in `tables`, which must be for its space."""
        document = files.read_json(path, FRONT_FORMAT, FRONT_VERSION)
        members = files.require(document, "members", list, path)
        space = tables[0].space
        try:
            archs = space.from_strings([member["arch"] for member in members])
            top1 = np.array([float(member["top1"]) for member in members])
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(
                f"'{path}' is not a front of space '{space.name}': {error}"
            ) from error
        return cls.of(
            archs,
            top1,
            cost_tables.stack(tables)(archs),
            tables,
            accuracy_source=files.require(document, "accuracy_source", str, path),
            evaluations=files.require(document, "evaluations", int, path),
            seconds=float(files.require(document, "seconds", (int, float), path)),
        )


def objectives(top1: FloatArray, costs: FloatArray) -> FloatArray:
    """Points to minimise, shape (n, 1 + n_tables): the error first, then every cost."""
    return np.ascontiguousarray(np.column_stack([1.0 - top1, costs]))


class _Evaluations:
    """Evaluates batches, counts them, and keeps the non-dominated architectures."""

    def __init__(
        self,
        space: SearchSpace,
        model: AccuracyModel,
        tables: Sequence[CostTable],
        limit: int,
        time_limit_s: float | None,
        progress: ProgressCallback,
        description: str,
    ) -> None:
        if limit < 1:
            raise InvalidInputError(f"evaluations should be at least 1, found {limit}")
        if time_limit_s is not None and not time_limit_s > 0:
            raise InvalidInputError(f"time_limit_s should be positive, found {time_limit_s}")
        self.space = space
        self.model = model.for_space(space)
        self.tables = [table.for_space(space) for table in tables]
        self.stack = cost_tables.stack(self.tables)
        self.limit, self.time_limit_s = limit, time_limit_s
        self.progress, self.description = progress, description
        self.count = 0
        self.started = time.monotonic()
        self.archs = np.empty((0, space.n_slots), dtype=np.uint8)
        self.top1 = np.empty(0)
        self.costs = np.empty((0, len(self.tables)))

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def left(self) -> int:
        """Evaluations that are left; 0 once time is up."""
        if self.time_limit_s is not None and self.seconds >= self.time_limit_s:
            return 0
        return self.limit - self.count

    def evaluate(self, archs: Archs) -> tuple[Archs, FloatArray, FloatArray]:
        """Evaluate at most `left` rows; add them to the archive."""
        archs = np.ascontiguousarray(archs[: self.left])
        top1, costs = self.model.predict(archs), self.stack(archs)
        self.count += len(archs)
        self._keep(archs, top1, costs)
        self.progress(self.description, self.count, self.limit)
        return archs, top1, costs

    def _keep(self, archs: Archs, top1: FloatArray, costs: FloatArray) -> None:
        archs = np.concatenate([self.archs, archs])
        top1 = np.concatenate([self.top1, top1])
        costs = np.concatenate([self.costs, costs])
        keep = np.flatnonzero(pareto.is_non_dominated(objectives(top1, costs)))
        _, first = np.unique(archs[keep], axis=0, return_index=True)
        keep = keep[np.sort(first)]
        if len(keep) > ARCHIVE_LIMIT:
            distance = pareto.crowding_distance(objectives(top1[keep], costs[keep]))
            keep = keep[np.argsort(-distance, kind="stable")[:ARCHIVE_LIMIT]]
        self.archs, self.top1, self.costs = archs[keep], top1[keep], costs[keep]

    def front(self) -> Front:
        return Front.of(
            self.archs,
            self.top1,
            self.costs,
            self.tables,
            accuracy_source=self.model.source,
            evaluations=self.count,
            seconds=self.seconds,
        )


def extremes(tables: Sequence[CostTable]) -> Archs:
    """Cheapest and dearest architecture by every table, shape (2 * n_tables, n_slots)."""
    return np.stack([arch for table in tables for arch in (table.cheapest(), table.dearest())])


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
    run = _Evaluations(space, model, tables, evaluations, time_limit_s, progress, "random search")
    batch = 0
    while run.left > 0:
        run.evaluate(space.sample(min(run.left, 8192), seed=_mixed_seed(seed, batch)))
        batch += 1
    return run.front()


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
        run = _Evaluations(
            space, model, tables, space.n_architectures, None, progress, "exhaustive search"
        )
        run.evaluate(space.enumerate())
        return run.front()
    run = _Evaluations(space, model, tables, evaluations, time_limit_s, progress, "front search")
    rng = np.random.default_rng(seed)
    # Many small rounds evolve further, few large ones waste less time between them.
    batch = min(max(evaluations // 100, 64), 4096)
    first = min(8192, 4 * batch)
    run.evaluate(
        np.concatenate(
            [
                extremes(run.tables),
                space.sample(first // 2, seed=_mixed_seed(seed, 0)),
                space.sample(first // 2, seed=_mixed_seed(seed, 1), distribution="decisions"),
            ]
        )
    )
    rates = (0.02, 0.05, 0.1, 0.2)
    generation = 2
    while run.left > 0:
        n = min(run.left, batch)
        parents = _spread_parents(run, n, rng)
        partners = _spread_parents(run, n // 4, rng)
        seeds = [_mixed_seed(seed, generation * 8 + i) for i in range(6)]
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


def _spread_parents(run: _Evaluations, n: int, rng: np.random.Generator) -> Archs:
    """Draw archive members so that every part of one randomly chosen cost range is as likely."""
    column = run.costs[:, rng.integers(run.costs.shape[1])]
    wanted = rng.uniform(column.min(), column.max(), size=n)
    order = np.argsort(column, kind="stable")
    right = np.searchsorted(column[order], wanted).clip(0, len(order) - 1)
    left = np.maximum(right - 1, 0)
    nearer_left = wanted - column[order[left]] < column[order[right]] - wanted
    return np.ascontiguousarray(run.archs[order[np.where(nearer_left, left, right)]])


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
    if population < 4:
        raise InvalidInputError(f"population should be at least 4, found {population}")
    run = _Evaluations(space, model, tables, evaluations, time_limit_s, progress, "NSGA-II")
    rng = np.random.default_rng(seed)
    archs, top1, costs = run.evaluate(space.sample(population, seed=_mixed_seed(seed, 0)))
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
            space.crossover(mothers, fathers, seed=_mixed_seed(seed, 2 * generation)),
            rate=mutation_rate,
            seed=_mixed_seed(seed, 2 * generation + 1),
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


def _mixed_seed(seed: int, stream: int) -> int:
    """Seed of an independent stream."""
    return int(np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0])
