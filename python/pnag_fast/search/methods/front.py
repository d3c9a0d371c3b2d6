"""The reference search for the front of accuracy against costs.

Where the accuracy model has slopes, three things take turns at an archive of what is not dominated:

1. Simulated annealing (Kirkpatrick et al. 1983) of ``top1 - weight * cost`` from random
   architectures, by jumps (`pnag_fast.search.jumps`), each chain under a weight of its own. Learned
   accuracy has many local fronts, some a quarter of a point apart; which one a search ends in is
   decided here, and climbing alone often ends in a worse one.
2. Jumps from the archive under random weights; of several thousand that are ranked by their
   first-order estimate, a few hundred that promise most beyond the front are evaluated exactly.
3. Mutations of the archive and crossovers between its members, which join parts of local fronts.

Where the model is a table there are mutations and crossovers alone; where the space is small, all
of it is evaluated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ... import arguments
from ...errors import InvalidInputError, InvalidTypeError
from ...runs import Arrays, Run
from ...spaces import Archs, SearchSpace
from ...typing import FloatArray
from ..jumps import Jumps
from ..method import Draws, Layout, Method
from ..problem import Problem
from ..result import Front, extremes
from .exhaustive import Exhaustive

# Spaces up to this size are searched by looking at every architecture.
EXHAUSTIVE_LIMIT = 200_000

# Annealing: share of the evaluations, most chains and fewest steps of each, proposals per step, and
# the first and last temperature, in top-1; see `_unit`.
_ANNEALING_SHARE, _CHAINS, _CHAIN_STEPS, _CHAIN_JUMPS = 0.5, 128, 100, 4
_HOT, _COLD = 2e-3, 1e-4
# Weights on the costs, in units of the spread of top-1 over the spread of a cost.
_WEIGHTS = (0.005, 20.0)
# A round from the archive: evaluations at most, the share of these that are mutations and
# crossovers, jumps proposed for each evaluation, and from each origin.
_ROUND, _LOCAL, _PROPOSED, _JUMPS = 1024, 0.25, 4, 64
# Share of origins that change their input resolution before they jump, where the space has several.
_RESIZED = 0.25
_SEEN_BITS = 22
# Range of top-1 over the front that temperatures and the noise of jumps were set for.
_RANGE = 0.05


@dataclass(frozen=True, eq=False)
class FrontSearch(Method):
    """Search for the front: exhaustively where the space is small, else from an archive.

    Slopes of the model are not counted as questions.

    Parameters
    ----------
    start : ndarray of uint8, shape (n, n_slots), optional
        Architectures to begin with, such as the front of another device. Annealing goes on beside
        them: where the accuracy differs too, they hold a search in local fronts.

    Examples
    --------
    >>> import pnag_fast as pf
    >>> space = pf.spaces.get("nasbench201")
    >>> archs = space.enumerate()
    >>> model = pf.accuracy.table(space, archs, (archs == 4).mean(axis=1))
    >>> len(pf.search.front(space, model, [pf.costs.macs(space)]))
    7
    """

    start: Archs | None = None

    name: ClassVar[str] = "front"
    title: ClassVar[str] = "front search"
    evaluations: ClassVar[int | None] = 1_300_000

    def checked(self) -> Mapping[str, Any]:
        if self.start is not None and not isinstance(self.start, np.ndarray):
            raise InvalidTypeError(
                "start should be architectures, an array of uint8 of shape (n, n_slots), found "
                f"{arguments.shown(self.start)}"
            )
        return {}

    def run(self, problem: Problem, run: Run) -> Front:
        if problem.space.n_architectures <= min(EXHAUSTIVE_LIMIT, problem.limit):
            return Exhaustive().run(problem, run)
        return super().run(problem, run)

    def layout(self, problem: Problem, names: Collection[str]) -> Layout:
        n_slots, n_tables = problem.space.n_slots, len(problem.tables)
        chains: Layout = {
            "chains": (np.uint8, (None, n_slots)),
            "weights": (np.float64, (None, 1, n_tables)),
            "value": (np.float64, (None,)),
        }
        return {"seen": (np.uint8, (1 << _SEEN_BITS,)), **(chains if "chains" in names else {})}

    def begin(self, problem: Problem, draws: Draws) -> Arrays:
        """Fill the archive: with what was given, and by annealing or at random."""
        problem.evaluate(extremes(problem.tables))
        if self.start is not None:
            problem.space.validate(self.start)
            if len(self.start) == 0:
                raise InvalidInputError("start should hold at least one architecture")
            problem.evaluate(self.start)
        state = {"seen": np.zeros(1 << _SEEN_BITS, dtype=np.uint8)}
        if problem.left and problem.slopes(problem.archs[:1]) is not None:
            draws.restart(0)
            return state | _chains(problem, draws)
        draws.restart(1)
        if self.start is None:
            # Uniform over architectures favours deep networks, uniform decisions the shallow ones.
            first = min(4096, max(problem.left // 16, 16))
            space, second = problem.space, draws.seed_of(1)
            problem.evaluate(space.sample(first, seed=draws.seed_of(0)))
            problem.evaluate(space.sample(first, seed=second, distribution="decisions"))
        return state

    def step(self, problem: Problem, state: Arrays, draws: Draws) -> Arrays:
        jumps = Jumps(problem.space, problem.tables)
        if "chains" in state:
            if _anneal(problem, jumps, state, draws.rng):
                return state
            draws.restart(1)
            return {"seen": state["seen"]}
        seen = _Seen(problem.space, state["seen"])
        size = min(_ROUND, max(problem.limit // 64, 32))
        jumped = _jump(problem, jumps, seen, size - int(size * _LOCAL), draws.rng)
        batch = np.concatenate([jumped, _vary(problem, size - len(jumped), draws.rng)])
        seen.add(batch)
        problem.evaluate(batch)
        return state


def _spread(problem: Problem) -> FloatArray:
    """Merit over cost, the natural unit of a weight; shape (n_tables,)."""
    bounds = problem.stack.bounds
    cost = np.maximum(bounds[:, 1] - bounds[:, 0], 1e-300)
    return np.asarray(max(float(np.ptp(problem.merit)), 1e-6 * _unit(problem)) / cost)


def _unit(problem: Problem) -> float:
    """Return what is in the problem's objective as much as 1 is in top-1."""
    if problem.objective.is_fraction:
        return 1.0
    return max(float(np.ptp(problem.merit)), 1e-300) / _RANGE


def _random_weights(
    problem: Problem, shape: tuple[int, int], rng: np.random.Generator
) -> FloatArray:
    """Directions uniform over the simplex, lengths log-uniform; shape (*shape, n_tables)."""
    direction = rng.dirichlet(np.ones(len(problem.tables)), size=shape)
    length = _WEIGHTS[0] * (_WEIGHTS[1] / _WEIGHTS[0]) ** rng.random((*shape, 1))
    return np.asarray(direction * length * _spread(problem))


def _chains(problem: Problem, draws: Draws) -> Arrays:
    """Random architectures to anneal from, each under a weight of its own."""
    budget = _ANNEALING_SHARE * problem.left
    n = int(min(_CHAINS, max(budget // (_CHAIN_JUMPS * _CHAIN_STEPS), 4)))
    current, merit, costs = problem.evaluate(
        problem.space.sample(n, seed=draws.next_seed(), distribution="decisions")
    )
    weights = _random_weights(problem, (len(current), 1), draws.rng)
    value = merit - (costs * weights[:, 0]).sum(axis=1)
    return {"chains": current, "weights": weights, "value": value}


def _anneal(problem: Problem, jumps: Jumps, state: Arrays, rng: np.random.Generator) -> bool:
    """Take one step with every chain, in place; False where annealing is over."""
    if problem.spent >= _ANNEALING_SHARE:
        return False
    current, value = state["chains"], state["value"]
    compact, n = problem.slopes(current), len(current)
    if compact is None or n == 0:
        return False
    unit = _unit(problem)
    slopes = jumps.by_code(compact) / np.float32(unit)
    repeated = np.repeat(state["weights"], _CHAIN_JUMPS, axis=1)
    archs, merit, costs = problem.evaluate(jumps.propose(current, slopes, repeated / unit, rng))
    if len(archs) < n * _CHAIN_JUMPS:
        return False
    archs = archs.reshape(n, _CHAIN_JUMPS, -1)
    values = merit.reshape(n, -1) - (costs.reshape(n, _CHAIN_JUMPS, -1) * repeated).sum(axis=2)
    # To stay is no jump: it would win over every jump that costs a little.
    values[(archs == current[:, None]).all(axis=2)] = -np.inf
    best = values.argmax(axis=1)
    values = values.max(axis=1)
    temperature = unit * _HOT * (_COLD / _HOT) ** (problem.spent / _ANNEALING_SHARE)
    moved = np.flatnonzero(value - values < temperature * rng.exponential(size=n))
    value[moved] = values[moved]
    current[moved] = archs[moved, best[moved]]
    return True


def _jump(problem: Problem, jumps: Jumps, seen: _Seen, n: int, rng: np.random.Generator) -> Archs:
    """Return new architectures that promise most beyond the archive, at most `n`."""
    origins = _spread_parents(problem, -(-n * _PROPOSED // _JUMPS), rng)
    slot = problem.space.resolution_slot
    if slot is not None:
        resized = np.flatnonzero(rng.random(len(origins)) < _RESIZED)
        origins[resized, slot] = rng.integers(1, problem.space.n_codes[slot], size=len(resized))
    compact = problem.slopes(origins)
    if compact is None:
        return np.empty_like(origins[:0])
    slopes = jumps.by_code(compact)
    unit = _unit(problem)
    weights = _random_weights(problem, (len(origins), _JUMPS), rng) / unit
    archs = jumps.propose(origins, slopes / np.float32(unit), weights, rng)
    new = seen.new(archs)
    archs, owner = np.ascontiguousarray(archs[new]), new // _JUMPS
    estimate = problem.merit_of(origins)[owner]
    estimate += jumps.gain(slopes[owner], origins[owner], archs)
    promise = estimate - problem.front_at(problem.stack(archs))
    return archs[np.argsort(-promise, kind="stable")[:n]]


def _vary(problem: Problem, n: int, rng: np.random.Generator) -> Archs:
    """Mutations of archive members at several rates, and crossovers; `n` rows."""
    space = problem.space
    parents = _spread_parents(problem, n, rng)
    n_crossed = n // 3
    partners = _spread_parents(problem, n_crossed, rng)
    seeds = rng.integers(2**63, size=4).tolist()
    crossed = space.crossover(np.ascontiguousarray(parents[:n_crossed]), partners, seed=seeds[0])
    mutated = [
        space.mutate(np.ascontiguousarray(part), rate=rate, seed=seed)
        for part, rate, seed in zip(
            np.array_split(parents[n_crossed:], 3),
            (1 / space.n_slots, 2 / space.n_slots, 4 / space.n_slots),
            seeds[1:],
            strict=True,
        )
    ]
    return np.concatenate([crossed, *mutated])


def _spread_parents(problem: Problem, n: int, rng: np.random.Generator) -> Archs:
    """Draw archive members so that every part of one randomly chosen cost range is as likely."""
    column = problem.costs[:, rng.integers(problem.costs.shape[1])]
    wanted = rng.uniform(column.min(), column.max(), size=n)
    order = np.argsort(column, kind="stable")
    right = np.searchsorted(column[order], wanted).clip(0, len(order) - 1)
    left = np.maximum(right - 1, 0)
    nearer_left = wanted - column[order[left]] < column[order[right]] - wanted
    return np.ascontiguousarray(problem.archs[order[np.where(nearer_left, left, right)]])


class _Seen:
    """Which architectures were asked before, by a hash: a few that were not count as seen."""

    def __init__(self, space: SearchSpace, flags: npt.NDArray[np.uint8]) -> None:
        self._flags = flags
        rng = np.random.default_rng(0)
        self._factors = rng.integers(2**63, size=space.n_slots, dtype=np.uint64) * 2 + 1

    def _hash(self, archs: Archs) -> npt.NDArray[np.uint64]:
        # Multiply-shift; uint64 wraps around.
        mixed = ((archs.astype(np.uint64) + 1) * self._factors).sum(axis=1, dtype=np.uint64)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        return np.asarray(mixed >> np.uint64(64 - _SEEN_BITS))

    def add(self, archs: Archs) -> None:
        """Mark as asked."""
        self._flags[self._hash(archs)] = 1

    def new(self, archs: Archs) -> npt.NDArray[np.intp]:
        """Rows that were not asked before, each once."""
        hashes, first = np.unique(self._hash(archs), return_index=True)
        return np.sort(first[self._flags[hashes] == 0])
