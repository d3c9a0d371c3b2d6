"""``pnag table show``."""

from __future__ import annotations

from pathlib import Path

import click

from .... import quantities
from ....terminal import aligned
from ... import options
from ...output import answer
from ...tables import facts_of, lines_of

# Slots that are listed, the dearest first.
_SHOWN_SLOTS = 5


@click.command()
@click.argument("path", metavar="TABLE", type=options.EXISTING)
@click.option(
    "--arch",
    "archs",
    multiple=True,
    help="Say what this architecture costs, in the notation of the space; repeatable.",
)
@options.seed
@options.as_json
def show(path: Path, archs: tuple[str, ...], seed: int, as_json: bool) -> None:
    """Say what a table knows, how surely, and what costs most.

    \b
    Example:
      pnag table show quickstart/cost_table.json
    """  # noqa: D301
    from .... import costs

    table = costs.CostTable.load(path)
    facts = facts_of(table, seed=seed)
    asked = table.space.from_strings(archs)
    cost, std = table(asked, return_std=True)
    facts["archs"] = [
        {"arch": arch, "cost": value, "std": spread}
        for arch, value, spread in zip(archs, cost.tolist(), std.tolist(), strict=True)
    ]
    lines = lines_of(table, facts)
    slots = sorted(facts["slots"], key=lambda slot: (-slot["share"], -slot["mean"]))[:_SHOWN_SLOTS]
    rows = [
        [
            f"{100 * slot['share']:.1f} %",
            f"{slot['mean']:.4g}",
            f"{slot['range']:.4g}",
            slot["slot"],
        ]
        for slot in slots
    ]
    lines += ["", *aligned(["share", f"mean {table.unit}", "between choices", "slot"], rows)]
    if archs:
        rows = [
            [quantities.with_std(row["cost"], row["std"], table.unit), row["arch"]]
            for row in facts["archs"]
        ]
        lines += ["", *aligned([f"{table.metric} {table.unit}", "architecture"], rows)]
    answer(facts, lines, as_json=as_json)
