"""``pnag table merge``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ... import options
from ...tables import answer_written

if TYPE_CHECKING:
    from ....costs import CostTable
    from ....spaces import Archs
    from ....typing import FloatArray

# Off by so many of the stated deviations, by root mean square, measurements contradict a table;
# fewer than these say nothing of it.
_SURPRISING, _FEW = 1.5, 5


@click.command()
@click.argument("path", metavar="TABLE", type=options.EXISTING)
@click.option(
    "--measured",
    "measured_paths",
    type=options.EXISTING,
    multiple=True,
    help="Measurements of whole networks (CSV) on the table's device, to correct it; repeatable.",
)
@options.column
@click.option(
    "--noise",
    type=options.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Relative standard deviation of one measurement, such as 0.02.",
)
@click.option(
    "--add",
    "added_paths",
    type=options.EXISTING,
    multiple=True,
    help="Table of another part of the same cost, such as the energy of a second chip, to be "
    "added; repeatable.",
)
@click.option("--device", help="Name of the sum [default: the devices' names, joined].")
@options.out("Cost table to write (JSON).")
@options.force
@options.as_json
def merge(
    path: Path,
    measured_paths: tuple[Path, ...],
    column: str | None,
    noise: float,
    added_paths: tuple[Path, ...],
    device: str | None,
    out: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Put measurements, or the costs of other parts, into a table.

    \b
    Measurements move the table and reduce its uncertainty, as if they had been
    known from the start. Tables of one device that were fitted apart cannot be
    averaged, since each holds the same prior: merge the measurements instead.

    \b
    Example:
      pnag table merge pi5.json --measured more.csv --out pi5-corrected.json
      pnag table merge cpu_energy.json --add dram_energy.json --out energy.json
    """  # noqa: D301
    from .... import costs, outputs

    if not measured_paths and not added_paths:
        raise click.UsageError("nothing to merge: give --measured, or --add")
    inputs = [path, *measured_paths, *added_paths]
    outputs.check(out, outputs.COST_TABLE, inputs=inputs, force=force)
    table = costs.CostTable.load(path)
    warnings: list[str] = []
    named = column or options.column_of(table.metric, table.unit)
    for measured in measured_paths:
        space, archs, values = costs.load_measured(measured, table.space, column=named)
        options.require_resolutions(measured, space, table.space)
        if table.posterior is not None:
            warnings += _surprise(table, archs, values, noise, measured)
        table = table.updated(archs, values, noise=noise)
    if added_paths:
        others = [costs.CostTable.load(added) for added in added_paths]
        table = costs.add([table, *others], device=device)
    table.save(out)
    answer_written(table, out, warnings=warnings, as_json=as_json)


def _surprise(
    table: CostTable, archs: Archs, values: FloatArray, noise: float, path: Path
) -> list[str]:
    """Doubt an uncertainty that the measurements lie far outside of."""
    import numpy as np

    mean, std = table.mean(archs, return_std=True)
    off = float(np.sqrt(np.mean((values - mean) ** 2 / (std**2 + (noise * mean) ** 2))))
    if off < _SURPRISING or len(values) < _FEW:
        return []
    return [
        f"The measurements of {path} lie {off:.1f} times as far from the table as it says that "
        "they may: what it states of its uncertainty is too little for this device now. Give "
        "--noise, or fit a table to all measurements."
    ]
