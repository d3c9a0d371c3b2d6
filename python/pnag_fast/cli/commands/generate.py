"""``pnag generate``."""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import Literal

import click

from ...terminal import aligned, say, say_json
from .. import options


def _budget(text: str) -> tuple[float, bool]:
    """Read a budget: a number, and whether it is a percentage of the range."""
    share = text.strip().endswith("%")
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError as error:
        raise click.BadParameter(
            f"a budget is a number, a percentage or inf: {error}", param_hint="--budget"
        ) from error
    if share and not 0 <= value <= 100:
        raise click.BadParameter(
            f"a share of the range is from 0% to 100%, found {text}", param_hint="--budget"
        )
    return value, share


def _bound(value: float, share: bool, bounds: tuple[float, float]) -> float:
    low, high = bounds
    if not share:
        return value
    return high if value == 100 else low + (high - low) * value / 100


@click.command()
@click.argument("path", metavar="GENERATOR", type=options.ANY_PATH)
@click.option(
    "--budget",
    "budgets",
    type=str,
    multiple=True,
    required=True,
    help="Upper bound in the table's unit, a share of the way from the cheapest to the dearest "
    "network such as 50%, or inf for none; comma-separated for several costs; repeatable.",
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
    """  # noqa: D301
    from ... import credibility
    from ...generator import Generator

    parsed = [[_budget(part) for part in budget.split(",")] for budget in budgets]
    generator = Generator.load(path)
    tables = generator.tables
    if any(len(row) != len(tables) for row in parsed):
        costs = ", ".join(table.describe() for table in tables)
        raise click.BadParameter(
            f"this generator takes one number for each of: {costs}", param_hint="--budget"
        )
    wanted = [
        [_bound(*part, table.bounds) for part, table in zip(row, tables, strict=True)]
        for row in parsed
    ]
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
    head = [f"budget {unit}" for unit in units] + [f"cost {unit}" for unit in units]
    rows = [
        [f"{v:g}" for v in answers.budgets[i]]
        + (
            ["-"] * (len(units) + 1)
            if name is None
            else [f"{v:.4g}" for v in answers.costs[i]]
            + [objective.with_std(answers.top1[i], answers.top1_std[i])]
        )
        + [answers.source[i], name or "-"]
        for i, name in enumerate(names)
    ]
    unit = "%" if objective.is_fraction else objective.unit
    head = [*head, f"{objective.name} {unit}".rstrip(), "from", "architecture"]
    for line in aligned(head, rows, left=2):
        say(line)
    for note in dict.fromkeys(filter(None, answers.notes)):
        say(note, error=True)
    say(
        f"({elapsed_ms:.1f} ms; {objective.title} is predicted: {generator.model.source})",
        error=True,
    )
