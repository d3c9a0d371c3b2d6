"""Whether the generator keeps its word, next to what it replaces. Prints tables in markdown.

    python bench/generator.py --checkpoint work            # everything: about an hour on one core
    python bench/generator.py --checkpoint work --only ofa
    python bench/generator.py --checkpoint work --quick    # about 5 minutes; coarser, fewer cases

It needs the folder of shared measurements (`--data`). Runs are kept one by one in the work folder,
so an interrupted benchmark goes on where it was. Everything runs on one core; seconds are CPU
seconds unless a column says otherwise. The peers' own code runs where it is installed: the
package `ofa` (without what it depends on) and `pymoo`, anywhere on PYTHONPATH.
"""

# ruff: noqa: E402 - the number of threads has to be set before numpy is imported

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

# Before numpy: BLAS counts the threads once.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import pnag_fast as pf
from proof import ablations, compofa, cost, devices, honest, nasbench201, ofa, retarget
from proof.records import Stopwatch, code_version
from proof.run import Options

PARTS: dict[str, tuple[str, Callable[[Options], str]]] = {
    "nasbench201": ("NAS-Bench-201, exact", nasbench201.run),
    "ofa": ("OFA MobileNetV3, 200 unseen budgets", ofa.run),
    "honest": ("Judged by measurements that no search has seen", honest.run),
    "ablations": ("The paper's ablations", ablations.run),
    "compofa": ("CompOFA's space", compofa.run),
    "cost": ("What 1 to 1,000 budgets cost", cost.run),
    "peers": ("The peers' own code", cost.compare),
    "retarget": ("Devices that the generator was not trained for", retarget.run),
    "devices": ("One generator for every device", devices.run),
}


def parse(arguments: list[str]) -> tuple[Options, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--checkpoint", "--work-dir", type=Path, required=True, help="folder where results are kept"
    )
    parser.add_argument("--out", type=Path, help="where plots go; default: that folder")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(__file__).parents[2] / "shared" / "data",
        help="folder of shared measurements",
    )
    parser.add_argument("--only", action="append", choices=list(PARTS), metavar="PART")
    parser.add_argument("--seeds", type=int, default=None, help="default 5, with --quick 2")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true")
    size.add_argument("--tiny", action="store_true", help="only proves that every line runs")
    given = parser.parse_args(arguments)
    seeds = given.seeds if given.seeds is not None else (2 if given.quick else 5)
    if seeds < 1:
        parser.error(f"--seeds should be at least 1, found {seeds}")
    if not given.data.is_dir():
        parser.error(f"there is no folder '{given.data}'; give the measurements with --data")
    options = Options(
        given.data,
        given.checkpoint,
        given.out or given.checkpoint,
        seeds,
        quick=given.quick,
        tiny=given.tiny,
    )
    return options, given.only or list(PARTS)


def main(arguments: list[str]) -> None:
    options, parts = parse(arguments)
    if hasattr(os, "sched_setaffinity"):
        # One core for everything: a time on two would depend on who else is there. Not always the
        # same one, so that two runs can share a machine.
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
    import torch

    torch.set_num_threads(1)
    print(
        f"pnag_fast {pf.__version__}, code {code_version()}, {options.size}, seeds "
        f"{options.seeds}; {platform.processor() or platform.machine()}, one core; Python "
        f"{platform.python_version()}, torch {torch.__version__}\n"
    )
    for part in parts:
        title, run = PARTS[part]
        with Stopwatch() as clock:
            text = run(options)
        print(f"\n## {title}\n\n{text}\n<!-- {clock.cpu_s:.0f} CPU s now -->", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
