#!/usr/bin/env python3
"""Measure a latency table on this processor, and say how good it and the compiled code are.

python bench/targets/cpu.py --space mbv3-tiny --work-dir work --out cpu.json
python bench/targets/cpu.py --space ofa-mbv3 --resolution 224 --work-dir work --no-torch

Prints the machine, a line per block (TVM beside torch eager, both on one thread), and how well the
table predicts whole networks that were not used to correct it. A second run with the same work
directory reuses what is measured.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

import pnag_fast as pf
from pnag_fast.spaces import Block, Head, MBConv, Stem


def main() -> int:
    arguments = parse_arguments()
    options = {} if arguments.resolution is None else {"resolutions": (arguments.resolution,)}
    start = time.monotonic()
    try:
        space = pf.spaces.get(arguments.space, **options)
        table = pf.latency.measure(
            space,
            target=arguments.target,
            threads=arguments.threads,
            n_networks=arguments.networks,
            passes=arguments.passes,
            seed=arguments.seed,
            work_dir=arguments.work_dir,
            progress=show_progress,
        )
    except pf.PnagError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print_machine(table.provenance["conditions"])
    print(f"space       {space.name}, {space.resolutions} px, {space.n_architectures:.3g} networks")
    print(f"measured in {time.monotonic() - start:.1f} s (less where a journal was reused)\n")
    print_blocks(space, table, with_torch=arguments.torch, threads=arguments.threads)
    print_networks(table)
    if arguments.out is not None:
        table.save(arguments.out)
        print(f"\ntable written to {arguments.out}")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="mbv3-tiny", help="default: mbv3-tiny")
    parser.add_argument("--resolution", type=int, help="pixels; default: that of the space")
    parser.add_argument("--target", default="llvm", help="default: llvm, this processor")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument("--networks", type=int, default=12, help="whole networks; default: 12")
    parser.add_argument("--passes", type=int, default=10, help="default: 10")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work-dir", required=True, help="folder of the measurement journal")
    parser.add_argument("--out", help="file for the table")
    parser.add_argument(
        "--torch",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare with torch eager",
    )
    return parser.parse_args()


def show_progress(description: str, done: int, total: int) -> None:
    if not total:
        print(f"note: {description}", file=sys.stderr)
    elif sys.stderr.isatty():
        print(f"\r\x1b[K{description} {done}/{total}", end="", file=sys.stderr, flush=True)
    elif done == total:
        print(f"{description} {done}/{total}", file=sys.stderr)


def print_machine(conditions: Mapping[str, Any]) -> None:
    print(f"processor   {conditions['processor']} ({platform.machine()}, {platform.system()})")
    print(f"target      {conditions['target']}")
    print(f"threads     {conditions['threads']}, clock {conditions['clock']}")
    print(f"governor    {conditions['governor']}")
    print(f"TVM         {conditions['tvm']} (tvm-ffi {conditions['tvm_ffi']})")


def print_blocks(
    space: pf.SearchSpace, table: pf.CostTable, *, with_torch: bool, threads: int
) -> None:
    measured = table.provenance["blocks"]
    blocks = pf.latency.space_blocks(space)
    torch_ms = time_torch(blocks, threads) if with_torch else {}
    print(f"{'block':<52} {'TVM us':>9} {'spread':>7} {'GMAC/s':>7} {'torch us':>9} {'ratio':>6}")
    for key, block in blocks.items():
        ms = measured[key]["ms"]
        line = (
            f"{key:<52} {1e3 * ms:9.1f} {measured[key]['spread']:7.1%} {block.macs / ms / 1e6:7.1f}"
        )
        if key in torch_ms:
            line += f" {1e3 * torch_ms[key]:9.1f} {torch_ms[key] / ms:6.2f}"
        print(line + ("" if measured[key]["steady"] else "  unsteady"))
    unsteady = sum(not block["steady"] for block in measured.values())
    print(f"\n{len(blocks)} blocks, {unsteady} unsteady (spread above 5 %)")
    if torch_ms:
        ratios = np.array([torch_ms[key] / measured[key]["ms"] for key in blocks])
        print(
            f"torch eager / TVM ({table.provenance['tuning_trials']} tuning trials): "
            f"geometric mean {np.exp(np.log(ratios).mean()):.2f}, lowest {ratios.min():.2f}, "
            f"highest {ratios.max():.2f}"
        )


def print_networks(table: pf.CostTable) -> None:
    correction = table.provenance["correction"]
    print("\nwhole networks: measured ms, table ms, error")
    for network in table.provenance["networks"]:
        error = network["table_ms"] / network["ms"] - 1
        print(f"  {network['ms']:9.4f} {network['table_ms']:9.4f} {error:+7.1%}")
    print(
        f"network = {correction['offset_ms']:.4f} ms + {correction['scale']:.4f} x sum of blocks\n"
        f"on networks left out of the fit: R2 {correction['r2']:.4f}, rank correlation "
        f"{correction['rank_correlation']:.4f}, mean error {correction['mean_error']:.2%}, worst "
        f"{correction['worst_error']:.2%}"
    )
    if correction["r2"] < 0.98 or correction["mean_error"] > 0.05:
        print("this is worse than R2 0.98 and 5 % mean error: measure again on a quieter machine")


# --- torch eager -------------------------------------------------------------------------------


def time_torch(blocks: Mapping[str, Block], threads: int) -> dict[str, float]:
    """Milliseconds of every block in torch eager, by the clock of the TVM measurements.

    The low quantile of the samples, since the table states times of an undisturbed machine.
    """
    try:
        import torch
    except ImportError:
        print("torch is not installed: no comparison", file=sys.stderr)
        return {}
    torch.set_num_threads(threads)
    clock = time.thread_time if threads == 1 else time.perf_counter
    functions = {key: torch_block(block) for key, block in blocks.items()}
    samples: dict[str, list[float]] = {key: [] for key in blocks}
    with torch.inference_mode():
        for number in range(10):
            show_progress("timing torch", number + 1, 10)
            for key, function in functions.items():
                function()
                start = clock()
                function()
                runs = max(1, int(3e-3 / max(clock() - start, 1e-6)))
                start = clock()
                for _ in range(runs):
                    function()
                samples[key].append(1e3 * (clock() - start) / runs)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return {key: float(np.quantile(times, 0.1)) for key, times in samples.items()}


def torch_block(block: Block) -> Callable[[], object]:
    """Return a call of `block` with random weights on a random image, batch norm folded."""
    import torch

    (arrays,) = pf.latency.random_weights([block], 0)
    weights = {name: torch.from_numpy(value) for name, value in arrays.items()}
    rng = np.random.default_rng(0)
    shape = (1, block.in_channels, block.resolution, block.resolution)
    image: npt.NDArray[np.float32] = rng.standard_normal(shape, dtype=np.float32)
    x = torch.from_numpy(image)
    if isinstance(block, Stem):
        return lambda: stem(block, weights, x)
    if isinstance(block, Head):
        return lambda: head(block, weights, x)
    return lambda: mbconv(block, weights, x)


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
