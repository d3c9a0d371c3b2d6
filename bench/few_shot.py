#!/usr/bin/env python3
"""Say how well a table of a new device predicts that was fitted to 10, 20 or 50 networks.

python bench/few_shot.py cells --data ../shared/data
python bench/few_shot.py gpus --data ../shared/data

`cells`: NAS-Bench-201 by the protocol of HELP (Lee et al., NeurIPS 2021), as far as the public file
has its devices: the seven of its nine that are there are known, with two of those that it chooses
settings on; all others are new. `--known seven` does without the two.

`gpus`: Once-for-All networks at 25 resolutions, batches of 32 and more. For each device those of
other models are known, at all batches.

Known devices have a table fitted to half of the networks (3,000 at most), new ones are measured on
networks of the rest, drawn at random or by pf.latency.choose from as many as a user would offer,
and judged by what is left. The column "all" is a table of the new device, fitted as
those of the known ones: what a sum over slots can reach. "Steady" leaves out networks that this
table misses by more than 10 %, most of which were measured while the machine did something else as
well: the errors of such are those of the measurement.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import pnag_fast as pf
from pnag_fast.costs import CostTable
from pnag_fast.spaces import Archs, SearchSpace
from pnag_fast.typing import FloatArray, IntArray

# Of HELP's nine to learn from, silver_4210r and samsung_a50 are not in the file.
KNOWN_CELLS = (
    "1080ti_1", "1080ti_32", "1080ti_256", "silver_4114", "pixel3", "essential_ph_1", "samsung_s7",
)  # fmt: skip
ALSO_KNOWN = ("titanx_1", "titanx_32")
GPUS = ("2080ti_32", "2080ti_64", "titan_xp_32", "titan_xp_64", "v100_64")
SIZES = (10, 20, 50)
# Networks that are offered to choose from.
OFFERED = 1000
# Cells that are judged by, of those left.
JUDGED = 4000
STEADY = 0.10


@dataclass(frozen=True, eq=False)
class Measured:
    """Networks and what they take on each device, in milliseconds."""

    space: SearchSpace
    archs: Archs
    ms: dict[str, FloatArray]


@dataclass(frozen=True)
class Score:
    """How a table predicts networks that it was not fitted to."""

    spearman: float
    error: float
    steady_error: float
    covered: float


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("cells", "gpus"))
    parser.add_argument("--data", type=Path, required=True, help="folder of the measurements")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--devices", nargs="+", help="default: all that are new")
    parser.add_argument("--networks", type=int, default=3000, help="of known devices' tables")
    parser.add_argument("--known", choices=("seven", "nine"), default="nine", help="for cells")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores; numpy {np.__version__}; seeds 0 to {arguments.seeds - 1}")
    if arguments.what == "cells":
        measured = cells(arguments.data / "nasbench201")
        known = KNOWN_CELLS + (ALSO_KNOWN if arguments.known == "nine" else ())
        new = [name for name in measured.ms if name not in known]
    else:
        measured = networks(arguments.data / "ofa_latency" / "measured_gpus_ms.csv")
        known, new = tuple(measured.ms), list(GPUS)
    if arguments.devices:
        new = arguments.devices
    order = np.random.default_rng(0).permutation(len(measured.archs))
    first, rest = np.split(order, [min(arguments.networks, len(order) // 2)])
    return compare(measured, known, new, first, rest, arguments.sizes, arguments.seeds)


def compare(
    measured: Measured,
    known: Sequence[str],
    new: Sequence[str],
    first: IntArray,
    rest: IntArray,
    sizes: Sequence[int],
    seeds: int,
) -> int:
    """Print a row for each device and size: at random, chosen, and what all networks give."""
    # Without any prior, degenerate cells of one phone would cost less than nothing.
    counts = [pf.costs.macs(measured.space)]
    tables = {name: fitted(measured, name, first, counts) for name in {*known, *new}}
    print(
        "device        n   Spearman: random chosen all   error %: random chosen all   "
        "steady %: random chosen all   in 90 % interval: random chosen all"
    )
    rows: dict[int, list[FloatArray]] = {n: [] for n in sizes}
    for name in new:
        others = [tables[other] for other in known if model_of(other) != model_of(name)]
        for n in sizes:
            rows[n].append(scores(measured, name, others, tables[name], rest, n, seeds))
            print(row(name, n, rows[n][-1]), flush=True)
    for n in sizes:
        print(row("mean", n, np.mean(rows[n], axis=0)))
    return 0


def scores(
    measured: Measured,
    name: str,
    others: Sequence[CostTable],
    everything: CostTable,
    rest: IntArray,
    n: int,
    seeds: int,
) -> FloatArray:
    """Return the means over seeds, shape (4, 3): figures by random, chosen and all networks."""
    found = []
    for seed in range(seeds):
        mixed = np.random.default_rng([seed, 1]).permutation(rest)
        offered, judged = mixed[:OFFERED], mixed[OFFERED : OFFERED + JUDGED]
        tell = places(measured.archs[offered])
        chosen = pf.latency.choose(
            measured.space, n, prior=others, candidates=measured.archs[offered], seed=seed
        )
        rows = np.array([offered[tell(arch)] for arch in chosen])
        by = [fitted(measured, name, part, others) for part in (offered[:n], rows)]
        figures = [score(table, measured, name, judged, everything) for table in (*by, everything)]
        found.append([[f.spearman, f.error, f.steady_error, f.covered] for f in figures])
    return np.asarray(np.mean(found, axis=0).T)


def score(
    table: CostTable, measured: Measured, name: str, rows: IntArray, everything: CostTable
) -> Score:
    archs, ms = measured.archs[rows], measured.ms[name][rows]
    mean, std = table(archs, return_std=True)
    error = np.abs(mean / ms - 1)
    steady = np.abs(everything(archs) / ms - 1) < STEADY
    return Score(
        pf.costs.spearman(mean, ms),
        float(error.mean()),
        float(error[steady].mean()),
        float(np.mean(np.abs(mean - ms) <= 1.645 * std)),
    )


def fitted(measured: Measured, name: str, rows: IntArray, prior: Sequence[CostTable]) -> CostTable:
    return pf.costs.fit(
        measured.space,
        measured.archs[rows],
        measured.ms[name][rows],
        metric="latency",
        unit="ms",
        device=name,
        prior=prior,
    )


def places(archs: Archs) -> Callable[[Archs], int]:
    """Return what finds an architecture's row."""
    rows = {arch.tobytes(): row for row, arch in enumerate(archs)}
    return lambda arch: rows[arch.tobytes()]


def model_of(device: str) -> str:
    """Return a GPU's model, without the batch size; other devices are models of their own."""
    return device.rsplit("_", 1)[0]


def row(name: str, n: int, figures: FloatArray) -> str:
    spearman, error, steady, covered = figures
    parts = [
        " ".join(f"{value:.3f}" for value in spearman),
        " ".join(f"{100 * value:5.2f}" for value in error),
        " ".join(f"{100 * value:5.2f}" for value in steady),
        " ".join(f"{100 * value:3.0f}" for value in covered),
    ]
    return f"{name:12s} {n:3d}   " + "   ".join(parts)


def cells(folder: Path) -> Measured:
    space = pf.spaces.get("nasbench201")
    with open(folder / "accuracy_12_epochs.csv", newline="") as stream:
        names = {line["index"]: line["arch"] for line in csv.DictReader(stream)}
    with open(folder / "latency_ms.csv", newline="") as stream:
        lines = list(csv.DictReader(stream))
    archs = space.from_strings([names[line["index"]] for line in lines])
    return Measured(space, archs, columns(lines, ("index",)))


def networks(path: Path) -> Measured:
    with open(path, newline="") as stream:
        lines = list(csv.DictReader(stream))
    resolutions = sorted({int(line["resolution"]) for line in lines})
    space = pf.spaces.get("ofa-mbv3", resolutions=tuple(resolutions))
    archs = space.from_strings([f"{line['arch']}:{line['resolution']}" for line in lines])
    return Measured(space, archs, columns(lines, ("arch", "resolution")))


def columns(lines: Sequence[dict[str, str]], without: Sequence[str]) -> dict[str, FloatArray]:
    return {
        name: np.array([float(line[name]) for line in lines])
        for name in lines[0]
        if name not in without
    }


if __name__ == "__main__":
    started = time.process_time()
    status = main()
    print(f"{time.process_time() - started:.0f} CPU seconds")
    raise SystemExit(status)
