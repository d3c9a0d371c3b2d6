#!/usr/bin/env python3
"""Say whether tables know how far they may be wrong, and whether budgets hold.

python bench/cost_posterior.py --data ../shared/data
python bench/cost_posterior.py --data ../shared/data --devices v100_1 --networks 100

On whole networks of Once-for-All's space at 25 resolutions, measured on GPUs. A table is fitted to
some networks of one half, and judged by the other half, which it has not seen:

- `interval`: share of the measured networks within the stated 90 %; on all, and on those that no
  other of them dominates in predicted accuracy and the table's cost: the front, as measured.
- `front`: a front is searched at 224 px on the means, and on upper bounds (1.645 std). What its
  networks cost by a table of the other half, over what they were said to cost: mean, 95th
  percentile, and share that is within 2 %.
- `answered`: each measured network is taken for an answer of a budget, its own upper bound; on the
  measured front. The same three figures, by what was measured, not by a table.
- `lost`: points of top-1 that upper bounds cost, on average over budgets.

Fewer networks than the table has unknowns are fitted under the prior of multiply-adds.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import pnag_fast as pf
from pnag_fast.accuracy import AccuracyModel
from pnag_fast.costs import CostTable
from pnag_fast.search import Front
from pnag_fast.spaces import Archs, SearchSpace
from pnag_fast.typing import BoolArray, FloatArray, IntArray
from proof.problems import read_rows

# The upper bound of 95 %.
CAUTION = 1.645
# Networks that determine every weight, with room for folds.
ENOUGH = 500
BUDGETS = 17


@dataclass(frozen=True, eq=False)
class Study:
    """Networks at all resolutions, and an accuracy model at the one that is searched."""

    space: SearchSpace
    archs: Archs
    ms: dict[str, FloatArray]
    model: AccuracyModel

    def fitted(self, device: str, rows: IntArray) -> CostTable:
        return pf.costs.fit(
            self.space,
            self.archs[rows],
            self.ms[device][rows],
            metric="latency",
            unit="ms",
            device=device,
            prior=None if len(rows) >= ENOUGH else [],
        )

    def top1(self, rows: IntArray) -> FloatArray:
        """Accuracies at 224 px, plus what a step of the resolution is worth by its pixels."""
        archs = self.archs[rows]
        plain = np.ascontiguousarray(archs[:, : self.model.space.n_slots])
        sizes = np.array(self.space.resolutions)[archs[:, -1] - 1]
        return np.asarray(self.model.predict(plain) + _PER_DOUBLING * np.log2(sizes / 224))


# Top-1 that twice the side is worth, about as in Once-for-All's published networks.
_PER_DOUBLING = 0.05


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the measurements")
    parser.add_argument("--devices", nargs="+", help="default: all")
    parser.add_argument("--networks", type=int, nargs="+", default=(100, 300, 1993), metavar="N")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--evaluations", type=int, default=20_000, help="of a search")
    arguments = parser.parse_args()
    study = read(arguments.data)
    print(f"{os.cpu_count()} cores; numpy {np.__version__}; seeds 0 to {arguments.seeds - 1}")
    for n in arguments.networks:
        print(
            f"\n{n} networks\n\n"
            "| device | error | interval: all, front | front by means: mean, 95th, within "
            "| front by bounds: mean, 95th, within | answered: mean, 95th, within | lost |\n"
            "|---|---|---|---|---|---|---|"
        )
        for device in arguments.devices or study.ms:
            found = [
                judge(study, device, n, seed, arguments.evaluations)
                for seed in range(arguments.seeds)
            ]
            print(row(device, np.mean(found, axis=0)), flush=True)
    return 0


def read(data: Path) -> Study:
    rows = read_rows(data / "ofa_latency" / "measured_gpus_ms.csv")
    sizes = tuple(sorted({int(row["resolution"]) for row in rows}))
    space = pf.spaces.get("ofa-mbv3", width=1.2, resolutions=sizes)
    archs = space.from_strings([f"{row['arch']}:{row['resolution']}" for row in rows])
    devices = [name for name in rows[0] if name not in ("arch", "resolution")]
    ms = {name: np.array([float(row[name]) for row in rows]) for name in devices}
    single = space.with_resolutions([224])
    model = pf.accuracy.load(data / "ofa_imagenet" / "acc_predictor.pth", single)
    return Study(space, archs, ms, model)


def judge(study: Study, device: str, n: int, seed: int, evaluations: int) -> list[float]:
    """Return the figures of one table, in the order of the columns."""
    mixed = np.random.default_rng([seed, 5]).permutation(len(study.archs))
    half = len(mixed) // 2
    known, others = mixed[:half][:n], mixed[half:]
    table, judging = study.fitted(device, known), study.fitted(device, others)
    ms = study.ms[device][others]
    mean, std = table(study.archs[others], return_std=True)
    inside = np.abs(ms - mean) <= CAUTION * std
    front = pf.pareto.is_non_dominated(np.stack([mean, -study.top1(others)], axis=1))
    excess = ms[front] / (mean + CAUTION * std)[front] - 1
    at_224, judging = table.at([224]), judging.at([224])
    plain, cautious = (
        pf.search.front(
            study.model.space, study.model, [at_224.cautious(k)], evaluations=evaluations, seed=seed
        )
        for k in (0.0, CAUTION)
    )
    by = [judging(found.archs) / found.costs[:, 0] - 1 for found in (plain, cautious)]
    return [
        float(np.mean(np.abs(mean / ms - 1))),
        share(inside),
        share(inside[front]),
        *figures(by[0]),
        *figures(by[1]),
        *figures(excess),
        lost(plain, cautious),
    ]


def figures(excess: FloatArray) -> tuple[float, float, float]:
    return float(excess.mean()), float(np.quantile(excess, 0.95)), share(excess <= 0.02)


def share(inside: BoolArray) -> float:
    return float(np.mean(inside))


def lost(plain: Front, cautious: Front) -> float:
    """Top-1 within budgets by means less that by bounds, where both have an answer."""
    low = max(front.costs.min() for front in (plain, cautious))
    budgets = np.linspace(low, plain.costs.max(), BUDGETS)[:, None]
    best = [front.top1[front.best(budgets)] for front in (plain, cautious)]
    return float(np.mean(best[0] - best[1]))


def row(device: str, found: FloatArray) -> str:
    error, every, front, *excess, points = found.tolist()
    groups = [
        f"{excess[i]:+.1%}, {excess[i + 1]:+.1%}, {excess[i + 2]:.0%}" for i in range(0, 9, 3)
    ]
    return f"| {device} | {error:.1%} | {every:.0%}, {front:.0%} | {' | '.join(groups)} | " + (
        f"{100 * points:.2f} |"
    )


if __name__ == "__main__":
    raise SystemExit(main())
