"""Tiles for graphics processors.

A thread block computes ``rows x columns`` pixels of ``channels`` channels; each of its threads sums
up ``pixels x lanes`` of them in registers. What the threads of a block read in common can be staged
in shared memory. Where a kernel has few outputs and long sums (one pixel, or a mean), several
threads share each sum.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from .kernels import Convolution, Depthwise, Kernel, Mean
from .sizes import divisors, lanes_of

# What every device since compute capability 2 has.
MAX_THREADS = 1024
SHARED_BYTES = 48 * 1024

_FLOAT_BYTES = 4
_WARP = 32
_SECTOR_BYTES = 32
_LANES = 4  # floats of the widest load
_SUMS = 32  # registers of a thread for its sums
_THREADS = 256  # of a block; more only make its barriers dearer
_SHARING_THREADS = 512
_TILES = 128  # of a family: the rules are coarse, but not so coarse that the rest would win

# The rules count instructions. These are estimates, which no GPU was at hand to check; they decide
# where the tuner begins, not where it ends.
_IN_FLIGHT = 32768  # threads that a whole device keeps busy
_FLOATS_READ = 3000  # by the whole device from its second-level cache, in the time of one of them
_GLOBAL_LOAD = 4.0
_SHARED_LOAD = 1.0
_STEP = 4.0
_BARRIER = 30.0


@dataclass(frozen=True, slots=True)
class GpuTile:
    """Work of a thread block and of each of its threads.

    Attributes
    ----------
    rows, columns, channels : int
        Output of a thread block.
    pixels, lanes : int
        Output of a thread: pixels side by side, and channels in one vector.
    sharers : int
        Threads that share each sum; then each thread has one output.
    staged : int
        Input channels that are copied to shared memory at a time; 0 to read global memory.
    """

    rows: int
    columns: int
    channels: int
    pixels: int = 1
    lanes: int = 1
    sharers: int = 1
    staged: int = 0

    @property
    def threads(self) -> int:
        """Threads of a block."""
        pixels, channels = self.rows * self.columns // self.pixels, self.channels // self.lanes
        return pixels * channels * self.sharers

    def __str__(self) -> str:
        return (
            f"b{self.rows}x{self.columns}x{self.channels}t{self.pixels}x{self.lanes}"
            f"s{self.sharers}k{self.staged}"
        )

    @classmethod
    def parse(cls, text: str) -> GpuTile:
        """Read what `str` writes; raises ValueError for anything else."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a tile")
        return cls(*(int(number) for number in match.groups()))


_TEXT = re.compile(r"b(\d+)x(\d+)x(\d+)t(\d+)x(\d+)s(\d+)k(\d+)", re.ASCII)


@lru_cache(maxsize=1024)
def gpu_family(kernel: Kernel) -> tuple[GpuTile, ...]:
    """List tiles that fit `kernel`, the one that the rules prefer first."""
    if isinstance(kernel, Convolution):
        tiles = [*_convolution_tiles(kernel), *_sharing_tiles(kernel)]
    elif isinstance(kernel, Depthwise):
        tiles = list(_depthwise_tiles(kernel))
    else:
        tiles = list(_mean_tiles(kernel))
    return tuple(sorted(tiles, key=lambda tile: _cost(kernel, tile))[:_TILES])


def _convolution_tiles(kernel: Convolution) -> Iterator[GpuTile]:
    # With few channels, as those of an image, a stage is all of them; else some vectors.
    inner = kernel.in_channels
    stages = [0, *([inner] if inner <= 8 else [d for d in divisors(inner, 32) if d % 8 == 0])]
    for tile in _register_tiles(kernel.output_shape):
        for staged in stages:
            if _shared_bytes(kernel, tile, staged) <= SHARED_BYTES:
                yield replace(tile, staged=staged)


def _depthwise_tiles(kernel: Depthwise) -> Iterator[GpuTile]:
    for tile in _register_tiles(kernel.output_shape):
        yield tile
        if kernel.kernel > 1 and _shared_bytes(kernel, tile, tile.channels) <= SHARED_BYTES:
            yield replace(tile, staged=tile.channels)


def _register_tiles(shape: tuple[int, ...]) -> Iterator[GpuTile]:
    height, width, channels = shape
    enough = min(_WARP, height * width * channels // _SUMS)
    widest = lanes_of(channels, _LANES) if channels else 1
    for lanes in {widest, max(1, widest // 2)}:
        for n in divisors(channels // lanes, 64):
            for columns in divisors(width, 16):
                for pixels in divisors(columns, min(8, _SUMS // lanes)):
                    for rows in divisors(height, 8):
                        tile = GpuTile(rows, columns, n * lanes, pixels, lanes)
                        if enough <= tile.threads <= _THREADS:
                            yield tile


def _sharing_tiles(kernel: Convolution) -> Iterator[GpuTile]:
    """Several threads for each sum: where there are too few outputs to fill a device."""
    if kernel.kernel > 1 or math.prod(kernel.output_shape) > _IN_FLIGHT:
        return
    for n in _wide(kernel.out_channels):
        for columns in divisors(kernel.out_resolution, 8):
            for sharers in divisors(kernel.in_channels, 64)[1:]:
                tile = GpuTile(1, columns, n, sharers=sharers)
                if tile.threads <= _SHARING_THREADS:
                    yield tile


def _mean_tiles(kernel: Mean) -> Iterator[GpuTile]:
    for n in _wide(kernel.channels):
        for sharers in divisors(kernel.resolution**2, 128):
            if n * sharers <= _SHARING_THREADS:
                yield GpuTile(1, 1, n, sharers=sharers)


def _wide(channels: int) -> list[int]:
    """List how many channels a block may take whose threads read single floats: whole sectors."""
    choices = divisors(channels, 64)
    return [n for n in choices if n * _FLOAT_BYTES >= _SECTOR_BYTES] or choices[-1:]


def _inputs(kernel: Kernel, tile: GpuTile, channels: int) -> int:
    """Return how many values of `channels` input channels a thread block reads."""
    if isinstance(kernel, Mean):
        return kernel.resolution**2 * channels
    rows = (tile.rows - 1) * kernel.stride + kernel.kernel
    columns = (tile.columns - 1) * kernel.stride + kernel.kernel
    # The weights of a depthwise convolution are few, and stay where they are.
    weights = kernel.kernel**2 * tile.channels if isinstance(kernel, Convolution) else 0
    return (rows * columns + weights) * channels


def _shared_bytes(kernel: Kernel, tile: GpuTile, staged: int) -> int:
    return _inputs(kernel, tile, staged) * _FLOAT_BYTES


def _cost(kernel: Kernel, tile: GpuTile) -> tuple[float, str]:
    """Estimate the time of `kernel`, in instructions of a thread; equals in a fixed order."""
    if isinstance(kernel, Convolution):
        products, channels = kernel.kernel**2 * kernel.in_channels, kernel.in_channels
    elif isinstance(kernel, Depthwise):
        products, channels = kernel.kernel**2, tile.channels
    else:
        products, channels = kernel.resolution**2, tile.channels
    load = _SHARED_LOAD if tile.staged else _GLOBAL_LOAD
    step = tile.pixels * tile.lanes + load * (tile.pixels + 1) + _STEP
    time = products / tile.sharers * step + _BARRIER * math.log2(tile.sharers)
    if tile.staged:
        copies = _inputs(kernel, tile, tile.staged) / tile.threads / _LANES
        time += channels / tile.staged * (copies * (_GLOBAL_LOAD + _SHARED_LOAD) + _BARRIER)
    blocks = math.prod(kernel.output_shape) / (tile.rows * tile.columns * tile.channels)
    warps = -(-tile.threads // _WARP)
    waves = max(1.0, blocks * warps * _WARP / _IN_FLIGHT)
    # Memory comes in sectors, of which a narrow block uses a part.
    sectors = -(-tile.channels * _FLOAT_BYTES // _SECTOR_BYTES)
    waste = sectors * _SECTOR_BYTES / (tile.channels * _FLOAT_BYTES)
    traffic = blocks * _inputs(kernel, tile, channels) * waste / _FLOATS_READ
    return waves * time + traffic, str(tile)
