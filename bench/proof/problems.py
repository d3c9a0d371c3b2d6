"""What is searched: spaces, accuracy models and cost tables, from the shared measurements."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

import pnag_fast as pf
from pnag_fast.accuracy import AccuracyModel
from pnag_fast.costs import CostTable
from pnag_fast.search import Front
from pnag_fast.spaces import Archs, SearchSpace
from pnag_fast.typing import FloatArray

# Whole-network tables of three of the GPUs: one where latency follows depth, two where it follows
# multiply-adds.
GPUS = ("v100_1", "titan_xp_32", "2080ti_64")
NASBENCH_SETS = ("cifar10-test", "cifar100-test", "imagenet-test")


@dataclass(frozen=True, eq=False)
class Problem:
    """One search: accuracy against one cost."""

    name: str
    space: SearchSpace
    model: AccuracyModel
    table: CostTable

    @property
    def tables(self) -> list[CostTable]:
        return [self.table]

    def budgets(self, n: int, seed: int) -> FloatArray:
        """Budgets nobody trained on, uniform over the range, ascending; shape (n,)."""
        low, high = self.table.bounds
        return np.sort(np.random.default_rng([seed, 7]).uniform(low, high, size=n))


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@cache
def ofa(data: Path, space_name: str = "ofa-mbv3", resolution: int = 224) -> Problem:
    """The published predictor and the Note 10, width 1.2."""
    space = pf.spaces.get(space_name, width=1.2, resolutions=(resolution,))
    latency = data / "ofa_latency" / "note10" / f"{resolution}_lookup_table.yaml"
    return Problem(
        f"{space_name}, Note 10" + (f", {resolution} px" if resolution != 224 else ""),
        space,
        pf.accuracy.load(data / "ofa_imagenet" / "acc_predictor.pth", space),
        pf.costs.from_ofa_yaml(latency, space),
    )


@cache
def ofa_on_gpu(data: Path, device: str) -> Problem:
    """The published predictor and a table fitted to whole networks on a GPU, 224 px, width 1.2."""
    rows = read_rows(data / "ofa_latency" / "measured_gpus_ms.csv")
    resolutions = sorted({int(row["resolution"]) for row in rows})
    everywhere = pf.spaces.get("ofa-mbv3", width=1.2, resolutions=tuple(resolutions))
    single = pf.spaces.get("ofa-mbv3", width=1.2)
    archs = single.from_strings([row["arch"] for row in rows])
    codes = [1 + resolutions.index(int(row["resolution"])) for row in rows]
    archs = np.column_stack([archs, codes]).astype(np.uint8)
    fitted = pf.costs.fit(
        everywhere,
        archs,
        [float(row[device]) for row in rows],
        metric="latency",
        unit="ms",
        device=device,
    )
    at_224 = resolutions.index(224)
    table = CostTable.build(
        single,
        metric="latency",
        unit="ms",
        device=device,
        constants=fitted.constants[[at_224]],
        entries=fitted.entries[[at_224], : single.n_slots, : max(single.n_codes)],
        provenance=fitted.provenance,
    )
    return Problem(f"ofa-mbv3, {device}", single, ofa(data).model, table)


@dataclass(frozen=True, eq=False)
class Cells:
    """NAS-Bench-201: every cell, its accuracies by data set and its latencies by device.

    `validation` is what a search would pay for, `top1` the test accuracy that it is judged by.
    """

    space: SearchSpace
    archs: Archs
    top1: dict[str, FloatArray]
    validation: dict[str, FloatArray]
    latency_ms: dict[str, FloatArray]


@cache
def nasbench201(data: Path) -> Cells:
    folder = data / "nasbench201"
    accuracy, latency = (
        read_rows(folder / "accuracy_12_epochs.csv"),
        read_rows(folder / "latency_ms.csv"),
    )
    by_index = {row["index"]: row for row in latency}
    space = pf.spaces.get("nasbench201")

    def column(name: str) -> FloatArray:
        return np.array([float(row[name]) / 100 for row in accuracy])

    return Cells(
        space,
        space.from_strings([row["arch"] for row in accuracy]),
        {name: column(name) for name in NASBENCH_SETS},
        {name: column(name.replace("test", "val")) for name in NASBENCH_SETS},
        {
            device: np.array([float(by_index[row["index"]][device]) for row in accuracy])
            for device in latency[0]
            if device != "index"
        },
    )


def reference_front(problem: Problem, folder: Path, *, evaluations: int, seeds: int) -> Front:
    """The union of `seeds` long searches of `evaluations` each; kept in `folder`."""
    from .records import code_version

    folder.mkdir(parents=True, exist_ok=True)
    name = problem.name.replace(", ", "-").replace(" ", "_")
    path = folder / f"reference-{name}-{seeds}x{evaluations}-{code_version()}.json"
    if not path.exists():
        found = [
            pf.search.front(
                problem.space, problem.model, problem.tables, evaluations=evaluations, seed=1000 + s
            )
            for s in range(seeds)
        ]
        union(found).save(path)
    return Front.load(path, problem.tables)


def union(fronts: list[Front]) -> Front:
    """The front of several fronts of one problem."""
    return Front.of(
        np.concatenate([front.archs for front in fronts]),
        np.concatenate([front.top1 for front in fronts]),
        np.concatenate([front.costs for front in fronts]),
        fronts[0].tables,
        accuracy_source=fronts[0].accuracy_source,
        evaluations=sum(front.evaluations for front in fronts),
        seconds=sum(front.seconds for front in fronts),
    )


def top1_within(front: Front, budgets: FloatArray) -> FloatArray:
    """Best top-1 of a front within each budget; NaN where nothing fits."""
    rows = front.best(budgets.reshape(len(budgets), -1))
    return np.where(rows >= 0, front.top1[rows], np.nan)
