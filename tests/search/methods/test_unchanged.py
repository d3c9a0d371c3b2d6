"""What existing seeds found without bounds, they find."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

import pnag_fast as pf


@pytest.fixture(scope="module")
def convolutions(cell):
    """Sums of powers of two and of thirds: every machine computes the same."""
    archs = cell.enumerate()
    values = 0.5 * (archs == 4).mean(axis=1) + 0.25 * (archs[:, :3] == 3).mean(axis=1)
    return pf.accuracy.table(cell, archs, values + 0.0625 * (archs[:, 5] == 2))


@pytest.mark.parametrize(
    ("name", "asked", "n_tables", "options", "evaluations", "digest"),
    [
        ("nsga2", "model", 1, {}, 20_000, "a795f975556b47f9"),
        (
            "nsga2",
            "model",
            2,
            {"evaluations": 700, "population": 20, "seed": 3},
            700,
            "feea66faa6e9021f",
        ),
        (
            "nsga2",
            "oracle",
            2,
            {"evaluations": 150, "population": 12, "seed": 1},
            150,
            "bf09111e44b0026d",
        ),
        ("evolution", "model", 1, {"generations": 6}, 3500, "d194f20488352595"),
        (
            "evolution",
            "model",
            2,
            {
                "generations": 5,
                "population": 12,
                "seed": 3,
                "budgets": [[60e6, 400e3], [100e6, np.inf]],
            },
            144,
            "45bfa43fd4171800",
        ),
        (
            "evolution",
            "oracle",
            1,
            {"evaluations": 150, "population": 8, "seed": 1},
            150,
            "9e287a16997a88c8",
        ),
    ],
)
def test_seeds_find_what_they_found(
    cell, convolutions, name, asked, n_tables, options, evaluations, digest
):
    model = convolutions if asked == "model" else pf.accuracy.oracle(cell, convolutions.predict)
    tables = [pf.costs.macs(cell), pf.costs.parameters(cell)][:n_tables]
    found = getattr(pf.search, name)(cell, model, tables, **options)
    assert found.evaluations == evaluations
    content = found.archs.tobytes() + found.top1.tobytes() + found.costs.tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == digest
