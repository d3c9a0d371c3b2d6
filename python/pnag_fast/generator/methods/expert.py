"""Training by search and imitation.

1. The reference search (`pnag_fast.search.front`) finds the front of the space for its tables.
2. A plain network learns to answer any budget as the front does: the most accurate member within.

The front answers any budget of its tables exactly, so the policy is worth what it adds to that: it
answers between the members, and gives the search on another device something to start from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ... import arguments
from ...accuracy import AccuracyModel
from ...errors import FileFormatError, TrainingError
from ...runs import Run
from ...search import Front, Problem, filled
from ...search.methods.front import FrontSearch
from ...spaces.decisions import MASKED, Decisions
from ...typing import Float32Array, FloatArray, IntArray
from ..method import GeneratorMethod, Trained, model_of
from ..policies.independent import N_LAYERS, IndependentPolicy, rank_nodes

# Passes in which a front is filled, each from what the last one found, and questions a vector.
_PASSES, _WITHIN = 3, 100
# Budgets that imitation learns from, drawn and answered once; a batch is drawn from them.
_POOL = 65_536
# Adam (Kingma and Ba, ICLR 2015), with its usual decays.
_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8
# What float32 can raise e to, and divide by.
_LARGEST_LOGIT = 60.0


@dataclass(frozen=True)
class ExpertSettings(GeneratorMethod):
    """Settings of the method.

    Attributes
    ----------
    evaluations : int
        Predictions of the accuracy model that the search may spend; small spaces need fewer.
    between : int, optional
        Predictions for searches within vectors of bounds, with which a front of several costs is
        filled afterwards. Default: three times `evaluations`.
    steps, batch : int
        Steps of imitation, and budgets for each.
    hidden, frequencies : int
        Width of the network's two layers, and of the Fourier features of the budgets.
    learning_rate : float
        At the first step; it falls to a hundredth along a cosine.
    """

    evaluations: int = 200_000
    between: int | None = None
    steps: int = 600
    batch: int = 256
    hidden: int = 160
    frequencies: int = 48
    learning_rate: float = 2e-2

    name: ClassVar[str] = "expert"

    def check(self) -> None:
        """Refuse settings that are out of range."""
        # Kept as plain numbers: the record of a run is JSON, which knows none of numpy.
        for name in ("evaluations", "steps", "batch", "hidden", "frequencies"):
            object.__setattr__(self, name, arguments.integer(getattr(self, name), name, 1))
        if self.between is not None:
            object.__setattr__(self, "between", arguments.integer(self.between, "between", 0))
        rate = arguments.number(self.learning_rate, "learning_rate", 0, above=True)
        object.__setattr__(self, "learning_rate", rate)

    def train(self, problem: Problem, run: Run) -> Trained:
        """Search and imitate."""
        archive = FrontSearch().run(problem, run)
        exact = archive.evaluations >= problem.space.n_architectures
        if len(problem.tables) > 1 and not exact:
            archive = self._fill(model_of(problem), archive, run)
        policy = imitate(archive, self, run)
        return (
            policy,
            archive,
            {
                "evaluations": archive.evaluations,
                "search_seconds": round(archive.seconds, 3),
                "archive": len(archive),
                "imitated": round(_imitated(policy, archive, run.seed), 4),
            },
        )

    def _fill(self, model: AccuracyModel, archive: Front, run: Run) -> Front:
        """Search within vectors of bounds that the members of a front meet, again and again."""
        between = 3 * self.evaluations if self.between is None else self.between
        n = between // (_PASSES * _WITHIN)
        for number in range(_PASSES if n > 0 else 0):
            rng = np.random.default_rng([run.seed, 2**33 + number])
            archive = filled(
                model,
                archive,
                draw_budgets(archive, n, rng),
                evaluations=_WITHIN,
                seed=run.seed + number,
                progress=run.progress,
            )
        return archive


def draw_budgets(archive: Front, n: int, rng: np.random.Generator) -> FloatArray:
    """Draw budgets that some member meets, shape (n, n_tables).

    Half lie evenly over the range of each cost, half over the ranks; with several costs they start
    at a member and leave each cost some room, of any share of the range.
    """
    costs, low, high = archive.costs, archive.costs.min(axis=0), archive.costs.max(axis=0)
    member = costs[rng.integers(len(costs), size=n)]
    room = (high - low) * rng.random(member.shape) ** 3
    if costs.shape[1] == 1:
        # A little room: enough to see every budget between two members.
        room = room * rng.random((n, 1)) ** 3
    budgets = np.minimum(member + room, high)
    even = rng.uniform(low, high, size=(n, len(low)))
    use = (rng.random(n) < 0.5) & (archive.best(even) >= 0)
    return np.where(use[:, None], even, budgets)


class Answers:
    """What the logits should say at each member of a front, and how far they are from it."""

    def __init__(self, decisions: Decisions, archive: Front) -> None:
        options = decisions.encode(archive.archs)
        present = options != MASKED
        # Which logits belong to each decision; which count, and which should be the largest.
        owner = np.repeat(np.arange(len(decisions)), np.diff(decisions.starts))
        self.groups = (np.arange(len(decisions))[:, None] == owner).astype(np.float32)
        self.count = present.astype(np.float32) @ self.groups
        self.wanted = np.zeros_like(self.count)
        member, column = np.nonzero(present)
        self.wanted[member, decisions.starts[column] + options[member, column]] = 1

    def slopes(self, logits: Float32Array, members: IntArray) -> Float32Array:
        """Return the derivative of the cross-entropy, summed over the decisions that are present.

        Parameters
        ----------
        logits : ndarray of float32, shape (b, n_logits)
        members : ndarray of intp, shape (b,)
            Whose decisions are wanted.

        Returns
        -------
        ndarray of float32, shape (b, n_logits)
            Divided by b.
        """
        slopes: Float32Array = np.exp(logits.clip(-_LARGEST_LOGIT, _LARGEST_LOGIT))
        # Softmax: products with zeros and ones sum over each decision and spread the sum again.
        slopes *= (1 / (slopes @ self.groups.T)) @ self.groups
        slopes *= self.count[members]
        slopes -= self.wanted[members]
        slopes /= len(logits)
        return slopes


def imitate(archive: Front, settings: ExpertSettings, run: Run) -> IndependentPolicy:
    """Train a policy to answer budgets as the archive does.

    The gradient is written out: of so small a network most of torch's time is not arithmetic.
    """
    decisions = Decisions(archive.space, "slot")
    policy = IndependentPolicy(
        decisions,
        rank_nodes(archive.costs),
        first_weights(decisions, archive.costs.shape[1], settings, run.seed),
    )
    names = [f"{name}.{i}" for i in range(N_LAYERS) for name in ("layer", "bias")]
    # All weights, and all slopes, are parts of one array each, in which a step is a few products.
    weights = np.concatenate([policy.weights[name].ravel() for name in names])
    slopes, first, second = np.zeros((3, len(weights)), dtype=np.float32)
    trained, slope_of = ({**policy.weights}, {})
    start = 0
    for name in names:
        shape, size = policy.weights[name].shape, policy.weights[name].size
        trained[name] = weights[start : start + size].reshape(shape)
        slope_of[name] = slopes[start : start + size].reshape(shape)
        start += size
    policy = IndependentPolicy(decisions, policy.nodes, trained)
    carried = {"weights": weights, "first": first, "second": second}
    kept = run.open(dict)
    state = kept.restore("imitation")
    if state is not None:
        for name, array in carried.items():
            array[:] = state.take(name, np.float32, array.shape)
        if (second < 0).any():
            raise FileFormatError(f"{state.where}: a square is negative; delete the file")
    answers = Answers(decisions, archive)
    n_drawn = min(_POOL, settings.steps * settings.batch)
    budgets = draw_budgets(archive, n_drawn, np.random.default_rng([run.seed, 2**32 + 1]))
    members, features = archive.best(budgets), policy.features(policy.ranks(budgets))
    for step in range(0 if state is None else state.check_step(settings.steps), settings.steps):
        rows = np.random.default_rng([run.seed, step]).integers(n_drawn, size=settings.batch)
        # A rate that is too large ends in an error below.
        with np.errstate(over="ignore", invalid="ignore"):
            inputs = [features[rows]]
            *hidden, logits = policy.layers(inputs[0])
            inputs += hidden
            back = answers.slopes(logits, members[rows])
            for i in reversed(range(N_LAYERS)):
                np.matmul(inputs[i].T, back, out=slope_of[f"layer.{i}"])
                back.sum(axis=0, out=slope_of[f"bias.{i}"])
                if i > 0:
                    back = back @ trained[f"layer.{i}"].T
                    back *= inputs[i] > 0
            first += (1 - _FIRST) * (slopes - first)
            second += (1 - _SECOND) * (slopes**2 - second)
            share = 0.5 + 0.5 * math.cos(math.pi * step / settings.steps)
            rate = settings.learning_rate * (0.01 + 0.99 * share) / (1 - _FIRST ** (step + 1))
            weights -= rate * first / (np.sqrt(second / (1 - _SECOND ** (step + 1))) + _TINY)
        if not np.isfinite(weights.sum()):
            raise TrainingError(
                f"the policy's weights are not finite after step {step}: learning_rate="
                f"{settings.learning_rate:g} is too large"
            )
        run.progress("imitating the front", step + 1, settings.steps)
        kept.keep("imitation", step + 1, lambda: carried, last=step + 1 == settings.steps)
    final = {name: array.copy() for name, array in trained.items()}
    return IndependentPolicy(decisions, policy.nodes, final)


def first_weights(
    decisions: Decisions, n_tables: int, settings: ExpertSettings, seed: int
) -> dict[str, Float32Array]:
    """Draw the weights that imitation begins with, as of `IndependentPolicy`."""
    rng, n_logits = np.random.default_rng(seed), int(decisions.starts[-1])
    # Directions at random, frequencies from half a turn over the range to one per hundredth.
    direction = rng.standard_normal((n_tables, settings.frequencies))
    direction /= np.linalg.norm(direction, axis=0)
    turns = np.geomspace(0.5, 100.0, settings.frequencies)
    weights = {"frequency": 2 * np.pi * direction * turns}
    widths = [n_tables + 2 * settings.frequencies, settings.hidden, settings.hidden]
    for i, (rows, columns) in enumerate(zip(widths, [*widths[1:], n_logits], strict=True)):
        scale = math.sqrt(2 / rows) if i < N_LAYERS - 1 else 0.1 / math.sqrt(rows)
        weights[f"layer.{i}"] = scale * rng.standard_normal((rows, columns))
        weights[f"bias.{i}"] = np.zeros(columns)
    return {name: array.astype(np.float32) for name, array in weights.items()}


def _imitated(policy: IndependentPolicy, archive: Front, seed: int) -> float:
    """Share of drawn budgets that the policy alone answers as the archive does."""
    budgets = draw_budgets(archive, 1000, np.random.default_rng([seed, 2**32]))
    answers = policy.candidates(budgets, 1, np.random.default_rng(0))[:, 0]
    return float((answers == archive.archs[archive.best(budgets)]).all(axis=1).mean())
