"""Policy gradients on the rewards of MnasNet and TuNAS, with a policy for all budgets or for each.

All budgets advance together in one batch, and what is returned is the front of everything asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ... import arguments
from ...runs import Arrays
from ...spaces import Archs, SearchSpace
from ...spaces.decisions import Decisions
from ...typing import BoolArray, FloatArray, IntArray
from ..method import Draws, Layout, Method
from ..problem import Problem, given_budgets

Reward = Literal["mnasnet", "tunas"]
_REWARDS: tuple[Reward, ...] = ("mnasnet", "tunas")


@dataclass(frozen=True, eq=False)
class Reinforce(Method):
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
        above T. With several costs, the product or sum over them. The first is made for values
        above zero of which more is better.
    exponent : float
        Below 0; -0.07 in both papers.
    samples : int
        Architectures drawn for each budget in each step, at least 2.
    learning_rate, entropy : float
        Of Adam; weight of the entropy bonus.
    """

    budgets: FloatArray | None = None
    reward: Reward = "mnasnet"
    exponent: float = -0.07
    samples: int = 20
    learning_rate: float = 0.1
    entropy: float = 0.001

    name: ClassVar[str] = "reinforce"
    title: ClassVar[str] = "policy gradient"
    shared: ClassVar[bool] = True

    def checked(self) -> Mapping[str, Any]:
        return {
            "budgets": given_budgets(self.budgets),
            "reward": arguments.one_of(self.reward, "reward", _REWARDS),
            "exponent": arguments.number(self.exponent, "exponent", high=0, below=True),
            "samples": arguments.integer(self.samples, "samples", 2),
            "learning_rate": arguments.number(self.learning_rate, "learning_rate", 0),
            "entropy": arguments.number(self.entropy, "entropy", 0),
        }

    def layout(self, problem: Problem, names: object) -> Layout:
        shape = (None, None, None)
        return dict.fromkeys(("weights", "first", "second"), (np.float64, shape)) | {
            "steps": (np.int64, (1,))
        }

    def begin(self, problem: Problem, draws: Draws) -> Arrays:
        policy = _IndependentDecisions(problem.space, len(problem.budgets(self.budgets)))
        return policy.arrays()

    def step(self, problem: Problem, state: Arrays, draws: Draws) -> Arrays:
        targets = problem.budgets(self.budgets)
        policy = _IndependentDecisions(problem.space, len(targets))
        policy.restore(state)
        choices = policy.sample(self.samples, draws.rng)
        archs, present = policy.decode(choices)
        archs, merit, costs = problem.evaluate(archs)
        if len(archs) < choices.shape[0] * choices.shape[1]:
            problem.stop()
            return state
        ratio = costs.reshape(len(targets), self.samples, -1) / targets[:, None]
        merit = merit.reshape(len(targets), self.samples)
        if self.reward == "mnasnet":
            # What is negative, as merits are where smaller is better, becomes worse by growing.
            exponent = self.exponent * np.sign(merit)[..., None]
            value = merit * (ratio**exponent).prod(axis=2)
        else:
            value = merit + self.exponent * np.abs(ratio - 1).sum(axis=2)
        advantage = value - value.mean(axis=1, keepdims=True)
        advantage *= self.samples / (self.samples - 1)
        advantage /= max(float(advantage.std()), 1e-12)
        policy.step(
            choices, present, advantage, self.learning_rate, self.entropy, shared=self.shared
        )
        return policy.arrays()


@dataclass(frozen=True, eq=False)
class Independent(Reinforce):
    """Search as `reinforce`, but with a policy of its own for every budget.

    What one budget learns helps no other one: the repeated independent search that PNAG (Guo et
    al. 2022) argues against. Questions are shared out evenly.

    Parameters
    ----------
    budgets, reward, exponent, samples, learning_rate, entropy
        As of `reinforce`.
    """

    name: ClassVar[str] = "independent"
    title: ClassVar[str] = "independent policies"
    shared: ClassVar[bool] = False


class _IndependentDecisions:
    """Logits of every decision on a stage (depth, row) or a slot (choice), per budget."""

    def __init__(self, space: SearchSpace, n_budgets: int) -> None:
        self.decisions = Decisions(space, by="slot")
        n_options = np.diff(self.decisions.starts)
        exists = np.arange(n_options.max(initial=1)) < n_options[:, None]
        self.mask = np.where(exists, 0.0, -np.inf)
        # The last block is what all budgets share; without sharing it stays 0.
        self.weights = np.zeros((n_budgets + 1, *exists.shape))
        self.first, self.second = np.zeros_like(self.weights), np.zeros_like(self.weights)
        self.steps = 0

    def arrays(self) -> Arrays:
        """Return what changes from step to step."""
        return {
            "weights": self.weights,
            "first": self.first,
            "second": self.second,
            "steps": np.array([self.steps]),
        }

    def restore(self, state: Arrays) -> None:
        """Go on from what `arrays` returned."""
        self.weights, self.first, self.second = (state[n] for n in ("weights", "first", "second"))
        self.steps = int(state["steps"][0])

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

    def decode(self, choices: IntArray) -> tuple[Archs, BoolArray]:
        """Rows (budgets * n, n_slots), and which decisions count, shaped as `choices`."""
        budgets, n, decisions = choices.shape
        flat = choices.reshape(budgets * n, decisions)
        present = self.decisions.present(flat).reshape(choices.shape)
        return self.decisions.decode(flat), present

    def step(
        self,
        choices: IntArray,
        present: BoolArray,
        advantage: FloatArray,
        learning_rate: float,
        entropy: float,
        *,
        shared: bool,
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
        total = gradient.mean(axis=0) if shared else np.zeros_like(gradient[0])
        gradient = np.concatenate([gradient, total[None]])
        self.steps += 1
        # Adam (Kingma and Ba, ICLR 2015), with its usual decays.
        self.first += 0.1 * (gradient - self.first)
        self.second += 0.001 * (gradient**2 - self.second)
        first = self.first / (1 - 0.9**self.steps)
        second = self.second / (1 - 0.999**self.steps)
        self.weights += learning_rate * first / (np.sqrt(second) + 1e-8)
