"""How commands answer: one JSON document for a program, or lines for a person."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..terminal import aligned, say, say_json

if TYPE_CHECKING:
    from ..report import FrontReport


def answer(facts: Mapping[str, Any], lines: Iterable[str], *, as_json: bool) -> None:
    """Print what a command found out: `facts` as JSON, or `lines` for a person.

    Parameters
    ----------
    facts : mapping
        Where it has ``"warnings"``, they come before the lines: a reader has to know them first.
    lines : iterable of str
        Not asked for with `as_json`.
    """
    if as_json:
        say_json(facts)
        return
    warnings = facts.get("warnings", ())
    for line in warnings:
        say(f"WARNING: {line}")
    if warnings:
        say()
    for line in lines:
        say(line)


def numbers(facts: Any) -> str:
    """Return the numbers among `facts` in one line."""
    found = facts.items() if isinstance(facts, Mapping) else ()
    texts = [f"{key} {value:.4g}" for key, value in found if isinstance(value, (int, float))]
    return ", ".join(texts) or "not compared"


def answer_report(report: FrontReport, folder: Path, *, as_json: bool) -> None:
    """Print the report of a run in `folder`."""
    findings = report.findings()
    facts = {
        "space": report.space,
        "device": report.device,
        "answers": [dataclasses.asdict(answer) for answer in report.answers],
        "objective": report.objective.to_json(),
        "cost": {"metric": report.metric, "unit": report.unit},
        "slowdown": report.slowdown,
        "warnings": list(report.warnings),
        "findings": findings,
        "report": str(folder / "report.html"),
    }
    lines = [
        *aligned(report.head, report.table()),
        "",
        *findings,
        "",
        f"The whole story: {folder / 'report.html'}",
    ]
    answer(facts, lines, as_json=as_json)
