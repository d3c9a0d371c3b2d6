"""``pnag table memory``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from ... import options
from ...tables import count


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
    from .... import costs

    count(
        partial(costs.peak_memory, bytes_per_value=bytes_per_value),
        space,
        out,
        force=force,
        as_json=as_json,
    )
