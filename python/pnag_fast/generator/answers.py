"""`Generated`: what a generator answers, and how answers for several devices become one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from ..objective import TOP1, Objective
from ..spaces import Archs
from ..typing import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Generated:
    """Answers of a generator, one row per budget or quality.

    Attributes
    ----------
    budgets : ndarray of float64, shape (b, n_tables)
        As asked; infinite where a cost was left open.
    archs : ndarray of uint8, shape (b, n_slots)
        Zeros, which is no architecture, where no architecture meets the budget.
    top1, top1_std : ndarray of float64, shape (b,)
        Predicted value of the objective (top-1, unless the model is of another) and its standard
        deviation; NaN without an answer.
    costs, costs_std : ndarray of float64, shape (b, n_tables)
        By the tables, means, and how far each may lie from its mean: 0 where a table is exact. NaN
        without an answer. Never above the budget; with a confidence the mean and as many standard
        deviations as that takes are not.
    source : tuple of str
        What answered: ``"policy"``, ``"policy+neighbours"``, ``"archive"``,
        ``"archive+neighbours"``, or ``"search"``, one of its own for the row; ``"infeasible"``
        where nothing did.
    gap : ndarray of float64, shape (b,)
        How much better, in the unit of the objective, the best architecture of the archive within
        the budget is predicted than the answer: 0 where the archive answered, negative where the
        policy or a search found better. Of `Generator.cheapest` within the costs of the answer.
        NaN where the archive has nothing within these, and without an answer.
    notes : tuple of str
        What to know about a row, such as why it has no answer; usually empty.
    devices : tuple of str
        Whose cost the first column is, for each row.
    objective : Objective
        What ``top1`` is.
    """

    budgets: FloatArray
    archs: Archs
    top1: FloatArray
    top1_std: FloatArray
    costs: FloatArray
    costs_std: FloatArray
    source: tuple[str, ...]
    gap: FloatArray
    notes: tuple[str, ...]
    devices: tuple[str, ...]
    objective: Objective = TOP1

    def __len__(self) -> int:
        return len(self.archs)

    def __repr__(self) -> str:
        answered = self.top1[self.feasible]
        top1 = f"; {self.objective.span(answered)}" if len(answered) else ""
        return f"<Generated: {len(answered)} of {len(self)} budgets answered{top1}>"

    @property
    def feasible(self) -> npt.NDArray[np.bool_]:
        """Whether a row has an answer, shape (b,)."""
        return np.array([source != "infeasible" for source in self.source], dtype=np.bool_)

    @property
    def quality(self) -> FloatArray:
        """The same as ``top1``, whatever the objective."""
        return self.top1

    @staticmethod
    def joined(parts: Mapping[tuple[int, ...], Generated]) -> Generated:
        """Put answers together, each part into the rows that it is under; at least one part."""
        rows: IntArray = np.concatenate([np.array(of, dtype=np.intp) for of in parts])
        order = np.argsort(rows, kind="stable")
        first = next(iter(parts.values()))
        values: dict[str, Any] = {}
        for item in fields(Generated):
            found = [getattr(part, item.name) for part in parts.values()]
            if isinstance(found[0], np.ndarray):
                values[item.name] = np.concatenate(found)[order]
            elif isinstance(found[0], tuple):
                flat = [value for part in found for value in part]
                values[item.name] = tuple(flat[i] for i in order)
        return Generated(**values, objective=first.objective)
