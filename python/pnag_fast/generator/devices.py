"""Several devices: which tables are theirs, and the searches that fill the bank for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import arguments, search
from ..accuracy import AccuracyModel
from ..costs import CostTable, macs, parameters
from ..errors import InvalidInputError, InvalidTypeError
from ..progress import ProgressCallback, ignore_progress
from ..runs import Run
from ..search import Front, Problem
from ..spaces import SearchSpace
from ..spaces.nasbench201 import is_cell_space
from ..typing import FloatArray
from .bank import Bank

# Standard deviations above the mean for which a front is searched beside that of the means, where a
# table knows how far it may be wrong: a bound that holds with 95 %. What answers any confidence is
# non-dominated by one of both, or nearly.
CAUTION = 1.645

# Questions for each front after the first, as a share of those for the first: on Once-for-All's
# space 110,000 from a bank ended nearer to the best known front than 200,000 from nothing.
FURTHER_SHARE = 0.5

# Synthetic devices: architectures that say what a mean cost is; how far mixtures are from being of
# one part only; and how differently early and late layers, stages, and values of choices cost, as
# standard deviations of logarithms.
_SAMPLE = 512
_CONCENTRATION = 0.4
_TILT, _STAGE, _VALUE = 0.3, 0.15, 0.15
# How many there are, and questions for each, as a share of those for the first front: with
# Once-for-All's space 10,000 questions added as much as 30,000.
SYNTHETIC, SYNTHETIC_SHARE = 24, 0.05

# Spaces up to this size are known as a whole: any device is then answered exactly.
WHOLE = 50_000


def check_devices(tables: Sequence[CostTable], *, unique: bool = True) -> None:
    """Refuse tables that are not those of several devices.

    Raises
    ------
    InvalidInputError
        If metrics or units differ, or, with `unique`, two devices have one name.
    """
    if not isinstance(tables, (list, tuple)) or not all(
        isinstance(table, CostTable) for table in tables
    ):
        raise InvalidTypeError(
            "devices should be a list of cost tables, one for each device, found "
            f"{arguments.shown(tables)}"
        )
    if not tables:
        raise InvalidInputError("devices should hold at least one cost table, found none")
    for table in tables:
        if (table.metric, table.unit) != (tables[0].metric, tables[0].unit):
            raise InvalidInputError(
                "tables of several devices should be of one metric in one unit: found "
                f"{tables[0].describe()} and {table.describe()}"
            )
    names = [table.device for table in tables]
    if unique and len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise InvalidInputError(f"two tables are of the same device, {arguments.shown(twice)}")


def synthetic(devices: Sequence[CostTable], n: int, seed: int) -> list[CostTable]:
    """Make up devices of the kinds that real ones are.

    A device is bound by arithmetic, by the memory that weights come from, or by the number of
    layers it has to launch, each in another part of a network, and mostly by a mixture of these.
    So each is a mixture of multiply-adds, parameters, a constant for each layer, and the given
    devices, its early layers dearer than its late ones or the reverse, and every value of every
    choice (a kernel size, say) a little dearer or cheaper than it is elsewhere. The first are the
    pure ones: nothing lies beyond them.

    Parameters
    ----------
    devices : sequence of CostTable
        Of one space; at least one.
    n : int
        At most; fewer where entries are far below zero.
    seed : int

    Returns
    -------
    list of CostTable
        Exact tables; their costs are about 1 for the mean architecture.
    """
    space = devices[0].space
    sample = space.sample(_SAMPLE, seed=0, distribution="decisions")
    pure = [_launches(devices[0])]
    if space.network is not None or is_cell_space(space):
        pure += [macs(space), parameters(space)]
    pure = [table for table in pure if table.bounds[0] < table.bounds[1]]
    parts = [*pure, *devices]
    scales = [1 / part(sample).mean() for part in parts]
    constants = np.stack([s * part.constants for s, part in zip(scales, parts, strict=True)])
    entries = np.stack([s * part.entries for s, part in zip(scales, parts, strict=True)])
    found = []
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        speed = np.ones(entries.shape[2:])
        if i < len(pure):
            shares = np.eye(len(parts))[i]
        else:
            shares = rng.dirichlet(np.full(len(parts), _CONCENTRATION))
            speed = _speed(space, rng)
        try:
            table = CostTable.build(
                space,
                metric=devices[0].metric,
                unit=devices[0].unit,
                device=f"synthetic {i}",
                constants=shares @ constants,
                entries=np.tensordot(shares, entries, 1) * speed,
            )
        except InvalidInputError:
            # Entries below zero, of which fitted tables have some, may be slowed down until a
            # network is free: no device is like that.
            continue
        found.append(table)
    return found


def _launches(like: CostTable) -> CostTable:
    """Return a table by which every layer costs the same, whatever it is, and the rest two."""
    entries = np.where(np.isnan(like.entries), np.nan, 1.0)
    entries[:, :, 0] = 0.0
    if like.space.resolution_slot is not None:
        entries[:, like.space.resolution_slot] = 0.0
    return CostTable.build(
        like.space,
        metric=like.metric,
        unit=like.unit,
        device="launches",
        constants=np.full_like(like.constants, 2.0),
        entries=entries,
    )


def _speed(space: SearchSpace, rng: np.random.Generator) -> FloatArray:
    """Factors on the entries of every slot and code, shape (n_slots, max_codes)."""
    speed = np.ones((space.n_slots, max(space.n_codes)))
    # A slot is as dear as its place in the network says, and a value as dear everywhere.
    place = np.linspace(-1, 1, space.n_slots)
    speed *= np.exp(rng.normal(0, _TILT) * place)[:, None]
    values: dict[tuple[str, Any], float] = {}
    first = 0
    for stage in space.stages:
        speed[first : first + len(stage.slots)] *= np.exp(rng.normal(0, _STAGE))
        for index, slot in enumerate(stage.slots, first):
            for code, choice in enumerate(slot.choices, 1):
                for (name, _), value in zip(slot.factors, choice, strict=True):
                    if (name, value) not in values:
                        values[name, value] = float(np.exp(rng.normal(0, _VALUE)))
                    speed[index, code] *= values[name, value]
        first += len(stage.slots)
    return speed


def searched(
    bank: Bank,
    model: AccuracyModel,
    tables: Sequence[CostTable],
    source: Front,
    *,
    evaluations: int,
    seed: int,
    time_limit_s: float | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Bank:
    """Return the bank with what a search for these tables finds that starts from it.

    Where a table knows how far it may be wrong, half of the questions are for upper bounds.

    Parameters
    ----------
    evaluations : int
        Questions in all.
    time_limit_s : float, optional
        In all.
    """
    views = [list(tables), *_cautious(tables)]
    for view in views:
        found = search.front(
            view[0].space,
            model,
            view,
            seed=seed,
            evaluations=max(1, evaluations // len(views)),
            time_limit_s=None if time_limit_s is None else time_limit_s / len(views),
            start=bank.front(model, view, source).archs,
            progress=progress,
        )
        bank = Bank.of([bank, found])
    return bank


def _cautious(tables: Sequence[CostTable]) -> list[list[CostTable]]:
    """Return the upper bounds to search for beside the means: one list, none of exact tables."""
    bounds = [table.cautious(CAUTION) for table in tables]
    return [] if all(a is b for a, b in zip(bounds, tables, strict=True)) else [bounds]


def fill(
    problem: Problem,
    model: AccuracyModel,
    archive: Front,
    devices: Sequence[CostTable],
    run: Run,
) -> tuple[Bank | None, dict[str, Any]]:
    """Search for what a generator should know beside its archive.

    Parameters
    ----------
    problem : Problem
        What the archive was searched for: with devices, of the first.
    model : AccuracyModel
    archive : Front
    devices : sequence of CostTable
        Empty for one device.
    run : Run
        Its checkpoint is open.

    Returns
    -------
    bank : Bank or None
        None where nothing was to be searched for: one device, all tables exact.
    record : dict
        What was searched for, JSON.
    """
    space, others = problem.space, list(problem.tables[1:])
    # What to search for, and how many questions each is worth.
    further = max(1, round(problem.limit * FURTHER_SHARE))
    targets = [(view, further) for view in _cautious(problem.tables)]
    targets += [([table, *others], further) for table in devices[1:]]
    if not (devices or targets):
        return None, {}
    record: dict[str, Any] = {"devices": [t.device for t in devices]} if devices else {}
    if space.n_architectures <= WHOLE:
        archs = space.enumerate()
        return Bank(archs, model.predict(archs)), {**record, "bank": len(archs)}
    if devices:
        made = synthetic(devices, SYNTHETIC, run.seed)
        share = max(1, round(problem.limit * SYNTHETIC_SHARE))
        targets += [([table, *others], share) for table in made]
        record["synthetic"] = [len(made), share]
    bank, kept = Bank.of([archive]), run.open(dict)
    state = kept.restore("bank")
    if state is not None:
        archs = state.take_archs("archs", space)
        bank = Bank(archs, state.take("top1", np.float64, (len(archs),)))
    for step in range(0 if state is None else state.check_step(len(targets)), len(targets)):
        tables, evaluations = targets[step]
        bank = searched(
            bank,
            model,
            tables,
            archive,
            evaluations=evaluations,
            seed=run.seed,
            progress=run.progress,
        )
        kept.keep("bank", step + 1, bank.arrays, last=True)
    return bank, {**record, "bank": len(bank)}
