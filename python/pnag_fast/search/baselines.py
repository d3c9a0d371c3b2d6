"""The searches that the literature compares with: per budget, and exhaustive.

Once-for-All's evolutionary search, policy gradients on the rewards of MnasNet and TuNAS, one
policy for all budgets or one for each, and enumeration. They search for given budgets; all
budgets advance together in one batch, and what is returned is the front of everything evaluated,
which knows at least as much as the best of each budget that the papers report.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from .. import arguments
from ..accuracy import AccuracyModel
from ..budgets import check_budgets
from ..costs import CostTable
from ..errors import BudgetInfeasibleError, InvalidInputError
from ..progress import ProgressCallback, ignore_progress
from ..spaces import Archs, SearchSpace
from .evaluations import Evaluations, require_problem
from .result import Front, extremes

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

Reward = Literal["mnasnet", "tunas"]
_REWARDS: tuple[Reward, ...] = ("mnasnet", "tunas")

# Budgets searched for where none are given: this many, evenly spaced, the last one the dearest.
_DEFAULT_BUDGETS = 5

# Rounds of drawing until all children fit their budget. Once-for-All draws for ever; here a child
# that still does not fit is replaced by its parent.
_TRIES = 100

# Rows evaluated at a time, so that a time limit is kept.
_ENUMERATED_ROWS = 65_536


def exhaustive(
    space: SearchSpace,
    model: AccuracyModel,
    tables: Sequence[CostTable],
    *,
    seed: int = 0,  # noqa: ARG001 - as all searches; nothing is drawn
    evaluations: int = 1_000_000,
    time_limit_s: float | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Front:
    """Evaluate every architecture: the exact front of a small space, CompOFA's 243 for example.

    Parameters
    ----------
    evaluations : int
        Refuse a space of more architectures.
    """
    require_problem(space, model, tables)
    evaluations = arguments.integer(evaluations, "evaluations", 1)
    if space.n_architectures > evaluations:
        raise InvalidInputError(
            f"space '{space.name}' has {space.n_architectures} architectures, more than "
            f"evaluations={evaluations}: allow more, or use front()"
        )
    run = Evaluations(
        space, model, tables, space.n_architectures, time_limit_s, progress, "exhaustive search"
    )
    archs = space.enumerate()
    for start in range(0, len(archs), _ENUMERATED_ROWS):
        run.evaluate(archs[start : start + _ENUMERATED_ROWS])
    return run.front()


def evolution(
    space: SearchSpace,
    model: AccuracyModel,
    tables: Sequence[CostTable],
    *,
    budgets: npt.ArrayLike | None = None,
    seed: int = 0,
    evaluations: int | None = None,
    time_limit_s: float | None = None,
    population: int = 100,
    generations: int = 500,
    parent_ratio: float = 0.25,
    mutation_ratio: float = 0.5,
    mutation_rate: float = 0.1,
    progress: ProgressCallback = ignore_progress,
) -> Front:
    """Run the evolutionary search of Once-for-All (Cai et al., ICLR 2020), once per budget.

    As in the tutorial published with it: the best quarter of the population are the parents of the
    next, half of the children are mutations of one and half uniform crossovers of two, and whoever
    exceeds the budget is drawn again. Settings default to that tutorial's. A layer's kernel and
    expand ratio are one decision here, inherited together; in the tutorial each is inherited alone.

    Parameters
    ----------
    budgets : array of float, shape (), (b,) or (b, n_tables), optional
        Default: five, evenly spaced over the reachable range.
    evaluations : int, optional
        At most this many for all budgets together; default ``population * (generations + 1)`` for
        each budget, 50,100.
    population, generations : int
    parent_ratio, mutation_ratio : float
        Share of the population that become parents, share of the children that are mutations.
    mutation_rate : float
        Probability of redrawing a depth or a layer.

    Returns
    -------
    Front
        Of everything evaluated. Cost: the evaluations, and O(children) for each redraw.

    Raises
    ------
    BudgetInfeasibleError
        If no architecture within a budget is found at all.
    """
    require_problem(space, model, tables)
    population, seed = arguments.integer(population, "population", 4), arguments.seed(seed)
    generations = arguments.integer(generations, "generations", 1)
    parent_ratio = arguments.fraction(parent_ratio, "parent_ratio")
    mutation_ratio = arguments.fraction(mutation_ratio, "mutation_ratio")
    mutation_rate = arguments.fraction(mutation_rate, "mutation_rate")
    wanted = _budgets(budgets, tables)
    if evaluations is None:
        evaluations = len(wanted) * population * (generations + 1)
    run = Evaluations(
        space, model, tables, evaluations, time_limit_s, progress, "evolutionary search"
    )
    rng = np.random.default_rng(seed)
    n_parents = max(2, round(parent_ratio * population))
    n_mutated = round(mutation_ratio * population)
    members = _first_population(run, wanted, population, rng)
    top1 = run.evaluate(members.reshape(-1, space.n_slots))[1]
    if len(top1) < members[..., 0].size:
        return run.front()
    top1 = top1.reshape(members.shape[:2])
    rows = np.arange(len(wanted))[:, None]
    for _ in range(generations):
        if run.left <= 0:
            break
        order = np.argsort(-top1, axis=1, kind="stable")[:, :n_parents]
        parents, parents_top1 = members[rows, order], top1[rows, order]
        children = _children(run, parents, wanted, population, n_mutated, mutation_rate, rng)
        children_top1 = run.evaluate(children.reshape(-1, space.n_slots))[1]
        if len(children_top1) < children[..., 0].size:
            break
        members = np.concatenate([parents, children], axis=1)
        top1 = np.concatenate([parents_top1, children_top1.reshape(children.shape[:2])], axis=1)
    return run.front()


def _budgets(budgets: npt.ArrayLike | None, tables: Sequence[CostTable]) -> FloatArray:
    """Check budgets, or spread some over the range; shape (b, n_tables), at least one."""
    if budgets is None:
        low, high = np.array([table.bounds for table in tables]).T
        share = (np.arange(_DEFAULT_BUDGETS) + 1) / _DEFAULT_BUDGETS
        return np.asarray(low + (high - low) * share[:, None])
    # A cost that is left open is searched for up to its dearest.
    wanted = check_budgets(budgets, tables).upper
    if len(wanted) == 0:
        raise InvalidInputError("budgets should hold at least one budget, found none")
    return wanted


def _first_population(
    run: Evaluations, budgets: FloatArray, population: int, rng: np.random.Generator
) -> Archs:
    """Draw architectures within each budget, shape (b, population, n_slots).

    Decisions are uniform, as in Once-for-All. What a tight budget leaves open after many tries is
    drawn uniformly from all architectures within it.
    """
    space, stack = run.space, run.stack
    members = np.empty((len(budgets), population, space.n_slots), dtype=np.uint8)
    filled = np.zeros(len(budgets), dtype=int)
    for _ in range(_TRIES):
        if (filled == population).all():
            break
        drawn = space.sample(
            8 * population, seed=int(rng.integers(2**63)), distribution="decisions"
        )
        fits = np.all(stack(drawn)[None] <= budgets[:, None], axis=2)
        for row in np.flatnonzero(filled < population):
            found = drawn[fits[row]][: population - filled[row]]
            members[row, filled[row] : filled[row] + len(found)] = found
            filled[row] += len(found)
    for row in np.flatnonzero(filled < population):
        rest = population - int(filled[row])
        known = members[row, : filled[row]]
        members[row, filled[row] :] = _tight(run, budgets[row], rest, known, rng)
    return members


def _tight(
    run: Evaluations, budget: FloatArray, n: int, known: Archs, rng: np.random.Generator
) -> Archs:
    table = run.tables[0]
    if len(run.tables) == 1 and table.reduce == "sum":
        window = (table, table.bounds[0], float(budget[0]))
        return run.space.sample(n, seed=int(rng.integers(2**63)), within=window)
    ends = extremes(run.tables)
    known = np.concatenate([known, ends[(run.stack(ends) <= budget).all(axis=1)]])
    if len(known) == 0:
        raise BudgetInfeasibleError(
            f"none of {8 * _TRIES} times the population of '{run.space.name}' meets the budgets "
            f"{budget.tolist()} together; allow more of one of the costs"
        )
    return known[rng.integers(len(known), size=n)]


def _children(
    run: Evaluations,
    parents: Archs,
    budgets: FloatArray,
    n: int,
    n_mutated: int,
    mutation_rate: float,
    rng: np.random.Generator,
) -> Archs:
    """Draw `n` children per budget that fit it, shape (b, n, n_slots); the first are mutations."""
    n_budgets, n_parents, n_slots = parents.shape
    children = np.empty((n_budgets, n, n_slots), dtype=np.uint8)
    left = np.ones((n_budgets, n), dtype=bool)
    mutated = np.broadcast_to(np.arange(n) < n_mutated, left.shape)
    for attempt in range(_TRIES + 1):
        for kind in (True, False):
            row, column = np.nonzero(left & (mutated == kind))
            if len(row) == 0:
                continue
            born = np.ascontiguousarray(parents[row, rng.integers(n_parents, size=len(row))])
            draw = int(rng.integers(2**63))
            if attempt == _TRIES:
                pass
            elif kind:
                born = run.space.mutate(born, rate=mutation_rate, seed=draw)
            else:
                mates = np.ascontiguousarray(parents[row, rng.integers(n_parents, size=len(row))])
                born = run.space.crossover(born, mates, seed=draw)
            fits = np.all(run.stack(born) <= budgets[row], axis=1)
            children[row[fits], column[fits]] = born[fits]
            left[row[fits], column[fits]] = False
        if not left.any():
            break
    return children


def reinforce(
    space: SearchSpace,
    model: AccuracyModel,
    tables: Sequence[CostTable],
    *,
    budgets: npt.ArrayLike | None = None,
    reward: Reward = "mnasnet",
    exponent: float = -0.07,
    seed: int = 0,
    evaluations: int = 20_000,
    time_limit_s: float | None = None,
    samples: int = 20,
    learning_rate: float = 0.1,
    entropy: float = 0.001,
    progress: ProgressCallback = ignore_progress,
) -> Front:
    """Search by policy gradient with a multi-objective reward, one policy for all budgets.

    The policy draws every decision independently, as that of TuNAS. Its logits are a part shared
    by all budgets plus a part of each. REINFORCE with the mean of the other samples of a budget as
    baseline; Adam.

    Parameters
    ----------
    budgets : array of float, shape (), (b,) or (b, n_tables), optional
        The targets T. Default: five, evenly spaced over the reachable range.
    reward : {"mnasnet", "tunas"}
        ``acc * (cost / T) ** exponent`` (Tan et al., CVPR 2019, with both exponents equal), or
        ``acc + exponent * |cost / T - 1|`` (Bender et al., CVPR 2020). Neither forbids a cost
        above T. With several costs, the product or sum over them.
    exponent : float
        Below 0; -0.07 in both papers.
    samples : int
        Architectures drawn for each budget in each step, at least 2.
    learning_rate, entropy : float
        Of Adam; weight of the entropy bonus.

    Returns
    -------
    Front
        Of everything evaluated.
    """
    run = Evaluations(space, model, tables, evaluations, time_limit_s, progress, "policy gradient")
    return _policy_gradient(
        run, budgets, reward, exponent, seed, samples, learning_rate, entropy, shared=True
    )


def independent(
    space: SearchSpace,
    model: AccuracyModel,
    tables: Sequence[CostTable],
    *,
    budgets: npt.ArrayLike | None = None,
    reward: Reward = "mnasnet",
    exponent: float = -0.07,
    seed: int = 0,
    evaluations: int = 20_000,
    time_limit_s: float | None = None,
    samples: int = 20,
    learning_rate: float = 0.1,
    entropy: float = 0.001,
    progress: ProgressCallback = ignore_progress,
) -> Front:
    """Search as `reinforce`, but with a policy of its own for every budget.

    What one budget learns helps no other one: the repeated independent search that PNAG (Guo et
    al. 2022) argues against. `evaluations` are shared out evenly.
    """
    run = Evaluations(
        space, model, tables, evaluations, time_limit_s, progress, "independent policies"
    )
    return _policy_gradient(
        run, budgets, reward, exponent, seed, samples, learning_rate, entropy, shared=False
    )


def _policy_gradient(
    run: Evaluations,
    budgets: npt.ArrayLike | None,
    reward: Reward,
    exponent: float,
    seed: int,
    samples: int,
    learning_rate: float,
    entropy: float,
    *,
    shared: bool,
) -> Front:
    arguments.one_of(reward, "reward", _REWARDS)
    exponent = arguments.number(exponent, "exponent", high=0, below=True)
    samples, seed = arguments.integer(samples, "samples", 2), arguments.seed(seed)
    learning_rate = arguments.number(learning_rate, "learning_rate", 0)
    entropy = arguments.number(entropy, "entropy", 0)
    targets = _budgets(budgets, run.tables)
    policy = _IndependentDecisions(run.space, len(targets), shared=shared)
    rng = np.random.default_rng(seed)
    while run.left > 0:
        choices = policy.sample(samples, rng)
        archs, present = policy.decode(choices)
        archs, top1, costs = run.evaluate(archs)
        if len(archs) < choices.shape[0] * choices.shape[1]:
            break
        ratio = costs.reshape(len(targets), samples, -1) / targets[:, None]
        accuracy = top1.reshape(len(targets), samples)
        if reward == "mnasnet":
            value = accuracy * (ratio**exponent).prod(axis=2)
        else:
            value = accuracy + exponent * np.abs(ratio - 1).sum(axis=2)
        advantage = (value - value.mean(axis=1, keepdims=True)) * samples / (samples - 1)
        advantage /= max(float(advantage.std()), 1e-12)
        policy.step(choices, present, advantage, learning_rate, entropy)
    return run.front()


class _IndependentDecisions:
    """Logits of the depth (or row) of every stage and of the choice of every slot, per budget."""

    def __init__(self, space: SearchSpace, n_budgets: int, *, shared: bool) -> None:
        self.space = space
        options: list[int] = []
        # Columns of the decisions on each stage: depth or row first, then its slots.
        self.columns: list[int] = []
        for stage in space.stages:
            self.columns.append(len(options))
            if stage.rows is not None:
                options.append(len(stage.rows))
            else:
                options.append(len(stage.slots) - stage.min_depth + 1)
                options.extend(slot.n_choices for slot in stage.slots)
        exists = np.arange(max(options)) < np.array(options)[:, None]
        self.mask = np.where(exists, 0.0, -np.inf)
        # The last block is what all budgets share; without sharing it stays 0.
        self.weights = np.zeros((n_budgets + 1, *exists.shape))
        self.shared = shared
        self.first, self.second = np.zeros_like(self.weights), np.zeros_like(self.weights)
        self.steps = 0

    def log_probabilities(self) -> FloatArray:
        """Shape (budgets, decisions, options); -inf where there is no such option."""
        logits = self.weights[:-1] + self.weights[-1] + self.mask
        logits -= logits.max(axis=2, keepdims=True)
        return np.asarray(logits - np.log(np.exp(logits).sum(axis=2, keepdims=True)))

    def sample(self, n: int, rng: np.random.Generator) -> IntArray:
        """Options drawn, shape (budgets, n, decisions)."""
        log_p = self.log_probabilities()[:, None]
        noise = rng.gumbel(size=(len(log_p), n, *log_p.shape[2:]))
        return np.asarray((log_p + noise).argmax(axis=3))

    def decode(self, choices: IntArray) -> tuple[Archs, npt.NDArray[np.bool_]]:
        """Rows (budgets * n, n_slots), and which decisions count, shaped as `choices`."""
        flat = choices.reshape(-1, choices.shape[2])
        archs = np.zeros((len(flat), self.space.n_slots), dtype=np.uint8)
        present = np.ones(flat.shape, dtype=bool)
        first = 0
        for stage, column in zip(self.space.stages, self.columns, strict=True):
            slots = slice(first, first + len(stage.slots))
            first = slots.stop
            if stage.rows is not None:
                archs[:, slots] = np.array(stage.rows, dtype=np.uint8)[flat[:, column]]
                continue
            decided = slice(column + 1, column + 1 + len(stage.slots))
            depth = flat[:, column, None] + stage.min_depth
            present[:, decided] = np.arange(len(stage.slots)) < depth
            archs[:, slots] = (flat[:, decided] + 1) * present[:, decided]
        return archs, present.reshape(choices.shape)

    def step(
        self,
        choices: IntArray,
        present: npt.NDArray[np.bool_],
        advantage: FloatArray,
        learning_rate: float,
        entropy: float,
    ) -> None:
        """Raise the probability of what did better than the others of its budget."""
        log_p = self.log_probabilities()
        p = np.exp(log_p)
        weight = advantage[:, :, None] * present / choices.shape[1]
        # d log p(choice) / d logits = one-hot(choice) - p, summed over the samples.
        gradient = -weight.sum(axis=1)[..., None] * p
        budgets, _, decisions = choices.shape
        where = (np.arange(budgets)[:, None, None], np.arange(decisions), choices)
        np.add.at(gradient, where, weight)
        plogp = p * np.where(p > 0, log_p, 0.0)
        gradient += entropy * (p * plogp.sum(axis=2, keepdims=True) - plogp)
        total = gradient.mean(axis=0) if self.shared else np.zeros_like(gradient[0])
        gradient = np.concatenate([gradient, total[None]])
        self.steps += 1
        # Adam (Kingma and Ba, ICLR 2015), with its usual decays.
        self.first += 0.1 * (gradient - self.first)
        self.second += 0.001 * (gradient**2 - self.second)
        first = self.first / (1 - 0.9**self.steps)
        second = self.second / (1 - 0.999**self.steps)
        self.weights += learning_rate * first / (np.sqrt(second) + 1e-8)
