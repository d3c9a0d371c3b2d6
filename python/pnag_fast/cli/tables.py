"""What commands say about a cost table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import arguments
from . import options
from .output import answer, numbers

if TYPE_CHECKING:
    from ..costs import CostTable
    from ..generator import Generator
    from ..spaces import SearchSpace

# Architectures by which a table is described.
_SAMPLED = 1000
# What is told of a table's provenance is no longer than this.
_LONGEST = 12


def devices_of(generator: Generator) -> list[str]:
    """Name the devices that a generator knows."""
    return [table.device for table in generator.devices or generator.tables[:1]]


def asked_device(generator: Generator, device: str | None) -> str | CostTable | None:
    """Return a device by the name that it was asked for: one that is known, else a table's file."""
    from ..costs import CostTable

    known = devices_of(generator)
    if device is None and len(known) > 1:
        raise click.UsageError(
            f"this generator answers for {len(known)} devices: give --device, one of "
            f"{', '.join(known)}, or a cost table"
        )
    if device is None or device in known:
        return device
    path = Path(device)
    if path.exists():
        return CostTable.load(device)
    if path.suffix or path.name != device:
        raise click.UsageError(
            f"there is no file {arguments.shown(device)}, and no device of this name: the "
            f"generator knows {', '.join(known)}"
        )
    return device


def facts_of(table: CostTable, *, seed: int = 0) -> dict[str, Any]:
    """Return what is to be known of a table, JSON."""
    import numpy as np

    from .. import credibility

    space = table.space
    archs = space.sample(_SAMPLED, seed=seed)
    costs, std = table(archs, return_std=True)
    contexts = np.zeros(len(archs), dtype=np.intp)
    if space.resolution_slot is not None:
        contexts = archs[:, space.resolution_slot].astype(np.intp) - 1
    entries = table.entries[contexts[:, None], np.arange(space.n_slots), archs]
    slots = [
        {
            "slot": space.slots[slot].name,
            "mean": float(entries[:, slot].mean()),
            # Of a maximum, the share of networks whose cost it is.
            "share": float(
                (entries[:, slot] / costs.mean()).mean()
                if table.reduce == "sum"
                else (entries[:, slot] >= table.mean(archs)).mean()
            ),
            # Of the codes that occur: a layer that every network has is never absent.
            "range": float(
                np.ptp(table.entries[:, slot, np.unique(archs[:, slot])], axis=1).mean()
            ),
        }
        for slot in range(space.n_slots)
        if slot != space.resolution_slot
    ]
    relative = std / costs
    return {
        "space": space.name,
        "metric": table.metric,
        "unit": table.unit,
        "device": table.device,
        "reduce": table.reduce,
        "range": list(table.bounds),
        "cheapest": space.to_strings(table.cheapest()[None])[0],
        "dearest": space.to_strings(table.dearest()[None])[0],
        "exact": table.posterior is None,
        "relative_std": {
            "median": float(np.median(relative)),
            "95th percentile": float(np.percentile(relative, 95)),
        },
        "made_from": {
            key: value for key, value in table.provenance.items() if _is_short(key, value)
        },
        "slots": slots,
        "warnings": credibility.of_table(table.provenance, table.device),
    }


def lines_of(table: CostTable, facts: Mapping[str, Any]) -> list[str]:
    """Say the same to a person, without the slots."""
    from ..budgets import reach

    device = "any device" if table.device == "any" else table.device
    lines = [f"{table.metric} of '{table.space.name}' on {device}: {reach(table)}"]
    if facts["exact"]:
        lines.append("no uncertainty is stated: it counts as exact")
    else:
        std = facts["relative_std"]
        lines.append(
            f"standard deviation of a network: {100 * std['median']:.1f} % (median), "
            f"{100 * std['95th percentile']:.1f} % (95th percentile)"
        )
    for key, value in facts["made_from"].items():
        text = numbers(value) if isinstance(value, Mapping) else str(value)
        lines.append(f"{key.replace('_', ' ')}: {text}")
    return lines


def count(
    of: Callable[[SearchSpace], CostTable],
    space: options.Space,
    out: Path,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Write a table that is counted from the definition of a space, and say what it is."""
    from .. import outputs

    outputs.check(out, outputs.COST_TABLE, inputs=options.files(space.name), force=force)
    table = of(space.find())
    table.save(out)
    answer_written(table, out, as_json=as_json)


def answer_written(
    table: CostTable, out: Path, *, as_json: bool, warnings: Sequence[str] = ()
) -> None:
    """Answer with what a table that was written to `out` is, and what to know beside that."""
    facts = {"table": str(out), **facts_of(table)}
    facts["warnings"] = [*facts["warnings"], *warnings]
    answer(facts, [*lines_of(table, facts), f"written to {out}"], as_json=as_json)


def reachable_of(generator: Generator) -> list[dict[str, Any]]:
    """Return what each cost of a generator reaches, on each device, JSON."""
    return [
        {"metric": t.metric, "unit": t.unit, "device": t.device, "range": list(t.bounds)}
        for t in _tables_of(generator)
    ]


def reachable_lines(generator: Generator) -> list[str]:
    """Say the same to a person."""
    from ..budgets import reach

    return [f"reachable: {t.metric} {reach(t)} on {t.device}" for t in _tables_of(generator)]


def _tables_of(generator: Generator) -> tuple[CostTable, ...]:
    return (*(generator.devices or generator.tables[:1]), *generator.tables[1:])


def _is_short(key: str, value: object) -> bool:
    if isinstance(value, Mapping):
        kinds = set(map(type, value.values()))
        return len(value) <= _LONGEST and not kinds & {dict, list} and bool(kinds & {int, float})
    return key != "warnings" and not isinstance(value, list)
