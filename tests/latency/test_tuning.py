from __future__ import annotations

import json

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import FileFormatError
from pnag_fast.latency import tuned_tiles
from pnag_fast.latency.fleet import Fleet
from pnag_fast.latency.gpu_tiles import GpuTile
from pnag_fast.latency.kernels import Convolution, Depthwise, Mean
from pnag_fast.latency.measuring import measure_archs, measure_table, space_blocks, tune
from pnag_fast.latency.networks import network_program
from pnag_fast.latency.protocol import Protocol
from pnag_fast.latency.tiles import CpuTile, Machine, default_tile, family, nearest, parse_tile
from pnag_fast.latency.tuning import DATABASE_FILE
from pnag_fast.runs import Run

AVX512 = Machine(lanes=16, accumulators=24, threads=1)
MACHINES = [AVX512, Machine(8, 12, 1), Machine(4, 12, 2)]
KERNELS = [
    Convolution(14, 80, 480, activation="h_swish"),
    Convolution(224, 3, 16, 3, 2, activation="h_swish"),
    Convolution(7, 960, 160, gated=True, residual=True),
    Convolution(1, 960, 1280),
    Convolution(13, 24, 8),
    Depthwise(56, 72, 5, 2, "relu"),
    Depthwise(7, 960, 7, 1, "h_swish"),
    Depthwise(1, 64, 3, 1, "relu"),
    Mean(7, 960),
]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_every_tile_of_a_family_fits(kernel, machine):
    tiles = family(kernel, machine)
    rows, columns, channels = kernel.output_shape
    assert len(set(tiles)) == len(tiles) >= 1
    assert tiles[0] == default_tile(kernel, machine)
    for tile in tiles:
        assert rows % tile.rows == columns % tile.columns == 0
        assert channels % (tile.vectors * tile.lanes) == 0
        assert tile.rows * tile.columns * tile.vectors <= machine.accumulators
        assert tile.lanes <= machine.lanes
        assert parse_tile(str(tile)) == tile


@pytest.mark.parametrize("text", ["", "1x2x3p", "1x2x3x4", "1x2x3x4q", "axbxcxdp"])
def test_what_is_no_tile_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the callers say where it was found
        parse_tile(text)


def test_the_nearest_tiles_come_first():
    tiles = [CpuTile(1, 8, 1, 16), CpuTile(1, 4, 2, 16), CpuTile(4, 1, 1, 8, True)]
    assert nearest(CpuTile(1, 8, 2, 16), tiles)[0] == tiles[0]
    assert nearest(CpuTile(1, 8, 2, 16), tiles)[-1] == tiles[2]


def programs_of(space):
    return [network_program([block]) for block in space_blocks(space).values()]


def run(space, device, work_dir, trials):
    return tune(
        programs_of(space),
        Fleet([device]),
        Run(checkpoint=work_dir),
        trials=trials,
    )


def records(work_dir):
    lines = (work_dir / DATABASE_FILE).read_text().splitlines()
    return [json.loads(line) for line in lines]


def screened(work_dir):
    return [r["measured"] for r in records(work_dir) if r.get("pass") == 0]


def test_a_better_tile_is_found_and_kept(mini, tmp_path, fake_device):
    kernels = {s.kernel.name: s.kernel for p in programs_of(mini) for s in p.steps}
    device = fake_device()
    convolution = next(k for k in kernels.values() if isinstance(k, Convolution) and k.kernel == 1)
    better = str(family(convolution, device.machine)[2])
    device.best = better
    tuned = run(mini, device, tmp_path, 10_000)
    # Every tile of every kernel was tried once; the best is the fast one where it exists.
    sizes = [len(family(kernel, device.machine)) for kernel in kernels.values()]
    assert tuned.trials == len(set(screened(tmp_path))) == sum(sizes)
    assert tuned.kernels == len(kernels)
    assert str(tuned.tiles[convolution.name]) == better
    for name, kernel in kernels.items():
        texts = [str(tile) for tile in family(kernel, device.machine)]
        assert (name in tuned.tiles) == (better in texts[1:])
    assert tuned.speedup > 1


def test_without_a_difference_the_rules_stand(mini, tmp_path, fake_device):
    tuned = run(mini, fake_device(), tmp_path, 200)
    assert tuned.tiles == {}
    assert tuned.speedup == 1


def test_trials_are_a_limit_and_add_up(mini, tmp_path, fake_device):
    assert run(mini, fake_device(), tmp_path, 30).trials == 30
    assert len(screened(tmp_path)) == 30
    device = fake_device()
    assert run(mini, device, tmp_path, 30).trials == 30
    assert device.runs == 0
    assert run(mini, fake_device(), tmp_path, 45).trials == 45
    assert len(set(screened(tmp_path))) == len(screened(tmp_path)) == 45


def test_an_interrupted_tuning_goes_on(mini, tmp_path, fake_device):
    with pytest.raises(KeyboardInterrupt):
        run(mini, fake_device(die_after=900), tmp_path, 60)
    kept = screened(tmp_path)
    assert 0 < len(kept) < 60
    with open(tmp_path / DATABASE_FILE, "a") as stream:
        stream.write('{"measured": "torn')
    assert run(mini, fake_device(), tmp_path, 60).trials == 60
    assert screened(tmp_path)[: len(kept)] == kept


def test_a_tile_that_does_not_compile_is_a_record(mini, tmp_path, fake_device):
    kernel = programs_of(mini)[0].steps[0].kernel
    bad = str(family(kernel, fake_device.machine)[1])
    tuned = run(mini, fake_device(broken=[bad]), tmp_path, 10_000)
    failed = [r for r in records(tmp_path) if "failed" in r]
    assert {r["error"] for r in failed} == {"does not compile"}
    assert tuned.failed == len(failed) >= 1
    # It counts as tried, and is not tried again.
    device = fake_device()
    run(mini, device, tmp_path, 10_000)
    assert device.runs == 0


def test_kernels_that_spaces_share_are_tuned_once(mini, tmp_path, fake_device):
    run(mini, fake_device(), tmp_path, 10_000)
    device = fake_device()
    tune(
        [network_program(mini.layers(mini.sample(1, seed=0)[0]))],
        Fleet([device]),
        Run(checkpoint=tmp_path),
        trials=10_000,
    )
    assert device.runs == 0


def table_of(space, device, work_dir, trials):
    return measure_table(
        space,
        Fleet([device]),
        Protocol(passes=3, extra_passes=0),
        Run(checkpoint=work_dir),
        trials=trials,
        n_networks=6,
    )


def test_a_tuned_table_is_of_tuned_code_and_says_so(mini, tmp_path, fake_device):
    kernel = next(s.kernel for p in programs_of(mini) for s in p.steps if s.kernel.kernel == 1)
    best = str(family(kernel, fake_device.machine)[1])

    def device():
        made = fake_device()
        made.best = best
        return made

    by_rule = table_of(mini, device(), tmp_path / "w", 0)
    assert by_rule.provenance["tuning_trials"] == 0
    assert by_rule.provenance["tuning"]["tiles"] == {}
    tuned = table_of(mini, device(), tmp_path / "w", 10_000)
    assert tuned.provenance["tuning_trials"] > 0
    assert tuned.provenance["tuning"]["tiles"][kernel.name] == best
    archs = mini.enumerate()
    assert (tuned(archs) < by_rule(archs)).all()
    # Untuned measurements in the same journal are not mistaken for tuned ones, nor the reverse.
    again = table_of(mini, device(), tmp_path / "w", 0)
    np.testing.assert_array_equal(again.entries, by_rule.entries)
    # Networks are measured with the code of the table.
    for tiles, kept in ((tuned_tiles(tuned), Run()), (None, Run(checkpoint=tmp_path / "w"))):
        times = measure_archs(
            mini,
            archs,
            Fleet([device()]),
            Protocol(passes=3, extra_passes=0),
            kept,
            weights=None,
            tiles=tiles,
        )
        np.testing.assert_allclose(times.ms, tuned(archs), rtol=0.05)
        assert (times.ms < by_rule(archs)).all()


def test_a_table_that_names_no_tile_is_refused(mini, tmp_path, fake_device):
    table = table_of(mini, fake_device(), tmp_path, 0)
    table.provenance["tuning"]["tiles"]["conv"] = "round"
    with pytest.raises(FileFormatError, match="'round' is not a tile"):
        tuned_tiles(table)
    # A table from elsewhere has no tuning.
    assert tuned_tiles(pf.costs.macs(mini)) == {}


def test_kernels_of_a_graphics_processor_are_tuned_in_their_own_family(mini, tmp_path, fake_device):
    device = fake_device()
    device.machine = Machine(4, 32, 1, kind="cuda")
    kernel = programs_of(mini)[1].steps[0].kernel
    best = family(kernel, device.machine)[1]
    device.times = {str(best): 1e-9}
    tuned = run(mini, device, tmp_path, 200)
    assert tuned.tiles[kernel.name] == best
    steps = [step for program in device.programs.values() for step in program.steps]
    assert all(step.tile is None or isinstance(step.tile, GpuTile) for step in steps)
