#!/usr/bin/env python3
"""Tune and measure a latency table on this processor, and say how good it and the code are.

python bench/targets/cpu.py --space mbv3-tiny --checkpoint work --out cpu.json
python bench/targets/cpu.py --space ofa-mbv3 --resolution 224 --checkpoint work

Prints the machine, how well the table predicts whole networks that were not used to correct it, and
each block in TVM, torch eager and onnxruntime, called in turn in one process with the same weights,
image and threads, after their results were compared. A second run with the same work directory
reuses what is measured, but compares again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from table import add_options, measured_table, print_table, show_progress

import pnag_fast as pf
from pnag_fast.spaces import Block, Head, MBConv, Stem

# Runs a block once.
Run = Callable[[], object]
# What a block may differ by between runtimes, relative to its largest output: all are float32 and
# sum in different orders.
TOLERANCE = 1e-4
SAMPLE_SECONDS = 3e-3


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, target="cpu", runner="local")
    parser.add_argument(
        "--compare",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare with torch eager and onnxruntime",
    )
    arguments = parser.parse_args()
    try:
        space, table = measured_table(arguments)
        print_table(table)
        if arguments.compare:
            compare(space, table, arguments)
    except pf.PnagError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def compare(space: pf.SearchSpace, table: pf.CostTable, arguments: argparse.Namespace) -> None:
    """Time every block in every runtime that is installed, in turn, and print the ratios."""
    blocks = pf.latency.space_blocks(space)
    contestants = {key: contestants_of(block, table, arguments) for key, block in blocks.items()}
    times = timed(contestants, arguments)
    names = list(next(iter(contestants.values())))
    rivals = names[1:]
    print(f"\n{'block':<52}" + "".join(f" {name + ' us':>15}" for name in names))
    for key in blocks:
        print(f"{key:<52}" + "".join(f" {1e6 * times[key][name]:15.1f}" for name in names))
    for rival in rivals:
        ratios = np.array([times[key][rival] / times[key]["TVM"] for key in blocks])
        print(
            f"{rival} / TVM, {len(ratios)} blocks, called from Python: geometric mean "
            f"{np.exp(np.log(ratios).mean()):.2f}, lowest {ratios.min():.2f}, highest "
            f"{ratios.max():.2f}; all blocks together "
            f"{sum(t[rival] for t in times.values()) / sum(t['TVM'] for t in times.values()):.2f}"
        )


def contestants_of(
    block: Block, table: pf.CostTable, arguments: argparse.Namespace
) -> dict[str, Run]:
    """Return one call of the block for each runtime, whose results were found to agree."""
    weights = pf.latency.random_weights([block], 0)
    rng = np.random.default_rng(0)
    shape = (1, block.in_channels, block.resolution, block.resolution)
    image: npt.NDArray[np.float32] = rng.standard_normal(shape, dtype=np.float32)
    compiled = pf.latency.compile_blocks(
        [block], weights, target=arguments.target, threads=arguments.threads, table=table
    )
    expected = compiled.run(image)
    runs: dict[str, Run] = {"TVM": lambda: compiled.seconds(1)}
    for name, make in (("torch eager", torch_block), ("onnxruntime", onnx_block)):
        try:
            run = make(block, weights[0], image, arguments.threads)
        except ImportError as absent:
            print(f"{name} is not installed ({absent}): not compared", file=sys.stderr)
            continue
        output: Any = run()
        result = np.asarray(output.numpy()).reshape(expected.shape)
        error = np.abs(result - expected).max() / np.abs(expected).max()
        if not error < TOLERANCE:
            raise pf.errors.MeasurementError(f"{name} differs by {error:.2g} on {block.key}")
        runs[name] = run
    return runs


def timed(
    contestants: Mapping[str, Mapping[str, Run]], arguments: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Seconds of every call: the median of passes in which everybody comes first in turn."""
    clock = time.thread_time if arguments.threads == 1 else time.perf_counter
    samples: dict[str, dict[str, list[float]]] = {
        key: {name: [] for name in runs} for key, runs in contestants.items()
    }
    rng = np.random.default_rng(arguments.seed)
    for number in range(arguments.passes):
        show_progress("comparing", number, arguments.passes)
        for index in rng.permutation(len(contestants)):
            key = list(contestants)[index]
            runs = list(contestants[key].items())
            turn = number % len(runs)
            for name, run in runs[turn:] + runs[:turn]:
                samples[key][name].append(seconds_of(run, clock))
    show_progress("comparing", arguments.passes, arguments.passes)
    return {
        key: {name: float(np.median(values)) for name, values in of.items()}
        for key, of in samples.items()
    }


def seconds_of(run: Run, clock: Callable[[], float]) -> float:
    """Warm up, then repeat for about `SAMPLE_SECONDS`."""
    run()
    start = clock()
    run()
    number = max(1, int(SAMPLE_SECONDS / max(clock() - start, 1e-6)))
    start = clock()
    for _ in range(number):
        run()
    return (clock() - start) / number


# --- onnxruntime -------------------------------------------------------------------------------


def onnx_block(
    block: Block, weights: Mapping[str, Any], image: npt.NDArray[np.float32], threads: int
) -> Callable[[], Any]:
    """Return a call of `block` that copies nothing in and out."""
    import onnxruntime

    from pnag_fast.export import INPUT_NAME, OUTPUT_NAME, onnx_model

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        onnx_model([block], [weights]).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    binding = session.io_binding()
    given = onnxruntime.OrtValue.ortvalue_from_numpy(image)
    (result,) = session.run([OUTPUT_NAME], {INPUT_NAME: image})
    output = onnxruntime.OrtValue.ortvalue_from_numpy(result)
    binding.bind_ortvalue_input(INPUT_NAME, given)
    binding.bind_ortvalue_output(OUTPUT_NAME, output)

    def run() -> Any:
        session.run_with_iobinding(binding)
        return output

    return run


# --- torch eager -------------------------------------------------------------------------------


def torch_block(
    block: Block, weights: Mapping[str, Any], image: npt.NDArray[np.float32], threads: int
) -> Callable[[], Any]:
    """Return a call of `block`, batch norm folded."""
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    w = {name: torch.from_numpy(value) for name, value in weights.items()}
    x = torch.from_numpy(image)
    if isinstance(block, Stem):
        return lambda: stem(block, w, x)
    if isinstance(block, Head):
        return lambda: head(block, w, x)
    return lambda: mbconv(cast(MBConv, block), w, x)


def activate(x: Any, activation: str) -> Any:
    import torch.nn.functional as f

    return f.relu(x) if activation == "relu" else f.hardswish(x)


def stem(block: Stem, w: Mapping[str, Any], x: Any) -> Any:
    import torch.nn.functional as f

    y = f.conv2d(x, w["weight"], w["bias"], block.stride, block.kernel // 2)
    return activate(y, block.activation)


def mbconv(block: MBConv, w: Mapping[str, Any], x: Any) -> Any:
    import torch.nn.functional as f

    y = x
    if block.expand:
        y = activate(f.conv2d(y, w["expand.weight"], w["expand.bias"]), block.activation)
    y = f.conv2d(
        y,
        w["depthwise.weight"],
        w["depthwise.bias"],
        block.stride,
        block.kernel // 2,
        groups=block.mid_channels,
    )
    y = activate(y, block.activation)
    if block.squeeze_excite:
        s = f.linear(y.mean((2, 3)), w["squeeze.reduce.weight"], w["squeeze.reduce.bias"])
        s = f.linear(f.relu(s), w["squeeze.expand.weight"], w["squeeze.expand.bias"])
        y = y * f.hardsigmoid(s)[:, :, None, None]
    y = f.conv2d(y, w["project.weight"], w["project.bias"])
    return x + y if block.residual else y


def head(block: Head, w: Mapping[str, Any], x: Any) -> Any:
    import torch.nn.functional as f

    y = activate(f.conv2d(x, w["expand.weight"], w["expand.bias"]), block.activation)
    y = activate(f.linear(y.mean((2, 3)), w["feature.weight"]), block.activation)
    return f.linear(y, w["classifier.weight"], w["classifier.bias"])


if __name__ == "__main__":
    sys.exit(main())
