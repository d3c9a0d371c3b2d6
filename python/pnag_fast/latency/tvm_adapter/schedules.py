"""Kernels as scheduled TVM functions; which tile to take is `..tiles`' to say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tvm.s_tir import Schedule

from ..gpu_tiles import GpuTile
from ..kernels import Convolution, Depthwise, Kernel, Mean
from ..sizes import divisors, lanes_of
from ..tiles import CpuTile, Machine, Tile, default_tile
from .cuda_schedules import schedule_for_gpu
from .expressions import gates_weight, prim_func

# Bytes of padded input that a depthwise convolution prepares at a time: most of a 32 KB L1 cache.
_BAND_BYTES = 24 * 1024
# Fewer multiply-adds than this take less time than waking up another thread.
_PARALLEL_MACS = 200_000
_FLOAT_BYTES = 4


def scheduled(kernel: Kernel, machine: Machine, tile: Tile | None = None) -> Any:
    """Return `kernel` as a TIR function with its loops in place, for `tile` or the default."""
    tile = default_tile(kernel, machine) if tile is None else tile
    schedule = Schedule(prim_func(kernel))
    if isinstance(tile, GpuTile):
        schedule_for_gpu(schedule, kernel, tile)
    elif isinstance(kernel, Convolution):
        _schedule_convolution(schedule, kernel, machine, tile)
    elif isinstance(kernel, Depthwise):
        _schedule_depthwise(schedule, kernel, machine, tile)
    else:
        _schedule_mean(schedule, kernel, machine, tile)
    # The mark keeps the default pipelines of TVM from scheduling the function a second time.
    return schedule.mod["main"].with_attr("tirx.is_scheduled", True)


def _schedule_convolution(
    schedule: Schedule, kernel: Convolution, machine: Machine, tile: CpuTile
) -> None:
    h, w, o = schedule.get_loops(schedule.get_sblock("out"))
    h, hi = schedule.split(h, [None, tile.rows])
    w, wi = schedule.split(w, [None, tile.columns])
    o, ov, ol = schedule.split(o, [None, tile.vectors, tile.lanes])
    outer = [o, h, w] if tile.channels_outside else [h, w, o]
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
        _vectorize_last(schedule, "gated", lanes_of(scaled, machine.lanes))
    if kernel.kernel > 1 and kernel.in_channels > 4:
        _vectorize_last(schedule, "pad", lanes_of(kernel.in_channels, machine.lanes))


def _schedule_depthwise(
    schedule: Schedule, kernel: Depthwise, machine: Machine, tile: CpuTile
) -> None:
    rows, _, _ = kernel.output_shape
    row_bytes = (kernel.resolution + kernel.kernel) * tile.vectors * tile.lanes * _FLOAT_BYTES
    fitting = [
        band
        for band in divisors(rows, rows)
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


def _schedule_mean(schedule: Schedule, kernel: Mean, machine: Machine, tile: CpuTile) -> None:
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
