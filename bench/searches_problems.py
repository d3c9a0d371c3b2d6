"""What searches for dear oracles are compared on, and by what: NAS-Bench-201, all of it known.

A problem is a device and a data set: the oracle is the column of test accuracies after 12 epochs
(what is asked is what is judged), the cost is the table fitted to the device's measurements. Of a
search only the cells that it asked about count, in the order in which it did: `Asking` writes them
down, and one run of 500 questions gives the figures after 100, 200, 300 and 500.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

import pnag_fast as pf
from pnag_fast.accuracy.oracle import Oracle
from pnag_fast.costs import CostTable
from pnag_fast.search import Front
from pnag_fast.search.method import SearchFunction
from pnag_fast.spaces import Archs, SearchSpace
from pnag_fast.typing import FloatArray, IntArray
from proof.nasbench201 import latency_table
from proof.nasbench201 import regret as points_below
from proof.problems import NASBENCH_SETS, nasbench201

BUDGETS = 200


@dataclass(frozen=True, eq=False)
class Cells:
    """All cells of NAS-Bench-201 with their accuracy on one data set and their cost on one device.

    Attributes
    ----------
    archs : ndarray of uint8, shape (15,625, 6)
    top1 : ndarray of float64, shape (15,625,)
        Test accuracy; what the oracle answers.
    table : CostTable
        Fitted to the device's measurements; fronts, budgets and deficits are of its costs.
    """

    device: str
    data_set: str
    space: SearchSpace
    archs: Archs
    top1: FloatArray
    table: CostTable

    @property
    def name(self) -> str:
        return f"{self.device}, {self.data_set}"

    @cached_property
    def costs(self) -> FloatArray:
        return self.table(self.archs)

    @cached_property
    def points(self) -> FloatArray:
        """Error and cost of every cell, to be minimised."""
        return np.ascontiguousarray(np.column_stack([1 - self.top1, self.costs]))

    @cached_property
    def front(self) -> IntArray:
        """Rows that no other row dominates."""
        return np.flatnonzero(pf.pareto.is_non_dominated(self.points))

    @cached_property
    def nadir(self) -> FloatArray:
        """Worst of each objective among the exact front: the reference of all hypervolumes."""
        return np.asarray(self.points[self.front].max(axis=0))

    @cached_property
    def volume(self) -> float:
        return pf.pareto.hypervolume(self.points[self.front], self.nadir)

    @cached_property
    def budgets(self) -> FloatArray:
        """Evenly spaced between the 5th and the 95th percentile of the cells' costs."""
        low, high = np.percentile(self.costs, [5, 95])
        return np.linspace(low, high, BUDGETS)

    @cached_property
    def _row_of_code(self) -> IntArray:
        rows = np.empty(len(self.archs), dtype=np.intp)
        rows[self._codes(self.archs)] = np.arange(len(self.archs))
        return rows

    def _codes(self, archs: Archs) -> IntArray:
        # Every slot has one of five codes, 1 to 5: no slot of a cell is absent.
        return np.asarray(
            np.ravel_multi_index(tuple(archs.T.astype(np.intp) - 1), (5,) * self.space.n_slots)
        )

    def rows(self, archs: Archs) -> IntArray:
        """Row of each architecture."""
        return np.asarray(self._row_of_code[self._codes(archs)])

    def deficit(self, asked: IntArray) -> float:
        """Hypervolume that these rows lack of that of the exact front, in % of it."""
        return 100 * (1 - pf.pareto.hypervolume(self.points[asked], self.nadir) / self.volume)

    def regret(self, asked: IntArray) -> float:
        """Points of top-1 below the best cell within a budget, mean over `budgets`.

        Where none of the rows is within a budget, the worst of all cells stands in.
        """
        within = self.costs[asked] <= self.budgets[:, None]
        known = np.where(within, self.top1[asked], self.top1.min()).max(axis=1)
        return float(points_below(self.costs, self.top1, self.budgets, known).mean())

    def lost(self, rows: IntArray, believed: FloatArray) -> float:
        """Regret of who answers every budget with the best of these rows by what is believed."""
        within = self.costs[rows] <= self.budgets[:, None]
        chosen = np.where(within, believed, -np.inf).argmax(axis=1)
        top1 = np.where(within.any(axis=1), self.top1[rows[chosen]], self.top1.min())
        return float(points_below(self.costs, self.top1, self.budgets, top1).mean())

    def figures(self, asked: IntArray, questions: Sequence[int]) -> list[tuple[float, float]]:
        """Deficit and regret after each number of questions; fewer asked count as all."""
        return [(self.deficit(asked[:n]), self.regret(asked[:n])) for n in questions]


class Asking:
    """The oracle of a problem, which writes down what it is asked.

    Attributes
    ----------
    asked : list of int
        Rows of the problem, in the order of the questions, each once.
    cpu_s : list of float
        Seconds of CPU that this process had taken when each was asked.
    answers : ndarray of float64
        What it says of every row.

    Parameters
    ----------
    noise : float
        Standard deviation, in points, of what is added to every answer; drawn once for each cell.
    """

    def __init__(self, cells: Cells, *, noise: float = 0.0, seed: int = 0) -> None:
        self.cells = cells
        self.asked: list[int] = []
        self.cpu_s: list[float] = []
        self._new = set(range(len(cells.archs)))
        answers = cells.top1
        if noise:
            draws = np.random.default_rng([seed, 11]).normal(0, noise / 100, len(answers))
            answers = np.clip(answers + draws, 0, 1)
        self.answers = answers

    def __call__(self, archs: Archs) -> FloatArray:
        rows = self.cells.rows(archs)
        now = time.process_time()
        for row in rows.tolist():
            if row in self._new:
                self._new.remove(row)
                self.asked.append(row)
                self.cpu_s.append(now)
        return self.answers[rows]

    def oracle(self) -> Oracle:
        source = f"NAS-Bench-201, {self.cells.data_set}, 12 epochs"
        # Answers are a look-up: asked together they cost nothing, and come in order.
        return pf.accuracy.oracle(self.cells.space, self, source=source, batch=len(self.answers))


def trace(
    method: str,
    cells: Cells,
    *,
    seed: int,
    evaluations: int,
    noise: float = 0.0,
    **settings: Any,
) -> IntArray:
    """Rows that ``pf.search.<method>`` asks about, in order; shape (at most `evaluations`,)."""
    asking = Asking(cells, noise=noise, seed=seed)
    ask(method, asking, seed=seed, evaluations=evaluations, **settings)
    return np.array(asking.asked, dtype=np.intp)


def ask(method: str, asking: Asking, *, seed: int, evaluations: int, **settings: Any) -> Front:
    """Let ``pf.search.<method>`` ask."""
    cells = asking.cells
    search: SearchFunction = getattr(pf.search, method)
    return search(
        cells.space,
        asking.oracle(),
        [cells.table],
        evaluations=evaluations,
        seed=seed,
        threads=1,
        **settings,
    )


@cache
def devices(data: Path) -> tuple[str, ...]:
    """Devices whose measurements an additive table fits."""
    return tuple(device for device in nasbench201(data).latency_ms if _table(data, device))


@cache
def _table(data: Path, device: str) -> CostTable | None:
    return latency_table(nasbench201(data), device)


@cache
def problem(data: Path, device: str, data_set: str) -> Cells:
    """The problem of a device and one of `NASBENCH_SETS`."""
    known = nasbench201(data)
    table = _table(data, device)
    if table is None:
        raise ValueError(f"no additive table fits '{device}'; devices: {', '.join(devices(data))}")
    return Cells(device, data_set, known.space, known.archs, known.top1[data_set], table)


def problems(
    data: Path, only: Sequence[str] | None = None, sets: Sequence[str] = NASBENCH_SETS
) -> Iterator[Cells]:
    """Every problem of some devices (default: all that have a table) and data sets."""
    for device in devices(data) if only is None else only:
        for data_set in sets:
            yield problem(data, device, data_set)
