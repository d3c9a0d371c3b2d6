"""What all searches share: evaluating batches, counting them, and keeping what is not dominated."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import arguments, pareto
from .. import costs as cost_tables
from ..accuracy import AccuracyModel
from ..costs import CostTable
from ..errors import FileFormatError, InvalidInputError, InvalidTypeError
from ..progress import ProgressCallback, require_progress
from ..runs.checkpoint import Arrays, State
from ..spaces import Archs, SearchSpace
from ..spaces.space import require_space
from .result import Front, best_within, objectives

FloatArray = npt.NDArray[np.float64]

# Parents are drawn from this many members of the archive; more only slows the sort.
ARCHIVE_LIMIT = 4000


class Evaluations:
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
        require_problem(space, model, tables)
        limit = arguments.integer(limit, "evaluations", 1)
        if time_limit_s is not None:
            time_limit_s = arguments.number(
                time_limit_s, "time_limit_s", 0, above=True, finite=False
            )
        require_progress(progress)
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
        """Since the search started."""
        return time.monotonic() - self.started

    @property
    def left(self) -> int:
        """Evaluations that are left; 0 once time is up."""
        if self.time_limit_s is not None and self.seconds >= self.time_limit_s:
            return 0
        return self.limit - self.count

    @property
    def spent(self) -> float:
        """Share of the evaluations, or of the time, that is used up."""
        share = self.count / self.limit
        return share if self.time_limit_s is None else max(share, self.seconds / self.time_limit_s)

    def front_at(self, costs: FloatArray) -> FloatArray:
        """Top-1 of the best archive member within each row of costs; 0 where there is none."""
        found = best_within(self.costs, self.top1, costs)
        return np.where(found >= 0, self.top1[found], 0.0)

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
            # Of equals one is enough; then those go that leave the smallest gap.
            _, first = np.unique(objectives(top1[keep], costs[keep]), axis=0, return_index=True)
            keep = keep[np.sort(first)]
        if len(keep) > ARCHIVE_LIMIT:
            distance = pareto.crowding_distance(objectives(top1[keep], costs[keep]))
            keep = keep[np.argsort(-distance, kind="stable")[:ARCHIVE_LIMIT]]
        self.archs, self.top1, self.costs = archs[keep], top1[keep], costs[keep]

    def state(self) -> Arrays:
        """Return what `restore` needs to go on from here."""
        spent = np.array([self.count, self.seconds])
        return {"archs": self.archs, "top1": self.top1, "costs": self.costs, "spent": spent}

    def restore(self, state: State) -> None:
        """Go on from where `state` was called."""
        archs = state.take_archs("archs", self.space)
        top1 = state.take("top1", np.float64, (len(archs),))
        costs = state.take("costs", np.float64, (len(archs), len(self.tables)))
        count, seconds = state.take("spent", np.float64, (2,)).tolist()
        if not (
            np.allclose(costs, self.stack(archs)) and 0 <= count <= self.limit and seconds >= 0
        ):
            raise FileFormatError(
                f"{state.where} holds architectures that do not cost what the tables say, or more "
                "evaluations than were allowed; delete the file"
            )
        self.archs, self.top1, self.costs = archs, top1, costs
        self.count = int(count)
        self.started = time.monotonic() - seconds

    def front(self) -> Front:
        """Return what was kept."""
        return Front.of(
            self.archs,
            self.top1,
            self.costs,
            self.tables,
            accuracy_source=self.model.source,
            evaluations=self.count,
            seconds=self.seconds,
        )


def require_problem(space: object, model: object, tables: object) -> None:
    """Refuse what is no problem to search: the first three arguments of every search.

    Raises
    ------
    InvalidTypeError
        Names the argument and what it should be.
    """
    require_space(space)
    if not isinstance(model, AccuracyModel):
        raise InvalidTypeError(
            "model should be an accuracy model, as pnag_fast.accuracy.load(path, space), found "
            f"{arguments.shown(model)}"
        )
    if not isinstance(tables, (list, tuple)) or not all(
        isinstance(table, CostTable) for table in tables
    ):
        raise InvalidTypeError(
            "tables should be a list of cost tables, as [pnag_fast.costs.macs(space)], found "
            f"{arguments.shown(tables)}"
        )
    if not tables:
        raise InvalidInputError("tables should hold at least one cost table, found none")


def mixed_seed(seed: int, stream: int) -> int:
    """Seed of an independent stream."""
    return int(np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0])


def identity(
    method: str,
    seed: int,
    settings: Mapping[str, Any],
    model: AccuracyModel,
    tables: tuple[CostTable, ...],
) -> dict[str, Any]:
    """Return what a generator depends on, each by the name an error should use."""
    tensors, body = model.to_tensors()
    weights = hashlib.sha256()
    for name, array in sorted(tensors.items()):
        weights.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return {
        "method": method,
        "seed": seed,
        "settings": dict(settings),
        "space": tables[0].space.definition,
        "accuracy model": [weights.hexdigest(), body],
        "cost tables": [_digest(table.to_json()) for table in tables],
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
