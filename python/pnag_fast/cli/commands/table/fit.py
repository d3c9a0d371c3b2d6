"""``pnag table fit``."""

from __future__ import annotations

from pathlib import Path

import click

from ... import options
from ...tables import answer_written


@click.command()
@click.argument("path", metavar="MEASURED", type=options.EXISTING)
@options.space
@click.option("--metric", default="latency", show_default=True, help="What was measured.")
@click.option("--unit", default="ms", show_default=True, help="Of the measured values.")
@options.column
@click.option("--device", help="What it was measured on [default: the name of --column].")
@options.out("Cost table to write (JSON).")
@options.force
@options.seed
@options.as_json
def fit(
    path: Path,
    space: options.Space,
    metric: str,
    unit: str,
    column: str | None,
    device: str | None,
    out: Path,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Fit a table to measurements of whole networks.

    \b
    MEASURED is CSV with columns 'arch', in the notation of the space, and
    METRIC_UNIT, such as 'latency_ms', or the column that --column names.
    With a column 'resolution' networks at all input resolutions tell of those
    of the space.

    \b
    Example:
      pnag table fit pi5.csv --space ofa-mbv3 --device pi5 --out pi5.json
      pnag table fit gpus.csv --space ofa-mbv3 --column v100_64 --out v100_64.json
    """  # noqa: D301
    from .... import costs, outputs

    if device is None and column is None:
        raise click.UsageError("--device names what was measured on, for example --device pi5")
    outputs.check(out, outputs.COST_TABLE, inputs=[path, *options.files(space.name)], force=force)
    wanted = space.find()
    measured, archs, values = costs.load_measured(
        path, wanted, column=column or options.column_of(metric, unit)
    )
    table = costs.fit(
        measured, archs, values, metric=metric, unit=unit, device=device or str(column), seed=seed
    )
    if measured != wanted:
        table = table.at(wanted.resolutions)
    table.save(out)
    answer_written(table, out, as_json=as_json)
