"""Training by search and imitation.

1. The reference search (`pnag_fast.search.front`) finds the front of the space for its tables.
2. A plain network learns to answer any budget as the front does: the most accurate member within.

The front answers any budget of its tables exactly, so the policy is worth what it adds to that: it
answers between the members, and gives the search on another device something to start from.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import arguments, search
from .. import costs as cost_tables
from ..accuracy import AccuracyModel
from ..costs import CostStack
from ..errors import TrainingError
from ..progress import ProgressCallback
from ..runs.checkpoint import Arrays, Checkpoint, optimiser_arrays, restore_optimiser
from ..search import Front
from ..spaces.decisions import MASKED, Decisions
from ..typing import FloatArray
from .independent import IndependentPolicy, fourier, rank_nodes

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ExpertSettings:
    """Settings of the method.

    Attributes
    ----------
    evaluations : int
        Predictions of the accuracy model that the search may spend; small spaces need fewer.
    steps, batch : int
        Steps of imitation, and budgets drawn anew for each.
    hidden, frequencies : int
        Width of the network's two layers, and of the Fourier features of the budgets.
    learning_rate : float
        At the first step; it falls to a hundredth along a cosine.
    """

    evaluations: int = 1_300_000
    steps: int = 1500
    batch: int = 256
    hidden: int = 160
    frequencies: int = 48
    learning_rate: float = 3e-3

    def check(self) -> None:
        """Refuse settings that cannot train."""
        # Kept as plain numbers: the record of a run is JSON, which knows none of numpy.
        for name in ("evaluations", "steps", "batch", "hidden", "frequencies"):
            object.__setattr__(self, name, arguments.integer(getattr(self, name), name, 1))
        rate = arguments.number(self.learning_rate, "learning_rate", 0, above=True)
        object.__setattr__(self, "learning_rate", rate)


def train(
    model: AccuracyModel,
    stack: CostStack,
    settings: ExpertSettings,
    seed: int,
    checkpoint: Checkpoint,
    progress: ProgressCallback,
) -> tuple[IndependentPolicy, Front, dict[str, Any]]:
    """Search and imitate.

    Parameters
    ----------
    model, stack
        Of one space; every cost varies over it.

    Returns
    -------
    IndependentPolicy
    Front
    dict
        What training saw of itself, JSON.
    """
    archive = _search(model, stack, settings, seed, checkpoint, progress)
    policy = imitate(archive, settings, seed, checkpoint, progress)
    record = {
        "evaluations": archive.evaluations,
        "search_seconds": round(archive.seconds, 3),
        "archive": len(archive),
        "imitated": round(_imitated(policy, archive, seed), 4),
    }
    return policy, archive, record


def _search(
    model: AccuracyModel,
    stack: CostStack,
    settings: ExpertSettings,
    seed: int,
    checkpoint: Checkpoint,
    progress: ProgressCallback,
) -> Front:
    state = checkpoint.restore("search")
    if state is None:
        found = search.front(
            stack.space,
            model,
            stack.tables,
            seed=seed,
            evaluations=settings.evaluations,
            checkpoint=checkpoint,
            progress=progress,
        )
        checkpoint.forget("front")
        took = np.array([found.evaluations, found.seconds])
        checkpoint.keep(
            "search", 1, lambda: {"archs": found.archs, "top1": found.top1, "took": took}, last=True
        )
        return found
    archs = state.take_archs("archs", stack.space)
    took = state.take("took", np.float64, (2,))
    return Front.of(
        archs,
        state.take("top1", np.float64, (len(archs),)),
        cost_tables.stack(stack.tables)(archs),
        stack.tables,
        accuracy_source=model.source,
        evaluations=int(took[0]),
        seconds=float(took[1]),
    )


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


def imitate(
    archive: Front,
    settings: ExpertSettings,
    seed: int,
    checkpoint: Checkpoint,
    progress: ProgressCallback,
) -> IndependentPolicy:
    """Train a policy to answer budgets as the archive does."""
    import torch

    decisions = Decisions(archive.space, "slot")
    nodes = rank_nodes(archive.costs)
    targets = decisions.encode(archive.archs)
    weights = _first_weights(decisions, archive.costs.shape[1], settings, seed)
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    trained = {name: t.requires_grad_() for name, t in tensors.items() if name != "frequency"}
    optimiser = torch.optim.Adam(list(trained.values()), lr=settings.learning_rate)
    state = checkpoint.restore("imitation")
    if state is not None:
        with torch.no_grad():
            for name, tensor in trained.items():
                array = state.take(name, np.float32, tuple(tensor.shape))
                tensor.copy_(torch.from_numpy(array))
        restore_optimiser(optimiser, state)

    def kept() -> Arrays:
        arrays = {name: tensor.detach().numpy().copy() for name, tensor in trained.items()}
        return {**arrays, **optimiser_arrays(optimiser)}

    policy = IndependentPolicy(decisions, nodes, weights)
    first = 0 if state is None else state.check_step(settings.steps)
    for step in range(first, settings.steps):
        rng = np.random.default_rng([seed, step])
        budgets = draw_budgets(archive, settings.batch, rng)
        target = torch.from_numpy(targets[archive.best(budgets)])
        ranks = policy.ranks(budgets).astype(np.float32)
        values = torch.from_numpy(fourier(ranks, weights["frequency"]))
        for i in range(3):
            values = torch.addmm(trained[f"bias.{i}"], values, trained[f"layer.{i}"])
            values = torch.relu(values) if i < 2 else values
        loss = _cross_entropy(values, target, decisions)
        if not math.isfinite(float(loss.detach())):
            raise TrainingError(f"the policy's loss is {float(loss.detach())} at step {step}")
        share = 0.5 + 0.5 * math.cos(math.pi * step / settings.steps)
        optimiser.param_groups[0]["lr"] = settings.learning_rate * (0.01 + 0.99 * share)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        progress("imitating the front", step + 1, settings.steps)
        checkpoint.keep("imitation", step + 1, kept, last=step + 1 == settings.steps)
    final = {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}
    return IndependentPolicy(decisions, nodes, final)


def _first_weights(
    decisions: Decisions, n_tables: int, settings: ExpertSettings, seed: int
) -> dict[str, npt.NDArray[np.float32]]:
    rng, n_logits = np.random.default_rng(seed), int(decisions.starts[-1])
    # Directions at random, frequencies from half a turn over the range to one per hundredth.
    direction = rng.standard_normal((n_tables, settings.frequencies))
    direction /= np.linalg.norm(direction, axis=0)
    turns = np.geomspace(0.5, 100.0, settings.frequencies)
    weights = {"frequency": 2 * np.pi * direction * turns}
    widths = [n_tables + 2 * settings.frequencies, settings.hidden, settings.hidden]
    for i, (rows, columns) in enumerate(zip(widths, [*widths[1:], n_logits], strict=True)):
        scale = math.sqrt(2 / rows) if i < 2 else 0.1 / math.sqrt(rows)
        weights[f"layer.{i}"] = scale * rng.standard_normal((rows, columns))
        weights[f"bias.{i}"] = np.zeros(columns)
    return {name: array.astype(np.float32) for name, array in weights.items()}


def _cross_entropy(logits: Tensor, targets: Tensor, decisions: Decisions) -> Tensor:
    """Sum over decisions of the mean cross-entropy; those of absent slots do not count."""
    import torch

    total = logits.new_zeros(())
    for column, (start, stop) in enumerate(itertools.pairwise(decisions.starts.tolist())):
        total = total + torch.nn.functional.cross_entropy(
            logits[:, start:stop],
            targets[:, column],
            ignore_index=MASKED,
            reduction="sum",
        )
    return total / len(logits)


def _imitated(policy: IndependentPolicy, archive: Front, seed: int) -> float:
    """Share of drawn budgets that the policy alone answers as the archive does."""
    budgets = draw_budgets(archive, 1000, np.random.default_rng([seed, 2**32]))
    answers = policy.candidates(budgets, 1, np.random.default_rng(0))[:, 0]
    return float((answers == archive.archs[archive.best(budgets)]).all(axis=1).mean())
