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
    "--cost",
    "cost_paths",
    type=options.EXISTING,
    multiple=True,
    required=True,
    help="Cost table (JSON).",
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
    cost_paths: tuple[Path, ...],
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
      pnag train --accuracy accuracy.csv --cost cpu.json --out generator.safetensors
    """  # noqa: D301
    from ... import accuracy, credibility, outputs
    from ...budgets import reach
    from ...costs import CostTable
    from ...generator import train_generator
    from ...threads import torch_threads

    outputs.check(out, outputs.GENERATOR, inputs=[*cost_paths, accuracy_path], force=force)
    state = checkpoint.beside(out)
    fitted = checkpoint._replace(path=None, holds="the accuracy model").beside(out, ".fitted")
    tables = [CostTable.load(path) for path in cost_paths]
    space = tables[0].space
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
        "reachable": [
            {"metric": t.metric, "unit": t.unit, "device": t.device, "range": list(t.bounds)}
            for t in generator.tables
        ],
        "warnings": credibility.of_generator(generator),
    }
    lines = [
        f"{_named(model)}: {model.source}; held out: {numbers(model.report)}",
        *(f"reachable: {reach(table)} on {table.device}" for table in generator.tables),
        f"written to {out}",
    ]
    answer(facts, lines, as_json=as_json)


def _named(model: AccuracyModel) -> str:
    from ...objective import TOP1

    return "accuracy model" if model.objective == TOP1 else f"model of {model.objective.title}"
