"""Choosing tiles by measuring them: the tuning database and how trials are spent.

Every kernel has a family of tiles (`tiles.family`). Trials go round over all kernels, the slowest
first: a few tiles that the rules like, then those nearest to the best so far. Screening is quick
and therefore noisy, and the best of many noisy times looks better than it is; so the winner is
decided in a final, in which the best of the screening and the tile of the rules are timed again,
longer and side by side. It replaces the tile of the rules if it wins by more than `MARGIN`.

(TVM's own MetaSchedule, with its evolutionary search and learned cost model, takes many more
measurements for the same on these kernels, and its tuner takes 40 s or more to import.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import MeasurementError
from ..progress import NEWS, ProgressCallback, ignore_progress
from .device import Conditions, DeviceLostError, Loaded
from .fleet import Failed, Fleet, Slot
from .journal import Journal, Sample
from .kernels import Kernel
from .networks import INPUT, Floats, Program, Step
from .pace import Pace
from .protocol import REFERENCE, Protocol, reference_parameters, reference_program
from .tiles import Machine, Tile, family, nearest

DATABASE_FILE = "tuning.jsonl"

# A tile is kept if it is faster than that of the rules by more than this.
MARGIN = 0.02

# Raised whenever the times in a database would no longer mean the same.
_VERSION = 1
_BATCH = 4  # tiles of a kernel that are compiled and timed together
_BY_RULE = 8  # tiles to try in the order of the rules, before those near the best
_FINALISTS = 2  # beside the tile of the rules
_SCREENING_PASS = 0

_SCREENING = Protocol(samples=5, sample_ms=1.0, reference_ms=0.3)
_FINAL = Protocol(samples=15, sample_ms=2.0, reference_ms=0.5)


@dataclass(frozen=True)
class Tuned:
    """Result of tuning.

    Attributes
    ----------
    tiles
        The tile of each kernel, by name, where one beats that of the rules.
    kernels, trials : int
        Kernels that were considered, and tiles that were measured for them.
    speedup : float
        Time of the rules' tile over that of the chosen one, geometric mean over the kernels.
    failed : int
        Tiles that did not compile or run.
    """

    tiles: Mapping[str, Tile] = field(default_factory=dict)
    kernels: int = 0
    trials: int = 0
    speedup: float = 1.0
    failed: int = 0


@dataclass(frozen=True)
class _Job:
    kernel: Kernel
    tiles: tuple[Tile, ...]
    final: bool


class _Task:
    """What is known of one kernel."""

    def __init__(self, kernel: Kernel, machine: Machine) -> None:
        self.kernel = kernel
        self.family = family(kernel, machine)
        self.screened: dict[Tile, float] = {}
        self.failed: set[Tile] = set()
        # Times of each final, relative to the reference program; only these are compared.
        self.finals: dict[int, dict[Tile, float]] = {}
        self.ms = 0.0

    @property
    def tried(self) -> int:
        return len(self.screened) + len(self.failed)

    def remember(self, tile: Tile, number: int, sample: Sample) -> None:
        ratio = sample.ms / sample.reference_ms
        if number == _SCREENING_PASS:
            self.screened[tile] = ratio
            self.ms = sample.ms if self.ms == 0 else min(self.ms, sample.ms)
        else:
            self.finals.setdefault(number, {})[tile] = ratio

    def next_tiles(self, limit: int) -> tuple[Tile, ...]:
        """Choose the tiles to try next."""
        free = [t for t in self.family if t not in self.screened and t not in self.failed]
        if self.tried >= _BY_RULE and self.screened:
            best = min(self.screened, key=self.screened.__getitem__)
            free = nearest(best, free)
        return tuple(free[: min(limit, _BATCH)])

    def finalists(self) -> tuple[Tile, ...]:
        """Return the tiles that the winner should be among, that of the rules first."""
        default = self.family[0]
        best = sorted(self.screened, key=self.screened.__getitem__)[:_FINALISTS]
        return tuple(dict.fromkeys([default, *best])) if default in self.screened else tuple(best)

    def needs_final(self) -> bool:
        wanted = self.finalists()
        return len(wanted) > 1 and not set(wanted) <= set(self._last_final())

    def _last_final(self) -> Mapping[Tile, float]:
        return self.finals[max(self.finals)] if self.finals else {}

    def winner(self) -> tuple[Tile, float]:
        """Return the tile to use and how much faster it is than that of the rules."""
        default, times = self.family[0], self._last_final()
        if not times:
            return (self.finalists() or (default,))[0], 1.0
        best = min(times, key=times.__getitem__)
        if default not in times:
            return best, 1.0
        gain = times[default] / times[best]
        return (best, gain) if gain > 1.0 + MARGIN else (default, 1.0)


class Tuner:
    """Spends trials on kernels; every measurement is in the journal before the next is made."""

    def __init__(
        self, fleet: Fleet, journal: Journal, kernels: Iterable[Kernel], machine: Machine
    ) -> None:
        self._fleet = fleet
        self._journal = journal
        self._tasks = {k.name: _Task(k, machine) for k in kernels}
        self._references: dict[int, Loaded] = {}
        for name, task in self._tasks.items():
            for tile in task.family:
                item = _item(name, tile)
                for number, sample in journal.samples.get(item, {}).items():
                    task.remember(tile, number, sample)
                if item in journal.failures:
                    task.failed.add(tile)

    @property
    def trials(self) -> int:
        """Tiles of these kernels that were measured, now or earlier."""
        return sum(task.tried for task in self._tasks.values())

    def tuned(self) -> Tuned:
        """Return the best of what is known."""
        winners = {name: task.winner() for name, task in self._tasks.items()}
        gains = [gain for _, gain in winners.values()]
        return Tuned(
            tiles={
                name: tile
                for name, (tile, _) in winners.items()
                if tile != self._tasks[name].family[0]
            },
            kernels=len(winners),
            trials=self.trials,
            speedup=float(np.exp(np.mean(np.log(gains)))) if gains else 1.0,
            failed=sum(len(task.failed) for task in self._tasks.values()),
        )

    def tune(self, trials: int, progress: ProgressCallback) -> None:
        """Measure until `trials` tiles are measured in all, or there are no more."""
        pace = Pace(f"tuning {len(self._tasks)} kernels", progress)
        pace.begin(self.trials)
        total = min(trials, sum(len(task.family) for task in self._tasks.values()))
        while jobs := self._round(trials - self.trials):
            self._run(jobs, trials, progress, lambda: pace.step(self.trials, total))
        finals = [
            _Job(task.kernel, task.finalists(), final=True)
            for task in self._tasks.values()
            if task.needs_final()
        ]
        self._run(finals, trials, progress)

    def _round(self, left: int) -> list[_Job]:
        """Give every kernel its next tiles, the slowest first, as far as the trials go."""
        jobs = []
        for task in sorted(self._tasks.values(), key=lambda task: -task.ms):
            tiles = task.next_tiles(left)
            if tiles:
                jobs.append(_Job(task.kernel, tiles, final=False))
                left -= len(tiles)
        return jobs

    def _run(
        self,
        jobs: Sequence[_Job],
        trials: int,
        progress: ProgressCallback,
        step: Callable[[], None] = lambda: None,
    ) -> None:
        alone: list[_Job] = []
        done = 0
        with contextlib.closing(self._fleet.run(jobs, self._work, progress=progress)) as results:
            for job, result in results:
                if isinstance(result, Failed) and len(job.tiles) > 1 and not job.final:
                    # One of them takes the device down with it: which?
                    alone += [_Job(job.kernel, (tile,), final=False) for tile in job.tiles]
                    continue
                self._record(job, result)
                step()
                done += 1
                if job.final:
                    progress("deciding between the best tiles", done, len(jobs))
                else:
                    speedup = self._speedup_so_far()
                    progress(
                        f"tuning {len(self._tasks)} kernels{NEWS}{speedup:.2f}x as fast as by rule",
                        min(self.trials, trials),
                        trials,
                    )
        if alone:
            self._run(alone, trials, progress, step)

    def _speedup_so_far(self) -> float:
        gains = [
            task.screened[task.family[0]] / min(task.screened.values())
            for task in self._tasks.values()
            if task.family[0] in task.screened
        ]
        return float(np.exp(np.mean(np.log(gains)))) if gains else 1.0

    def _record(self, job: _Job, result: Mapping[Tile, Sample | Failed] | Failed) -> None:
        task = self._tasks[job.kernel.name]
        number = max([_SCREENING_PASS, *task.finals]) + 1 if job.final else _SCREENING_PASS
        for tile in job.tiles:
            outcome = result if isinstance(result, Failed) else result[tile]
            item = _item(job.kernel.name, tile)
            if isinstance(outcome, Failed):
                # A tile that was fine before keeps its time; the device failed, not the tile.
                if not job.final:
                    self._journal.add_failure(item, outcome.error)
                    task.failed.add(tile)
                continue
            self._journal.add_sample(item, number, outcome)
            task.remember(tile, number, outcome)

    def _work(self, slot: Slot, job: _Job) -> dict[Tile, Sample | Failed]:
        """Compile and time the tiles of a job on one device."""
        programs = {str(tile): kernel_program(job.kernel, tile) for tile in job.tiles}
        shapes = programs[str(job.tiles[0])].parameters
        rng = np.random.default_rng(0)
        values: dict[str, Floats] = {
            name: rng.uniform(-0.1, 0.1, shape).astype(np.float32) for name, shape in shapes.items()
        }
        try:
            with slot.compiling() as device:
                if id(device) not in self._references:
                    self._references[id(device)] = device.compile(
                        {REFERENCE: reference_program()},
                        {REFERENCE: reference_parameters()},
                        slot.progress,
                    )
                loaded = device.compile(programs, dict.fromkeys(programs, values), ignore_progress)
            reference = self._references[id(device)]
            protocol = _FINAL if job.final else _SCREENING
            results: dict[Tile, Sample | Failed] = {}
            with slot.running():
                for tile in job.tiles:
                    results[tile] = _timed(loaded, reference, str(tile), protocol)
            loaded.unload()
        except DeviceLostError:
            self._references.pop(id(slot.device), None)
            raise
        return results


def _timed(loaded: Loaded, reference: Loaded, name: str, protocol: Protocol) -> Sample | Failed:
    if name in loaded.failures:
        return Failed(loaded.failures[name])

    def item(runs: int) -> float:
        return loaded.seconds(name, runs)

    def beside(runs: int) -> float:
        return reference.seconds(REFERENCE, runs)

    try:
        return protocol.time(item, beside, protocol.plan(item, beside))
    except DeviceLostError:
        raise
    except MeasurementError as error:
        return Failed(str(error))


def tuning_conditions(conditions: Conditions) -> Conditions:
    """Add to those of a device what two times in a database have to share."""
    return {**conditions, "tuning": _VERSION}


def kernel_program(kernel: Kernel, tile: Tile) -> Program:
    """Return the program of one kernel on its own."""
    image, *others = kernel.input_shapes
    parameters = {f"parameter{i}": shape for i, shape in enumerate(others)}
    step = Step(kernel, (INPUT, *parameters), "value0", tile)
    return Program(image, (step,), parameters)


def _item(kernel: str, tile: Tile) -> str:
    return f"{kernel} {tile}"
