"""How a kernel's loops run on a processor: one family of schedules, its member chosen by rule.

All kernels share a shape: an output tile of ``rows x columns`` pixels and ``vectors`` vectors of
``lanes`` channels is summed up in registers while the innermost loops run over the input, and is
then finished (bias, activation, residual) and stored. The tile is what matters: large enough that
arithmetic outweighs loads, small enough that its sums stay in registers. Untuned code takes the
tile that the rules below prefer; nothing is measured for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tvm.s_tir import Schedule

from ..kernels import Convolution, Depthwise, Kernel, Mean
from .expressions import gates_weight, prim_func

# Bytes of padded input that a depthwise convolution prepares at a time: most of a 32 KB L1 cache.
_BAND_BYTES = 24 * 1024
# Weights above this no longer stay in a core's own cache while the image is walked through, so
# they become the outer loop.
_LARGE_WEIGHT_BYTES = 256 * 1024
# Fewer multiply-adds than this take less time than waking up another thread.
_PARALLEL_MACS = 200_000
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Machine:
    """What the rules need to know: floats per vector, registers for sums, threads."""

    lanes: int
    accumulators: int
    threads: int


@dataclass(frozen=True, slots=True)
class Tile:
    """Part of the output whose sums are kept in registers at a time."""

    rows: int
    columns: int
    vectors: int
    lanes: int


def default_tile(kernel: Kernel, machine: Machine) -> Tile:
    """Return the tile that the rules prefer for `kernel`."""
    rows, columns, channels = kernel.output_shape
    lanes = _lanes(channels, machine)
    if isinstance(kernel, Convolution):
        return max(_tiles(rows, columns, channels // lanes, lanes, machine), key=_convolution_rank)
    if isinstance(kernel, Depthwise):
        wide = max(d for d in range(1, 9) if columns % d == 0)
        # Few pixels side by side leave registers for a second vector of channels.
        vectors = 2 if wide <= 4 and (channels // lanes) % 2 == 0 else 1
        return Tile(1, wide, vectors, lanes)
    vectors = max(d for d in range(1, 5) if (channels // lanes) % d == 0)
    return Tile(1, 1, vectors, lanes)


def _convolution_rank(tile: Tile) -> tuple[float, int]:
    # Products per load: a step of the input costs one load per pixel and one per vector.
    pixels = tile.rows * tile.columns
    return pixels * tile.vectors / (pixels + tile.vectors), -tile.rows


def _tiles(rows: int, columns: int, vectors: int, lanes: int, machine: Machine) -> Iterator[Tile]:
    limit = machine.accumulators
    for v in _divisors(vectors, min(8, limit)):
        for c in _divisors(columns, limit // v):
            for r in _divisors(rows, limit // (v * c)):
                yield Tile(r, c, v, lanes)


def _divisors(n: int, limit: int) -> list[int]:
    return [d for d in range(1, min(n, limit) + 1) if n % d == 0]


def _lanes(channels: int, machine: Machine) -> int:
    lanes = machine.lanes
    while channels % lanes:
        lanes //= 2
    return lanes


def scheduled(kernel: Kernel, machine: Machine, tile: Tile | None = None) -> Any:
    """Return `kernel` as a TIR function with its loops in place, for `tile` or the default."""
    tile = default_tile(kernel, machine) if tile is None else tile
    schedule = Schedule(prim_func(kernel))
    if isinstance(kernel, Convolution):
        _schedule_convolution(schedule, kernel, machine, tile)
    elif isinstance(kernel, Depthwise):
        _schedule_depthwise(schedule, kernel, machine, tile)
    else:
        _schedule_mean(schedule, kernel, machine, tile)
    # The mark keeps the default pipelines of TVM from scheduling the function a second time.
    marks = {"global_symbol": kernel.name, "tirx.is_scheduled": True}
    return schedule.mod["main"].with_attrs(marks)


def _schedule_convolution(
    schedule: Schedule, kernel: Convolution, machine: Machine, tile: Tile
) -> None:
    h, w, o = schedule.get_loops(schedule.get_sblock("out"))
    h, hi = schedule.split(h, [None, tile.rows])
    w, wi = schedule.split(w, [None, tile.columns])
    o, ov, ol = schedule.split(o, [None, tile.vectors, tile.lanes])
    weight_bytes = kernel.kernel**2 * kernel.in_channels * kernel.out_channels * _FLOAT_BYTES
    outer = [o, h, w] if weight_bytes > _LARGE_WEIGHT_BYTES else [h, w, o]
    schedule.reorder(*outer, hi, wi, ov, ol)
    _unroll_and_vectorize(schedule, [hi, wi, ov, ol])
    acc = schedule.get_sblock("acc")
    # Unit loops are kept so that the loops can be told apart by position.
    schedule.compute_at(acc, outer[-1], preserve_unit_loops=True)
    schedule.set_scope(acc, 0, "local")
    *_, hi, wi, o, ky, kx, ki = schedule.get_loops(acc)
    ov, ol = schedule.split(o, [None, tile.lanes])
    schedule.reorder(ky, kx, ki, hi, wi, ov, ol)
    _unroll_and_vectorize(schedule, [hi, wi, ov, ol])
    if kernel.kernel > 1:
        schedule.unroll(kx)
        # The three colours of an image; more channels would make the body too long.
        if kernel.in_channels <= 4:
            schedule.unroll(ki)
    macs = kernel.kernel**2 * kernel.in_channels * math.prod(kernel.output_shape)
    _parallelize(schedule, outer, macs, machine)
    _split_off_initialisation(schedule, acc, ky, unrolled=3)
    if kernel.gated:
        scaled = kernel.out_channels if gates_weight(kernel) else kernel.in_channels
        _vectorize_last(schedule, "gated", _lanes(scaled, machine))
    if kernel.kernel > 1 and kernel.in_channels > 4:
        _vectorize_last(schedule, "pad", _lanes(kernel.in_channels, machine))


def _schedule_depthwise(
    schedule: Schedule, kernel: Depthwise, machine: Machine, tile: Tile
) -> None:
    rows, _, _ = kernel.output_shape
    row_bytes = (kernel.resolution + kernel.kernel) * tile.vectors * tile.lanes * _FLOAT_BYTES
    fitting = [
        band
        for band in _divisors(rows, rows)
        if band % tile.rows == 0
        and ((band - 1) * kernel.stride + kernel.kernel) * row_bytes <= _BAND_BYTES
    ]
    band = max(fitting, default=tile.rows)
    h, w, c = schedule.get_loops(schedule.get_sblock("out"))
    hb, h, hi = schedule.split(h, [None, band // tile.rows, tile.rows])
    w, wi = schedule.split(w, [None, tile.columns])
    c, cv, cl = schedule.split(c, [None, tile.vectors, tile.lanes])
    # Channels outermost: the padded input of a few channels fits into the first-level cache.
    schedule.reorder(c, hb, h, w, hi, wi, cv, cl)
    _unroll_and_vectorize(schedule, [hi, wi, cv, cl])
    acc = schedule.get_sblock("acc")
    schedule.compute_at(acc, w, preserve_unit_loops=True)
    schedule.set_scope(acc, 0, "local")
    if kernel.kernel > 1:
        schedule.compute_at(schedule.get_sblock("pad"), hb, preserve_unit_loops=True)
        _vectorize_last(schedule, "pad", tile.lanes)
    *_, hi, wi, c_inner, ky, kx = schedule.get_loops(acc)
    cv, cl = schedule.split(c_inner, [None, tile.lanes])
    schedule.reorder(ky, kx, hi, wi, cv, cl)
    _unroll_and_vectorize(schedule, [hi, wi, cv, cl])
    # Unrolled along a row, neighbouring pixels share the input values that they load.
    schedule.unroll(kx)
    macs = kernel.kernel**2 * math.prod(kernel.output_shape)
    _parallelize(schedule, [c, hb], macs, machine)
    _split_off_initialisation(schedule, acc, ky, unrolled=3)


def _schedule_mean(schedule: Schedule, kernel: Mean, machine: Machine, tile: Tile) -> None:
    h, w, c = schedule.get_loops(schedule.get_sblock("out"))
    c, cv, cl = schedule.split(c, [None, tile.vectors, tile.lanes])
    schedule.reorder(c, h, w, cv, cl)
    _unroll_and_vectorize(schedule, [cv, cl])
    acc = schedule.get_sblock("acc")
    schedule.compute_at(acc, w, preserve_unit_loops=True)
    schedule.set_scope(acc, 0, "local")
    *_, c_inner, ky, kx = schedule.get_loops(acc)
    cv, cl = schedule.split(c_inner, [None, tile.lanes])
    schedule.reorder(ky, kx, cv, cl)
    _unroll_and_vectorize(schedule, [cv, cl])
    _parallelize(schedule, [c], kernel.resolution**2 * kernel.channels, machine)
    _split_off_initialisation(schedule, acc, ky, unrolled=1)


def _parallelize(schedule: Schedule, loops: Sequence[Any], macs: int, machine: Machine) -> None:
    """Share the outermost loops between threads, where there is enough to share."""
    if machine.threads == 1 or macs < _PARALLEL_MACS:
        return
    fused = schedule.fuse(*loops)
    if int(schedule.get(fused).extent) > 1:
        schedule.parallel(fused)


def _unroll_and_vectorize(schedule: Schedule, loops: list[Any]) -> None:
    *unrolled, vectorized = loops
    for loop in unrolled:
        schedule.unroll(loop)
    schedule.vectorize(vectorized)


def _split_off_initialisation(schedule: Schedule, acc: Any, loop: Any, *, unrolled: int) -> None:
    """Set the sums to zero before `loop`, in as many unrolled loops around a vector.

    Comes last: TVM no longer accepts the two halves of a sum as parallel.
    """
    start = schedule.decompose_reduction(acc, loop)
    for inner in schedule.get_loops(start)[-unrolled - 1 : -1]:
        schedule.unroll(inner)


def _vectorize_last(schedule: Schedule, block: str, lanes: int) -> None:
    *_, last = schedule.get_loops(schedule.get_sblock(block))
    schedule.vectorize(schedule.split(last, [None, lanes])[1])
