"""Loops of kernels for graphics processors; which tile to take is `..gpu_tiles`' to say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm.s_tir import Schedule

from ..gpu_tiles import GpuTile
from ..kernels import Convolution, Depthwise, Kernel, Mean
from ..sizes import lanes_of
from .expressions import gates_weight

_WIDEST_LOAD = 4  # floats


def schedule_for_gpu(schedule: Schedule, kernel: Kernel, tile: GpuTile) -> None:
    """Turn the loops of `kernel` into one launch of thread blocks."""
    h, w, o = schedule.get_loops(schedule.get_sblock("out"))
    h, ht = schedule.split(h, [None, tile.rows])
    w, wt, wi = schedule.split(w, [None, tile.columns // tile.pixels, tile.pixels])
    o, ot, ol = schedule.split(o, [None, tile.channels // tile.lanes, tile.lanes])
    # Neighbouring threads have neighbouring channels, so that a warp's accesses are contiguous.
    schedule.reorder(h, w, o, ht, wt, ot, wi, ol)
    block, thread = schedule.fuse(h, w, o), schedule.fuse(ht, wt, ot)
    schedule.bind(block, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    _unroll_and_vectorize(schedule, wi, ol)
    acc = schedule.get_sblock("acc")
    # Of two blocks that change an image one after the other, the last makes what is staged.
    staged = dict(_preparations(kernel)) if tile.staged else {}
    for index, name in _preparations(kernel):
        if staged.get(index) != name:
            schedule.compute_inline(schedule.get_sblock(name))
    schedule.compute_at(acc, thread, preserve_unit_loops=True)
    schedule.set_scope(acc, 0, "local")
    if tile.sharers > 1:
        _share_sums(schedule, kernel, acc, tile)
    elif isinstance(kernel, Convolution):
        _sum_convolution(schedule, kernel, acc, staged, tile)
    elif isinstance(kernel, Depthwise):
        _sum_depthwise(schedule, acc, block, tile)


def _share_sums(schedule: Schedule, kernel: Kernel, acc: Any, tile: GpuTile) -> None:
    """Give each sum to several threads; TVM adds their parts through shared memory."""
    inputs = 3 if isinstance(kernel, Convolution) else 2
    reduction = schedule.fuse(*schedule.get_loops(acc)[-inputs:])
    _, shared = schedule.split(reduction, [None, tile.sharers])
    schedule.bind(shared, "threadIdx.y")


def _sum_convolution(
    schedule: Schedule, kernel: Convolution, acc: Any, staged: Mapping[int, str], tile: GpuTile
) -> None:
    *_, h, w, o, ky, kx, ki = schedule.get_loops(acc)
    ko, ki = schedule.split(ki, [None, tile.staged or kernel.in_channels])
    schedule.reorder(ko, ky, kx, ki, h, w, o)
    _unroll_and_vectorize(schedule, w, o)
    if tile.staged:
        for index in (0, 1):
            _stage(schedule, acc, index, staged.get(index), ko, tile)
    schedule.decompose_reduction(acc, ko)


def _sum_depthwise(schedule: Schedule, acc: Any, block: Any, tile: GpuTile) -> None:
    *_, h, w, c, ky, kx = schedule.get_loops(acc)
    schedule.reorder(ky, kx, h, w, c)
    _unroll_and_vectorize(schedule, w, c)
    # Unrolled along a row, neighbouring pixels share the input values that they load.
    schedule.unroll(kx)
    if tile.staged:
        _stage(schedule, acc, 0, "pad", block, tile)
    schedule.decompose_reduction(acc, ky)


def _preparations(kernel: Kernel) -> list[tuple[int, str]]:
    """List the blocks that change an input before it is summed up, with the input's number."""
    preparations = []
    if isinstance(kernel, Convolution) and kernel.gated:
        preparations.append((1 if gates_weight(kernel) else 0, "gated"))
    if not isinstance(kernel, Mean) and kernel.kernel > 1:
        preparations.append((0, "pad"))
    return preparations


def _stage(
    schedule: Schedule, acc: Any, index: int, producer: str | None, loop: Any, tile: GpuTile
) -> None:
    """Have the threads of a block copy, inside `loop`, what `acc` reads as its input `index`.

    Where a block prepares that input, its result is what is kept in shared memory.
    """
    if producer is None:
        copy = schedule.cache_read(acc, index, "shared")
    else:
        copy = schedule.get_sblock(producer)
        schedule.set_scope(copy, 0, "shared")
    schedule.compute_at(copy, loop, preserve_unit_loops=True)
    outside = len(schedule.get_loops(copy)) - len(schedule.get(copy).iter_vars)
    inner = schedule.get_loops(copy)[outside:]
    lanes = lanes_of(int(schedule.get(inner[-1]).extent), _WIDEST_LOAD)
    copied = schedule.fuse(*inner)
    _, thread, vector = schedule.split(copied, [None, tile.threads, lanes])
    schedule.bind(thread, "threadIdx.x")
    schedule.vectorize(vector)


def _unroll_and_vectorize(schedule: Schedule, unrolled: Any, vectorized: Any) -> None:
    schedule.unroll(unrolled)
    schedule.vectorize(vectorized)
