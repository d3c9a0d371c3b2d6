"""Answers that were measured within their budgets: ask, measure, correct the table, ask again.

A search finds the errors of whatever it trusts, so what a generator answers tends to be slower on
the device than its table says; and devices change. A few whole networks show by how much: they are
taken into the table's posterior, and the corrected table answers better. What was measured within a
budget is never given up for what was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import arguments, files
from .. import costs as cost_tables
from ..costs import CostTable
from ..errors import InvalidInputError, InvalidTypeError
from ..progress import ProgressCallback, ignore_progress
from ..runs import Run, journal
from ..spaces import Archs
from ..typing import BoolArray, FloatArray, Int64Array
from .uncertainty import slower_together

if TYPE_CHECKING:
    from ..generator import Generator

# Architectures, shape (n, n_slots), to what each costs: shape (n,), or (n, repeats).
Measure = Callable[[Archs], npt.ArrayLike]

FORMAT = "pnag-confirmed"
VERSION = 1
_RECORD = ("arch", "measured", "round", "run")

# What all networks may be slower by than a table says that was made on another day, as a share.
_SLOWER = 0.02
# What one measurement of a network differs by from the next, as a share, and how many degrees of
# freedom that is worth beside what was seen of it.
_NOISE, _NOISE_FREEDOM = 0.007, 4.0
# How sure a network should be of its budget by the table, where none is known within: more from
# round to round. Others are tried beside it, which may well fail: measuring tells.
_SURE = (0.8, 0.9, 0.975)
_DARING = (0.7, 0.5)
# What is asked for where the first answer is known to be above the budget, as shares of it.
_LADDER = (1.0, 0.995, 0.99, 0.98, 0.965, 0.95, 0.925, 0.9)
_MOST_ROUNDS = 100
_SMALLEST = 5e-324


@dataclass(frozen=True, eq=False, repr=False)
class Confirmed:
    """What `confirm` found, one row for each budget.

    Attributes
    ----------
    budgets : ndarray of float64, shape (b, n_tables)
        As asked.
    archs : ndarray of uint8, shape (b, n_slots)
        The best that was measured within the budget; where none was, what came nearest.
    top1, top1_std : ndarray of float64, shape (b,)
        Predicted value of the objective, and its standard deviation.
    costs, costs_std : ndarray of float64, shape (b, n_tables)
        By the corrected table, and all others.
    measured : ndarray of float64, shape (b,)
        Median of the network's measurements, in the table's unit.
    repeats : ndarray of int64, shape (b,)
        How often it was measured.
    rounds : ndarray of int64, shape (b,)
        Round in which it was asked for, from 1; 0 where it was known from an earlier call.
    source : tuple of str
        What answered, as in `pnag_fast.Generated`; ``"measured"`` for what was known before.
    confirmed : ndarray of bool, shape (b,)
        Whether it was measured within its budget, with the confidence that was asked for.
    notes : tuple of str
        Why a row is not confirmed, and by how much; empty where it is.
    spread : float
        Relative standard deviation of one measurement of a network, from networks that were
        measured repeatedly.
    networks, n_rounds : int
        Distinct networks that were measured, in how many rounds.
    table : CostTable
        The device's, corrected.
    generator : Generator
        Corrected: answers by `table`.
    """

    budgets: FloatArray
    archs: Archs
    top1: FloatArray
    top1_std: FloatArray
    costs: FloatArray
    costs_std: FloatArray
    measured: FloatArray
    repeats: Int64Array
    rounds: Int64Array
    source: tuple[str, ...]
    confirmed: BoolArray
    notes: tuple[str, ...]
    spread: float
    networks: int
    n_rounds: int
    table: CostTable
    generator: Generator

    def __len__(self) -> int:
        return len(self.archs)

    def __repr__(self) -> str:
        return (
            f"<Confirmed: {int(self.confirmed.sum())} of {len(self)} budgets, {self.networks} "
            f"networks measured in {self.n_rounds} rounds, spread {self.spread:.2%}>"
        )

    @property
    def room(self) -> FloatArray:
        """What is left of each budget by the measurement, as a share; negative where it is missed.

        NaN where the budget leaves the measured cost open.
        """
        with np.errstate(invalid="ignore"):
            room = 1.0 - self.measured / self.budgets[:, 0]
        return np.where(np.isfinite(self.budgets[:, 0]), room, np.nan)


def confirm(
    generator: Generator,
    budgets: npt.ArrayLike,
    measure: Measure,
    *,
    device: str | CostTable | None = None,
    rounds: int = 3,
    confidence: float = 0.8,
    tolerance: float = 0.01,
    evaluations: int = 30_000,
    seed: int = 0,
    checkpoint: files.StrPath | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Confirmed:
    """Find an answer to each budget that was measured within it.

    In each round the generator is asked for up to three networks for each budget, some surer of it
    than others; they are measured together with the answers that stand; everything measured is
    taken into the posterior of the device's table, and the generator is adapted to the corrected
    table by a short search. It ends when every budget has an answer that was measured within it
    twice, and none has room left that a better network is known for.

    Parameters
    ----------
    generator : Generator
    budgets : array of float, shape (), (b,) or (b, n_tables)
        As for `Generator.generate`. What is measured is the first column.
    measure : callable
        Given distinct architectures, shape (n, n_slots), returns what each costs on the device in
        the table's unit, shape (n,), or (n, repeats). `pnag_fast.latency.timer` makes one.
    device : str or CostTable, optional
        As for `Generator.generate`.
    rounds : int
        At most so many calls of `measure`.
    confidence : float
        From 0.5 up to 1: an answer counts as measured within its budget where the median of its
        measurements is, and with this probability what it costs, by these and by the table.
    tolerance : float
        Room that is not worth another round, as a share of the budget.
    evaluations : int
        Predictions of the accuracy model for the search of each round; 30,000 take about a second.
    checkpoint : path, optional
        File of every measurement. What is in it is not measured again: a call that was stopped goes
        on and ends as it would have, another one with other budgets knows its networks.

    Returns
    -------
    Confirmed

    Raises
    ------
    BudgetInfeasibleError
        If no architecture meets a budget by the table as it is.
    InvalidInputError
        If there is no budget, or `measure` returns something else than positive numbers.

    Examples
    --------
    >>> import pnag_fast as pf
    >>> generator = pf.Generator.load("generator.safetensors")        # doctest: +SKIP
    >>> timer = pf.latency.timer(generator.tables[0])                 # doctest: +SKIP
    >>> answers = pf.latency.confirm(generator, [20.0, 30.0], timer)  # doctest: +SKIP
    >>> answers.generator.save("corrected.safetensors")               # doctest: +SKIP
    """
    if not callable(measure):
        raise InvalidTypeError(
            f"measure should be a function of architectures, found {arguments.shown(measure)}"
        )
    rounds = arguments.integer(rounds, "rounds", 1, _MOST_ROUNDS)
    confidence = arguments.number(confidence, "confidence", 0.5, 1, below=True)
    tolerance = arguments.fraction(tolerance, "tolerance")
    evaluations = arguments.integer(evaluations, "evaluations", 1)
    run = Run(seed=seed, progress=progress, checkpoint=checkpoint)
    tables = generator.on(device).tables
    # Refuses budgets that cannot be met before anything is measured.
    asked = generator.generate(budgets, device=device, seed=seed).budgets
    if not len(asked):
        raise InvalidInputError("there are no budgets to confirm: give at least one")
    settings = {
        "budgets": [[str(value) for value in row] for row in asked.tolist()],
        "confidence": confidence,
        "tolerance": tolerance,
        "evaluations": evaluations,
        "seed": run.seed,
    }
    with _Measurements(checkpoint, tables[0], settings, measure, run) as known:
        work = _Work(generator, tables, asked, confidence, tolerance, run, known)
        return work.confirmed(rounds, evaluations)


class _Work:
    """The rounds of one call.

    Attributes
    ----------
    generator : Generator
        As corrected by what is known.
    table : CostTable
        The device's, as corrected.
    """

    def __init__(
        self,
        generator: Generator,
        tables: tuple[CostTable, ...],
        budgets: FloatArray,
        confidence: float,
        tolerance: float,
        run: Run,
        known: _Measurements,
    ) -> None:
        self.generator, self.table = generator, tables[0].mean
        self._others, self._start = tables[1:], slower_together(tables[0].mean, _SLOWER)
        self._budgets, self._tolerance = budgets, tolerance
        self._margin = NormalDist().inv_cdf(confidence)
        self._run, self._known = run, known
        # In which round each network was asked for, and what answered.
        self._origins: dict[str, tuple[int, str]] = {}

    def confirmed(self, rounds: int, evaluations: int) -> Confirmed:
        """Ask, measure and correct until nothing is left to ask for."""
        self._correct(0, evaluations)
        done = 0
        for number in range(rounds):
            wanted = self._wanted(number, last=number == rounds - 1)
            if not len(wanted):
                break
            networks = f"{len(wanted)} network{'' if len(wanted) == 1 else 's'}"
            self._run.progress(
                f"round {number + 1} of at most {rounds}: measuring {networks}", 0, 0
            )
            self._known.measure(number + 1, wanted)
            self._correct(number + 1, evaluations)
            done = number + 1
        return self._result(done)

    def _correct(self, number: int, evaluations: int) -> None:
        """Take all measurements into the table as it was, and adapt the generator to it."""
        known = self._known
        if not known.notations:
            return
        noise = known.spread / np.sqrt(known.repeats)
        self.table = self._start.updated(known.archs, known.median, noise=noise)
        self.generator = self.generator.adapt(
            self.table, evaluations=evaluations, seed=self._run.seed + number
        )

    def _upper(self) -> FloatArray:
        """Return what each known network costs at most, with the confidence asked for.

        Of a network's distance from the table, part is the noise of its measurements, and the rest
        its own: what the table expects and what was measured of it are weighed by what either may
        be off by. It is never less than what was measured.
        """
        known = self._known
        if not known.notations:
            return known.median
        mean, std = self.table(known.archs, return_std=True)
        posterior = self.table.posterior
        own = np.zeros_like(mean) if posterior is None else posterior.apart(mean)
        noise = (known.spread * known.median) ** 2 / known.repeats
        gain = own / (own + noise)
        variance = np.maximum(std**2 - own, 0.0) * (1.0 - gain) ** 2 + gain * noise
        expected = mean + gain * (known.median - mean)
        return np.maximum(expected + self._margin * np.sqrt(variance), known.median)

    def _fits(self, cost: FloatArray) -> BoolArray:
        """Whether each known network, at a cost on the device, fits each budget, shape (b, n)."""
        costs = self._costs(self._known.archs, cost)
        return np.asarray((costs[None] <= self._budgets[:, None]).all(axis=2))

    def _costs(self, archs: Archs, cost: FloatArray) -> FloatArray:
        if not self._others:
            return cost[:, None]
        return np.column_stack([cost, cost_tables.stack(self._others)(archs)])

    def _merit(self, archs: Archs) -> FloatArray:
        model = self.generator.model
        return model.objective.merit(model.predict(archs))

    def _best(self, fits: BoolArray) -> Int64Array:
        """Known network of the highest merit that fits each budget, -1 where none does."""
        if not self._known.notations:
            return np.full(len(self._budgets), -1)
        merit = np.where(fits, self._merit(self._known.archs)[None], -np.inf)
        return np.where(fits.any(axis=1), merit.argmax(axis=1), -1)

    def _wanted(self, number: int, *, last: bool) -> Archs:
        """Choose what to measure next; nothing where every budget is settled."""
        known, space = self._known, self.table.space
        upper = self._upper()
        standing = self._best(self._fits(upper))
        missed = standing < 0
        merit, room = np.full(len(standing), -np.inf), np.full(len(standing), np.inf)
        if not missed.all():
            rows = standing[~missed]
            merit[~missed] = self._merit(known.archs[rows])
            room[~missed] = 1.0 - upper[rows] / self._budgets[~missed, 0]
        sure = _SURE[-1] if last else _SURE[min(number, len(_SURE) - 1)]
        wanted: dict[str, str] = {}
        open_ = missed | (room > self._tolerance)
        for of, level in ((missed, sure), *((open_, level) for level in _DARING)):
            for row, notation, value, source in self._answers(np.flatnonzero(of), level):
                if value > merit[row]:
                    wanted.setdefault(notation, source)
        # Of a budget that is nearly the least there is, the table is sure of nothing.
        if missed.any() and (last or not wanted):
            (cheapest,) = space.to_strings(self.table.cheapest()[None])
            if cheapest not in known.notations:
                wanted.setdefault(cheapest, "archive")
        for notation, source in wanted.items():
            self._origins.setdefault(notation, (number + 1, source))
        # What lies within by its median alone may be confirmed by measuring it again; what was
        # measured once may have been lucky.
        close = self._best(self._fits(known.median))[missed]
        close = close[close >= 0]
        lucky = self._margin > 0 and (known.repeats[standing[~missed]] < 2).any()
        if wanted or len(close) or lucky:
            for index in (*close.tolist(), *standing[~missed].tolist()):
                wanted.setdefault(known.notations[index], "")
        return space.from_strings(list(wanted)) if wanted else known.archs[:0]

    def _answers(self, rows: Int64Array, level: float) -> Iterator[tuple[int, str, float, str]]:
        """Yield the best answer that was not measured for each row: name, merit and source."""
        if not len(rows):
            return
        asked = np.repeat(self._budgets[rows], len(_LADDER), axis=0)
        asked[:, 0] *= np.tile(_LADDER, len(rows)) / (1.0 + self._margin * self._known.spread)
        answers = self.generator.generate(
            asked,
            device=self.table,
            confidence=level,
            on_infeasible="mark",
            seed=self._run.seed,
        )
        feasible = np.flatnonzero(answers.feasible)
        named = self.table.space.to_strings(answers.archs[feasible])
        names = dict(zip(feasible.tolist(), named, strict=True))
        merit = self.generator.model.objective.merit(answers.top1)
        for index, row in enumerate(rows.tolist()):
            steps = range(index * len(_LADDER), (index + 1) * len(_LADDER))
            new = [i for i in steps if i in names and names[i] not in self._known.notations]
            if new:
                best = max(new, key=lambda i: float(merit[i]))
                yield row, names[best], float(merit[best]), answers.source[best]

    def _result(self, n_rounds: int) -> Confirmed:
        known, model = self._known, self.generator.model
        upper, budget = self._upper(), self._budgets[:, 0]
        confirmed = self._best(self._fits(upper))
        within = self._best(self._fits(known.median))
        nearest = int(upper.argmin())
        rows = np.where(confirmed >= 0, confirmed, np.where(within >= 0, within, nearest))
        archs = known.archs[rows]
        origins = [self._origins.get(known.notations[i], (0, "measured")) for i in rows]
        top1, top1_std = model.predict(archs, return_std=True)
        columns = [table.mean(archs, return_std=True) for table in (self.table, *self._others)]
        return Confirmed(
            budgets=self._budgets,
            archs=archs,
            top1=top1,
            top1_std=top1_std,
            costs=np.column_stack([mean for mean, _ in columns]),
            costs_std=np.column_stack([std for _, std in columns]),
            measured=known.median[rows],
            repeats=known.repeats[rows],
            rounds=np.array([number for number, _ in origins]),
            source=tuple(source for _, source in origins),
            confirmed=confirmed >= 0,
            notes=tuple(
                "" if done >= 0 else self._why(float(bound), float(known.median[row]))
                for done, bound, row in zip(confirmed, budget, rows, strict=True)
            ),
            spread=known.spread,
            networks=len(known.notations),
            n_rounds=n_rounds,
            table=self.table,
            generator=self.generator,
        )

    def _why(self, budget: float, measured: float) -> str:
        """Say why no network was confirmed within a budget; `measured` is what came nearest."""
        unit = f" {self.table.unit}"
        if measured > budget:
            return (
                f"the nearest of {len(self._known.notations)} measured networks takes "
                f"{measured:.4g}{unit}, {measured / budget - 1:.1%} above the budget of "
                f"{budget:.4g}{unit}"
            )
        return (
            f"measured within, but the device cannot be read that finely: "
            f"{1 - measured / budget:.2%} of the budget of {budget:.4g}{unit} is left, and "
            f"measurements of one network differ by {self._known.spread:.2%}"
        )


class _Measurements(journal.Journal):
    """Every measurement of a network, each on disk before the next round.

    Those that this call made before it was stopped are known only once their round asks for them,
    so that it ends as if it had not been; those of other calls are known from the start.

    Attributes
    ----------
    notations : list of str
        The networks that are known, in the order in which they became so.
    """

    def __init__(
        self,
        path: files.StrPath | None,
        table: CostTable,
        settings: Mapping[str, Any],
        measure: Measure,
        run: Run,
    ) -> None:
        self._space, self._measure = table.space, measure
        self._run_id = journal.identify(settings)
        self._values: dict[str, list[float]] = {}
        self._stored: dict[tuple[int, str], list[float]] = {}
        super().__init__(
            path,
            FORMAT,
            VERSION,
            shapes=[_RECORD],
            accept=self._remember,
            conditions={
                "space": table.space.fingerprint,
                "metric": table.metric,
                "unit": table.unit,
                "device": table.device,
                "table": journal.identify(
                    {"constants": table.constants.tolist(), "entries": str(table.entries.tolist())}
                ),
            },
            otherwise="give another checkpoint",
            sync=True,
        )
        for notice in self.notices:
            run.progress(notice, 0, 0)
        reused = len({*self._values, *(name for _, name in self._stored)})
        if reused:
            run.progress(f"reusing the measurements of {reused} networks", 0, 0)

    def _remember(self, record: journal.Record) -> None:
        where = "a record of a measured network"
        arch = files.require(record, "arch", str, where)
        self._space.from_strings([arch])
        listed = files.require(record, "measured", list, where)
        values = [files.number(value, "'measured'", low=_SMALLEST) for value in listed]
        number = files.integer(record["round"], "'round'", low=1, high=_MOST_ROUNDS)
        if not values:
            raise InvalidInputError(f"{where} has no value")
        if files.require(record, "run", str, where) != self._run_id:
            self._values.setdefault(arch, []).extend(values)
        else:
            self._stored[number, arch] = values

    @property
    def notations(self) -> list[str]:
        return list(self._values)

    @property
    def archs(self) -> Archs:
        """What is known, shape (n, n_slots)."""
        if not self._values:
            return np.empty((0, self._space.n_slots), dtype=np.uint8)
        return self._space.from_strings(self.notations)

    @property
    def median(self) -> FloatArray:
        """Of the measurements of each network, shape (n,)."""
        return np.array([np.median(values) for values in self._values.values()])

    @property
    def repeats(self) -> Int64Array:
        """How many measurements of each network there are, shape (n,)."""
        return np.array([len(values) for values in self._values.values()], dtype=np.int64)

    @property
    def spread(self) -> float:
        """Relative standard deviation of one measurement."""
        squares, freedom = _NOISE_FREEDOM * _NOISE**2, _NOISE_FREEDOM
        for values in self._values.values():
            relative = np.array(values) / np.mean(values) - 1.0
            squares += float(relative @ relative)
            freedom += len(values) - 1
        return math.sqrt(squares / freedom)

    def measure(self, number: int, archs: Archs) -> None:
        """Measure distinct networks in round `number`, unless that was done before."""
        names = self._space.to_strings(archs)
        missing = [row for row, name in enumerate(names) if (number, name) not in self._stored]
        if missing:
            values = _checked(self._measure(archs[missing]), len(missing))
            self.append(
                *(
                    {
                        "arch": names[row],
                        "measured": row_values,
                        "round": number,
                        "run": self._run_id,
                    }
                    for row, row_values in zip(missing, values.tolist(), strict=True)
                )
            )
        for name in names:
            self._values.setdefault(name, []).extend(self._stored[number, name])


def _checked(measured: npt.ArrayLike, n: int) -> FloatArray:
    """Return what somebody's function measured, shape (n, repeats)."""
    what = "what measure() returned"
    values = arguments.floats(measured, what)
    if values.ndim not in (1, 2) or len(values) != n or values.size == 0:
        raise InvalidInputError(
            f"{what} should have shape ({n},) or ({n}, repeats): one row for each of the {n} "
            f"architectures it was given; found {values.shape}"
        )
    bad = np.argwhere(~(np.isfinite(values) & (values > 0)))
    if len(bad):
        raise InvalidInputError(
            f"{what} should be positive and finite, found {values[tuple(bad[0])]} for architecture "
            f"{bad[0][0]}"
        )
    return values.reshape(n, -1)
