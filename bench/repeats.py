"""What asking again is worth where answers to the same question differ.

    python bench/repeats.py ../shared/data

NAS-Bench-201, 12 epochs: to every answer normal noise is added, drawn anew each time. Three ways to
spend 300 questions by `pf.search.active`: each architecture once and every answer taken for the
truth; once, but told how much answers differ; and up to eight answers about one architecture, of
which the search learns how much they differ. Of the answers to 200 budgets: points below the best
cell within the budget, and by how much the front promises more than is true.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import pnag_fast as pf
import searches_problems
from pnag_fast.spaces import Archs
from pnag_fast.typing import FloatArray
from searches_problems import Cells

WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("once, taken for the truth", {}),
    ("once, `noise=` told", {"noise": True}),
    ("`repeats=8`", {"repeats": 8}),
)


class Noisy:
    """The accuracy of cells, with noise that every answer has anew; counts the questions."""

    def __init__(self, cells: Cells, noise: float, seed: int) -> None:
        self.cells, self.noise = cells, noise
        self.rng = np.random.default_rng([seed, 13])
        self.times: Counter[int] = Counter()

    def __call__(self, archs: Archs) -> FloatArray:
        rows = self.cells.rows(archs)
        self.times.update(rows.tolist())
        answers = self.cells.top1[rows] + self.rng.normal(0, self.noise, len(rows))
        return np.asarray(answers.clip(0, 1))


def measure(
    cells: Cells, noise: float, seed: int, settings: dict[str, Any], questions: int
) -> tuple[float, float, float, float]:
    """Points below the best, points promised too much, architectures asked, CPU seconds."""
    judge = Noisy(cells, noise, seed)
    told = {"noise": noise} if settings.get("noise") else settings
    oracle = pf.accuracy.oracle(cells.space, judge, source="noisy", **told)
    start = time.process_time()
    front = pf.search.active(
        cells.space, oracle, [cells.table], evaluations=questions, seed=seed, threads=1
    )
    seconds = time.process_time() - start
    answer = front.best(cells.budgets[:, None])
    true = cells.top1[cells.rows(front.archs)]
    within = cells.costs <= cells.budgets[:, None]
    best = np.where(within, cells.top1, 0).max(axis=1)
    found = np.where(answer >= 0, true[answer], cells.top1.min())
    promised = np.where(answer >= 0, front.top1[answer] - true[answer], 0.0)
    return (
        100 * float((best - found).mean()),
        100 * float(promised.mean()),
        len(judge.times),
        seconds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--devices", nargs="+", default=["titanx_1", "fpga"])
    parser.add_argument("--sets", nargs="+", default=["cifar10-test", "cifar100-test"])
    parser.add_argument("--noise", type=float, nargs="+", default=[0.5, 1.5, 3.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--questions", type=int, default=300)
    given = parser.parse_args()
    print("| noise, points | asked | below the best | promised too much | architectures | CPU s |")
    print("|---|---|---|---|---|---|")
    for noise in given.noise:
        for name, settings in WAYS:
            runs = [
                measure(cells, noise / 100, seed, settings, given.questions)
                for cells in searches_problems.problems(given.data, given.devices, given.sets)
                for seed in range(given.seeds)
            ]
            below, much, archs, seconds = np.mean(runs, axis=0)
            print(
                f"| {noise:g} | {name} | {below:.2f} | {much:+.2f} | {archs:.0f} | {seconds:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
