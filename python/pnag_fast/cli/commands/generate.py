"""``pnag generate``."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ... import arguments, quantities
from ...terminal import aligned, say, say_json
from .. import bounds, options
from ..tables import asked_device, devices_of

if TYPE_CHECKING:
    from ...costs import CostTable
    from ...generator import Generated, Generator
    from ...objective import Objective

# Asks for every device that a generator knows.
_ALL = "all"


@click.command()
@click.argument("path", metavar="GENERATOR", type=options.ANY_PATH)
@click.option(
    "--budget",
    "budgets",
    type=str,
    multiple=True,
    metavar="BOUND[,BOUND...]",
    help="Upper bounds, such as latency=20ms,parameters=5M: each a number in the table's unit or "
    "with its own, a share of the way from the cheapest to the dearest network such as 50%, or inf "
    "for none. Without names one for each cost, in their order. Repeat it for other budgets of the "
    "same costs, or for bounds of other costs, which then hold as well.",
)
@click.option(
    "--accuracy",
    "--quality",
    "qualities",
    multiple=True,
    help="Ask for the cheapest network that reaches it, such as 0.75 or 75%, within the bounds of "
    "--budget, if any; with --confidence by the model's lower bound. Repeatable.",
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    help="Whose cost is bounded: a device that the generator knows, 'all' of them, or the cost "
    "table (JSON) of any other; repeatable.",
)
@options.confidence
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
@click.option(
    "--evaluations",
    type=click.IntRange(0),
    help="Predictions that a search of its own may spend on each budget; default: 1000 where "
    "several costs are bounded, else none.",
)
@options.seed
@options.as_json
def generate(
    path: Path,
    budgets: tuple[str, ...],
    qualities: tuple[str, ...],
    devices: tuple[str, ...],
    confidence: float | None,
    on_infeasible: Literal["raise", "mark"],
    candidates: int | None,
    evaluations: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Print the architecture for a budget; needs neither torch nor TVM.

    \b
    Example:
      pnag generate quickstart/generator.safetensors --budget 50% --budget inf
      pnag generate quickstart/generator.safetensors --accuracy 80% --accuracy 90%
      pnag generate fleet.safetensors --device pi5 --confidence 0.95 \\
          --budget latency=20ms --budget parameters=8M
      pnag generate fleet.safetensors --device all --device new.json --budget 50%,inf
    """  # noqa: D301
    from ... import credibility
    from ...generator import Generated, Generator

    if not budgets and not qualities:
        raise click.UsageError("say what is wanted: --budget, or --accuracy")
    if qualities and not candidates is evaluations is None:
        raise click.UsageError("--candidates and --evaluations go with budgets, not --accuracy")
    generator = Generator.load(path)
    objective = generator.model.objective
    wanted = [_quality(text, objective) for text in qualities]
    views, calls = [], []
    for device in _asked(generator, devices):
        view = generator.on(device, confidence=confidence)
        vectors = bounds.vectors(budgets, view.tables)
        how: dict[str, Any] = {
            "device": device,
            "confidence": confidence,
            "on_infeasible": on_infeasible,
        }
        if wanted:
            calls += [partial(generator.cheapest, wanted, budgets=row, **how) for row in vectors]
        else:
            how.update(n_candidates=candidates, evaluations=evaluations, seed=seed)
            calls.append(partial(generator.generate, vectors, **how))
        views += [view] * len(vectors) * max(1, len(wanted))
    # The C++ tables are built on first use; ask once so that the time shown is that of an answer.
    for call in calls:
        call()
    started = time.perf_counter()
    parts = [call() for call in calls]
    elapsed_ms = 1000 * (time.perf_counter() - started)
    firsts = [sum(map(len, parts[:i])) for i in range(len(parts))]
    answers = Generated.joined(
        {
            tuple(range(first, first + len(part))): part
            for first, part in zip(firsts, parts, strict=True)
        }
    )
    warnings = credibility.distinct(*map(credibility.of_generator, views))
    asked = wanted * (len(answers) // len(wanted)) if wanted else [None] * len(answers)
    rows = list(_rows(answers, asked, views))
    if as_json:
        facts = {
            "space": generator.space.name,
            "accuracy_source": generator.model.source,
            "objective": objective.to_json(),
            "confidence": confidence,
            "elapsed_ms": elapsed_ms,
            "warnings": warnings,
            "answers": rows,
        }
        say_json(facts)
        return
    # What is not of the table goes where no program reads it.
    for line in warnings:
        say(f"WARNING: {line}", error=True)
    with_device = len(generator.devices) > 1 or len(devices) > 0
    for line in _lines(rows, views, objective, with_device=with_device):
        say(line)
    for note in dict.fromkeys(filter(None, answers.notes)):
        say(note, error=True)
    held = f"; bounds hold with {100 * confidence:g} %" if confidence is not None else ""
    say(
        f"({elapsed_ms:.1f} ms; {objective.title} is predicted: {generator.model.source}{held})",
        error=True,
    )


def _asked(generator: Generator, devices: Sequence[str]) -> list[str | CostTable | None]:
    """Return the devices that were asked for."""
    if not devices:
        return [asked_device(generator, None)]
    asked: list[str | CostTable | None] = []
    known = devices_of(generator)
    for device in devices:
        asked += (
            known if device == _ALL and _ALL not in known else [asked_device(generator, device)]
        )
    return asked


def _quality(text: str, objective: Objective) -> float:
    """Read what is to be reached; fractions also in percent."""
    percent = objective.is_fraction and text.strip().endswith("%")
    try:
        value = float(text.strip().removesuffix("%") if percent else text)
    except ValueError:
        raise click.BadParameter(
            f"{objective.name} is a number{' or a percentage' if objective.is_fraction else ''}, "
            f"found {arguments.shown(text)}",
            param_hint="--accuracy",
        ) from None
    if objective.is_fraction and not percent and 1 < value <= 100:
        raise click.BadParameter(
            f"{objective.name} is a fraction or a percentage: write {text.strip()}%",
            param_hint="--accuracy",
        )
    return value / 100 if percent else value


def _rows(
    answers: Generated, asked: Sequence[float | None], views: Sequence[Generator]
) -> Iterator[dict[str, Any]]:
    """Say what is known of each answer, JSON; null where there is none, and for an open cost."""
    for row, view in enumerate(views):
        known = bool(answers.feasible[row])
        arch = answers.archs[row]
        yield {
            "device": answers.devices[row],
            # JSON knows no infinity.
            "budget": [v if math.isfinite(v) else None for v in answers.budgets[row].tolist()],
            "quality": asked[row],
            "feasible": known,
            "arch": view.space.to_strings(arch[None])[0] if known else None,
            "codes": arch.tolist() if known else None,
            "costs": answers.costs[row].tolist() if known else None,
            "costs_std": answers.costs_std[row].tolist() if known else None,
            "metrics": [table.metric for table in view.tables],
            "units": [table.unit or table.metric for table in view.tables],
            "top1": float(answers.top1[row]) if known else None,
            "top1_std": float(answers.top1_std[row]) if known else None,
            "source": answers.source[row],
            "note": answers.notes[row],
        }


def _lines(
    rows: Sequence[dict[str, Any]],
    views: Sequence[Generator],
    objective: Objective,
    *,
    with_device: bool,
) -> list[str]:
    """Lay the answers out as a table."""
    tables = views[0].tables
    unit = "%" if objective.is_fraction else objective.unit
    asking = any(row["quality"] is not None for row in rows)
    # A bound that nobody gave needs no column.
    bounded = [i for i in range(len(tables)) if any(row["budget"][i] is not None for row in rows)]
    if not asking:
        bounded = list(range(len(tables)))
    costs = quantities.names(tables, apart=with_device)
    names = ["budget"] if len(tables) == 1 else [f"{name} budget" for name in costs]
    head = [
        *(["device"] if with_device else []),
        *([f"at least {unit}" if objective.direction == "max" else f"at most {unit}"] * asking),
        *(names[i] for i in bounded),
        *quantities.labels(tables, apart=with_device),
        f"{objective.name} {unit}".rstrip(),
        "from",
        "architecture",
    ]
    cells = []
    for row, view in zip(rows, views, strict=True):
        line = [row["device"]] if with_device else []
        if asking:
            line.append(objective.number(row["quality"]))
        line += [
            quantities.shown(
                math.inf if row["budget"][i] is None else row["budget"][i], tables[i].unit, 6
            )
            for i in bounded
        ]
        if row["feasible"]:
            units = [of.unit for of in view.tables]
            line += map(quantities.with_std, row["costs"], row["costs_std"], units)
            # Nothing stands behind what was measured, and what a model without a deviation says.
            sure = objective.with_std(row["top1"], row["top1_std"])
            line.append(sure if row["top1_std"] else objective.number(row["top1"]))
        else:
            line += ["-"] * (len(tables) + 1)
        cells.append([*line, row["source"], row["arch"] or "-"])
    return aligned(head, cells, left=2)
