"""What every peer asks: an architecture by its decisions; answered with what is to be minimised."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import pnag_fast as pf
from pnag_fast.costs import CostTable
from pnag_fast.search import objectives
from pnag_fast.spaces import Archs, SearchSpace
from pnag_fast.spaces.decisions import Decisions
from pnag_fast.typing import FloatArray, IntArray

# Questions in a row that bring no new architecture, after which a peer will not find any.
_FRUITLESS = 2000

# Architectures to their top-1.
Judge = Callable[[Archs], FloatArray]


class Questions:
    """Counts the architectures that a peer asks about; what it asks again is answered, not counted.

    Attributes
    ----------
    options : ndarray of int64
        Number of options of every decision.
    left : int
        Architectures that may still be asked; 0 as well where nothing new was asked for long.
    """

    def __init__(
        self, space: SearchSpace, judge: Judge, tables: Sequence[CostTable], evaluations: int
    ) -> None:
        self._decisions = Decisions(space, by="slot")
        self.options = np.array([d.n_options for d in self._decisions.decisions])
        self.n_objectives = 1 + len(tables)
        self._judge, self._stack, self._limit = judge, pf.costs.stack(tables), evaluations
        self._values: dict[bytes, FloatArray] = {}
        self._fruitless = 0

    @property
    def left(self) -> int:
        return 0 if self._fruitless >= _FRUITLESS else self._limit - len(self._values)

    def archs(self, x: IntArray) -> Archs:
        """Decode options, shape (n, decisions)."""
        return self._decisions.decode(np.ascontiguousarray(x, dtype=np.int64))

    def costs(self, x: IntArray) -> FloatArray:
        """Costs by the tables, shape (n, tables): they are known, and asking for them is free."""
        return self._stack(self.archs(x))

    def __call__(self, x: IntArray) -> FloatArray:
        """Error and costs of each row, shape (n, 1 + tables).

        Of more rows than are left the last ones are asked nevertheless: a generation is a
        generation. Whoever compares cuts what was asked.
        """
        archs = self.archs(x)
        names = [arch.tobytes() for arch in archs]
        new = [row for row, name in enumerate(names) if name not in self._values]
        self._fruitless = 0 if new else self._fruitless + len(names)
        if new:
            asked = np.ascontiguousarray(archs[new])
            values = objectives(self._judge(asked), self._stack(asked))
            self._values.update(zip((names[row] for row in new), values, strict=True))
        return np.array([self._values[name] for name in names])
