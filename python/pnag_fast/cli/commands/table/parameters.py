"""``pnag table parameters``."""

from __future__ import annotations

from pathlib import Path

import click

from ... import options
from ...tables import answer_written


@click.command()
@options.space
@options.out("Cost table to write (JSON).")
@options.force
@options.as_json
def parameters(space: options.Space, out: Path, force: bool, as_json: bool) -> None:
    """Count the parameters of a space, exactly.

    \b
    Example:
      pnag table parameters --space ofa-mbv3 --out parameters.json
    """  # noqa: D301
    from .... import costs, outputs

    outputs.check(out, outputs.COST_TABLE, inputs=options.files(space.name), force=force)
    table = costs.parameters(space.find())
    table.save(out)
    answer_written(table, out, as_json=as_json)
