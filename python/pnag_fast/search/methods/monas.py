"""MONAS: an LSTM decides layer after layer, taught by policy gradient on one of three rewards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ... import arguments
from ...errors import InvalidInputError
from ...runs import Arrays
from ...spaces import Archs, SearchSpace
from ...spaces.decisions import Decisions, Options
from ...typing import Float32Array, FloatArray
from ..constrained import excess
from ..lstm import InNumpy, Step, gradient, unroll
from ..method import Draws, Layout, Method
from ..problem import Problem, given_budgets

# The sweep where none is given: so many weights of the cost against the quality, evenly spaced by
# their logarithm, in units of the range of quality over the range of cost on the front so far.
_SWEEP, _LEAST_WEIGHT, _MOST_WEIGHT = 8, 0.03, 10.0
# Of what was asked: rows for each condition in an update, the best and others, and rows kept beside
# the best.
_BEST, _OTHERS, _RECENT = 8, 8, 4096
# Draws for each row that is wanted; tries, each flatter than the one before, until all are new.
_DRAWN, _TRIES, _FLATTER = 2, 8, 0.5
# Share of the entropy bonus that is left at the last question.
_LEFT = 0.1
# No setting above this is meant; it would take for ever.
_MOST = 1000
_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class Monas(Method):
    """Search as MONAS (Hsu et al. 2018, arXiv 1806.10332): an LSTM, a policy gradient, a reward.

    The LSTM decides layer after layer and is given back what it decided. It learns by REINFORCE
    with a baseline (Williams 1992), from one of the paper's three rewards. Costs in them are
    normalised by the reachable range: 0 for the cheapest architecture, 1 for the dearest.

    - Mixed, unless bounds are given: ``alpha * quality - (1 - alpha) * cost``.
    - Power-constrained, with `budgets`: the quality within the budget, 0 beyond it.
    - Accuracy-constrained, with `accuracy`: ``1 - cost`` where it is reached, 0 where it is not.

    The paper claims that alpha moves along the front and that the constrained rewards lead to
    architectures which keep the constraint. Here what is drawn at the end costs more with every
    alpha, and after 300 questions at least nine draws in ten kept the bound in 23 of 24 searches.
    On NAS-Bench-201 (12 epochs, 13 devices, two data sets, not those of the settings; reference:
    the worst of the exact front) 500 questions reach 0.992 of the exact hypervolume in the mean,
    random search 0.935; 0.997 on CIFAR-100, 0.987 on ImageNet16-120.

    Where it departs from the paper, since asking is what costs:

    - One LSTM serves all conditions (each alpha, each bound): its first input says which. Every
      step asks about as many architectures for each, and each answer is a lesson for all.
    - Everything asked is replayed, `updates` times for each batch of questions. The gradient is
      that of the expected reward of the policy confined to what was asked, which is the policy
      gradient with importance weights that sum to 1 (Precup et al., ICML 2000).
    - Nothing known is asked again: draws are repeated, flatter each time, until they are new.
    - An entropy bonus. Rewards are in units of best minus median, for each condition.
    - Beyond a bound the reward is not one value but falls with the excess, so that a policy which
      has met nothing within the bound yet is led there. Without a lower limit of the quality, the
      worst seen takes the place of 0.

    Parameters
    ----------
    alpha : float or array of float, shape (k,), optional
        Between 0, cost alone, and 1, quality alone, as it is in its unit. Several are a sweep in
        one search. Default: a sweep of 8 that suits the range of the front as it is known.
    budgets : array of float, shape (), (b,) or (b, n_tables), optional
        Upper bounds in the units of the tables; ``inf`` leaves a cost open.
    accuracy : float or array of float, shape (k,), optional
        Bounds on the quality in its unit; the least that is wanted, or the most, where smaller is
        better. One that nothing reaches leads to the best quality.
    weights : array of float, shape (n_tables,), optional
        What the normalised costs count for in a sum, if there are several; default: the same.
    samples : int
        Architectures asked in a step, shared out over the conditions; at least one for each.
    updates : int
        Of the policy after each step.
    hidden : int
        Units of the LSTM.
    learning_rate, entropy : float
        Of Adam; weight of the entropy bonus, which falls linearly to a tenth.

    Examples
    --------
    >>> import pnag_fast as pf
    >>> space = pf.spaces.get("nasbench201")
    >>> convolutions = pf.accuracy.oracle(space, lambda archs: (archs == 4).mean(axis=1))
    >>> front = pf.search.monas(space, convolutions, [pf.costs.macs(space)], evaluations=60)
    >>> front.evaluations
    60
    """

    alpha: FloatArray | None = None
    budgets: FloatArray | None = None
    accuracy: FloatArray | None = None
    weights: FloatArray | None = None
    samples: int = 16
    updates: int = 10
    hidden: int = 24
    learning_rate: float = 0.01
    entropy: float = 0.3

    name: ClassVar[str] = "monas"
    title: ClassVar[str] = "MONAS"
    evaluations: ClassVar[int | None] = 2_000

    def checked(self) -> Mapping[str, Any]:
        given = [n for n in ("alpha", "budgets", "accuracy") if getattr(self, n) is not None]
        if len(given) > 1:
            raise InvalidInputError(
                "one search has one reward: alpha weighs, budgets bound the costs, accuracy the "
                f"quality; found {' and '.join(given)}"
            )
        weights = _numbers(self.weights, "weights")
        if weights is not None and not ((weights >= 0).all() and weights.sum() > 0):
            raise InvalidInputError(
                f"weights should be 0 or more, and one of them above 0, found {weights.tolist()}"
            )
        if weights is not None and given == ["budgets"]:
            raise InvalidInputError("weights add up costs; budgets bound each: give one of the two")
        alpha = _numbers(self.alpha, "alpha")
        if alpha is not None and not ((alpha >= 0) & (alpha <= 1)).all():
            raise InvalidInputError(f"alpha should be from 0 to 1, found {alpha.tolist()}")
        return {
            "alpha": alpha,
            "budgets": given_budgets(self.budgets),
            "accuracy": _numbers(self.accuracy, "accuracy"),
            "weights": weights,
            "samples": arguments.integer(self.samples, "samples", 1),
            "updates": arguments.integer(self.updates, "updates", 1, _MOST),
            "hidden": arguments.integer(self.hidden, "hidden", 1, _MOST),
            "learning_rate": arguments.fraction(self.learning_rate, "learning_rate"),
            "entropy": arguments.number(self.entropy, "entropy", 0, _MOST),
        }

    def layout(self, problem: Problem, names: object) -> Layout:
        policy = _Policy(problem.space, self._n_conditions(problem), self.hidden)
        vector = dict.fromkeys(("policy", "first", "second"), (np.float32, (policy.size,)))
        return vector | {
            "updates": (np.int64, (1,)),
            "known": (np.uint8, (None, problem.space.n_slots)),
            "merit": (np.float64, (None,)),
        }

    def begin(self, problem: Problem, draws: Draws) -> Arrays:
        self._check(problem)
        policy = _Policy(problem.space, self._n_conditions(problem), self.hidden)
        policy.start(draws.rng)
        return policy.arrays() | {
            "known": np.empty((0, problem.space.n_slots), dtype=np.uint8),
            "merit": np.empty(0),
        }

    def step(self, problem: Problem, state: Arrays, draws: Draws) -> Arrays:
        n_conditions = self._n_conditions(problem)
        policy = _Policy(problem.space, n_conditions, self.hidden)
        policy.restore(state)
        names = {row.tobytes() for row in state["known"]}
        each = max(1, round(self.samples / n_conditions))
        archs, new = policy.unknown(names, each, draws.rng)
        archs, merit, _ = problem.evaluate(archs)
        new = new[: len(archs)]
        known = np.concatenate([state["known"], archs[new]])
        merits = np.concatenate([state["merit"], merit[new]])
        rewards = self.rewards(problem, merits, problem.stack(known, threads=1))
        order = np.argsort(-rewards, axis=0, kind="stable")
        best, rest = order[:_BEST], order[_BEST:]
        if problem.left and len(known):
            options = np.maximum(policy.decisions.encode(known), 0)
            entropy = self.entropy * (1 - (1 - _LEFT) * problem.spent)
            for _ in range(self.updates):
                others = draws.rng.random((min(_OTHERS, len(rest)), n_conditions)) * len(rest)
                rows = np.concatenate(
                    [best, np.take_along_axis(rest, others.astype(np.intp), axis=0)]
                )
                policy.learn(
                    options[rows],
                    np.take_along_axis(rewards, rows, axis=0),
                    self.learning_rate,
                    entropy,
                )
        keep = np.union1d(best, np.arange(max(0, len(known) - _RECENT), len(known)))
        return policy.arrays() | {"known": known[keep], "merit": merits[keep]}

    def rewards(self, problem: Problem, merit: FloatArray, costs: FloatArray) -> FloatArray:
        """Reward of architectures under every condition.

        Parameters
        ----------
        merit : ndarray of float64, shape (n,)
        costs : ndarray of float64, shape (n, n_tables)

        Returns
        -------
        ndarray of float64, shape (n, conditions)
        """
        quality = merit[:, None]
        if self.budgets is not None:
            bounds = problem.budgets(self.budgets)
            over = np.stack([excess(costs, bound) for bound in bounds], axis=1)
            return np.where(over > 0, problem.floor - over, quality)
        cost = self._cost(problem, costs)[:, None]
        if self.accuracy is not None:
            short = problem.objective.merit(self.accuracy) - quality
            return np.where(short > 0, -short, 1 - cost)
        alpha = self.alpha
        if alpha is None:
            unit = 1.0
            if len(problem.merit):  # nothing is archived while every question fails
                ranges = np.ptp(problem.merit), np.ptp(self._cost(problem, problem.costs))
                unit = ranges[0] / ranges[1] if min(ranges) > 0 else 1.0
            alpha = 1 / (1 + unit * np.geomspace(_MOST_WEIGHT, _LEAST_WEIGHT, _SWEEP))
        return np.asarray(alpha * quality - (1 - alpha) * cost)

    def _cost(self, problem: Problem, costs: FloatArray) -> FloatArray:
        """Weighted mean of the normalised costs, shape (n,)."""
        low, high = problem.stack.bounds.T
        shares = (costs - low) / np.where(high > low, high - low, 1.0)
        return np.asarray(np.average(shares, axis=1, weights=self.weights))

    def _n_conditions(self, problem: Problem) -> int:
        if self.budgets is not None:
            return len(problem.budgets(self.budgets))
        given = self.alpha if self.accuracy is None else self.accuracy
        return _SWEEP if given is None else len(given)

    def _check(self, problem: Problem) -> None:
        """Refuse what does not fit the problem."""
        if self.weights is not None and len(self.weights) != len(problem.tables):
            raise InvalidInputError(
                f"weights should be {len(problem.tables)}, one for each cost table, found "
                f"{len(self.weights)}"
            )
        objective = problem.objective
        for value in [] if self.accuracy is None else self.accuracy.tolist():
            if not objective.low <= value <= objective.high:
                raise InvalidInputError(
                    f"accuracy {value:g} is no {objective.name}, which lies in "
                    f"[{objective.low:g}, {objective.high:g}]; is it in that unit?"
                )


def _numbers(values: Any, name: str) -> FloatArray | None:
    """One number or several, shape (k,); None where nothing was given."""
    if values is None:
        return None
    found = np.array(np.atleast_1d(arguments.floats(values, name, finite=True)))
    if found.ndim != 1 or len(found) == 0:
        raise InvalidInputError(
            f"{name} should be a number or a list of numbers, found {arguments.shown(values)}"
        )
    return found


class _Policy:
    """An LSTM with a head for each decision, as one vector of weights, and Adam's moments.

    Attributes
    ----------
    size : int
        Number of weights.
    """

    def __init__(self, space: SearchSpace, n_conditions: int, hidden: int) -> None:
        self.decisions = Decisions(space, by="slot")
        self._heads = range(len(self.decisions))
        self._shapes: dict[str, tuple[int, ...]] = {
            "condition": (n_conditions, hidden),
            "lstm.input": (hidden, 4 * hidden),
            "lstm.hidden": (hidden, 4 * hidden),
            "lstm.bias": (4 * hidden,),
        }
        for i, decision in enumerate(self.decisions.decisions):
            self._shapes[f"embed.{i}"] = (decision.n_options, hidden)
            self._shapes[f"head.{i}"] = (hidden, decision.n_options)
            self._shapes[f"head_bias.{i}"] = (decision.n_options,)
        self._ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes.values()])
        self.size = int(self._ends[-1])
        self._n_conditions, self._hidden = n_conditions, hidden

    def start(self, rng: np.random.Generator) -> None:
        """Begin with a policy that is nearly uniform over the options of every decision."""
        vector = rng.uniform(-1, 1, self.size).astype(np.float32)
        limit = self._hidden**-0.5
        scales = {"condition": 0.5, "embed": 0.5, "lstm": limit, "head": 0.1 * limit}
        for name, array in self._named(vector).items():
            np.multiply(array, 0 if "bias" in name else scales[name.split(".")[0]], out=array)
        self._vector, self._updates = vector, 0
        self._first, self._second = np.zeros_like(vector), np.zeros_like(vector)

    def arrays(self) -> Arrays:
        """Return what changes from step to step."""
        return {
            "policy": self._vector,
            "first": self._first,
            "second": self._second,
            "updates": np.array([self._updates]),
        }

    def restore(self, state: Arrays) -> None:
        """Go on from what `arrays` returned."""
        self._vector, self._first, self._second = (
            state[name].copy() for name in ("policy", "first", "second")
        )
        self._updates = int(state["updates"][0])

    def draw(self, n: int, temperature: float, rng: np.random.Generator) -> Archs:
        """Draw `n` architectures for every condition, shape (n, conditions, n_slots)."""
        weights = self._named(self._vector)
        first = np.tile(weights["condition"], (n, 1))
        options: Options = np.zeros((len(first), len(self.decisions)), dtype=np.int64)

        def choose(column: int, logits: Float32Array) -> Options:
            # The largest of logits plus Gumbel noise is a draw from their softmax.
            noise = rng.gumbel(size=logits.shape)
            options[:, column] = np.argmax(logits / temperature + noise, axis=1)
            # What is absent is the first option, here and where it is replayed.
            options[:, column] *= self.decisions.present(options)[:, column]
            return options[:, column]

        unroll(InNumpy, self.decisions, weights, first, choose, heads=self._heads)
        return self.decisions.decode(options).reshape(n, self._n_conditions, -1)

    def unknown(
        self, names: set[bytes], n: int, rng: np.random.Generator
    ) -> tuple[Archs, np.ndarray]:
        """Draw `n` architectures for every condition that nobody knows, as far as that succeeds.

        Parameters
        ----------
        names : set of bytes
            Rows that are known; those drawn are added.

        Returns
        -------
        archs : ndarray of uint8, shape (n * conditions, n_slots)
            All conditions take turns.
        new : ndarray of bool, shape (n * conditions,)
        """
        found: list[list[Archs]] = [[] for _ in range(self._n_conditions)]
        new: list[list[bool]] = [[] for _ in range(self._n_conditions)]
        for attempt in range(_TRIES):
            for rows in self.draw(_DRAWN * n, 1 + attempt * _FLATTER, rng):
                for condition, row in enumerate(rows):
                    is_new = row.tobytes() not in names
                    if len(found[condition]) < n and (is_new or attempt == _TRIES - 1):
                        names.add(row.tobytes())
                        found[condition].append(row)
                        new[condition].append(is_new)
            if all(len(rows) == n for rows in found):
                break
        archs = np.stack(found, axis=1).reshape(n * self._n_conditions, -1)
        return archs, np.stack(new, axis=1).ravel()

    def learn(
        self, options: Options, rewards: FloatArray, learning_rate: float, entropy: float
    ) -> None:
        """Climb along `slope`, by Adam (Kingma and Ba, ICLR 2015) with its usual decays."""
        if len(self.decisions) == 0:
            return
        slope = self.slope(options, rewards, entropy)
        self._updates += 1
        self._first += np.float32(0.1) * (slope - self._first)
        self._second += np.float32(0.001) * (slope**2 - self._second)
        first = self._first / np.float32(1 - 0.9**self._updates)
        second = self._second / np.float32(1 - 0.999**self._updates)
        self._vector += np.float32(learning_rate) * first / (np.sqrt(second) + np.float32(1e-8))

    def slope(self, options: Options, rewards: FloatArray, entropy: float) -> Float32Array:
        """Gradient of the mean over conditions of expected reward plus entropy, shape (size,).

        The expectation is over the rows of a condition by the policy's own probabilities, which
        are made to sum to 1 over them. Over all architectures of a space it is the policy's own.

        Parameters
        ----------
        options : ndarray of int64, shape (n, conditions, decisions)
        rewards : ndarray of float64, shape (n, conditions)
        entropy : float
            Weight of the entropy of these probabilities, in units of the best reward minus the
            median.
        """
        n, n_conditions = rewards.shape
        flat = options.reshape(n * n_conditions, -1)
        present = self.decisions.present(flat)
        weights = self._named(self._vector)
        first = np.tile(weights["condition"], (n, 1))
        log_p: list[Float32Array] = []
        tape: list[Step] = []

        def choose(column: int, logits: Float32Array) -> Options:
            above = logits - logits.max(axis=1, keepdims=True)
            log_p.append(above - np.log(np.exp(above).sum(axis=1, keepdims=True)))
            return flat[:, column]

        unroll(InNumpy, self.decisions, weights, first, choose, heads=self._heads, tape=tape)
        rows = np.arange(len(flat))
        chosen = np.stack([p[rows, flat[:, i]] for i, p in enumerate(log_p)], axis=1)
        total = (chosen * present).sum(axis=1, dtype=np.float64).reshape(rewards.shape)
        total -= total.max(axis=0)
        p = np.exp(total) / np.exp(total).sum(axis=0)
        value = rewards / _unit(rewards) - entropy * np.log(np.maximum(p, _TINY))
        # REINFORCE: what is better than expected becomes more probable.
        advantage = p * (value - (p * value).sum(axis=0)) / n_conditions
        weight = advantage.reshape(-1, 1) * present
        slopes = []
        for column, logs in enumerate(log_p):
            # d log p(option) / d logits = one-hot(option) - p.
            by_logits = -weight[:, column, None] * np.exp(logs)
            by_logits[rows, flat[:, column]] += weight[:, column]
            slopes.append(by_logits.astype(logs.dtype))
        found, by_first = gradient(weights, self._heads, tape, flat, slopes)
        found["condition"] = by_first.reshape(n, n_conditions, -1).sum(axis=0)
        return np.concatenate([found[name].ravel() for name in self._shapes])

    def _named(self, vector: Float32Array) -> dict[str, Float32Array]:
        """Return views of a vector of weights by their names."""
        parts = np.split(vector, self._ends[:-1])
        return {
            name: part.reshape(shape)
            for part, (name, shape) in zip(parts, self._shapes.items(), strict=True)
        }


def _unit(rewards: FloatArray) -> FloatArray:
    """Best reward minus the median of every condition, shape (conditions,)."""
    span = rewards.max(axis=0) - np.median(rewards, axis=0)
    return np.asarray(np.where(span > 0, span, np.maximum(np.ptp(rewards, axis=0), _TINY)))
