"""``pnag table import``."""

from __future__ import annotations

from pathlib import Path

import click

from ... import options
from ...tables import answer_written


@click.command("import")
@click.argument("path", metavar="LOOKUP_TABLE", type=options.EXISTING)
@options.space
@click.option("--device", help="Name of the device [default: that of the file's folder].")
@options.out("Cost table to write (JSON).")
@options.force
@options.as_json
def import_(
    path: Path, space: options.Space, device: str | None, out: Path, force: bool, as_json: bool
) -> None:
    """Bring a latency table of Once-for-All, in YAML or JSON.

    \b
    Example:
      pnag table import note10/224_lookup_table.yaml --space ofa-mbv3 --width 1.2 \\
          --out note10.json
    """  # noqa: D301
    from .... import costs, outputs

    inputs = [path, *options.files(space.name)]
    outputs.check(out, outputs.COST_TABLE, inputs=inputs, force=force)
    table = costs.from_ofa_yaml(path, space.find(), device=device)
    table.save(out)
    answer_written(table, out, as_json=as_json)
