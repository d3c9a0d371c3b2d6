"""``pnag supernet`` and its commands."""

import click

from .. import CommandFiles


@click.group(commands=CommandFiles(__name__))
def supernet() -> None:
    """Train a supernet or bring a published one, and judge architectures with it."""
