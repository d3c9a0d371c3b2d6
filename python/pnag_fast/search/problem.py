"""What a search method is given: what it may ask, how often, and what it knows by now.

A problem asks a model or an oracle, looks costs up, counts, stops when nothing is left, and keeps
the archive: all that is not dominated. Methods see merits, of which larger is better whatever the
direction of the objective.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import arguments, pareto
from .. import costs as cost_tables
from ..accuracy import AccuracyModel
from ..accuracy.oracle import Oracle
from ..budgets import as_budgets, check_budgets
from ..costs import CostTable
from ..errors import FileFormatError, InvalidInputError, InvalidTypeError
from ..progress import NEWS, ProgressCallback, ignore_progress
from ..runs import Arrays, State
from ..spaces import Archs, SearchSpace
from ..spaces.space import require_space
from ..typing import BoolArray, Float32Array, FloatArray, IntArray
from .result import Front, points

# Members of the archive: it is cut to the first where it has grown by the second. More slows every
# comparison with it.
ARCHIVE_LIMIT, ARCHIVE_SLACK = 4000, 1000
# Cells of the finest grid along each objective.
_FINEST = 4096

# Budgets searched for where none are given: this many, evenly spaced, the last one the dearest.
_DEFAULT_BUDGETS = 5

# Oracles: batches in a row that bring no new architecture, after which all is known that a method
# will ever ask; and failures from the first on, after which it is not the architectures.
_FRUITLESS = 100
_FAILURES = 20


class Problem:
    """A space, a model or an oracle, cost tables, and how often may be asked. Serves one search.

    Parameters
    ----------
    space : SearchSpace
    model : AccuracyModel or Oracle
        Of the same space.
    tables : sequence of CostTable
        Of the same space.
    evaluations : int
        Questions at most. Of an oracle only architectures that are new in this search count,
        remembered or not; of a model all do.
    time_limit_s : float, optional
        Nothing is left after this many seconds.
    threads : int, optional
        Of the C++ core; None for every core that this process may use.

    Attributes
    ----------
    archs : ndarray of uint8, shape (n, n_slots)
        The archive: architectures none of which dominates another.
    merit : ndarray of float64, shape (n,)
        Value of the objective, negated where smaller is better.
    costs : ndarray of float64, shape (n, n_tables)
    count : int
        Questions asked.
    failed : int
        Of those, the ones that have no value.
    memo : dict
        What a method can compute anew from its state at any time, and need not.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Names what does not fit together or is out of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        model: AccuracyModel | Oracle,
        tables: Sequence[CostTable],
        *,
        evaluations: int,
        time_limit_s: float | None = None,
        threads: int | None = None,
    ) -> None:
        require_problem(space, model, tables)
        if time_limit_s is not None:
            time_limit_s = arguments.number(
                time_limit_s, "time_limit_s", 0, above=True, finite=False
            )
        self.space = space
        self.model = model.for_space(space)
        self.tables = tuple(table.for_space(space) for table in tables)
        self.stack = cost_tables.stack(self.tables)
        self.objective = model.objective
        self.limit = arguments.integer(evaluations, "evaluations", 1)
        self.time_limit_s, self.threads = time_limit_s, threads
        self.count = self.failed = 0
        self.archs: Archs = np.empty((0, space.n_slots), dtype=np.uint8)
        self.merit: FloatArray = np.empty(0)
        self.costs: FloatArray = np.empty((0, len(self.tables)))
        self.memo: dict[str, Any] = {}
        self._started = time.monotonic()
        self._progress: ProgressCallback = ignore_progress
        self._title = ""
        # Of an oracle: what was asked and how often, and the worst merit, which stands in where it
        # gives none.
        self._asked: dict[bytes, int] = {}
        self._worst = np.inf
        self._fruitless = 0
        self._stopped = False
        self._reason = ""

    def start(self, progress: ProgressCallback, title: str) -> None:
        """Begin to count the time, and to report under `title`."""
        self._progress, self._title = progress, title
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the search started."""
        return time.monotonic() - self._started

    @property
    def left(self) -> int:
        """Questions that are left; 0 once time is up, or nothing new is asked any more."""
        late = self.time_limit_s is not None and self.seconds >= self.time_limit_s
        if late or self._stopped or self._fruitless >= _FRUITLESS:
            return 0
        return self.limit - self.count

    @property
    def spent(self) -> float:
        """Share of the questions, or of the time, that is used up."""
        share = self.count / self.limit
        return share if self.time_limit_s is None else max(share, self.seconds / self.time_limit_s)

    @property
    def points(self) -> FloatArray:
        """The archive as objectives to minimise, shape (n, 1 + n_tables)."""
        return points(self.merit, self.costs)

    @property
    def floor(self) -> float:
        """Merit that nothing falls below: the limit of the objective, or the worst seen."""
        limit = self.objective.low if self.objective.direction == "max" else -self.objective.high
        if np.isfinite(limit):
            return limit
        return float(self.merit.min(initial=self._worst)) if self.count > self.failed else 0.0

    def front_at(self, costs: FloatArray) -> FloatArray:
        """Merit of the best archive member within each row of costs; `floor` where none is."""
        found = pareto.best_within(self.costs, self.merit, costs, threads=self.threads)
        return np.where(found >= 0, self.merit[found], self.floor)

    def slopes(self, archs: Archs) -> Float32Array | None:
        """First-order effect of every code on the merit; None where there are no slopes.

        Shape and order as of `AccuracyModel.sensitivity`. It is no question.
        """
        if isinstance(self.model, Oracle):
            return None
        slopes = self.model.sensitivity(archs)
        if slopes is None or self.objective.direction == "max":
            return slopes
        return np.negative(slopes)

    def merit_of(self, archs: Archs) -> FloatArray:
        """Merit of architectures at whose slopes a method looks; it is no question.

        Raises
        ------
        InvalidTypeError
            Of an oracle, which has no slopes.
        """
        if isinstance(self.model, Oracle):
            raise InvalidTypeError("an oracle has no slopes, and every other question counts")
        return self.objective.merit(self.model.predict(archs))

    def budgets(self, given: FloatArray | None) -> FloatArray:
        """Upper bounds, shape (b, n_tables), for methods that search for budgets.

        Parameters
        ----------
        given : ndarray of float64, optional
            As of `given_budgets`; None spreads some over the reachable range.
        """
        if given is None:
            low, high = self.stack.bounds.T
            share = (np.arange(_DEFAULT_BUDGETS) + 1) / _DEFAULT_BUDGETS
            return np.asarray(low + (high - low) * share[:, None])
        # A cost that is left open is searched for up to its dearest.
        wanted = check_budgets(given, self.tables).upper
        if len(wanted) == 0:
            raise InvalidInputError("budgets should hold at least one budget, found none")
        return wanted

    def stop(self) -> None:
        """End the search: its method has nothing more to ask."""
        self._stopped = True

    def evaluate(self, archs: Archs) -> tuple[Archs, FloatArray, FloatArray]:
        """Ask about as many rows as are left, the first ones; add them to the archive.

        Parameters
        ----------
        archs : ndarray of uint8, shape (n, n_slots)

        Returns
        -------
        archs : ndarray of uint8, shape (at most n, n_slots)
        merit : ndarray of float64
            Where an oracle failed: `floor`.
        costs : ndarray of float64, shape (at most n, n_tables)
        """
        archs, merit, costs = self.answers(archs)
        return archs, np.where(np.isnan(merit), self.floor, merit), costs

    def answers(self, archs: Archs, *, again: bool = False) -> tuple[Archs, FloatArray, FloatArray]:
        """Ask as `evaluate` does; the merit is NaN where an oracle failed.

        Parameters
        ----------
        archs : ndarray of uint8, shape (n, n_slots)
        again : bool
            Of an oracle, whether every row is a question, also where it was asked before: for
            oracles whose answers about the same architecture differ.
        """
        if isinstance(self.model, Oracle):
            archs, merit, good = self._ask(self.model, archs, again=again)
        else:
            archs = np.ascontiguousarray(archs[: self.left])
            merit, good = self.objective.merit(self.model.predict(archs)), None
            self.count += len(archs)
        costs = self.stack(archs, threads=self.threads)
        if good is None:
            self._keep(archs, merit, costs)
        else:
            self._keep(archs[good], merit[good], costs[good])
        self._progress(self._title, self.count, self.limit)
        return archs, merit, costs

    def believe(self, archs: Archs, merit: FloatArray) -> None:
        """Make the archive of these rows instead of single answers, which are noisy.

        Parameters
        ----------
        archs : ndarray of uint8, shape (n, n_slots)
        merit : ndarray of float64, shape (n,)
            What a method has come to believe of them.
        """
        self.archs, self.merit, self.costs = self.archs[:0], self.merit[:0], self.costs[:0]
        self._keep(archs, merit, self.stack(archs, threads=self.threads))

    def _ask(
        self, oracle: Oracle, archs: Archs, *, again: bool
    ) -> tuple[Archs, FloatArray, BoolArray]:
        names = [row.tobytes() for row in np.ascontiguousarray(archs)]
        first = np.zeros(len(archs), dtype=bool)
        turns = np.zeros(len(archs), dtype=np.int64)
        times: dict[bytes, int] = {}
        for i, name in enumerate(names):
            before = times.get(name, self._asked.get(name, 0))
            first[i] = again or before == 0
            turns[i] = before if again else 0
            times[name] = before + 1 if again else max(before, 1)
        left = self.left
        archs = np.ascontiguousarray(archs[: np.searchsorted(np.cumsum(first), left, side="right")])
        first, turns = first[: len(archs)], turns[: len(archs)]
        self._fruitless = 0 if first.any() else self._fruitless + 1
        count = self.count

        def report(answered: int) -> None:
            done = count + min(answered, left)
            self._progress(f"{self._title}{NEWS}{oracle.n_known} known", done, self.limit)

        until = None if self.time_limit_s is None else self._started + self.time_limit_s
        values, errors = oracle.ask(archs, turns, until=until, progress=report)
        # Answers come in any order; without those that time did not allow it is a shorter batch.
        archs, first = archs[: len(values)], first[: len(values)]
        for name, new in zip(names, first.tolist(), strict=False):
            self._asked[name] = self._asked.get(name, 0) + new
        merit, good = self.objective.merit(values), np.isfinite(values)
        for i in np.flatnonzero(first).tolist():
            self.count += 1
            self.failed += not good[i]
            self._reason = self._reason or errors[i]
            if self.count == self.failed == min(_FAILURES, self.limit):
                raise InvalidInputError(
                    f"the oracle ({oracle.source}) failed for each of the first {self.count} "
                    f"architectures asked: {self._reason}; call it for one architecture by itself "
                    "to see why"
                )
        if good.any():
            self._worst = min(self._worst, float(merit[good].min()))
        return archs, merit, good

    def _keep(self, archs: Archs, merit: FloatArray, costs: FloatArray) -> None:
        archs = np.concatenate([self.archs, archs])
        merit = np.concatenate([self.merit, merit])
        costs = np.concatenate([self.costs, costs])
        best = pareto.is_non_dominated(points(merit, costs), threads=self.threads)
        keep = _distinct(archs, costs[:, 0], np.flatnonzero(best))
        if len(keep) > ARCHIVE_LIMIT:
            # Of equals one is enough.
            _, first = np.unique(points(merit[keep], costs[keep]), axis=0, return_index=True)
            keep = keep[np.sort(first)]
        if len(keep) > ARCHIVE_LIMIT + ARCHIVE_SLACK:
            keep = keep[spread(points(merit[keep], costs[keep]), ARCHIVE_LIMIT)]
        self.archs, self.merit, self.costs = archs[keep], merit[keep], costs[keep]

    def state(self) -> Arrays:
        """Return what `restore` needs to go on from here."""
        rows = (name * times for name, times in sorted(self._asked.items()))
        asked = np.frombuffer(b"".join(rows), dtype=np.uint8)
        return {
            "archs": self.archs,
            "merit": self.merit,
            "costs": self.costs,
            "spent": np.array(
                [self.count, self.seconds, self.failed, self._fruitless, self._stopped]
            ),
            "worst": np.array([self._worst if np.isfinite(self._worst) else 0.0]),
            "asked": asked.reshape(-1, self.space.n_slots),
        }

    def restore(self, state: State) -> None:
        """Go on from where `state` was called.

        Raises
        ------
        FileFormatError
            If it is not the state of such a problem.
        """
        archs = state.take("archs", np.uint8, (None, self.space.n_slots))
        if len(archs):
            archs = state.take_archs("archs", self.space)
        merit = state.take("merit", np.float64, (len(archs),))
        costs = state.take("costs", np.float64, (len(archs), len(self.tables)))
        spent = state.take("spent", np.float64, (5,)).tolist()
        count, seconds, failed, fruitless, stopped = spent
        asked = state.take("asked", np.uint8, (None, self.space.n_slots))
        if not (
            np.allclose(costs, self.stack(archs))
            and 0 <= failed <= count <= self.limit
            and seconds >= 0
            and 0 <= fruitless <= _FRUITLESS
            and (len(asked) == count or not isinstance(self.model, Oracle))
        ):
            raise FileFormatError(
                f"{state.where} holds architectures that do not cost what the tables say, or more "
                "evaluations than were allowed; delete the file"
            )
        self.archs, self.merit, self.costs = archs, merit, costs
        self.count, self.failed, self._fruitless = int(count), int(failed), int(fruitless)
        self._stopped = bool(stopped)
        self._worst = float(state.take("worst", np.float64, (1,))[0]) if count > failed else np.inf
        self._asked = dict(Counter(row.tobytes() for row in asked))
        self._started = time.monotonic() - seconds

    def front(self) -> Front:
        """Return what was kept."""
        return Front.of(
            self.archs,
            self.objective.merit(self.merit),
            self.costs,
            self.tables,
            accuracy_source=self.model.source,
            evaluations=self.count,
            seconds=self.seconds,
            objective=self.objective,
        )

    def identity(self) -> dict[str, Any]:
        """Return what a search depends on beside its method, by the names for an error."""
        oracle = self.model if isinstance(self.model, Oracle) else None
        differ = oracle is not None and (oracle.repeats > 1 or oracle.noise)
        return {
            **identity(self.model, self.tables),
            **({"answers": [oracle.repeats, oracle.noise]} if oracle and differ else {}),
            "evaluations": self.limit,
            "time_limit_s": self.time_limit_s,
        }


def _distinct(archs: Archs, cost: FloatArray, rows: IntArray) -> IntArray:
    """Return the first of equal architectures among `rows`, which ascend."""
    # Equal ones cost the same: sorting numbers first takes a tenth of the time of sorting rows.
    _, group, size = np.unique(cost[rows], return_inverse=True, return_counts=True)
    shared = np.flatnonzero(size[group] > 1)
    _, first = np.unique(archs[rows[shared]], axis=0, return_index=True)
    return np.delete(rows, np.delete(shared, first))


def spread(values: FloatArray, n: int) -> IntArray:
    """Choose points that cover a front as evenly as `n` of them can.

    Of the finest grid over the range of the points that occupies at most `n` cells, one point of
    every cell, the one nearest to the ideal corner; and the best by each objective. Everything
    dropped is within a cell of what stays, as in archives by epsilon-dominance (Laumanns et al.,
    Evol. Comput. 2002). Crowding distances lose the middle of a front of four and more objectives:
    there neighbours by one objective are far apart by the others.

    Parameters
    ----------
    values : ndarray of float64, shape (m, objectives)
        To be minimised.
    n : int
        At least the number of objectives.

    Returns
    -------
    ndarray of intp
        At most `n` rows, ascending. Cost: O(m log m) for each of a dozen grids.
    """
    low = values.min(axis=0)
    unit = (values - low) / np.maximum(np.ptp(values, axis=0), np.finfo(float).tiny)
    ends = np.unique(unit.argmin(axis=0))
    order = np.argsort(unit.sum(axis=1), kind="stable")
    coarse, fine = 0, _FINEST + 1
    chosen: IntArray = np.empty(0, dtype=np.intp)
    while fine - coarse > 1:
        cells = (coarse + fine) // 2
        places = np.minimum(unit[order] * cells, cells - 1).astype(np.int64)
        key = np.zeros(len(order), dtype=np.int64)
        for column in places.T:
            # Two cells of many objectives may share a key: then one more point is dropped.
            key = key * (_FINEST + 1) + column
        first = np.unique(key, return_index=True)[1]
        if len(first) + len(ends) <= n:
            coarse, chosen = cells, first
        else:
            fine = cells
    return np.union1d(order[chosen], ends)


def given_budgets(budgets: npt.ArrayLike | None) -> FloatArray | None:
    """Return budgets as numbers, in their own shape; the problem knows which can be met."""
    return None if budgets is None else as_budgets(budgets)


def n_budgets(budgets: FloatArray | None) -> int:
    """Count what `Problem.budgets` returns for checked budgets; at least 1."""
    return _DEFAULT_BUDGETS if budgets is None else max(1, len(np.atleast_1d(budgets)))


def require_problem(space: object, model: object, tables: object) -> None:
    """Refuse what is no problem to search: the first three arguments of every search.

    Raises
    ------
    InvalidTypeError
        Names the argument and what it should be.
    """
    require_space(space)
    if not isinstance(model, (AccuracyModel, Oracle)):
        raise InvalidTypeError(
            "model should be an accuracy model, as pnag_fast.accuracy.load(path, space), or an "
            "oracle, as pnag_fast.accuracy.oracle(space, function), found "
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


def identity(model: AccuracyModel | Oracle, tables: Sequence[CostTable]) -> dict[str, Any]:
    """Return what everything that is searched on a model depends on, JSON values."""
    return {
        "space": tables[0].space.definition,
        "accuracy model": model.identity(),
        "cost tables": [_digest(table.to_json()) for table in tables],
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
