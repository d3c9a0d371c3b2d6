"""What cannot be measured is refused before anything takes time, and by a clear error."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import latency
from pnag_fast.errors import InvalidInputError, InvalidTypeError, PnagError
from pnag_fast.latency import CompiledNetwork, NetworkTimes, random_weights, runners
from pnag_fast.latency.fleet import Fleet
from pnag_fast.latency.measuring import measure_table
from pnag_fast.latency.networks import network_program
from pnag_fast.latency.protocol import Protocol
from pnag_fast.runs import Run
from pnag_fast.spaces import MBConv, Stem


@pytest.fixture(autouse=True)
def nothing_opens(monkeypatch):
    """No child is started for what is refused."""

    class Opened(AssertionError):
        pass

    def opened(*_, **__):
        raise Opened("a device was opened")

    monkeypatch.setattr(runners, "WorkerDevice", opened)
    monkeypatch.setattr(latency, "open_device", opened)


ODD = {
    "target": [None, 5, b"llvm", ["llvm"]],
    "runner": [
        None, 5, "", "remote", "rpc://", "rpc://h", "rpc://h:9190", "rpc://h:9190/", "rpc://h:p/k",
        "rpc://h:99999/k", "rpc://h:0/k", "rpc://:9190/k", "http://h:9190/k",
    ],
    "passes": [2, 2.5, 3.0, "x", None, True, -1, 10**9, float("nan")],
    "threads": [0, -1, 1.5, "x", None, True, 10**6],
    "timeout_s": [0, -1, float("nan"), float("inf"), "x", None, True, 1j],
    "patience_s": [0, -1, float("nan"), float("inf"), "x", None, True],
    "max_devices": [0, -1, 1.5, "x", True],
    "progress": [None, 5, "x"],
}  # fmt: skip
ONLY_MEASURE = {
    "tuning_trials": [-1, 1.5, "x", None, True, 10**9],
    "n_networks": [0, 3, 4.5, "x", None, True],
    "seed": [-1, 1.5, "x", None, True, 2**64],
    "work_dir": [None, 5, "bad\0name"],
}


def odd(*tables):
    return [(name, value) for table in tables for name, values in table.items() for value in values]


@pytest.mark.parametrize(("name", "value"), odd(ODD, ONLY_MEASURE))
def test_measure_refuses(mini, tmp_path, name, value):
    options = {"work_dir": tmp_path / "work", name: value}
    with pytest.raises(PnagError, match=name if name != "work_dir" else "path|folder"):
        latency.measure(mini, **options)


@pytest.mark.parametrize(("name", "value"), odd(ODD))
def test_measure_networks_refuses(mini, name, value):
    with pytest.raises(PnagError, match=name):
        latency.measure_networks(mini, mini.sample(2), **{name: value})


def test_a_work_folder_that_is_a_file_is_told_before_anything_starts(mini, tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(PnagError, match="cannot create folder"):
        latency.measure(mini, work_dir=path)
    with pytest.raises(PnagError, match="cannot create folder"):
        latency.measure_networks(mini, mini.sample(1), work_dir=path)
    assert path.read_text() == "mine"


def test_spaces_and_architectures_are_checked(mini, tmp_path):
    nas = pf.spaces.get("nasbench201")
    for space, text in ((None, "SearchSpace"), ("mini", "SearchSpace"), (nas, "network")):
        with pytest.raises(PnagError, match=text):
            latency.measure(space, work_dir=tmp_path)
    with pytest.raises(PnagError, match="network"):
        latency.measure_networks(nas, nas.sample(1))
    for archs in (None, "x", [[1, 2]], mini.sample(1).astype(np.int64), mini.sample(1)[0]):
        with pytest.raises(PnagError):
            latency.measure_networks(mini, archs)
    with pytest.raises(InvalidInputError, match="no rows"):
        latency.measure_networks(mini, mini.sample(0))
    for arch in (mini.sample(3), None, "x"):
        with pytest.raises(PnagError, match="one architecture"):
            latency.measure_network(mini, arch)
        with pytest.raises(PnagError, match="one architecture"):
            latency.compile_network(mini, arch)
    with pytest.raises(PnagError):
        latency.compile_network(mini, np.full(mini.n_slots, 99, dtype=np.uint8))
    with pytest.raises(InvalidTypeError, match="table should be a CostTable, found str"):
        latency.measure_networks(mini, mini.sample(1), table="table.json")


def test_weights_are_checked(mini):
    archs = mini.sample(2, seed=0)
    good = [random_weights(mini.layers(arch), 0) for arch in archs]
    masked = copy.deepcopy(good)
    name = next(iter(masked[0][0]))
    masked[0][0][name] = np.ma.masked_array(masked[0][0][name], mask=True)
    wrong = [
        5, "x", good[0], good[:1], [5, 5], [[], []], [[5] * len(g) for g in good],
        [["x"] * len(g) for g in good], [[{}] * len(g) for g in good],
        [[{5: 1, "y": 2}] * len(g) for g in good], masked,
    ]  # fmt: skip
    for weights in wrong:
        with pytest.raises(PnagError, match="weight"):
            latency.measure_networks(mini, archs, weights=weights)
    for weights in (5, "x", [], good[0][:-1], [5] * len(good[0]), masked[0]):
        with pytest.raises(PnagError, match="weight"):
            latency.compile_network(mini, archs[0], weights)


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        ([], "blocks is empty"),
        (None, "blocks should be a sequence"),
        ("x", "blocks should be a sequence"),
        ([5], "block 0 should be one of"),
        (
            [Stem(16, 3, 8, 2), MBConv(16, 8, 16, 8, 3, 1, "relu", False)],
            "block 1 .* takes 8 channels of 16 pixels, and what comes before it gives 8 of 8",
        ),
        (
            [Stem(16, 3, 8, 2), MBConv(8, 16, 32, 16, 3, 1, "relu", False)],
            "takes 16 channels of 8 pixels, and what comes before it gives 8 of 8",
        ),
    ],
)
def test_blocks_that_are_no_network_are_refused(blocks, text):
    with pytest.raises(PnagError, match=text):
        latency.compile_blocks(blocks)


@pytest.mark.parametrize("seed", [-1, 1.5, "x"])
def test_seeds_of_weights_are_checked(seed):
    with pytest.raises(InvalidInputError, match="seed"):
        latency.compile_blocks([Stem(16, 3, 8, 2)], seed=seed)


def test_numbers_of_numpy_are_plain_ones_in_a_protocol():
    protocol = Protocol(passes=np.int64(5), sample_ms=np.float32(2))
    assert (type(protocol.passes), type(protocol.sample_ms)) == (int, float)
    for name, value in (("samples", 0), ("sample_ms", 0), ("reference_ms", "x")):
        with pytest.raises(InvalidInputError, match=name):
            Protocol(**{name: value})


class Loaded:
    def seconds(self, name, number):
        return 1e-3 * number


def test_a_compiled_network_says_why_it_cannot_be_pickled():
    network = CompiledNetwork(Loaded(), network_program([Stem(16, 3, 8, 2)]))
    for copying in (pickle.dumps, copy.deepcopy, copy.copy):
        with pytest.raises(
            InvalidTypeError, match="neither pickled nor copied; pass on the blocks"
        ):
            copying(network)
    assert repr(network) == "<CompiledNetwork of images 3x16x16 to feature maps>"
    for runs in (0, -1, 1.5, "x"):
        with pytest.raises(InvalidInputError, match="runs"):
            network.seconds(runs)
    assert network.time(passes=np.int64(3)) == pytest.approx(1.0)


def test_what_users_hold_is_pickled_and_copied():
    times = NetworkTimes(np.linspace(1.0, 2.0, 1000), 0.02)
    assert repr(times) == "<NetworkTimes of 1000 networks, 1 to 2 ms>"
    correction = latency.fit_correction(np.arange(1.0, 9), 0.5 + 1.2 * np.arange(1.0, 9))
    protocol = Protocol(passes=4)
    for duplicate in (copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))):
        again = duplicate(times)
        np.testing.assert_array_equal(again.ms, times.ms)
        assert again.reference_ms == times.reference_ms
        assert duplicate(correction) == correction
        assert duplicate(protocol) == protocol


# --- tables that are worth little ----------------------------------------------------------------


def fleet_of(device):
    from pnag_fast.latency.fleet import Fleet

    return Fleet([device])


def test_the_folder_has_two_names(mini, tmp_path, fake_device, monkeypatch):
    devices = []

    def opened(*_, **__):
        devices.append(fake_device())
        return Fleet([devices[-1]])

    monkeypatch.setattr(latency, "open_fleet", opened)
    folder = tmp_path / "kept"
    options = {"tuning_trials": 4, "passes": 3, "n_networks": 6}
    table = latency.measure(mini, checkpoint=folder, **options)
    again = latency.measure(mini, work_dir=folder, **options)
    np.testing.assert_array_equal(again.entries, table.entries)
    archs = mini.enumerate()[:2]
    for name in ("checkpoint", "work_dir"):
        latency.measure_networks(mini, archs, passes=3, **{name: folder})
        latency.measure_network(mini, archs[0], **{name: folder})
    # What is there is not measured again; a network alone takes ten passes.
    assert [device.runs > 0 for device in devices] == [True, False, True, True, False, False]
    for call in (
        lambda **names: latency.measure(mini, **names),
        lambda **names: latency.measure_networks(mini, archs, **names),
        lambda **names: latency.measure_network(mini, archs[0], **names),
    ):
        with pytest.raises(InvalidTypeError, match="two names of one folder; give one"):
            call(checkpoint=folder, work_dir=folder)
    with pytest.raises(InvalidTypeError, match="needs checkpoint=, the folder"):
        latency.measure(mini)


def measured(space, device, work_dir):
    return measure_table(
        space,
        fleet_of(device),
        Protocol(passes=3, extra_passes=0),
        Run(checkpoint=work_dir),
        trials=0,
        n_networks=8,
    )


def test_a_good_table_carries_no_warning(mini, tmp_path, fake_device):
    table = measured(mini, fake_device(), tmp_path)
    assert table.provenance["correction"]["r2"] > 0.98
    assert "warnings" not in table.provenance
    assert table.warnings == ()


def test_a_table_that_predicts_badly_says_so_with_the_remedy(mini, tmp_path, fake_device):
    rng = np.random.default_rng(1)

    class Noisy(fake_device):
        def _seconds(self, program):
            # Whole networks take whatever they like.
            extra = rng.uniform(0.0, 1e-3) if len(program.steps) > 8 else 0.0
            return super()._seconds(program) + extra

    table = measured(mini, Noisy(), tmp_path)
    assert table.provenance["correction"]["r2"] < 0.9
    first, second = table.warnings[:2]
    assert "explains little" in first
    assert "% off on average" in second
    for warning in table.warnings:
        assert "measure again on a quiet machine" in warning
    table.save(tmp_path / "table.json")
    assert pf.CostTable.load(tmp_path / "table.json").warnings == table.warnings


def test_noise_that_would_make_a_network_free_costs_the_offset_and_not_the_table(
    mini, tmp_path, fake_device, monkeypatch
):
    from pnag_fast.latency import measuring

    fit = measuring.fit_correction

    def with_a_cheapest_below_any_offset(*arguments, cheapest_ms, **options):
        assert cheapest_ms > 0
        return fit(*arguments, cheapest_ms=-np.inf, **options)

    monkeypatch.setattr(measuring, "fit_correction", with_a_cheapest_below_any_offset)
    table = measured(mini, fake_device(), tmp_path)
    assert table.bounds[0] > 0
    assert table.provenance["correction"]["offset_ms"] == 0.0
    assert "would make the fastest network cost less than nothing" in table.warnings[-1]


def test_figures_that_are_no_numbers_count_as_bad():
    good = latency.fit_correction(np.arange(1.0, 9), 0.5 + 1.2 * np.arange(1.0, 9))
    from dataclasses import replace

    assert good.warnings == []
    assert len(replace(good, r2=float("nan"), mean_error=float("nan")).warnings) == 2


def test_what_networks_alone_start_from_goes_with_networks_alone(tmp_path):
    space = pf.spaces.get("mbv3-tiny")
    with pytest.raises(InvalidInputError, match="give blocks=False"):
        latency.measure(space, prior=[pf.costs.macs(space)], checkpoint=tmp_path / "work")
    for prior in (pf.costs.macs(space), [3]):
        with pytest.raises(InvalidTypeError, match="CostTables, found"):
            latency.measure(space, prior=prior, blocks=False, checkpoint=tmp_path / "work")
    assert not (tmp_path / "work").exists()
