"""Latency measured with Apache TVM: every block of a space, whole networks, and the table of both.

Importing this module loads neither TVM nor torch; the functions that measure load TVM.

Blocks are compiled with Relax from kernels whose fusion and loops are chosen by rule (channels
last, vectors over channels, an output tile in registers); nothing is tuned. See
`pnag_fast.latency.measure` for how the numbers come about.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .. import files
from ..costs import CostTable
from ..errors import InvalidInputError, InvalidTypeError, MeasurementError
from ..progress import ProgressCallback, ignore_progress
from ..spaces import Archs, SearchSpace
from .correction import Correction, fit_correction
from .device import Device, Loaded, open_device
from .doctor import Finding, check_tvm
from .measuring import NetworkTimes, measure_archs, measure_table, space_blocks
from .networks import (
    Floats,
    Weights,
    network_program,
    pack_weights,
    random_weights,
    weight_shapes,
)
from .protocol import Protocol

__all__ = [
    "CompiledNetwork",
    "Correction",
    "Finding",
    "NetworkTimes",
    "Protocol",
    "check_tvm",
    "compile_network",
    "fit_correction",
    "measure",
    "measure_network",
    "measure_networks",
    "random_weights",
    "space_blocks",
    "weight_shapes",
]

_PROGRAM = "network"


def measure(
    space: SearchSpace,
    *,
    target: str = "llvm",
    runner: str = "local",
    tuning_trials: int = 0,
    work_dir: files.StrPath,
    threads: int = 1,
    n_networks: int = 12,
    passes: int = 10,
    seed: int = 0,
    progress: ProgressCallback = ignore_progress,
) -> CostTable:
    """Measure every distinct block of a space, and make a latency table.

    Each block is compiled with TVM and timed in `passes` interleaved passes (`Protocol`). The sum
    of blocks is not the latency of a network, in which nothing is warm; `n_networks` whole networks
    spread over the range are therefore timed in the same passes, an offset and a scale are fitted,
    and both are applied to the entries. The table's provenance has every block's time and spread,
    the conditions, and how well the table predicts networks that were not in the fit.

    Every measurement is written to a journal in `work_dir` at once. A run that was interrupted in
    any way goes on where it stopped; a finished one is read back. Measurements made under other
    conditions (target, processor, threads, versions) stay in the file and are not used.

    Parameters
    ----------
    space : SearchSpace
        A space with a network behind it, at all of its resolutions.
    target : str
        ``"llvm"`` is this processor with all of its instructions; or TVM's JSON form, or
        ``"llvm -mcpu=... -mattr=..."``.
    runner : str
        ``"local"``, this machine.
    tuning_trials : int
        0: schedules are chosen by rule.
    work_dir : path
        Folder for the journal; made if absent. It serves any number of spaces and targets.
    threads : int
        Threads that a network runs on. With 1, time is CPU time of the thread.
    n_networks : int
        At least 4; fewer are measured where the space has fewer.
    passes : int
        At least 3.
    seed : int
        For the choice of networks, their weights and the order of measuring.
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
        If a block cannot be compiled or run; it names which, and all others are in the journal.
    InvalidInputError, UnsupportedSpaceError
        For an option that is not supported, or a space without a network.
    """
    _check_space(space)
    space.require_network("measuring latency")
    if isinstance(tuning_trials, bool) or tuning_trials != 0:
        raise InvalidInputError(
            f"tuning_trials should be 0 (schedules are chosen by rule), found {tuning_trials!r}"
        )
    protocol = Protocol(passes=passes)
    device = open_device(target, runner=runner, threads=threads)
    return measure_table(
        space,
        device,
        protocol,
        work_dir=work_dir,
        n_networks=n_networks,
        seed=seed,
        progress=progress,
    )


def measure_networks(
    space: SearchSpace,
    archs: Archs,
    *,
    target: str = "llvm",
    threads: int = 1,
    weights: Sequence[Sequence[Weights]] | None = None,
    work_dir: files.StrPath | None = None,
    passes: int = 10,
    progress: ProgressCallback = ignore_progress,
) -> NetworkTimes:
    """Measure whole networks, interleaved, by the protocol of `measure`.

    Parameters
    ----------
    archs : ndarray of uint8, shape (n, n_slots)
    weights : sequence, optional
        For each architecture one mapping per block of ``space.layers(arch)``, see `weight_shapes`;
        random by default, which does not change the latency.
    work_dir : path, optional
        Folder whose journal is reused and extended.

    Returns
    -------
    NetworkTimes
        With ``ms``, float64 of shape (n,), milliseconds of one image.
    """
    _check_space(space)
    space.validate(archs)
    protocol = Protocol(passes=passes)
    device = open_device(target, threads=threads)
    return measure_archs(
        space,
        archs,
        device,
        protocol,
        weights=weights,
        work_dir=work_dir,
        progress=progress,
    )


def measure_network(
    space: SearchSpace,
    arch: npt.NDArray[np.uint8],
    *,
    target: str = "llvm",
    threads: int = 1,
    work_dir: files.StrPath | None = None,
    progress: ProgressCallback = ignore_progress,
) -> float:
    """Measure one whole network, shape ``(n_slots,)``, in milliseconds: to check a table."""
    times = measure_networks(
        space,
        np.atleast_2d(arch),
        target=target,
        threads=threads,
        work_dir=work_dir,
        progress=progress,
    )
    return float(times.ms[0])


class CompiledNetwork:
    """A network with its weights, compiled by TVM and loaded; see `compile_network`."""

    def __init__(self, loaded: Loaded, image_shape: tuple[int, ...], classes: int) -> None:
        self._loaded = loaded
        self._image_shape = image_shape
        self.classes = classes

    def run(self, images: Floats) -> Floats:
        """Compute the logits of a batch, one image after the other.

        Parameters
        ----------
        images : ndarray of float32, shape (n, channels, height, width)

        Returns
        -------
        ndarray of float32, shape (n, classes)
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
        logits = np.empty((len(images), self.classes), dtype=np.float32)
        for i, image in enumerate(images):
            channels_last = np.ascontiguousarray(image.transpose(1, 2, 0))
            logits[i] = self._loaded.run(_PROGRAM, channels_last).reshape(-1)[: self.classes]
        return logits

    def time(self, *, passes: int = 10) -> float:
        """Milliseconds of one image: the median of `passes` warmed-up passes."""
        times = self._loaded.seconds
        protocol = Protocol(passes=passes)
        runs = protocol.plan(lambda n: times(_PROGRAM, n), lambda n: times(_PROGRAM, n)).runs
        return float(np.median([1e3 * times(_PROGRAM, runs) / runs for _ in range(passes)]))


def compile_network(
    space: SearchSpace,
    arch: npt.NDArray[np.uint8],
    weights: Sequence[Weights] | None = None,
    *,
    target: str = "llvm",
    threads: int = 1,
    seed: int = 0,
) -> CompiledNetwork:
    """Compile one architecture with its weights.

    Parameters
    ----------
    arch : ndarray of uint8, shape (n_slots,)
    weights : sequence of mappings, optional
        One per block of ``space.layers(arch)``, batch norm folded in, see `weight_shapes`; drawn
        from `seed` by default.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        For an architecture of another space, or weights that do not fit it.
    MeasurementError
        If TVM cannot compile it.
    """
    _check_space(space)
    blocks = space.layers(arch)
    program = network_program(blocks)
    parameters = pack_weights(blocks, random_weights(blocks, seed) if weights is None else weights)
    device: Device = open_device(target, threads=threads)
    loaded = device.compile({_PROGRAM: program}, {_PROGRAM: parameters}, ignore_progress)
    for error in loaded.failures.values():
        raise MeasurementError(f"{space.to_strings(arch[None])[0]} does not compile: {error}")
    return CompiledNetwork(loaded, program.input_shape, program.classes or 0)


def _check_space(space: object) -> None:
    if not isinstance(space, SearchSpace):
        raise InvalidTypeError(
            f"space should be a SearchSpace, from pnag_fast.spaces, found {type(space).__name__}"
        )
