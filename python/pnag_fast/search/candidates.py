"""What may be asked next in a space too large to look at: a pool near the front that is believed.

A question is worth asking where the answer may move the front: near the front of what is believed,
or of a mild upper bound of it, anywhere in the range of costs. The pool is what a short evolution
by the beliefs themselves finds, which cost nothing beside an answer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import pareto
from ..accuracy.oracle import Oracle
from ..accuracy.process import Process, described, groups
from ..costs import CostStack
from ..spaces import Archs, SearchSpace
from ..typing import BoolArray, FloatArray, IntArray
from .problem import Problem, spread
from .result import points

# Mean and standard deviation of what is believed of architectures, each of shape (n,).
Belief = Callable[[Archs], tuple[FloatArray, FloatArray]]

# Deviations above the mean: fronts of these bounds are what the pool is near to.
_BOUNDS = (0.0, 0.5, 1.0, 2.0)
# Members of each of these fronts that have children, and children of a generation.
_PARENTS, _CHILDREN = 60, 480
# Members of the believed front whose neighbours are in the pool.
_CENTRES = 12
# Share of the pool that is drawn from the whole space, against beliefs that are wrong.
_RANDOM = 0.1
# Size of a pool, with few questions asked together, and generations of the evolution: of twice as
# many the best are hardly better. Of a model, which is cheap to ask, fewer do.
_SIZE, _PER_QUESTION, _GENERATIONS, _OF_A_MODEL = 800, 3, 12, 3
# A pool is made anew when there are this many times the answers, at least some more, and what it
# rests on is learned anew after longer: both cost more than a question.
_AGAIN, _LEAST, _LEARN_AGAIN = 1.05, 4, 1.4
# Answers that beliefs rest on: those nearest to the front.
_MOST = 400


def last(n: int, growth: float, least: int = 1) -> int:
    """Return the last of some growing numbers that is not above `n`.

    Which pool is in use is then a function of how much is known, and a search that goes on after a
    kill makes the same again.
    """
    at = 1
    while True:
        following = max(at + least, int(at * growth))
        if following > n:
            return at
        at = following


def around(problem: Problem, archs: Archs, merit: FloatArray, *, seed: int, batch: int) -> Archs:
    """Return the pool for a problem with these answers, the oldest first.

    Parameters
    ----------
    archs : ndarray of uint8, shape (n, n_slots)
        What was answered; at least two of different merit.
    merit : ndarray of float64, shape (n,)
    seed : int
    batch : int
        Questions that are asked together: with more of them every pool is new.

    Returns
    -------
    ndarray of uint8, shape (m, n_slots)
        The same object until it is made anew. Some of them may have been asked.
    """
    n = len(archs) if batch > _LEAST else last(len(archs), _AGAIN, _LEAST)
    if n < 2 or np.ptp(merit[:n]) == 0:
        n = len(archs)
    kept = problem.memo.get("pool")
    if kept is None or kept[0] != n:
        archs, merit = np.ascontiguousarray(archs[:n]), merit[:n]
        belief, known = _belief(problem, archs, merit)
        found = pool(
            problem.space,
            problem.stack,
            belief,
            known,
            n=max(_SIZE, _PER_QUESTION * batch),
            generations=_GENERATIONS if isinstance(problem.model, Oracle) else _OF_A_MODEL,
            rng=np.random.default_rng([seed, n]),
            threads=problem.threads,
        )
        kept = problem.memo["pool"] = (n, found)
    chosen: Archs = kept[1]
    return chosen


def _belief(problem: Problem, archs: Archs, merit: FloatArray) -> tuple[Belief, Archs]:
    """Return what answers say of other architectures, and the architectures that it rests on."""
    space, n = problem.space, last(len(archs), _LEARN_AGAIN)
    if n < 2 or np.ptp(merit[:n]) == 0:
        n = len(archs)
    shared = groups(space)
    kept = problem.memo.get("pool process")
    if kept is None or kept[0] != n:
        rows = _nearest(problem, archs[:n], merit[:n])
        x = np.asarray(described(space, np.ascontiguousarray(archs[rows])), dtype=np.float64)
        used = np.ptp(x, axis=0) > 0
        y = merit[rows]
        y = (y - y.mean()) / (float(y.std()) or 1.0)
        group = None if shared is None else shared[used]
        process = Process.learned(x[:, used], y, np.ones(len(y)), group)
        kept = problem.memo["pool process"] = (n, process, used)
    _, process, used = kept
    rows = _nearest(problem, archs, merit)
    known, y = np.ascontiguousarray(archs[rows]), merit[rows]
    mean, scale = float(y.mean()), float(y.std()) or 1.0
    moments = process.given(described(space, known)[:, used], (y - mean) / scale)
    return lambda others: moments(described(space, others)[:, used]), known


def _nearest(problem: Problem, archs: Archs, merit: FloatArray) -> IntArray:
    """Rows nearest to the front of what was answered, ascending."""
    if len(archs) <= _MOST:
        return np.arange(len(archs))
    costs = problem.stack(np.ascontiguousarray(archs), threads=problem.threads)
    best = pareto.best_within(costs, merit, costs, threads=1)
    return np.sort(np.argsort(merit[best] - merit, kind="stable")[:_MOST])


def pool(
    space: SearchSpace,
    stack: CostStack,
    belief: Belief,
    known: Archs,
    *,
    n: int,
    generations: int,
    rng: np.random.Generator,
    threads: int | None = None,
) -> Archs:
    """Return distinct architectures that are believed to be near the front.

    Parameters
    ----------
    stack : CostStack
    belief : callable
    known : ndarray of uint8, shape (k, n_slots)
        To begin with, such as what was asked; at least one.
    n : int
        Architectures, about: those that are known are in it as well if they are near the front.
    generations : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of uint8, shape (at most n, n_slots)
    """

    def seed() -> int:
        return int(rng.integers(2**63))

    n_random = max(int(_RANDOM * n), 2)
    fresh = np.concatenate(
        [
            space.sample(n_random - n_random // 2, seed=seed()),
            space.sample(n_random // 2, seed=seed(), distribution="decisions"),
        ]
    )
    found = _Pool(space, stack, belief, threads)
    found.add(np.concatenate([known, fresh]))
    for _ in range(generations):
        found.add(_children(space, found, _CHILDREN, rng, seed))
        found.keep(found.nearest(n))
    front = found.front(0.0)
    centres = front[np.unique(np.linspace(0, len(front) - 1, _CENTRES).astype(np.intp))]
    found.add(np.concatenate([space.neighbors(arch) for arch in found.archs[centres]]))
    found.keep(found.nearest(n - n_random))
    found.add(fresh)
    return found.archs


class _Pool:
    """Distinct architectures with their costs and what is believed of them."""

    def __init__(
        self, space: SearchSpace, stack: CostStack, belief: Belief, threads: int | None
    ) -> None:
        self.archs: Archs = np.empty((0, space.n_slots), dtype=np.uint8)
        self.costs: FloatArray = np.empty((0, len(stack.tables)))
        self.mean: FloatArray = np.empty(0)
        self.std: FloatArray = np.empty(0)
        self._stack, self._belief, self._threads = stack, belief, threads
        self._seen: set[bytes] = set()

    def add(self, archs: Archs) -> None:
        """Add those that are new."""
        new = np.zeros(len(archs), dtype=np.bool_)
        for i, row in enumerate(np.ascontiguousarray(archs)):
            name = row.tobytes()
            if name not in self._seen:
                self._seen.add(name)
                new[i] = True
        if not new.any():
            return
        archs = np.ascontiguousarray(archs[new])
        mean, std = self._belief(archs)
        self.archs = np.concatenate([self.archs, archs])
        self.costs = np.concatenate([self.costs, self._stack(archs, threads=self._threads)])
        self.mean, self.std = np.append(self.mean, mean), np.append(self.std, std)

    def keep(self, rows: IntArray | BoolArray) -> None:
        """Go on with these rows alone."""
        self.archs, self.costs = np.ascontiguousarray(self.archs[rows]), self.costs[rows]
        self.mean, self.std = self.mean[rows], self.std[rows]
        self._seen = {row.tobytes() for row in self.archs}

    def front(self, deviations: float) -> IntArray:
        """Rows of the front of an upper bound, by the first cost."""
        bound = self.mean + deviations * self.std
        rows = np.flatnonzero(pareto.is_non_dominated(points(bound, self.costs), threads=1))
        return rows[np.argsort(self.costs[rows, 0], kind="stable")]

    def nearest(self, n: int) -> IntArray:
        """Rows nearest to the fronts of the bounds, as many of each, ascending."""
        if len(self.archs) <= n:
            return np.arange(len(self.archs))
        taken: IntArray = np.empty(0, dtype=np.intp)
        for k, deviations in enumerate(_BOUNDS):
            bound = self.mean + deviations * self.std
            best = pareto.best_within(self.costs, bound, self.costs, threads=1)
            behind = (bound[best] - bound) / np.maximum(self.std, 1e-12)
            # Of a crowd at the same cost those in front are enough.
            order = np.argsort(behind, kind="stable")
            order = order[~np.isin(order, taken)]
            taken = np.append(taken, order[: (n - len(taken)) // (len(_BOUNDS) - k)])
        return np.sort(taken)


def _children(
    space: SearchSpace,
    found: _Pool,
    n: int,
    rng: np.random.Generator,
    seed: Callable[[], int],
) -> Archs:
    """Mutations and crossovers of members of the fronts, all over the range of one of the costs."""
    parents = []
    for deviations in _BOUNDS:
        rows = found.front(deviations)
        if len(rows) > _PARENTS:
            bound = found.mean[rows] + deviations * found.std[rows]
            rows = rows[spread(points(bound, found.costs[rows]), _PARENTS)]
        parents.append(rows)
    rows = np.concatenate(parents)
    cost = found.costs[rows, rng.integers(found.costs.shape[1])]
    order = np.argsort(cost, kind="stable")
    rows, cost = rows[order], cost[order]
    # The same share of children from every part of the range, however many members are there.
    wanted = rng.uniform(cost[0], cost[-1], size=n)
    place = np.searchsorted(cost, wanted).clip(0, len(rows) - 1)
    chosen = found.archs[rows[place]]
    n_crossed = n // 3
    # Those that cost about the same have children that do.
    beside = (place[:n_crossed] + rng.integers(-6, 7, size=n_crossed)).clip(0, len(rows) - 1)
    partners = np.ascontiguousarray(found.archs[rows[beside]])
    crossed = space.crossover(np.ascontiguousarray(chosen[:n_crossed]), partners, seed=seed())
    mutated = [
        space.mutate(np.ascontiguousarray(part), rate=rate / space.n_slots, seed=seed())
        for part, rate in zip(np.array_split(chosen[n_crossed:], 3), (1, 2, 4), strict=True)
    ]
    return np.concatenate([crossed, *mutated])
