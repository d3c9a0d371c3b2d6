"""Sampling, variation, windows, lookups and best within bounds beside what users run today.

    python bench/kernels/compare_spaces.py [--quick | --huge | --tiny] [--json FILE]

One process. Every contestant works on the same batch, one after the other within each round, on one
thread where it says so, after one call that is not timed; the table shows medians over rounds, in
nanoseconds per architecture (or question), and the ratio to ours. Peers are written here,
re-implemented and not imported:

- numpy and torch, vectorised over the batch. For lookups the fastest plain way that was found: one
  `take` or `index_select` per slot from a contiguous column of codes. They are given columns of the
  index type that they like best, made beforehand, which takes longer than our whole lookup.
- Deviations: "numpy" multiplies rows of features, made beforehand, by the root of the posterior,
  "torch" adds up vectors of codes by `embedding_bag`. Best within bounds: both compare all pairs,
  in blocks, with the points sorted by merit beforehand.
- "dictionaries" does what Once-for-All's `ArchManager` and `EvolutionFinder` do: one Python
  dictionary of lists per architecture, `random.choice` per decision. Children are copied list by
  list, where the original uses the slower `copy.deepcopy`, and are not looked up as they are there.
- "dictionaries, text keys" does what its `LatencyTable` does: for every block a key of nine parts
  joined to a text, found in a dictionary of dictionaries. "dictionaries, tuple keys" is the least
  that Python code on such architectures can do. Both take the layers that never change as one
  number, where the original looks up seven.

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
from pnag_fast.costs import features
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


TextTable = dict[str, dict[str, float]]
TupleTable = dict[tuple[int, int, int], float]


def text_key(stage: int, first: bool, kernel: int, expand: int) -> str:
    """As `LatencyEstimator.query`: the parts of a block's name, joined."""
    size, out = (112 >> stage if first else 56 >> stage), 56 >> stage
    return "-".join(
        [
            "expanded_conv",
            "input:" + "x".join(str(x) for x in [size, size, 16 * stage]),
            "output:" + "x".join(str(x) for x in [out, out, 16 * stage + 16]),
            f"expand:{round(16 * expand)}",
            f"kernel:{kernel}",
            f"stride:{2 if first else 1}",
            f"idskip:{0 if first else 1}",
            f"se:{stage % 2}",
            f"hs:{1 if stage > 1 else 0}",
        ]
    )


def text_cost(arch: dict[str, list[int]], table: TextTable, constant: float) -> float:
    """As `LatencyTable.predict_efficiency`: a text per block that is present."""
    total = constant
    for i in range(STAGES * LAYERS):
        stage, layer = divmod(i, LAYERS)
        if layer >= arch["d"][stage]:
            continue
        total += table[text_key(stage, layer == 0, arch["ks"][i], arch["e"][i])]["mean"]
    return total


def tuple_cost(arch: dict[str, list[int]], table: TupleTable, constant: float) -> float:
    """A tuple per block that is present."""
    total = constant
    kernels, expands = arch["ks"], arch["e"]
    for stage, depth in enumerate(arch["d"]):
        for i in range(LAYERS * stage, LAYERS * stage + depth):
            total += table[i, kernels[i], expands[i]]
    return total


def text_costs(archs: Dicts, table: TextTable, constant: float) -> list[float]:
    """Cost of every dictionary."""
    return [text_cost(arch, table, constant) for arch in archs]


def tuple_costs(archs: Dicts, table: TupleTable, constant: float) -> list[float]:
    """Cost of every dictionary."""
    return [tuple_cost(arch, table, constant) for arch in archs]


def dict_rejection(
    n: int, low: float, high: float, table: TupleTable, constant: float, rng: random.Random
) -> Dicts:
    """As the evolution finder, with the faster keys: draw until the budget is met."""
    accepted: Dicts = []
    while len(accepted) < n:
        arch = dict_sample(rng)
        if low <= tuple_cost(arch, table, constant) <= high:
            accepted.append(arch)
    return accepted


# --- peers: vectorised ---------------------------------------------------------------------------


def numpy_uniform(n: int, stage: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A row of every stage from the table of all its rows."""
    return stage[rng.integers(0, len(stage), (n, STAGES))].reshape(n, -1)


def numpy_uniform_into(
    out: NDArray[np.uint8], stage: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The same into memory that is used again; generators take no `out=` for whole numbers."""
    index = rng.integers(0, len(stage), (len(out), STAGES))
    stage.take(index, axis=0, out=out.reshape(-1, STAGES, LAYERS), mode="wrap")
    return out


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


class NumpyMutation:
    """The same with every large array used again that numpy can write into."""

    def __init__(self, n: int) -> None:
        shape = (n, STAGES, LAYERS)
        self.child = np.empty(shape, np.uint8)
        self.random = np.empty(shape, np.float32)
        self.redraw, self.absent = np.empty(shape, bool), np.empty(shape, bool)
        self.random_depth, self.redraw_depth = self.random[:, :, 0].copy(), self.redraw[:, :, 0]
        self.depth = np.empty(shape[:2], np.int64)

    def __call__(
        self, archs: NDArray[np.uint8], rng: np.random.Generator, rate: float
    ) -> NDArray[np.uint8]:
        codes = archs.reshape(self.child.shape)
        fresh = rng.integers(1, 10, codes.shape, dtype=np.uint8)
        rng.random(dtype=np.float32, out=self.random)
        np.less(self.random, rate, out=self.redraw)
        np.equal(codes, 0, out=self.absent)
        np.logical_or(self.redraw, self.absent, out=self.redraw)
        np.copyto(self.child, codes)
        np.copyto(self.child, fresh, where=self.redraw)
        np.sum(codes > 0, axis=2, out=self.depth)
        rng.random(dtype=np.float32, out=self.random_depth)
        np.less(self.random_depth, rate, out=self.redraw_depth)
        np.copyto(self.depth, rng.integers(2, 5, self.depth.shape), where=self.redraw_depth)
        np.greater_equal(np.arange(LAYERS), self.depth[:, :, None], out=self.absent)
        np.copyto(self.child, 0, where=self.absent)
        return self.child.reshape(len(archs), -1)


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


def numpy_crossover_into(
    out: NDArray[np.uint8],
    a: NDArray[np.uint8],
    b: NDArray[np.uint8],
    rng: np.random.Generator,
    mask: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """The same with children and a mask, each (n, STAGES, LAYERS), in memory that is used again."""
    a, b = a.reshape(out.shape), b.reshape(out.shape)
    from_a = rng.integers(0, 2, a.shape, dtype=np.uint8).view(bool)
    depth_from_a = rng.integers(0, 2, (len(a), STAGES, 1), dtype=np.uint8).view(bool)
    np.copyto(out, b)
    np.copyto(out, a, where=from_a)
    # Where the preferred parent is absent only the other can have a code.
    np.equal(out, 0, out=mask)
    np.bitwise_or(a, b, out=out, where=mask)
    np.copyto(mask, b == 0)
    np.equal(a, 0, out=mask, where=depth_from_a)
    np.copyto(out, 0, where=mask)
    return out.reshape(len(a), -1)


def numpy_lookup(
    columns: NDArray[np.intp], entries: NDArray[np.float64], constants: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Take slot by slot from contiguous columns of indices; "wrap" skips a copy that "raise" makes.

    Costs are (tables, n): writing (n, tables) takes longer.
    """
    costs = np.empty((len(entries), columns.shape[1]))
    costs[:] = constants[:, None]
    for t, table in enumerate(entries):
        for column, slot in zip(columns, table, strict=True):
            costs[t] += slot.take(column, mode="wrap")
    return costs


def torch_lookup(columns: Any, entries: Any, constants: NDArray[np.float64]) -> Any:
    """The same with `index_select`; `entries[t][slot]` is a vector."""
    costs = torch.empty((len(entries), columns.shape[1]), dtype=torch.float64)
    for t, constant in enumerate(constants):
        total = costs[t].fill_(constant)
        for slot, column in enumerate(columns):
            total += entries[t][slot].index_select(0, column)
    return costs


def torch_block_lookup(columns: Any, entries: Any, constants: Any) -> Any:
    """Rows of all tables at once, in blocks that stay in a cache; `entries[slot]` is (codes, m)."""
    n = columns.shape[1]
    costs = constants.repeat(n, 1)
    for begin in range(0, n, 4096):
        total = costs[begin : begin + 4096]
        for slot, column in enumerate(columns):
            total += entries[slot].index_select(0, column[begin : begin + 4096])
    return costs


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
        for name, call, _ in self.calls:
            call()  # first calls build tables and touch memory
            start = time.perf_counter()
            call()
            took = time.perf_counter() - start
            repeats[name] = max(1, min(200, int(0.02 / max(took, 1e-9))))
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
        out = np.empty((n, space.n_slots), np.uint8)
        each.add("pnag_fast, out=", partial(space.sample, n, threads=1, out=out))
        each.add("numpy, out=", partial(numpy_uniform_into, out, stage, rng))
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
        out, mask = np.empty_like(a), np.empty((n, STAGES, LAYERS), bool)
        mutation = NumpyMutation(n)
        cross_into = partial(numpy_crossover_into, out.reshape(mask.shape), a, b, rng, mask)
        mutants = [space.mutate(a), numpy_mutate(a, rng, 0.1), mutation(a, rng, 0.1).copy()]
        crossed = [space.crossover(a, b), numpy_crossover(a, b, rng), cross_into().copy()]
        for children in (mutants, crossed):
            changed = [float((child != a).mean()) for child in children]
            for child, share in zip(children, changed, strict=True):
                space.validate(child)
                require(abs(share - changed[0]) < 0.3 / np.sqrt(n), "children change as many codes")
        each = Comparison("mutate, rate 0.1", n)
        each.add("pnag_fast", partial(space.mutate, a, threads=1))
        each.add("numpy", partial(numpy_mutate, a, rng, 0.1))
        each.add("pnag_fast, out=", partial(space.mutate, a, threads=1, out=out))
        each.add("numpy, out=", partial(mutation, a, rng, 0.1))
        each.add("dictionaries", lambda: [dict_mutate(x, python) for x in dicts], 1000)
        found.append(each)
        each = Comparison("crossover", n)
        each.add("pnag_fast", partial(space.crossover, a, b, threads=1))
        each.add("numpy", partial(numpy_crossover, a, b, rng))
        each.add("pnag_fast, out=", partial(space.crossover, a, b, threads=1, out=out))
        each.add("numpy, out=", cross_into)
        each.add(
            "dictionaries",
            lambda: [dict_crossover(x, y, python) for x, y in zip(dicts, dicts[::-1], strict=True)],
            1000,
        )
        found.append(each)
    return found


def block_tables(table: pf.CostTable) -> tuple[TextTable, TupleTable, float]:
    """The blocks of a table under both kinds of keys; texts do not tell layers 1 to 3 apart."""
    texts: TextTable = {}
    tuples: TupleTable = {}
    for i in range(STAGES * LAYERS):
        for k, kernel in enumerate(KERNELS):
            for e, expand in enumerate(EXPANDS):
                stage, layer = divmod(i, LAYERS)
                cost = float(table.entries[0, i, 1 + 3 * k + e])
                tuples[i, kernel, expand] = cost
                texts[text_key(stage, layer == 0, kernel, expand)] = {"mean": cost}
    return texts, tuples, float(table.constants[0])


# Peers take seconds for more than this many costs.
MOST_PEER_COSTS = 16_000_000


def lookups(space: pf.spaces.SearchSpace, sizes: list[int]) -> list[Comparison]:
    """Cost of architectures by 1, 4 and 16 tables."""
    found = []
    for n_tables in (1, 4, 16):
        tables = [made_up_table(space, seed) for seed in range(n_tables)]
        stack = pf.costs.stack(tables)
        entries = np.stack([np.nan_to_num(t.entries[0]) for t in tables])
        constants = np.array([t.constants[0] for t in tables])
        for n in sizes:
            if n * n_tables > 200_000_000:  # 1.6 GB of costs
                continue
            archs = space.sample(n, seed=3)
            each = Comparison(f"lookup, {n_tables} table{'s' * (n_tables > 1)}", n)
            out = np.empty((n, n_tables))
            each.add("pnag_fast, out=", partial(stack, archs, threads=1, out=out))
            each.add("pnag_fast, 2 threads, out=", partial(stack, archs, threads=2, out=out))
            found.append(each)
            if n * n_tables > MOST_PEER_COSTS:
                continue
            each.add("pnag_fast", partial(stack, archs, threads=1))
            expected = stack(archs)
            columns = np.ascontiguousarray(archs.T, dtype=np.intp)
            got = numpy_lookup(columns, entries, constants)
            require(np.allclose(got.T, expected), "numpy lookup")
            each.add("numpy", partial(numpy_lookup, columns, entries, constants))
            if torch is not None:
                narrow = torch.from_numpy(columns.astype(np.int32))
                vectors = [[torch.from_numpy(slot.copy()) for slot in table] for table in entries]
                slots = [torch.from_numpy(entries[:, s].T.copy()) for s in range(archs.shape[1])]
                shift = torch.from_numpy(constants)
                got = torch_lookup(narrow, vectors, constants).numpy()
                require(np.allclose(got.T, expected), "torch lookup")
                each.add("torch", partial(torch_lookup, narrow, vectors, constants))
                got = torch_block_lookup(narrow, slots, shift).numpy()
                require(np.allclose(got, expected), "torch lookup in blocks")
                each.add("torch, blocks", partial(torch_block_lookup, narrow, slots, shift))
            if n_tables > 1:
                continue
            texts, tuples, constant = block_tables(tables[0])
            dicts: Dicts = [
                {k: [int(x) if x else 3 for x in v] for k, v in row.items()}
                for row in space.to_dicts(archs[:1000])
            ]
            require(
                np.allclose(tuple_costs(dicts, tuples, constant), expected[:1000, 0]),
                "dictionary lookup",
            )
            each.add(
                "dictionaries, tuple keys", partial(tuple_costs, dicts, tuples, constant), 1000
            )
            each.add("dictionaries, text keys", partial(text_costs, dicts, texts, constant), 1000)
    return found


def numpy_deviations(
    rows: NDArray[np.float64], root: NDArray[np.float64], beside: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Lengths of rows of features times the root, with what is beside it."""
    vectors = rows @ root
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", vectors, vectors) + beside**2))


def torch_deviations(bags: Any, vectors: Any, constant: Any, beside: Any) -> Any:
    """The same with vectors of codes, one bag of them for each architecture."""
    sums = torch.nn.functional.embedding_bag(bags, vectors, mode="sum") + constant
    return ((sums * sums).sum(dim=1) + beside * beside).sqrt()


def deviations(space: pf.spaces.SearchSpace, sizes: list[int]) -> list[Comparison]:
    """How far costs may be wrong, by posteriors of two ranks; the means are known."""
    found = []
    table = made_up_table(space, 0)
    for rank in (16, 48):
        root = np.random.default_rng(rank).normal(size=(features.n_features(space), rank))
        vectors = np.zeros((space.n_slots, 10, rank))
        vectors[:, 1:] = root[1:].reshape(space.n_slots, 9, rank)
        spread = _core.CostSpread(vectors[None], root[:1], 0.03, -1, [10] * space.n_slots)
        for n in sizes:
            archs = space.sample(n, seed=3)
            mean = table(archs)
            each = Comparison(f"deviation, rank {rank}", n)
            each.add("pnag_fast", partial(spread.lookup, archs, mean, 1))
            each.add("pnag_fast, 2 threads", partial(spread.lookup, archs, mean, 2))
            found.append(each)
            if n * rank > MOST_PEER_COSTS:
                continue
            expected = spread.lookup(archs, mean, 1)
            rows = features.features(space, archs)
            require(
                np.allclose(numpy_deviations(rows, root, 0.03 * mean), expected), "numpy deviations"
            )
            each.add("numpy", partial(numpy_deviations, rows, root, 0.03 * mean))
            if torch is not None:
                arguments = (
                    torch.from_numpy(archs + 10 * np.arange(space.n_slots)),
                    torch.from_numpy(vectors.reshape(-1, rank)),
                    torch.from_numpy(root[0]),
                    torch.from_numpy(0.03 * mean),
                )
                got = torch_deviations(*arguments).numpy()
                require(np.allclose(got, expected), "torch deviations")
                each.add("torch", partial(torch_deviations, *arguments))
    return found


# Comparisons that peers hold at once.
BLOCK_COMPARISONS = 2_000_000


def numpy_best(costs: NDArray[np.float64], bounds: NDArray[np.float64]) -> NDArray[np.intp]:
    """First row within each vector of bounds, or the number of rows; the best rows come first."""
    found = np.empty(len(bounds), np.intp)
    block = max(1, BLOCK_COMPARISONS // costs.size)
    for begin in range(0, len(bounds), block):
        fits = np.all(costs <= bounds[begin : begin + block, None], axis=2)
        found[begin : begin + block] = np.where(fits.any(axis=1), fits.argmax(axis=1), len(costs))
    return found


def torch_best(costs: Any, bounds: Any) -> Any:
    """The same, column by column."""
    found = torch.empty(len(bounds), dtype=torch.int64)
    block = max(1, BLOCK_COMPARISONS // costs.numel())
    for begin in range(0, len(bounds), block):
        part = bounds[begin : begin + block]
        fits = costs[:, 0] <= part[:, :1]
        for column in range(1, costs.shape[1]):
            fits &= costs[:, column] <= part[:, column : column + 1]
        most, first = fits.to(torch.uint8).max(dim=1)
        found[begin : begin + block] = torch.where(most > 0, first, len(costs))
    return found


def answers(space: pf.spaces.SearchSpace, n_points: int, n: int) -> list[Comparison]:
    """Best of known architectures within bounds on 2 and 4 costs, those of other ones."""
    found = []
    for n_tables in (2, 4):
        stack = pf.costs.stack([made_up_table(space, seed) for seed in range(n_tables)])
        rng = np.random.default_rng(n_tables)
        costs = stack(space.sample(n_points, seed=6))
        merit = costs.mean(axis=1) * rng.normal(1.0, 0.05, n_points)
        rows = np.argsort(-merit, kind="stable")
        costs, merit = costs[rows].copy(), merit[rows].copy()
        bounds = stack(space.sample(n, seed=7))
        each = Comparison(f"best of {n_points:,}, {n_tables} costs", n)
        index = _core.BestWithin(costs, merit)
        expected = index.find(bounds, 1)
        expected = np.where(expected < 0, len(costs), expected)
        each.add("pnag_fast", partial(pf.pareto.best_within, costs, merit, bounds, threads=1))
        each.add("pnag_fast, sorted before", partial(index.find, bounds, 1))
        part = bounds[:1000].copy()
        require(np.array_equal(numpy_best(costs, part), expected[:1000]), "best by numpy")
        each.add("numpy", partial(numpy_best, costs, part), len(part))
        if torch is not None:
            tensors = torch.from_numpy(costs), torch.from_numpy(part)
            require(np.array_equal(torch_best(*tensors), expected[:1000]), "best by torch")
            each.add("torch", partial(torch_best, *tensors), len(part))
        found.append(each)
    return found


def print_marginal_costs(rows: list[dict[str, Any]]) -> None:
    """What each further table adds to a lookup, as a share of the first."""
    ours: dict[tuple[str, int], dict[int, float]] = {}
    for row in rows:
        kind, _, tables = row["kernel"].partition(", ")
        if kind == "lookup" and row["contestant"].endswith("out="):
            n_tables = int(tables.split()[0])
            ours.setdefault((row["contestant"], row["n"]), {})[n_tables] = row["ns_per_arch"]
    for (contestant, n), times in ours.items():
        for m in sorted(times)[1:]:
            each = (times[m] - times[1]) / (m - 1)
            print(
                f"{contestant}, {n:,}: tables 2 to {m} add {each:.2f} ns each, "
                f"{each / times[1]:.2f} of the first ({times[1]:.2f} ns)"
            )


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
    _, tuples, constant = block_tables(table)
    middle = float(costs[100_000])
    found = []
    # Once-for-All draws decisions, not architectures: its 3 % are elsewhere.
    by_decision = np.sort(table(space.sample(200_000, seed=4, distribution="decisions")))
    for name, low, high in (
        ("3 % of decisions", float(by_decision[100_000]), float(by_decision[106_000])),
        ("3 % of the space", float(costs[100_000]), float(costs[106_000])),
        ("cheapest 0.01 %", table.bounds[0], float(costs[20])),
        *(
            (f"{name} of the range", middle, middle + share * spread)
            for name, share in (
                ("3 %", 3e-2),
                ("1 %", 1e-2),
                ("0.1 %", 1e-3),
                ("0.001 %", 1e-5),
                ("10^-6", 1e-6),
                ("10^-7", 1e-7),
            )
        ),
        ("10^-6, cheap", float(costs[2_000]), float(costs[2_000] + 1e-6 * spread)),
    ):
        start = time.perf_counter()
        drawn = space.sample(n, within=(table, low, high))
        first = time.perf_counter() - start
        inside = table(drawn)
        require(bool(inside.min() >= low and inside.max() <= high), "rows inside the window")
        count = space.count(within=(table, low, high))
        least, share, most = (
            x / space.n_architectures for x in (count.lower, count.estimate, count.upper)
        )
        print(
            f"  window of {name}: {least:.1e} to {most:.1e} of the space, "
            f"first call {first * 1e3:.0f} ms"
        )
        each = Comparison(f"within, {name}", n)
        each.add(
            "pnag_fast",
            partial(space.sample, n, within=(table, low, high), threads=1),
        )
        if least > 0.01:
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
                partial(dict_rejection, 20, low, high, tuples, constant, random.Random(0)),
                20,
            )
        found.append(each)
    return found


def main() -> None:
    """Run all comparisons and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="one size and few rounds, in seconds")
    size.add_argument("--huge", action="store_true", help="only lookups of 10^8 rows, in 3 GB")
    size.add_argument("--tiny", action="store_true", help="only proves that every line runs")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    sizes = [100_000] if options.quick else [1_000, 100_000, 1_000_000]
    lookup_sizes = sizes if options.quick else [10**e for e in range(3, 8)]
    rounds = 3 if options.quick or options.huge else 9
    if options.tiny:
        sizes, lookup_sizes, rounds = [1_000], [1_000], 1
    if torch is not None:
        torch.set_num_threads(1)
    print(machine())
    space = pf.spaces.get("ofa-mbv3")
    print(
        f"{'kernel':<34} {'n':>10} {'contestant':<26} {'ns, median':>12} {'least':>12} {'ratio':>9}"
    )
    rows: list[dict[str, Any]] = []
    comparisons = (
        lookups(space, [10**8])
        if options.huge
        else sampling(space, sizes)
        + variation(space, sizes)
        + windows(space, sizes[-1] // 10)
        + lookups(space, lookup_sizes)
        + deviations(space, sizes)
        + answers(space, 400 if options.tiny else 5_000, sizes[-1] // 10)
    )
    for each in comparisons:
        rows += each.run(rounds)
    print_marginal_costs(rows)
    if options.json is not None:
        document = {"machine": machine(), "rows": rows}
        options.json.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
