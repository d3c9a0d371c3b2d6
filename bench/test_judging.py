"""Judging architectures of a supernet: as a tree of shared layers, and one after another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pnag_fast as pf

# Enough for the shared layers of related networks to show.
N = 8


@pytest.mark.parametrize("how", ["pnag, related", "pnag, independent", "torch, one by one"])
def test_judging(benchmark: Any, how: str) -> None:
    torch = pytest.importorskip("torch")
    for module in ("sklearn", "PIL"):
        pytest.importorskip(module)
    space = pf.spaces.get("mbv3-tiny", resolutions=(16,))
    net = pf.supernet.build(space, seed=0)
    data = pf.data.load_digits(16, seed=0)
    sample = pf.supernet.sample_related if "related" in how else type(space).sample
    archs = np.unique(sample(space, N, seed=0), axis=0)
    benchmark.group = f"judging {N} architectures of mbv3-tiny"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if how.startswith("pnag"):
            top1 = benchmark.pedantic(pf.supernet.evaluate, (net, archs, data), rounds=3)
        else:
            top1 = benchmark.pedantic(one_by_one, (net, archs, data), rounds=3)
            np.testing.assert_allclose(top1, pf.supernet.evaluate(net, archs, data), atol=2e-3)
    finally:
        torch.set_num_threads(before)
    assert top1.shape == (len(archs),)


def one_by_one(net: Any, archs: Any, data: pf.data.ImageData) -> Any:
    """Cut each network out, measure its statistics, judge it: what Once-for-All does."""
    validation = data.validation
    return np.array(
        [
            pf.supernet.accuracy(
                pf.supernet.recalibrate(net.extract(arch), data),
                validation.images,
                validation.labels,
            )
            for arch in archs
        ]
    )
