"""Vectors of bounds: how far the generator's answers are from a long search for each vector.

    python bench/vectors.py --data ../shared/data            # about 10 minutes on one core
    python bench/vectors.py --data ../shared/data --quick    # a minute; fewer vectors, coarser

Four costs at once: the latency of a Samsung Note 10 and of a GPU at batch 1, parameters and
multiply-adds, on Once-for-All's space with its published predictor; and NAS-Bench-201, where the
best cell within each vector is known. Vectors are drawn around the front of another seed, with
room of any size for every cost. Gaps are in points of predicted top-1; seconds are CPU seconds.
"""

# ruff: noqa: E402 - the number of threads has to be set before numpy is imported

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np

import pnag_fast as pf
from pnag_fast.generator import ExpertSettings
from pnag_fast.generator.methods.expert import draw_budgets
from pnag_fast.typing import FloatArray
from proof import problems

# Questions of the long search for each vector, and of the search for the front that vectors are
# drawn around.
LONG, AROUND = 36_000, 60_000


def gaps(best: FloatArray, top1: FloatArray) -> str:
    """Mean, 95th percentile and worst of what is lost, in points."""
    lost = 100 * np.maximum(best - top1, 0)
    return f"{lost.mean():.3f} | {np.percentile(lost, 95):.3f} | {lost.max():.3f}"


def on_devices(data: Path, gpu: str, n: int, evaluations: int, long: int, seed: int) -> None:
    known = problems.ofa(data)
    space, model = known.space, known.model
    tables = [
        known.table,
        problems.ofa_on_gpu(data, gpu).table,
        pf.costs.parameters(space),
        pf.costs.macs(space),
    ]
    start = time.process_time()
    settings = ExpertSettings(evaluations=evaluations)
    generator = pf.train_generator(space, model, tables, settings=settings, seed=seed)
    trained = time.process_time() - start
    around = pf.search.front(
        space, model, tables, evaluations=min(AROUND, evaluations), seed=seed + 100
    )
    budgets = draw_budgets(around, n, np.random.default_rng(seed + 1))
    members = around.best(budgets)
    best = pf.search.constrained(
        model,
        around,
        budgets,
        around.archs[members],
        around.top1[members],
        evaluations=long,
        seed=seed + 2,
    )[1]
    print(f"\n## Note 10 and {gpu}, {n} vectors; trained in {trained:.1f} CPU s\n")
    print("| answer | mean | 95 % | worst | ms a vector |\n|---|---|---|---|---|")
    generator.generate(budgets[:2])  # the estimate is made once
    for questions in (0, None, 2000):
        taken, top1 = [], []
        for budget in budgets:
            start = time.process_time()
            out = generator.generate(budget[None], evaluations=questions)
            taken.append(1e3 * (time.process_time() - start))
            top1.append(out.top1[0])
            if not (out.costs <= budget).all():
                raise AssertionError(f"an answer exceeds {budget}")
        name = {0: "archive and policy", None: "default"}.get(questions, f"{questions} questions")
        print(f"| {name} | {gaps(best, np.array(top1))} | {np.median(taken):.1f} |", flush=True)
    start = time.process_time()
    together = generator.generate(budgets)
    taken_together = 1e3 * (time.process_time() - start) / n
    print(f"| default, all at once | {gaps(best, together.top1)} | {taken_together:.1f} |")


def on_cells(data: Path, n: int, seed: int) -> None:
    cells = problems.nasbench201(data)
    space, top1 = cells.space, cells.top1["cifar10-test"]
    latencies = [
        pf.costs.fit(
            space, cells.archs, cells.latency_ms[device], metric="latency", unit="ms", device=device
        )
        for device in ("gold_6226", "fpga")
    ]
    tables = [*latencies, pf.costs.parameters(space), pf.costs.macs(space)]
    model = pf.accuracy.table(space, cells.archs, top1)
    generator = pf.train_generator(space, model, tables, seed=seed)
    costs = generator.stack(cells.archs)
    rng = np.random.default_rng(seed)
    budgets = costs[rng.integers(len(costs), size=n)] * rng.uniform(1, 1.3, size=(n, 4))
    best = np.array([top1[(costs <= budget).all(axis=1)].max() for budget in budgets])
    generator.generate(budgets)
    start = time.process_time()
    out = generator.generate(budgets)
    taken = 1e3 * (time.process_time() - start)
    print(f"\n## NAS-Bench-201, {n} vectors at once\n")
    print("| mean | 95 % | worst | ms for all |\n|---|---|---|---|")
    print(f"| {gaps(best, out.top1)} | {taken:.1f} |")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(__file__).parents[2] / "shared" / "data",
        help="folder of shared measurements",
    )
    parser.add_argument("--gpu", default="v100_1", choices=problems.GPUS)
    parser.add_argument("--seed", type=int, default=0)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true")
    size.add_argument("--tiny", action="store_true", help="only proves that every line runs")
    given = parser.parse_args(arguments)
    n, evaluations, long = 60, 200_000, LONG
    if given.quick:
        n, evaluations, long = 30, 50_000, 9_000
    if given.tiny:
        n, evaluations, long = 2, 500, 300
    on_devices(given.data, given.gpu, n, evaluations, long, given.seed)
    on_cells(given.data, 5 * n, given.seed)


if __name__ == "__main__":
    main(sys.argv[1:])
