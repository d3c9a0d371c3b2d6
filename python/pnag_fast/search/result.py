"""`Front`: what every search returns, and the points that it is made of."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import arguments, files, pareto
from .. import costs as cost_tables
from ..accuracy.validation import cost_label, front_members, front_objective
from ..costs import CostTable
from ..errors import FileFormatError
from ..objective import TOP1, Objective
from ..spaces import Archs, SearchSpace, from_definition

FloatArray = npt.NDArray[np.float64]

FRONT_FORMAT = "pnag-front"
FRONT_VERSION = 1


@dataclass(frozen=True, eq=False)
class Front:
    """Architectures none of which dominates another, cheapest first.

    Attributes
    ----------
    archs : ndarray of uint8, shape (n, n_slots)
    top1 : ndarray of float64, shape (n,)
        Value of the objective, in its unit and direction: top-1 in [0, 1], unless it is another.
    costs : ndarray of float64, shape (n, n_tables)
    tables : tuple of CostTable
    accuracy_source : str
        Which accuracy model ``top1`` comes from. A front is only as true as its model.
    evaluations, seconds : int, float
        What the search took.
    objective : Objective
    """

    space: SearchSpace
    archs: Archs
    top1: FloatArray
    costs: FloatArray
    tables: tuple[CostTable, ...]
    accuracy_source: str
    evaluations: int
    seconds: float
    objective: Objective = TOP1

    def __len__(self) -> int:
        return len(self.archs)

    def __repr__(self) -> str:
        lines = [f"<Front of '{self.space.name}': {len(self)} architectures"]
        if len(self):
            lines[0] += f", {self.objective.span(self.top1)}"
            lines += [
                f"  {table.describe()}: {column.min():.4g} to {column.max():.4g}"
                for table, column in zip(self.tables, self.costs.T, strict=True)
            ]
        name = "accuracy" if self.objective == TOP1 else self.objective.name
        return "\n".join([*lines[:4], f"  {name}{self.objective.better}: {self.accuracy_source}>"])

    @property
    def quality(self) -> FloatArray:
        """The same as ``top1``, whatever the objective."""
        return self.top1

    @classmethod
    def of(
        cls,
        archs: Archs,
        top1: FloatArray,
        costs: FloatArray,
        tables: Sequence[CostTable],
        *,
        accuracy_source: str,
        evaluations: int,
        seconds: float,
        objective: Objective = TOP1,
    ) -> Front:
        """Keep the non-dominated rows of evaluated architectures, each once."""
        archs, first = np.unique(archs, axis=0, return_index=True)
        top1, costs = top1[first], costs[first]
        merit = objective.merit(top1)
        keep = pareto.is_non_dominated(points(merit, costs))
        order = np.lexsort((-merit[keep], *costs[keep].T[::-1]))
        return cls(
            tables[0].space,
            np.ascontiguousarray(archs[keep][order]),
            top1[keep][order],
            costs[keep][order],
            tuple(tables),
            accuracy_source,
            evaluations,
            seconds,
            objective,
        )

    @property
    def cost_labels(self) -> tuple[str, ...]:
        """Metric and unit of every cost, as a table's head says them."""
        return tuple(cost_label(table.metric, table.unit) for table in self.tables)

    def best(self, budgets: FloatArray) -> npt.NDArray[np.intp]:
        """Row of the best member within each budget, or -1 where none is.

        Parameters
        ----------
        budgets : ndarray of float64, shape (b, n_tables)

        Returns
        -------
        ndarray of intp, shape (b,)
        """
        wanted = arguments.floats(
            budgets,
            "budgets",
            (None, self.costs.shape[1]),
            meaning=f"(b, {self.costs.shape[1]}): one column for each cost",
        )
        return pareto.best_within(self.costs, self.objective.merit(self.top1), wanted)

    def to_csv(self) -> str:
        """Return one line per member: architecture, the objective, and every cost."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = [f"{table.metric}_{table.unit}" for table in self.tables]
        writer.writerow(["arch", self.objective.column, *names])
        for arch, top1, row in zip(
            self.space.to_strings(self.archs), self.top1.tolist(), self.costs.tolist(), strict=True
        ):
            writer.writerow([arch, top1, *row])
        return text.getvalue()

    def save(self, path: files.StrPath) -> None:
        """Write the front as versioned JSON, with the tables and the model it rests on named."""
        body = {
            "space": self.space.definition,
            "accuracy_source": self.accuracy_source,
            **({} if self.objective == TOP1 else {"objective": self.objective.to_json()}),
            "costs": [
                {"metric": t.metric, "unit": t.unit, "device": t.device} for t in self.tables
            ],
            "evaluations": self.evaluations,
            "seconds": self.seconds,
            "members": [
                {"arch": arch, "top1": top1, "costs": row}
                for arch, top1, row in zip(
                    self.space.to_strings(self.archs),
                    self.top1.tolist(),
                    self.costs.tolist(),
                    strict=True,
                )
            ],
        }
        files.write_json(path, FRONT_FORMAT, FRONT_VERSION, body)

    @classmethod
    def load(cls, path: files.StrPath, tables: Sequence[CostTable]) -> Front:
        """Read a front; costs are looked up anew in `tables`, which must be for its space."""
        document = files.read_json(path, FRONT_FORMAT, FRONT_VERSION)
        space = tables[0].space
        own = from_definition(files.require(document, "space", dict, path), f"'{path}'")
        if own.fingerprint != space.fingerprint:
            raise FileFormatError(
                f"'{path}' is a front of space '{own.name}' ({own.fingerprint}); the tables are "
                f"for '{space.name}' ({space.fingerprint})"
            )
        archs, top1, _ = front_members(document, space, path)
        return cls.of(
            archs,
            top1,
            cost_tables.stack(tables)(archs),
            tables,
            accuracy_source=files.require(document, "accuracy_source", str, path),
            evaluations=files.integer(
                document.get("evaluations"), f"'{path}': field 'evaluations'", low=0
            ),
            seconds=files.number(document.get("seconds"), f"'{path}': field 'seconds'", low=0),
            objective=front_objective(document, path),
        )


def objectives(top1: FloatArray, costs: FloatArray) -> FloatArray:
    """Points to minimise, shape (n, 1 + n_tables): the error first, then every cost."""
    return np.ascontiguousarray(np.column_stack([1.0 - top1, costs]))


def points(merit: FloatArray, costs: FloatArray) -> FloatArray:
    """Points to minimise, shape (n, 1 + n_tables): the merit, negated, then every cost."""
    return np.ascontiguousarray(np.column_stack([-merit, costs]))


def distinct(archs: Archs) -> Archs:
    """Leave out repetitions, in order."""
    _, first = np.unique(archs, axis=0, return_index=True)
    return np.ascontiguousarray(archs[np.sort(first)])


def extremes(tables: Sequence[CostTable]) -> Archs:
    """Cheapest and dearest architecture by every table, shape (2 * n_tables, n_slots)."""
    return np.stack([arch for table in tables for arch in (table.cheapest(), table.dearest())])
