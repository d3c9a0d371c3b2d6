"""Print how the kernels compare with other libraries: one process, same input, equal results.

    python bench/kernels/compare_pareto.py [--quick | --tiny] [--only TEXT] [--json FILE]

Every row first runs everybody once, which warms caches and gives the results to compare, then runs
ours and the peers in turn, round after round, so that a machine that slows down slows all of them;
what is shown is the median. Peers that are not installed are marked absent. A peer that does not
answer within a minute (--quick: five seconds) is stopped, and marked with the limit instead of a
time. numpy marks a limit, sorting one column, and is no peer. "best/ours" is the time of the best
peer over ours with one thread.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pnag_fast import _core, pareto

Points = NDArray[np.float64]
Run = Callable[[], Any]

PEERS = ("moocore", "pymoo", "pygmo", "numpy")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    `ours` takes the number of threads. A peer is a function to time, or None where the library is
    absent. `same(ours, peer)` compares results; a peer that only marks a limit has no comparison.
    """

    kernel: str
    case: str
    ours: Callable[[int], Any]
    peers: dict[str, Run | None] = field(default_factory=dict)
    same: Callable[[Any, Any], bool] | None = None


def load(name: str) -> Any:
    """Return the module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def sphere(rng: np.random.Generator, n: int, m: int) -> Points:
    """Points of which none dominates another."""
    points = np.abs(rng.normal(size=(n, m)))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


FAMILIES: dict[str, Callable[[np.random.Generator, int, int], Points]] = {
    "uniform": lambda rng, n, m: rng.random((n, m)),
    "sphere": sphere,
    "integers": lambda rng, n, m: rng.integers(0, 30, (n, m)) / 30.0,
}


def call(module: Any, name: str, *arguments: Any, **options: Any) -> Run | None:
    """Bind a function of a library, or return None where the library is absent."""
    return None if module is None else partial(getattr(module, name), *arguments, **options)


def with_threads(function: Callable[..., Any], *arguments: Any) -> Callable[[int], Any]:
    """Bind all arguments but the number of threads."""
    return lambda threads: function(*arguments, threads=threads)


def equal(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b))


def close(a: Any, b: Any) -> bool:
    return bool(np.allclose(a, b, rtol=1e-9, atol=1e-12))


def pymoo_ranks(sorting: Any, points: Points) -> Any:
    return sorting.NonDominatedSorting().do(points, return_rank=True)[1]


def pymoo_crowding(metrics: Any, points: Points) -> Any:
    """Crowding as NSGA-II defines it; pymoo divides it by the number of objectives."""
    return metrics.calc_crowding_distance(points) * points.shape[1]


def pygmo_ranks(pygmo: Any, points: Points) -> Any:
    return pygmo.fast_non_dominated_sorting(points)[3]


def pygmo_volume(pygmo: Any, points: Points, reference: Points) -> Any:
    return pygmo.hypervolume(points).compute(reference)


def pygmo_contributions(pygmo: Any, points: Points, reference: Points) -> Any:
    return pygmo.hypervolume(points).contributions(reference)


def in_turn(runs: list[Run | None]) -> list[Any]:
    return [run() for run in runs if run is not None]


def volumes_in_turn(sets: list[Points], reference: Points, threads: int) -> list[float]:
    return [pareto.hypervolume(points, reference, threads=threads) for points in sets]


def distances_in_turn(sets: list[Points], threads: int) -> list[Points]:
    return [pareto.crowding_distance(points, threads=threads) for points in sets]


def pareto_rows(quick: bool, largest: int) -> Iterator[Row]:
    """Rows of the Pareto kernels, of at most `largest` numbers each."""
    moocore, pygmo = load("moocore"), load("pygmo")
    sorting = load("pymoo.util.nds.non_dominated_sorting")
    metrics = load("pymoo.operators.survival.rank_and_crowding.metrics")
    rng = np.random.default_rng(0)

    def of_pygmo(function: Callable[..., Any], *arguments: Any) -> Run | None:
        return None if pygmo is None else partial(function, pygmo, *arguments)

    sorts = [("uniform", 1_000, 2), ("uniform", 1_000_000, 2), ("uniform", 100_000, 3)]
    sorts += [("uniform", 10_000, 4), ("uniform", 10_000, 6), ("sphere", 10_000, 6)]
    sorts += [("integers", 100_000, 3), ("integers", 10_000, 6)]
    if not quick:
        sorts += [("uniform", 1_000_000, 3), ("uniform", 100_000, 4), ("integers", 1_000_000, 2)]
    for family, n, m in sorts:
        if n * m > largest:
            continue
        points = FAMILIES[family](rng, n, m)
        peers = {"moocore": call(moocore, "pareto_rank", points)}
        peers["numpy"] = partial(np.argsort, points[:, 0])
        if n <= 10_000:  # quadratic in memory as well
            peers["pymoo"] = None if sorting is None else partial(pymoo_ranks, sorting, points)
            peers["pygmo"] = of_pygmo(pygmo_ranks, points)
        ours = with_threads(pareto.non_dominated_sort, points)
        yield Row("non_dominated_sort", f"{family} {n} x {m}", ours, peers, equal)

    masks = [(10_000, m) for m in (2, 3, 4, 5, 6)] + [(1_000_000, 2), (1_000_000, 3)]
    for n, m in masks + ([] if quick else [(1_000_000, 4), (1_000_000, 5), (1_000_000, 6)]):
        if n * m > largest:
            continue
        points = FAMILIES["uniform"](rng, n, m)
        peers = {"moocore": call(moocore, "is_nondominated", points, keep_weakly=True)}
        ours = with_threads(pareto.is_non_dominated, points)
        yield Row("is_non_dominated", f"uniform {n} x {m}", ours, peers, equal)

    crowds = [(1_000, 2), (100_000, 2), (100_000, 3)]
    for n, m in crowds + ([] if quick else [(1_000_000, 2)]):
        if n * m > largest:
            continue
        points = FAMILIES["uniform"](rng, n, m)
        peers = {
            "pymoo": None if metrics is None else partial(pymoo_crowding, metrics, points),
            "pygmo": call(pygmo, "crowding_distance", points),
        }
        ours = with_threads(pareto.crowding_distance, points)
        yield Row("crowding_distance", f"uniform {n} x {m}", ours, peers, close)

    volumes = [(n, m) for m in (2, 3, 4) for n in (100, 1_000, 10_000)]
    volumes += [(100, 5), (1_000, 5), (100, 6), (400, 6)]
    volumes += [] if quick else [(1_000, 6), (10_000, 5), (10_000, 6)]
    for n, m in volumes:
        if n * m > largest:
            continue
        for family, make in FAMILIES.items():
            if n * m >= 50_000 and family == "sphere":
                continue  # nobody answers within a minute
            points, reference = make(rng, n, m), np.full(m, 1.1)
            peers = {"moocore": call(moocore, "hypervolume", points, ref=reference)}
            peers["pygmo"] = of_pygmo(pygmo_volume, points, reference)
            ours = with_threads(pareto.hypervolume, points, reference)
            yield Row("hypervolume", f"{family} {n} x {m}", ours, peers, close)

    parts = [(1_000, 2), (1_000, 3), (10_000, 3), (200, 4), (100, 5), (200, 5), (100, 6)]
    for n, m in parts + ([] if quick else [(500, 5), (1_000, 5), (200, 6), (400, 6)]):
        if n * m > largest:
            continue
        points, reference = sphere(rng, n, m), np.full(m, 1.1)
        peers = {"moocore": call(moocore, "hv_contributions", points, ref=reference)}
        peers["pygmo"] = of_pygmo(pygmo_contributions, points, reference)
        ours = with_threads(pareto.hypervolume_contributions, points, reference)
        yield Row("hypervolume_contributions", f"sphere {n} x {m}", ours, peers, close)

    # A processor learns the branches of a small set that it sees again and again. A search has a
    # new one each time, so these rows take many in turn.
    others = np.random.default_rng(1)
    for n, m in [(100, 3), (100, 4), (50, 5), (100, 5), (200, 5)]:
        sets, reference = [sphere(others, n, m) for _ in range(50)], np.full(m, 1.1)
        runs = [call(moocore, "hypervolume", points, ref=reference) for points in sets]
        peers = {"moocore": None if moocore is None else partial(in_turn, runs)}
        runs = [of_pygmo(pygmo_volume, points, reference) for points in sets]
        peers["pygmo"] = None if pygmo is None else partial(in_turn, runs)
        ours = with_threads(volumes_in_turn, sets, reference)
        yield Row("hypervolume", f"50 spheres {n} x {m}", ours, peers, close)
    for n, m in [(1_000, 2), (1_000, 3)]:
        sets = [FAMILIES["uniform"](others, n, m) for _ in range(50)]
        runs = [None if metrics is None else partial(pymoo_crowding, metrics, p) for p in sets]
        peers = {"pymoo": None if metrics is None else partial(in_turn, runs)}
        runs = [call(pygmo, "crowding_distance", points) for points in sets]
        peers["pygmo"] = None if pygmo is None else partial(in_turn, runs)
        ours = with_threads(distances_in_turn, sets)
        yield Row("crowding_distance", f"50 uniform {n} x {m}", ours, peers, close)


def answers_within(run: Run, seconds: float) -> bool:
    """Try in a child process, which can be stopped; libraries do not answer signals."""
    if not hasattr(os, "fork"):
        return True
    child = os.fork()
    if child == 0:
        try:
            run()
        finally:
            os._exit(0)  # what goes wrong does so again in the parent
    end = time.monotonic() + seconds
    pause = 1e-4
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    return True


def faults(row: Row, results: dict[str, Any]) -> str:
    """Say whose results differ from ours."""
    mine = results["1"]
    wrong = [] if equal(mine, results["2"]) else ["THREADS CHANGE THE RESULT"]
    if row.same is not None:
        peers = sorted(results.keys() - {"1", "2", "numpy"})
        wrong += [f"DIFFERS FROM {name}" for name in peers if not row.same(mine, results[name])]
    return ", ".join(wrong)


def timed(run: Run) -> tuple[Any, float]:
    start = time.perf_counter()
    result = run()
    return result, time.perf_counter() - start


def median_times(runs: dict[str, Run], first: dict[str, float], seconds: float) -> dict[str, float]:
    """Run all in turn, each until its share of the time is spent; returns medians.

    A contestant whose first call took more than all of the time is not called again.

    Who follows another contestant finds caches full of other code and other data, who follows
    itself does not: fast calls are preceded by one of their own that is not timed. Slow ones,
    of more than 10 ms, fill the caches themselves.
    """
    times = {name: [first[name]] if first[name] > seconds else [] for name in runs}
    budget = {name: seconds / len(runs) for name in runs if first[name] <= seconds}
    while budget:
        for name, left in list(budget.items()):
            begin = time.perf_counter()
            if first[name] < 0.01:
                runs[name]()
            times[name].append(timed(runs[name])[1])
            budget[name] = left - (time.perf_counter() - begin)
            if budget[name] < 0.0:
                del budget[name]
    return {name: statistics.median(values) for name, values in times.items()}


def processor() -> str:
    """Name the processor, where the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def shown(seconds: float) -> str:
    """Format a time with its unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1.0:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e6:.2g} us"


def main() -> int:
    """Print the table; exit code 1 if results differ."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="smaller inputs, shorter rounds")
    size.add_argument("--tiny", action="store_true", help="only proves that every line runs")
    parser.add_argument("--only", default="", help="rows whose kernel and case contain this text")
    parser.add_argument("--markdown", action="store_true", help="print a table for documents")
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    arguments = parser.parse_args()

    info = _core.build_info()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"machine: {processor()}, {cores} usable cores, {platform.platform()}")
    print(f"build: {info['compiler']}, {info['build_type']}, instruction set {info['simd_used']}")
    quick = arguments.quick or arguments.tiny
    limit = 5.0 if quick else 60.0
    seconds = 0.01 if arguments.tiny else 0.5 if quick else 3.0

    def show(cells: list[str]) -> None:
        if arguments.markdown:
            print("|", " | ".join(cells), "|", flush=True)
        else:
            print(f"{cells[0]:26} {cells[1]:20}", *(f"{c:>9}" for c in cells[2:]), flush=True)

    show(["kernel", "case", "1 thread", "2 threads", *PEERS, "best/ours", ""])
    if arguments.markdown:
        show(["---"] * (len(PEERS) + 6))
    records: list[dict[str, Any]] = []
    wrong = 0
    for row in pareto_rows(quick, 2_000 if arguments.tiny else 10**9):
        if arguments.only not in f"{row.kernel} {row.case}":
            continue
        runs: dict[str, Run] = {"1": partial(row.ours, 1), "2": partial(row.ours, 2)}
        cells = dict.fromkeys(row.peers, "absent")
        for name, run in row.peers.items():
            if run is None:
                continue
            if answers_within(run, limit):
                runs[name] = run
            else:
                cells[name] = f"> {limit:.0f} s"
        answers = {name: timed(run) for name, run in runs.items()}
        verdict = faults(row, {name: result for name, (result, _) in answers.items()})
        wrong += 1 if verdict else 0
        first = {name: seconds for name, (_, seconds) in answers.items()}
        times = median_times(runs, first, seconds)
        cells |= {name: shown(seconds) for name, seconds in times.items()}
        peers = [times[name] for name in times.keys() - {"1", "2", "numpy"}]
        if not peers and f"> {limit:.0f} s" in cells.values():
            best = f"> {limit / times['1']:.0f}"
        else:
            best = f"{min(peers) / times['1']:.1f}" if peers else "-"
        names = ["1", "2", *PEERS]
        show([row.kernel, row.case, *(cells.get(name, "-") for name in names), best, verdict])
        records.append({"kernel": row.kernel, "case": row.case, "seconds": times, "note": verdict})
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"machine": processor(), "build": info, "rows": records}, indent=1),
            encoding="utf-8",
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
