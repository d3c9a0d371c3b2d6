"""What the scripts of this folder share: options, measuring, and printing a latency table."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import pnag_fast as pf


def add_options(parser: argparse.ArgumentParser, *, target: str | None, runner: str | None) -> None:
    """Add the options of `pnag_fast.latency.measure`; None makes an option required."""
    add = parser.add_argument
    add("--space", default="mbv3-tiny", help="default: mbv3-tiny")
    add("--resolution", type=int, help="pixels; default: that of the space")
    add("--target", default=target, required=target is None, help=f"default: {target}")
    add("--runner", default=runner, required=runner is None, help=f"default: {runner}")
    add("--trials", type=int, default=pf.latency.DEFAULT_TRIALS, help="default: %(default)s")
    add("--threads", type=int, default=1, help="default: 1")
    add("--networks", type=int, default=20, help="whole networks; default: 20")
    add("--passes", type=int, default=10, help="default: 10")
    add("--seed", type=int, default=0)
    add(
        "--checkpoint",
        "--work-dir",
        required=True,
        help="folder of the tuning database and the journal",
    )
    add("--out", help="file for the table")


def measured_table(arguments: argparse.Namespace) -> tuple[pf.SearchSpace, pf.CostTable]:
    """Measure a table, or read it back from its journal, and write it if asked to."""
    options = {} if arguments.resolution is None else {"resolutions": (arguments.resolution,)}
    space = pf.spaces.get(arguments.space, **options)
    start = time.monotonic()
    table = pf.latency.measure(
        space,
        target=arguments.target,
        runner=arguments.runner,
        tuning_trials=arguments.trials,
        threads=arguments.threads,
        n_networks=arguments.networks,
        passes=arguments.passes,
        seed=arguments.seed,
        checkpoint=arguments.checkpoint,
        progress=show_progress,
    )
    print(f"space       {space.name}, {space.resolutions} px, {space.n_architectures:.3g} networks")
    print(f"measured in {time.monotonic() - start:.1f} s (less where a journal was reused)")
    if arguments.out is not None:
        table.save(arguments.out)
        print(f"written to  {arguments.out}")
    return space, table


def show_progress(description: str, done: int, total: int) -> None:
    if not total:
        print(f"note: {description}", file=sys.stderr)
    elif sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r\x1b[K{description} {done}/{total}", end=end, file=sys.stderr, flush=True)
    elif done == total:
        print(f"{description} {done}/{total}", file=sys.stderr)


def print_table(table: pf.CostTable) -> None:
    """Print the conditions, the tuning, the spread of the blocks, and the check on networks."""
    facts: dict[str, Any] = dict(table.provenance)
    for name, value in facts["conditions"].items():
        print(f"{name:<11} {value}")
    tuning, seconds = facts["tuning"], facts["seconds"]
    print(
        f"tuning      {facts['tuning_trials']} trials for {tuning['kernels']} kernels, "
        f"{tuning['failed']} failed; {len(tuning['tiles'])} kernels faster than by rule, "
        f"{tuning['speedup']:.3f}x over all (geometric mean)"
    )
    print("devices     " + ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()))
    blocks = facts["blocks"]
    unsteady = [key for key, block in blocks.items() if not block["steady"]]
    print(f"blocks      {len(blocks)}, {len(unsteady)} unsteady (spread above 5 %)")
    for key in unsteady:
        print(f"            {key}: spread {blocks[key]['spread']:.1%}")
    print("\nwhole networks: measured ms, table ms, error")
    for network in facts["networks"]:
        error = network["table_ms"] / network["ms"] - 1
        print(f"  {network['ms']:9.4f} {network['table_ms']:9.4f} {error:+7.1%}")
    correction = facts["correction"]
    print(
        f"network = {correction['offset_ms']:.4f} ms + {correction['scale']:.4f} x sum of blocks\n"
        f"on networks left out of the fit: R2 {correction['r2']:.4f}, rank correlation "
        f"{correction['rank_correlation']:.4f}, mean error {correction['mean_error']:.2%}, worst "
        f"{correction['worst_error']:.2%}"
    )
    if correction["r2"] < 0.98 or correction["mean_error"] > 0.05:
        print("this is worse than R2 0.98 and 5 % mean error: measure again on a quieter machine")
