"""Sampling, mutation, crossover and validation on the space of Once-for-All's MobileNetV3."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

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
