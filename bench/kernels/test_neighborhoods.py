"""Neighbourhoods, their statistics and columns of codes, beside numpy; one core."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pnag_fast as pf
from pnag_fast.spaces import Archs, SearchSpace

# The machine may be busy with other things.
pytestmark = pytest.mark.benchmark(timer=time.process_time)

CENTERS = 2_000


def per_second(benchmark: Any, n: int) -> None:
    """Add the unit of these comparisons: architectures in a second of CPU time, in millions."""
    if benchmark.stats is not None:
        benchmark.extra_info["million_per_cpu_s"] = n / benchmark.stats["min"] / 1e6


def measured(benchmark: Any, call: Callable[[], Any], n: int) -> Any:
    """Time a call by the time of the process, and return its answer."""
    answer = call()
    benchmark(call)
    per_second(benchmark, n)
    return answer


@pytest.fixture
def cell() -> SearchSpace:
    return pf.spaces.get("nasbench201")


def numpy_neighbors(archs: Archs) -> Archs:
    """Peer at radius 1 where no slot is absent: the row itself, then slot by slot other codes."""
    n_slots = archs.shape[1]
    rows = np.repeat(archs[:, None], 1 + 4 * n_slots, axis=1)
    for slot in range(n_slots):
        others = np.arange(1, 5, dtype=np.uint8) + (
            np.arange(1, 5, dtype=np.uint8) >= archs[:, slot, None]
        )
        rows[:, 1 + 4 * slot : 5 + 4 * slot, slot] = others
    return rows.reshape(-1, n_slots)


@pytest.mark.parametrize("how", ["core", "numpy"])
def test_all_neighbors_of_cells(benchmark: Any, cell: SearchSpace, how: str) -> None:
    archs = cell.sample(CENTERS, seed=0)
    benchmark.group = "25 around each of 2,000 cells"

    def core() -> Archs:
        return cell.neighborhoods(archs, threads=1).archs

    found = measured(benchmark, core if how == "core" else lambda: numpy_neighbors(archs), 50_000)
    np.testing.assert_array_equal(found, numpy_neighbors(archs))


@pytest.mark.parametrize(("radius", "samples"), [(1, None), (1, 8), (2, 100), (3, 100)], ids=str)
def test_neighbors_of_networks(benchmark: Any, radius: int, samples: int | None) -> None:
    space = pf.spaces.get("ofa-mbv3")
    archs = space.sample(CENTERS, seed=0)
    n = int(space.neighborhoods(archs, radius, samples=samples).offsets[-1])
    benchmark.group = "around 2,000 networks of ofa-mbv3"
    found = measured(
        benchmark, lambda: space.neighborhoods(archs, radius, samples=samples, threads=1), n
    )
    own = np.repeat(archs, np.diff(found.offsets), axis=0)
    # In stages with depths edits are slots that differ.
    assert (found.archs != own).sum(axis=1).max() == radius
    space.validate(found.archs)


@pytest.mark.parametrize("statistic", ["mean", "median", "worst"])
@pytest.mark.parametrize("how", ["core", "numpy"])
def test_statistics(benchmark: Any, cell: SearchSpace, statistic: str, how: str) -> None:
    around = cell.neighborhoods(cell.sample(CENTERS, seed=0))
    values = np.random.default_rng(0).random(len(around.archs))
    benchmark.group = f"{statistic} of 2,000 neighbourhoods"
    by_numpy = {"mean": np.mean, "median": np.median, "worst": np.min}[statistic]

    def numpy() -> NDArray[np.float64]:
        # Of equal length, as here; of others numpy has no median.
        return np.asarray(by_numpy(values.reshape(CENTERS, -1), axis=1))  # type: ignore[operator]

    def core() -> NDArray[np.float64]:
        return around.aggregate(values, statistic, threads=1)  # type: ignore[arg-type]

    found = measured(benchmark, core if how == "core" else numpy, len(values))
    np.testing.assert_allclose(found, numpy(), rtol=1e-13)


def numpy_one_hot(space: SearchSpace, archs: Archs) -> NDArray[np.float32]:
    """Peer: compare every column's slot with its code."""
    choices = np.array(space.n_codes) - 1
    slots = np.repeat(np.arange(space.n_slots), choices)
    first = np.concatenate([[0], np.cumsum(choices)])
    codes = np.arange(1, len(slots) + 1) - first[slots]
    return np.asarray(np.equal(archs[:, slots], codes.astype(np.uint8)), dtype=np.float32)


@pytest.mark.parametrize("n", [8_192, 200_000])
@pytest.mark.parametrize("how", ["core", "numpy"])
def test_one_hot(benchmark: Any, n: int, how: str) -> None:
    space = pf.spaces.get("ofa-mbv3")
    archs = space.sample(n, seed=0)
    benchmark.group = f"codes of {n} networks as columns"

    def core() -> NDArray[np.float32]:
        return space.core.one_hot(archs, 1)

    found = measured(benchmark, core if how == "core" else lambda: numpy_one_hot(space, archs), n)
    np.testing.assert_array_equal(found, numpy_one_hot(space, archs))
