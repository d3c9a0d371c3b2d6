#!/usr/bin/env python3
"""How few questions find the front of 1,705 measured networks of `ofa-mbv3`.

python bench/measured_front.py --data ../shared/data --seeds 5

The oracle is a table: only networks that were measured on ImageNet may be asked, so `active` is
given them (``among=``). Costs are multiply-adds, parameters, and latency on three GPUs, tables that
`pf.costs.fit` made of networks measured there. Deficit: the hypervolume that the front of what was
asked lacks of that of all measured networks, in %, from the nadir of the latter; found: members of
the latter that were asked. Beside it: networks drawn at random, and an evolution that asks the
measured network nearest to each mutation of its front.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import pnag_fast as pf
from pnag_fast.accuracy.measured import Measured
from pnag_fast.spaces import Archs
from pnag_fast.typing import BoolArray, FloatArray

DEVICES = ("2080ti_1", "titan_xp_32", "v100_64")
QUESTIONS = (100, 200, 341)
# Of the evolution: asked first, and parents of a generation.
FIRST, PARENTS = 40, 20


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1, help="questions asked together")
    arguments = parser.parse_args()
    space = pf.spaces.get("ofa-mbv3")
    rows = read(arguments.data / "ofa_imagenet" / "measured_w1.0_r224.csv")
    measured = Measured.of(
        space,
        space.from_strings([row["arch"] for row in rows]),
        np.array([float(row["top1_percent"]) for row in rows]) / 100,
    )
    archs, top1 = measured.archs, measured.top1
    print(f"{'costs':14s} {'search':10s}" + "".join(f"{n:6d}: deficit found" for n in QUESTIONS))
    for name, table in tables(space, arguments.data).items():
        points = np.column_stack([-top1, table(archs)])
        front = pf.pareto.is_non_dominated(points)
        figures: dict[str, list[list[float]]] = {"active": [], "evolution": [], "random": []}
        cpu = []
        for seed in range(arguments.seeds):
            started = time.process_time()
            figures["active"].append(
                judged(points, front, active(archs, top1, table, seed, arguments.batch))
            )
            cpu.append(time.process_time() - started)
            figures["evolution"].append(judged(points, front, evolved(space, archs, points, seed)))
            drawn: list[int] = np.random.default_rng(seed).permutation(len(archs)).tolist()
            figures["random"].append(judged(points, front, drawn))
        for search, found in figures.items():
            text = "".join(
                f"{deficit:14.2f} {share:6.1f}"
                for deficit, share in np.mean(found, axis=0).reshape(-1, 2)
            )
            took = f"   {np.mean(cpu):.1f} CPU s" if search == "active" else ""
            print(f"{name:14s} {search:10s}{text} of {front.sum()}{took}", flush=True)
    return 0


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def tables(space: pf.SearchSpace, data: Path) -> dict[str, pf.CostTable]:
    """Return what networks cost at 224 pixels, fitted to those measured at all resolutions."""
    rows = read(data / "ofa_latency" / "measured_gpus_ms.csv")
    sizes = sorted({int(row["resolution"]) for row in rows})
    all_sizes = pf.spaces.get("ofa-mbv3", resolutions=sizes)
    plain = space.from_strings([row["arch"] for row in rows])
    codes = [sizes.index(int(row["resolution"])) + 1 for row in rows]
    archs = np.column_stack([plain, np.array(codes, dtype=np.uint8)])
    at = sizes.index(224)
    found = {"macs": pf.costs.macs(space), "parameters": pf.costs.parameters(space)}
    for device in DEVICES:
        latency_ms = np.array([float(row[device]) for row in rows])
        fitted = pf.costs.fit(
            all_sizes, archs, latency_ms, metric="latency", unit="ms", device=device
        )
        found[device] = pf.CostTable.build(
            space,
            metric="latency",
            unit="ms",
            device=device,
            constants=fitted.constants[at : at + 1],
            entries=fitted.entries[at : at + 1, : space.n_slots, : max(space.n_codes)],
        )
    return found


def judged(points: FloatArray, front: BoolArray, asked: Sequence[int]) -> list[float]:
    """Deficit and members found after each number of questions."""
    nadir = points[front].max(axis=0)
    most = pf.pareto.hypervolume(points[front], nadir)
    figures: list[float] = []
    for n in QUESTIONS:
        rows = np.array(asked[:n])
        lacks = 1 - pf.pareto.hypervolume(points[rows], nadir) / most
        figures += [100 * float(lacks), float(front[rows].sum())]
    return figures


def active(archs: Archs, top1: FloatArray, table: pf.CostTable, seed: int, batch: int) -> list[int]:
    """Rows in the order in which they were asked."""
    index = {row.tobytes(): i for i, row in enumerate(archs)}
    asked: list[int] = []

    def look_up(rows: Archs) -> FloatArray:
        asked.extend(index[row.tobytes()] for row in rows)
        return np.array([top1[index[row.tobytes()]] for row in rows])

    oracle = pf.accuracy.oracle(table.space, look_up, batch=len(archs))
    pf.search.active(
        table.space,
        oracle,
        [table],
        evaluations=QUESTIONS[-1],
        among=archs,
        batch=batch,
        seed=seed,
    )
    return asked


def evolved(space: pf.SearchSpace, archs: Archs, points: FloatArray, seed: int) -> list[int]:
    """Rows in the order in which an evolution asks them."""
    rng = np.random.default_rng([seed, 1])
    asked: list[int] = rng.permutation(len(archs))[:FIRST].tolist()
    is_open = np.ones(len(archs), dtype=np.bool_)
    is_open[asked] = False
    while len(asked) < QUESTIONS[-1]:
        front = np.array(asked)[pf.pareto.is_non_dominated(points[asked])]
        parents = np.ascontiguousarray(archs[rng.choice(front, PARENTS)])
        for child in space.mutate(parents, rate=0.05, seed=int(rng.integers(2**63))):
            apart = np.where(is_open, (archs != child).sum(axis=1), space.n_slots + 1)
            asked.append(int(apart.argmin()))
            is_open[asked[-1]] = False
    return asked


if __name__ == "__main__":
    raise SystemExit(main())
