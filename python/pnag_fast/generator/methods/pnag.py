"""Training by the method of PNAG (Guo et al. 2022), batched.

1. Architectures are sampled, their accuracy predicted and their costs looked up.
2. The evaluator R(architecture | budget), three fully connected layers, learns to rank them: of two
   architectures the better one under a budget is the more accurate, if both fit the budget, and
   the cheaper otherwise (the Pareto dominance rule, eq. 3); the loss is the hinge of the difference
   over all pairs (eq. 4).
3. The policy, an LSTM over depth, expand ratio and kernel of layer after layer (section 3.2), is
   trained by policy gradient to raise R in expectation over budgets and its own architectures, with
   an entropy bonus (eq. 1 and algorithm 1). Budgets are drawn anew at every step; those between two
   of the K learned ones are interpolated linearly (eq. 2).

Log-probabilities of layers that are absent do not count. The baseline of an architecture's reward
is the mean over the other architectures drawn for its budget.

The evaluator learns from random architectures and so never sees the front: far above what it was
shown it ranks by extrapolation, and the policy stops there. That is the method's limit, not one of
this code; ``method="expert"`` has no evaluator.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ... import arguments
from ...accuracy import AccuracyModel, one_hot
from ...costs import CostStack
from ...errors import InvalidInputError, TrainingError
from ...optional_torch import require_torch
from ...runs import Run
from ...runs.checkpoint import State, optimiser_arrays, restore_optimiser
from ...search import Front, Problem, extremes
from ...search.lstm import unroll
from ...spaces import Archs, SearchSpace
from ...spaces.decisions import Decisions
from ...typing import FloatArray
from ..generator import Generator
from ..method import GeneratorMethod, Trained, model_of
from ..policies.lstm import BudgetScale, LstmPolicy

if TYPE_CHECKING:
    from torch import Tensor

RewardName = Literal["dominance", "dominance-without-accuracy", "mnasnet", "tunas"]
_REWARDS = ("dominance", "dominance-without-accuracy", "mnasnet", "tunas")
_LOSSES = ("hinge", "logistic")

# After training the generator is asked for this many budgets over its range, and each answer may
# move this often to a better neighbour.
_ARCHIVE_BUDGETS = 64
_ARCHIVE_STEPS = 10

# Weight of the cost in the rewards of MnasNet and TuNAS, in their papers and in PNAG's code.
_COST_WEIGHT = -0.07


@dataclass(frozen=True)
class PnagSettings(GeneratorMethod):
    """Settings of the method; the defaults suit spaces of 10 to 20 layers on two cores.

    `presets` has those of the paper, and those of its version of 2021.

    Attributes
    ----------
    n_budgets : int
        K, the number of learned budget embeddings (the paper uses 10).
    n_architectures : int
        Sampled architectures that the evaluator learns from (the paper uses 16,000).
    evaluator_steps, evaluator_batch, evaluator_budgets : int
        Steps, and architectures and budgets per step; every step ranks all their pairs.
    steps, budgets_per_step, samples_per_budget : int
        Policy gradient steps, budgets drawn anew for each, architectures drawn for each budget.
    entropy : float
        Weight of the entropy at the first step; it falls linearly to a tenth.
    interpolate : bool
        Whether budgets between two learned ones are interpolated, in training and after it. If
        not, only the K budgets are trained and any other is taken for the nearest.
    ranking_loss : {"hinge", "logistic"}
        Of the evaluator's difference z over a pair: ``max(0, 1 - z)`` or ``log(1 + exp(-z))``.
    reward : str
        What the policy is trained for: ``"dominance"``, the evaluator; its ablation
        ``"dominance-without-accuracy"``, which of two prefers the cheaper even if both fit;
        ``"mnasnet"``, ``acc * (cost / budget) ** -0.07`` (Tan et al., CVPR 2019); ``"tunas"``,
        ``acc - 0.07 * |cost / budget - 1|`` (Bender et al., CVPR 2020). The last two, the NAS-MO of
        the paper, ask the accuracy model about every architecture drawn and have no evaluator.
    """

    n_budgets: int = 10
    n_architectures: int = 16_000
    evaluator_steps: int = 600
    evaluator_batch: int = 96
    evaluator_budgets: int = 16
    evaluator_hidden: int = 128
    steps: int = 400
    budgets_per_step: int = 24
    samples_per_budget: int = 12
    hidden: int = 64
    learning_rate: float = 3e-3
    entropy: float = 0.03
    interpolate: bool = True
    ranking_loss: Literal["hinge", "logistic"] = "hinge"
    reward: RewardName = "dominance"

    name: ClassVar[str] = "pnag"

    @property
    def evaluations(self) -> int:
        """Architectures that the evaluator learns from."""
        return self.n_architectures

    def check(self) -> None:
        """Refuse settings that are out of range."""
        # Kept as plain numbers: the record of a run is JSON, which knows none of numpy.
        for name in (
            "n_budgets",
            "n_architectures",
            "evaluator_steps",
            "evaluator_batch",
            "evaluator_budgets",
            "evaluator_hidden",
            "steps",
            "budgets_per_step",
            "hidden",
        ):
            object.__setattr__(self, name, arguments.integer(getattr(self, name), name, 1))
        # An architecture is compared with others of its budget.
        samples = arguments.integer(self.samples_per_budget, "samples_per_budget", 2)
        object.__setattr__(self, "samples_per_budget", samples)
        rate = arguments.number(self.learning_rate, "learning_rate", 0, above=True)
        object.__setattr__(self, "learning_rate", rate)
        object.__setattr__(self, "entropy", arguments.number(self.entropy, "entropy", 0))
        if not isinstance(self.interpolate, bool):
            raise InvalidInputError(
                f"interpolate should be true or false, found {arguments.shown(self.interpolate)}"
            )
        arguments.one_of(self.ranking_loss, "ranking_loss", _LOSSES)
        arguments.one_of(self.reward, "reward", _REWARDS)

    def train(self, problem: Problem, run: Run) -> Trained:
        """Train evaluator and policy; the archive is all that is met on the way."""
        model, stack, space = model_of(problem), problem.stack, problem.space
        bounds = stack.bounds
        started = time.monotonic()
        scale = BudgetScale(bounds[:, 0], bounds[:, 1], self.n_budgets, self.interpolate)
        record: dict[str, Any] = {}
        if self.reward in ("mnasnet", "tunas"):
            archs = extremes(stack.tables)
            reward = multi_objective_reward(self.reward, model, stack)
        else:
            half = -(-self.n_architectures // 2)
            # Uniform over architectures favours deep networks, uniform decisions reach the shallow.
            archs = np.concatenate(
                [
                    space.sample(half, seed=run.seed),
                    space.sample(half, seed=run.seed, distribution="decisions"),
                    extremes(stack.tables),
                ]
            )
            archs = np.unique(archs, axis=0)
            merit = model.objective.merit(model.predict(archs))
            samples = Samples(archs, merit, stack(archs))
            evaluator, pair_accuracy = train_evaluator(samples, scale, space, self, run)
            reward = evaluator_reward(evaluator, space)
            record["evaluator_pair_accuracy"] = round(pair_accuracy, 4)
        policy, drawn = train_policy(reward, scale, space, self, run)

        def archive(*batches: Archs) -> Front:
            known = np.unique(np.concatenate(batches), axis=0)
            return Front.of(
                known,
                model.predict(known),
                stack(known),
                stack.tables,
                accuracy_source=model.source,
                evaluations=len(known),
                seconds=time.monotonic() - started,
                objective=model.objective,
            )

        known = archive(archs, drawn)
        # The generator's own answers over the whole range, each moved to its best neighbours, fill
        # the gaps that sampling leaves in the archive.
        first = Generator(policy, model, stack.tables, known)
        grid = scale.low + (scale.high - scale.low) * np.linspace(0, 1, _ARCHIVE_BUDGETS)[:, None]
        answers, merit, _ = first.search(
            grid, n_candidates=32, neighbour_steps=_ARCHIVE_STEPS, seed=run.seed
        )
        known = archive(known.archs, answers[np.isfinite(merit)])
        return policy, known, record


PnagSettings.presets = {
    # Guo et al., "Pareto-aware Neural Architecture Generation for Diverse Computational Budgets",
    # 2022.
    "pnag": PnagSettings(),
    # Guo et al., "Pareto-Frontier-aware Neural Architecture Generation for Diverse Budgets", 2021.
    "nag": PnagSettings(n_budgets=5, interpolate=False, ranking_loss="logistic"),
}


def dominance(
    top1: FloatArray, costs: FloatArray, budgets: FloatArray, spans: FloatArray
) -> npt.NDArray[np.bool_]:
    """Apply the Pareto dominance rule (PNAG, eq. 3) to all pairs under every budget.

    Architecture i is at least as good as j under budget B if both fit B and i is at least as
    accurate, or if not both fit and i is at most as far over B as j. With one cost, being less far
    over is being cheaper; with several, the farthest excess in units of the cost's span counts.

    Parameters
    ----------
    top1 : ndarray of float64, shape (n,)
    costs : ndarray of float64, shape (n, m)
    budgets : ndarray of float64, shape (b, m)
    spans : ndarray of float64, shape (m,)
        Range of each cost.

    Returns
    -------
    ndarray of bool, shape (b, n, n)

    Examples
    --------
    >>> dominance(np.array([0.7, 0.8, 0.9]), np.array([[1.0], [2.0], [3.0]]),
    ...           np.array([[2.5]]), np.array([2.0])).astype(int)
    array([[[1, 0, 1],
            [1, 1, 1],
            [0, 0, 1]]])
    """
    excess = ((costs[None] - budgets[:, None]) / spans).max(axis=2)
    fits = excess <= 0
    both = fits[:, :, None] & fits[:, None, :]
    more_accurate = top1[:, None] >= top1[None, :]
    cheaper = excess[:, :, None] <= excess[:, None, :]
    return np.asarray(np.where(both, more_accurate[None], cheaper))


@dataclass(frozen=True, eq=False)
class Samples:
    """Architectures that were evaluated: rows, top-1 (n,) and costs (n, m)."""

    archs: Archs
    top1: FloatArray
    costs: FloatArray


class Evaluator:
    """R(architecture | budget): three fully connected layers on both (PNAG, section 3.3)."""

    def __init__(
        self, torch: Any, n_features: int, scale: BudgetScale, hidden: int, seed: int
    ) -> None:
        self.torch, self.scale = torch, scale
        generator = torch.Generator().manual_seed(seed)

        def matrix(*shape: int) -> Tensor:
            weight: Tensor = torch.randn(*shape, generator=generator) / shape[-2] ** 0.5
            return weight.requires_grad_()

        # The first layer acts on the one-hot architecture beside the budget's embedding; of the
        # latter only the product with its weights is ever needed, so that is what is learned.
        self.weights: dict[str, Tensor] = {
            "from_arch": matrix(n_features, hidden),
            "from_budget": matrix(len(scale.low), scale.n_budgets, hidden),
            "second": matrix(hidden, hidden),
            "third": matrix(hidden, 1),
            "bias": torch.zeros(2, hidden, requires_grad=True),
        }

    def __call__(self, features: Tensor, interpolation: Tensor) -> Tensor:
        """Rank values.

        Parameters
        ----------
        features : Tensor, shape (..., n_features)
            One-hot architectures.
        interpolation : Tensor, shape (..., n_tables, K)
            Budgets; leading dimensions broadcast against those of `features`.

        Returns
        -------
        Tensor, shape (...)
        """
        torch, weights = self.torch, self.weights
        bias = weights["bias"]
        budget = torch.einsum("...tk,tkh->...h", interpolation, weights["from_budget"])
        hidden = torch.relu(features @ weights["from_arch"] + budget + bias[0])
        hidden = torch.relu(hidden @ weights["second"] + bias[1])
        rank: Tensor = (hidden @ weights["third"])[..., 0]
        return rank


def train_evaluator(
    samples: Samples,
    scale: BudgetScale,
    space: SearchSpace,
    settings: PnagSettings,
    run: Run,
) -> tuple[Evaluator, float]:
    """Learn to rank (PNAG, eq. 4).

    Returns
    -------
    Evaluator
    float
        Share of pairs ranked right among a tenth of the samples that training never saw.
    """
    torch = require_torch("training a generator")
    features = torch.from_numpy(one_hot(space, samples.archs))
    seed, checkpoint = run.seed, run.open(dict)
    evaluator = Evaluator(torch, features.shape[1], scale, settings.evaluator_hidden, seed)
    rate, steps = 3e-3, settings.evaluator_steps
    optimiser = torch.optim.AdamW(evaluator.weights.values(), lr=rate, weight_decay=1e-3)
    start = _restore(torch, checkpoint.restore("evaluator"), evaluator.weights, optimiser, steps)
    spans = scale.high - scale.low
    top1 = samples.top1
    if settings.reward == "dominance-without-accuracy":
        # Where both fit, more accurate then means cheaper, in units of the range.
        top1 = -(samples.costs / spans).max(axis=1)

    def ranked_pairs(rows: npt.NDArray[np.intp], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """R_i - R_j and labels +1, -1 of all ordered pairs i != j, both (budgets, pairs)."""
        budgets = sample_budgets(scale, settings.evaluator_budgets, rng)
        interpolation = torch.from_numpy(scale.interpolation(budgets))
        values = evaluator(features[rows][None], interpolation[:, None])
        better = dominance(top1[rows], samples.costs[rows], budgets, spans)
        i, j = np.nonzero(~np.eye(len(rows), dtype=bool))
        label = torch.from_numpy(better[:, i, j]).float() * 2 - 1
        return values[:, i] - values[:, j], label

    order = np.random.default_rng([seed, 0]).permutation(len(features))
    held_out, rest = np.split(order, [min(max(len(order) // 10, 2), 500)])
    for step in range(start, steps):
        rng = np.random.default_rng([seed, 1, step])
        difference, label = ranked_pairs(rng.choice(rest, size=settings.evaluator_batch), rng)
        margin = label * difference
        if settings.ranking_loss == "hinge":
            loss = torch.relu(1 - margin).mean()
        else:
            loss = torch.nn.functional.softplus(-margin).mean()
        if not torch.isfinite(loss):
            raise TrainingError(f"the evaluator's loss is {float(loss)} at step {step}")
        optimiser.param_groups[0]["lr"] = _cosine(rate, 0.0, step, steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        checkpoint.keep(
            "evaluator",
            step + 1,
            lambda: _arrays(evaluator.weights, optimiser),
            last=step + 1 == steps,
        )
        run.progress("training the evaluator", step + 1, steps)
    with torch.no_grad():
        difference, label = ranked_pairs(held_out, np.random.default_rng([seed, 2]))
    return evaluator, float((difference * label > 0).float().mean())


def sample_budgets(scale: BudgetScale, n: int, rng: np.random.Generator) -> FloatArray:
    """Draw budgets, shape (n, n_tables): from the whole range, or among the K learned ones."""
    if scale.interpolate:
        return rng.uniform(scale.low, scale.high, size=(n, len(scale.low)))
    grid = scale.grid()
    return np.take_along_axis(grid, rng.integers(len(grid), size=(n, grid.shape[1])), axis=0)


def _cosine(first: float, last: float, step: int, steps: int) -> float:
    """Learning rate that falls from `first` to `last` (Loshchilov and Hutter, ICLR 2017)."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _arrays(weights: Mapping[str, Tensor], optimiser: Any) -> dict[str, npt.NDArray[Any]]:
    """Return what a phase carries from step to step."""
    return {
        **{name: weight.detach().numpy().copy() for name, weight in weights.items()},
        **optimiser_arrays(optimiser),
    }


def _restore(
    torch: Any, state: State | None, weights: Mapping[str, Tensor], optimiser: Any, steps: int
) -> int:
    """Put back what `_arrays` returned, if anything; return the number of steps done."""
    if state is None:
        return 0
    with torch.no_grad():
        for name, weight in weights.items():
            array = state.take(name, np.float32, tuple(weight.shape))
            weight.copy_(torch.from_numpy(np.array(array)))
    restore_optimiser(optimiser, state)
    return state.check_step(steps)


class _PolicyNetwork:
    """The policy's weights as torch tensors, and their log-probabilities."""

    def __init__(
        self, torch: Any, decisions: Decisions, scale: BudgetScale, hidden: int, seed: int
    ) -> None:
        self.torch, self.decisions, self.scale = torch, decisions, scale
        generator = torch.Generator().manual_seed(seed)

        def uniform(*shape: int, limit: float) -> Tensor:
            weight: Tensor = (torch.rand(*shape, generator=generator) * 2 - 1) * limit
            return weight.requires_grad_()

        limit = hidden**-0.5
        self.weights: dict[str, Tensor] = {
            "budget": uniform(len(scale.low), scale.n_budgets, hidden, limit=0.5),
            "lstm.input": uniform(hidden, 4 * hidden, limit=limit),
            "lstm.hidden": uniform(hidden, 4 * hidden, limit=limit),
            "lstm.bias": torch.zeros(4 * hidden, requires_grad=True),
        }
        for i, n_options in enumerate(decisions.kinds.values()):
            self.weights[f"embed.{i}"] = uniform(n_options, hidden, limit=0.5)
            # Small outputs: the first policy is close to uniform.
            self.weights[f"head.{i}"] = uniform(hidden, n_options, limit=0.1 * limit)
            self.weights[f"head_bias.{i}"] = torch.zeros(n_options, requires_grad=True)

    def rollout(self, interpolation: Tensor, generator: Any) -> tuple[Archs, Tensor, Tensor]:
        """Draw one architecture per row.

        Parameters
        ----------
        interpolation : Tensor, shape (n, n_tables, K)

        Returns
        -------
        archs : ndarray of uint8, shape (n, n_slots)
        log_probability, entropy : Tensor, shape (n,)
            Sums over the decisions that are present.
        """
        torch, weights = self.torch, self.weights
        options = np.zeros((len(interpolation), len(self.decisions)), dtype=np.int64)
        chosen: list[Tensor] = []
        entropies: list[Tensor] = []

        def choose(column: int, logits: Tensor) -> Tensor:
            log_p = torch.log_softmax(logits, dim=1)
            choice: Tensor = torch.multinomial(log_p.detach().exp(), 1, generator=generator)
            options[:, column] = choice[:, 0].numpy()
            chosen.append(log_p.gather(1, choice)[:, 0])
            entropies.append(-(log_p.exp() * log_p).sum(dim=1))
            return choice[:, 0]

        embedding = torch.einsum("ntk,tkh->nh", interpolation, weights["budget"])
        unroll(torch, self.decisions, weights, embedding, choose)
        present = torch.from_numpy(self.decisions.present(options)).float()
        log_probability = (present * torch.stack(chosen, dim=1)).sum(dim=1)
        entropy = (present * torch.stack(entropies, dim=1)).sum(dim=1)
        return self.decisions.decode(options), log_probability, entropy

    def export(self) -> LstmPolicy:
        """Return the weights for use without torch."""
        arrays = {name: w.detach().numpy().copy() for name, w in self.weights.items()}
        return LstmPolicy(self.decisions, self.scale, arrays)


# Rewards (n,) of architectures (n, n_slots) under budgets (n, n_tables).
Reward = Callable[[Archs, FloatArray], FloatArray]


def evaluator_reward(evaluator: Evaluator, space: SearchSpace) -> Reward:
    """R(architecture | budget), as learned."""
    torch = evaluator.torch

    def reward(archs: Archs, budgets: FloatArray) -> FloatArray:
        with torch.no_grad():
            values = evaluator(
                torch.from_numpy(one_hot(space, archs)),
                torch.from_numpy(evaluator.scale.interpolation(budgets)),
            )
        return np.asarray(values.double().numpy())

    return reward


def multi_objective_reward(
    name: Literal["mnasnet", "tunas"], model: AccuracyModel, stack: CostStack
) -> Reward:
    """Reward of MnasNet or TuNAS; with several costs the product or sum over them."""

    def reward(archs: Archs, budgets: FloatArray) -> FloatArray:
        ratio = stack(archs) / budgets
        merit = model.objective.merit(model.predict(archs))
        if name == "mnasnet":
            # What is negative becomes worse by growing.
            weight = _COST_WEIGHT * np.sign(merit)[:, None]
            return np.asarray(merit * np.prod(ratio**weight, axis=1))
        return np.asarray(merit + _COST_WEIGHT * np.abs(ratio - 1).sum(axis=1))

    return reward


def train_policy(
    reward: Reward,
    scale: BudgetScale,
    space: SearchSpace,
    settings: PnagSettings,
    run: Run,
) -> tuple[LstmPolicy, Archs]:
    """Train by policy gradient against a reward (PNAG, eq. 1 and algorithm 1).

    Returns
    -------
    Policy
    ndarray of uint8, shape (n, n_slots)
        All architectures drawn on the way, each once.
    """
    torch = require_torch("training a generator")
    seed, checkpoint = run.seed, run.open(dict)
    network = _PolicyNetwork(torch, Decisions(space), scale, settings.hidden, seed)
    weights = list(network.weights.values())
    rate, steps = settings.learning_rate, settings.steps
    optimiser = torch.optim.Adam(weights, lr=rate)
    state = checkpoint.restore("policy")
    start = _restore(torch, state, network.weights, optimiser, steps)
    drawn = [] if state is None else [state.take_archs("drawn", space)]
    group = settings.samples_per_budget

    def all_drawn() -> Archs:
        return np.unique(np.concatenate(drawn), axis=0)

    for step in range(start, steps):
        rng = np.random.default_rng([seed, 3, step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        budgets = np.repeat(sample_budgets(scale, settings.budgets_per_step, rng), group, axis=0)
        archs, log_probability, entropy = network.rollout(
            torch.from_numpy(scale.interpolation(budgets)), generator
        )
        value = torch.from_numpy(reward(archs, budgets)).float().view(-1, group)
        # Leave-one-out baseline: it does not depend on the architecture itself, so the gradient
        # stays unbiased.
        advantage = (value - value.mean(dim=1, keepdim=True)) * group / (group - 1)
        advantage = advantage / advantage.std().clamp_min(1e-6)
        weight = settings.entropy * (1 - 0.9 * step / steps)
        loss = -(advantage.view(-1) * log_probability).mean() - weight * entropy.mean()
        if not torch.isfinite(loss):
            raise TrainingError(f"the policy's loss is {float(loss)} at step {step}")
        optimiser.param_groups[0]["lr"] = _cosine(rate, rate / 10, step, steps)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        drawn.append(archs)
        checkpoint.keep(
            "policy",
            step + 1,
            lambda: {**_arrays(network.weights, optimiser), "drawn": all_drawn()},
            last=step + 1 == steps,
        )
        run.progress("training the policy", step + 1, steps)
    return network.export(), all_drawn()
