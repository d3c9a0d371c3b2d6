"""Pareto kernels against moocore and pymoo on the same points; results are compared as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import moocore
import numpy as np
import pytest
from numpy.typing import NDArray

from pnag_fast import _core

try:
    from pymoo.operators.survival.rank_and_crowding import metrics
    from pymoo.util.nds import non_dominated_sorting as pymoo_sorting
except ImportError:
    metrics = pymoo_sorting = None

Points = NDArray[np.float64]


def uniform(rng: np.random.Generator, n: int, m: int) -> Points:
    return rng.random((n, m))


def sphere(rng: np.random.Generator, n: int, m: int) -> Points:
    """No point dominates another."""
    points = np.abs(rng.normal(size=(n, m)))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


def integers(rng: np.random.Generator, n: int, m: int) -> Points:
    """Many ties and duplicates."""
    return rng.integers(0, 30, (n, m)).astype(np.float64)


FAMILIES: dict[str, Callable[[np.random.Generator, int, int], Points]] = {
    "uniform": uniform,
    "sphere": sphere,
    "integers": integers,
}
each_library = pytest.mark.parametrize("library", ["pnag", "moocore"])


@pytest.mark.parametrize(
    ("family", "n", "m"),
    [
        ("uniform", 1_000, 2),
        ("uniform", 1_000_000, 2),
        ("uniform", 100_000, 3),
        ("uniform", 10_000, 4),
        ("uniform", 100_000, 4),
        ("uniform", 10_000, 6),
        ("sphere", 100_000, 2),
        ("sphere", 100_000, 3),
        ("sphere", 10_000, 6),
        ("integers", 100_000, 2),
        ("integers", 100_000, 3),
        ("integers", 10_000, 6),
    ],
)
@pytest.mark.parametrize("library", ["pnag", "moocore", "pymoo"])
def test_non_dominated_sort(
    benchmark: Any, rng: np.random.Generator, library: str, family: str, n: int, m: int
) -> None:
    points = FAMILIES[family](rng, n, m)
    benchmark.group = f"non-dominated sort, {family}, {n} x {m}"
    if library == "pnag":
        ranks = benchmark(_core.non_dominated_sort, points, 1)
        np.testing.assert_array_equal(ranks, moocore.pareto_rank(points))
    elif library == "pymoo":
        if pymoo_sorting is None:
            pytest.skip("pymoo is not installed")
        if n > 1_000:
            pytest.skip("quadratic in time and memory")
        sorter = pymoo_sorting.NonDominatedSorting()
        _, ranks = benchmark(sorter.do, points, return_rank=True)
        np.testing.assert_array_equal(ranks, moocore.pareto_rank(points))
    else:
        benchmark(moocore.pareto_rank, points)


@pytest.mark.parametrize("m", [2, 3, 4, 5, 6])
@pytest.mark.parametrize(
    ("family", "n"), [("uniform", 10_000), ("uniform", 1_000_000), ("sphere", 10_000)]
)
@each_library
def test_is_non_dominated(
    benchmark: Any, rng: np.random.Generator, library: str, family: str, n: int, m: int
) -> None:
    points = FAMILIES[family](rng, n, m)
    benchmark.group = f"mask, {family}, {n} x {m}"
    if library == "pnag":
        mask = benchmark(_core.is_non_dominated, points, 1)
        np.testing.assert_array_equal(mask, moocore.is_nondominated(points, keep_weakly=True))
    else:
        benchmark(moocore.is_nondominated, points, keep_weakly=True)


@pytest.mark.parametrize(("n", "m"), [(1_000, 2), (100_000, 2), (100_000, 3), (1_000_000, 2)])
@pytest.mark.parametrize("library", ["pnag", "pymoo", "numpy argsort of each column"])
def test_crowding_distance(
    benchmark: Any, rng: np.random.Generator, library: str, n: int, m: int
) -> None:
    points = rng.random((n, m))
    benchmark.group = f"crowding distance, {n} x {m}"
    if library == "pnag":
        benchmark(_core.crowding_distance, points)
    elif library == "pymoo":
        if metrics is None:
            pytest.skip("pymoo is not installed")
        distance = benchmark(metrics.calc_crowding_distance, points)
        # NSGA-II adds up over the objectives; pymoo takes their mean.
        np.testing.assert_allclose(m * distance, _core.crowding_distance(points), rtol=1e-9)
    else:
        benchmark(lambda: [np.argsort(points[:, j]) for j in range(m)])


@pytest.mark.parametrize(
    ("m", "n"),
    [(2, 100), (2, 10_000), (3, 100), (3, 1_000), (3, 10_000), (4, 100), (4, 1_000), (5, 100)],
)
@pytest.mark.parametrize("family", ["uniform", "sphere"])
@each_library
def test_hypervolume(
    benchmark: Any, rng: np.random.Generator, library: str, family: str, n: int, m: int
) -> None:
    points = FAMILIES[family](rng, n, m)
    reference = np.full(m, 1.1)
    benchmark.group = f"hypervolume, {family}, {n} x {m}"
    if library == "pnag":
        volume = benchmark(_core.hypervolume, points, reference)
        assert volume == pytest.approx(moocore.hypervolume(points, ref=reference), rel=1e-9)
    else:
        benchmark(moocore.hypervolume, points, ref=reference)


@pytest.mark.parametrize(("m", "n"), [(2, 1_000), (3, 1_000), (4, 100), (5, 50), (6, 30)])
@each_library
def test_hypervolume_contributions(
    benchmark: Any, rng: np.random.Generator, library: str, n: int, m: int
) -> None:
    points = sphere(rng, n, m)
    reference = np.full(m, 1.1)
    benchmark.group = f"hypervolume contributions, sphere, {n} x {m}"
    if library == "pnag":
        parts = benchmark(_core.hypervolume_contributions, points, reference)
        np.testing.assert_allclose(
            parts, moocore.hv_contributions(points, ref=reference), rtol=1e-6, atol=1e-12
        )
    else:
        benchmark(moocore.hv_contributions, points, ref=reference)
