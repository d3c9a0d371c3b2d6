"""``pnag table`` and its commands."""

import click

from .. import CommandFiles


@click.group(commands=CommandFiles(__name__))
def table() -> None:
    """Make cost tables, put them together, and look into them."""
