"""``pnag adapt``."""

from __future__ import annotations

from pathlib import Path

import click

from .. import options
from ..keeping import working
from ..output import answer
from ..tables import reachable_lines, reachable_of


@click.command()
@click.argument("path", metavar="GENERATOR", type=options.EXISTING)
@click.option(
    "--table",
    "table_paths",
    type=options.EXISTING,
    multiple=True,
    required=True,
    help="Cost table (JSON) of a device to add; of one that is known, its new table. Repeatable.",
)
@options.out("Generator to write (safetensors).")
@click.option(
    "--seconds",
    type=options.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Time to search for each device; what is found by it depends on the machine.",
)
@click.option(
    "--evaluations",
    type=click.IntRange(1),
    help="Predictions to spend instead: same number and seed, same generator. 30000 take about a "
    "second.",
)
@options.force
@options.seed
@options.as_json
def adapt(
    path: Path,
    table_paths: tuple[Path, ...],
    out: Path,
    seconds: float,
    evaluations: int | None,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Add devices to a generator, or correct a device's table, without training.

    \b
    What is known of other devices is costed by the new table, and a short search
    goes on from there. It needs no torch.

    \b
    Example:
      pnag adapt fleet.safetensors --table new.json --out fleet2.safetensors
    """  # noqa: D301
    from ... import credibility, outputs
    from ...costs import CostTable
    from ...generator import Generator

    outputs.check(out, outputs.GENERATOR, inputs=[path, *table_paths], force=force)
    generator = Generator.load(path)
    tables = [CostTable.load(table) for table in table_paths]
    with working(quiet=as_json) as progress:
        for table in tables:
            generator = generator.adapt(
                table, seconds=seconds, evaluations=evaluations, seed=seed, progress=progress
            )
    generator.save(out)
    facts = {
        "generator": str(out),
        "adapted": [table.device for table in tables],
        "reachable": reachable_of(generator),
        "warnings": credibility.of_generator(generator),
    }
    answer(facts, [*reachable_lines(generator), f"written to {out}"], as_json=as_json)
