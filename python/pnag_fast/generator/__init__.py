"""The generator: trained once on a front, it emits the architecture for any budget by inference."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from .. import costs as cost_tables
from ..accuracy import AccuracyModel
from ..costs import CostTable
from ..errors import InvalidInputError
from ..progress import ProgressCallback, ignore_progress
from ..search import Front, extremes
from ..spaces import Archs, SearchSpace
from .generator import Generated, Generator
from .pnag import PnagSettings, Samples, dominance, require_torch, train_evaluator, train_policy
from .policy import BudgetScale, Policy

__all__ = [
    "BudgetScale",
    "Generated",
    "Generator",
    "PnagSettings",
    "Policy",
    "dominance",
    "train_generator",
]

METHODS = ("pnag",)

# After training the generator is asked for this many budgets over its range, and each answer may
# move this often to a better neighbour.
_ARCHIVE_BUDGETS = 64
_ARCHIVE_STEPS = 10


def train_generator(
    space: SearchSpace,
    model: AccuracyModel,
    tables: Sequence[CostTable],
    *,
    method: str = "pnag",
    seed: int = 0,
    settings: PnagSettings | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Generator:
    """Train a generator over the front of accuracy against one or more costs.

    Parameters
    ----------
    space : SearchSpace
    model : AccuracyModel
        Of the same space.
    tables : sequence of CostTable
        Of the same space; budgets have one column for each.
    method : {"pnag"}
        Guo et al. 2022; see `pnag_fast.generator.pnag` for how it is implemented.
    seed : int
        Same inputs and seed, same generator, on one machine with one version of torch.
    settings : PnagSettings, optional

    Returns
    -------
    Generator

    Raises
    ------
    InvalidInputError
        If the model or a table is for another space, a cost is the same for all architectures, or
        a setting is out of range.
    TrainingError
        If a loss is no longer a number.
    """
    if method not in METHODS:
        raise InvalidInputError(
            f"unknown method {method!r}; available: {', '.join(map(repr, METHODS))}"
        )
    settings = settings or PnagSettings()
    settings.check()
    require_torch("training a generator")
    model = model.for_space(space)
    stack = cost_tables.stack([table.for_space(space) for table in tables])
    bounds = stack.bounds
    for table, (low, high) in zip(stack.tables, bounds.tolist(), strict=True):
        if not low < high:
            raise InvalidInputError(
                f"every architecture of '{space.name}' has the same {table.metric} ({low:g} "
                f"{table.unit}) on '{table.device}': there is no trade-off to learn"
            )
    started = time.monotonic()
    scale = BudgetScale(bounds[:, 0], bounds[:, 1], settings.n_budgets)
    half = -(-settings.n_architectures // 2)
    # Uniform over architectures favours deep networks, uniform decisions reach the shallow ones.
    archs = np.concatenate(
        [
            space.sample(half, seed=seed),
            space.sample(half, seed=seed, distribution="decisions"),
            extremes(stack.tables),
        ]
    )
    archs = np.unique(archs, axis=0)
    samples = Samples(archs, model.predict(archs), stack(archs))
    evaluator, pair_accuracy = train_evaluator(samples, scale, space, settings, seed, progress)
    policy, drawn = train_policy(evaluator, scale, space, settings, seed, progress)

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
        )

    known = archive(archs, drawn)
    # The generator's own answers over the whole range, each moved to its best neighbours, fill the
    # gaps that sampling leaves in the archive.
    first = Generator(policy, model, stack.tables, known)
    grid = scale.low + (scale.high - scale.low) * np.linspace(0, 1, _ARCHIVE_BUDGETS)[:, None]
    answers, top1, _ = first.search(
        grid, n_candidates=32, neighbour_steps=_ARCHIVE_STEPS, seed=seed
    )
    known = archive(known.archs, answers[np.isfinite(top1)])
    record = {
        "method": method,
        "seed": seed,
        "seconds": round(time.monotonic() - started, 3),
        "evaluator_pair_accuracy": round(pair_accuracy, 4),
        "settings": dataclasses.asdict(settings),
    }
    return Generator(policy, model, stack.tables, known, record)
