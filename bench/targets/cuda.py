#!/usr/bin/env python3
"""Tune and measure a latency table on a CUDA device, and say how good it and the code are.

python bench/targets/cuda.py --space mbv3-tiny --checkpoint work --out cuda.json
python bench/targets/cuda.py --space ofa-mbv3 --resolution 224 --checkpoint work

Prints the device, how well the table predicts whole networks that were not used to correct it, and
each block in TVM and in torch eager on the same device, in turn and after their results were
compared. Both are timed by CUDA events around many calls in a row, so that what is slow to launch
counts as slow: for one image of a small network that is most of the time. Both compute in float32,
torch without TF32 and with cuDNN's choice of the fastest algorithm.

A device elsewhere is measured with --target "cuda -arch=sm_87" --runner rpc://HOST:PORT/KEY, and
then not compared with torch. TVM compiles CUDA source where it is loaded: that machine needs nvcc
or the Python package cuda-bindings.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from cpu import TOLERANCE, head, mbconv, stem
from table import add_options, measured_table, print_table, show_progress

import pnag_fast as pf
from pnag_fast.spaces import Block, Head, MBConv, Stem

SAMPLE_SECONDS = 3e-3
# Runs a block a number of times and returns the seconds of all.
Timer = Callable[[int], float]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, target="cuda", runner="local")
    parser.add_argument(
        "--compare",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare with torch eager",
    )
    arguments = parser.parse_args()
    try:
        space, table = measured_table(arguments)
        print_table(table)
        if arguments.compare and arguments.runner == "local":
            compare(space, table, arguments)
    except pf.PnagError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def compare(space: pf.SearchSpace, table: pf.CostTable, arguments: argparse.Namespace) -> None:
    """Time every block in TVM and torch, in turn, and print the ratios."""
    try:
        import torch
    except ImportError as absent:
        print(f"torch is not installed ({absent}): not compared", file=sys.stderr)
        return
    if not torch.cuda.is_available():
        print("torch sees no CUDA device: not compared", file=sys.stderr)
        return
    torch.set_grad_enabled(False)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    blocks = pf.latency.space_blocks(space)
    timers = {key: timers_of(block, table, arguments) for key, block in blocks.items()}
    samples: dict[str, list[tuple[float, float]]] = {key: [] for key in blocks}
    for number in range(arguments.passes):
        show_progress("comparing", number + 1, arguments.passes)
        for key, (ours, theirs) in timers.items():
            first, second = (ours, theirs) if number % 2 else (theirs, ours)
            times = seconds_of(first), seconds_of(second)
            samples[key].append(times if number % 2 else times[::-1])
    print(f"\n{'block':<52} {'TVM us':>9} {'torch us':>9} {'ratio':>6}")
    ratios = []
    for key in blocks:
        ours_us, theirs_us = 1e6 * np.median(samples[key], axis=0)
        ratios.append(theirs_us / ours_us)
        print(f"{key:<52} {ours_us:9.1f} {theirs_us:9.1f} {ratios[-1]:6.2f}")
    print(
        f"torch {torch.__version__} eager / TVM, {len(ratios)} blocks: geometric mean "
        f"{np.exp(np.log(ratios).mean()):.2f}, lowest {min(ratios):.2f}, highest {max(ratios):.2f}"
    )


def timers_of(
    block: Block, table: pf.CostTable, arguments: argparse.Namespace
) -> tuple[Timer, Timer]:
    """Return timers of the block in TVM and in torch, whose results were found to agree."""
    weights = pf.latency.random_weights([block], 0)
    rng = np.random.default_rng(0)
    shape = (1, block.in_channels, block.resolution, block.resolution)
    image: npt.NDArray[np.float32] = rng.standard_normal(shape, dtype=np.float32)
    compiled = pf.latency.compile_blocks([block], weights, target=arguments.target, table=table)
    expected = compiled.run(image)
    run = torch_block(block, weights[0], image)
    result = np.asarray(run().cpu().numpy()).reshape(expected.shape)
    error = np.abs(result - expected).max() / np.abs(expected).max()
    if not error < TOLERANCE:
        raise pf.errors.MeasurementError(f"torch differs by {error:.2g} on {block.key}")
    return compiled.seconds, lambda number: event_seconds(run, number)


def seconds_of(timer: Timer) -> float:
    """Warm up, and time enough calls in a row to fill `SAMPLE_SECONDS`."""
    timer(1)
    number = max(1, math.ceil(SAMPLE_SECONDS / timer(1)))
    return timer(number) / number


def event_seconds(run: Callable[[], Any], number: int) -> float:
    import torch

    event: Any = torch.cuda.Event
    start, end = event(enable_timing=True), event(enable_timing=True)
    start.record()
    for _ in range(number):
        run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e-3


def torch_block(
    block: Block, weights: Mapping[str, Any], image: npt.NDArray[np.float32]
) -> Callable[[], Any]:
    """Return a call of `block` on the device, batch norm folded."""
    import torch

    w = {name: torch.from_numpy(value).cuda() for name, value in weights.items()}
    x = torch.from_numpy(image).cuda()
    if isinstance(block, Stem):
        return lambda: stem(block, w, x)
    if isinstance(block, Head):
        return lambda: head(block, w, x)
    return lambda: mbconv(cast(MBConv, block), w, x)


if __name__ == "__main__":
    sys.exit(main())
