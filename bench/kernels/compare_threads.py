"""What two threads gain, beside what two processes gain that share nothing.

    python bench/kernels/compare_threads.py [--rounds 15] [--only TEXT]

In every round one process runs a kernel on one thread, then two processes run it at once on one
thread each, then one process runs it on two. Work per second of the second over the first is what
the machine gives two independent programs (its cores may share a cache, a memory bus, or with
other guests a physical core); no division of the work can be expected to gain more than that.
Medians over rounds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.synchronize import Barrier
from typing import Any

import numpy as np
from compare_spaces import machine

import pnag_fast as pf

Kernel = Callable[[int], Any]


def pareto(function: Callable[..., Any], n: int, m: int) -> Kernel:
    points = np.random.default_rng(n + m).random((n, m))
    return lambda threads: function(points, threads=threads)


def contributions(n: int, m: int) -> Kernel:
    points = np.abs(np.random.default_rng(n + m).normal(size=(n, m)))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return lambda threads: pf.pareto.hypervolume_contributions(
        points, np.full(m, 1.1), threads=threads
    )


def lookup(n: int) -> Kernel:
    space = pf.spaces.get("ofa-mbv3")
    table, archs = pf.costs.macs(space), space.sample(n, seed=0)
    out = np.empty(n)
    return lambda threads: table(archs, threads=threads, out=out)


def sample(n: int) -> Kernel:
    space = pf.spaces.get("ofa-mbv3")
    return lambda threads: space.sample(n, seed=0, threads=threads)


KERNELS: dict[str, Callable[[], Kernel]] = {
    "non-dominated sort, 10⁶ x 2": partial(pareto, pf.pareto.non_dominated_sort, 10**6, 2),
    "non-dominated sort, 10⁶ x 3": partial(pareto, pf.pareto.non_dominated_sort, 10**6, 3),
    "non-dominated sort, 10⁵ x 4": partial(pareto, pf.pareto.non_dominated_sort, 10**5, 4),
    "non-dominated sort, 10⁴ x 6": partial(pareto, pf.pareto.non_dominated_sort, 10**4, 6),
    "Pareto mask, 10⁶ x 3": partial(pareto, pf.pareto.is_non_dominated, 10**6, 3),
    "Pareto mask, 10⁶ x 6": partial(pareto, pf.pareto.is_non_dominated, 10**6, 6),
    "crowding distance, 10⁶ x 2": partial(pareto, pf.pareto.crowding_distance, 10**6, 2),
    "contributions, 200 x 5, sphere": partial(contributions, 200, 5),
    "lookup, one table, 10⁷": partial(lookup, 10**7),
    "sample, 10⁷": partial(sample, 10**7),
}


def work(name: str, core: int, rounds: int, barrier: Barrier, times: Any) -> None:
    """One of the two processes; every phase starts when both are ready for it."""
    everywhere = os.sched_getaffinity(0)
    kernel = KERNELS[name]()
    kernel(1)
    kernel(2)
    for _ in range(rounds):
        for phase in ("one", "both", "threads"):
            os.sched_setaffinity(0, everywhere if phase == "threads" else {core})
            barrier.wait()
            if core == min(everywhere) or phase == "both":
                start = time.perf_counter()
                kernel(2 if phase == "threads" else 1)
                times.put((phase, time.perf_counter() - start))
            barrier.wait()


def measure(name: str, rounds: int) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    barrier, times = context.Barrier(2), context.Queue()
    cores = sorted(os.sched_getaffinity(0))[:2]
    workers = [
        context.Process(target=work, args=(name, core, rounds, barrier, times), daemon=True)
        for core in cores
    ]
    for worker in workers:
        worker.start()
    found: dict[str, list[float]] = {"one": [], "both": [], "threads": []}
    for _ in range(4 * rounds):
        phase, seconds = times.get(timeout=300)
        found[phase].append(seconds)
    for worker in workers:
        worker.join()
    return {phase: statistics.median(seconds) for phase, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="kernels whose name contains this text")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds should be at least 1")
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("two cores are needed")
    print(machine())
    print("| kernel | one thread, ms | two processes gain | two threads gain |\n|---|---|---|---|")
    for name in (name for name in KERNELS if given.only in name):
        t = measure(name, given.rounds)
        print(
            f"| {name} | {1e3 * t['one']:.1f} | {2 * t['one'] / t['both']:.2f}x "
            f"| {t['one'] / t['threads']:.2f}x |",
            flush=True,
        )


if __name__ == "__main__":
    main()
