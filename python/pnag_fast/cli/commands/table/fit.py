"""``pnag table fit``."""

from __future__ import annotations

from pathlib import Path

import click

from ....terminal import say
from ... import options
from ...tables import answer_written


@click.command()
@click.argument("paths", metavar="MEASURED...", nargs=-1, required=True, type=options.EXISTING)
@options.space
@click.option("--metric", default="latency", show_default=True, help="What was measured.")
@click.option("--unit", default="ms", show_default=True, help="Of the measured values.")
@options.column
@click.option("--device", help="What it was measured on [default: the name of --column].")
@click.option(
    "--prior",
    "prior_paths",
    type=options.EXISTING,
    multiple=True,
    help="Cost table (JSON) of another device, or counted, that this one probably resembles: a few "
    "measurements then suffice. Repeatable.",
)
@options.out("Cost table to write (JSON).")
@options.force
@options.seed
@options.as_json
def fit(
    paths: tuple[Path, ...],
    space: options.Space,
    metric: str,
    unit: str,
    column: str | None,
    device: str | None,
    prior_paths: tuple[Path, ...],
    out: Path,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Fit a table to measurements of whole networks.

    \b
    MEASURED are CSV files with columns 'arch', in the notation of the space, and
    METRIC_UNIT, such as 'latency_ms', or the column that --column names.
    With a column 'resolution' networks at all input resolutions tell of those
    of the space; with --prior those at its own alone are taken.

    \b
    Example:
      pnag table fit pi5.csv --space ofa-mbv3 --device pi5 --out pi5.json
      pnag table fit gpus.csv --space ofa-mbv3 --column v100_64 --out v100_64.json
      pnag table fit few.csv --space ofa-mbv3 --device new --out new.json \\
          --prior v100_64.json --prior macs.json
    """  # noqa: D301
    import numpy as np

    from .... import costs, outputs

    if device is None and column is None:
        raise click.UsageError("--device names what was measured on, for example --device pi5")
    inputs = [*paths, *prior_paths, *options.files(space.name)]
    outputs.check(out, outputs.COST_TABLE, inputs=inputs, force=force)
    wanted = space.find()
    prior = [costs.CostTable.load(known) for known in prior_paths]
    measured, named = wanted, column or options.column_of(metric, unit)
    # A space of all input resolutions that any of the files has, then all files in it.
    for path in paths:
        measured = costs.load_measured(path, measured, column=named)[0]
    files = [costs.load_measured(path, measured, column=named)[1:] for path in paths]
    archs, values = (np.concatenate(parts) for parts in zip(*files, strict=True))
    left_out = 0
    if prior and measured != wanted:
        at = np.array([measured.resolution_of(arch) in wanted.resolutions for arch in archs])
        archs = wanted.from_dicts(measured.to_dicts(archs[at]))
        measured, values, left_out = wanted, values[at], int((~at).sum())
    table = costs.fit(
        measured,
        archs,
        values,
        metric=metric,
        unit=unit,
        device=device or str(column),
        seed=seed,
        prior=prior or None,
    )
    if measured != wanted:
        table = table.at(wanted.resolutions)
    table.save(out)
    if left_out:
        say(f"{left_out} networks at other input resolutions were left out", error=True)
    answer_written(table, out, as_json=as_json)
