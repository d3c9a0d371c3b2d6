"""Measuring the blocks of a space and whole networks, and making a table of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import costs, files
from ..costs import CostTable
from ..errors import InvalidInputError, MeasurementError
from ..progress import ProgressCallback
from ..spaces import Archs, Block, SearchSpace
from .correction import MIN_NETWORKS, fit_correction
from .device import Device, Loaded
from .journal import Journal, Sample
from .kernels import Convolution
from .networks import (
    INPUT,
    Floats,
    Program,
    RandomParameters,
    Step,
    Weights,
    network_program,
    pack_weights,
)
from .protocol import Plan, Protocol, Summary, Timer, reference_level, summarize

JOURNAL_FILE = "measurements.jsonl"

# Entering a compiled program costs about as much as the smallest blocks do. Inside a network only
# the network is entered, so what this empty program takes is subtracted from every block.
_CALL = "call"
_REFERENCE = "reference"

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


def network_key(blocks: Sequence[Block]) -> str:
    """Name of a network that is equal exactly when the computation is."""
    text = "|".join(block.key for block in blocks)
    return f"network-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


class Measurer:
    """Times items on a device by a protocol, and keeps every time in a journal.

    Items are compiled only where the journal lacks measurements of them.
    """

    def __init__(
        self,
        device: Device,
        protocol: Protocol,
        work_dir: files.StrPath | None,
        *,
        seed: int = 0,
        progress: ProgressCallback,
    ) -> None:
        self._device = device
        self._protocol = protocol
        self._work_dir = None if work_dir is None else files.make_folder(work_dir)
        self._seed = seed
        self._progress = progress
        self.conditions = {**device.conditions, **protocol.conditions}

    def measure(self, items: Mapping[str, Item]) -> Measured:
        """Time all items.

        Raises
        ------
        MeasurementError
            Names the items that could not be measured, once all others are.
        """
        path = None if self._work_dir is None else self._work_dir / JOURNAL_FILE
        names = [_CALL, *items]
        with Journal(path, self.conditions) as journal:
            for notice in journal.notices:
                self._progress(notice, 0, 0)
            # What failed before is tried again: the cause may have been passing.
            journal.failures.clear()
            session = _Session(
                items,
                self._device,
                journal,
                self._protocol,
                seed=self._seed,
                progress=self._progress,
            )
            wanted = len(names) * self._protocol.passes
            reused = wanted - len(session.missing(names))
            if reused:
                self._progress(f"reusing {reused} of {wanted} measurements", reused, wanted)
            session.run(names)
            self._check_complete(journal, names)
            # Of everything in the journal, so that a table and networks measured later agree.
            level = reference_level(journal.samples)
            results = {name: summarize(journal.samples[name], level) for name in names}
            return Measured(results, level)

    def _check_complete(self, journal: Journal, names: Sequence[str]) -> None:
        incomplete = [
            name
            for name in names
            if name in journal.failures
            or len(journal.samples.get(name, {})) < self._protocol.passes
        ]
        if not incomplete:
            return
        listed = "; ".join(
            f"{name} ({journal.failures.get(name, 'not measured')})"
            for name in incomplete[:_NAMED_IN_ERRORS]
        )
        more = len(incomplete) - _NAMED_IN_ERRORS
        raise MeasurementError(
            f"{len(incomplete)} of {len(names)} items could not be measured on "
            f"{self._device.name}: {listed}{f'; and {more} more' if more > 0 else ''}; what was "
            "measured is kept, and measuring again with the same work directory tries these again"
        )


class _Session:
    """One run over the items: what is compiled, in which order, and what is written down."""

    def __init__(
        self,
        items: Mapping[str, Item],
        device: Device,
        journal: Journal,
        protocol: Protocol,
        *,
        seed: int,
        progress: ProgressCallback,
    ) -> None:
        self._items = items
        self._device = device
        self._journal = journal
        self._protocol = protocol
        self._seed = seed
        self._progress = progress
        self._parameters = RandomParameters(seed)
        self._plans: dict[str, Plan] = {}
        self._loaded: Loaded | None = None

    def missing(self, names: Sequence[str]) -> list[tuple[int, str]]:
        """List the passes of `names` that the journal lacks."""
        return [
            (number, name)
            for number in range(self._protocol.passes)
            for name in names
            if number not in self._journal.samples.get(name, {})
        ]

    def run(self, names: Sequence[str]) -> None:
        """Measure what is missing, then again what is unsteady."""
        self._measure(self.missing(names), "measuring")
        for extra in range(self._protocol.extra_passes):
            number = self._protocol.passes + extra
            again = [(number, name) for name in self._unsteady(names, number)]
            self._measure(again, "measuring unsteady items again")

    def _unsteady(self, names: Sequence[str], number: int) -> list[str]:
        """List the items whose spread is too large and that have no pass `number` yet."""
        samples = self._journal.samples
        return [
            name
            for name in names
            if name in samples
            and number not in samples[name]
            and name not in self._journal.failures
            # The level cancels out of the spread.
            and summarize(samples[name], 1.0).spread > self._protocol.spread_limit
        ]

    def _measure(self, pending: Sequence[tuple[int, str]], description: str) -> None:
        if not pending:
            return
        loaded = self._load({name for _, name in pending})
        rng = np.random.default_rng(self._seed)
        done = 0
        for number in sorted({number for number, _ in pending}):
            # Another order in each pass: what runs before an item leaves its traces in the caches.
            names = sorted(name for n, name in pending if n == number)
            for index in rng.permutation(len(names)):
                self._progress(description, done, len(pending))
                self._measure_one(loaded, names[index], number)
                done += 1
        self._progress(description, len(pending), len(pending))

    def _measure_one(self, loaded: Loaded, name: str, number: int) -> None:
        if name in self._journal.failures:
            return
        try:
            sample = self._timed(
                name,
                lambda runs: loaded.seconds(name, runs),
                lambda runs: loaded.seconds(_REFERENCE, runs),
            )
        except MeasurementError as error:
            self._journal.add_failure(name, str(error))
        else:
            self._journal.add_sample(name, number, sample)

    def _timed(self, name: str, item: Timer, reference: Timer) -> Sample:
        if name not in self._plans:
            self._plans[name] = self._protocol.plan(item, reference)
        return self._protocol.time(item, reference, self._plans[name])

    def _load(self, names: set[str]) -> Loaded:
        """Compile the programs behind `names`, unless an earlier pass already did."""
        if self._loaded is None:
            programs = {_REFERENCE: _reference_program(), _CALL: Program((1, 1, 8), ())}
            parameters: dict[str, Mapping[str, Floats]] = {
                _REFERENCE: {
                    key: np.full(shape, 0.01, dtype=np.float32)
                    for key, shape in programs[_REFERENCE].parameters.items()
                }
            }
            for name, item in self._items.items():
                # Items that are complete may turn out unsteady; compile those only when needed.
                if name in names:
                    programs[name] = network_program(item.blocks)
                    parameters[name] = (
                        self._parameters.of(item.blocks)
                        if item.weights is None
                        else pack_weights(item.blocks, item.weights)
                    )
            self._loaded = self._device.compile(programs, parameters, self._progress)
            self._loaded_names = set(programs)
            if _REFERENCE in self._loaded.failures:
                raise MeasurementError(
                    f"the reference program does not compile for {self._device.name}: "
                    f"{self._loaded.failures[_REFERENCE]}"
                )
            for name, error in self._loaded.failures.items():
                self._journal.add_failure(name, error)
        elif not names <= self._loaded_names:
            self._loaded = None
            return self._load(names)
        return self._loaded


def _reference_program() -> Program:
    """Return a program that exercises what the blocks exercise, in some 20 microseconds."""
    kernel = Convolution(14, 64, 96, activation="relu")
    step = Step(kernel, (INPUT, "weight", "bias"), "value0")
    return Program(
        kernel.input_shapes[0],
        (step,),
        {"weight": kernel.input_shapes[1], "bias": kernel.input_shapes[2]},
    )


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
        return 0.0

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
    device: Device,
    protocol: Protocol,
    *,
    work_dir: files.StrPath,
    n_networks: int,
    seed: int,
    progress: ProgressCallback,
) -> CostTable:
    """Measure blocks and networks of `space` on `device`; see `pnag_fast.latency.measure`."""
    if isinstance(n_networks, bool) or n_networks < MIN_NETWORKS:
        raise InvalidInputError(
            f"n_networks should be an integer of at least {MIN_NETWORKS}, found {n_networks!r}: "
            "the sum of blocks is corrected by whole networks"
        )
    blocks = space_blocks(space)
    archs = choose_networks(space, n_networks, seed)
    if len(archs) < MIN_NETWORKS:
        raise InvalidInputError(
            f"space '{space.name}' has {len(archs)} networks, and correcting the sum of blocks "
            f"takes {MIN_NETWORKS}; measure_networks() measures each of them directly"
        )
    layers = [tuple(space.layers(arch)) for arch in archs]
    keys = [network_key(blocks_of) for blocks_of in layers]
    items = {key: Item((block,)) for key, block in blocks.items()}
    items |= {key: Item(blocks_of) for key, blocks_of in zip(keys, layers, strict=True)}
    measurer = Measurer(device, protocol, work_dir, seed=seed, progress=progress)
    measured = measurer.measure(items)
    summaries = measured.items
    call_ms = summaries[_CALL].ms
    block_ms = _block_times(blocks, summaries, call_ms)
    raw = costs.from_blocks(
        space, lambda block: block_ms[block.key], metric="latency", unit="ms", device=device.name
    )
    measured_ms = np.array([summaries[key].ms for key in keys])
    sum_ms = raw(archs)
    correction = fit_correction(sum_ms, measured_ms)
    return CostTable.build(
        space,
        metric="latency",
        unit="ms",
        device=device.name,
        constants=correction.offset_ms + correction.scale * raw.constants,
        entries=correction.scale * raw.entries,
        provenance={
            **files.provenance(),
            "conditions": measurer.conditions,
            "tuning_trials": 0,
            "protocol": asdict(protocol),
            "correction": correction.to_json(),
            "call_ms": call_ms,
            "reference_ms": measured.reference_ms,
            "blocks": {
                key: _describe(summaries[key], protocol, ms=block_ms[key]) for key in blocks
            },
            "networks": [
                {
                    "arch": name,
                    "sum_of_blocks_ms": float(total),
                    "table_ms": correction.offset_ms + correction.scale * float(total),
                    **_describe(summaries[key], protocol, ms=summaries[key].ms),
                }
                for name, total, key in zip(space.to_strings(archs), sum_ms, keys, strict=True)
            ],
        },
    )


def _block_times(
    blocks: Mapping[str, Block], summaries: Mapping[str, Summary], call_ms: float
) -> dict[str, float]:
    times = {key: summaries[key].ms - call_ms for key in blocks}
    absurd = [key for key, ms in times.items() if ms <= 0]
    if absurd:
        raise MeasurementError(
            f"block {absurd[0]} took {summaries[absurd[0]].ms:.6f} ms and an empty program "
            f"{call_ms:.6f} ms, which cannot be; the machine was too busy: measure again with "
            "another work directory"
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
    device: Device,
    protocol: Protocol,
    *,
    weights: Sequence[Sequence[Weights]] | None,
    work_dir: files.StrPath | None,
    progress: ProgressCallback,
) -> NetworkTimes:
    """Measure whole networks; see `pnag_fast.latency.measure_networks`."""
    space.require_network("measuring whole networks")
    if weights is not None and len(weights) != len(archs):
        raise InvalidInputError(
            f"weights of {len(weights)} networks were given for {len(archs)} architectures"
        )
    items: dict[str, Item] = {}
    keys = []
    for index, arch in enumerate(archs):
        layers = tuple(space.layers(arch))
        keys.append(network_key(layers))
        # The time does not depend on the weights, so networks that differ in nothing else are one.
        items[keys[-1]] = Item(layers, None if weights is None else tuple(weights[index]))
    measured = Measurer(device, protocol, work_dir, progress=progress).measure(items)
    times = [measured.items[key].ms for key in keys]
    return NetworkTimes(np.array(times, dtype=np.float64), measured.reference_ms)
