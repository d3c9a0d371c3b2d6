"""Sampling, variation, windows and cost lookup beside what users run today, in one process.

    python bench/kernels/compare_spaces.py [--quick] [--json FILE]

Every contestant works on the same batch, one after the other within each round, on one thread where
it says so; the table shows medians over rounds, in nanoseconds per architecture, and the ratio to
ours. Peers are written here as their users write them: numpy and torch vectorised over the batch;
"dictionaries" does what Once-for-All's `ArchManager`, `LatencyTable` and evolution finder do (one
Python dictionary per architecture, `random.choice` per decision), re-implemented, not imported.
Results that can be compared are: a contestant that disagrees ends the run.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pnag_fast as pf
from pnag_fast import _core
from pnag_fast.threads import resolve_threads

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

Call = Callable[[], Any]
KERNELS, EXPANDS, DEPTHS = (3, 5, 7), (3, 4, 6), (2, 3, 4)
STAGES, LAYERS = 5, 4
Dicts = list[dict[str, list[int]]]


def machine() -> str:
    """Name the processor, the build and the libraries."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        name = next(
            (x.partition(":")[2].strip() for x in lines if x.startswith("model name")), name
        )
    info = _core.build_info()
    with_torch = f", torch {torch.__version__}" if torch is not None else ", no torch"
    return (
        f"{name}, {resolve_threads(None)} usable cores, {platform.platform()}; "
        f"{info['compiler']}, {info['simd_used']}; numpy {np.__version__}{with_torch}"
    )


# --- peers: one dictionary per architecture ------------------------------------------------------


def dict_sample(rng: random.Random) -> dict[str, list[int]]:
    """As `ArchManager.random_sample`: every decision by `random.choice`."""
    n = STAGES * LAYERS
    return {
        "d": [rng.choice(DEPTHS) for _ in range(STAGES)],
        "ks": [rng.choice(KERNELS) for _ in range(n)],
        "e": [rng.choice(EXPANDS) for _ in range(n)],
    }


def dict_mutate(arch: dict[str, list[int]], rng: random.Random) -> dict[str, list[int]]:
    """As the evolution finder's `mutate_sample`: a copy, then every decision with rate 0.1."""
    child = {key: list(values) for key, values in arch.items()}
    for i in range(STAGES * LAYERS):
        if rng.random() < 0.1:
            child["ks"][i] = rng.choice(KERNELS)
            child["e"][i] = rng.choice(EXPANDS)
    for i in range(STAGES):
        if rng.random() < 0.1:
            child["d"][i] = rng.choice(DEPTHS)
    return child


def dict_crossover(
    a: dict[str, list[int]], b: dict[str, list[int]], rng: random.Random
) -> dict[str, list[int]]:
    """As `crossover_sample`: every entry from either parent."""
    return {
        key: [rng.choice(pair) for pair in zip(a[key], b[key], strict=True)]
        for key in ("d", "ks", "e")
    }


def dict_cost(arch: dict[str, list[int]], table: dict[str, float]) -> float:
    """As `LatencyTable.predict_efficiency`: a formatted key per block that is present."""
    total = table["constant"]
    for stage in range(STAGES):
        for layer in range(arch["d"][stage]):
            i = LAYERS * stage + layer
            total += table[f"slot:{i}-kernel:{arch['ks'][i]}-expand:{arch['e'][i]}"]
    return total


def dict_costs(archs: Dicts, table: dict[str, float]) -> list[float]:
    """Cost of every dictionary."""
    return [dict_cost(arch, table) for arch in archs]


def dict_rejection(
    n: int, low: float, high: float, table: dict[str, float], rng: random.Random
) -> Dicts:
    """As the evolution finder: draw until the budget is met."""
    accepted: Dicts = []
    while len(accepted) < n:
        arch = dict_sample(rng)
        if low <= dict_cost(arch, table) <= high:
            accepted.append(arch)
    return accepted


# --- peers: vectorised ---------------------------------------------------------------------------


def numpy_uniform(n: int, stage: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A row of every stage from the table of all its rows."""
    return stage[rng.integers(0, len(stage), (n, STAGES))].reshape(n, -1)


def torch_uniform(n: int, stage: Any) -> Any:
    """The same with torch."""
    return stage[torch.randint(len(stage), (n, STAGES))].reshape(n, -1)


def numpy_mutate(
    archs: NDArray[np.uint8], rng: np.random.Generator, rate: float
) -> NDArray[np.uint8]:
    """Every decision drawn for the whole batch, then chosen by masks."""
    n = len(archs)
    codes = archs.reshape(n, STAGES, LAYERS)
    fresh = rng.integers(1, 10, codes.shape, dtype=np.uint8)
    redraw = rng.random(codes.shape, dtype=np.float32) < rate
    child = np.where((redraw & (codes > 0)) | (codes == 0), fresh, codes)
    depth = (codes > 0).sum(axis=2)
    new_depth = rng.integers(2, 5, depth.shape)
    depth = np.where(rng.random(depth.shape, dtype=np.float32) < rate, new_depth, depth)
    child[np.arange(LAYERS) >= depth[:, :, None]] = 0
    return child.reshape(n, -1)


def numpy_crossover(
    a: NDArray[np.uint8], b: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """One random bit per decision, then masks."""
    n = len(a)
    a, b = a.reshape(n, STAGES, LAYERS), b.reshape(n, STAGES, LAYERS)
    from_a = rng.integers(0, 2, a.shape, dtype=np.uint8).astype(bool)
    depth_from_a = rng.integers(0, 2, (n, STAGES, 1), dtype=np.uint8).astype(bool)
    first, second = np.where(from_a, a, b), np.where(from_a, b, a)
    child = np.where(first > 0, first, second)
    child[np.where(depth_from_a, a, b) == 0] = 0
    return child.reshape(n, -1)


def numpy_lookup(
    archs: NDArray[np.uint8], entries: NDArray[np.float64], constants: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Take slot by slot: four times as fast as indexing all slots at once."""
    costs = np.empty((len(archs), len(entries)))
    for t, (table, constant) in enumerate(zip(entries, constants, strict=True)):
        total = np.full(len(archs), constant)
        for slot in range(archs.shape[1]):
            total += table[slot].take(archs[:, slot])
        costs[:, t] = total
    return costs


def torch_lookup(archs: Any, entries: Any, constants: Any) -> Any:
    """Gather from flattened tables: (m, slots * codes) at (n, slots)."""
    return constants + entries[archs].sum(dim=1)


# --- measuring -----------------------------------------------------------------------------------


class Comparison:
    """Contestants of one kernel; the first is ours."""

    def __init__(self, kernel: str, n: int) -> None:
        self.kernel, self.n = kernel, n
        self.calls: list[tuple[str, Call, int]] = []

    def add(self, name: str, call: Call, n: int | None = None) -> None:
        """Add a contestant that handles `n` architectures a call."""
        self.calls.append((name, call, n or self.n))

    def run(self, rounds: int) -> list[dict[str, Any]]:
        """Interleave the contestants and return medians."""
        times: dict[str, list[float]] = {name: [] for name, _, _ in self.calls}
        repeats = {}
        for name, call, n in self.calls:
            start = time.perf_counter()
            call()
            took = time.perf_counter() - start
            repeats[name] = max(1, min(200, int(0.02 / max(took, 1e-9))))
            del n
        for _ in range(rounds):
            for name, call, n in self.calls:
                start = time.perf_counter()
                for _ in range(repeats[name]):
                    call()
                times[name].append((time.perf_counter() - start) / repeats[name] / n * 1e9)
        ours = statistics.median(times[self.calls[0][0]])
        rows = []
        for name, _, n in self.calls:
            median = statistics.median(times[name])
            rows.append(
                {
                    "kernel": self.kernel,
                    "n": n,
                    "contestant": name,
                    "ns_per_arch": median,
                    "least": min(times[name]),
                    "ratio": median / ours,
                }
            )
            print(
                f"{self.kernel:<34} {n:>10,} {name:<26} {median:>12,.1f} {min(times[name]):>12,.1f}"
                f" {median / ours:>9,.1f}",
                flush=True,
            )
        return rows


def require(ok: bool, what: str) -> None:
    """End the run where contestants disagree."""
    if not ok:
        sys.exit(f"results differ: {what}")


def made_up_table(space: pf.spaces.SearchSpace, seed: int) -> pf.CostTable:
    """A latency-like table: multiply-adds with noise, 15 to 60 ms."""
    macs = pf.costs.macs(space)
    rng = np.random.default_rng(seed)
    entries = np.nan_to_num(macs.entries) * 1e-7 * rng.uniform(0.7, 1.4, macs.entries.shape)
    return pf.CostTable.build(
        space, metric="latency", unit="ms", device="made up", constants=[5.0], entries=entries
    )


def sampling(space: pf.spaces.SearchSpace, sizes: list[int]) -> list[Comparison]:
    """Uniform sampling, by architecture and by decision."""
    found = []
    stage = _core.Space([([9] * 4, 2, None)]).enumerate(0, 7371, 1)
    rng, python = np.random.default_rng(0), random.Random(0)
    for n in sizes:
        each = Comparison("sample, uniform", n)
        each.add("pnag_fast", partial(space.sample, n, threads=1))
        each.add("numpy", partial(numpy_uniform, n, stage, rng))
        if torch is not None:
            each.add("torch", partial(torch_uniform, n, torch.from_numpy(stage)))
        found.append(each)
        each = Comparison("sample, decisions", n)
        each.add(
            "pnag_fast",
            partial(space.sample, n, distribution="decisions", threads=1),
        )
        each.add("dictionaries", lambda: [dict_sample(python) for _ in range(1000)], 1000)
        found.append(each)
    return found


def variation(space: pf.spaces.SearchSpace, sizes: list[int]) -> list[Comparison]:
    """Mutation at rate 0.1 and crossover."""
    found = []
    rng, python = np.random.default_rng(0), random.Random(0)
    dicts: Dicts = [dict_sample(python) for _ in range(1000)]
    for n in sizes:
        a, b = space.sample(n, seed=1), space.sample(n, seed=2)
        for child in (numpy_mutate(a, rng, 0.1), numpy_crossover(a, b, rng)):
            space.validate(child)
        changed = [
            float((child != a).mean()) for child in (space.mutate(a), numpy_mutate(a, rng, 0.1))
        ]
        require(abs(changed[0] - changed[1]) < 0.2 / np.sqrt(n), "mutation changes as many codes")
        each = Comparison("mutate, rate 0.1", n)
        each.add("pnag_fast", partial(space.mutate, a, threads=1))
        each.add("numpy", partial(numpy_mutate, a, rng, 0.1))
        each.add("dictionaries", lambda: [dict_mutate(x, python) for x in dicts], 1000)
        found.append(each)
        each = Comparison("crossover", n)
        each.add("pnag_fast", partial(space.crossover, a, b, threads=1))
        each.add("numpy", partial(numpy_crossover, a, b, rng))
        each.add(
            "dictionaries",
            lambda: [dict_crossover(x, y, python) for x, y in zip(dicts, dicts[::-1], strict=True)],
            1000,
        )
        found.append(each)
    return found


def lookups(space: pf.spaces.SearchSpace, sizes: list[int]) -> list[Comparison]:
    """Cost of architectures by 1, 4 and 16 tables."""
    found = []
    for n_tables in (1, 4, 16):
        tables = [made_up_table(space, seed) for seed in range(n_tables)]
        stack = pf.costs.stack(tables)
        entries = np.stack([np.nan_to_num(t.entries[0]) for t in tables])
        constants = np.array([t.constants[0] for t in tables])
        keys = {"constant": float(constants[0])}
        for slot in range(20):
            for k, kernel in enumerate(KERNELS):
                for e, expand in enumerate(EXPANDS):
                    key = f"slot:{slot}-kernel:{kernel}-expand:{expand}"
                    keys[key] = float(entries[0, slot, 1 + 3 * k + e])
        for n in sizes:
            archs = space.sample(n, seed=3)
            expected = stack(archs)
            require(np.allclose(numpy_lookup(archs, entries, constants), expected), "numpy lookup")
            each = Comparison(f"lookup, {n_tables} table{'s' * (n_tables > 1)}", n)
            out = np.empty((n, n_tables))
            each.add("pnag_fast, out=", partial(stack, archs, threads=1, out=out))
            each.add("pnag_fast", partial(stack, archs, threads=1))
            each.add("pnag_fast, 2 threads, out=", partial(stack, archs, threads=2, out=out))
            each.add("numpy", partial(numpy_lookup, archs, entries, constants))
            if torch is not None:
                flat = torch.from_numpy(entries.transpose(1, 2, 0).reshape(200, n_tables).copy())
                index = torch.from_numpy(archs.astype(np.int64) + 10 * np.arange(20))
                shift = torch.from_numpy(constants)
                require(
                    np.allclose(torch_lookup(index, flat, shift).numpy(), expected), "torch lookup"
                )
                each.add("torch, codes as int64", partial(torch_lookup, index, flat, shift))
            if n_tables == 1:
                dicts: Dicts = [
                    {k: [int(x) if x else 3 for x in v] for k, v in row.items()}
                    for row in space.to_dicts(archs[:1000])
                ]
                got = [dict_cost(row, keys) for row in dicts]
                require(np.allclose(got, expected[:1000, 0]), "dictionary lookup")
                each.add("dictionaries", partial(dict_costs, dicts, keys), 1000)
            found.append(each)
    return found


def rejection(
    space: pf.spaces.SearchSpace, table: pf.CostTable, n: int, low: float, high: float
) -> NDArray[np.uint8]:
    """Draw, look up, keep: the best that can be done without counting."""
    archs = space.sample(n, threads=1)
    costs = table(archs, threads=1)
    return archs[(costs >= low) & (costs <= high)]


def windows(space: pf.spaces.SearchSpace, n: int) -> list[Comparison]:
    """Uniform samples within a window of cost, beside rejection."""
    table = made_up_table(space, 0)
    costs = np.sort(table(space.sample(200_000, seed=4)))
    spread = table.bounds[1] - table.bounds[0]
    keys = {"constant": float(table.constants[0])}
    for slot in range(20):
        for code in range(1, 10):
            kernel, expand = space.slots[slot].choices[code - 1]
            keys[f"slot:{slot}-kernel:{kernel}-expand:{expand}"] = float(
                table.entries[0, slot, code]
            )
    found = []
    # Once-for-All draws decisions, not architectures: its 3 % are elsewhere.
    by_decision = np.sort(table(space.sample(200_000, seed=4, distribution="decisions")))
    for name, low, high in (
        ("3 % of decisions", float(by_decision[100_000]), float(by_decision[106_000])),
        ("3 % of the space", float(costs[100_000]), float(costs[106_000])),
        ("cheapest 0.01 %", table.bounds[0], float(costs[20])),
        ("0.01 % of the range", float(costs[100_000]), float(costs[100_000] + 1e-4 * spread)),
    ):
        start = time.perf_counter()
        drawn = space.sample(n, within=(table, low, high))
        first = time.perf_counter() - start
        inside = table(drawn)
        require(bool(inside.min() >= low and inside.max() <= high), "rows inside the window")
        count = space.count(within=(table, low, high))
        share = count.estimate / space.n_architectures
        print(f"  window of {name}: {share:.2e} of the space, first call {first * 1e3:.0f} ms")
        each = Comparison(f"within, {name}", n)
        each.add(
            "pnag_fast",
            partial(space.sample, n, within=(table, low, high), threads=1),
        )
        if share > 0.01:
            plain = space.sample(500_000, seed=5)
            kept = plain[(table(plain) >= low) & (table(plain) <= high)]
            spread_of_share = 5 * np.sqrt(share / len(plain))
            require(abs(len(kept) / len(plain) - share) < spread_of_share, "share of the window")
            require(
                abs(table(kept).mean() - inside.mean()) < 0.1 * (high - low)
                and abs((kept == 0).mean() - (drawn == 0).mean()) < 0.01,
                "samples of the window",
            )
            each.add(
                "rejection, our kernels",
                partial(rejection, space, table, n, low, high),
                max(1, round(n * share)),
            )
        if name == "3 % of decisions":
            each.add(
                "rejection, dictionaries",
                partial(dict_rejection, 20, low, high, keys, random.Random(0)),
                20,
            )
        found.append(each)
    return found


def main() -> None:
    """Run all comparisons and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one size and few rounds, in seconds")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    sizes = [100_000] if options.quick else [1_000, 100_000, 1_000_000]
    rounds = 3 if options.quick else 9
    if torch is not None:
        torch.set_num_threads(1)
    print(machine())
    space = pf.spaces.get("ofa-mbv3")
    print(
        f"{'kernel':<34} {'n':>10} {'contestant':<26} {'ns, median':>12} {'least':>12} {'ratio':>9}"
    )
    rows: list[dict[str, Any]] = []
    for each in (
        sampling(space, sizes)
        + variation(space, sizes)
        + lookups(space, sizes)
        + windows(space, sizes[-1] // 10)
    ):
        rows += each.run(rounds)
    if options.json is not None:
        document = {"machine": machine(), "rows": rows}
        options.json.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
