"""``pnag generate``."""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import Literal

import click

from ...terminal import aligned, say, say_json
from .. import bounds, options


@click.command()
@click.argument("path", metavar="GENERATOR", type=options.ANY_PATH)
@click.option(
    "--budget",
    "budgets",
    type=str,
    multiple=True,
    required=True,
    metavar="BOUND[,BOUND...]",
    help="Upper bounds, such as latency=20ms,parameters=5M: each a number in the table's unit or "
    "with its own, a share of the way from the cheapest to the dearest network such as 50%, or inf "
    "for none. Without names one for each cost, in their order. Repeat it for other budgets of the "
    "same costs, or for bounds of other costs, which then hold as well.",
)
@click.option(
    "--on-infeasible",
    type=click.Choice(["raise", "mark"]),
    default="raise",
    show_default=True,
    help="Whether a budget that no architecture meets ends the command, or is marked in its row.",
)
@click.option(
    "--candidates",
    type=click.IntRange(1),
    help="Proposals of the policy per budget; default: 5, for PNAG's policy 32.",
)
@options.seed
@options.as_json
def generate(
    path: Path,
    budgets: tuple[str, ...],
    on_infeasible: Literal["raise", "mark"],
    candidates: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Print the architecture for a budget; needs neither torch nor TVM.

    \b
    Example:
      pnag generate quickstart/generator.safetensors --budget 50% --budget inf
      pnag generate several.safetensors --budget latency=20ms --budget parameters=5M
    """  # noqa: D301
    from ... import credibility
    from ...generator import Generator

    generator = Generator.load(path)
    tables = generator.tables
    wanted = bounds.vectors(budgets, tables)
    warnings = credibility.of_generator(generator)
    ask = partial(
        generator.generate, n_candidates=candidates, on_infeasible=on_infeasible, seed=seed
    )
    # The C++ tables are built on first use; ask once so that the time shown is that of an answer.
    ask(wanted[:1])
    started = time.perf_counter()
    answers = ask(wanted)
    elapsed_ms = 1000 * (time.perf_counter() - started)
    feasible = answers.feasible
    notations = iter(generator.space.to_strings(answers.archs[feasible]))
    names = [next(notations) if answered else None for answered in feasible]
    units = [table.unit or table.metric for table in tables]
    objective = generator.model.objective
    if as_json:
        say_json(
            {
                "space": generator.space.name,
                "accuracy_source": generator.model.source,
                "objective": objective.to_json(),
                "elapsed_ms": elapsed_ms,
                "warnings": warnings,
                "answers": [
                    {
                        # JSON knows no infinity: null is a cost that was left open.
                        "budget": [v if math.isfinite(v) else None for v in row.tolist()],
                        "feasible": name is not None,
                        "arch": name,
                        "codes": None if name is None else answers.archs[i].tolist(),
                        "costs": None if name is None else answers.costs[i].tolist(),
                        "metrics": [table.metric for table in tables],
                        "units": units,
                        "top1": None if name is None else float(answers.top1[i]),
                        "top1_std": None if name is None else float(answers.top1_std[i]),
                        "source": answers.source[i],
                        "note": answers.notes[i],
                    }
                    for i, (row, name) in enumerate(zip(answers.budgets, names, strict=True))
                ],
            }
        )
        return
    # What is not of the table goes where no program reads it.
    for line in warnings:
        say(f"WARNING: {line}", error=True)
    labels = bounds.labels(tables)
    asked = ["budget"] if len(tables) == 1 else [f"{name} budget" for name in bounds.names(tables)]
    rows = [
        [bounds.shown(v, table, 6) for v, table in zip(answers.budgets[i], tables, strict=True)]
        + (
            ["-"] * (len(tables) + 1)
            if name is None
            else [bounds.shown(v, table) for v, table in zip(answers.costs[i], tables, strict=True)]
            + [objective.with_std(answers.top1[i], answers.top1_std[i])]
        )
        + [answers.source[i], name or "-"]
        for i, name in enumerate(names)
    ]
    unit = "%" if objective.is_fraction else objective.unit
    head = [*asked, *labels, f"{objective.name} {unit}".rstrip(), "from", "architecture"]
    for line in aligned(head, rows, left=2):
        say(line)
    for note in dict.fromkeys(filter(None, answers.notes)):
        say(note, error=True)
    say(
        f"({elapsed_ms:.1f} ms; {objective.title} is predicted: {generator.model.source})",
        error=True,
    )
