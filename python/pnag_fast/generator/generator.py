"""`Generator`: budgets in, architectures out; numpy and the C++ core only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import costs as cost_tables
from .. import files
from ..accuracy import AccuracyModel
from ..budgets import check_budgets
from ..costs import CostStack, CostTable
from ..errors import BudgetInfeasibleError, FileFormatError, InvalidInputError
from ..search import Front
from ..spaces import Archs, SearchSpace, from_definition
from .decisions import DecisionSequence
from .policy import BudgetScale, Policy

FloatArray = npt.NDArray[np.float64]

GENERATOR_FORMAT = "pnag-generator"
GENERATOR_VERSION = 1

# The policy is asked for the budget and for slightly smaller ones (as a share of the range below
# it): its answers straddle the budget, and those just above it are lost.
_MARGINS = (0.0, 0.01, 0.03, 0.06)


@dataclass(frozen=True, eq=False)
class Generated:
    """Answers of a generator, one row per budget.

    Attributes
    ----------
    budgets : ndarray of float64, shape (b, n_tables)
    archs : ndarray of uint8, shape (b, n_slots)
    top1, top1_std : ndarray of float64, shape (b,)
        Predicted accuracy and its standard deviation.
    costs : ndarray of float64, shape (b, n_tables)
        By the generator's tables; never above the budget.
    source : tuple of str
        What answered: ``"policy"``, ``"policy+neighbours"`` or ``"archive"``.
    """

    budgets: FloatArray
    archs: Archs
    top1: FloatArray
    top1_std: FloatArray
    costs: FloatArray
    source: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.archs)


@dataclass(frozen=True, eq=False)
class Generator:
    """Emits an architecture for any budget.

    A generator carries all it needs: the policy, the accuracy model, the cost tables, and the
    non-dominated architectures met in training (the archive). Every answer is checked against the
    tables; where the policy has nothing within the budget, or nothing as accurate, the archive
    answers.

    Attributes
    ----------
    policy : Policy
    model : AccuracyModel
    tables : tuple of CostTable
    archive : Front
    record : dict
        How it was trained; JSON.
    """

    policy: Policy
    model: AccuracyModel
    tables: tuple[CostTable, ...]
    archive: Front
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        return self.tables[0].space

    @cached_property
    def stack(self) -> CostStack:
        """All tables, looked up in one pass."""
        return cost_tables.stack(self.tables)

    def generate(
        self,
        budgets: npt.ArrayLike,
        *,
        n_candidates: int = 32,
        neighbour_steps: int = 2,
        seed: int = 0,
    ) -> Generated:
        """Return the best architecture found for each budget.

        Parameters
        ----------
        budgets : array of float, shape (), (b,) or (b, n_tables)
            Upper bounds in the units of the tables; a scalar or ``(b,)`` with one table only.
        n_candidates : int
            Architectures that the policy draws for each budget.
        neighbour_steps : int
            Times the best candidate may move to a better architecture one decision away.
        seed : int
            Same budgets and seed, same answers.

        Returns
        -------
        Generated

        Raises
        ------
        BudgetInfeasibleError
            If a budget is below the cheapest architecture.
        InvalidInputError
            If a budget is not a positive number, or above the dearest architecture.
        """
        wanted = check_budgets(budgets, self.tables)
        if n_candidates < 1:
            raise InvalidInputError(f"n_candidates should be at least 1, found {n_candidates}")
        if neighbour_steps < 0:
            raise InvalidInputError(
                f"neighbour_steps should be at least 0, found {neighbour_steps}"
            )
        archs, top1, source = self.search(
            wanted, n_candidates=n_candidates, neighbour_steps=neighbour_steps, seed=seed
        )
        lost = np.flatnonzero(~np.isfinite(top1))
        if len(lost):
            raise BudgetInfeasibleError(
                f"no architecture known to this generator meets budget "
                f"{self._format(wanted[lost[0]])}: each part alone is reachable, together they "
                f"are not; reachable alone: {self._reach()}"
            )
        top1, std = self.model.predict(archs, return_std=True)
        return Generated(wanted, archs, top1, std, self.stack(archs), source)

    def search(
        self, budgets: FloatArray, *, n_candidates: int, neighbour_steps: int, seed: int
    ) -> tuple[Archs, FloatArray, tuple[str, ...]]:
        """Do what `generate` does without its checks; top-1 is -inf where nothing fits.

        Parameters
        ----------
        budgets : ndarray of float64, shape (b, n_tables)

        Returns
        -------
        archs : ndarray of uint8, shape (b, n_slots)
        top1 : ndarray of float64, shape (b,)
        source : tuple of str, length b
        """
        archs, top1 = self._ask_policy(budgets, n_candidates, np.random.default_rng(seed))
        source = np.full(len(budgets), "policy", dtype=object)
        for _ in range(neighbour_steps):
            moved = self._step_to_neighbours(budgets, archs, top1)
            if not moved.any():
                break
            source[moved] = "policy+neighbours"
        known = self.archive.best(budgets)
        better = np.flatnonzero((known >= 0) & (self.archive.top1[known] > top1))
        archs[better] = self.archive.archs[known[better]]
        top1[better] = self.archive.top1[known[better]]
        source[better] = "archive"
        return archs, top1, tuple(source.tolist())

    def _ask_policy(
        self, budgets: FloatArray, n_candidates: int, rng: np.random.Generator
    ) -> tuple[Archs, FloatArray]:
        """Best candidate within each budget; top-1 is -inf where there is none."""
        if len(budgets) == 0:
            return np.empty((0, self.space.n_slots), dtype=np.uint8), np.empty(0)
        low = self.stack.bounds[:, 0]
        margins = np.array(_MARGINS[: min(n_candidates, len(_MARGINS))])
        asked = low + (budgets - low)[:, None] * (1 - margins)[:, None]
        draws = -(-n_candidates // len(margins))
        candidates = self.policy.sample(asked.reshape(-1, len(low)), draws, rng)
        candidates = candidates.reshape(len(budgets), -1, self.space.n_slots)
        flat = np.ascontiguousarray(candidates.reshape(-1, self.space.n_slots))
        unique, inverse = np.unique(flat, axis=0, return_inverse=True)
        shape = candidates.shape[:2]
        top1 = self.model.predict(unique)[inverse.reshape(shape)]
        costs = self.stack(unique)[inverse.reshape(shape)]
        top1 = np.where((costs <= budgets[:, None]).all(axis=2), top1, -np.inf)
        best = top1.argmax(axis=1)
        rows = np.arange(len(budgets))
        return np.ascontiguousarray(candidates[rows, best]), top1[rows, best]

    def _step_to_neighbours(
        self, budgets: FloatArray, archs: Archs, top1: FloatArray
    ) -> npt.NDArray[np.bool_]:
        """Move each row to its best neighbour within the budget, where that is better."""
        if len(archs) == 0:
            return np.zeros(0, dtype=bool)
        groups = [self.space.neighbors(arch) for arch in archs]
        owner = np.repeat(np.arange(len(archs)), [len(group) for group in groups])
        around = np.concatenate(groups)
        fits = (self.stack(around) <= budgets[owner]).all(axis=1)
        scores = np.where(fits, self.model.predict(around), -np.inf)
        # Sorted by owner, then score: the last of each owner is its best neighbour.
        order = np.lexsort((scores, owner))
        last = order[np.flatnonzero(np.append(np.diff(owner[order]) > 0, True))]
        moved = np.zeros(len(archs), dtype=bool)
        better = scores[last] > top1[owner[last]]
        moved[owner[last[better]]] = True
        archs[owner[last[better]]] = around[last[better]]
        top1[owner[last[better]]] = scores[last[better]]
        return moved

    def _format(self, row: FloatArray) -> str:
        return ", ".join(
            f"{value:g} {table.unit}" for value, table in zip(row, self.tables, strict=True)
        )

    def _reach(self) -> str:
        return ", ".join(
            f"{table.bounds[0]:.4g} to {table.bounds[1]:.4g} {table.unit}" for table in self.tables
        )

    def save(self, path: files.StrPath) -> None:
        """Write everything into one safetensors file with a JSON header, atomically."""
        model_tensors, model_body = self.model.to_tensors("model.")
        tensors: dict[str, npt.NDArray[Any]] = {
            **model_tensors,
            **self.policy.to_tensors("policy."),
            "archive.archs": self.archive.archs,
            "archive.top1": self.archive.top1,
            "scale.low": self.policy.scale.low,
            "scale.high": self.policy.scale.high,
        }
        body = {
            "space": self.space.definition,
            "tables": [table.to_json() for table in self.tables],
            "model": model_body,
            "n_budgets": self.policy.scale.n_budgets,
            "interpolate": self.policy.scale.interpolate,
            "archive": {
                "evaluations": self.archive.evaluations,
                "seconds": self.archive.seconds,
            },
            "record": dict(self.record),
        }
        files.write_safetensors(path, GENERATOR_FORMAT, GENERATOR_VERSION, tensors, body)

    @classmethod
    def load(cls, path: files.StrPath) -> Generator:
        """Read a generator; needs neither torch nor TVM.

        Raises
        ------
        FileFormatError
            If the file is truncated, foreign, inconsistent, or from a newer version.
        """
        tensors, body = files.read_safetensors(path, GENERATOR_FORMAT, GENERATOR_VERSION)
        space = from_definition(files.require(body, "space", dict, path), f"'{path}'")
        listed = files.require(body, "tables", list, path)
        if not listed or not all(isinstance(entry, dict) for entry in listed):
            raise FileFormatError(f"'{path}' holds no cost table")
        n_budgets = files.require(body, "n_budgets", int, path)
        if not 1 <= n_budgets <= 100_000:
            raise FileFormatError(f"'{path}': n_budgets is {n_budgets}")
        try:
            tables = tuple(CostTable.from_json(entry, path).for_space(space) for entry in listed)
            model = AccuracyModel.from_tensors(
                tensors, files.require(body, "model", dict, path), path, "model."
            ).for_space(space)
            archive = _load_archive(space, tables, model, tensors, body, path)
        except FileFormatError:
            raise
        except InvalidInputError as error:
            raise FileFormatError(f"'{path}' is inconsistent: {error}") from error
        scale = BudgetScale(
            _bounds(tensors, "scale.low", len(tables), path),
            _bounds(tensors, "scale.high", len(tables), path),
            n_budgets,
            files.require({"interpolate": True, **body}, "interpolate", bool, path),
        )
        policy = Policy.from_tensors(DecisionSequence(space), scale, tensors, "policy.", path)
        return cls(policy, model, tables, archive, files.require(body, "record", dict, path))


def _load_archive(
    space: SearchSpace,
    tables: Sequence[CostTable],
    model: AccuracyModel,
    tensors: Mapping[str, npt.NDArray[Any]],
    body: Mapping[str, Any],
    path: files.StrPath,
) -> Front:
    archs, top1 = tensors.get("archive.archs"), tensors.get("archive.top1")
    about = files.require(body, "archive", dict, path)
    if (
        archs is None
        or top1 is None
        or archs.dtype != np.uint8
        or archs.ndim != 2
        or archs.shape[1] != space.n_slots
        or top1.dtype != np.float64
        or top1.shape != archs.shape[:1]
        or not np.isfinite(top1).all()
    ):
        raise FileFormatError(f"'{path}': the archive of known architectures is damaged")
    space.validate(archs)
    return Front.of(
        archs,
        top1,
        cost_tables.stack(tables)(archs),
        tables,
        accuracy_source=model.source,
        evaluations=files.require(about, "evaluations", int, path),
        seconds=float(files.require(about, "seconds", (int, float), path)),
    )


def _bounds(
    tensors: Mapping[str, npt.NDArray[Any]], name: str, length: int, path: files.StrPath
) -> FloatArray:
    array = tensors.get(name)
    if array is None or array.shape != (length,) or not np.isfinite(array).all():
        raise FileFormatError(f"'{path}': '{name}' should be {length} finite numbers")
    return np.asarray(array, dtype=np.float64)
