"""Sampling, windows, mutation, crossover and validation on Once-for-All's MobileNetV3 space."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pnag_fast as pf
from pnag_fast import _core

SIZES = [1_000, 100_000, 1_000_000]


def per_arch(benchmark: Any, n: int) -> None:
    """Add the unit in which kernels on batches are compared."""
    if benchmark.stats is not None:
        benchmark.extra_info["ns_per_arch"] = benchmark.stats["min"] / n * 1e9


@pytest.fixture
def space() -> _core.Space:
    return _core.Space([([9] * 4, 2, None)] * 5)


def numpy_uniform(n: int, rng: np.random.Generator, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The peer: draw a row of every stage from the table of all rows."""
    return rows[rng.integers(0, len(rows), (n, 5))].reshape(n, 20)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("decisions", [False, True], ids=["uniform", "decisions"])
def test_sample(benchmark: Any, space: _core.Space, n: int, decisions: bool) -> None:
    benchmark.group = f"sample {n}"
    benchmark(space.sample, n, 0, decisions, 1)
    per_arch(benchmark, n)


@pytest.mark.parametrize("n", SIZES)
def test_sample_with_numpy(benchmark: Any, rng: np.random.Generator, n: int) -> None:
    stage = _core.Space([([9] * 4, 2, None)])
    rows = stage.enumerate(0, 7371, 1)
    benchmark.group = f"sample {n}"
    benchmark(numpy_uniform, n, rng, rows)
    per_arch(benchmark, n)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("operation", ["mutate", "crossover", "find_invalid", "rank"])
def test_operation(
    benchmark: Any, space: _core.Space, operation: str, n: int, threads: int
) -> None:
    archs = space.sample(n, 0, False, 2)
    mates = space.sample(n, 1, False, 2)
    arguments: dict[str, tuple[Any, ...]] = {
        "mutate": (archs, 0.1, 0, threads),
        "crossover": (archs, mates, 0, threads),
        "find_invalid": (archs, threads),
        "rank": (archs, threads),
    }
    benchmark.group = f"{operation} {n}"
    benchmark(getattr(space, operation), *arguments[operation])
    per_arch(benchmark, n)


@pytest.mark.parametrize("n", [1_000, 100_000])
@pytest.mark.parametrize("share", [0.03, 0.0001], ids=["3 % of the space", "0.01 %"])
@pytest.mark.parametrize("how", ["within=", "rejection with the kernels"])
def test_window(benchmark: Any, n: int, share: float, how: str) -> None:
    ofa = pf.spaces.get("ofa-mbv3")
    table = pf.costs.macs(ofa)
    costs = np.sort(table(ofa.sample(200_000, seed=0)))
    low, high = float(costs[100_000]), float(costs[100_000 + round(share * len(costs))])
    benchmark.group = f"{n} within a window of {share:.2%} of the space"

    def rejection() -> NDArray[np.uint8]:
        kept: list[NDArray[np.uint8]] = []
        seed = 0
        while sum(map(len, kept)) < n:
            drawn = ofa.sample(min(4 * n, 100_000), seed=seed, threads=1)
            inside = table(drawn, threads=1)
            kept.append(drawn[(inside >= low) & (inside <= high)])
            seed += 1
        return np.concatenate(kept)[:n]

    if how == "rejection with the kernels":
        if n / share > 10_000_000:
            pytest.skip("seconds per call")
        drawn = benchmark(rejection)
    else:
        drawn = benchmark(ofa.sample, n, within=(table, low, high), threads=1)
    inside = table(drawn)
    assert len(drawn) == n
    assert low <= inside.min() <= inside.max() <= high
    per_arch(benchmark, n)
