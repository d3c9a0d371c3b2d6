from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.costs.features import features
from pnag_fast.latency.measuring import choose_networks, space_blocks
from pnag_fast.latency.protocol import Summary
from pnag_fast.latency.uncertainty import refine


class Device:
    """Blocks take what their multiply-adds take, and in a network something else."""

    def __init__(self, space, seed, *, blocks=0.04, stages=0.05, misfit=0.01, spread=0.01):
        rng = np.random.default_rng(seed)
        self.space, self.misfit, self.rng = space, misfit, rng
        alone = {key: block.macs**0.8 for key, block in space_blocks(space).items()}
        inside = {key: time * (1 + blocks * rng.normal()) for key, time in alone.items()}
        self.blocks = {
            key: Summary(time * (1 + spread / 1.349 * rng.normal()), spread, 1)
            for key, time in alone.items()
        }
        self.table = self._table(lambda block: self.blocks[block.key].ms)
        scales = np.repeat(
            1 + stages * rng.normal(size=len(space.stages)),
            [len(stage.slots) for stage in space.stages],
        )
        truth = self._table(lambda block: inside[block.key])
        self.truth = replace(truth, entries=truth.entries * scales[None, :, None])

    def _table(self, cost):
        return pf.costs.from_blocks(
            self.space, cost, metric="latency", unit="ms", device="synthetic"
        )

    def measure(self, archs, slower=0.0):
        noise = 1 + self.misfit * self.rng.normal(size=len(archs))
        return self.truth(archs) * noise * (1 + slower)

    def refined(self, n=20):
        archs = choose_networks(self.space, n, 0)
        return refine(self.table, self.blocks, archs, self.measure(archs))


@pytest.fixture(scope="module")
def tiny():
    return pf.spaces.get("mbv3-tiny")


def test_ninety_percent_are_where_ninety_percent_should_be(tiny):
    covered, before, after = [], [], []
    for seed in range(8):
        device = Device(tiny, seed)
        table, _ = device.refined()
        archs = tiny.sample(200, seed=seed, distribution="decisions")
        measured = device.measure(archs)
        mean, std = table(archs, return_std=True)
        covered.append(np.mean(np.abs(measured - mean) <= 1.645 * std))
        before.append(np.abs(device.table(archs) / measured - 1).mean())
        after.append(np.abs(mean / measured - 1).mean())
    assert 0.85 <= np.mean(covered) <= 0.97, covered
    # What the networks say of each block is in the mean.
    assert np.mean(after) < 0.75 * np.mean(before)


def test_strengths_are_found(tiny):
    steady = [Device(tiny, s, blocks=0, stages=0, misfit=0.003).refined()[1] for s in range(4)]
    unsteady = [Device(tiny, s, blocks=0.1, stages=0, misfit=0.003).refined()[1] for s in range(4)]
    noisy = [Device(tiny, s, blocks=0, stages=0, misfit=0.05).refined()[1] for s in range(4)]
    assert max(u.blocks for u in steady) < min(u.blocks for u in unsteady)
    assert max(u.misfit for u in steady) < 0.02 < min(u.misfit for u in noisy)


def test_few_networks_teach_a_common_slowness(tiny):
    device = Device(tiny, 0)
    table, _ = device.refined()
    few, others = tiny.sample(8, seed=1), tiny.sample(200, seed=2)
    updated = table.updated(few, device.measure(few, slower=0.03), noise=0.01)
    mean, std = updated(others, return_std=True)
    measured = device.measure(others, slower=0.03)
    assert abs(np.mean(measured / mean - 1)) < 0.01
    assert np.mean(table(others) / measured) < 0.98
    assert (std < table(others, return_std=True)[1]).all()


def test_equal_blocks_of_two_slots_are_one_unknown(mini):
    """The second slot of a stage repeats blocks where stride and channels do."""
    device = Device(mini, 0, blocks=0.1, spread=0.2)
    table, _ = device.refined(12)
    keys = {}
    network = mini.require_network("a test")
    for slot in range(mini.n_slots):
        for code in range(1, mini.n_codes[slot]):
            keys.setdefault(network.layer(slot, code, 8).key, []).append((slot, code))
    shared = [slots for slots in keys.values() if len(slots) > 1]
    assert shared
    starts = np.cumsum([1, *(n - 1 for n in mini.n_codes)])
    for (slot, code), (other, also) in shared:
        rows = table.posterior.root[[starts[slot] + code - 1, starts[other] + also - 1]]
        covariance = rows @ rows.T
        assert covariance[0, 1] > 0.99 * np.sqrt(covariance[0, 0] * covariance[1, 1])


def test_several_resolutions_share_their_unknowns(mini):
    from pnag_fast.spaces.mobilenetv3 import mobilenetv3_space

    space = mobilenetv3_space("mini2", mini.network, min_depth=1, resolutions=(8, 12))
    device = Device(space, 0)
    table, _ = device.refined()
    archs = space.enumerate()
    mean, std = table(archs, return_std=True)
    assert np.mean(np.abs(device.measure(archs) / mean - 1)) < 0.02
    assert ((std / mean > 0.003) & (std / mean < 0.1)).all()
    assert table.posterior.root.shape[0] == features(space, archs).shape[1]


def test_the_posterior_is_in_the_file(tiny, tmp_path):
    table, _ = Device(tiny, 0).refined()
    table.save(tmp_path / "table.json")
    archs = tiny.sample(10, seed=0)
    again = pf.CostTable.load(tmp_path / "table.json")
    for ours, theirs in zip(
        table(archs, return_std=True), again(archs, return_std=True), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
