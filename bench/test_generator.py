"""Answers of a trained generator, one at a time and ten thousand at once, beside its peers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.generator import Bank, ExpertSettings
from pnag_fast.generator.devices import synthetic


@pytest.fixture(scope="module")
def generator() -> pf.Generator:
    """A generator over `ofa-mbv3`; its accuracy is made up, its size is the real one."""
    pytest.importorskip("torch")
    space = pf.spaces.get("ofa-mbv3")
    macs = pf.costs.macs(space)
    archs = space.sample(300, seed=0, distribution="decisions")
    rng = np.random.default_rng(0)
    gain = np.cumsum(rng.uniform(0.2, 1.0, (space.n_slots, max(space.n_codes))), axis=1)
    gain -= gain[:, :1]
    top1 = 0.7 + 0.1 * gain[np.arange(space.n_slots), archs].sum(axis=1) / gain.max(axis=1).sum()
    model = pf.accuracy.fit(space, archs, top1 + rng.normal(0, 1e-3, len(top1)), epochs=50)
    settings = ExpertSettings(evaluations=50_000, steps=300)
    return pf.train_generator(space, model, [macs], settings=settings)


def even_budgets(generator: pf.Generator, n: int) -> Any:
    low, high = generator.tables[0].bounds
    return low + (high - low) * (np.arange(n) + 0.5) / n


def test_answer_mixed_devices(benchmark: Any, generator: pf.Generator) -> None:
    devices = tuple(synthetic(generator.tables, 19, seed=0)[3:])
    bank = Bank.of([generator.archive])
    archive = bank.front(generator.model, devices[:1], generator.archive)
    fleet = dataclasses.replace(
        generator, tables=devices[:1], archive=archive, devices=devices, bank=bank
    )
    rng = np.random.default_rng(0)
    which = rng.integers(len(devices), size=20_000)
    budgets = rng.uniform(*np.array([table.bounds for table in devices])[which].T)
    names = [devices[i].device for i in which]
    benchmark.group = "20,000 budgets of 16 devices of ofa-mbv3"
    out = benchmark(fleet.generate, budgets, device=names)
    assert (out.costs[:, 0] <= budgets).all()


@pytest.mark.parametrize("n", [1, 10_000])
@pytest.mark.parametrize("how", ["generator", "best member of the archive", "evolution"])
def test_answer(benchmark: Any, generator: pf.Generator, n: int, how: str) -> None:
    budgets = even_budgets(generator, n)
    benchmark.group = f"{n} budget(s) of ofa-mbv3"
    if how == "generator":
        out = benchmark(generator.generate, budgets)
        assert (out.costs[:, 0] <= budgets).all()
    elif how == "evolution":
        if n > 1:
            pytest.skip("half a second a budget")
        # Once-for-All's settings: 100 members, 500 generations.
        front = benchmark.pedantic(
            pf.search.evolution,
            (generator.space, generator.model, generator.tables),
            {"budgets": budgets, "generations": 50 if benchmark.disabled else 500},
            rounds=3,
        )
        assert (front.best(budgets[:, None]) >= 0).all()
    else:
        found = benchmark(generator.archive.best, budgets[:, None])
        assert (generator.archive.costs[found[found >= 0], 0] <= budgets[found >= 0]).all()
