"""The generator: trained once on a front, it emits the architecture for any budget by inference."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from .. import arguments, files
from .. import costs as cost_tables
from ..accuracy import AccuracyModel
from ..costs import CostTable
from ..errors import InvalidInputError
from ..optional_torch import require_torch
from ..progress import ProgressCallback, ignore_progress
from ..runs import Checkpoint
from ..search import extremes
from ..search.problem import identity, require_problem
from ..spaces import SearchSpace
from ..threads import one_thread
from . import expert, pnag
from .expert import ExpertSettings
from .generator import Generated, Generator
from .independent import IndependentPolicy
from .pnag import PRESETS, PnagSettings, dominance
from .policy import BudgetScale, Policy

__all__ = [
    "BudgetScale",
    "ExpertSettings",
    "Generated",
    "Generator",
    "IndependentPolicy",
    "PnagSettings",
    "Policy",
    "dominance",
    "train_generator",
]

# Methods, the default first, and their settings.
METHODS: dict[str, ExpertSettings | PnagSettings] = {
    "expert": ExpertSettings(),
    "pnag": PRESETS["pnag"],
}


def train_generator(
    space: SearchSpace,
    model: AccuracyModel,
    tables: Sequence[CostTable],
    *,
    method: str = "expert",
    seed: int = 0,
    preset: str | None = None,
    settings: ExpertSettings | PnagSettings | None = None,
    checkpoint: files.StrPath | None = None,
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
    method : {"expert", "pnag"}
        The front search and a policy that imitates it (`pnag_fast.generator.expert`), or Guo et
        al. 2022 as published (`pnag_fast.generator.pnag`).
    seed : int
        Same inputs and seed, same generator, on one machine with one version of torch.
    preset : {"pnag", "nag"}, optional
        Settings of ``method="pnag"`` by name: those of the paper, the default, or those of its
        version of 2021 (K = 5, no interpolation, logistic ranking loss).
    settings : ExpertSettings or PnagSettings, optional
        Of the method; for ``"pnag"`` instead of a preset.
    checkpoint : path, optional
        Where training keeps its state every few seconds: killed at any moment and called again
        with the same arguments, it goes on and ends with the same generator. The file stays.

    Returns
    -------
    Generator

    Raises
    ------
    InvalidInputError
        If the model or a table is for another space, a cost is the same for all architectures, or
        a setting is out of range; if `checkpoint` belongs to another run.
    TrainingError
        If a loss is no longer a number.
    """
    require_problem(space, model, tables)
    method, seed = arguments.one_of(method, "method", METHODS), arguments.seed(seed)
    if preset is not None and method != "pnag":
        raise InvalidInputError(f"presets are for method 'pnag', not for {method!r}")
    if preset is not None and settings is not None:
        raise InvalidInputError("give a preset or settings, not both")
    if preset is not None:
        arguments.one_of(preset, "preset", PRESETS)
    if settings is None:
        settings = METHODS[method] if preset is None else PRESETS[preset]
    if type(settings) is not type(METHODS[method]):
        raise InvalidInputError(
            f"method {method!r} has no use for {type(settings).__name__}; "
            "give the settings of the method"
        )
    settings.check()
    require_torch("training a generator")
    model = model.for_space(space)
    stack = cost_tables.stack([table.for_space(space) for table in tables])
    bounds = stack.bounds
    for table, (low, high) in zip(stack.tables, bounds.tolist(), strict=True):
        if not low > 0:
            raise InvalidInputError(
                f"by the {table.metric} table of '{table.device}' an architecture costs {low:g} "
                f"{table.unit}, and every cost should be above zero: make tables by "
                "pf.CostTable.build, which checks them"
            )
        if not low < high:
            raise InvalidInputError(
                f"every architecture of '{space.name}' has the same {table.metric} ({low:g} "
                f"{table.unit}) on '{table.device}': there is no trade-off to learn"
            )
    probe = np.concatenate([extremes(stack.tables), space.sample(256, seed=seed)])
    if np.ptp(model.predict(probe)) == 0:
        raise InvalidInputError(
            f"the accuracy model ({model.source}) predicts the same top-1 for every architecture: "
            "there is no trade-off to learn; check what it was fitted on"
        )
    started = time.monotonic()
    kept = Checkpoint(
        checkpoint,
        {
            "method": method,
            "seed": seed,
            "settings": dataclasses.asdict(settings),
            **identity(model, stack.tables),
        },
    )
    policy: IndependentPolicy | Policy
    with one_thread():
        if isinstance(settings, ExpertSettings):
            policy, archive, record = expert.train(model, stack, settings, seed, kept, progress)
        else:
            policy, archive, record = pnag.train(model, stack, settings, seed, kept, progress)
    record = {
        "method": method,
        "seed": seed,
        "seconds": round(time.monotonic() - started, 3),
        **record,
        "settings": dataclasses.asdict(settings),
    }
    return Generator(policy, model, stack.tables, archive, record)
