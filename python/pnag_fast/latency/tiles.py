"""What may be chosen about a kernel's loops, and in which order a tuner should try it.

Only descriptions: `tvm_adapter` turns them into code. Those for graphics processors are in
`gpu_tiles`. All kernels of a processor share a shape: an output tile of ``rows x columns`` pixels
and ``vectors`` vectors of ``lanes`` channels is summed up in registers while the innermost loops
run over the input, and is then finished (bias, activation, residual) and stored. The tile is what
matters: large enough that arithmetic outweighs loads, small enough that its sums stay in registers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Literal

from .gpu_tiles import GpuTile, gpu_family
from .kernels import Convolution, Depthwise, Kernel
from .sizes import divisors, lanes_of

# Weights above this no longer stay in a core's own cache while the image is walked through, so
# by rule they become the outer loop.
_LARGE_WEIGHT_BYTES = 256 * 1024
_FLOAT_BYTES = 4
_MAX_VECTORS = 8
_MAX_COLUMNS = 8  # of a depthwise tile: each pixel side by side is another sum


@dataclass(frozen=True, slots=True)
class Machine:
    """What the rules need to know: floats per vector, registers for sums, threads.

    The rules for graphics processors need no numbers: what they use, every device has.
    """

    lanes: int
    accumulators: int
    threads: int
    kind: Literal["cpu", "cuda"] = "cpu"


@dataclass(frozen=True, slots=True)
class CpuTile:
    """Part of the output whose sums are kept in registers at a time.

    `channels_outside`: channels are the outermost loop, not rows and columns.
    """

    rows: int
    columns: int
    vectors: int
    lanes: int
    channels_outside: bool = False

    def __str__(self) -> str:
        order = "c" if self.channels_outside else "p"
        return f"{self.rows}x{self.columns}x{self.vectors}x{self.lanes}{order}"

    @classmethod
    def parse(cls, text: str) -> CpuTile:
        """Read what `str` writes; raises ValueError for anything else."""
        numbers, order = text[:-1].split("x"), text[-1:]
        if len(numbers) != 4 or order not in ("c", "p"):
            raise ValueError(f"{text!r} is not a tile")
        rows, columns, vectors, lanes = (int(number) for number in numbers)
        return cls(rows, columns, vectors, lanes, order == "c")


Tile = CpuTile | GpuTile


def parse_tile(text: str) -> Tile:
    """Read what `str` of a tile writes; raises ValueError for anything else."""
    return GpuTile.parse(text) if text.startswith("b") else CpuTile.parse(text)


def default_tile(kernel: Kernel, machine: Machine) -> Tile:
    """Return the tile that the rules prefer for `kernel`."""
    tiles = family(kernel, machine)
    if not tiles:
        raise ValueError(f"kernel {kernel.name} computes nothing")
    return tiles[0]


def family(kernel: Kernel, machine: Machine) -> list[Tile]:
    """List every tile that fits `kernel`, the one that the rules prefer first.

    The others follow in the order in which they are worth trying where nothing is known yet.
    """
    if machine.kind == "cuda":
        return list(gpu_family(kernel))
    return list(_cpu_family(kernel, machine))


def _cpu_family(kernel: Kernel, machine: Machine) -> list[CpuTile]:
    if isinstance(kernel, Convolution):
        return _convolution_family(kernel, machine)
    if isinstance(kernel, Depthwise):
        return sorted(_depthwise_tiles(kernel, machine), key=_depthwise_preference)
    lanes = lanes_of(kernel.channels, machine.lanes)
    vectors = divisors(kernel.channels // lanes, _MAX_VECTORS)
    return sorted(
        (CpuTile(1, 1, v, lanes) for v in vectors), key=lambda t: (t.vectors > 4, -t.vectors)
    )


def nearest(best: Tile, tiles: Sequence[Tile]) -> list[Tile]:
    """Sort `tiles` by how little they differ from `best`."""
    return sorted(tiles, key=lambda tile: _distance(best, tile))


def _distance(a: Tile, b: Tile) -> float:
    # In powers of two; what is off counts as a half.
    sizes = zip(astuple(a), astuple(b), strict=True)
    return sum(abs(math.log2((x or 0.5) / (y or 0.5))) for x, y in sizes)


def _convolution_family(kernel: Convolution, machine: Machine) -> list[CpuTile]:
    weight_bytes = kernel.kernel**2 * kernel.in_channels * kernel.out_channels * _FLOAT_BYTES
    outside = weight_bytes > _LARGE_WEIGHT_BYTES
    full = lanes_of(kernel.out_channels, machine.lanes)

    def preference(tile: CpuTile) -> tuple[float, int]:
        # Products per load: a step of the input costs one load per pixel and one per vector.
        pixels = tile.rows * tile.columns
        return -pixels * tile.vectors / (pixels + tile.vectors), tile.rows

    tiles = sorted(_convolution_tiles(kernel, machine), key=preference)
    by_rule = [t for t in tiles if t.lanes == full and t.channels_outside == outside]
    other_order = [t for t in tiles if t.lanes == full and t.channels_outside != outside]
    narrow = [t for t in tiles if t.lanes != full]
    # The best tiles of the other loop order, and of half vectors, before the worst by rule.
    places = {t: float(i) for i, t in enumerate(by_rule)}
    places |= {t: 3.0 * i + 1.5 for i, t in enumerate(other_order)}
    places |= {t: 4.0 * i + 3.5 for i, t in enumerate(narrow)}
    return sorted(tiles, key=places.__getitem__)


def _convolution_tiles(kernel: Convolution, machine: Machine) -> Iterator[CpuTile]:
    rows, columns, channels = kernel.output_shape
    limit = machine.accumulators
    widest = lanes_of(channels, machine.lanes)
    for lanes in {widest, max(widest // 2, 1)}:
        for v in divisors(channels // lanes, min(_MAX_VECTORS, limit)):
            for c in divisors(columns, limit // v):
                for r in divisors(rows, limit // (v * c)):
                    for channels_outside in (False, True):
                        yield CpuTile(r, c, v, lanes, channels_outside)


def _depthwise_tiles(kernel: Depthwise, machine: Machine) -> Iterator[CpuTile]:
    rows, columns, channels = kernel.output_shape
    lanes = lanes_of(channels, machine.lanes)
    for v in divisors(channels // lanes, 4):
        for c in divisors(columns, min(_MAX_COLUMNS, machine.accumulators // v)):
            for r in divisors(rows, min(4, machine.accumulators // (v * c))):
                yield CpuTile(r, c, v, lanes)


def _depthwise_preference(tile: CpuTile) -> tuple[int, ...]:
    # Wide first. Few pixels side by side leave registers for a second vector of channels.
    vectors = 2 if tile.columns <= 4 else 1
    return tile.rows, -tile.columns, abs(tile.vectors - vectors), tile.vectors
