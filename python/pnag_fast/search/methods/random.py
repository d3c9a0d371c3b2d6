"""Random search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...runs import Arrays
from ..method import Draws, Layout, Method
from ..problem import Problem

_BATCH = 8192


@dataclass(frozen=True, eq=False)
class Random(Method):
    """Sample uniformly and keep what is not dominated."""

    name: ClassVar[str] = "random"
    title: ClassVar[str] = "random search"

    def layout(self, problem: Problem, names: object) -> Layout:
        return {"batches": (np.int64, (1,))}

    def begin(self, problem: Problem, draws: Draws) -> Arrays:
        return {"batches": np.zeros(1, dtype=np.int64)}

    def step(self, problem: Problem, state: Arrays, draws: Draws) -> Arrays:
        batch = int(state["batches"][0])
        n = min(problem.left, _BATCH)
        problem.evaluate(problem.space.sample(n, seed=draws.seed_of(batch)))
        return {"batches": np.array([batch + 1])}
