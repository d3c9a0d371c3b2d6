"""A search of its own for each vector of bounds on costs, all vectors side by side.

With one cost a front answers every budget. With four it would have to be a hundred times as large:
between the members that a search has met there is mostly a better architecture. What remains is
found from the best members within the bounds, by three things in turn:

1. Short walks (`pnag_fast._core.Walker`) on a quadratic estimate of the model, which keep the
   bounds, each under noise of its own on the linear terms: a walk ends where the model may have an
   optimum, by what the estimate leaves open. Thousands of changes are tried for each question.
2. Where the walks end is asked, unless it is known; the best of each vector are its next starts.
3. What is best and new tells its slopes, and the estimate is fitted again (`Quadratic`).

Comparisons are those of constrained dominance (Deb et al., IEEE TEC 2002): whatever exceeds the
bounds less is better, and within them the model decides. So vectors that no known architecture
meets are searched as well.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from .. import _core, arguments
from .. import costs as cost_tables
from ..accuracy import AccuracyModel
from ..costs import CostStack, CostTable
from ..errors import InvalidInputError
from ..progress import ProgressCallback, ignore_progress
from ..runs import Arrays
from ..spaces import Archs, SearchSpace
from ..typing import BoolArray, Float32Array, FloatArray, IntArray
from .answered import Memory
from .quadratic import Quadratic
from .result import Front

# Architectures kept for each vector, walks from them in a round, at least and of all vectors, and
# the power of a uniform number that chooses among them, the best first.
_ELITES, _WALKS, _ALL_WALKS, _GREEDY = 48, 64, 128, 2.0
# Changes that a walk tries; the range of its first threshold and of the noise on the slopes, as
# powers of ten of top-1, both log-uniform.
_MOVES, _THRESHOLD, _NOISE = 100, (-4.5, -3.3), (-5.0, -3.0)
# Slopes that the estimate is first fitted to, and those that every vector adds in a round.
_LOOKED, _LEARNED = 1024, 4
# Walks for each question at most: the better the search, the more of them end in what is known.
_REPEATS = 4
# Of every vector that a front is filled by, those of its elites that are added.
_KEPT = 4
# Vectors searched together; more would not save time, and take memory.
_TOGETHER = 256
# Range of merit over a front that thresholds and noise were set for.
_RANGE = 0.05
# What a bound of zero is compared by; costs over this are numbers.
_TINY = 1e-150
# Share of origins that change their input resolution, where the space has several.
_RESIZED = 0.1


def constrained(
    model: AccuracyModel,
    archive: Front,
    budgets: FloatArray,
    archs: Archs,
    merit: FloatArray,
    *,
    evaluations: int,
    seed: int,
    estimate: Arrays | None = None,
    threads: int = 1,
) -> tuple[Archs, FloatArray]:
    """Search for the best architecture within each vector of bounds.

    Parameters
    ----------
    model : AccuracyModel
        What is asked; slopes, where it has them, are no questions.
    archive : Front
        What is known, with the tables that the bounds are for; they may be cautious.
    budgets : ndarray of float64, shape (b, n_tables)
        Upper bounds; infinite where a cost is left open.
    archs : ndarray of uint8, shape (b, n_slots)
        The best known answers; anything where there is none.
    merit : ndarray of float64, shape (b,)
        Of these answers, -inf where there is none.
    evaluations : int
        Questions for each vector, at most and on average over all.
    seed : int
        Same arguments, same answers, whatever the threads.
    estimate : dict of ndarray, optional
        What `first_estimate` returned, for whoever searches again and again: making it takes as
        long as 2,000 questions.

    Returns
    -------
    archs : ndarray of uint8, shape (b, n_slots)
        Within the bounds wherever the merit is finite, and never worse than what was given.
    merit : ndarray of float64, shape (b,)
        -inf where nothing was found within the bounds; the row then exceeds them as little as
        anything that was seen.

    Raises
    ------
    InvalidInputError
        If a bound is NaN, an answer is no architecture, or a shape is wrong.
    """
    n_tables = len(archive.tables)
    budgets = arguments.floats(
        budgets, "budgets", (None, n_tables), meaning=f"(b, {n_tables}): one column for each cost"
    )
    if np.isnan(budgets).any():
        raise InvalidInputError("budgets should be numbers, found NaN; inf leaves a cost open")
    merit = arguments.floats(merit, "merit", (len(budgets),)).copy()
    evaluations = arguments.integer(evaluations, "evaluations", 0)
    if archs.shape != (len(budgets), archive.space.n_slots):
        raise InvalidInputError(
            f"archs has shape {archs.shape}; it must be ({len(budgets)}, {archive.space.n_slots}): "
            "one row for each row of budgets"
        )
    archive.space.validate(archs[np.isfinite(merit)])
    archs = archs.copy()
    if len(budgets) == 0 or evaluations == 0:
        return archs, merit
    if estimate is None:
        estimate = first_estimate(model, archive)
    search = _Search(model, archive, estimate, np.random.default_rng(seed), threads)
    for start in range(0, len(budgets), _TOGETHER):
        rows = slice(start, start + _TOGETHER)
        found = search(budgets[rows], archs[rows], merit[rows], evaluations)
        archs[rows] = found.archs[:, 0]
        merit[rows] = np.where(found.excess[:, 0] == 0, found.merit[:, 0], -np.inf)
    return archs, merit


def filled(
    model: AccuracyModel,
    archive: Front,
    budgets: FloatArray,
    *,
    evaluations: int,
    seed: int,
    progress: ProgressCallback = ignore_progress,
) -> Front:
    """Search within vectors of bounds, and add to a front what was found there.

    A front of several costs has room between its members that its own search does not reach, which
    looks along weights on the costs; searches under bounds do.

    Parameters
    ----------
    model, archive, evaluations, seed
        As of `constrained`.
    budgets : ndarray of float64, shape (b, n_tables)
        Each met by some member.

    Returns
    -------
    Front
        Its members are the undominated of both.
    """
    started = time.monotonic()
    estimate = first_estimate(model, archive)
    search = _Search(model, archive, estimate, np.random.default_rng(seed), 1)
    archs, merit = [archive.archs], [model.objective.merit(archive.top1)]
    for start in range(0, len(budgets), _TOGETHER):
        block = budgets[start : start + _TOGETHER]
        members = archive.best(block)
        found = search(block, archive.archs[members], merit[0][members], evaluations)
        met = found.excess[:, :_KEPT] == 0
        archs.append(found.archs[:, :_KEPT][met])
        merit.append(found.merit[:, :_KEPT][met])
        progress("search between members", start + len(block), len(budgets))
    every = np.concatenate(archs)
    value = model.objective.merit(np.concatenate(merit))
    return Front.of(
        every,
        value,
        cost_tables.stack(archive.tables)(every),
        archive.tables,
        accuracy_source=archive.accuracy_source,
        evaluations=archive.evaluations + search.asked,
        seconds=archive.seconds + time.monotonic() - started,
        objective=archive.objective,
    )


def first_estimate(model: AccuracyModel, archive: Front) -> Arrays:
    """Fit an estimate of a model to its slopes at members of a front, as `Quadratic` keeps it.

    Where the model has no slopes the estimate stays empty.
    """
    state = Quadratic.empty(archive.space)
    rows = np.linspace(0, len(archive) - 1, min(_LOOKED, len(archive))).round().astype(np.intp)
    _learn(Quadratic(archive.space, state), model, np.ascontiguousarray(archive.archs[rows]))
    return state


def _learn(quadratic: Quadratic, model: AccuracyModel, archs: Archs) -> None:
    slopes = model.sensitivity(archs)
    if slopes is not None:
        quadratic.learn(archs, slopes if model.objective.direction == "max" else -slopes)


class _Search:
    """Vectors of bounds share the estimate of the model, and what was asked."""

    def __init__(
        self,
        model: AccuracyModel,
        archive: Front,
        estimate: Arrays,
        rng: np.random.Generator,
        threads: int,
    ) -> None:
        self._model, self._rng, self._threads = model, rng, threads
        self._archive = archive
        self._space = archive.space
        self._stack = cost_tables.stack(archive.tables)
        self._merits = model.objective.merit(archive.top1)
        self._unit = 1.0
        if not model.objective.is_fraction:
            self._unit = max(float(np.ptp(self._merits)), 1e-300) / _RANGE
        self.asked = 0
        self._walkers = Walkers(self._stack)
        self._quadratic = Quadratic(
            self._space, {name: array.copy() for name, array in estimate.items()}
        )

    def __call__(
        self, budgets: FloatArray, archs: Archs, merit: FloatArray, evaluations: int
    ) -> _Elites:
        known = np.isfinite(merit)
        elites = _Elites(self._space, self._stack, budgets)
        near = self._nearest(budgets)
        elites.add(self._archive.archs[near], self._merits[near], np.ones_like(near, dtype=bool))
        # What is no answer need be no architecture.
        archs = np.where(known[:, None], archs, self._archive.archs[near[:, 0]])
        elites.add(archs[:, None], np.where(known, merit, -np.inf)[:, None], known[:, None])
        memory = Memory(self._space, Memory.empty(evaluations * len(budgets)))
        memory.add(elites.archs[elites.known], elites.merit[elites.known])
        walks = max(_WALKS, _ALL_WALKS // len(budgets))
        left = evaluations * len(budgets)
        for _ in range(-(-_REPEATS * evaluations // walks)):
            starts, owner = self._starts(elites, walks)
            if self._quadratic.is_fitted:
                ends = self._walk(starts, budgets[owner])
            else:
                ends = self._vary(starts, walks)
            seen, values = memory.recall(ends)
            first, place = memory.distinct(ends[~seen])
            asked = np.ascontiguousarray(ends[~seen][first][:left])
            # The last questions may not be enough for all.
            answers = np.full(len(first), -np.inf)
            answers[: len(asked)] = self._ask(asked)
            memory.add(asked, answers[: len(asked)])
            values[~seen] = answers[place]
            left -= len(asked)
            shape = (len(budgets), -1)
            new = elites.add(
                ends.reshape(*shape, self._space.n_slots),
                values.reshape(shape),
                np.isfinite(values).reshape(shape),
            )
            if left <= 0:
                break
            new[:, _LEARNED:] = False
            if self._quadratic.is_fitted and new.any():
                _learn(self._quadratic, self._model, elites.archs[new])
        self.asked += evaluations * len(budgets) - left
        return elites

    def _ask(self, archs: Archs) -> FloatArray:
        return self._model.objective.merit(self._model.predict(archs))

    def _nearest(self, budgets: FloatArray) -> IntArray:
        """Best members of the archive within each vector, shape (b, at most _ELITES).

        Where there are too few, those that exceed the bounds least.
        """
        n = min(_ELITES, len(self._archive))
        rows = np.empty((len(budgets), n), dtype=np.intp)
        order = np.argsort(-self._merits, kind="stable")
        costs = self._archive.costs[order]
        for i, budget in enumerate(budgets):
            within = np.flatnonzero((costs <= budget).all(axis=1))[:n]
            if len(within) < n:
                within = np.argsort(excess(costs, budget), kind="stable")[:n]
            rows[i] = order[within]
        return rows

    def _starts(self, elites: _Elites, walks: int) -> tuple[Archs, IntArray]:
        """Draw elites to start from, shape (b * walks, n_slots), and whose they are."""
        n_vectors = len(elites.archs)
        owner = np.repeat(np.arange(n_vectors), walks)
        known = elites.known.sum(axis=1)[owner]
        place = (known * self._rng.random(len(owner)) ** _GREEDY).astype(np.intp)
        starts = elites.archs[owner, place]
        slot = self._space.resolution_slot
        if slot is not None:
            resized = np.flatnonzero(self._rng.random(len(owner)) < _RESIZED)
            codes = self._rng.integers(1, self._space.n_codes[slot], size=len(resized))
            starts[resized, slot] = codes
        return starts, owner

    def _walk(self, starts: Archs, budgets: FloatArray) -> Archs:
        n = len(starts)
        scale = [
            (self._unit * 10 ** self._rng.uniform(*powers, size=n)).astype(np.float32)
            for powers in (_THRESHOLD, _NOISE)
        ]
        return self._walkers(
            self._quadratic,
            starts,
            budgets,
            *scale,
            seed=int(self._rng.integers(2**63)),
            threads=self._threads,
        )

    def _vary(self, starts: Archs, walks: int) -> Archs:
        """Crossovers with other starts of the same vector, and mutations: without slopes."""
        space, n = self._space, len(starts)
        seeds = self._rng.integers(2**63, size=2).tolist()
        shifted = starts.reshape(-1, walks, space.n_slots)[:, ::-1].reshape(n, -1)
        ends = space.crossover(starts, np.ascontiguousarray(shifted), seed=seeds[0])
        alone = self._rng.random(n) < 0.5
        ends[alone] = starts[alone]
        return space.mutate(ends, rate=2 / space.n_slots, seed=seeds[1])


class Walkers:
    """Walks on a quadratic estimate within bounds, for tables that may be cautious."""

    def __init__(self, stack: CostStack) -> None:
        self._stack = stack
        means = [table.mean for table in stack.tables]
        self._mean: CostStack | None = None
        if any(table.caution for table in stack.tables):
            self._mean = cost_tables.stack(means)
        self._core = _walker(stack.space, means)

    def __call__(
        self,
        quadratic: Quadratic,
        starts: Archs,
        budgets: FloatArray,
        thresholds: Float32Array,
        noise: Float32Array,
        *,
        seed: int,
        threads: int,
    ) -> Archs:
        """Walk from every row, within bounds that are approximate where a table is cautious.

        Parameters
        ----------
        starts : ndarray of uint8, shape (n, n_slots)
        budgets : ndarray of float64, shape (n, n_tables)
        thresholds, noise : ndarray of float32, shape (n,)
            Loss that is accepted at first, on average, and deviation of the noise on every slope.

        Returns
        -------
        ndarray of uint8, shape (n, n_slots)
        """
        limits = budgets
        if self._mean is not None:
            # Caution is no sum over slots, but changes little from one network to the next.
            limits = budgets - (
                self._stack(starts, threads=threads) - self._mean(starts, threads=threads)
            )
        return self._core.walk(
            np.ascontiguousarray(quadratic.curvature),
            np.ascontiguousarray(quadratic.linear),
            starts,
            np.ascontiguousarray(limits),
            thresholds,
            noise,
            _MOVES,
            seed,
            threads,
        )


def _walker(space: SearchSpace, tables: Sequence[CostTable]) -> _core.Walker:
    return _core.Walker(
        space.core,
        np.nan_to_num(np.stack([table.entries for table in tables])),
        np.stack([table.constants for table in tables]),
        [table.reduce == "max" for table in tables],
        -1 if space.resolution_slot is None else space.resolution_slot,
        list(space.n_codes),
    )


class _Elites:
    """The best architectures of each vector, each once, the best first.

    Attributes
    ----------
    archs : ndarray of uint8, shape (b, _ELITES, n_slots)
    merit, excess : ndarray of float64, shape (b, _ELITES)
        How far the bounds are exceeded, relative and summed; infinite where there is no row.
    """

    def __init__(self, space: SearchSpace, stack: CostStack, budgets: FloatArray) -> None:
        self._stack, self._budgets = stack, budgets
        self._factors = np.random.default_rng(0).integers(
            2**63, size=space.n_slots, dtype=np.uint64
        )
        shape = (len(budgets), _ELITES)
        self.archs: Archs = np.zeros((*shape, space.n_slots), dtype=np.uint8)
        self.merit: FloatArray = np.full(shape, -np.inf)
        self.excess: FloatArray = np.full(shape, np.inf)

    @property
    def known(self) -> BoolArray:
        """Which rows hold an architecture, shape (b, _ELITES): the first ones."""
        return np.asarray(self.excess < np.inf)

    def add(self, archs: Archs, merit: FloatArray, valid: BoolArray) -> BoolArray:
        """Take in rows, shape (b, k, n_slots); say which of the elites are new."""
        n, k, n_slots = archs.shape
        flat = np.ascontiguousarray(archs.reshape(-1, n_slots))
        costs = self._stack(flat, threads=1)
        over = excess(costs, np.repeat(self._budgets, k, axis=0)).reshape(n, k)
        archs = np.concatenate([self.archs, archs], axis=1)
        merit = np.concatenate([self.merit, merit], axis=1)
        over = np.concatenate([self.excess, np.where(valid, over, np.inf)], axis=1)
        rows = np.arange(n)[:, None]
        # Of equal rows the first stays. uint64 wraps around.
        words = (archs.astype(np.uint64) @ self._factors).reshape(n, -1)
        order = np.argsort(words, axis=1, kind="stable")
        repeated = words[rows, order[:, 1:]] == words[rows, order[:, :-1]]
        over[rows, order[:, 1:]] = np.where(repeated, np.inf, over[rows, order[:, 1:]])
        best = np.lexsort((-merit, over), axis=1)[:, :_ELITES]
        self.archs, self.merit, self.excess = archs[rows, best], merit[rows, best], over[rows, best]
        return np.asarray((best >= _ELITES) & self.known)


def excess(costs: FloatArray, budgets: FloatArray) -> FloatArray:
    """How far costs, shape (n, n_tables), exceed bounds, relative and summed; shape (n,)."""
    over = np.maximum(costs - budgets, 0.0)
    return np.asarray((over / np.maximum(np.abs(budgets), _TINY)).sum(axis=1))
