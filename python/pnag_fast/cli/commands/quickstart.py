"""``pnag quickstart``."""

from __future__ import annotations

from pathlib import Path

import click

from ...terminal import say
from .. import options
from ..keeping import State, working
from ..output import answer_report


@click.command()
@options.out("Folder for everything that is made.")
@options.data
@click.option("--space", "space_name", default="mbv3-tiny", show_default=True)
@click.option("--resolution", type=click.IntRange(8, 4096), help="Input size in pixels.")
@click.option("--epochs", type=click.IntRange(1), default=None, help="Passes over the images.")
@click.option("--architectures", type=click.IntRange(20), default=None, help="To judge.")
@click.option("--budgets", type=click.IntRange(1), default=None, help="To ask for.")
@options.seed
@options.as_json
def quickstart(
    out: Path,
    images: str,
    space_name: str,
    resolution: int | None,
    epochs: int | None,
    architectures: int | None,
    budgets: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Go from images and this computer to a generator, and prove it.

    \b
    Trains a supernet, measures the accuracy of some of its networks and the
    latency of its blocks on this CPU, trains a generator, asks it for budgets
    it has not seen, and measures what it answers, until each answer was
    measured within its budget. Run it again with the same options to go on
    after an interruption, or with more --budgets or --architectures to add to
    what is there.

    \b
    Example:
      pnag quickstart --out quickstart
      pnag quickstart --data photos/ --space mbv3-cifar --out photos-run
    """  # noqa: D301 - \b is click's mark for "do not rewrap"
    from ...quickstart import QuickstartSettings, run

    defaults = QuickstartSettings()
    settings = QuickstartSettings(
        space=space_name,
        resolution=resolution,
        epochs=epochs or defaults.epochs,
        architectures=architectures or defaults.architectures,
        budgets=budgets or defaults.budgets,
        seed=seed,
    )
    state = State(out, "all that was finished", temporary=False)
    with working(state, quiet=as_json) as progress:
        report = run(
            out,
            images=images,
            settings=settings,
            progress=progress,
            notice=(lambda _: None) if as_json else (lambda line: say(line, error=True)),
        )
    answer_report(report, out, as_json=as_json)
