"""Measuring the blocks of a space and whole networks, and making a table of them."""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import arguments, costs, files
from ..costs import CostTable
from ..errors import InvalidInputError, MeasurementError
from ..progress import ProgressCallback, duration
from ..runs import Run
from ..spaces import Archs, Block, SearchSpace
from .choosing import choose
from .correction import MIN_NETWORKS, fit_correction
from .device import Device, DeviceClosedError, DeviceLostError, DeviceUnusableError, Loaded
from .fleet import Failed, Fleet, Slot
from .journal import Journal, Sample
from .networks import (
    Floats,
    Program,
    RandomParameters,
    Weights,
    network_program,
    pack_weights,
)
from .pace import LONG_SECONDS, Pace
from .protocol import (
    REFERENCE,
    Plan,
    Protocol,
    Summary,
    Timer,
    reference_level,
    reference_parameters,
    reference_program,
    summarize,
)
from .tiles import Tile
from .tuning import DATABASE_FILE, Tuned, Tuner, tuning_conditions
from .uncertainty import refine

JOURNAL_FILE = "measurements.jsonl"

# Entering a compiled program costs about as much as the smallest blocks do. Inside a network only
# the network is entered, so what this empty program takes is subtracted from every block.
_CALL = "call"

# Candidates among which the networks to be measured are chosen by their multiply-adds.
_CANDIDATES = 4096

_NAMED_IN_ERRORS = 3


@dataclass(frozen=True)
class Item:
    """One thing to time: a block, or the blocks of a network, with its weights if it has any."""

    blocks: tuple[Block, ...]
    weights: tuple[Weights, ...] | None = None


@dataclass(frozen=True)
class Measured:
    """The result of every item, that of an empty program as ``"call"``.

    All are brought to a machine on which the reference program takes ``reference_ms``.
    """

    items: Mapping[str, Summary]
    reference_ms: float


@dataclass(frozen=True, eq=False)
class NetworkTimes:
    """Latency of whole networks.

    Attributes
    ----------
    ms : ndarray of float64, shape (n,)
        Milliseconds of one image.
    reference_ms : float
        Time of the reference program on the machine as it was. A table has its own under
        ``provenance["reference_ms"]``; the ratio says how much slower the machine has become.
    """

    ms: npt.NDArray[np.float64]
    reference_ms: float

    def __repr__(self) -> str:
        n = len(self.ms)
        times = f", {self.ms.min():.4g} to {self.ms.max():.4g} ms" if n else ""
        return f"<NetworkTimes of {n} network{'s' * (n != 1)}{times}>"


def network_key(blocks: Sequence[Block]) -> str:
    """Name of a network that is equal exactly when the computation is."""
    text = "|".join(block.key for block in blocks)
    return f"network-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


class Measurer:
    """Times items on the devices of a fleet by a protocol, and keeps every time in a journal.

    Items are compiled, with the given tiles, only where the journal lacks measurements of them.
    """

    def __init__(
        self,
        fleet: Fleet,
        protocol: Protocol,
        run: Run,
        *,
        tiles: Mapping[str, Tile],
    ) -> None:
        self._fleet = fleet
        self._device = fleet.devices[0]
        self._protocol = protocol
        self._run = run
        self._folder = run.make_folder()
        self._tiles = tiles
        self.conditions = {**self._device.conditions, **protocol.conditions}

    def measure(self, items: Mapping[str, Item]) -> Measured:
        """Time all items.

        Raises
        ------
        MeasurementError
            Names the items that could not be measured, once all others are.
        """
        path = None if self._folder is None else self._folder / JOURNAL_FILE
        programs = {_CALL: Program((1, 1, 8), ())}
        programs |= {
            name: network_program(item.blocks).tiled(self._tiles) for name, item in items.items()
        }
        # Times of other tiles are times of other code.
        entries = {name: _entry(name, program) for name, program in programs.items()}
        with Journal(path, self.conditions) as journal:
            for notice in journal.notices:
                self._run.progress(notice, 0, 0)
            # What failed before is tried again: the cause may have been passing.
            journal.failures.clear()
            session = _Session(
                items,
                programs,
                entries,
                self._fleet,
                journal,
                self._protocol,
                self._run,
            )
            wanted = len(programs) * self._protocol.passes
            reused = wanted - len(session.missing())
            if reused:
                self._run.progress(f"reusing {reused} of {wanted} measurements", reused, wanted)
            session.run()
            self._check_complete(journal, entries)
            # Of everything in the journal, so that a table and networks measured later agree.
            level = reference_level(journal.samples)
            results = {
                name: summarize(journal.samples[entry], level) for name, entry in entries.items()
            }
            return Measured(results, level)

    def _check_complete(self, journal: Journal, entries: Mapping[str, str]) -> None:
        incomplete = [
            name
            for name, entry in entries.items()
            if entry in journal.failures
            or len(journal.samples.get(entry, {})) < self._protocol.passes
        ]
        if not incomplete:
            return
        listed = "; ".join(
            f"{name} ({journal.failures.get(entries[name], 'not measured')})"
            for name in incomplete[:_NAMED_IN_ERRORS]
        )
        more = len(incomplete) - _NAMED_IN_ERRORS
        raise MeasurementError(
            f"{len(incomplete)} of {len(entries)} items could not be measured on "
            f"{self._device.name}: {listed}{f'; and {more} more' if more > 0 else ''}; what was "
            "measured is kept, and measuring again with the same checkpoint tries these again"
        )


class _Session:
    """One run over the items: what is compiled, in which order, and what is written down."""

    def __init__(
        self,
        items: Mapping[str, Item],
        programs: Mapping[str, Program],
        entries: Mapping[str, str],
        fleet: Fleet,
        journal: Journal,
        protocol: Protocol,
        run: Run,
    ) -> None:
        self._items = items
        self._programs = programs
        self._entries = entries
        self._fleet = fleet
        self._journal = journal
        self._protocol = protocol
        self._run = run
        self._parameters = RandomParameters(run.seed)
        self._plans: dict[str, Plan] = {}
        self._groups: list[list[str]] = []
        self._failures: dict[str, str] = {}
        self._loads: dict[int, _Loads] = {}

    def missing(self) -> list[tuple[int, str]]:
        """List the passes that the journal lacks."""
        return [
            (number, name)
            for number in range(self._protocol.passes)
            for name, entry in self._entries.items()
            if number not in self._journal.samples.get(entry, {})
        ]

    def run(self) -> None:
        """Measure what is missing, then again what is unsteady."""
        self._measure(self.missing(), "measuring")
        for extra in range(self._protocol.extra_passes):
            number = self._protocol.passes + extra
            again = [(number, name) for name in self._unsteady(number)]
            self._measure(again, "measuring unsteady items again")

    def _unsteady(self, number: int) -> list[str]:
        """List the items whose spread is too large and that have no pass `number` yet."""
        samples = self._journal.samples
        return [
            name
            for name, entry in self._entries.items()
            if entry in samples
            and number not in samples[entry]
            and entry not in self._journal.failures
            # The level cancels out of the spread.
            and summarize(samples[entry], 1.0).spread > self._protocol.spread_limit
        ]

    def _measure(self, pending: Sequence[tuple[int, str]], description: str) -> None:
        if not pending:
            return
        jobs = []
        rng = np.random.default_rng(self._run.seed)
        for number in sorted({number for number, _ in pending}):
            # Another order in each pass: what runs before an item leaves its traces in the caches.
            names = sorted(name for n, name in pending if n == number)
            jobs += [(number, names[index]) for index in rng.permutation(len(names))]
        self._prepare({name for _, name in jobs})
        progress = self._run.progress
        measured = self._fleet.run(
            jobs, self._measure_one, devices=self._fleet.alone, progress=progress
        )
        pace = Pace(f"{description} {len({name for _, name in jobs})} items", progress)
        with contextlib.closing(measured) as results:
            for done, ((number, name), result) in enumerate(results):
                if done == 0:
                    pace.begin(1)  # before it there was the compiler
                pace.step(done + 1, len(jobs))
                if isinstance(result, Failed):
                    self._journal.add_failure(self._entries[name], result.error)
                elif result is not None:
                    self._journal.add_sample(self._entries[name], number, result)
                progress(description, done + 1, len(jobs))

    def _measure_one(self, slot: Slot, job: tuple[int, str]) -> Sample | Failed | None:
        """Time one item in one pass; None if it has failed in an earlier one."""
        _, name = job
        if self._entries[name] in self._journal.failures:
            return None
        loads = self._loads.setdefault(id(slot.device), _Loads(self._groups, self._failures))
        try:
            with slot.compiling() as device:
                loads.ensure(device, self._programs_of, slot.progress)
            if name in loads.failures:
                return Failed(loads.failures[name])
            with slot.running():
                return self._timed(
                    name,
                    lambda runs: loads.seconds(name, runs),
                    lambda runs: loads.seconds(REFERENCE, runs),
                )
        except DeviceLostError:
            loads.clear()
            raise

    def _timed(self, name: str, item: Timer, reference: Timer) -> Sample:
        if name not in self._plans:
            self._plans[name] = self._protocol.plan(item, reference)
        return self._protocol.time(item, reference, self._plans[name])

    def _prepare(self, names: set[str]) -> None:
        """Have `names` compiled on every device that is used, unless an earlier pass did it."""
        loaded = {name for group in self._groups for name in group}
        if not names <= loaded:
            # Items that are complete may turn out unsteady; they are compiled only then.
            self._groups = [[REFERENCE, *(name for name in self._programs if name in names)]]
            self._failures = {}
            self._loads.clear()

    def _programs_of(
        self, names: Sequence[str]
    ) -> tuple[dict[str, Program], dict[str, Mapping[str, Floats]]]:
        programs: dict[str, Program] = {}
        parameters: dict[str, Mapping[str, Floats]] = {}
        for name in names:
            if name == REFERENCE:
                programs[name] = reference_program()
                parameters[name] = reference_parameters()
                continue
            programs[name] = self._programs[name]
            if name in self._items:
                item = self._items[name]
                parameters[name] = (
                    self._parameters.of(item.blocks)
                    if item.weights is None
                    else pack_weights(item.blocks, item.weights)
                )
        return programs, parameters


# Names of programs, to these programs and their parameters.
_ProgramsOf = Callable[
    [Sequence[str]], tuple[Mapping[str, Program], Mapping[str, Mapping[str, Floats]]]
]


class _Loads:
    """What is loaded on one device: groups of programs, each compiled together.

    It begins with one group. A compiler that dies names no culprit, so the group is halved until
    the culprit is alone; `groups`, and the `failures` by name, are shared between devices, so that
    the next does not repeat that.
    """

    def __init__(self, groups: list[list[str]], failures: dict[str, str]) -> None:
        self.failures = failures
        self._groups = groups
        self._where: dict[str, Loaded] = {}
        self._reference_deaths = 0

    def ensure(self, device: Device, programs_of: _ProgramsOf, progress: ProgressCallback) -> None:
        """Compile and load everything, unless it is."""
        if self._where:
            return
        while not self._where and self._groups:
            for group in list(self._groups):
                watch = _CompilerWatch(len(group), progress)
                try:
                    loaded = device.compile(*programs_of(group), watch)
                except DeviceClosedError:
                    raise  # nothing is wrong with the group
                except DeviceLostError as error:
                    self.clear()
                    if not error.doing.startswith(("compiling", "scheduling")):
                        raise
                    self._halve(group, str(error))
                    break
                self.failures |= loaded.failures
                self._where |= dict.fromkeys(group, loaded)
        if REFERENCE in self.failures:
            raise DeviceUnusableError(
                f"the reference program does not compile for {device.name}: "
                f"{self.failures[REFERENCE]}"
            )
        self._try_reference(device)

    def _try_reference(self, device: Device) -> None:
        try:
            self.seconds(REFERENCE, 1)
        except DeviceLostError as error:
            self._reference_deaths += 1
            if self._reference_deaths > 1:
                raise DeviceUnusableError(
                    f"{device.name} does not survive the reference program: {error}"
                ) from error
            raise

    def _halve(self, group: list[str], error: str) -> None:
        try:
            self._groups.remove(group)
        except ValueError:  # another device has already done it
            return
        if len(group) > 1:
            middle = len(group) // 2
            self._groups += [group[:middle], group[middle:]]
        else:
            self.failures[group[0]] = error

    def seconds(self, name: str, runs: int) -> float:
        return self._where[name].seconds(name, runs)

    def clear(self) -> None:
        self._where.clear()


class _CompilerWatch:
    """Passes progress on, and says how long the compiler will take once that can be known.

    Building and loading report nothing on the way. They took 18 to 24 times as long as scheduling,
    for spaces of 100 and of 181 kernels.
    """

    _BUILDING = 20.0

    def __init__(self, programs: int, progress: ProgressCallback) -> None:
        self._programs = programs
        self._progress = progress
        self._start = math.inf

    def __call__(self, description: str, done: int, total: int) -> None:
        if description.startswith("scheduling"):
            if done == 0:
                self._start = time.monotonic()
            elif done == total:
                seconds = self._BUILDING * (time.monotonic() - self._start)
                if seconds >= LONG_SECONDS:
                    self._progress(
                        f"compiling {self._programs} programs of {total} kernels: about "
                        f"{duration(seconds)} on this machine",
                        0,
                        0,
                    )
        self._progress(description, done, total)


def _entry(name: str, program: Program) -> str:
    """Name of an item in the journal, which tells its tiles apart from those of the rules."""
    tiles = [f"{step.kernel.name} {step.tile}" for step in program.steps if step.tile is not None]
    if not tiles:
        return name
    return f"{name}@{hashlib.sha256('|'.join(tiles).encode()).hexdigest()[:12]}"


def tune(
    programs: Sequence[Program],
    fleet: Fleet,
    run: Run,
    *,
    trials: int,
) -> Tuned:
    """Look up the tiles of all kernels in the run's database, after up to `trials` trials.

    With 0 trials, what was tuned before is used and nothing is measured.
    """
    device = fleet.devices[0]
    folder = run.make_folder()
    if folder is None or (trials == 0 and not (folder / DATABASE_FILE).exists()):
        return Tuned()
    kernels = {step.kernel.name: step.kernel for p in programs for step in p.steps}
    with Journal(folder / DATABASE_FILE, tuning_conditions(device.conditions)) as journal:
        for notice in journal.notices:
            run.progress(notice, 0, 0)
        tuner = Tuner(fleet, journal, kernels.values(), device.machine)
        if trials > 0:
            tuner.tune(trials, run.progress)
        return tuner.tuned()


# --- tables ------------------------------------------------------------------------------------


def space_blocks(space: SearchSpace) -> dict[str, Block]:
    """Return every distinct block of the space by its key.

    Examples
    --------
    >>> import pnag_fast as pf
    >>> len(space_blocks(pf.spaces.get("mbv3-tiny")))
    48
    """
    blocks: dict[str, Block] = {}

    def remember(block: Block) -> float:
        blocks[block.key] = block
        return 1.0

    costs.from_blocks(space, remember, metric="latency", unit="ms", device="none")
    return blocks


def choose_networks(space: SearchSpace, n: int, seed: int) -> Archs:
    """Choose architectures spread over the range of multiply-adds, both ends included.

    Returns
    -------
    ndarray of uint8, shape (n, n_slots)
        Distinct rows; fewer where the space has fewer.
    """
    table = costs.macs(space)
    candidates = np.concatenate(
        [
            table.cheapest()[None],
            table.dearest()[None],
            # Uniform architectures are nearly all deep; uniform decisions reach the shallow ones.
            space.sample(_CANDIDATES, seed=seed, distribution="decisions"),
        ]
    )
    candidates = np.unique(candidates, axis=0)
    macs = table(candidates)
    chosen: list[int] = []
    free = np.ones(len(candidates), dtype=bool)
    for target in np.linspace(macs.min(), macs.max(), min(n, len(candidates))):
        index = int(np.argmin(np.where(free, np.abs(macs - target), np.inf)))
        free[index] = False
        chosen.append(index)
    return np.ascontiguousarray(candidates[chosen])


def measure_table(
    space: SearchSpace,
    fleet: Fleet,
    protocol: Protocol,
    run: Run,
    *,
    trials: int,
    n_networks: int,
) -> CostTable:
    """Measure blocks and networks of `space`; see `pnag_fast.latency.measure`."""
    # The sum of blocks is corrected by whole networks.
    n_networks = arguments.integer(n_networks, "n_networks", MIN_NETWORKS)
    blocks = space_blocks(space)
    archs = choose_networks(space, n_networks, run.seed)
    if len(archs) < MIN_NETWORKS:
        raise InvalidInputError(
            f"space '{space.name}' has {len(archs)} networks, and correcting the sum of blocks "
            f"takes {MIN_NETWORKS}; measure_networks() measures each of them directly"
        )
    layers = [tuple(space.layers(arch)) for arch in archs]
    keys = [network_key(blocks_of) for blocks_of in layers]
    items = {key: Item((block,)) for key, block in blocks.items()}
    items |= {key: Item(blocks_of) for key, blocks_of in zip(keys, layers, strict=True)}
    # Networks are made of the same kernels as the blocks.
    programs = [network_program([block]) for block in blocks.values()]
    tuned = Tuned()
    if trials:
        tuned = tune(programs, fleet, run, trials=trials)
    measurer = Measurer(fleet, protocol, run, tiles=tuned.tiles)
    measured = measurer.measure(items)
    device = fleet.devices[0]
    _tell_shares(fleet, run)
    summaries = measured.items
    call_ms = summaries[_CALL].ms
    block_ms = _block_times(blocks, summaries, call_ms)
    raw = costs.from_blocks(
        space, lambda block: block_ms[block.key], metric="latency", unit="ms", device=device.name
    )
    measured_ms = np.array([summaries[key].ms for key in keys])
    sum_ms = raw(archs)
    stages = np.repeat(np.arange(len(space.stages)), [len(s.slots) for s in space.stages])

    def scaled(constants: npt.NDArray[np.float64], slots: npt.NDArray[np.float64]) -> CostTable:
        return CostTable.build(
            space,
            metric="latency",
            unit="ms",
            device=device.name,
            constants=constants,
            entries=slots[None, :, None] * raw.entries,
        )

    contexts = 0 if space.resolution_slot is None else archs[:, [space.resolution_slot]] - 1
    slot_ms = raw.entries[contexts, np.arange(space.n_slots), archs]
    stage_ms = [slot_ms[:, stages == k].sum(axis=1) for k in range(len(space.stages))]
    correction = fit_correction(
        sum_ms,
        measured_ms,
        np.stack(stage_ms, axis=1),
        networks=keys,
        cheapest_ms=raw.bounds[0],
    )
    corrected = scaled(
        correction.offset_ms + correction.scale * raw.constants,
        np.array(correction.stage_scales)[stages],
    )
    table, uncertainty = refine(corrected, summaries, archs, measured_ms)
    return replace(
        table,
        provenance={
            **_provenance(measurer, measured, tuned, fleet, protocol),
            "correction": correction.to_json(),
            "uncertainty": asdict(uncertainty),
            **({"warnings": correction.warnings} if correction.warnings else {}),
            "call_ms": call_ms,
            "blocks": {
                key: _describe(summaries[key], protocol, ms=block_ms[key]) for key in blocks
            },
            "networks": [
                {"sum_of_blocks_ms": float(total), **network}
                for total, network in zip(
                    sum_ms, _describe_networks(table, archs, keys, summaries, protocol), strict=True
                )
            ],
        },
    )


def fit_table(
    space: SearchSpace,
    fleet: Fleet,
    protocol: Protocol,
    run: Run,
    *,
    trials: int,
    n_networks: int,
    prior: Sequence[CostTable] | None,
) -> CostTable:
    """Measure whole networks of `space` alone; see `pnag_fast.latency.measure`."""
    prior = [costs.macs(space)] if prior is None else prior
    # Those that say most: without blocks they have to tell the entries apart, and not only to
    # correct a few factors, for which networks spread over the range are as good.
    archs = choose(space, min(n_networks, space.n_architectures), prior=prior, seed=run.seed)
    layers = [tuple(space.layers(arch)) for arch in archs]
    keys = [network_key(blocks_of) for blocks_of in layers]
    items = {key: Item(blocks_of) for key, blocks_of in zip(keys, layers, strict=True)}
    programs = [network_program(blocks_of) for blocks_of in layers]
    tuned = tune(programs, fleet, run, trials=trials) if trials else Tuned()
    measurer = Measurer(fleet, protocol, run, tiles=tuned.tiles)
    measured = measurer.measure(items)
    _tell_shares(fleet, run)
    table = costs.fit(
        space,
        archs,
        np.array([measured.items[key].ms for key in keys]),
        metric="latency",
        unit="ms",
        device=fleet.devices[0].name,
        seed=run.seed,
        prior=prior,
    )
    return replace(
        table,
        provenance={
            **table.provenance,
            **_provenance(measurer, measured, tuned, fleet, protocol),
            "prior": [other.describe() for other in prior],
            "networks": _describe_networks(table, archs, keys, measured.items, protocol),
        },
    )


def _tell_shares(fleet: Fleet, run: Run) -> None:
    if fleet.shares.total:
        run.progress(f"time of the devices: {fleet.shares}", 0, 0)


def _provenance(
    measurer: Measurer, measured: Measured, tuned: Tuned, fleet: Fleet, protocol: Protocol
) -> dict[str, Any]:
    """Say under which conditions, with which tiles and in what time something was measured."""
    return {
        **files.provenance(),
        "conditions": measurer.conditions,
        "tuning_trials": tuned.trials,
        "tuning": {
            "kernels": tuned.kernels,
            "speedup": tuned.speedup,
            "failed": tuned.failed,
            "tiles": {name: str(tile) for name, tile in tuned.tiles.items()},
        },
        "seconds": asdict(fleet.shares),
        "protocol": asdict(protocol),
        "reference_ms": measured.reference_ms,
    }


def _describe_networks(
    table: CostTable,
    archs: Archs,
    keys: Sequence[str],
    summaries: Mapping[str, Summary],
    protocol: Protocol,
) -> list[dict[str, Any]]:
    return [
        {
            "arch": name,
            "table_ms": float(predicted),
            **_describe(summaries[key], protocol, ms=summaries[key].ms),
        }
        for name, predicted, key in zip(
            table.space.to_strings(archs), table(archs), keys, strict=True
        )
    ]


def _block_times(
    blocks: Mapping[str, Block], summaries: Mapping[str, Summary], call_ms: float
) -> dict[str, float]:
    times = {key: summaries[key].ms - call_ms for key in blocks}
    absurd = [key for key, ms in times.items() if ms <= 0]
    if absurd:
        raise MeasurementError(
            f"block {absurd[0]} took {summaries[absurd[0]].ms:.6f} ms and an empty program "
            f"{call_ms:.6f} ms, which cannot be; the machine was too busy: measure again with "
            "another checkpoint"
        )
    return times


def _describe(summary: Summary, protocol: Protocol, *, ms: float) -> dict[str, Any]:
    return {
        "ms": ms,
        "spread": summary.spread,
        "passes": summary.passes,
        "steady": summary.spread <= protocol.spread_limit,
    }


def measure_archs(
    space: SearchSpace,
    archs: Archs,
    fleet: Fleet,
    protocol: Protocol,
    run: Run,
    *,
    weights: Sequence[Sequence[Weights]] | None,
    tiles: Mapping[str, Tile] | None,
) -> NetworkTimes:
    """Measure whole networks; see `pnag_fast.latency.measure_networks`.

    Without `tiles`, those of the run's tuning database are taken.
    """
    space.require_network("measuring whole networks")
    items: dict[str, Item] = {}
    keys = []
    for index, arch in enumerate(archs):
        layers = tuple(space.layers(arch))
        keys.append(network_key(layers))
        # The time does not depend on the weights, so networks that differ in nothing else are one.
        items[keys[-1]] = Item(layers, None if weights is None else tuple(weights[index]))
    if tiles is None:
        programs = [network_program(item.blocks) for item in items.values()]
        tiles = tune(programs, fleet, run, trials=0).tiles
    measurer = Measurer(fleet, protocol, run, tiles=tiles)
    measured = measurer.measure(items)
    times = [measured.items[key].ms for key in keys]
    return NetworkTimes(np.array(times, dtype=np.float64), measured.reference_ms)
