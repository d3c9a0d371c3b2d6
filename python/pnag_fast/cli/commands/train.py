"""``pnag train``."""

from __future__ import annotations

import pkgutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import options
from ..keeping import kept_fits, working
from ..output import answer, numbers
from ..tables import reachable_lines, reachable_of

if TYPE_CHECKING:
    from ...accuracy import AccuracyModel
    from ...objective import Objective

# By their files: importing them takes a fifth of a second.
_METHODS = sorted(
    found.name
    for found in pkgutil.iter_modules([str(Path(__file__).parents[2] / "generator" / "methods")])
)


@click.command()
@click.option(
    "--table",
    "--cost",
    "table_paths",
    type=options.EXISTING,
    multiple=True,
    help="Cost table (JSON); budgets bound each that is given, in this order. Repeatable.",
)
@click.option(
    "--device",
    "device_paths",
    type=options.EXISTING,
    multiple=True,
    help="Cost table (JSON) of one device of several, all of one metric: the generator answers for "
    "each, and for new ones. Budgets bound the cost on the device that is asked for first, then "
    "those of --table. Repeatable.",
)
@click.option(
    "--accuracy",
    "accuracy_path",
    type=options.EXISTING,
    required=True,
    help="Accuracy table (CSV), or an accuracy model (.safetensors, .pth).",
)
@options.out("Generator to write (safetensors).")
@click.option(
    "--method",
    type=click.Choice(_METHODS),
    default="expert",
    show_default=True,
    help="Front search and imitation (expert), PNAG as published, or another.",
)
@options.checkpoint("the state of training")
@options.objective
@options.cautious
@options.force
@options.seed
@options.as_json
def train(
    table_paths: tuple[Path, ...],
    device_paths: tuple[Path, ...],
    accuracy_path: Path,
    out: Path,
    method: str,
    checkpoint: options.Checkpoint,
    objective: Objective,
    cautious: float,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Train a generator from an accuracy table and cost tables.

    Run it again with the same options to go on after an interruption.

    \b
    Example:
      pnag train --accuracy accuracy.csv --table cpu.json --out generator.safetensors
      pnag train --accuracy accuracy.csv --device pi5.json --device phone.json \\
          --table parameters.json --out fleet.safetensors
    """  # noqa: D301
    from ... import accuracy, credibility, outputs
    from ...costs import CostTable
    from ...generator import train_generator
    from ...threads import torch_threads

    inputs = [*device_paths, *table_paths, accuracy_path]
    if len(inputs) == 1:
        raise click.UsageError("say what budgets bound: --table, or --device for several devices")
    outputs.check(out, outputs.GENERATOR, inputs=inputs, force=force)
    state = checkpoint.beside(out)
    fitted = checkpoint._replace(path=None, holds="the accuracy model").beside(out, ".fitted")
    tables = [CostTable.load(path) for path in table_paths]
    devices = [CostTable.load(path) for path in device_paths]
    space = [*devices, *tables][0].space
    with working(state, fitted, quiet=as_json) as progress, torch_threads(1):
        if accuracy_path.suffix == ".csv":
            archs, top1 = accuracy.load_table(accuracy_path, space, objective=objective)
            fit = partial(accuracy.fit, seed=seed, objective=objective, progress=progress)
            model: AccuracyModel = kept_fits(fitted, fit, objective, [seed])(space, archs, top1)
        else:
            model = accuracy.load(accuracy_path, space)
        if cautious:
            model = model.cautious(cautious)
        generator = train_generator(
            space,
            model,
            tables,
            devices=devices or None,
            method=method,
            seed=seed,
            checkpoint=None if state is None else state.path,
            progress=progress,
        )
        generator.save(out)
    facts = {
        "generator": str(out),
        "objective": model.objective.to_json(),
        "accuracy_model": {"source": model.source, **model.report},
        "record": dict(generator.record),
        "reachable": reachable_of(generator),
        "warnings": credibility.of_generator(generator),
    }
    lines = [
        f"{_named(model)}: {model.source}; held out: {numbers(model.report)}",
        *reachable_lines(generator),
        f"written to {out}",
    ]
    answer(facts, lines, as_json=as_json)


def _named(model: AccuracyModel) -> str:
    from ...objective import TOP1

    return "accuracy model" if model.objective == TOP1 else f"model of {model.objective.title}"
