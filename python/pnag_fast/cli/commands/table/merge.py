"""``pnag table merge``."""

from __future__ import annotations

from pathlib import Path

import click

from ... import options
from ...tables import answer_written


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
    type=click.FloatRange(0),
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
    named = column or options.column_of(table.metric, table.unit)
    for measured in measured_paths:
        space, archs, values = costs.load_measured(measured, table.space, column=named)
        if space != table.space:
            raise click.UsageError(
                f"{measured} has networks at input resolutions that {path} is not for "
                f"({', '.join(map(str, table.space.resolutions))} px): leave them out"
            )
        table = table.updated(archs, values, noise=noise)
    if added_paths:
        others = [costs.CostTable.load(added) for added in added_paths]
        table = costs.add([table, *others], device=device)
    table.save(out)
    answer_written(table, out, as_json=as_json)
