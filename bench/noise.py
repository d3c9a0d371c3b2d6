#!/usr/bin/env python3
"""Say what noise of the answers costs a search, and what neighbourhoods save of it.

python bench/noise.py --data ../shared/data

NAS-Bench-201 at 12 epochs: a cell's answer is its accuracy and a normal error, drawn once for each
cell, with a standard deviation of 3 points, or none. Random search and pf.search.neighborhood are
judged by the true accuracy of what their fronts name: of the best within each of the budgets of
searches_problems.py, and of the best of all. Points of top-1 below the best cell, and how many of
these neighbourhoods save, mean over devices and seeds; +- the standard error over seeds, which
share what noise they have on all devices.

"equal questions": both ask as often. "equal centres": with ``first=0`` random centres are asked
with all of their neighbours, and random search asks as many architectures as there are centres;
"(paper)" is with ``own=0, prior=0``, which judges nothing but centres. The settings were chosen on
CIFAR-10, which is why it is not among the sets.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import pnag_fast as pf
from pnag_fast.runs import Arrays
from pnag_fast.search import Front
from pnag_fast.search.method import search_function
from pnag_fast.search.methods.neighborhood import Neighborhood
from pnag_fast.search.problem import Problem
from pnag_fast.typing import FloatArray
from searches_problems import Asking, Cells, devices, problem

SETS = ("cifar100-test", "imagenet-test")
NOISE = 3.0
PAPER = {"own": 0, "prior": 0}
# What is printed: title, noise, questions, settings.
ROWS: tuple[tuple[str, float, int, dict[str, Any]], ...] = (
    ("equal questions", NOISE, 300, {}),
    ("equal questions", NOISE, 1000, {}),
    ("equal questions", 0.0, 300, {}),
    ("equal questions", 0.0, 1000, {}),
    ("equal centres (paper)", NOISE, 6000, PAPER),
    ("equal centres", NOISE, 6000, {}),
    ("equal centres (paper)", 0.0, 6000, PAPER),
    ("equal centres", 0.0, 6000, {}),
    ("equal centres (paper)", NOISE, 13_500, PAPER),
)

_centers: list[int] = []


@dataclass(frozen=True, eq=False)
class Counting(Neighborhood):
    """The same, and writes down how many centres it had."""

    def front(self, problem: Problem, state: Arrays) -> Front:
        _centers.append(int((state["status"] == 1).sum()))
        return super().front(problem, state)


def below(cells: Cells, front: Front) -> tuple[float, float]:
    """Points below the best: mean over budgets, and of the best of all."""
    true = cells.top1[cells.rows(front.archs)]
    at = front.best(cells.budgets[:, None])
    known = np.where(at >= 0, true[at], cells.top1.min())
    within = cells.costs <= cells.budgets[:, None]
    best = np.where(within, cells.top1, 0).max(axis=1)
    free = cells.top1.max() - true[front.top1.argmax()]
    return 100 * float((best - known).mean()), 100 * float(free)


def compare(
    cells: Cells, seed: int, noise: float, questions: int, settings: dict[str, Any], *, first: bool
) -> tuple[FloatArray, int, float]:
    """Return points below of random search and of neighbourhoods, what the first asked, CPU s."""
    common: dict[str, Any] = {"seed": seed, "threads": 1}
    asking = Asking(cells, noise=noise, seed=seed)
    start = time.process_time()
    around = search_function(Counting)(
        cells.space, asking.oracle(), [cells.table], evaluations=questions, **common, **settings
    )
    seconds = time.process_time() - start
    n = questions if first else _centers[-1]
    single = pf.search.random(
        cells.space,
        Asking(cells, noise=noise, seed=seed).oracle(),
        [cells.table],
        evaluations=n,
        **common,
    )
    return np.array([below(cells, single), below(cells, around)]), n, seconds


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--devices", nargs="*", help="default: all that have a table")
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", choices=["questions", "centres"], help="default: both")
    chosen = parser.parse_args(arguments)
    names = devices(chosen.data) if chosen.devices is None else tuple(chosen.devices)
    print(f"{len(names)} devices, {chosen.seeds} seeds")
    print(
        "| | noise | questions | set | random asks | within budgets: random, neighbourhoods, saved "
        "| best of all: random, neighbourhoods, saved | CPU s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for title, noise, questions, settings in ROWS:
        if chosen.only is not None and not title.startswith(f"equal {chosen.only}"):
            continue
        equal = title == "equal questions"
        own = settings if equal else {"first": 0, "samples": None, **settings}
        for data_set in chosen.sets:
            found, asked, seconds = [], [], []
            for seed in range(chosen.seeds):
                runs = [
                    compare(
                        problem(chosen.data, name, data_set), seed, noise, questions, own,
                        first=equal,
                    )
                    for name in names
                ]  # fmt: skip
                found.append(np.mean([run[0] for run in runs], axis=0))
                asked += [run[1] for run in runs]
                seconds += [run[2] for run in runs]
            print(
                line(title, noise, questions, data_set, np.array(found), asked, seconds), flush=True
            )


def line(
    title: str,
    noise: float,
    questions: int,
    data_set: str,
    found: FloatArray,
    asked: list[int],
    seconds: list[float],
) -> str:
    """One row of the table; `found` is (seeds, two searches, two figures)."""
    cells = []
    for figure in (0, 1):
        single, around = found[:, :, figure].T
        saved = single - around
        error = saved.std(ddof=min(1, len(saved) - 1)) / np.sqrt(len(saved))
        cells.append(f"{single.mean():.2f}, {around.mean():.2f}, {saved.mean():+.2f} ± {error:.2f}")
    return (
        f"| {title} | {noise:g} | {questions:,} | {data_set} | {np.mean(asked):,.0f} | "
        f"{' | '.join(cells)} | {np.mean(seconds):.2f} |"
    )


if __name__ == "__main__":
    main()
