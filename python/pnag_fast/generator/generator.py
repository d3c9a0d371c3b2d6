"""`Generator`: budgets in, architectures out; numpy and the C++ core only."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import arguments, files, search
from .. import costs as cost_tables
from ..accuracy import AccuracyModel
from ..budgets import Budgets, OnInfeasible, as_budgets, check_budgets, not_together, reach
from ..costs import CostStack, CostTable
from ..errors import BudgetInfeasibleError, InvalidInputError, InvalidTypeError
from ..memory import require_memory
from ..progress import ProgressCallback, ignore_progress
from ..runs import Arrays
from ..search import Front
from ..spaces import Archs, SearchSpace
from ..threads import one_thread
from ..typing import FloatArray, IntArray
from . import file
from .answers import Generated
from .bank import Bank, distinct
from .cheapest import cheapest
from .devices import check_devices, searched
from .policies import BudgetPolicy

Device = str | CostTable

# Candidates held at once, with a few hundred logits each.
_CANDIDATES = 50_000
# Questions of a search for one vector of bounds, and of those for all: 40 ms, and two seconds.
_QUESTIONS, _ALL_QUESTIONS = 1000, 60_000

# A search on another device starts from the known front, from what the policy answers over the
# range of budgets, and from as many of its draws.
_START_BUDGETS, _START_CANDIDATES = 128, 8

# What `adapt` asks at most in a second, as many as a fast core answers.
_QUESTIONS_PER_SECOND = 30_000
# Thirty years: nobody waits longer, and the questions of more are no number.
_LONGEST_S = 1e9

# Fronts kept of devices and confidences that were asked for, a few hundred architectures each.
_VIEWS = 64
# Devices that a generator names when it is printed.
_SHOWN = 3


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
    devices : tuple of CostTable
        Of a generator for several devices: their tables, of which the first is the first of
        `tables` as well. Empty for one device.
    bank : Bank, optional
        Architectures that are known beside the archive, from which other devices and confidences
        are answered. Default: the archive alone.
    """

    policy: BudgetPolicy
    model: AccuracyModel
    tables: tuple[CostTable, ...]
    archive: Front
    record: Mapping[str, Any] = field(default_factory=dict)
    devices: tuple[CostTable, ...] = ()
    bank: Bank | None = None

    def __repr__(self) -> str:
        costs = "; ".join(f"{table.metric} of {reach(table)}" for table in self.tables)
        names = list({table.device: 0 for table in (*self.devices, *self.tables)})
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        first = f" on '{self.devices[0].device}'" if len(self.devices) > 1 else ""
        return (
            f"<Generator of '{self.space.name}' for "
            f"{', '.join(name[:40] for name in names[:_SHOWN])}{more}"
            f"\n  budgets{first}: {costs}"
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
    def _estimate(self) -> Arrays:
        """What every search for a vector of bounds starts from."""
        return search.first_estimate(self.model, self.archive)

    @cached_property
    def stack(self) -> CostStack:
        """All tables, looked up in one pass."""
        return cost_tables.stack(self.tables)

    @cached_property
    def known(self) -> Bank:
        """All architectures that this generator knows."""
        return Bank.of([self.archive]) if self.bank is None else self.bank

    @cached_property
    def exact(self) -> bool:
        """Whether every architecture was looked at: then there is nothing to search for."""
        n = self.space.n_architectures
        return len(self.known) >= n or (self.bank is None and self.archive.evaluations >= n)

    @cached_property
    def _views(self) -> dict[tuple[CostTable, float | None], Generator]:
        """Generators for single devices and confidences that were asked for, the oldest first."""
        return {}

    def on(self, device: Device | None = None, *, confidence: float | None = None) -> Generator:
        """Return the generator of one device, whose archive is all that is known, costed by it.

        It takes some milliseconds, once for each device and confidence, and asks nothing of the
        accuracy model but the cheapest architecture.

        Parameters
        ----------
        device : str or CostTable, optional
            The name of a known device, or the table of any: of this space, and of the metric and
            the unit of the known ones. Default: the only one that there is.
        confidence : float, optional
            Hold budgets with this probability, see `generate`.

        Raises
        ------
        InvalidInputError
            If the device is not known, or the table is for another space, metric or unit; without
            a name where there are several.
        """
        first, k = self._table_of(device), _deviations(confidence)
        view = self._views.get((first, k))
        if view is not None:
            return view
        tables = (first, *self.tables[1:])
        if k is not None:
            tables = tuple(table.cautious(k) for table in tables)
        if all(a is b for a, b in zip(tables, self.tables, strict=True)) and not self.devices:
            return self
        archive = self.known.front(self.model, tables, self.archive)
        nodes = cost_tables.stack(tables)(self.archive.archs)
        policy = self.policy.rescaled(self.space, nodes)
        view = replace(
            self, policy=policy, tables=tables, archive=archive, devices=(), bank=self.known
        )
        if len(self._views) >= _VIEWS:
            self._views.pop(next(iter(self._views)), None)
        self._views[first, k] = view
        return view

    def _table_of(self, device: Device | None) -> CostTable:
        known = {table.device: table for table in self.devices or self.tables[:1]}
        if isinstance(device, CostTable):
            check_devices([self.tables[0], device], unique=False)
            return device.for_space(self.space)
        if device is None and len(known) == 1:
            return self.tables[0]
        if device is None:
            raise InvalidInputError(
                f"this generator answers for {len(known)} devices: give device=, "
                f"one of {', '.join(map(repr, known))}, or a cost table"
            )
        if not isinstance(device, str):
            raise InvalidTypeError(
                "device should be the name of a known device or a cost table, found "
                f"{arguments.shown(device)}"
            )
        if device not in known:
            raise InvalidInputError(
                f"device {arguments.shown(device)} is not known to this generator, which knows "
                f"{', '.join(map(repr, known))}{arguments.nearest(device, known)}; give its cost "
                "table instead of its name, or add it by adapt(table)"
            )
        return known[device]

    def generate(
        self,
        budgets: npt.ArrayLike,
        *,
        device: Device | Sequence[Device] | None = None,
        confidence: float | None = None,
        n_candidates: int | None = None,
        neighbour_steps: int = 0,
        evaluations: int | None = None,
        on_infeasible: OnInfeasible = "raise",
        seed: int = 0,
    ) -> Generated:
        """Return the best architecture found for each budget.

        Parameters
        ----------
        budgets : array of float, shape (), (b,) or (b, n_tables)
            Upper bounds in the units of the tables; a scalar or ``(b,)`` with one table only. Any
            bound above the dearest architecture leaves its cost open, as ``inf`` does.
        device : str, CostTable, or a sequence of them, optional
            Whose cost the first column is: the name of a known device, or the table of any, as in
            `on`; or one for each budget. Default: the only device that there is.
        confidence : float, optional
            From 0.5 up to 1: the probability, by what the tables know of their errors, that an
            answer's cost is within its budget. Bounds then hold for the mean and as many standard
            deviations as that takes, 1.645 at 0.95. With an exact table nothing changes. Default:
            bounds hold for the tables as they are.
        n_candidates : int, optional
            Architectures that the policy proposes for each budget. Default: what the policy asks
            for itself, 5 where it imitates a front, 32 where it is PNAG's.
        neighbour_steps : int
            Times the best candidate may move to a better architecture one decision away; each
            step predicts a few hundred architectures a budget.
        evaluations : int, optional
            Questions to the accuracy model that a search of its own may ask for each budget, see
            `pnag_fast.search.constrained`; 0 for none. Default: 1,000 where several costs are
            bounded, since no archive covers all vectors of bounds; of more than 60 such budgets
            60,000 together. None where one cost alone is bounded, or the archive is exact.
        on_infeasible : {"raise", "mark"}
            What a budget that no architecture meets is: an error, or a row without an answer
            beside the answers to the others. Either says how far each bound would have to give
            way while the others are kept.
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
            If a budget is no positive number, or a device is not known.
        """
        options: dict[str, Any] = {
            "n_candidates": n_candidates,
            "neighbour_steps": neighbour_steps,
            "evaluations": evaluations,
            "on_infeasible": on_infeasible,
            "seed": seed,
        }

        def answered(of: Device | None, rows: npt.ArrayLike) -> Generated:
            view = self.on(of, confidence=confidence)
            own = {"evaluations": 0} if evaluations is None and view.exact else {}
            return view._generate(rows, **{**options, **own})

        if device is None or isinstance(device, (str, CostTable)):
            return answered(device, budgets)
        asked, groups = _by_device(budgets, device)
        return Generated.joined(
            {tuple(rows): answered(of, asked[rows]) for of, rows in groups.items()}
        )

    def cheapest(
        self,
        quality: npt.ArrayLike,
        *,
        budgets: npt.ArrayLike | None = None,
        device: Device | None = None,
        confidence: float | None = None,
        on_infeasible: OnInfeasible = "raise",
    ) -> Generated:
        """Return the architecture of the smallest cost that is as good as is asked for.

        Parameters
        ----------
        quality : array of float, shape () or (q,)
            What is to be reached, in the unit of the objective: of top-1 a fraction.
        budgets : array of float, shape (n_tables,), optional
            Bounds that hold as well, in the units of the tables; ``inf`` for none.
        device : str or CostTable, optional
            Whose cost is to be small, as for `generate`; of several costs that is the first.
        confidence : float, optional
            From 0.5 up to 1: the probability, by what the model knows of its errors, that an answer
            is as good, and by what the tables know, that it keeps each bound of `budgets`.
        on_infeasible : {"raise", "mark"}
            What a quality that nothing reaches is: an error, or a row without an answer.

        Returns
        -------
        Generated
            One row for each quality.

        Raises
        ------
        BudgetInfeasibleError
            If no known architecture is as good within the bounds, unless these are marked.
        InvalidInputError
            If a quality is no number or beyond the limits of the objective, or a device is not
            known.
        """
        view, k = self.on(device, confidence=confidence), _deviations(confidence)
        wanted = np.atleast_1d(arguments.floats(quality, "quality", finite=True))
        if wanted.ndim != 1:
            raise InvalidInputError(
                f"quality should be a number or a list of numbers, found shape {wanted.shape}"
            )
        view.model.objective.check(wanted, "quality")
        limits = np.full(len(view.tables), np.inf) if budgets is None else as_budgets(budgets)
        if limits.shape != (len(view.tables),):
            raise InvalidInputError(
                f"budgets should have shape ({len(view.tables)},), one bound for each of "
                f"{', '.join(table.describe() for table in view.tables)}; found {limits.shape}"
            )
        bounds = check_budgets(
            np.tile(limits, (len(wanted), 1)), view.tables, on_infeasible=on_infeasible
        )
        model = view.model.cautious(k) if k else view.model
        with one_thread():
            return cheapest(view, model, wanted, bounds, mark=on_infeasible == "mark")

    def _generate(
        self,
        budgets: npt.ArrayLike,
        *,
        n_candidates: int | None,
        neighbour_steps: int,
        evaluations: int | None,
        on_infeasible: OnInfeasible,
        seed: int,
    ) -> Generated:
        """Answer for one device."""
        wanted = check_budgets(budgets, self.tables, on_infeasible=on_infeasible)
        if n_candidates is None:
            n_candidates = self.policy.n_candidates
        n_candidates = arguments.integer(n_candidates, "n_candidates", 1)
        neighbour_steps = arguments.integer(neighbour_steps, "neighbour_steps", 0)
        if evaluations is not None:
            evaluations = arguments.integer(evaluations, "evaluations", 0)
        seed = arguments.seed(seed)
        require_memory(
            len(wanted.upper) * n_candidates * self.space.n_slots,
            f"{arguments.shown(n_candidates)} candidates for {len(wanted.upper)} budgets",
            "ask for fewer candidates, or for fewer budgets at a time",
        )
        with one_thread():
            return self._answer(
                wanted, n_candidates, neighbour_steps, evaluations, on_infeasible, seed
            )

    def _questions(self, budgets: FloatArray, evaluations: int | None) -> IntArray:
        """Questions that the search for each budget may ask, shape (b,)."""
        if evaluations is not None:
            return np.full(len(budgets), evaluations)
        several = (budgets < self.stack.bounds[:, 1]).sum(axis=1) > 1
        if not several.any():
            return np.zeros(len(budgets), dtype=np.intp)
        return np.where(several, min(_QUESTIONS, _ALL_QUESTIONS // int(several.sum())), 0)

    def _answer(
        self,
        wanted: Budgets,
        n_candidates: int,
        neighbour_steps: int,
        evaluations: int | None,
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
            evaluations=evaluations,
            seed=seed,
        )
        answered = asked.copy()
        answered[asked] = np.isfinite(found_merit)
        for row in np.flatnonzero(asked & ~answered).tolist():
            notes[row] = not_together(self.stack, wanted.asked[row])
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
        costs, costs_std = np.full((2, n, len(self.tables)), np.nan)
        unique, _, inverse = distinct(archs[answered])
        mean, spread = self.model.predict(unique, return_std=True)
        top1[answered], std[answered] = mean[inverse], spread[inverse]
        for column, table in enumerate(self.tables):
            mean, spread = table.mean(unique, return_std=True)
            costs[answered, column], costs_std[answered, column] = mean[inverse], spread[inverse]
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
            costs_std,
            tuple(source.tolist()),
            gap,
            tuple(notes),
            (self.tables[0].device,) * n,
            self.model.objective,
        )

    def search(
        self,
        budgets: FloatArray,
        *,
        n_candidates: int,
        neighbour_steps: int,
        evaluations: int | None = 0,
        seed: int,
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
        questions = self._questions(budgets, evaluations)
        rows = np.flatnonzero(questions)
        if len(rows):
            searched, value = search.constrained(
                self.model,
                self.archive,
                budgets[rows],
                archs[rows],
                merit[rows],
                evaluations=int(questions.max()),
                seed=seed,
                estimate=self._estimate,
            )
            ahead = value > merit[rows]
            archs[rows[ahead]], merit[rows[ahead]] = searched[ahead], value[ahead]
            source[rows[ahead]] = "search"
        self._meet(budgets, archs, merit, source)
        return archs, merit, tuple(source.tolist())

    def _meet(
        self, budgets: FloatArray, archs: Archs, merit: FloatArray, source: npt.NDArray[Any]
    ) -> None:
        """Answer what nothing else did and some architecture meets, in place."""
        for row in np.flatnonzero(~np.isfinite(merit)).tolist():
            found = cost_tables.least(self.stack, budgets[row], 0)
            if found.arch is not None and found.cost <= budgets[row, 0]:
                archs[row], source[row] = found.arch, "search"
                merit[row] = self._merit(found.arch[None])[0]

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
        unique, _, inverse = distinct(flat)
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
            start=distinct(start)[0],
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

    def adapt(
        self,
        table: CostTable,
        *,
        seconds: float = 1.0,
        evaluations: int | None = None,
        seed: int = 0,
        progress: ProgressCallback = ignore_progress,
    ) -> Generator:
        """Return a generator that knows one more device, or knows a device better.

        All known architectures are costed by the new table, and a short search goes on from there.
        What it finds is kept for every other device too.

        Parameters
        ----------
        table : CostTable
            Of this space, and of the metric and the unit of the known devices. If its device is
            known by that name, its table is replaced.
        seconds : float
            Time limit of the search; what is found by it depends on the machine.
        evaluations : int, optional
            Predictions of the accuracy model to spend instead: same number and seed, same
            generator. 30,000 take about a second.

        Returns
        -------
        Generator
            Of at least two devices, unless the table replaces the only one.

        Raises
        ------
        InvalidInputError
            If the table is for another space, metric or unit.
        """
        check_devices([self.tables[0], table], unique=False)
        table = table.for_space(self.space)
        limit: float | None = None
        if evaluations is None:
            limit = arguments.number(seconds, "seconds", 0, _LONGEST_S, above=True)
            evaluations = max(1, round(limit * _QUESTIONS_PER_SECOND))
        tables = (table, *self.tables[1:])
        bank = searched(
            self.known,
            self.model,
            tables,
            self.archive,
            evaluations=arguments.integer(evaluations, "evaluations", 1),
            time_limit_s=limit,
            seed=arguments.seed(seed),
            progress=progress,
        )
        before = {of.device: of for of in self.devices or self.tables[:1]}
        devices = tuple({**before, table.device: table}.values())
        known = replace(self, devices=devices, bank=bank)
        # Where the table of the first device is replaced, policy and archive follow.
        first = self if devices[0] is self.tables[0] else known.on(devices[0])
        adapted = [*self.record.get("adapted", []), table.device]
        return replace(
            known,
            policy=first.policy,
            tables=first.tables,
            archive=first.archive,
            record={**self.record, "adapted": adapted},
        )

    def save(self, path: files.StrPath) -> None:
        """Write everything into one safetensors file with a JSON header, atomically."""
        file.write(self, path)

    @classmethod
    def load(cls, path: files.StrPath) -> Generator:
        """Read a generator; needs neither torch nor TVM.

        Raises
        ------
        FileFormatError
            If the file is truncated, foreign, inconsistent, or from a newer version.
        """
        return cls(**file.read(path))


def _deviations(confidence: float | None) -> float | None:
    """Return the standard deviations above the mean that hold with a probability."""
    if confidence is None:
        return None
    share = arguments.number(confidence, "confidence", 0.5, 1, below=True)
    return statistics.NormalDist().inv_cdf(share)


def _by_device(
    budgets: npt.ArrayLike, devices: Sequence[Device]
) -> tuple[FloatArray, dict[Device, list[int]]]:
    """Return budgets, one row for each of `devices`, and the rows of each device."""
    if not isinstance(devices, (list, tuple)) or len(devices) == 0:
        raise InvalidTypeError(
            "device should be the name of a known device, a cost table, or a list of them, one "
            f"for each budget, found {arguments.shown(devices)}"
        )
    asked = as_budgets(budgets)
    if asked.ndim == 0:
        asked = np.full(len(devices), asked)
    if len(asked) != len(devices):
        raise InvalidInputError(
            f"device should name one device for each budget: found {len(devices)} devices for "
            f"{len(asked)} budgets"
        )
    rows: dict[Device, list[int]] = {}
    for row, device in enumerate(devices):
        if not isinstance(device, (str, CostTable)):
            raise InvalidTypeError(
                f"device of row {row} should be the name of a known device or a cost table, found "
                f"{arguments.shown(device)}"
            )
        rows.setdefault(device, []).append(row)
    return asked, rows


def _same_slots(a: SearchSpace, b: SearchSpace) -> bool:
    def slots(space: SearchSpace) -> list[Any]:
        return [
            (stage.min_depth, stage.rows, [slot.factors for slot in stage.slots])
            for stage in space.stages
        ]

    return slots(a) == slots(b)
