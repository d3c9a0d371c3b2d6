"""CompOFA's claims at a scale that one CPU core can test. Prints tables in markdown.

    python bench/supernet.py                    # digits, mbv3-tiny, 3 seeds: about 3 CPU minutes
    python bench/supernet.py --epochs 24 --seeds 5

Both recipes get the same epochs for each long stage, in one process and on the same load; seconds
are CPU seconds. Each network is judged with batch-norm statistics of its own. Searches see
validation images only; every accuracy that is printed is of test images.
"""

# ruff: noqa: E402 - the number of threads has to be set before numpy is imported

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np
import torch

import pnag_fast as pf
from pnag_fast.spaces import Archs
from pnag_fast.typing import FloatArray

T = TypeVar("T")

SPACE = "mbv3-tiny"
RECIPES = ("compound", "progressive")

# Networks of the full space for each coupled one, of the same multiply-adds within 2 %.
FREE = 4
TOLERANCE = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3, help="of each long stage")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--resolution", type=int, default=16)
    parser.add_argument("--tiny", action="store_true", help="only proves that every line runs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    space = pf.spaces.get(SPACE, resolutions=(given.resolution,))
    print(
        f"{SPACE}, digits at {given.resolution} px, {given.epochs} epochs a long stage, seeds 0 to "
        f"{given.seeds - 1}, torch {torch.__version__}, 1 thread\n"
    )
    coupled = len(pf.supernet.compound_architectures(space))
    tables: dict[str, dict[str, list[list[float]]]] = {title: {} for title in HEADS}
    for seed in range(given.seeds):
        for title, rows in one_seed(space, seed, given.epochs, tiny=given.tiny).items():
            for label, row in rows.items():
                tables[title].setdefault(label, []).append(row)
        # After every seed, so that a run that is stopped has said something.
        print(f"Seeds 0 to {seed}: mean (lowest to highest)")
        for title, head in HEADS.items():
            print("\n" + head.format(coupled=coupled))
            for label, found in tables[title].items():
                columns = zip(np.array(found).T, DIGITS[title], strict=True)
                print(f"| {label} | " + " | ".join(_spread(*cell) for cell in columns) + " |")
        print(flush=True)


HEADS = {
    "training": (
        "| recipe | training, CPU s | mean top-1 of the {coupled} coupled | best of them |\n"
        "|---|---:|---:|---:|"
    ),
    "front": "| networks | supernet's recipe | mean top-1 | hypervolume |\n|---|---|---:|---:|",
    "search": (
        "| search | supernet's recipe | networks judged | evaluations | judging and fitting, CPU s "
        "| search, CPU s | top-1 |\n|---|---|---:|---:|---:|---:|---:|"
    ),
}
DIGITS = {"training": (1, 4, 4), "front": (4, 4), "search": (0, 0, 2, 5, 4)}


def one_seed(
    space: pf.SearchSpace, seed: int, epochs: int, *, tiny: bool = False
) -> dict[str, dict[str, list[float]]]:
    """Train by both recipes and judge; rows of the tables, by label."""
    data = pf.data.load_digits(space.resolutions[0], seed=seed)
    evolution: dict[str, Any] = {}
    if tiny:
        few = [
            pf.data.Split(part.images[:100], part.labels[:100])
            for part in (data.train, data.validation, data.test)
        ]
        data = dataclasses.replace(data, train=few[0], validation=few[1], test=few[2])
        evolution = {"population": 10, "generations": 2}
    macs = pf.costs.macs(space)
    coupled = pf.supernet.compound_architectures(space)
    centres = macs(coupled)
    windows = [((1 - TOLERANCE) * c, (1 + TOLERANCE) * c) for c in centres]
    # The first `len(coupled)` rows hold one of each window.
    free = np.concatenate(
        [
            space.sample(1, seed=1000 * seed + 100 * copy + i, within=(macs, *window))
            for copy in range(FREE)
            for i, window in enumerate(windows)
        ]
    )
    budgets = np.linspace(centres.min(), centres.max(), 6)[1:, None]
    trainings: dict[str, list[float]] = {}
    fronts: dict[str, list[float]] = {}
    searches: dict[str, list[float]] = {}

    def add_front(label: str, archs: Archs, top1: FloatArray) -> None:
        low, high = macs.bounds
        points = np.column_stack([(macs(archs) - low) / (high - low), 1 - top1])
        volume = pf.pareto.hypervolume(points, np.array([1.0, 1.0]))
        fronts[f"{len(archs)} {label} | {recipe}"] = [float(top1.mean()), volume]

    for recipe in RECIPES:
        net = pf.supernet.build(space, seed=seed)
        train = partial(pf.supernet.train, net, data, recipe=recipe, epochs=epochs, seed=seed)
        training, _ = _timed(partial(train, progress=_say))
        judge = partial(pf.supernet.evaluate, net, data=data, progress=_say)
        top1 = judge(coupled, split="test")
        trainings[recipe] = [training, float(top1.mean()), float(top1.max())]
        _say(f"{recipe}: {training:.1f} CPU s, top-1 {top1.mean():.4f}", 0, 0)
        add_front("coupled", coupled, top1)

        def answers(archs: Archs, known: FloatArray, judge: Callable[..., FloatArray]) -> float:
            """Test accuracy of the best known network within each budget, mean over budgets."""
            front = pf.search.Front.of(
                archs,
                known,
                macs(archs)[:, None],
                [macs],
                accuracy_source="",
                evaluations=0,
                seconds=0.0,
            )
            return float(judge(front.archs[front.best(budgets)], split="test").mean())

        judging, known = _timed(partial(judge, coupled, split="validation"))
        searches[f"every coupled network, judged | {recipe}"] = [
            len(coupled),
            len(coupled),
            judging,
            0.0,
            answers(coupled, known, judge),
        ]
        if recipe == "compound":
            continue
        free_top1 = judge(free, split="test")
        add_front("of the full space", free[: len(coupled)], free_top1[: len(coupled)])
        add_front("of the full space", free, free_top1)
        judging_free, known_free = _timed(partial(judge, free, split="validation"))
        archs, rows = np.concatenate([coupled, free]), np.concatenate([known, known_free])
        fitting, model = _timed(partial(pf.accuracy.fit, space, archs, rows, seed=seed))
        made = judging + judging_free + fitting
        _say(f"model: Kendall {model.report['kendall']:.2f} on held-out rows", 0, 0)
        predicting, predicted = _timed(partial(model.predict, coupled))
        searches["every coupled network, modelled | progressive"] = [
            len(archs),
            len(coupled),
            made,
            predicting,
            answers(coupled, predicted, judge),
        ]
        evolve = partial(
            pf.search.evolution, space, model, [macs], budgets=budgets, seed=seed, **evolution
        )
        evolving, found = _timed(evolve)
        searches["evolution in the full space, modelled | progressive"] = [
            len(archs),
            found.evaluations,
            made,
            evolving,
            answers(found.archs, found.top1, judge),
        ]
    return {"training": trainings, "front": fronts, "search": searches}


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def _spread(values: FloatArray, digits: int) -> str:
    low, high = (f"{value:,.{digits}f}" for value in (values.min(), values.max()))
    return low if low == high else f"{values.mean():,.{digits}f} ({low} to {high})"


_said = [0.0]


def _say(text: str, done: int, total: int) -> None:
    now = time.monotonic()
    if total == 0 or done == total or now - _said[0] > 10:
        _said[0] = now
        print(f"  {time.process_time():.0f} CPU s: {text} {done}/{total}", file=sys.stderr)


if __name__ == "__main__":
    main()
