"""Latency measured with Apache TVM: every block of a space, whole networks, and the table of both.

Importing this module loads neither TVM nor torch; the functions that measure load TVM.

Blocks are compiled with Relax from kernels whose fusion and loops are chosen by rule (channels
last, vectors over channels, an output tile in registers); the tile can be tuned. TVM runs in child
processes, so that what crashes or hangs there is one recorded failure. See
`pnag_fast.latency.measure` for how the numbers come about, and docs/latency.md for the rest.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn, SupportsIndex

import numpy as np
import numpy.typing as npt

from .. import arguments, files
from ..costs import CostTable
from ..costs.prior import of_tables
from ..errors import FileFormatError, InvalidInputError, InvalidTypeError, MeasurementError
from ..progress import ProgressCallback, ignore_progress
from ..runs import Run
from ..spaces import Archs, Block, SearchSpace
from ..spaces.space import require_space
from .choosing import choose
from .confirm import Confirmed, confirm
from .correction import MIN_NETWORKS, Correction, fit_correction
from .device import Device, Loaded
from .doctor import Finding, check_tvm
from .measuring import NetworkTimes, fit_table, measure_archs, measure_table, space_blocks
from .networks import (
    Floats,
    Program,
    Weights,
    check_weights,
    network_program,
    pack_weights,
    random_weights,
    weight_shapes,
)
from .protocol import Protocol
from .runners import PATIENCE_S, TIMEOUT_S, open_device, open_fleet
from .tiles import Tile, parse_tile
from .timer import Timer, WeightsOf

__all__ = [
    "CompiledNetwork",
    "Confirmed",
    "Correction",
    "Finding",
    "NetworkTimes",
    "Protocol",
    "Timer",
    "check_tvm",
    "choose",
    "compile_blocks",
    "compile_network",
    "confirm",
    "fit_correction",
    "measure",
    "measure_network",
    "measure_networks",
    "random_weights",
    "space_blocks",
    "timer",
    "tuned_tiles",
    "weight_shapes",
]

# Enough for the 186 kernels of the Once-for-All space at one resolution.
DEFAULT_TRIALS = 1400
_MAX_TRIALS = 1_000_000
_STEP_SECONDS = 0.2
_MAX_RUNS = 1_000_000_000

_PROGRAM = "network"


def measure(
    space: SearchSpace,
    *,
    target: str = "llvm",
    runner: str = "local",
    tuning_trials: int = DEFAULT_TRIALS,
    checkpoint: files.StrPath | None = None,
    work_dir: files.StrPath | None = None,
    threads: int = 1,
    n_networks: int = 20,
    blocks: bool = True,
    prior: Sequence[CostTable] | None = None,
    passes: int = 10,
    seed: int = 0,
    timeout_s: float = TIMEOUT_S,
    patience_s: float = PATIENCE_S,
    max_devices: int | None = None,
    progress: ProgressCallback = ignore_progress,
) -> CostTable:
    """Tune and measure every distinct block of a space, and make a latency table.

    Each kernel of the space is tuned by measuring up to `tuning_trials` schedules in all. Each
    block is then compiled and timed in `passes` interleaved passes (`Protocol`). The sum of blocks
    is not the latency of a network, in which nothing is warm; `n_networks` whole networks spread
    over the range are therefore timed in the same passes, and a correction is fitted and applied
    to the entries. The table's provenance has every block's time and spread, the conditions, the
    tiles that tuning chose, and how well the table predicts networks that were not in the fit.

    Everything measured is written to `checkpoint` at once: schedules to a tuning database, blocks
    and networks to a journal. A run that was interrupted in any way goes on where it stopped; more
    trials add to those that are there. Measurements made under other conditions (target,
    processor, threads, versions) stay in the files and are not used.

    Devices are used from child processes. One that dies or is silent for too long is replaced, and
    what it was doing is tried again, three times in all, before it counts as failed.

    Parameters
    ----------
    space : SearchSpace
        A space with a network behind it, at all of its resolutions.
    target : str
        ``"llvm"`` or ``"cpu"`` is this processor with all of its instructions; or TVM's JSON form,
        or ``"llvm -mcpu=... -mattr=..."``; for devices of a tracker, one that names their
        processor, such as ``"llvm -mtriple=aarch64-linux-gnu -mattr=+neon"``.
    runner : str
        ``"local"``, this machine, or ``"rpc://HOST:PORT/KEY"``, all devices that a TVM RPC tracker
        knows under a key, which share the work.
    tuning_trials : int
        Schedules to measure, for all kernels together; about 8 for each kernel are well spent. 0:
        schedules are chosen by rule alone, and tuning that was done before is not used.
    checkpoint : path
        Folder for the database and the journal; made if absent. It serves any number of spaces
        and targets: what it knows already is not measured again, what others need stays in it.
    work_dir : path
        Another name of `checkpoint`; one of them has to be given.
    threads : int
        Threads that a network runs on. With 1, time on this machine is CPU time of the thread.
    n_networks : int
        At least 4; fewer are measured where the space has fewer.
    blocks : bool
        False measures whole networks alone, for devices on which blocks cannot be run: the table is
        fitted to them by `pnag_fast.costs.fit`, and is as good as its posterior says.
    prior : sequence of CostTable, optional
        Without blocks: tables of other devices, which this one may resemble. Default: that of the
        multiply-adds.
    passes : int
        At least 3.
    seed : int
        For the choice of networks, their weights and the order of measuring.
    timeout_s : float
        Longest silence of a device, in seconds.
    patience_s : float
        How long to wait for a device, in seconds, when none is left.
    max_devices : int, optional
        Devices of a tracker to use at most, for others may want some.
    progress : callable
        Called with a description, the finished steps and their total.

    Returns
    -------
    CostTable
        Latency in milliseconds of one image.

    Raises
    ------
    MissingDependencyError
        If TVM is not installed.
    MeasurementError
        If there is no device, or a block cannot be compiled or run; it names which, and all others
        are in the journal.
    InvalidInputError, UnsupportedSpaceError
        For an option that is not supported, or a space without a network.
    """
    require_space(space)
    space.require_network("measuring latency")
    tuning_trials = arguments.integer(tuning_trials, "tuning_trials", 0, _MAX_TRIALS)
    n_networks = arguments.integer(n_networks, "n_networks", MIN_NETWORKS)
    if blocks and prior is not None:
        raise InvalidInputError(
            "prior= is what a table of whole networks alone starts from: give blocks=False with it"
        )
    if prior is not None:
        of_tables(space, prior)  # refuses what is none before a device is opened
    protocol = Protocol(passes=passes)
    run = Run(seed=seed, progress=progress, checkpoint=_one_folder(checkpoint, work_dir))
    if run.make_folder() is None:  # before anything takes time
        raise InvalidTypeError(
            "measure() needs checkpoint=, the folder where it keeps everything that it measures"
        )
    with contextlib.closing(
        open_fleet(
            target,
            runner=runner,
            threads=threads,
            timeout_s=timeout_s,
            patience_s=patience_s,
            max_devices=max_devices,
        )
    ) as fleet:
        if not blocks:
            return fit_table(
                space,
                fleet,
                protocol,
                run,
                trials=tuning_trials,
                n_networks=n_networks,
                prior=prior,
            )
        return measure_table(
            space, fleet, protocol, run, trials=tuning_trials, n_networks=n_networks
        )


def measure_networks(
    space: SearchSpace,
    archs: Archs,
    *,
    target: str = "llvm",
    runner: str = "local",
    threads: int = 1,
    weights: Sequence[Sequence[Weights]] | None = None,
    table: CostTable | None = None,
    checkpoint: files.StrPath | None = None,
    work_dir: files.StrPath | None = None,
    passes: int = 10,
    timeout_s: float = TIMEOUT_S,
    patience_s: float = PATIENCE_S,
    max_devices: int | None = None,
    progress: ProgressCallback = ignore_progress,
) -> NetworkTimes:
    """Measure whole networks, interleaved, by the protocol of `measure`.

    Parameters
    ----------
    archs : ndarray of uint8, shape (n, n_slots)
    weights : sequence, optional
        For each architecture one mapping per block of ``space.layers(arch)``, see `weight_shapes`;
        random by default, which does not change the latency.
    table : CostTable, optional
        Compile with the tiles that tuning chose for this table. Without it those in the database
        of `checkpoint` are taken.
    checkpoint, work_dir : path, optional
        Folder whose journal is reused and extended, by either name.

    The other parameters are those of `measure`.

    Returns
    -------
    NetworkTimes
        With ``ms``, float64 of shape (n,), milliseconds of one image.
    """
    require_space(space)
    space.require_network("measuring whole networks")
    space.validate(archs)
    _check_network_weights(space, archs, weights)
    tiles = None if table is None else tuned_tiles(table)
    protocol = Protocol(passes=passes)
    run = Run(progress=progress, checkpoint=_one_folder(checkpoint, work_dir))
    run.make_folder()
    if len(archs) == 0:
        raise InvalidInputError("archs has no rows: there is nothing to measure")
    with contextlib.closing(
        open_fleet(
            target,
            runner=runner,
            threads=threads,
            timeout_s=timeout_s,
            patience_s=patience_s,
            max_devices=max_devices,
        )
    ) as fleet:
        return measure_archs(space, archs, fleet, protocol, run, weights=weights, tiles=tiles)


def measure_network(
    space: SearchSpace,
    arch: npt.NDArray[np.uint8],
    *,
    target: str = "llvm",
    runner: str = "local",
    threads: int = 1,
    table: CostTable | None = None,
    checkpoint: files.StrPath | None = None,
    work_dir: files.StrPath | None = None,
    progress: ProgressCallback = ignore_progress,
) -> float:
    """Measure one whole network, shape ``(n_slots,)``, in milliseconds: to check a table."""
    times = measure_networks(
        space,
        _one_row(arch),
        target=target,
        runner=runner,
        threads=threads,
        table=table,
        checkpoint=checkpoint,
        work_dir=work_dir,
        progress=progress,
    )
    return float(times.ms[0])


def timer(
    table: CostTable,
    *,
    target: str = "llvm",
    runner: str = "local",
    threads: int = 1,
    weights: WeightsOf | None = None,
    n_anchors: int = 8,
    sessions: int = 1,
    checkpoint: files.StrPath | None = None,
    passes: int = 10,
    timeout_s: float = TIMEOUT_S,
    patience_s: float = PATIENCE_S,
    max_devices: int | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Timer:
    """Return what times whole networks on the device of a table and on its scale, for `confirm`.

    A machine that others use slows whole networks down by some percent, and more than the small
    reference program that is timed beside them. So in every session, which compiles everything
    anew, networks that the table was made from are timed as well, and what they take longer than
    then is taken out of all times.

    Parameters
    ----------
    table : CostTable
        Made by `measure`; networks are compiled with its tiles.
    weights : callable, optional
        Returns the weights of an architecture, shape ``(n_slots,)``, as `measure_networks` takes
        them; random by default, which does not change the latency.
    n_anchors : int
        Networks of the table that are timed beside.
    sessions : int
        Independent measurements of each network in a call.
    checkpoint : path, optional
        Folder for the journals of all sessions. One that was stopped goes on when the same networks
        are asked for again.

    The other parameters are those of `measure`.

    Returns
    -------
    Timer
        Called with architectures, shape (n, n_slots), it returns milliseconds of one image, shape
        (n, sessions); its ``slowdown`` says how much slower the machine was in the last session.
    """
    space = table.space
    space.require_network("timing whole networks")
    run = Run(progress=progress, checkpoint=checkpoint)

    def networks(
        archs: Archs,
        *,
        weights: Sequence[Sequence[Weights]] | None,
        checkpoint: files.StrPath | None,
    ) -> NetworkTimes:
        return measure_networks(
            space,
            archs,
            target=target,
            runner=runner,
            threads=threads,
            weights=weights,
            table=table,
            checkpoint=checkpoint,
            passes=passes,
            timeout_s=timeout_s,
            patience_s=patience_s,
            max_devices=max_devices,
            progress=progress,
        )

    return Timer(
        table,
        networks,
        weights=weights,
        n_anchors=arguments.integer(n_anchors, "n_anchors", 0),
        sessions=arguments.integer(sessions, "sessions", 1),
        folder=run.make_folder(),
    )


def tuned_tiles(table: CostTable) -> dict[str, Tile]:
    """Return the tiles that a table was measured with, by kernel, where they are not by rule.

    Raises
    ------
    FileFormatError
        If the table's provenance was tampered with.
    """
    if not isinstance(table, CostTable):
        raise InvalidTypeError(
            f"table should be a CostTable, found {type(table).__name__}; CostTable.load(path) "
            "reads one"
        )
    tuning = table.provenance.get("tuning", {})
    tiles = tuning.get("tiles", {}) if isinstance(tuning, dict) else {}
    try:
        return {str(name): parse_tile(text) for name, text in dict(tiles).items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(
            f"the table of '{table.device}' names a tile that does not exist: {error}"
        ) from error


class CompiledNetwork:
    """Blocks with their weights, compiled by TVM and loaded; see `compile_blocks`.

    It is machine code in this process, which can be neither copied nor pickled.
    """

    def __init__(self, loaded: Loaded, program: Program) -> None:
        self._loaded = loaded
        self._image_shape = program.input_shape
        self._output_shape = program.output_shape
        self.classes = program.classes

    def run(self, images: Floats) -> Floats:
        """Compute the logits of a batch, or its feature maps, one image after the other.

        Parameters
        ----------
        images : ndarray of float32, shape (n, channels, height, width)

        Returns
        -------
        ndarray of float32, shape (n, classes)
            Or ``(n, channels, height, width)`` for blocks that do not end in a head.
        """
        height, width, channels = self._image_shape
        expected = (channels, height, width)
        if not isinstance(images, np.ndarray) or images.dtype != np.float32:
            raise InvalidTypeError(
                f"images should be a float32 array, found "
                f"{getattr(images, 'dtype', type(images).__name__)}"
            )
        if images.ndim != 4 or images.shape[1:] != expected:
            raise InvalidInputError(
                f"images should have shape (n, {', '.join(map(str, expected))}), found "
                f"{images.shape}"
            )
        out_height, out_width, out_channels = self._output_shape
        shape = (out_channels, out_height, out_width) if self.classes is None else (self.classes,)
        results = np.empty((len(images), *shape), dtype=np.float32)
        for i, image in enumerate(images):
            channels_last = np.ascontiguousarray(image.transpose(1, 2, 0))
            output = self._loaded.run(_PROGRAM, channels_last)
            if self.classes is None:
                results[i] = output.transpose(2, 0, 1)
            else:
                results[i] = output.reshape(-1)[: self.classes]
        return results

    def seconds(self, runs: int) -> float:
        """Run `runs` times on one image; CPU time of the thread, or wall time of several."""
        return self._loaded.seconds(_PROGRAM, arguments.integer(runs, "runs", 1, _MAX_RUNS))

    def time(self, *, passes: int = 10) -> float:
        """Milliseconds of one image: the median of `passes` warmed-up passes."""
        protocol = Protocol(passes=passes)
        runs = protocol.plan(self.seconds, self.seconds).runs
        return float(np.median([1e3 * self.seconds(runs) / runs for _ in range(protocol.passes)]))

    def __repr__(self) -> str:
        height, width, channels = self._image_shape
        result = "feature maps" if self.classes is None else f"{self.classes} classes"
        return f"<CompiledNetwork of images {channels}x{height}x{width} to {result}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise InvalidTypeError(
            "a CompiledNetwork is machine code in this process and can be neither pickled nor "
            "copied; pass on the blocks, or the architecture, and the weights, and compile them "
            "where they are to run"
        )


def compile_network(
    space: SearchSpace,
    arch: npt.NDArray[np.uint8],
    weights: Sequence[Weights] | None = None,
    *,
    target: str = "llvm",
    threads: int = 1,
    table: CostTable | None = None,
    seed: int = 0,
) -> CompiledNetwork:
    """Compile one architecture, shape ``(n_slots,)``; see `compile_blocks`."""
    require_space(space)
    space.require_network("compiling a network")
    space.validate(_one_row(arch))
    return compile_blocks(
        space.layers(arch), weights, target=target, threads=threads, table=table, seed=seed
    )


def compile_blocks(
    blocks: Sequence[Block],
    weights: Sequence[Weights] | None = None,
    *,
    target: str = "llvm",
    threads: int = 1,
    table: CostTable | None = None,
    seed: int = 0,
) -> CompiledNetwork:
    """Compile blocks that run one after another, and load them into this process.

    Parameters
    ----------
    blocks : sequence of Block
        For example ``space.layers(arch)``, or one block.
    weights : sequence of mappings, optional
        One per block, batch norm folded in, see `weight_shapes`; drawn from `seed` by default.
    table : CostTable, optional
        Compile with the tiles that tuning chose for this table; by rule without it.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        For weights that do not fit the blocks.
    MeasurementError
        If TVM cannot compile it.
    """
    seed = arguments.seed(seed)
    program = network_program(blocks).tiled({} if table is None else tuned_tiles(table))
    parameters = pack_weights(blocks, random_weights(blocks, seed) if weights is None else weights)
    device: Device = open_device(target, threads=threads)
    loaded = _beside(
        lambda: device.compile({_PROGRAM: program}, {_PROGRAM: parameters}, ignore_progress)
    )
    for error in loaded.failures.values():
        raise MeasurementError(f"{', '.join(b.key for b in blocks)} does not compile: {error}")
    return CompiledNetwork(loaded, program)


# One compiler at a time: one that was left to itself may still run when the next is called.
_compiling = threading.Lock()


def _beside(work: Callable[[], Loaded]) -> Loaded:
    """Do `work` in a thread, so that Ctrl-C reaches the caller, and reaches it at once.

    TVM calls back into Python while it compiles. An interrupt that arrives there becomes an error
    without a message, as if the program did not compile; elsewhere it waits for LLVM to finish.
    What was interrupted goes on to its end and is dropped.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    results: list[Loaded] = []
    errors: list[BaseException] = []
    # Not `join`: where that is interrupted, Python up to 3.12 takes the thread for ended, does not
    # wait for it at exit, and the process aborts.
    ended = threading.Event()

    def run() -> None:
        try:
            with _compiling:
                results.append(work())
        except BaseException as error:
            errors.append(error)
        finally:
            ended.set()

    threading.Thread(target=run).start()
    while not ended.wait(_STEP_SECONDS):
        pass
    for error in errors:
        raise error
    return results[0]


def _one_folder(
    checkpoint: files.StrPath | None, work_dir: files.StrPath | None
) -> files.StrPath | None:
    """Return the folder that was given by either of its names.

    `checkpoint` is the word for what work goes on from everywhere. That folder is more as well: a
    database that any number of spaces and targets share. So the name of old stays as good.
    """
    if checkpoint is not None and work_dir is not None:
        raise InvalidTypeError("checkpoint and work_dir are two names of one folder; give one")
    return work_dir if checkpoint is None else checkpoint


def _one_row(arch: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return one architecture as a batch."""
    if np.ndim(arch) != 1:
        raise InvalidInputError(
            f"arch should be one architecture, an array with one dimension, found shape "
            f"{np.shape(arch)}"
        )
    return np.asarray(arch)[None]


def _check_network_weights(space: SearchSpace, archs: Archs, weights: object) -> None:
    if weights is None:
        return
    if not isinstance(weights, Sequence) or isinstance(weights, str):
        raise InvalidTypeError(
            "weights should be a sequence with one item for each architecture, each a sequence "
            f"with one mapping for each block, found {type(weights).__name__}"
        )
    if len(weights) != len(archs):
        raise InvalidInputError(
            f"weights of {len(weights)} networks were given for {len(archs)} architectures"
        )
    for arch, given in zip(archs, weights, strict=True):
        check_weights(space.layers(arch), given)
