"""Active search: ask where an answer is expected to move the front most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ... import arguments
from ...accuracy.codes import covering, feature_keys
from ...accuracy.oracle import Oracle
from ...accuracy.process import Floats, Posterior, Process, described, groups
from ...costs import CostTable
from ...errors import InvalidInputError, InvalidTypeError
from ...runs import Arrays
from ...spaces import Archs
from ...typing import BoolArray, FloatArray, IntArray
from .. import acquisition
from ..method import Draws, Layout, Method
from ..problem import Problem
from ..result import extremes

# Spaces up to this size are candidates as a whole.
ENUMERATED = 50_000
# Of others a step looks at this many, changes of the front and new ones.
_POOL = 1600
# Answers that the process rests on; its matrix has their squared number. Those near the front stay.
_MOST = 500
# The process is learned anew when there are this many times the answers: what matters changes
# slowly, and learning costs more than a hundred questions.
_AGAIN = 1.4
# Rows that relevances are learned from.
_LEARN = 400
# Answers below which there is nothing to learn from.
_LEAST = 5
# Vectors of budgets for several costs, drawn anew for every step.
_BUDGETS = 128
# Of a model, which is cheap to ask, this share of what was asked is asked at once.
_SHARE = 4
# Times within a batch that what was chosen so far is believed; between them several are chosen.
_ROUNDS = 32

_FIRST, _LATER = 0, 1


@dataclass(frozen=True, eq=False)
class Active(Method):
    """Ask an oracle that is dear where an answer is expected to move the front most.

    A Gaussian process learns from all answers, with automatic relevance determination of what
    describes an architecture (Neal, 1996). The next question is that of the largest expected
    hypervolume improvement (Emmerich et al., CEC 2011), with costs that are known: what it adds to
    the best within a budget, in the mean over all budgets. Within a batch what is asked already
    counts as answered by its mean (Kriging believer; Ginsbourger et al., 2010).

    Parameters
    ----------
    batch : int, optional
        Questions asked together, for oracles with an executor: one for each worker. Default: one,
        and of a model, which is cheap to ask, a quarter of what it was asked.
    first : int
        Questions before any is chosen: the cheapest and the dearest architecture of every table,
        some that have every code of the space, and random ones.
    initial : ndarray of uint8, shape (n, n_slots), optional
        Questions before any is chosen, instead of `first`.
    asking : CostTable, optional
        What it costs to ask about an architecture, such as its training time: then the gain for
        each unit of this cost decides. Default: all cost the same.
    tolerance : float
        End the search when another question is expected to add less than this to the best within a
        budget, in the mean over all budgets and in standard deviations of the first answers.
    """

    batch: int | None = None
    first: int = 20
    initial: Archs | None = None
    asking: CostTable | None = None
    tolerance: float = 1e-7

    name: ClassVar[str] = "active"
    title: ClassVar[str] = "active search"
    evaluations: ClassVar[int | None] = 300

    def checked(self) -> Mapping[str, Any]:
        if self.asking is not None and not isinstance(self.asking, CostTable):
            raise InvalidTypeError(
                "asking should be a cost table of what a question costs, found "
                f"{arguments.shown(self.asking)}"
            )
        batch = self.batch
        return {
            "batch": None if batch is None else arguments.integer(batch, "batch", 1),
            "first": arguments.integer(self.first, "first", 1),
            "tolerance": arguments.number(self.tolerance, "tolerance", 0),
        }

    def layout(self, problem: Problem, names: object) -> Layout:
        return {
            "rows": (np.uint8, (None, problem.space.n_slots)),
            "merit": (np.float64, (None,)),
            "answered": (np.int64, (None,)),
            # Answers when the process was learned, and steps.
            "counts": (np.int64, (2,)),
        }

    def begin(self, problem: Problem, draws: Draws) -> Arrays:
        space = problem.space
        self._price(problem, space.sample(1, seed=0))
        chosen = self._drawn(problem, draws) if self.initial is None else self.initial
        space.validate(chosen)
        nothing: Arrays = {
            "rows": np.empty((0, space.n_slots), dtype=np.uint8),
            "merit": np.empty(0),
            "answered": np.empty(0, dtype=np.int64),
            "counts": np.zeros(2, dtype=np.int64),
        }
        return _ask(problem, nothing, chosen)

    def _drawn(self, problem: Problem, draws: Draws) -> Archs:
        """Draw what is asked first."""
        space = problem.space
        ends = extremes(problem.tables)
        chosen = np.concatenate([ends, covering(space, ends, seed=draws.seed_of(_FIRST))])
        n = max(self.first - len(chosen), 0)
        seed = draws.seed_of(_FIRST)
        drawn = [
            space.sample(n - n // 2, seed=seed),
            space.sample(n // 2, seed=seed, distribution="decisions"),
        ]
        return _distinct(np.concatenate([chosen, *drawn]))

    def step(self, problem: Problem, state: Arrays, draws: Draws) -> Arrays:
        rows, good = state["rows"], state["answered"] > 0
        batch = self.batch
        if batch is None:
            batch = 1 if isinstance(problem.model, Oracle) else max(8, len(rows) // _SHARE)
        batch = min(batch, problem.left)
        n_good, (learned, step) = int(good.sum()), state["counts"].tolist()
        state = {**state, "counts": np.array([learned, step + 1])}
        if batch == 0:
            return state
        candidates = _candidates(problem, state, draws)
        if not candidates.open.any():
            problem.stop()
            return state
        merit = state["merit"][good]
        if n_good < _LEAST or np.ptp(merit) == 0:
            left = np.flatnonzero(candidates.open)
            some = draws.rng.choice(left, size=min(batch, len(left)), replace=False)
            return _ask(problem, state, candidates.archs[some])
        if n_good >= _AGAIN * learned:
            state["counts"][0] = learned = n_good
        surrogate = _surrogate(problem, state, candidates)
        picks, gain = self._choose(problem, surrogate, candidates, batch, draws)
        least = self.tolerance * float(merit[: self._n_first].std() or merit.std())
        # Asking a model costs next to nothing.
        if isinstance(problem.model, Oracle) and gain < least:
            problem.stop()
            return state
        return _ask(problem, state, candidates.archs[picks])

    @property
    def _n_first(self) -> int:
        return self.first if self.initial is None else len(self.initial)

    def _choose(
        self,
        problem: Problem,
        surrogate: _Surrogate,
        candidates: _Candidates,
        batch: int,
        draws: Draws,
    ) -> tuple[list[int], float]:
        """Choose rows of the candidates one after the other; also the gain of the first."""
        posterior, y = surrogate.posterior, surrogate.y
        left = np.flatnonzero(candidates.open)
        batch = min(batch, len(left))
        costs, describe = candidates.costs[left], candidates.same[left]
        price = self._price(problem, candidates.archs[left])
        merit, known = y, surrogate.costs
        budgets = _budgets(problem, draws)
        floor = float(y.min())
        n, first_gain = len(posterior), 0.0
        picks: list[int] = []
        while len(picks) < batch:
            mean, variance = posterior.predict(y)
            mean, std = mean[describe], np.sqrt(variance)[describe]
            gain: acquisition.Gain
            if budgets is None:
                gain = acquisition.OneCost(merit, known, floor, *_range(problem))
            else:
                gain = acquisition.ManyCosts(merit, known, floor, budgets)
            together = min(-(-batch // _ROUNDS), batch - len(picks))
            best, gains = gain.largest(mean, std, costs, price, together)
            if not picks:
                first_gain = float(gains[0]) * surrogate.scale
            picks += left[best].tolist()
            if len(picks) == batch:
                break
            merit = np.append(merit, mean[best])
            known = np.concatenate([known, costs[best]])
            for row in candidates.features[describe[best]][:, surrogate.used]:
                posterior.add(row)
            keep = np.ones(len(left), dtype=np.bool_)
            keep[best] = False
            left, costs, describe = left[keep], costs[keep], describe[keep]
            price = None if price is None else price[keep]
        posterior.cut(n)
        return picks, first_gain

    def _price(self, problem: Problem, archs: Archs) -> FloatArray | None:
        if self.asking is None:
            return None
        price = self.asking.for_space(problem.space)(archs)
        if (price <= 0).any():
            raise InvalidInputError(
                f"asking says that a question costs {float(price.min()):g} {self.asking.unit}; "
                "what is asked should cost more than nothing"
            )
        return price


@dataclass(eq=False)
class _Candidates:
    """What may be asked.

    Attributes
    ----------
    archs : ndarray of uint8, shape (n, n_slots)
    costs : ndarray of float64, shape (n, n_tables)
    features : ndarray of float32, shape (m, features)
        Distinct descriptions.
    same : ndarray of intp, shape (n,)
        Description of each.
    open : ndarray of bool, shape (n,)
        Not asked yet.
    """

    archs: Archs
    costs: FloatArray
    features: Floats
    same: IntArray
    open: BoolArray
    index: dict[bytes, int]


@dataclass(eq=False)
class _Surrogate:
    """A posterior with what it rests on; y has no unit."""

    posterior: Posterior
    used: BoolArray
    y: FloatArray
    scale: float
    costs: FloatArray


def _ask(problem: Problem, state: Arrays, archs: Archs) -> Arrays:
    archs, merit, _ = problem.answers(np.ascontiguousarray(archs))
    good = np.isfinite(merit)
    return {
        "rows": np.concatenate([state["rows"], archs]),
        "merit": np.append(state["merit"], np.where(good, merit, 0.0)),
        "answered": np.append(state["answered"], good.astype(np.int64)),
        "counts": state["counts"],
    }


def _distinct(archs: Archs) -> Archs:
    """Leave out repetitions, in order."""
    _, first = np.unique(archs, axis=0, return_index=True)
    return np.ascontiguousarray(archs[np.sort(first)])


def _of(problem: Problem, archs: Archs) -> _Candidates:
    features = described(problem.space, archs)
    _, first, same = np.unique(feature_keys(features), return_index=True, return_inverse=True)
    return _Candidates(
        archs,
        problem.stack(archs, threads=problem.threads),
        features[first],
        same.reshape(-1),
        np.ones(len(archs), dtype=np.bool_),
        {row.tobytes(): i for i, row in enumerate(archs)},
    )


def _candidates(problem: Problem, state: Arrays, draws: Draws) -> _Candidates:
    """Every architecture of a small space; of others those near the front and some new ones."""
    space, rows = problem.space, state["rows"]
    if space.n_architectures <= ENUMERATED:
        if "candidates" not in problem.memo:
            problem.memo["candidates"] = _of(problem, space.enumerate())
        every: _Candidates = problem.memo["candidates"]
        # What was asked before is closed already, unless it was asked in another process.
        every.open[[every.index[row.tobytes()] for row in rows]] = False
        return every
    step = int(state["counts"][1])
    n = _POOL // 4
    parents = np.ascontiguousarray(problem.archs if len(problem.archs) else rows)
    parents = parents[draws.rng.integers(len(parents), size=(4, n))]
    seeds = [draws.seed_of(_LATER + 6 * step + k) for k in range(6)]
    pool = _distinct(
        np.concatenate(
            [
                space.mutate(np.ascontiguousarray(parents[0]), rate=0.05, seed=seeds[0]),
                space.mutate(np.ascontiguousarray(parents[1]), rate=0.2, seed=seeds[1]),
                space.crossover(
                    *(np.ascontiguousarray(side) for side in parents[2:]), seed=seeds[2]
                ),
                space.sample(n // 2, seed=seeds[3]),
                space.sample(n // 2, seed=seeds[4], distribution="decisions"),
            ]
        )
    )
    asked = {row.tobytes() for row in rows}
    new = np.array([row.tobytes() not in asked for row in pool], dtype=np.bool_)
    return _of(problem, np.ascontiguousarray(pool[new]))


def _surrogate(problem: Problem, state: Arrays, candidates: _Candidates) -> _Surrogate:
    """Learn from the answers; what was learned with fewer is kept, and rows are added to it."""
    learned = int(state["counts"][0])
    good = np.flatnonzero(state["answered"] > 0)
    kept = problem.memo.get("process")
    if kept is None or kept[0] != learned:
        kept = problem.memo["process"] = (learned, *_learned(problem, state, good[:learned]))
        problem.memo.pop("posterior", None)
    _, process, used, base = kept
    # What came later than the process was learned is added to what it rests on.
    rests_on = np.append(base, good[learned:])
    archs = np.ascontiguousarray(state["rows"][rests_on])
    merit = state["merit"][rests_on]
    posterior: Posterior | None = problem.memo.get("posterior")
    features = described(problem.space, archs)[:, used]
    if problem.space.n_architectures > ENUMERATED:
        posterior = Posterior(process, candidates.features[:, used], features)
    elif posterior is None:
        n = len(base)
        posterior = Posterior(process, candidates.features[:, used], features[:n])
        problem.memo["posterior"] = posterior
    for row in features[len(posterior) :]:
        posterior.add(row)
    mean, scale = float(merit.mean()), float(merit.std()) or 1.0
    return _Surrogate(
        posterior,
        used,
        (merit - mean) / scale,
        scale,
        problem.stack(archs, threads=problem.threads),
    )


def _learned(
    problem: Problem, state: Arrays, good: IntArray
) -> tuple[Process, BoolArray, IntArray]:
    """Learn a process; also which features vary, and which rows predictions rest on."""
    archs, merit = np.ascontiguousarray(state["rows"][good]), state["merit"][good]
    if len(good) > _MOST:
        costs = problem.stack(archs, threads=problem.threads)
        found = problem.front_at(costs)
        near = np.argsort(found - merit, kind="stable")[:_MOST]
        good, archs, merit = good[near], np.ascontiguousarray(archs[near]), merit[near]
        order = np.argsort(good)
        good, archs, merit = good[order], np.ascontiguousarray(archs[order]), merit[order]
    features = described(problem.space, archs)
    _, first, same = np.unique(feature_keys(features), return_index=True, return_inverse=True)
    same = same.reshape(-1)
    used = np.ptp(features, axis=0) > 0
    weight = np.bincount(same).astype(np.float64)
    y = (merit - merit.mean()) / (float(merit.std()) or 1.0)
    y = np.bincount(same, y) / weight
    rows = np.sort(np.random.default_rng(0).permutation(len(first))[:_LEARN])
    x = features[first][:, used].astype(np.float64)
    shared = groups(problem.space)
    group = None if shared is None else shared[used]
    return Process.learned(x[rows], y[rows], weight[rows], group), used, good


def _range(problem: Problem) -> tuple[float, float]:
    """Range of budgets of the only table."""
    low, high = problem.stack.bounds[0].tolist()
    # The dearest architecture has something to gain as well, and one that costs what all do.
    return low, high + (0.01 * (high - low) or 1.0)


def _budgets(problem: Problem, draws: Draws) -> FloatArray | None:
    """Vectors of budgets, uniform over the ranges of several costs; None for one cost."""
    if len(problem.tables) == 1:
        return None
    low, high = problem.stack.bounds.T
    share = draws.rng.random((_BUDGETS, len(problem.tables)))
    return np.asarray(low + (high - low) * share)
