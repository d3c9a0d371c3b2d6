"""``pnag table macs``."""

from __future__ import annotations

from pathlib import Path

import click

from ... import options
from ...tables import count


@click.command()
@options.space
@options.out("Cost table to write (JSON).")
@options.force
@options.as_json
def macs(space: options.Space, out: Path, force: bool, as_json: bool) -> None:
    """Count the multiply-adds of a space, exactly.

    \b
    Example:
      pnag table macs --space ofa-mbv3 --out macs.json
    """  # noqa: D301
    from .... import costs

    count(costs.macs, space, out, force=force, as_json=as_json)
