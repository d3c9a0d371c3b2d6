"""Active search: ask where an answer is expected to move the front most."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ... import arguments, pareto
from ...accuracy.codes import covering, equal_rows, feature_keys
from ...accuracy.oracle import Oracle
from ...accuracy.process import Floats, Posterior, Process, described, groups
from ...costs import CostTable
from ...errors import InvalidInputError, InvalidTypeError
from ...runs import Arrays
from ...spaces import Archs, SearchSpace
from ...typing import BoolArray, FloatArray, Int64Array, IntArray
from .. import acquisition
from ..candidates import around
from ..method import Draws, Layout, Method
from ..problem import Problem
from ..result import distinct, extremes

# Spaces up to this size are candidates as a whole.
ENUMERATED = 50_000
# Of these the process is asked about as many as are most promising when it is learned, until it is
# learned again.
_SHORT = 2500
# Of others, as long as nothing is known, this many.
_POOL = 800
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
# Of the distance from the median to the best; twice as much differs by less than seeds do. Without
# it the front of NAS-Bench-201 (CIFAR-10, four devices) lacked 0.8 % after 100 questions, with it
# 0.3 %.
_WARP = 0.5
# Architectures asked twice at first, where it is not known how much repeats differ; and those asked
# before of which it is computed what another answer gains.
_REPEATED, _DOUBTFUL = 6, 32
# Of a model, which is cheap to ask, this share of what was asked is asked at once.
_SHARE = 2
# Times within a batch that what was chosen so far is believed; between them several are chosen.
_ROUNDS = 16

_FIRST, _LATER = 0, 1


@dataclass(frozen=True, eq=False)
class Active(Method):
    """Ask an oracle that is dear where an answer is expected to move the front most.

    A Gaussian process learns from all answers, with automatic relevance determination of what
    describes an architecture (Neal, 1996). The next question is that of the largest expected
    hypervolume improvement (Emmerich et al., CEC 2011), with costs that are known: what it adds to
    the best within a budget, in the mean over all budgets. Within a batch what is asked already
    counts as answered by its mean (Kriging believer; Ginsbourger et al., 2010).

    Of an oracle whose answers differ (`repeats`, `noise`) it asks again where that is expected to
    gain more than anything new (knowledge gradient; Frazier et al., 2009), and the front is what it
    believes of each architecture.

    Parameters
    ----------
    batch : int, optional
        Questions asked together, for oracles with an executor: one for each worker. Default: one,
        and of a model, which is cheap to ask, half of what it was asked.
    first : int
        Questions before any is chosen: the cheapest and the dearest architecture of every table,
        some that have every code of the space, and random ones.
    initial : ndarray of uint8, shape (n, n_slots), optional
        Questions before any is chosen, instead of `first`; each architecture once.
    among : ndarray of uint8, shape (n, n_slots), optional
        Ask about none but these architectures, at most 50,000, such as those that a table of
        measurements has. Default: all of the space.
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
    among: Archs | None = None
    asking: CostTable | None = None
    tolerance: float = 1e-8

    name: ClassVar[str] = "active"
    title: ClassVar[str] = "active search"
    evaluations: ClassVar[int | None] = 300

    def checked(self) -> Mapping[str, Any]:
        if self.asking is not None and not isinstance(self.asking, CostTable):
            raise InvalidTypeError(
                "asking should be a cost table of what a question costs, found "
                f"{arguments.shown(self.asking)}"
            )
        for given, name in ((self.initial, "initial"), (self.among, "among")):
            if given is not None and not isinstance(given, np.ndarray):
                raise InvalidTypeError(
                    f"{name} should be architectures as an array of uint8, shape (n, n_slots), as "
                    f"space.from_strings(rows) makes it, found {arguments.shown(given)}"
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
            # Answers and rows when the process was learned, and steps.
            "counts": (np.int64, (3,)),
        }

    def begin(self, problem: Problem, draws: Draws) -> Arrays:
        space = problem.space
        self._price(problem, space.sample(1, seed=0))
        every = self._every(problem)
        if self.initial is None:
            chosen = self._drawn(problem, draws)
        else:
            space.validate(self.initial)
            if not len(self.initial):
                raise InvalidInputError(
                    "initial should hold at least one architecture, found none; leave it out to "
                    "have some drawn"
                )
            chosen = distinct(self.initial)
            if self.among is not None and every is not None:
                _require_among(space, self.initial, every)
        repeats, noise = _repeats(problem)
        if repeats > 1 and noise is None:
            # How much answers differ is learnt from these.
            chosen = np.concatenate([chosen, chosen[-_REPEATED:]])
        nothing: Arrays = {
            "rows": np.empty((0, space.n_slots), dtype=np.uint8),
            "merit": np.empty(0),
            "answered": np.empty(0, dtype=np.int64),
            "counts": np.zeros(3, dtype=np.int64),
        }
        return _ask(problem, nothing, chosen)

    def _drawn(self, problem: Problem, draws: Draws) -> Archs:
        """Draw what is asked first."""
        space = problem.space
        if self.among is not None:
            every = distinct(self.among)
            costs = problem.stack(every, threads=problem.threads)
            ends = np.concatenate([costs.argmin(axis=0), costs.argmax(axis=0)])
            order = np.random.default_rng(draws.seed_of(_FIRST)).permutation(len(every))
            return distinct(every[np.append(ends, order)][: self.first + len(ends)])[: self.first]
        ends = extremes(problem.tables)
        chosen = np.concatenate([ends, covering(space, ends, seed=draws.seed_of(_FIRST))])
        n = max(self.first - len(chosen), 0)
        seed = draws.seed_of(_FIRST)
        drawn = [
            space.sample(n - n // 2, seed=seed),
            space.sample(n // 2, seed=seed, distribution="decisions"),
        ]
        return distinct(np.concatenate([chosen, *drawn]))

    def _every(self, problem: Problem) -> Archs | None:
        """Return all that may be asked; None where that are too many to look at."""
        if "every" not in problem.memo:
            every = None
            if self.among is not None:
                problem.space.validate(self.among)
                if len(self.among) == 0:
                    raise InvalidInputError(
                        "among should hold at least one architecture to ask about, found none"
                    )
                if len(self.among) > ENUMERATED:
                    raise InvalidInputError(
                        f"among holds {len(self.among)} architectures; at most {ENUMERATED} are "
                        "looked at as a whole: leave out what would not be deployed, or search the "
                        "space without among"
                    )
                every = distinct(self.among)
            elif problem.space.n_architectures <= ENUMERATED:
                every = problem.space.enumerate()
            problem.memo["every"] = every
        found: Archs | None = problem.memo["every"]
        return found

    def step(self, problem: Problem, state: Arrays, draws: Draws) -> Arrays:
        self._every(problem)
        rows, good = state["rows"], state["answered"] > 0
        batch = self.batch
        if batch is None:
            batch = 1 if isinstance(problem.model, Oracle) else max(8, len(rows) // _SHARE)
        batch = min(batch, problem.left)
        n_good, (learned, then, step) = int(good.sum()), state["counts"].tolist()
        state = {**state, "counts": np.array([learned, then, step + 1])}
        if batch == 0:
            return state
        candidates = _candidates(problem, state, draws, batch)
        merit = state["merit"][good]
        if n_good < _LEAST or np.ptp(merit) == 0:
            left = np.flatnonzero(candidates.open)
            if len(left) == 0:
                problem.stop()
                return state
            some = draws.rng.choice(left, size=min(batch, len(left)), replace=False)
            return _ask(problem, state, candidates.archs[some])
        if n_good >= (_AGAIN if isinstance(problem.model, Oracle) else 2) * learned:
            state["counts"][:2] = n_good, len(rows)
        surrogate = _surrogate(problem, state, candidates)
        if not candidates.open[surrogate.short].any():
            # What was promising is all asked: see what is now.
            state["counts"][:2] = n_good, len(rows)
            surrogate = _surrogate(problem, state, candidates)
        picks, gain = self._choose(problem, surrogate, candidates, batch, draws)
        least = self.tolerance * float(merit[: self._n_first].std() or merit.std())
        # Asking a model costs next to nothing.
        if len(picks) == 0 or (isinstance(problem.model, Oracle) and gain < least):
            problem.stop()
        else:
            state = _ask(problem, state, picks)
        if surrogate.noisy:
            surrogate = _surrogate(problem, state, candidates)
            mean, _ = surrogate.posterior.measured(surrogate.y, surrogate.first)
            problem.believe(surrogate.archs, surrogate.merit(mean))
        return state

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
    ) -> tuple[Archs, float]:
        """Choose questions one after the other; also the gain expected of the first."""
        posterior, y = surrogate.posterior, surrogate.y
        is_open = candidates.open[surrogate.short]
        left, describe = surrogate.short[is_open], surrogate.describe[is_open]
        costs = candidates.costs[left]
        price = self._price(problem, candidates.archs[left])
        merit, known = y[surrogate.first], surrogate.costs
        asked_price = self._price(problem, surrogate.archs)
        repeats = _repeats(problem)[0] - surrogate.times
        budgets = _budgets(problem, draws.rng)
        floor = float(y.min())
        n, first_gain = len(posterior), 0.0
        picks: list[Archs] = []
        chosen: FloatArray = np.empty(0)
        gain_over = functools.partial(_gain, problem, floor=floor, budgets=budgets)

        while len(picks) < batch:
            mean, variance = posterior.predict(y)
            mean, std = mean[describe], np.sqrt(variance)[describe]
            again, value = -1, -np.inf
            if surrogate.noisy:
                merit, of_asked = posterior.measured(y, surrogate.first)
                # An answer moves what is believed by less than it may itself be off.
                std = _moved(std, surrogate.repeat)
                again, value = _again(
                    gain_over,
                    np.append(merit, chosen),
                    known,
                    _moved(np.sqrt(of_asked), surrogate.repeat),
                    np.flatnonzero(repeats > 0),
                    asked_price,
                )
            gain = gain_over(np.append(merit, chosen), known)
            together = min(-(-batch // _ROUNDS), batch - len(picks), len(left))
            best, gains = gain.largest(mean, std, costs, price, together)
            most = float(gains[0]) if together else -np.inf
            if max(value, most) == -np.inf:
                break
            if not picks:
                first_gain = max(value, most) * surrogate.scale
            if again >= 0 and (
                not together
                or value / (asked_price[again] if asked_price is not None else 1)
                > most / (price[best[0]] if price is not None else 1)
            ):
                repeats[again] -= 1
                picks.append(surrogate.archs[again])
                posterior.add(surrogate.x[again : again + 1], surrogate.repeat, again)
                continue
            picks += list(candidates.archs[left[best]])
            if len(picks) == batch:
                break
            chosen = np.append(chosen, mean[best])
            known = np.concatenate([known, costs[best]])
            of_best = candidates.features[candidates.same[left[best]]]
            posterior.add(of_best[:, surrogate.used], surrogate.repeat)
            keep = np.ones(len(left), dtype=np.bool_)
            keep[best] = False
            left, costs, describe = left[keep], costs[keep], describe[keep]
            price = None if price is None else price[keep]
        posterior.cut(n)
        found = np.array(picks, dtype=np.uint8).reshape(-1, problem.space.n_slots)
        return found, first_gain

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
class _Learned:
    """A process, and what it was learned with: all of it a function of the first answers.

    Attributes
    ----------
    answers, rows : int
        That it was learned from, and that had been asked by then.
    process : Process
    used : ndarray of bool, shape (features,)
        Which features vary.
    base : ndarray of intp
        Answers that predictions rest on, beside those that came later.
    repeat : float
        Variance between answers about one architecture in units of the process, where the merit
        has a slope of 1; 0 where they are always the same.
    warp : _Warp
    """

    answers: int
    rows: int
    process: Process
    used: BoolArray
    base: IntArray
    repeat: float
    warp: _Warp


@dataclass(eq=False)
class _Surrogate:
    """A posterior with what it rests on.

    Attributes
    ----------
    posterior : Posterior
        Of the distinct descriptions of a short list of candidates.
    short, describe : ndarray of intp, shape (k,)
        Rows of the candidates, and the description of each in the posterior.
    used : ndarray of bool, shape (features,)
    y : ndarray of float64, shape (n,)
        Answers as the process learns them.
    scale : float
        Of y in units of the merit, near the best.
    archs : ndarray of uint8, shape (m, n_slots)
        Architectures that the answers are about, each once.
    first : ndarray of intp, shape (m,)
        First answer about each.
    times : ndarray of int64, shape (m,)
        Answers about each.
    costs, x : ndarray, shape (m, n_tables) and (m, features used)
    repeat : float
        Variance that repeats near the best differ by, as of `Posterior`.
    """

    posterior: Posterior
    short: IntArray
    describe: IntArray
    used: BoolArray
    y: FloatArray
    archs: Archs
    first: IntArray
    times: Int64Array
    costs: FloatArray
    x: Floats
    repeat: float
    warp: _Warp
    mean: float
    spread: float

    @property
    def noisy(self) -> bool:
        return self.repeat > 0

    @property
    def scale(self) -> float:
        return self.spread * self.warp.room

    def merit(self, y: FloatArray) -> FloatArray:
        return self.warp.back(self.mean + self.spread * y)


@dataclass(frozen=True)
class _Warp:
    """Stretch merits near the best: ``-log(1 + (best - merit) / room)``.

    Bad architectures are bad by very different amounts, which a process with one length scale for
    all would spend itself on; near the best it is small differences that count.
    """

    best: float
    room: float

    @classmethod
    def of(cls, merit: FloatArray) -> _Warp:
        best = float(merit.max())
        return cls(best, max(_WARP * (best - float(np.median(merit))), 1e-9 * max(1, abs(best))))

    def __call__(self, merit: FloatArray) -> FloatArray:
        return np.asarray(-np.log1p((self.best - merit) / self.room))

    def back(self, warped: FloatArray) -> FloatArray:
        return np.asarray(self.best - self.room * np.expm1(-warped))

    def slope(self, merit: FloatArray) -> FloatArray:
        return np.asarray(1 / (self.room + np.maximum(self.best - merit, 0)))


def _repeats(problem: Problem) -> tuple[int, float | None]:
    """Answers about one architecture at most, and the noise between them if it is known."""
    if not isinstance(problem.model, Oracle):
        return 1, 0.0
    return problem.model.repeats, problem.model.noise


def _moved(std: FloatArray, repeat: float) -> FloatArray:
    """Say how far one more answer, with its noise, moves what is believed: a deviation."""
    return np.asarray(std**2 / np.sqrt(std**2 + repeat) + 1e-12)


def _again(
    gain_over: Callable[..., acquisition.Gain],
    merit: FloatArray,
    costs: FloatArray,
    moved: FloatArray,
    rows: IntArray,
    price: FloatArray | None,
) -> tuple[int, float]:
    """Find the asked architecture about which another answer gains most; -1 where there is none.

    What is believed of it may rise, or fall below the next best: both move the front. This is the
    knowledge gradient (Frazier et al., 2009) of that architecture, over all budgets.
    """
    if len(rows) == 0:
        return -1, -np.inf
    reached = pareto.best_within(costs, merit, costs[rows], threads=1)
    promising = (merit[rows] - merit[reached]) / moved[rows]
    rows = rows[np.argsort(-promising, kind="stable")[:_DOUBTFUL]]
    gains = np.empty(len(rows))
    for i, row in enumerate(rows.tolist()):
        others = np.arange(len(merit)) != row
        gain = gain_over(merit[others], costs[others])
        at, cost = merit[row : row + 1], costs[row : row + 1]
        now = gain.expected(at, np.full(1, 1e-9), cost)
        gains[i] = gain.expected(at, moved[row : row + 1], cost)[0] - now[0]
    best = int((gains if price is None else gains / price[rows]).argmax())
    return int(rows[best]), float(gains[best])


def _ask(problem: Problem, state: Arrays, archs: Archs) -> Arrays:
    again = _repeats(problem)[0] > 1
    archs, merit, _ = problem.answers(np.ascontiguousarray(archs), again=again)
    good = np.isfinite(merit)
    return {
        "rows": np.concatenate([state["rows"], archs]),
        "merit": np.append(state["merit"], np.where(good, merit, 0.0)),
        "answered": np.append(state["answered"], good.astype(np.int64)),
        "counts": state["counts"],
    }


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


def _is_listed(problem: Problem) -> bool:
    """Whether all that may be asked are candidates."""
    return problem.memo["every"] is not None


def _require_among(space: SearchSpace, initial: Archs, every: Archs) -> None:
    """Refuse to ask first what may not be asked."""
    known = {row.tobytes() for row in every}
    for i, row in enumerate(np.ascontiguousarray(initial)):
        if row.tobytes() not in known:
            raise InvalidInputError(
                f"row {i} of initial, {space.to_strings(initial[i : i + 1])[0]}, is not in among; "
                "leave it out, or add it there"
            )


def _candidates(problem: Problem, state: Arrays, draws: Draws, batch: int) -> _Candidates:
    """Every architecture of a small space; of others those near the front and some new ones."""
    space, rows = problem.space, state["rows"]
    if _is_listed(problem):
        if "candidates" not in problem.memo:
            problem.memo["candidates"] = _of(problem, problem.memo["every"])
        every: _Candidates = problem.memo["candidates"]
        # What was asked before is closed already, unless it was asked in another process.
        done = problem.memo.setdefault("closed", 0)
        every.open[[every.index[row.tobytes()] for row in rows[done:]]] = False
        problem.memo["closed"] = len(rows)
        return every
    good = state["answered"] > 0
    merit, seed = state["merit"][good], draws.seed_of(_LATER)
    if len(merit) < _LEAST or np.ptp(merit) == 0:
        pool = space.sample(_POOL, seed=(seed + len(rows)) % 2**64, distribution="decisions")
        pool = distinct(pool)
    else:
        pool = around(problem, np.ascontiguousarray(rows[good]), merit, seed=seed, batch=batch)
    asked = {row.tobytes() for row in rows}
    new = np.array([row.tobytes() not in asked for row in pool], dtype=np.bool_)
    return _of(problem, np.ascontiguousarray(pool[new]))


def _surrogate(problem: Problem, state: Arrays, candidates: _Candidates) -> _Surrogate:
    """Learn from the answers; what was learned with fewer is kept, and rows are added to it."""
    answers, then, _ = state["counts"].tolist()
    good = np.flatnonzero(state["answered"] > 0)
    learned: _Learned | None = problem.memo.get("learned")
    if learned is None or (learned.answers, learned.rows) != (answers, then):
        learned = _learned(problem, state, candidates, good[:answers], then)
        problem.memo["learned"] = learned
        problem.memo.pop("posterior", None)
    # What came later than the process was learned is added to what it rests on.
    rests_on = np.append(learned.base, good[answers:])
    archs, merit = np.ascontiguousarray(state["rows"][rests_on]), state["merit"][rests_on]
    first, alike = equal_rows(problem.space, archs)
    features = _described(problem, archs, candidates)[:, learned.used]
    repeat = learned.repeat * learned.warp.slope(merit) ** 2
    n = len(learned.base)
    if "posterior" not in problem.memo or not _is_listed(problem):
        posterior = Posterior(
            learned.process,
            candidates.features[:, learned.used],
            features[:n],
            repeat[:n] if learned.repeat else None,
            alike[:n],
        )
        short = _short(problem, state, learned, candidates, posterior)
        problem.memo["posterior"] = posterior, *short
    posterior, rows, describe = problem.memo["posterior"]
    # One by one, whatever was asked together: a search that goes on adds up the same numbers.
    chunk = 1 if _is_listed(problem) else max(len(features) - n, 1)
    for start in range(len(posterior), len(features), chunk):
        some = slice(start, start + chunk)
        posterior.add(features[some], repeat[some], alike[some])
    warp = _Warp.of(state["merit"][good])
    warped = warp(merit)
    mean, spread = float(warped.mean()), float(warped.std()) or 1.0
    each = np.ascontiguousarray(archs[first])
    return _Surrogate(
        posterior,
        rows,
        describe,
        learned.used,
        (warped - mean) / spread,
        each,
        first,
        np.bincount(alike).astype(np.int64),
        problem.stack(each, threads=problem.threads),
        features[first],
        learned.repeat * float(learned.warp.slope(np.array([learned.warp.best]))[0]) ** 2,
        warp,
        mean,
        spread,
    )


def _short(
    problem: Problem,
    state: Arrays,
    learned: _Learned,
    candidates: _Candidates,
    posterior: Posterior,
) -> tuple[IntArray, IntArray]:
    """Choose the candidates that may gain most, by a bound; the posterior is cut to these.

    Where repeats differ the bound is of an answer without their noise, which says more.
    """
    if len(candidates.archs) <= _SHORT:
        return np.arange(len(candidates.archs)), candidates.same
    is_open = np.ones(len(candidates.archs), dtype=np.bool_)
    if _is_listed(problem):  # a pool holds nothing that was asked
        is_open[[candidates.index[row.tobytes()] for row in state["rows"][: learned.rows]]] = False
    rows = np.flatnonzero(is_open)
    archs = np.ascontiguousarray(state["rows"][learned.base])
    warped = learned.warp(state["merit"][learned.base])
    y = (warped - warped.mean()) / (float(warped.std()) or 1.0)
    mean, variance = posterior.predict(y)
    costs = problem.stack(archs, threads=problem.threads)
    budgets = _budgets(problem, np.random.default_rng(learned.answers))
    gain = _gain(problem, y, costs, float(y.min()), budgets)
    same = candidates.same[rows]
    bound = gain.bound(mean[same], np.sqrt(variance)[same], candidates.costs[rows])
    if len(rows) > _SHORT:
        rows = np.sort(rows[np.argpartition(-bound, _SHORT - 1)[:_SHORT]])
    kept, describe = np.unique(candidates.same[rows], return_inverse=True)
    posterior.keep(kept)
    return rows, describe.reshape(-1)


def _described(problem: Problem, archs: Archs, candidates: _Candidates) -> Floats:
    """Describe what was asked; all of it at once, as whoever goes on after a kill does.

    Sums over columns differ in the last bit by how many rows they are computed for.
    """
    if not _is_listed(problem):
        return described(problem.space, archs)
    return candidates.features[candidates.same[[candidates.index[row.tobytes()] for row in archs]]]


def _learned(
    problem: Problem, state: Arrays, candidates: _Candidates, good: IntArray, then: int
) -> _Learned:
    """Learn a process from these answers."""
    answers = len(good)
    archs, merit = np.ascontiguousarray(state["rows"][good]), state["merit"][good]
    warp = _Warp.of(merit)
    noise = _noise(problem, archs, merit)
    if answers > _MOST:
        costs = problem.stack(archs, threads=problem.threads)
        best = pareto.best_within(costs, merit, costs, threads=problem.threads)
        near = np.sort(np.argsort(merit[best] - merit, kind="stable")[:_MOST])
        good, archs, merit = good[near], np.ascontiguousarray(archs[near]), merit[near]
    features = _described(problem, archs, candidates)
    _, first, same = np.unique(feature_keys(features), return_index=True, return_inverse=True)
    same = same.reshape(-1)
    used = np.ptp(features, axis=0) > 0
    weight = np.bincount(same).astype(np.float64)
    y = warp(merit)
    spread = float(y.std()) or 1.0
    y = np.bincount(same, (y - y.mean()) / spread) / weight
    rows = np.sort(np.random.default_rng(0).permutation(len(first))[:_LEARN])
    x = features[first][:, used].astype(np.float64)
    shared = groups(problem.space)
    group = None if shared is None else shared[used]
    process = Process.learned(x[rows], y[rows], weight[rows], group)
    repeat = 0.0
    if noise:
        variance = process.error(x[rows], y[rows]) ** 2 / process.noise
        repeat = noise**2 / (spread**2 * max(variance, 1e-12))
    return _Learned(answers, then, process, used, good, repeat, warp)


def _noise(problem: Problem, archs: Archs, merit: FloatArray) -> float:
    """Learn how much answers about the same architecture differ: a standard deviation."""
    repeats, noise = _repeats(problem)
    if noise is not None or repeats == 1:
        return noise or 0.0
    first, alike = equal_rows(problem.space, archs)
    times = np.bincount(alike)
    mean = np.bincount(alike, merit) / times
    freedom = len(archs) - len(first)
    return float(np.sqrt(((merit - mean[alike]) ** 2).sum() / max(freedom, 1)))


def _range(problem: Problem) -> tuple[float, float]:
    """Range of budgets of the only table."""
    low, high = problem.stack.bounds[0].tolist()
    # The dearest architecture has something to gain as well, and one that costs what all do.
    return low, high + (0.01 * (high - low) or 1.0)


def _gain(
    problem: Problem, merit: FloatArray, costs: FloatArray, floor: float, budgets: FloatArray | None
) -> acquisition.Gain:
    """Gain over the front of these architectures."""
    if budgets is None:
        return acquisition.OneCost(merit, costs, floor, *_range(problem))
    return acquisition.ManyCosts(merit, costs, floor, budgets)


def _budgets(problem: Problem, rng: np.random.Generator) -> FloatArray | None:
    """Vectors of budgets, uniform over the ranges of several costs; None for one cost."""
    if len(problem.tables) == 1:
        return None
    low, high = problem.stack.bounds.T
    share = rng.random((_BUDGETS, len(problem.tables)))
    return np.asarray(low + (high - low) * share)
