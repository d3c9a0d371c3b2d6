"""`train_generator`: from a space, an accuracy model and cost tables to a generator."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from .. import arguments, files
from ..accuracy import AccuracyModel
from ..costs import CostTable
from ..errors import InvalidInputError
from ..progress import ProgressCallback, ignore_progress
from ..runs import Run
from ..search import Problem, extremes
from ..search.problem import identity, require_problem
from ..spaces import SearchSpace
from ..threads import one_thread
from .devices import check_devices, fill
from .generator import Generator
from .method import GeneratorMethod, model_of
from .methods import known


def train_generator(
    space: SearchSpace,
    model: AccuracyModel,
    tables: Sequence[CostTable],
    *,
    devices: Sequence[CostTable] | None = None,
    method: str = "expert",
    seed: int = 0,
    preset: str | None = None,
    settings: GeneratorMethod | None = None,
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
        Of the same space; budgets have one column for each. With `devices` these are the costs
        beside that of the device, such as parameters, and there may be none.
    devices : sequence of CostTable, optional
        One metric, such as the latency, in one unit, on several devices of different names. The
        first column of budgets is then the cost on the device that `Generator.generate` is asked
        for, and `tables` are the others.
    method : str
        ``"expert"``: the front search and a policy that imitates it
        (`pnag_fast.generator.methods.expert`); ``"pnag"``: Guo et al. 2022 as published
        (`pnag_fast.generator.methods.pnag`); or the name of a `GeneratorMethod` of your own.
    seed : int
        Same inputs and seed, same generator, on one machine with one version of torch.
    preset : str, optional
        Settings by name. Of ``"pnag"``: ``"pnag"``, those of the paper, the default, or ``"nag"``,
        those of its version of 2021 (K = 5, no interpolation, logistic ranking loss).
    settings : GeneratorMethod, optional
        Of the method, `ExpertSettings` or `PnagSettings`, instead of a preset.
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
    if devices is not None:
        check_devices(devices)
        if not isinstance(tables, (list, tuple)):
            require_problem(space, model, tables)
        tables = [devices[0], *tables]
    require_problem(space, model, tables)
    chosen = _settings(method, preset, settings)
    run = Run(seed, progress=progress, checkpoint=checkpoint)
    problem = Problem(space, model, tables, evaluations=chosen.evaluations)
    model = model_of(problem)
    fleet = tuple(table.for_space(space) for table in devices or ())
    for table in (*problem.tables, *fleet[1:]):
        _require_trade_off(table)
    _require_variety(problem, model, run.seed)
    started = time.monotonic()
    kept = run.open(
        lambda: {
            "method": chosen.name,
            "seed": run.seed,
            "settings": dataclasses.asdict(chosen),
            **identity(model, (*problem.tables, *fleet[1:])),
        }
    )
    with one_thread():
        run = dataclasses.replace(run, checkpoint=kept)
        policy, archive, record = chosen.train(problem, run)
        bank, known = fill(problem, model, archive, fleet, run)
    record = {
        "method": chosen.name,
        "seed": run.seed,
        "seconds": round(time.monotonic() - started, 3),
        **record,
        **known,
        "settings": dataclasses.asdict(chosen),
    }
    return Generator(policy, model, problem.tables, archive, record, fleet, bank)


def _settings(method: str, preset: str | None, settings: object) -> GeneratorMethod:
    """Return checked settings: those given, those of a preset, or the method's own."""
    methods = known()
    kind = methods[arguments.one_of(method, "method", methods)]
    if preset is not None:
        if not kind.presets:
            having = [repr(name) for name, other in methods.items() if other.presets]
            raise InvalidInputError(
                f"presets are for method {' or '.join(having)}, not for {method!r}"
            )
        if settings is not None:
            raise InvalidInputError("give a preset or settings, not both")
        settings = kind.presets[arguments.one_of(preset, "preset", kind.presets)]
    if settings is None:
        settings = kind()
    if type(settings) is not kind:
        raise InvalidInputError(
            f"method {method!r} has no use for {type(settings).__name__}; "
            "give the settings of the method"
        )
    settings.check()
    return settings


def _require_trade_off(table: CostTable) -> None:
    """Refuse a cost that holds nothing to learn."""
    low, high = table.bounds
    if not low > 0:
        raise InvalidInputError(
            f"by the {table.metric} table of '{table.device}' an architecture costs {low:g} "
            f"{table.unit}, and every cost should be above zero: make tables by "
            "pf.CostTable.build, which checks them"
        )
    if not low < high:
        raise InvalidInputError(
            f"every architecture of '{table.space.name}' has the same {table.metric} ({low:g} "
            f"{table.unit}) on '{table.device}': there is no trade-off to learn"
        )


def _require_variety(problem: Problem, model: AccuracyModel, seed: int) -> None:
    """Refuse an accuracy that holds nothing to learn."""
    space, stack = problem.space, problem.stack
    probe = np.concatenate([extremes(stack.tables), space.sample(256, seed=seed)])
    if np.ptp(model.predict(probe)) == 0:
        raise InvalidInputError(
            f"the accuracy model ({model.source}) predicts the same {model.objective.name} for "
            "every architecture: there is no trade-off to learn; check what it was fitted on"
        )
