"""Cost lookup of 20-slot architectures over one and several tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pnag_fast import _core


def numpy_lookup(archs: NDArray[np.uint8], entries: NDArray[np.float64]) -> NDArray[np.float64]:
    """The peer: fancy indexing, one table after the other."""
    slots = np.arange(20)
    return np.stack([table[0][slots, archs].sum(axis=1) for table in entries], axis=1)


def numba_lookup(archs: NDArray[np.uint8], entries: NDArray[np.float64]) -> NDArray[np.float64]:
    """The peer: two plain loops, compiled."""
    n, m = len(archs), len(entries)
    out = np.zeros((n, m))
    for i in range(n):
        for table in range(m):
            for slot in range(20):
                out[i, table] += entries[table, 0, slot, archs[i, slot]]
    return out


@pytest.mark.parametrize("n", [1_000, 100_000, 1_000_000])
@pytest.mark.parametrize("n_tables", [1, 4, 16])
@pytest.mark.parametrize("what", ["pnag", "pnag, 2 threads", "numpy", "numba"])
def test_lookup(benchmark: Any, rng: np.random.Generator, n: int, n_tables: int, what: str) -> None:
    entries = rng.random((n_tables, 1, 20, 10))
    archs = _core.Space([([9] * 4, 2, None)] * 5).sample(n, 0, False, 2)
    tables = _core.CostTables(entries, np.zeros((n_tables, 1)), [False] * n_tables, -1, [10] * 20)
    np.testing.assert_allclose(
        tables.lookup(archs[:100].copy(), 1), numpy_lookup(archs[:100], entries), rtol=1e-12
    )
    benchmark.group = f"lookup {n} archs, {n_tables} tables"
    if what == "numpy":
        if n * n_tables > 4_000_000:
            pytest.skip("seconds per call")
        benchmark(numpy_lookup, archs, entries)
    elif what == "numba":
        numba: Any = pytest.importorskip("numba")
        compiled = numba.njit(numba_lookup)
        np.testing.assert_allclose(
            compiled(archs[:100], entries), numpy_lookup(archs[:100], entries), rtol=1e-12
        )
        benchmark(compiled, archs, entries)
    else:
        benchmark(tables.lookup, archs, 2 if "threads" in what else 1)
    if benchmark.stats is not None:
        benchmark.extra_info["ns_per_arch"] = benchmark.stats["min"] / n * 1e9
