"""``pnag table choose``."""

from __future__ import annotations

from pathlib import Path

import click

from ... import options
from ...output import answer


@click.command()
@options.space
@click.option(
    "--count", type=click.IntRange(1), default=20, show_default=True, help="How many networks."
)
@click.option(
    "--prior",
    "prior_paths",
    type=options.EXISTING,
    multiple=True,
    help="Cost table (JSON) of another device, or counted, that 'fit' will be given too; "
    "repeatable.",
)
@click.option(
    "--table",
    "own_path",
    type=options.EXISTING,
    help="The device's own table as fitted so far (JSON), which says what is still unknown.",
)
@click.option(
    "--measured",
    "measured_paths",
    type=options.EXISTING,
    multiple=True,
    help="What was measured already (CSV) and is in no table; repeatable.",
)
@click.option("--metric", default="latency", show_default=True, help="What will be measured.")
@click.option("--unit", default="ms", show_default=True, help="Of the values.")
@options.column
@options.out("Networks to measure (CSV), the most telling first.")
@options.force
@options.seed
@options.as_json
def choose(
    space: options.Space,
    count: int,
    prior_paths: tuple[Path, ...],
    own_path: Path | None,
    measured_paths: tuple[Path, ...],
    metric: str,
    unit: str,
    column: str | None,
    out: Path,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Choose networks whose measurements say most of all others.

    \b
    Fill in the empty column of the file, with whatever measures on your device,
    and give it to 'pnag table fit'.

    \b
    Example:
      pnag table choose --space ofa-mbv3 --prior phone.json --prior macs.json --out few.csv
    """  # noqa: D301
    import numpy as np

    from .... import costs, latency, outputs

    if own_path is not None and prior_paths:
        raise click.UsageError(
            "give --table alone: the device's own table was fitted under tables of others already"
        )
    own = [] if own_path is None else [own_path]
    inputs = [*prior_paths, *own, *measured_paths, *options.files(space.name)]
    outputs.check(out, outputs.TO_MEASURE, inputs=inputs, force=force)
    found = space.find()
    named = column or options.column_of(metric, unit)
    known = [costs.load_measured(path, found, column=named)[:2] for path in measured_paths]
    for path, (measured, _) in zip(measured_paths, known, strict=True):
        options.require_resolutions(path, measured, found)
    prior = [costs.CostTable.load(path) for path in (*prior_paths, *own)]
    archs = latency.choose(
        found,
        count,
        prior=prior[0] if own else prior,
        measured=np.concatenate([rows for _, rows in known]) if known else None,
        seed=seed,
    )
    costs.save_measured(out, found, archs, column=named)
    facts = {"networks": str(out), "archs": found.to_strings(archs), "column": named}
    line = f"{len(archs)} networks; written to {out}: measure them, and fill in '{named}'"
    answer(facts, [line], as_json=as_json)
