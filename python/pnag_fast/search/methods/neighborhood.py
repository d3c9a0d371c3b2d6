"""Neighbourhood-aware random search: an architecture is as good as what lies around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ... import arguments, pareto
from ...runs import Arrays
from ...spaces import Archs, SearchSpace
from ...spaces.neighborhoods import AGGREGATES, Aggregate, Neighborhoods
from ...typing import BoolArray, FloatArray, IntArray
from ..method import Draws, Layout, Method
from ..problem import Problem
from ..result import Front, points

# Questions asked together at most: a time limit is looked at between them.
_BATCH = 1024
# Steps that the questions around centres are divided among: what is asked in one step does not know
# what the others of that step are answered.
_STEPS = 40
# Answers that are looked at; of more, half are forgotten: all but the best of these and their
# neighbours first.
_MOST = 20_000
_BEST = _MOST // 10
# Pairs of architectures that are compared at once.
_PAIRS = 2_000_000

# What is known of an asked architecture.
_ASKED, _CENTER, _FAILED = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Neighborhood(Method):
    """Ask around what looks good, and judge an architecture by its neighbourhood.

    Neighbourhood-aware random search (NA-RS; Wang et al., "Neighborhood-aware neural architecture
    search", BMVC 2021): its goal is not the best answer but the best aggregate of the answers
    within some edits, which does not follow the luck of one answer. The paper asks random
    architectures, the centres, and a sample of the neighbours of each: so does ``first=0``, and
    with ``own=0, prior=0`` the value is the paper's. At equal questions it is better not to spend
    neighbours on every centre: by default a share of single questions comes first, and then, step
    by step, neighbours of what is best by now, drawn from the successive fronts of value and costs.

    The value of an architecture is the aggregate of what was asked within `radius` of it, itself
    included, averaged with its own answer, `own` times, and with the mean of all answers, `prior`
    times. Each of the n aggregated answers counts once: a neighbourhood that was hardly asked is
    not believed.

    It is for answers with noise, such as those of short or single trainings; `docs/search.md` has
    figures with a noise of 3 points and without.

    Parameters
    ----------
    radius : int
        Edits at most, as in `SearchSpace.neighborhoods`.
    aggregate : {"mean", "median", "worst"}
        The worst is the largest where smaller is better.
    samples : int, optional
        Neighbours asked for each centre at most; None for all.
    first : float
        Share of the questions that are single ones, below 1; with 0 all are spent on random centres
        and their neighbours.
    own, prior : float
        Weights of the architecture's own answer beyond its one as a member, and of the mean of all.
        Without a prior only centres are in the front.

    Returns
    -------
    Front
        Not dominated by this value, of everything asked; its ``top1`` is the value, which is what
        its choice rests on, and `accuracy_source` says so. It is no promise of the architecture:
        where the neighbours of good ones are worse, as mostly, the value is lower than the truth.
        What an oracle answered of the members it still knows: ``oracle(front.archs)``.
    """

    radius: int = 1
    aggregate: Aggregate = "mean"
    samples: int | None = 6
    first: float = 0.2
    own: float = 3.0
    prior: float = 3.0

    name: ClassVar[str] = "neighborhood"
    title: ClassVar[str] = "neighbourhood-aware search"

    def checked(self) -> Mapping[str, Any]:
        samples = self.samples
        return {
            "radius": arguments.integer(self.radius, "radius", 1, 64),
            "aggregate": arguments.one_of(self.aggregate, "aggregate", AGGREGATES),
            "samples": None if samples is None else arguments.integer(samples, "samples", 1, 2**62),
            "first": arguments.fraction(self.first, "first", below=True),
            "own": arguments.number(self.own, "own", 0),
            "prior": arguments.number(self.prior, "prior", 0),
        }

    def layout(self, problem: Problem, names: object) -> Layout:
        return {
            "archs": (np.uint8, (None, problem.space.n_slots)),
            "merit": (np.float64, (None,)),
            "status": (np.int8, (None,)),
        }

    def begin(self, problem: Problem, draws: Draws) -> Arrays:
        nothing: Arrays = {
            "archs": np.empty((0, problem.space.n_slots), dtype=np.uint8),
            "merit": np.empty(0),
            "status": np.empty(0, dtype=np.int8),
        }
        return self._ask(problem, nothing, self._singles(problem, draws))

    def step(self, problem: Problem, state: Arrays, draws: Draws) -> Arrays:
        state = self._bounded(problem, state)
        if len(state["archs"]) >= problem.space.n_architectures:
            problem.stop()
            return state
        if problem.spent < self.first:
            return self._ask(problem, state, self._singles(problem, draws))
        if self.first > 0:
            centers = self._best(problem, state, draws)
            asked = state["archs"][centers]
            status = state["status"].copy()
            status[centers] = _CENTER
            state = {**state, "status": status}
        else:
            asked = problem.space.sample(self._n_centers(problem), seed=draws.next_seed())
        around = problem.space.neighborhoods(
            np.ascontiguousarray(asked),
            self.radius,
            samples=self.samples,
            seed=draws.seed_of(0),
            threads=problem.threads,
        )
        found = self._ask(problem, state, around.archs)
        if self.first == 0:
            found = _with_centers(found, around)
        if len(found["archs"]) == len(state["archs"]):
            # All of these were known, or nothing has a value that could be a centre.
            fresh = problem.space.sample(max(len(asked), 8), seed=draws.next_seed())
            return self._ask(problem, found, fresh)
        return found

    def front(self, problem: Problem, state: Arrays) -> Front:
        members = state["status"] != _FAILED
        centers = state["status"] == _CENTER
        # Without a prior a single answer would be believed like a neighbourhood.
        if self.prior == 0 and centers.any():
            members = centers
        archs = np.ascontiguousarray(state["archs"][members])
        values = self._values(problem, state)[members]
        edits = "1 edit" if self.radius == 1 else f"{self.radius} edits"
        return Front.of(
            archs,
            problem.objective.merit(values),
            problem.stack(archs, threads=problem.threads),
            problem.tables,
            accuracy_source=(
                f"{self.aggregate} of what was asked within {edits}, of {problem.model.source}"
            ),
            evaluations=problem.count,
            seconds=problem.seconds,
            objective=problem.objective,
        )

    def _singles(self, problem: Problem, draws: Draws) -> Archs:
        """Draw the next single questions."""
        if self.first == 0:
            return np.empty((0, problem.space.n_slots), dtype=np.uint8)
        most = int(np.ceil(self.first * problem.limit)) - problem.count
        n = min(max(most, 1), problem.left, _BATCH)
        return problem.space.sample(n, seed=draws.next_seed())

    def _n_centers(self, problem: Problem) -> int:
        """Centres of one step."""
        some = problem.space.sample(1, seed=0)
        most = -1 if self.samples is None else self.samples
        each = int(problem.space.core.neighborhood_offsets(some, self.radius, most, True, 1)[1])
        step = min((1 - self.first) * problem.limit / _STEPS, _BATCH)
        return max(1, round(step / each))

    def _best(self, problem: Problem, state: Arrays, draws: Draws) -> IntArray:
        """Choose centres among what was asked: by rank, and at random among equals."""
        open_ = np.flatnonzero(state["status"] == _ASKED)
        if len(open_) == 0:
            return open_
        values = self._values(problem, state)[open_]
        costs = problem.stack(np.ascontiguousarray(state["archs"][open_]), threads=problem.threads)
        rank = pareto.non_dominated_sort(points(values, costs), threads=problem.threads)
        order = np.lexsort((draws.rng.random(len(open_)), rank))
        return np.sort(open_[order[: self._n_centers(problem)]])

    def _ask(self, problem: Problem, state: Arrays, archs: Archs) -> Arrays:
        """Ask about those rows that were not asked yet."""
        known = {row.tobytes() for row in state["archs"]}
        new = []
        for i, row in enumerate(archs):
            name = row.tobytes()
            if name not in known:
                known.add(name)
                new.append(i)
        if not new:
            return state
        archs, merit, _ = problem.answers(np.ascontiguousarray(archs[new]))
        failed = np.isnan(merit)
        return {
            "archs": np.concatenate([state["archs"], archs]),
            "merit": np.concatenate([state["merit"], np.where(failed, 0.0, merit)]),
            "status": np.concatenate(
                [state["status"], np.where(failed, _FAILED, _ASKED).astype(np.int8)]
            ),
        }

    def _values(self, problem: Problem, state: Arrays) -> FloatArray:
        """Value of every asked architecture, larger is better; of those that failed 0."""
        good = np.flatnonzero(state["status"] != _FAILED)
        values = np.zeros(len(state["archs"]))
        if len(good) == 0:
            return values
        merit = state["merit"][good]
        pairs = self._pairs(problem, state)
        member, of = pairs % _STRIDE, pairs // _STRIDE
        keep = (state["status"] != _FAILED)[member] & (state["status"] != _FAILED)[of]
        count = np.bincount(of[keep], minlength=len(values))[good]
        segments = Neighborhoods(
            state["archs"][member[keep]], np.concatenate([[0], np.cumsum(count)])
        )
        together = segments.aggregate(
            state["merit"][member[keep]], self.aggregate, threads=problem.threads
        )
        total = count * together + self.own * merit + self.prior * merit.mean()
        values[good] = total / (count + self.own + self.prior)
        return values

    def _pairs(self, problem: Problem, state: Arrays) -> IntArray:
        """Pairs of asked architectures within the radius, as one number each, ascending.

        Kept from step to step, since only new ones are to be compared.
        """
        archs = state["archs"]
        known, pairs = problem.memo.get("pairs", (0, np.empty(0, dtype=np.int64)))
        found = [pairs]
        rows = max(1, _PAIRS // max(1, len(archs)))
        for start in range(known, len(archs), rows):
            stop = min(start + rows, len(archs))
            near = _edits(problem.space, archs[start:stop], archs[:stop]) <= self.radius
            i, j = np.nonzero(near)
            i += start
            other = j < start
            found += [i * _STRIDE + j, (j * _STRIDE + i)[other]]
        pairs = np.sort(np.concatenate(found)) if len(found) > 1 else pairs
        problem.memo["pairs"] = (len(archs), pairs)
        return pairs

    def _bounded(self, problem: Problem, state: Arrays) -> Arrays:
        """Forget half of very many answers."""
        n = len(state["archs"])
        if n <= _MOST:
            return state
        costs = problem.stack(state["archs"], threads=problem.threads)
        rank = pareto.non_dominated_sort(
            points(self._values(problem, state), costs), threads=problem.threads
        )
        order = np.argsort(rank, kind="stable")
        place = np.full(n, 2)
        pairs = self._pairs(problem, state)
        best = np.zeros(n, dtype=np.bool_)
        best[order[:_BEST]] = True
        place[(pairs % _STRIDE)[best[pairs // _STRIDE]]] = 1
        place[best] = 0
        keep = np.sort(np.lexsort((rank, place))[: _MOST // 2])
        problem.memo.pop("pairs")
        return {name: np.ascontiguousarray(array[keep]) for name, array in state.items()}


# More than there are answers.
_STRIDE = 2**31


def _edits(space: SearchSpace, a: Archs, b: Archs) -> npt.NDArray[np.integer[Any]]:
    """Edits between each row of `a` and each of `b`, as `SearchSpace.neighborhoods` counts them.

    In a stage with depths that is the number of slots that differ: absence is a code as well.
    """
    # Small numbers: what takes time here is memory.
    edits: npt.NDArray[np.integer[Any]] = np.zeros(
        (len(a), len(b)), dtype=np.uint8 if space.n_slots < 256 else np.int16
    )
    first = 0
    for stage in space.stages:
        slots = range(first, first + len(stage.slots))
        first = slots.stop
        changed: BoolArray = np.zeros((len(a), len(b)), dtype=np.bool_)
        for slot in slots:
            differs = a[:, slot, None] != b[None, :, slot]
            if stage.rows is None:
                edits += differs
            else:
                changed |= differs
        edits += changed
    return edits


def _with_centers(state: Arrays, around: Neighborhoods) -> Arrays:
    """Mark the first of every neighbourhood that was asked as a whole, unless it failed."""
    known = {row.tobytes() for row in state["archs"]}
    missing = np.array([row.tobytes() not in known for row in around.archs], dtype=np.float64)
    whole = around.aggregate(missing, "worst", direction="min") == 0
    names = {row.tobytes() for row in around.archs[around.offsets[:-1][whole]]}
    drawn = np.array([row.tobytes() in names for row in state["archs"]], dtype=np.bool_)
    status = state["status"].copy()
    status[drawn & (status == _ASKED)] = _CENTER
    return {**state, "status": status}
