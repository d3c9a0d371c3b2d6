from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf


def test_kendall_agrees_with_scipy():
    from scipy.stats import kendalltau

    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 9, (2, 400)).astype(float)
        assert pf.accuracy.kendall(a, b) == pytest.approx(kendalltau(a, b).statistic)
    assert pf.accuracy.kendall([1, 1], [1, 2]) == 0.0


def test_kendall_counts_a_hundred_thousand_pairs():
    from scipy.stats import kendalltau

    rng = np.random.default_rng(1)
    a = rng.normal(size=100_000).round(4)
    b = a + rng.normal(size=100_000).round(4)
    assert pf.accuracy.kendall(a, b) == pytest.approx(kendalltau(a, b).statistic, abs=1e-12)


def test_agreement_and_spearman():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 20, 100).astype(float), rng.integers(0, 20, 100).astype(float)
    assert pf.costs.spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert pf.costs.spearman(a, np.ones(100)) == 0.0
    perfect = pf.costs.agreement(a + 1, a + 1)
    assert perfect["r2"] == 1.0
    assert perfect["worst_error"] == 0.0
