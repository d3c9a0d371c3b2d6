"""`Generator`: budgets in, architectures out; numpy and the C++ core only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import arguments, files, search
from .. import costs as cost_tables
from ..accuracy import AccuracyModel
from ..budgets import Budgets, OnInfeasible, check_budgets, reach
from ..costs import CostStack, CostTable
from ..errors import BudgetInfeasibleError, FileFormatError, InvalidInputError
from ..memory import require_memory
from ..objective import TOP1, Objective
from ..progress import ProgressCallback, ignore_progress
from ..search import Front
from ..spaces import Archs, SearchSpace, from_definition
from ..strict_json import shorten
from ..threads import one_thread
from ..typing import FloatArray
from .policies import BudgetPolicy

GENERATOR_FORMAT = "pnag-generator"
# 2 names the kind of policy; version 1 knew only the LSTM.
GENERATOR_VERSION = 2

# Fields of the header, and arrays; those of the policy are what it would write itself, those of
# the model its reader knows.
_KEYS = ("space", "tables", "model", "archive", "record")
_TENSORS = ("archive.archs", "archive.top1")
_POLICY, _MODEL = "policy.", "model."

# Candidates held at once, with a few hundred logits each.
_CANDIDATES = 50_000

# A search on another device starts from the known front, from what the policy answers over the
# range of budgets, and from as many of its draws.
_START_BUDGETS, _START_CANDIDATES = 128, 8


@dataclass(frozen=True, eq=False)
class Generated:
    """Answers of a generator, one row per budget.

    Attributes
    ----------
    budgets : ndarray of float64, shape (b, n_tables)
        As asked; infinite where a cost was left open.
    archs : ndarray of uint8, shape (b, n_slots)
        Zeros, which is no architecture, where no architecture meets the budget.
    top1, top1_std : ndarray of float64, shape (b,)
        Predicted value of the objective (top-1, unless the model is of another) and its standard
        deviation; NaN without an answer.
    costs : ndarray of float64, shape (b, n_tables)
        By the generator's tables; never above the budget, NaN without an answer.
    source : tuple of str
        What answered: ``"policy"``, ``"policy+neighbours"`` or ``"archive"``; ``"infeasible"``
        where nothing did.
    gap : ndarray of float64, shape (b,)
        How much better, in the unit of the objective, the best architecture of the archive within
        the budget is predicted than the answer: 0 where the archive answered, negative where the
        policy found better. NaN where the archive has nothing within the budget, and without an
        answer.
    notes : tuple of str
        What to know about a row, such as why it has no answer; usually empty.
    objective : Objective
        What ``top1`` is.
    """

    budgets: FloatArray
    archs: Archs
    top1: FloatArray
    top1_std: FloatArray
    costs: FloatArray
    source: tuple[str, ...]
    gap: FloatArray
    notes: tuple[str, ...]
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


@dataclass(frozen=True, eq=False)
class Generator:
    """Emits an architecture for any budget.

    A generator carries all it needs: the policy, the accuracy model, the cost tables, and the
    non-dominated architectures met in training (the archive). Every answer is checked against the
    tables; where the policy has nothing within the budget, or nothing as accurate, the archive
    answers.

    Attributes
    ----------
    policy : BudgetPolicy
    model : AccuracyModel
    tables : tuple of CostTable
    archive : Front
    record : dict
        How it was trained; JSON.
    """

    policy: BudgetPolicy
    model: AccuracyModel
    tables: tuple[CostTable, ...]
    archive: Front
    record: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        costs = "; ".join(f"{table.metric} of {reach(table)}" for table in self.tables)
        return (
            f"<Generator of '{self.space.name}' for {', '.join({t.device: 0 for t in self.tables})}"
            f"\n  budgets: {costs}"
            f"\n  archive: {len(self.archive)} architectures, "
            f"{self.model.objective.span(self.archive.top1)}, {self.model.source}>"
        )

    def __getstate__(self) -> dict[str, Any]:
        # Without what is derived: it is cheap to derive again, and holds handles of the C++ core.
        return {item.name: getattr(self, item.name) for item in fields(self)}

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
        n_candidates: int | None = None,
        neighbour_steps: int = 0,
        on_infeasible: OnInfeasible = "raise",
        seed: int = 0,
    ) -> Generated:
        """Return the best architecture found for each budget.

        Parameters
        ----------
        budgets : array of float, shape (), (b,) or (b, n_tables)
            Upper bounds in the units of the tables; a scalar or ``(b,)`` with one table only. Any
            bound above the dearest architecture leaves its cost open, as ``inf`` does.
        n_candidates : int, optional
            Architectures that the policy proposes for each budget. Default: what the policy asks
            for itself, 5 where it imitates a front, 32 where it is PNAG's.
        neighbour_steps : int
            Times the best candidate may move to a better architecture one decision away; each
            step predicts a few hundred architectures a budget.
        on_infeasible : {"raise", "mark"}
            What a budget that no architecture meets is: an error, or a row without an answer
            beside the answers to the others.
        seed : int
            Same budgets and seed, same answers.

        Returns
        -------
        Generated

        Raises
        ------
        BudgetInfeasibleError
            If no architecture meets a budget, unless these are marked.
        InvalidInputError
            If a budget is no positive number.
        """
        wanted = check_budgets(budgets, self.tables, on_infeasible=on_infeasible)
        if n_candidates is None:
            n_candidates = self.policy.n_candidates
        n_candidates = arguments.integer(n_candidates, "n_candidates", 1)
        neighbour_steps = arguments.integer(neighbour_steps, "neighbour_steps", 0)
        seed = arguments.seed(seed)
        require_memory(
            len(wanted.upper) * n_candidates * self.space.n_slots,
            f"{arguments.shown(n_candidates)} candidates for {len(wanted.upper)} budgets",
            "ask for fewer candidates, or for fewer budgets at a time",
        )
        with one_thread():
            return self._answer(wanted, n_candidates, neighbour_steps, on_infeasible, seed)

    def _answer(
        self,
        wanted: Budgets,
        n_candidates: int,
        neighbour_steps: int,
        on_infeasible: OnInfeasible,
        seed: int,
    ) -> Generated:
        notes = [
            problem or note for problem, note in zip(wanted.problems, wanted.notes, strict=True)
        ]
        asked = np.array([not problem for problem in wanted.problems], dtype=np.bool_)
        found, found_merit, found_source = self.search(
            wanted.upper[asked],
            n_candidates=n_candidates,
            neighbour_steps=neighbour_steps,
            seed=seed,
        )
        answered = asked.copy()
        answered[asked] = np.isfinite(found_merit)
        for row in np.flatnonzero(asked & ~answered).tolist():
            notes[row] = (
                f"no architecture known to this generator meets budget "
                f"{self._format(wanted.asked[row])}: each part alone is reachable, together they "
                f"are not; reachable alone: {', '.join(map(reach, self.tables))}"
            )
            if on_infeasible == "raise":
                raise BudgetInfeasibleError(notes[row])
        n = len(asked)
        archs = np.zeros((n, self.space.n_slots), dtype=np.uint8)
        archs[asked] = found
        archs[~answered] = 0
        source = np.full(n, "infeasible", dtype=object)
        source[asked] = found_source
        source[~answered] = "infeasible"
        top1, std, gap = np.full((3, n), np.nan)
        costs = np.full((n, len(self.tables)), np.nan)
        unique, inverse = _unique(archs[answered])
        mean, spread = self.model.predict(unique, return_std=True)
        top1[answered], std[answered] = mean[inverse], spread[inverse]
        costs[answered] = self.stack(unique)[inverse]
        known = self.archive.best(wanted.upper)
        merit = self.model.objective.merit
        ahead = merit(self.archive.top1[known]) - merit(top1)
        gap[answered] = np.where(known >= 0, ahead, np.nan)[answered]
        gap[source == "archive"] = 0.0
        return Generated(
            wanted.asked,
            archs,
            top1,
            std,
            costs,
            tuple(source.tolist()),
            gap,
            tuple(notes),
            self.model.objective,
        )

    def search(
        self, budgets: FloatArray, *, n_candidates: int, neighbour_steps: int, seed: int
    ) -> tuple[Archs, FloatArray, tuple[str, ...]]:
        """Do what `generate` does without its checks; the merit is -inf where nothing fits.

        Parameters
        ----------
        budgets : ndarray of float64, shape (b, n_tables)
            Finite.

        Returns
        -------
        archs : ndarray of uint8, shape (b, n_slots)
        merit : ndarray of float64, shape (b,)
            The objective, negated where smaller is better.
        source : tuple of str, length b
        """
        archs, merit = self._ask_policy(budgets, n_candidates, np.random.default_rng(seed))
        source = np.full(len(budgets), "policy", dtype=object)
        for _ in range(neighbour_steps):
            moved = self._step_to_neighbours(budgets, archs, merit)
            if not moved.any():
                break
            source[moved] = "policy+neighbours"
        known = self.archive.best(budgets)
        of_known = self.model.objective.merit(self.archive.top1[known])
        better = np.flatnonzero((known >= 0) & (of_known > merit))
        archs[better] = self.archive.archs[known[better]]
        merit[better] = of_known[better]
        source[better] = "archive"
        return archs, merit, tuple(source.tolist())

    def _merit(self, archs: Archs) -> FloatArray:
        return self.model.objective.merit(self.model.predict(archs))

    def _ask_policy(
        self, budgets: FloatArray, n_candidates: int, rng: np.random.Generator
    ) -> tuple[Archs, FloatArray]:
        """Best candidate within each budget; its merit is -inf where there is none."""
        archs = np.empty((len(budgets), self.space.n_slots), dtype=np.uint8)
        merit = np.empty(len(budgets))
        block = max(1, _CANDIDATES // n_candidates)
        for start in range(0, len(budgets), block):
            rows = slice(start, start + block)
            archs[rows], merit[rows] = self._ask_block(budgets[rows], n_candidates, rng)
        return archs, merit

    def _ask_block(
        self, budgets: FloatArray, n_candidates: int, rng: np.random.Generator
    ) -> tuple[Archs, FloatArray]:
        candidates = self.policy.candidates(budgets, n_candidates, rng)
        flat = np.ascontiguousarray(candidates.reshape(-1, self.space.n_slots))
        unique, inverse = _unique(flat)
        shape = candidates.shape[:2]
        merit = self._merit(unique)[inverse.reshape(shape)]
        costs = self.stack(unique)[inverse.reshape(shape)]
        merit = np.where(np.all(costs <= budgets[:, None], axis=2), merit, -np.inf)
        best = merit.argmax(axis=1)
        rows = np.arange(len(budgets))
        return candidates[rows, best], merit[rows, best]

    def _step_to_neighbours(
        self, budgets: FloatArray, archs: Archs, merit: FloatArray
    ) -> npt.NDArray[np.bool_]:
        """Move each row to its best neighbour within the budget, where that is better."""
        if len(archs) == 0:
            return np.zeros(0, dtype=bool)
        groups = [self.space.neighbors(arch) for arch in archs]
        owner = np.repeat(np.arange(len(archs)), [len(group) for group in groups])
        around = np.concatenate(groups)
        fits = (self.stack(around) <= budgets[owner]).all(axis=1)
        scores = np.where(fits, self._merit(around), -np.inf)
        # Sorted by owner, then score: the last of each owner is its best neighbour.
        order = np.lexsort((scores, owner))
        last = order[np.flatnonzero(np.append(np.diff(owner[order]) > 0, True))]
        moved = np.zeros(len(archs), dtype=bool)
        better = scores[last] > merit[owner[last]]
        moved[owner[last[better]]] = True
        archs[owner[last[better]]] = around[last[better]]
        merit[owner[last[better]]] = scores[last[better]]
        return moved

    def retarget(
        self,
        tables: Sequence[CostTable],
        *,
        model: AccuracyModel | None = None,
        seed: int = 0,
        evaluations: int = 30_000,
        time_limit_s: float | None = None,
        progress: ProgressCallback = ignore_progress,
    ) -> Generator:
        """Return a generator for another device, without training.

        The known front and what the policy proposes are costed by the new tables, and a short
        search goes on from there.

        Parameters
        ----------
        tables : sequence of CostTable
            As many as the generator has; of its space, or of one with the same slots, such as
            another input resolution.
        model : AccuracyModel, optional
            For another space; default: the generator's own.
        evaluations : int
            Predictions of the accuracy model to spend; 30,000 take about a second.
        time_limit_s : float, optional

        Returns
        -------
        Generator

        Raises
        ------
        InvalidInputError
            If the slots or the number of tables differ, or the model is for another space.
        """
        stack = cost_tables.stack(tables)
        space = stack.space
        if len(stack.tables) != len(self.tables):
            raise InvalidInputError(
                f"this generator answers {len(self.tables)} costs; found {len(stack.tables)} tables"
            )
        if not _same_slots(space, self.space):
            raise InvalidInputError(
                f"the tables are for space '{space.name}', whose slots are not those of "
                f"'{self.space.name}': train a generator for it"
            )
        model = (self.model if model is None else model).for_space(space)
        grid = self.archive.costs[
            np.linspace(0, len(self.archive) - 1, _START_BUDGETS).round().astype(int)
        ]
        proposed = self.policy.candidates(grid, _START_CANDIDATES, np.random.default_rng(seed))
        start = np.concatenate(
            [self.archive.archs, proposed.reshape(-1, space.n_slots)], dtype=np.uint8
        )
        archive = search.front(
            space,
            model,
            stack.tables,
            seed=seed,
            evaluations=evaluations,
            time_limit_s=time_limit_s,
            start=_unique(start)[0],
            progress=progress,
        )
        record = {
            "method": "retarget",
            "seed": seed,
            "evaluations": archive.evaluations,
            "from": [table.describe() for table in self.tables],
        }
        policy = self.policy.rescaled(space, stack(self.archive.archs))
        return Generator(policy, model, stack.tables, archive, record)

    def _format(self, row: FloatArray) -> str:
        return ", ".join(
            f"{value:g} {table.unit}" for value, table in zip(row, self.tables, strict=True)
        )

    def save(self, path: files.StrPath) -> None:
        """Write everything into one safetensors file with a JSON header, atomically."""
        model_tensors, model_body = self.model.to_tensors(_MODEL)
        policy_tensors, policy_body = self.policy.to_tensors(_POLICY)
        tensors: dict[str, npt.NDArray[Any]] = {
            **model_tensors,
            **policy_tensors,
            "archive.archs": self.archive.archs,
            "archive.top1": self.archive.top1,
        }
        body = {
            "space": self.space.definition,
            "tables": [table.to_json() for table in self.tables],
            "model": model_body,
            **policy_body,
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
        listed = files.require_each(body, "tables", dict, path)
        if not listed:
            raise FileFormatError(f"'{path}' holds no cost table")
        try:
            tables = tuple(CostTable.from_json(entry, path).for_space(space) for entry in listed)
            model = AccuracyModel.from_tensors(
                tensors, files.require(body, "model", dict, path), path, _MODEL
            ).for_space(space)
            archive = _load_archive(space, tables, model, tensors, body, path)
        except FileFormatError:
            raise
        except InvalidInputError as error:
            raise FileFormatError(f"'{path}' is inconsistent: {error}") from error
        policy = BudgetPolicy.from_tensors(space, len(tables), tensors, body, path, _POLICY)
        policy_tensors, policy_body = policy.to_tensors(_POLICY)
        files.check_keys(body, (*_KEYS, *policy_body), path)
        known = {*_TENSORS, *policy_tensors}
        extra = [name for name in tensors if name not in known and not name.startswith(_MODEL)]
        if extra:
            raise FileFormatError(f"'{path}' has the extra tensor {shorten(extra[0])}")
        return cls(policy, model, tables, archive, files.require(body, "record", dict, path))


def _unique(archs: Archs) -> tuple[Archs, npt.NDArray[np.intp]]:
    """Distinct rows, and which of them each row is."""
    rows = np.ascontiguousarray(archs)
    # Rows as opaque bytes sort several times faster than rows as arrays.
    packed = rows.view(np.dtype((np.void, rows.shape[1])))[:, 0]
    _, first, inverse = np.unique(packed, return_index=True, return_inverse=True)
    return np.ascontiguousarray(rows[first]), inverse


def _same_slots(a: SearchSpace, b: SearchSpace) -> bool:
    def slots(space: SearchSpace) -> list[Any]:
        return [
            (stage.min_depth, stage.rows, [slot.factors for slot in stage.slots])
            for stage in space.stages
        ]

    return slots(a) == slots(b)


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
    files.check_keys(about, ("evaluations", "seconds"), path, within="archive")
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
        evaluations=files.integer(
            about.get("evaluations"), f"'{path}': field 'archive.evaluations'", low=0
        ),
        seconds=files.number(about.get("seconds"), f"'{path}': field 'archive.seconds'", low=0),
        objective=model.objective,
    )
