"""``pnag table memory``."""

from __future__ import annotations

from pathlib import Path

import click

from ... import options
from ...tables import answer_written


@click.command()
@options.space
@click.option(
    "--bytes-per-value",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="1 for networks of 8-bit integers, 4 for float32.",
)
@options.out("Cost table to write (JSON).")
@options.force
@options.as_json
def memory(
    space: options.Space, bytes_per_value: int, out: Path, force: bool, as_json: bool
) -> None:
    """Count the peak memory of a space's activations.

    \b
    Example:
      pnag table memory --space ofa-mbv3 --out memory.json
    """  # noqa: D301
    from .... import costs, outputs

    outputs.check(out, outputs.COST_TABLE, inputs=options.files(space.name), force=force)
    table = costs.peak_memory(space.find(), bytes_per_value=bytes_per_value)
    table.save(out)
    answer_written(table, out, as_json=as_json)
