"""Enumeration: every architecture of a small space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import InvalidInputError
from ...runs import Arrays, Run
from ..method import Draws, Layout, Method
from ..problem import Problem
from ..result import Front

# Rows asked at a time, so that a time limit is kept.
_ROWS = 65_536


@dataclass(frozen=True, eq=False)
class Exhaustive(Method):
    """Ask about every architecture: the exact front of a small space, CompOFA's 243 for example.

    A space of more architectures than `evaluations` is refused.
    """

    name: ClassVar[str] = "exhaustive"
    title: ClassVar[str] = "exhaustive search"
    evaluations: ClassVar[int] = 1_000_000

    def default_evaluations(self, space: object, model: object, tables: object) -> int:
        return self.evaluations  # of an oracle as well: that is what was called for

    def layout(self, problem: Problem, names: object) -> Layout:
        return {"rest": (np.uint8, (None, problem.space.n_slots))}

    def run(self, problem: Problem, run: Run) -> Front:
        space = problem.space
        if space.n_architectures > problem.limit:
            raise InvalidInputError(
                f"space '{space.name}' has {space.n_architectures} architectures, more than "
                f"evaluations={problem.limit}: allow more, or use front()"
            )
        problem.limit = space.n_architectures
        return super().run(problem, run)

    def begin(self, problem: Problem, draws: Draws) -> Arrays:
        return {"rest": problem.space.enumerate()}

    def step(self, problem: Problem, state: Arrays, draws: Draws) -> Arrays:
        problem.evaluate(state["rest"][:_ROWS])
        return {"rest": state["rest"][_ROWS:]}
