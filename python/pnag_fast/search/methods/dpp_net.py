"""DPP-Net: progressive search, one decision after another, kept by Pareto optimality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ... import arguments, pareto
from ...accuracy.oracle import Oracle
from ...accuracy.process import Process, described
from ...runs import Arrays
from ...spaces import Archs
from ...spaces.decisions import MASKED, Decisions, Options
from ...typing import BoolArray, FloatArray, IntArray
from ..method import Draws, Layout, Method
from ..problem import Problem, spread
from ..result import distinct, extremes, points

# Times that the questions suffice for all decisions, where the user does not say how many to keep:
# from the second time on, prefixes are completed as a front that is nearly known.
_ROUNDS = 5
_LEAST_KEPT = 8
# Random architectures that are asked first.
_FIRST = 16
# Architectures of the front that complete a prefix.
_COMPLETIONS = 24
# Candidates of one decision: of more, every prefix is completed in fewer ways.
_MOST_CANDIDATES = 20_000
# Answers that the surrogate learns from: its matrix has their squared number. Those near the front
# stay.
_MOST_ROWS = 400
# Answers that relevances are learned from; they are learned anew when there are this many times the
# answers: what matters changes slowly.
_LEARN = 250
_AGAIN = 1.4
# Of a model, at least this share of what was asked is kept.
_SHARE = 4
# Answers below which there is nothing to learn from.
_LEAST_ROWS = 4


@dataclass(frozen=True, eq=False)
class DppNet(Method):
    """Search progressively, as DPP-Net does (Dong et al., ECCV 2018; arXiv 1806.08198, 3.3).

    Decisions are taken one after another. At each, every prefix that was kept is expanded by every
    option; a surrogate that learned from all answers predicts the accuracy of what results, and
    tables say its costs on every device; those that are Pareto-optimal in all of these come first;
    the first `keep` are asked and expanded further, and the surrogate learns from them.

    In the paper a prefix is a cell of fewer layers, and as such a network. Here it is completed, by
    the decisions of architectures on the front of what was asked, at first of the cheapest and the
    dearest by every table and of some random ones. What is selected are completed prefixes, so a
    prefix is as good as the best that is predicted of it. With all decisions taken, the next round
    begins with the first one, and completes by what is known by then. The paper's surrogate is a
    recurrent network; this one is a Gaussian process with automatic relevance determination (Neal,
    1996). Of several devices give one table each: costs are never added up.

    Cost: for each decision, of n answers, O(n^3) to learn, n at most 400, and O(n) for each of
    ``24 * keep * options`` candidates.

    Parameters
    ----------
    keep : int, optional
        K of the paper: completed prefixes that are asked and expanded at each decision, of which
        there are 20,000 at most. Default: as many as let the questions suffice for five rounds, at
        least 8.
    ask : int, optional
        Of those kept, ask this many at most at each decision. Default: all.
    rounds : int, optional
        End the search after this many times all decisions. Default: when no question is left.
    """

    keep: int | None = None
    ask: int | None = None
    rounds: int | None = None

    name: ClassVar[str] = "dpp_net"
    title: ClassVar[str] = "DPP-Net"
    evaluations: ClassVar[int | None] = 2000

    def checked(self) -> Mapping[str, Any]:
        return {
            name: None if value is None else arguments.integer(value, name, 1)
            for name, value in (("keep", self.keep), ("ask", self.ask), ("rounds", self.rounds))
        }

    def layout(self, problem: Problem, names: object) -> Layout:
        n_slots = problem.space.n_slots
        return {
            "rows": (np.uint8, (None, n_slots)),
            "merit": (np.float64, (None,)),
            "answered": (np.int64, (None,)),
            "prefixes": (np.int64, (None, len(_decisions(problem)))),
            # Decisions taken by now, rounds before this one, questions when it began, and answers
            # when the surrogate was learned.
            "place": (np.int64, (4,)),
        }

    def begin(self, problem: Problem, draws: Draws) -> Arrays:
        n_slots = problem.space.n_slots
        state: Arrays = {
            "rows": np.empty((0, n_slots), dtype=np.uint8),
            "merit": np.empty(0),
            "answered": np.empty(0, dtype=np.int64),
            "prefixes": np.full((1, len(_decisions(problem))), MASKED),
            "place": np.zeros(4, dtype=np.int64),
        }
        # What the first prefixes are completed by is judged itself: it is what is known first.
        drawn = problem.space.sample(_FIRST, seed=draws.seed_of(0))
        first = distinct(np.concatenate([extremes(problem.tables), drawn]))
        return _asked(problem, state, first)

    def step(self, problem: Problem, state: Arrays, draws: Draws) -> Arrays:
        decisions = _decisions(problem)
        taken, rounds, at_start, learned = state["place"].tolist()
        if taken == len(decisions):
            return self._next_round(problem, state, draws)
        keep = self._kept(problem)
        n_good = int(np.count_nonzero(state["answered"]))
        if n_good >= _AGAIN * learned:
            learned = n_good
        state = {**state, "place": np.array([taken + 1, rounds, at_start, learned])}
        prefixes = _expanded(decisions, state["prefixes"], taken)
        candidates, owner = _completed(problem, decisions, prefixes, taken + 1, draws)
        known = {row.tobytes(): i for i, row in enumerate(state["rows"])}
        place = np.array([known.get(row.tobytes(), -1) for row in candidates], dtype=np.intp)
        merit = self.predicted(problem, state, candidates)
        old = place >= 0
        merit[old] = state["merit"][place[old]]
        # What has no answer is not asked again, and says nothing for its prefix.
        possible = ~old | (state["answered"][place] > 0)
        costs = problem.stack(candidates, threads=problem.threads)
        order = _selected(points(merit, costs), possible, problem.threads)
        _, first = np.unique(owner[order], return_index=True)
        kept = prefixes[owner[order[np.sort(first)[:keep]]]]
        new = order[~old[order]][: keep if self.ask is None else min(keep, self.ask)]
        return _asked(problem, {**state, "prefixes": kept}, np.ascontiguousarray(candidates[new]))

    def predicted(self, problem: Problem, state: Arrays, archs: Archs) -> FloatArray:
        """Predict the merit of architectures from all answers, shape (n,)."""
        good = np.flatnonzero(state["answered"])
        merit = state["merit"][good]
        if len(good) < _LEAST_ROWS or np.ptp(merit) == 0:
            return np.full(len(archs), merit.mean() if len(good) else 0.0)
        rows = np.ascontiguousarray(state["rows"][good])
        process = _learned(problem, rows, merit, int(state["place"][3]))
        if len(good) > _MOST_ROWS:
            behind = problem.front_at(problem.stack(rows, threads=problem.threads)) - merit
            near = np.sort(np.argsort(behind, kind="stable")[:_MOST_ROWS])
            rows, merit = np.ascontiguousarray(rows[near]), merit[near]
        mean, scale = float(merit.mean()), float(merit.std()) or 1.0
        x, others = (described(problem.space, each).astype(np.float64) for each in (rows, archs))
        weight = np.ones(len(merit))
        return mean + scale * process.mean(x, (merit - mean) / scale, weight, others)

    def _kept(self, problem: Problem) -> int:
        if self.keep is not None:
            return min(self.keep, _MOST_CANDIDATES)
        most = problem.limit // (_ROUNDS * max(len(_decisions(problem)), 1))
        # A model is cheap to ask: the surrogate should not take longer than the questions.
        of_model = 0 if isinstance(problem.model, Oracle) else problem.count // _SHARE
        return max(_LEAST_KEPT, most, of_model)

    def _next_round(self, problem: Problem, state: Arrays, draws: Draws) -> Arrays:
        """Begin with the first decision again."""
        rows = state["rows"]
        _, rounds, at_start, learned = state["place"].tolist()
        everything = len(np.unique(rows, axis=0)) >= problem.space.n_architectures
        if everything or rounds + 1 == self.rounds:
            problem.stop()
            return state
        state = {
            **state,
            "prefixes": np.full((1, len(_decisions(problem))), MASKED),
            "place": np.array([0, rounds + 1, len(rows), learned]),
        }
        if len(rows) > at_start:
            return state
        # Nothing new is left near the front: the surrogate learns of the rest.
        drawn = problem.space.sample(self._kept(problem), seed=draws.next_seed())
        return _asked(problem, state, drawn)


def _decisions(problem: Problem) -> Decisions:
    if "decisions" not in problem.memo:
        problem.memo["decisions"] = Decisions(problem.space, by="slot")
    known: Decisions = problem.memo["decisions"]
    return known


def _learned(problem: Problem, rows: Archs, merit: FloatArray, n: int) -> Process:
    """Learn from the first `n` answers; what was learned is kept for the next step."""
    kept: tuple[int, Process] | None = problem.memo.get("process")
    if kept is None or kept[0] != n:
        some = np.sort(np.random.default_rng(0).permutation(n)[:_LEARN])
        x = described(problem.space, np.ascontiguousarray(rows[some])).astype(np.float64)
        y = merit[some] - merit[some].mean()
        y /= float(y.std()) or 1.0
        kept = problem.memo["process"] = (n, Process.learned(x, y, np.ones(len(y))))
    return kept[1]


def _asked(problem: Problem, state: Arrays, archs: Archs) -> Arrays:
    """Ask about architectures and write the answers down; those without one as 0."""
    archs, merit, _ = problem.answers(np.ascontiguousarray(archs))
    good = np.isfinite(merit)
    return {
        **state,
        "rows": np.concatenate([state["rows"], archs]),
        "merit": np.append(state["merit"], np.where(good, merit, 0.0)),
        "answered": np.append(state["answered"], good.astype(np.int64)),
    }


def _expanded(decisions: Decisions, prefixes: Options, taken: int) -> Options:
    """Expand each prefix by every option of the next decision, shape (n, len(decisions)).

    A decision on a slot that is absent by those before has nothing to choose.
    """
    n_options = decisions.decisions[taken].n_options
    present = decisions.present(np.maximum(prefixes, 0))[:, taken]
    options = np.where(present[:, None], np.arange(n_options), MASKED)
    expanded = np.repeat(prefixes, n_options, axis=0)
    expanded[:, taken] = options.ravel()
    one = np.repeat(present, n_options) | (np.tile(np.arange(n_options), len(prefixes)) == 0)
    return np.asarray(expanded[one])


def _completed(
    problem: Problem, decisions: Decisions, prefixes: Options, taken: int, draws: Draws
) -> tuple[Archs, IntArray]:
    """Complete prefixes of `taken` decisions by architectures of the front.

    Returns
    -------
    candidates : ndarray of uint8, shape (n, n_slots)
        Distinct.
    owner : ndarray of intp, shape (n,)
        Prefix of each; of several, the first.
    """
    front = np.arange(len(problem.archs))
    if len(front) > _COMPLETIONS:
        front = spread(problem.points, _COMPLETIONS)
    donors = np.ascontiguousarray(problem.archs[front]) if len(front) else extremes(problem.tables)
    suffixes = np.unique(decisions.encode(donors)[:, taken:], axis=0)
    most = max(1, _MOST_CANDIDATES // max(len(prefixes), 1))
    if len(suffixes) > most:
        suffixes = suffixes[np.sort(draws.rng.choice(len(suffixes), most, replace=False))]
    options = np.repeat(prefixes, len(suffixes), axis=0)
    options[:, taken:] = np.tile(suffixes, (len(prefixes), 1))
    owner = np.repeat(np.arange(len(prefixes)), len(suffixes))
    candidates = decisions.decode(options)
    _, first = np.unique(candidates, axis=0, return_index=True)
    first = np.sort(first)
    return np.ascontiguousarray(candidates[first]), owner[first]


def _selected(values: FloatArray, possible: BoolArray, threads: int | None) -> IntArray:
    """Rows that are possible, by rank; of equal rank the more crowded last."""
    rows = np.flatnonzero(possible)
    values = np.ascontiguousarray(values[rows])
    rank = pareto.non_dominated_sort(values, threads=threads)
    crowding = np.empty(len(rows))
    for level in np.unique(rank):
        members = rank == level
        crowding[members] = pareto.crowding_distance(
            np.ascontiguousarray(values[members]), threads=threads
        )
    return np.asarray(rows[np.lexsort((-crowding, rank))])
