"""What all parts are told: where the data is, how many seeds, and how much to spend."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pnag_fast.generator import ExpertSettings, PnagSettings
from pnag_fast.search import Front

from . import problems
from .problems import Problem


@dataclass(frozen=True)
class Options:
    """Command line options and the sizes that follow from them.

    `tiny` only proves that every line runs; its figures mean nothing.
    """

    data: Path
    work_dir: Path
    out: Path
    seeds: int = 5
    quick: bool = False
    tiny: bool = False

    @property
    def size(self) -> str:
        return "tiny" if self.tiny else "quick" if self.quick else "full"

    @property
    def identity(self) -> dict[str, Any]:
        """What of these options a result depends on."""
        return {"size": self.size}

    def pick(self, full: Any, quick: Any, tiny: Any) -> Any:
        """A value by the size of the run."""
        return {"full": full, "quick": quick, "tiny": tiny}[self.size]

    def training(self, *, small: bool = False, method: str = "expert") -> dict[str, Any]:
        """Arguments of `train_generator` beyond the problem; `small` for 15,625 cells."""
        if method == "pnag":
            quick = PnagSettings(n_architectures=2000, evaluator_steps=100, steps=40)
            tiny = PnagSettings(n_architectures=100, evaluator_steps=3, evaluator_batch=16, steps=2)
            return {"settings": self.pick(PnagSettings(), quick, tiny)}
        if self.tiny:
            return {"settings": ExpertSettings(evaluations=2000, steps=5, hidden=16)}
        if small:
            # Every cell is evaluated; what takes time is the policy.
            return {"settings": ExpertSettings(steps=200)}
        if self.quick:
            return {"settings": ExpertSettings(evaluations=200_000, steps=500)}
        return {}

    @property
    def gpus(self) -> tuple[str, ...]:
        return problems.GPUS[: self.pick(3, 1, 1)]

    @property
    def _reference_size(self) -> tuple[int, int]:
        evaluations, seeds = self.pick((1_300_000, 3), (300_000, 1), (2000, 1))
        return evaluations, seeds

    @property
    def reference_recipe(self) -> str:
        evaluations, seeds = self._reference_size
        return f"union of {seeds} pf.search.front runs of {evaluations:,} evaluations"

    def reference(self, problem: Problem) -> Front:
        """The reference front, searched once and kept in the work folder."""
        evaluations, seeds = self._reference_size
        return problems.reference_front(
            problem, self.work_dir, evaluations=evaluations, seeds=seeds
        )
