"""What every way to train a generator is: its settings, and one function that trains."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .. import arguments
from ..accuracy import AccuracyModel
from ..errors import InvalidTypeError
from ..runs import Run
from ..search import Front, Problem
from .policies import BudgetPolicy

Trained = tuple[BudgetPolicy, Front, dict[str, Any]]


@dataclass(frozen=True)
class GeneratorMethod(abc.ABC):
    """Settings of a method, with defaults for all of them, and the training.

    A method of your own is a subclass, itself a frozen dataclass, with a name by which
    `pnag_fast.train_generator` finds it.
    """

    name: ClassVar[str]
    # Settings by the names that ``preset=`` takes.
    presets: ClassVar[Mapping[str, GeneratorMethod]] = {}

    @property
    @abc.abstractmethod
    def evaluations(self) -> int:
        """Questions that the problem allows; a field, or computed from others."""

    @abc.abstractmethod
    def check(self) -> None:
        """Refuse settings that are out of range, and make the others plain JSON values."""

    @abc.abstractmethod
    def train(self, problem: Problem, run: Run) -> Trained:
        """Train a policy.

        Parameters
        ----------
        problem : Problem
            Of an accuracy model; every cost varies over the space, and so does the accuracy.
        run : Run
            Its checkpoint is open, for the phases of this training.

        Returns
        -------
        policy : BudgetPolicy
        archive : Front
            The non-dominated architectures met on the way.
        record : dict
            What training saw of itself, JSON.

        Raises
        ------
        TrainingError
            If a loss is no longer a number.
        """


def model_of(problem: Problem) -> AccuracyModel:
    """Return the accuracy model of a problem; oracles are refused."""
    if not isinstance(problem.model, AccuracyModel):
        raise InvalidTypeError(
            "a generator predicts what it answers and so needs an accuracy model, found "
            f"{arguments.shown(problem.model)}; fit one to what the oracle answered: "
            "pf.accuracy.fit"
        )
    return problem.model
