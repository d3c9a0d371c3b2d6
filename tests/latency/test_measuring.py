from __future__ import annotations

import json

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError, MeasurementError, UnsupportedSpaceError
from pnag_fast.latency.fleet import Fleet
from pnag_fast.latency.measuring import (
    JOURNAL_FILE,
    choose_networks,
    fit_table,
    measure_archs,
    measure_table,
    space_blocks,
)
from pnag_fast.latency.protocol import Protocol
from pnag_fast.runs import Run

PROTOCOL = Protocol(passes=3, extra_passes=1)
# 7 blocks, 6 networks and the empty program, 3 times each.
MEASUREMENTS = 14 * 3


class Notes:
    def __init__(self):
        self.lines = []

    def __call__(self, description, done, total):
        self.lines.append(description)

    def __contains__(self, text):
        return any(text in line for line in self.lines)


def measure(space, device, work_dir, progress=None, protocol=PROTOCOL, n_networks=6, trials=0):
    return measure_table(
        space,
        Fleet([device], patience_s=0.5),
        protocol,
        Run(progress=progress or Notes(), checkpoint=work_dir),
        trials=trials,
        n_networks=n_networks,
    )


def networks(space, archs, device):
    return measure_archs(
        space,
        archs,
        Fleet([device]),
        PROTOCOL,
        Run(progress=Notes()),
        weights=None,
        tiles=None,
    )


def records(work_dir):
    return [json.loads(line) for line in (work_dir / JOURNAL_FILE).read_text().splitlines()]


def n_measured(work_dir):
    return sum("measured" in record for record in records(work_dir))


def test_blocks_shared_between_slots_are_measured_once(mini, tmp_path, fake_device):
    assert len(space_blocks(mini)) == 7
    measure(mini, fake_device(), tmp_path)
    assert n_measured(tmp_path) == MEASUREMENTS


def test_the_table_is_the_corrected_sum_of_blocks(mini, tmp_path, fake_device):
    device = fake_device()
    table = measure(mini, device, tmp_path)
    assert (table.metric, table.unit, table.device) == ("latency", "ms", "fake")
    archs = mini.enumerate()
    truth = networks(mini, archs, fake_device())
    # On the fake device the network is the sum of its blocks, entered once.
    np.testing.assert_allclose(table(archs), truth.ms, rtol=1e-9)
    assert table.provenance["reference_ms"] == truth.reference_ms
    correction = table.provenance["correction"]
    assert correction["scale"] == pytest.approx(1.0)
    assert correction["offset_ms"] == pytest.approx(table.provenance["call_ms"])
    assert correction["networks"] == 6
    assert correction["r2"] == pytest.approx(1.0)
    assert len(table.provenance["blocks"]) == 7
    assert all(block["steady"] for block in table.provenance["blocks"].values())
    assert len(table.provenance["networks"]) == 6
    assert table.provenance["conditions"]["target"] == "fake"
    json.dumps(table.provenance, allow_nan=False)
    # What is left unknown where nothing is noisy is what another session may be slower by.
    _, std = table(archs, return_std=True)
    assert ((std / truth.ms > 0.01) & (std / truth.ms < 0.02)).all()
    assert set(table.provenance["uncertainty"]) == {"stages", "blocks", "misfit", "common"}


def networks_alone(space, device, work_dir, progress=None, prior=None):
    return fit_table(
        space,
        Fleet([device], patience_s=0.5),
        PROTOCOL,
        Run(progress=progress or Notes(), checkpoint=work_dir),
        trials=0,
        n_networks=8,
        prior=prior,
    )


def test_a_table_from_whole_networks_alone(mini, tmp_path, fake_device):
    device = fake_device()
    table = networks_alone(mini, device, tmp_path)
    # 8 networks and the empty program, 3 times each; no block was compiled.
    assert n_measured(tmp_path) == 9 * 3
    assert all(name.startswith(("network-", "call", "reference")) for name in device.programs)
    archs = mini.enumerate()
    truth = networks(mini, archs, fake_device())
    mean, std = table(archs, return_std=True)
    assert np.abs(mean / truth.ms - 1).max() < 0.05
    assert (np.abs(mean - truth.ms) <= 3 * std).all()
    assert table.provenance["reference_ms"] == truth.reference_ms
    assert len(table.provenance["networks"]) == 8
    assert table.provenance["prior"] == [pf.costs.macs(mini).describe()]
    json.dumps(table.provenance, allow_nan=False)
    # Again, from the journal alone.
    device, notes = fake_device(), Notes()
    again = networks_alone(mini, device, tmp_path, notes)
    assert device.runs == 0
    assert f"reusing {9 * 3} of {9 * 3} measurements" in notes
    np.testing.assert_array_equal(table.entries, again.entries)
    # A table of a device that is like it knows more than the multiply-adds do.
    blocks = measure(mini, fake_device(), tmp_path)
    alike = networks_alone(mini, fake_device(), tmp_path, prior=[blocks])
    assert np.abs(alike(archs) / truth.ms - 1).mean() <= np.abs(mean / truth.ms - 1).mean() + 1e-3


def test_several_resolutions_make_several_contexts(mini, tmp_path, fake_device):
    from pnag_fast.spaces.mobilenetv3 import mobilenetv3_space

    space = mobilenetv3_space("mini2", mini.network, min_depth=1, resolutions=(8, 12))
    table = measure(space, fake_device(), tmp_path, n_networks=8)
    assert len(table.constants) == 2
    assert table.constants[0] < table.constants[1]
    assert len(table.provenance["blocks"]) == 14
    # What both resolutions share with the first space is not measured again.
    notes = Notes()
    measure(mini, fake_device(), tmp_path, notes)
    assert "reusing" in notes


def test_a_second_run_reuses_everything(mini, tmp_path, fake_device):
    first = measure(mini, fake_device(), tmp_path)
    device, notes = fake_device(), Notes()
    second = measure(mini, device, tmp_path, notes)
    assert device.compiled == []
    assert device.runs == 0
    assert f"reusing {MEASUREMENTS} of {MEASUREMENTS} measurements" in notes
    np.testing.assert_array_equal(first.entries, second.entries)
    assert n_measured(tmp_path) == MEASUREMENTS


@pytest.mark.parametrize("runs", [1, 100, 300])
def test_an_interrupted_run_goes_on(mini, tmp_path, fake_device, runs):
    with pytest.raises(KeyboardInterrupt):
        measure(mini, fake_device(die_after=runs), tmp_path)
    kept = n_measured(tmp_path)
    notes = Notes()
    resumed = measure(mini, fake_device(), tmp_path, notes)
    assert n_measured(tmp_path) == MEASUREMENTS
    if kept:
        assert f"reusing {kept} of" in notes
    whole = measure(mini, fake_device(), tmp_path / "other")
    np.testing.assert_allclose(resumed.entries, whole.entries)


def test_only_what_is_missing_is_compiled(mini, tmp_path, fake_device):
    first = fake_device(die_after=200)
    with pytest.raises(KeyboardInterrupt):
        measure(mini, first, tmp_path)
    # Two passes of one block are lost.
    measure(mini, fake_device(), tmp_path)
    lines = (tmp_path / JOURNAL_FILE).read_text().splitlines(keepends=True)
    victim = next(iter(space_blocks(mini)))
    kept = [line for line in lines if f'"measured": "{victim}"' not in line]
    (tmp_path / JOURNAL_FILE).write_text("".join(kept))
    device = fake_device()
    measure(mini, device, tmp_path)
    assert device.compiled == [{victim, "reference"}]


def test_more_passes_extend_what_is_there(mini, tmp_path, fake_device):
    measure(mini, fake_device(), tmp_path)
    measure(mini, fake_device(), tmp_path, protocol=Protocol(passes=5, extra_passes=1))
    assert n_measured(tmp_path) == MEASUREMENTS // 3 * 5


@pytest.mark.parametrize("conditions", [{"threads": 2}, {"tvm": "0.28"}, {"target": "other"}])
def test_other_conditions_are_measured_anew(mini, tmp_path, fake_device, conditions):
    measure(mini, fake_device(), tmp_path)
    notes = Notes()
    measure(mini, fake_device(conditions=conditions), tmp_path, notes)
    assert n_measured(tmp_path) == 2 * MEASUREMENTS
    assert f"left out {MEASUREMENTS} measurements" in notes


def test_a_block_that_does_not_compile_is_recorded_and_named(mini, tmp_path, fake_device):
    victim = next(iter(space_blocks(mini)))
    with pytest.raises(MeasurementError, match=rf"1 of 14 .*{victim} \(does not compile\)"):
        measure(mini, fake_device(broken=[victim]), tmp_path)
    # Everything else was measured, and the failure is a record.
    assert n_measured(tmp_path) == MEASUREMENTS - 3
    assert {"failed": victim, "error": "does not compile"}.items() <= {
        key: value
        for record in records(tmp_path)
        if "failed" in record
        for key, value in record.items()
    }.items()
    measure(mini, fake_device(), tmp_path)
    assert n_measured(tmp_path) == MEASUREMENTS


@pytest.mark.parametrize("time", [0.0, -1.0, float("nan"), float("inf"), "the device is gone"])
def test_a_block_that_does_not_run_is_recorded_and_named(mini, tmp_path, fake_device, time):
    victim = list(space_blocks(mini))[-1]
    with pytest.raises(MeasurementError, match=victim):
        measure(mini, fake_device(times={victim: time}), tmp_path)
    assert n_measured(tmp_path) == MEASUREMENTS - 3


def test_many_failures_are_counted(mini, tmp_path, fake_device):
    broken = list(space_blocks(mini))[:5]
    with pytest.raises(MeasurementError, match="5 of 14 .* and 2 more"):
        measure(mini, fake_device(broken=broken), tmp_path)


def test_without_the_reference_nothing_is_measured(mini, tmp_path, fake_device):
    with pytest.raises(MeasurementError, match="reference program"):
        measure(mini, fake_device(broken=["reference"]), tmp_path)


def test_unsteady_items_are_measured_again_and_flagged(mini, tmp_path, fake_device):
    victim = next(iter(space_blocks(mini)))

    class Unsteady(fake_device):
        warm_ups = 0  # one before each pass, once the number of runs is found

        def seconds(self, name, number):
            time = super().seconds(name, number)
            if name == victim:
                self.warm_ups += number == 1
                time *= 1 + self.warm_ups % 2
            return time

    table = measure(mini, Unsteady(), tmp_path)
    block = table.provenance["blocks"][victim]
    assert block["passes"] == PROTOCOL.passes + PROTOCOL.extra_passes
    assert block["spread"] > PROTOCOL.spread_limit
    assert not block["steady"]


def test_networks_are_spread_over_the_range(tiny):
    archs = choose_networks(tiny, 12, seed=0)
    tiny.validate(archs)
    assert len(np.unique(archs, axis=0)) == 12
    macs = pf.costs.macs(tiny)
    values = np.sort(macs(archs))
    np.testing.assert_allclose(values[[0, -1]], macs.bounds)
    assert np.diff(values).max() < 0.25 * np.ptp(values)
    np.testing.assert_array_equal(archs, choose_networks(tiny, 12, seed=0))


def test_a_space_without_layers_is_refused(cell, tmp_path):
    with pytest.raises(UnsupportedSpaceError, match="nasbench201"):
        pf.latency.measure(cell, work_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n_networks", [0, 3, True])
def test_the_correction_is_not_optional(mini, tmp_path, fake_device, n_networks):
    with pytest.raises(InvalidInputError, match="n_networks"):
        measure(mini, fake_device(), tmp_path, n_networks=n_networks)


def test_equal_networks_are_measured_once(mini, fake_device):
    archs = mini.sample(3, seed=0)[[0, 1, 0, 2]]
    device = fake_device()
    times = networks(mini, archs, device)
    assert times.ms.shape == (4,)
    assert times.ms[0] == times.ms[2]
    assert len(device.compiled[0]) == 2 + len(np.unique(archs, axis=0))


def test_no_networks_take_no_time(mini, fake_device):
    times = networks(mini, mini.sample(0), fake_device())
    assert times.ms.shape == (0,)
