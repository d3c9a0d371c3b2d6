"""The reference search for the front of accuracy against costs.

Where the accuracy model has slopes, four things take turns at an archive of what is not dominated:

1. Simulated annealing (Kirkpatrick et al. 1983) of ``top1 - weight * cost`` from random
   architectures, by jumps (`pnag_fast.search.jumps`), each chain under a weight of its own. Learned
   accuracy has many local fronts, some a quarter of a point apart; which one a search ends in is
   decided here, and climbing alone often ends in a worse one. Of the jumps that the slopes of a
   chain propose, those are asked that a quadratic promises most of which is fitted to all slopes
   seen (`pnag_fast.search.quadratic`); what was asked before is remembered.
2. From where each chain ended, climbing by exchanges of one or two slots
   (`pnag_fast.search.exchanges`): most chains end a few codes beside an optimum.
3. Jumps and exchanges from the archive under random weights; of several thousand that are ranked by
   the quadratic, a few hundred that promise most beyond the front are evaluated exactly.
4. Mutations of the archive and crossovers between its members, which join parts of local fronts.

Where the model is a table there are mutations and crossovers alone; where the space is small, all
of it is evaluated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ... import arguments
from ...accuracy.codes import feature_offsets
from ...errors import InvalidInputError, InvalidTypeError
from ...runs import Arrays, Run
from ...spaces import Archs
from ...typing import FloatArray, IntArray
from ..answered import Memory
from ..exchanges import Exchanges
from ..jumps import Jumps
from ..method import Draws, Layout, Method
from ..problem import Problem
from ..quadratic import Quadratic
from ..result import Front, extremes
from .exhaustive import Exhaustive

# Spaces up to this size are searched by looking at every architecture.
EXHAUSTIVE_LIMIT = 200_000

# Annealing: share of the evaluations, from nothing and beside known architectures; most chains and
# fewest steps of each; proposals per step and how many of these are asked; the first and last
# temperature, in top-1; see `_unit`.
_ANNEALING_SHARE, _BESIDE_SHARE = 0.7, 0.5
_CHAINS, _CHAIN_STEPS, _CHAIN_JUMPS, _CHAIN_ASKED = 128, 100, 8, 2
_HOT, _COLD = 2e-3, 1e-4
# Noise on the quadratic's estimates, in top-1, and what a known answer counts as a question.
_DOUBT, _REPEAT = 5e-4, 0.1
# Weights on the costs, in units of the spread of top-1 over the spread of a cost.
_WEIGHTS = (0.005, 20.0)
# A round from the archive: evaluations at most, the share of these that are mutations and
# crossovers, jumps proposed for each evaluation and from each origin, and slopes looked at.
_ROUND, _LOCAL, _PROPOSED, _JUMPS, _LOOKED = 512, 0.25, 8, 64, 8
# Exchanges asked of the end of every chain, and the share of all questions that is enough for one
# round of them; of every origin of a round from the archive, and the number of these.
_CLIMBED, _CLIMBED_SHARE, _EXCHANGED, _ORIGINS = 128, 1 / 12, 128, 16
# Share of origins that change their input resolution before they jump, where the space has several.
_RESIZED = 0.25
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
    evaluations: ClassVar[int | None] = 200_000

    def checked(self) -> Mapping[str, Any]:
        if self.start is not None and not isinstance(self.start, np.ndarray):
            raise InvalidTypeError(
                "start should be architectures, an array of uint8 of shape (n, n_slots), found "
                f"{arguments.shown(self.start)}"
            )
        return {}

    @property
    def _share(self) -> float:
        return _ANNEALING_SHARE if self.start is None else _BESIDE_SHARE

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
            "slopes": (np.float32, (None, int(feature_offsets(problem.space)[-1]))),
            "moved": (np.uint8, (None,)),
            "repeated": (np.float64, (1,)),
        }
        climbing: Layout = {
            "climbers": (np.uint8, (None, n_slots)),
            "weights": (np.float64, (None, 1, n_tables)),
            "value": (np.float64, (None,)),
        }
        always = Memory.empty(problem.limit) | Quadratic.empty(problem.space)
        fixed = {name: (array.dtype, array.shape) for name, array in always.items()}
        phase = chains if "chains" in names else climbing if "climbers" in names else {}
        return {**fixed, **phase}

    def begin(self, problem: Problem, draws: Draws) -> Arrays:
        """Fill the archive: with what was given, and by annealing or at random."""
        problem.evaluate(extremes(problem.tables))
        if self.start is not None:
            problem.space.validate(self.start)
            if len(self.start) == 0:
                raise InvalidInputError("start should hold at least one architecture")
            problem.evaluate(self.start)
        state = Memory.empty(problem.limit) | Quadratic.empty(problem.space)
        if problem.left and problem.slopes(problem.archs[:1]) is not None:
            draws.restart(0)
            return state | _chains(problem, self._share, draws)
        draws.restart(1)
        if self.start is None:
            # Uniform over architectures favours deep networks, uniform decisions the shallow ones.
            first = min(4096, max(problem.left // 16, 16))
            space, second = problem.space, draws.seed_of(1)
            problem.evaluate(space.sample(first, seed=draws.seed_of(0)))
            problem.evaluate(space.sample(first, seed=second, distribution="decisions"))
        return state

    def step(self, problem: Problem, state: Arrays, draws: Draws) -> Arrays:
        memory = Memory(problem.space, state)
        if "chains" in state:
            if _anneal(problem, self._share, state, memory, draws.rng):
                return state
            draws.restart(1)
            kept = {name: state[name] for name in self.layout(problem, ())}
            return kept | {
                "climbers": state["chains"],
                "weights": state["weights"],
                "value": state["value"],
            }
        quadratic = Quadratic(problem.space, state)
        if "climbers" in state:
            climbing = _climb(problem, quadratic, state, memory)
            return climbing or {name: state[name] for name in self.layout(problem, ())}
        size = min(_ROUND, max(problem.limit // 64, 32))
        guided = size - int(size * _LOCAL)
        jumped = _jump(problem, quadratic, memory, guided - guided // 2, draws.rng)
        exchanged = _exchange(problem, quadratic, memory, guided // 2, draws.rng)
        guided = len(jumped) + len(exchanged)
        batch = np.concatenate([jumped, exchanged, _vary(problem, size - guided, draws.rng)])
        memory.add(*problem.evaluate(batch)[:2])
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


def _chains(problem: Problem, share: float, draws: Draws) -> Arrays:
    """Random architectures to anneal from, each under a weight of its own."""
    budget = share * problem.left
    n = int(min(_CHAINS, max(budget // (_CHAIN_ASKED * _CHAIN_STEPS), 4)))
    current, merit, costs = problem.evaluate(
        problem.space.sample(n, seed=draws.next_seed(), distribution="decisions")
    )
    weights = _random_weights(problem, (len(current), 1), draws.rng)
    value = merit - (costs * weights[:, 0]).sum(axis=1)
    return {
        "chains": current,
        "weights": weights,
        "value": value,
        "slopes": np.zeros((len(current), feature_offsets(problem.space)[-1]), dtype=np.float32),
        "moved": np.ones(len(current), dtype=np.uint8),
        "repeated": np.zeros(1),
    }


def _anneal(
    problem: Problem, share: float, state: Arrays, memory: Memory, rng: np.random.Generator
) -> bool:
    """Take one step with every chain, in place; False where annealing is over."""
    # What is known costs no question; but nobody waits for ever for a new one.
    spent = problem.spent + _REPEAT * state["repeated"][0] / problem.limit
    if spent >= share or len(state["chains"]) == 0:
        return False
    current, value, quadratic = state["chains"], state["value"], Quadratic(problem.space, state)
    moved, n = np.flatnonzero(state["moved"]), len(current)
    if len(moved):
        slopes = problem.slopes(current[moved])
        if slopes is None:
            return False
        state["slopes"][moved] = slopes
        quadratic.learn(current[moved], slopes)
    weights = np.repeat(state["weights"], _CHAIN_JUMPS, axis=1)
    jumps = Jumps(problem.space, problem.tables)
    unit = _unit(problem)
    scaled = jumps.by_code(state["slopes"]) / np.float32(unit)
    archs = jumps.propose(current, scaled, weights / unit, rng)
    penalty = (problem.stack(archs) * weights.reshape(len(archs), -1)).sum(axis=1)
    # To stay is no jump: it would win over every jump that costs a little.
    stays = (archs == np.repeat(current, _CHAIN_JUMPS, axis=0)).all(axis=1)
    known, merit = memory.recall(archs)
    # The best of every chain by the quadratic are asked, give or take its errors.
    promise = quadratic(archs) - penalty + unit * _DOUBT * rng.gumbel(size=len(archs))
    promise = np.where(known | stays, -np.inf, promise).reshape(n, -1)
    order = np.argpartition(-promise, _CHAIN_ASKED - 1, axis=1)[:, :_CHAIN_ASKED]
    chosen = (order + np.arange(n)[:, None] * _CHAIN_JUMPS).ravel()
    chosen = chosen[np.isfinite(promise.ravel()[chosen])]
    first, place = memory.distinct(archs[chosen])
    asked = archs[chosen[first]]
    answered, found, _ = problem.evaluate(asked)
    if len(answered) < len(asked):
        return False
    memory.add(asked, found)
    merit[chosen] = found[place]
    known[chosen] = True
    state["repeated"] += n * _CHAIN_ASKED - len(asked)
    values = np.where(known & ~stays, merit - penalty, -np.inf).reshape(n, -1)
    best = values.argmax(axis=1)
    values = values.max(axis=1)
    temperature = unit * _HOT * (_COLD / _HOT) ** (spent / share)
    moves = value - values < temperature * rng.exponential(size=n)
    value[moves] = values[moves]
    current[moves] = archs.reshape(n, _CHAIN_JUMPS, -1)[moves, best[moves]]
    state["moved"][:] = moves
    return True


def _climb(problem: Problem, quadratic: Quadratic, state: Arrays, memory: Memory) -> Arrays | None:
    """Move the end of every chain to its best exchange; None where nothing rises any more."""
    current, value, weights = state["climbers"], state["value"], state["weights"]
    k = int(min(_CLIMBED, max(_CLIMBED_SHARE * problem.limit / max(len(current), 1), 4)))
    exchanges = Exchanges(problem.space, problem.tables)
    archs, owner = exchanges.best(quadratic, current, weights[:, 0], k)
    known, merit = memory.recall(archs)
    first, place = memory.distinct(archs[~known])
    asked = np.ascontiguousarray(archs[~known][first])
    answered, found, _ = problem.evaluate(asked)
    if len(answered) < len(asked) or len(archs) == 0:
        return None
    memory.add(asked, found)
    merit[~known] = found[place]
    values = merit - (problem.stack(archs) * weights[owner, 0]).sum(axis=1)
    # Sorted by owner, then value: the last of each owner is its best exchange.
    order = np.lexsort((values, owner))
    best = order[np.append(np.diff(owner[order]) > 0, True)]
    best = best[values[best] > value[owner[best]]]
    if len(best) == 0:
        return None
    # Whoever does not rise is done; of those that meet under one weight each goes on.
    return state | {
        "climbers": archs[best],
        "value": values[best],
        "weights": weights[owner[best]],
    }


def _exchange(
    problem: Problem, quadratic: Quadratic, memory: Memory, n: int, rng: np.random.Generator
) -> Archs:
    """Return new exchanges of archive members that promise most beyond the front, at most `n`."""
    if not quadratic.is_fitted:
        return problem.archs[:0]
    origins = _origins(problem, _ORIGINS, rng)
    weights = _random_weights(problem, (len(origins), 1), rng)[:, 0]
    exchanges = Exchanges(problem.space, problem.tables)
    archs, owner = exchanges.best(quadratic, origins, weights, _EXCHANGED)
    return _most_promising(problem, quadratic, memory, origins, archs, owner, n)


def _origins(problem: Problem, n: int, rng: np.random.Generator) -> Archs:
    """Draw archive members to start from, some of them at another input resolution."""
    origins = _spread_parents(problem, n, rng)
    slot = problem.space.resolution_slot
    if slot is not None:
        resized = np.flatnonzero(rng.random(n) < _RESIZED)
        origins[resized, slot] = rng.integers(1, problem.space.n_codes[slot], size=len(resized))
    return origins


def _most_promising(
    problem: Problem,
    quadratic: Quadratic,
    memory: Memory,
    origins: Archs,
    archs: Archs,
    owner: IntArray,
    n: int,
) -> Archs:
    """Return those of what was made of origins that are new and promise most, at most `n`."""
    first, _ = memory.distinct(archs)
    new = np.sort(first[~memory.recall(archs[first])[0]])
    archs, owner = np.ascontiguousarray(archs[new]), owner[new]
    estimate = (problem.merit_of(origins) - quadratic(origins))[owner] + quadratic(archs)
    promise = estimate - problem.front_at(problem.stack(archs))
    return archs[np.argsort(-promise, kind="stable")[:n]]


def _jump(
    problem: Problem, quadratic: Quadratic, memory: Memory, n: int, rng: np.random.Generator
) -> Archs:
    """Return new architectures that promise most beyond the archive, at most `n`."""
    origins = _origins(problem, -(-n * _PROPOSED // _JUMPS), rng)
    slopes = problem.slopes(origins[:_LOOKED])
    if slopes is None:
        return np.empty_like(origins[:0])
    quadratic.learn(origins[:_LOOKED], slopes)
    jumps = Jumps(problem.space, problem.tables)
    unit = _unit(problem)
    scaled = jumps.by_code(quadratic.slopes(origins)) / np.float32(unit)
    weights = _random_weights(problem, (len(origins), _JUMPS), rng) / unit
    archs = jumps.propose(origins, scaled, weights, rng)
    owner = np.repeat(np.arange(len(origins)), _JUMPS)
    return _most_promising(problem, quadratic, memory, origins, archs, owner, n)


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
            [min(changes / space.n_slots, 1.0) for changes in (1, 2, 4)],
            seeds[1:],
            strict=True,
        )
    ]
    return np.concatenate([crossed, *mutated])


def _spread_parents(problem: Problem, n: int, rng: np.random.Generator) -> Archs:
    """Draw archive members so that every part of one randomly chosen cost range is as likely."""
    if not len(problem.archs):  # every question has failed by now
        return problem.space.sample(n, seed=int(rng.integers(2**63)))
    column = problem.costs[:, rng.integers(problem.costs.shape[1])]
    wanted = rng.uniform(column.min(), column.max(), size=n)
    order = np.argsort(column, kind="stable")
    right = np.searchsorted(column[order], wanted).clip(0, len(order) - 1)
    left = np.maximum(right - 1, 0)
    nearer_left = wanted - column[order[left]] < column[order[right]] - wanted
    return np.ascontiguousarray(problem.archs[order[np.where(nearer_left, left, right)]])
