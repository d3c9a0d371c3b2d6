"""Architectures worth knowing on every device, and the front that they are on each.

What is good on one device is near to what is good on another: costs differ, the accuracy does not.
So the fronts of all known devices are kept together, with what the accuracy model says of each
member, and costed anew for whatever device is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import costs as cost_tables
from .. import pareto
from ..accuracy import AccuracyModel
from ..costs import CostTable
from ..runs import Arrays
from ..search import Front
from ..search.result import points
from ..spaces import Archs
from ..typing import FloatArray


@dataclass(frozen=True, eq=False)
class Bank:
    """Architectures, each once, and what the accuracy model predicts.

    Attributes
    ----------
    archs : ndarray of uint8, shape (n, n_slots)
    top1 : ndarray of float64, shape (n,)
        Value of the model's objective.
    """

    archs: Archs
    top1: FloatArray

    def __len__(self) -> int:
        return len(self.archs)

    @classmethod
    def of(cls, fronts: Iterable[Front | Bank]) -> Bank:
        """Put members of several fronts, or of banks, together."""
        found = list(fronts)
        archs, first, _ = distinct(np.concatenate([front.archs for front in found]))
        return cls(archs, np.concatenate([front.top1 for front in found])[first])

    def arrays(self) -> Arrays:
        """Return what a checkpoint keeps."""
        return {"archs": self.archs, "top1": self.top1}

    def front(self, model: AccuracyModel, tables: Sequence[CostTable], source: Front) -> Front:
        """Return the members that no other one dominates by other tables.

        The cheapest architecture by each table is asked for and added: without it, low budgets on
        a device that is unlike the known ones would have no answer.

        Parameters
        ----------
        model : AccuracyModel
            Whose predictions the bank holds.
        tables : sequence of CostTable
        source : Front
            What was searched, for how much that took.
        """
        cheapest = np.stack([table.cheapest() for table in tables])
        archs = np.concatenate([cheapest, self.archs])
        top1 = np.concatenate([model.predict(cheapest), self.top1])
        costs = cost_tables.stack(tables)(archs)
        keep = pareto.is_non_dominated(points(model.objective.merit(top1), costs))
        return Front.of(
            archs[keep],
            top1[keep],
            costs[keep],
            tables,
            accuracy_source=model.source,
            evaluations=source.evaluations,
            seconds=source.seconds,
            objective=model.objective,
        )


def distinct(archs: Archs) -> tuple[Archs, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Distinct rows, where each is first, and which of them each row is."""
    rows = np.ascontiguousarray(archs)
    # Rows as opaque bytes sort several times faster than rows as arrays.
    packed = rows.view(np.dtype((np.void, rows.shape[1])))[:, 0]
    _, first, inverse = np.unique(packed, return_index=True, return_inverse=True)
    return np.ascontiguousarray(rows[first]), first, inverse
