#!/usr/bin/env python3
"""Do budgets hold on this machine? Confirm the answers again and again, and measure them afresh.

python bench/confirm.py --quickstart quickstart --runs 10
python bench/confirm.py --generator ofa.safetensors --table ofa.json --runs 3

With a finished quickstart, its supernet and what was judged with it are copied, and every run
measures a cost table, chooses what else to judge by it, trains a generator, and confirms its
answers, all anew. With a generator and a
table measured on this machine, every run confirms answers for that table. Each line says how many
answers were measured within their budgets, in how many rounds, what they lose in accuracy to those
of the uncorrected table, and how many are within when they are measured once more afterwards; then
how often the 90 % interval of the uncorrected table held what was measured.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.quickstart import QuickstartSettings
from pnag_fast.quickstart import run as run_quickstart

FloatArray = npt.NDArray[np.float64]

# What the steps before the cost table made.
KEPT = ("run.json", "supernet.safetensors")
# And what was judged then, in the folder of unfinished work: it is not judged again.
JUDGED = "judged-*.json"
# Of a normal distribution, within which 90 % lie.
NINETY = 1.645


@dataclass
class Outcome:
    """One run, in the order of the budgets."""

    budgets: FloatArray
    measured: FloatArray
    fresh: FloatArray
    top1: FloatArray
    uncorrected: FloatArray
    deviations: FloatArray
    rounds: int
    seconds: float
    notes: list[str] = field(default_factory=list)

    def line(self, number: int) -> str:
        n = len(self.budgets)
        excess = np.maximum(self.fresh / self.budgets[:, None] - 1, 0)
        again = "/".join(str(k) for k in (excess == 0).sum(axis=0).tolist())
        return (
            f"run {number}: {int((self.measured <= self.budgets).sum())} of {n} within, "
            f"{self.rounds} rounds, {100 * np.mean(self.uncorrected - self.top1):.3f} points lost, "
            f"{100 * np.mean(1 - self.measured / self.budgets):.1f} % left, measured again {again} "
            f"within (worst {100 * excess.max():.1f} % above), {self.seconds:.0f} s"
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quickstart", type=Path, help="folder of a finished quickstart")
    add("--generator", type=Path, help="a generator")
    add("--table", type=Path, help="a latency table of this machine, for --generator")
    add("--runs", type=int, default=10, help="default: 10")
    add("--budgets", type=int, default=8, help="default: 8")
    add("--evaluations", type=int, default=30_000, help="of each round's search; default: 30000")
    add("--passes", type=int, default=10, help="of --generator's measurements; default: 10")
    add("--fresh", type=int, default=2, help="measurements afterwards; default: 2")
    add("--work", type=Path, help="folder for the runs, kept; default: a temporary one")
    arguments = parser.parse_args()
    if (arguments.quickstart is None) == (arguments.generator is None) or (
        (arguments.generator is None) != (arguments.table is None)
    ):
        parser.error("give --quickstart, or --generator and --table")
    with tempfile.TemporaryDirectory(prefix="pnag-confirm-") as temporary:
        work = Path(temporary) if arguments.work is None else arguments.work
        try:
            summarise(list(outcomes(arguments, work)))
        except pf.PnagError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


def outcomes(arguments: argparse.Namespace, work: Path) -> Iterator[Outcome]:
    for number in range(arguments.runs):
        folder = files.make_folder(work / f"run-{number}")
        if arguments.quickstart is not None:
            outcome = of_quickstart(arguments, folder)
        else:
            outcome = of_generator(arguments, folder, number)
        print(outcome.line(number), flush=True)
        for note in outcome.notes:
            print(f"  {note}")
        yield outcome


def of_quickstart(arguments: argparse.Namespace, folder: Path) -> Outcome:
    """Run the quickstart from its cost table on."""
    for name in KEPT:
        if not (folder / name).exists():
            shutil.copy(arguments.quickstart / name, folder / name)
    work = files.make_folder(folder / "work")
    for path in (arguments.quickstart / "work").glob(JUDGED):
        if not (work / path.name).exists():
            shutil.copy(path, work / path.name)
    settings = files.read_json(folder / "run.json", "pnag-run", 1)["identity"]["settings"]
    settings = {**settings, "budgets": arguments.budgets}
    start = time.monotonic()
    report = run_quickstart(folder, settings=QuickstartSettings(**settings), progress=told)
    seconds = time.monotonic() - start
    before = pf.Generator.load(folder / "generator.safetensors")
    archs = before.space.from_strings([answer.arch for answer in report.answers])
    budgets = np.array([answer.budget_ms for answer in report.answers])
    measured = np.array([answer.measured_latency_ms for answer in report.answers])
    mean, std = before.tables[0](archs, return_std=True)
    timer = pf.latency.timer(before.tables[0], sessions=arguments.fresh)
    return Outcome(
        budgets,
        measured,
        timer(archs),
        before.model.predict(archs),
        before.generate(budgets, seed=settings["seed"]).top1,
        (measured - mean) / std,
        int(report.sections["Measured on the device"]["rounds"]),
        seconds,
        list(report.warnings),
    )


def of_generator(arguments: argparse.Namespace, folder: Path, number: int) -> Outcome:
    """Confirm the answers of a generator for a table."""
    table = pf.CostTable.load(arguments.table)
    generator = pf.Generator.load(arguments.generator)
    generator = generator.adapt(table, evaluations=arguments.evaluations, seed=number).on(table)
    low, high = table.bounds
    budgets = low + (high - low) * (np.arange(arguments.budgets) + 0.5) / arguments.budgets
    start = time.monotonic()
    found = pf.latency.confirm(
        generator,
        budgets,
        pf.latency.timer(table, passes=arguments.passes, checkpoint=folder / "measured"),
        evaluations=arguments.evaluations,
        seed=number,
        checkpoint=folder / "confirmed.jsonl",
        progress=told,
    )
    seconds = time.monotonic() - start
    mean, std = table(found.archs, return_std=True)
    timer = pf.latency.timer(table, passes=arguments.passes, sessions=arguments.fresh)
    return Outcome(
        budgets,
        found.measured,
        timer(found.archs),
        found.top1,
        generator.generate(budgets, seed=number).top1,
        (found.measured - mean) / std,
        found.n_rounds,
        seconds,
        [note for note in found.notes if note],
    )


def told(description: str, _done: int, total: int) -> None:
    if not total:
        print(f"  {description}", file=sys.stderr, flush=True)


def summarise(runs: list[Outcome]) -> None:
    within = [bool((run.measured <= run.budgets).all()) for run in runs]
    lost = [100 * float(np.mean(run.uncorrected - run.top1)) for run in runs]
    fresh = [float(np.mean(run.fresh <= run.budgets[:, None])) for run in runs]
    inside = [float(np.mean(np.abs(run.deviations) <= NINETY)) for run in runs]
    print(
        f"\nall within in {sum(within)} of {len(runs)} runs; rounds "
        f"{max(run.rounds for run in runs)} at most; points lost {np.mean(lost):.3f} on average, "
        f"{max(lost):.3f} at most; measured again {100 * np.mean(fresh):.1f} % within; the 90 % "
        f"interval of the uncorrected table holds {100 * np.mean(inside):.0f} %"
    )


if __name__ == "__main__":
    sys.exit(main())
