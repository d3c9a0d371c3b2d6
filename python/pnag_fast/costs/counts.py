"""Tables that are counted, not measured: multiply-adds and parameters, and any sum of blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from .. import arguments
from ..spaces import SearchSpace
from ..spaces.blocks import Block, MBConv, Pointwise, Stem
from ..spaces.nasbench201 import is_cell_space
from .features import n_contexts
from .table import COUNTED, CostTable


def macs(space: SearchSpace) -> CostTable:
    """Multiply-adds for one image, exact.

    Squeeze-excite and classifier are included, pooling, activations and biases are not.
    """
    if is_cell_space(space):
        return _nasbench201_table(space, "macs", _CELL_MACS)
    return _closed_form(space, "macs", lambda block: block.macs)


def parameters(space: SearchSpace) -> CostTable:
    """Trained parameters, exact; batch norm counts two a channel, biases are included."""
    if is_cell_space(space):
        return _nasbench201_table(space, "parameters", _CELL_PARAMETERS)
    return _closed_form(space, "parameters", lambda block: block.parameters)


def peak_memory(space: SearchSpace, *, bytes_per_value: int = 1) -> CostTable:
    """Bytes of activations that are held at once where most are, for one image.

    What decides whether a network runs on a microcontroller (Lin et al., MCUNet, NeurIPS 2020):
    input and output of every operation, and the input of a block while a residual waits for it.
    Weights are not included. The largest operation counts, so this table is a maximum over the
    slots and not a sum.

    Parameters
    ----------
    bytes_per_value : int
        1 for networks of 8-bit integers, 4 for float32.

    Examples
    --------
    >>> import pnag_fast as pf
    >>> pf.costs.peak_memory(pf.spaces.get("ofa-mbv3"))
    <CostTable of peak memory for 'ofa-mbv3'
     8.028e+05 to 1.505e+06 bytes on any device>
    """
    size = arguments.integer(bytes_per_value, "bytes_per_value", 1)
    return from_blocks(
        space,
        lambda block: size * _activations(block),
        metric="peak memory",
        unit="bytes",
        device="any",
        reduce="max",
        provenance={"source": "closed form", "bytes_per_value": size},
    )


def _activations(block: Block) -> int:
    """Values that are held at once in the largest operation of a block."""
    if isinstance(block, (Stem, Pointwise)):
        before = block.resolution**2 * block.in_channels
        return before + block.out_resolution**2 * block.out_channels
    if isinstance(block, MBConv):
        before = block.resolution**2 * block.in_channels
        expanded = block.resolution**2 * block.mid_channels
        filtered = block.out_resolution**2 * block.mid_channels
        after = block.out_resolution**2 * block.out_channels
        waiting = before if block.residual else 0
        steps = [before + expanded] if block.expand else []
        # Without expansion the input of the block is that of its second operation.
        waits = waiting if block.expand else 0
        return max(*steps, expanded + filtered + waits, filtered + after + waiting)
    return block.resolution**2 * (block.in_channels + block.expand_channels)


def _closed_form(space: SearchSpace, metric: str, count: Callable[[Block], int]) -> CostTable:
    return from_blocks(
        space,
        count,
        metric=metric,
        unit=COUNTED[metric],
        device="any",
        provenance={"source": "closed form"},
    )


def from_blocks(
    space: SearchSpace,
    cost: Callable[[Block], float],
    *,
    metric: str,
    unit: str,
    device: str,
    reduce: Literal["sum", "max"] = "sum",
    provenance: Mapping[str, Any] | None = None,
) -> CostTable:
    """Build a table from the cost of every block of the space's network.

    Parameters
    ----------
    cost : callable
        Called once for every (resolution, slot, code) and every fixed block.
    reduce : {"sum", "max"}
        Whether the costs of the blocks add up, or the largest counts.
    """
    network = space.require_network(f"a {metric} table from blocks")
    entries = np.zeros((n_contexts(space), space.n_slots, max(space.n_codes)))
    constants = np.zeros(n_contexts(space))
    for context, resolution in enumerate(space.resolutions):
        fixed = [cost(block) for block in network.fixed_blocks(resolution)]
        constants[context] = math.fsum(fixed) if reduce == "sum" else max(fixed)
        for slot in range(space.n_slots):
            if slot == space.resolution_slot:
                continue
            for code in range(1, space.n_codes[slot]):
                entries[context, slot, code] = cost(network.layer(slot, code, resolution))
    return CostTable.build(
        space,
        metric=metric,
        unit=unit,
        device=device,
        constants=constants,
        entries=entries,
        reduce=reduce,
        provenance=provenance,
    )


# NAS-Bench-201: 3 stacks of 5 cells with 16, 32 and 64 channels on 32, 16 and 8 pixels, with a
# residual block between stacks (Dong and Yang, ICLR 2020, section 2.1).
_STACKS = ((16, 32), (32, 16), (64, 8))
_CELLS = 5


def _conv(in_channels: int, out_channels: int, kernel: int) -> int:
    return in_channels * out_channels * kernel**2


# Residual block: 3x3 (stride 2), 3x3, and a 1x1 shortcut after 2x2 average pooling.
_REDUCTIONS = tuple(
    _conv(c, 2 * c, 3) + _conv(2 * c, 2 * c, 3) + _conv(c, 2 * c, 1) for c, _ in _STACKS[:-1]
)
_CELL_MACS: dict[str, Any] = {
    "constant": _conv(3, 16, 3) * 32**2
    + sum(n * r**2 for n, (_, r) in zip(_REDUCTIONS, _STACKS[1:], strict=True))
    + 64 * 10,
    "nor_conv_1x1": _CELLS * sum(_conv(c, c, 1) * r**2 for c, r in _STACKS),
    "nor_conv_3x3": _CELLS * sum(_conv(c, c, 3) * r**2 for c, r in _STACKS),
}
_CELL_PARAMETERS: dict[str, Any] = {
    # Batch norms: after the stem, two in each residual block, one before pooling.
    "constant": _conv(3, 16, 3)
    + 2 * 16
    + sum(n + 4 * 2 * c for n, (c, _) in zip(_REDUCTIONS, _STACKS, strict=False))
    + 2 * 64
    + 64 * 10
    + 10,
    "nor_conv_1x1": _CELLS * sum(_conv(c, c, 1) + 2 * c for c, _ in _STACKS),
    "nor_conv_3x3": _CELLS * sum(_conv(c, c, 3) + 2 * c for c, _ in _STACKS),
}


def _nasbench201_table(space: SearchSpace, metric: str, counts: Mapping[str, Any]) -> CostTable:
    operations = space.slots[0].choices
    row = [0.0] + [float(counts.get(name, 0)) for (name,) in operations]
    return CostTable.build(
        space,
        metric=metric,
        unit=COUNTED[metric],
        device="any",
        constants=[float(counts["constant"])],
        entries=np.array([[row] * space.n_slots]),
        provenance={"source": "closed form", "data": "10 classes, 32x32 images"},
    )
