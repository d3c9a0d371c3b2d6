from __future__ import annotations

import json

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError, UnsupportedSpaceError


def test_closed_forms_of_cells_match_what_nasbench201_published():
    cell = pf.spaces.get("nasbench201")
    # In millions: cells of six skips, and of six 3x3 convolutions.
    archs = cell.from_strings(
        [
            "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|".replace("op", operation)
            for operation in ("skip_connect", "nor_conv_3x3")
        ]
    )
    macs, parameters = pf.costs.macs(cell)(archs), pf.costs.parameters(cell)(archs)
    np.testing.assert_allclose(macs / 1e6, [7.78305, 220.11969], atol=2e-5)
    np.testing.assert_allclose(parameters / 1e6, [0.073306, 1.531546], atol=1e-9)


@pytest.mark.shared_data
def test_closed_forms_match_the_measured_table(shared_data, read_csv):
    rows = read_csv(shared_data / "ofa_imagenet" / "measured_w1.0_r224.csv")
    space = pf.spaces.get("ofa-mbv3")
    archs = space.from_strings([row["arch"] for row in rows])
    assert len(rows) > 1700
    np.testing.assert_array_equal(pf.costs.macs(space)(archs), [int(r["macs"]) for r in rows])
    np.testing.assert_array_equal(
        pf.costs.parameters(space)(archs), [int(r["params"]) for r in rows]
    )


@pytest.mark.shared_data
def test_closed_forms_match_what_pnag_published(shared_data, read_csv):
    rows = read_csv(shared_data / "ofa_imagenet" / "pnag_published.csv")
    # Published multiply-adds leave the classifier out; they are whole millions.
    space = pf.spaces.get("ofa-mbv3", width=1.2)
    archs = space.from_strings([row["arch"] for row in rows])
    macs = pf.costs.macs(space)(archs)
    np.testing.assert_array_equal(macs, [int(r["computed_macs"]) for r in rows])
    np.testing.assert_array_equal(
        pf.costs.parameters(space)(archs), [int(r["computed_params"]) for r in rows]
    )
    head = space.network.head(224)
    without = (macs - head.feature_channels * head.classes) / 1e6
    np.testing.assert_allclose(without, [float(r["published_madds_M"]) for r in rows], atol=0.51)


@pytest.mark.shared_data
def test_closed_forms_match_nasbench201(shared_data, read_csv):
    rows = read_csv(shared_data / "nasbench201" / "accuracy_12_epochs.csv")
    space = pf.spaces.get("nasbench201")
    archs = space.from_strings([row["arch"] for row in rows])
    assert len(np.unique(archs, axis=0)) == 15625
    np.testing.assert_allclose(
        pf.costs.parameters(space)(archs) / 1e6,
        [float(r["params_millions"]) for r in rows],
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        pf.costs.macs(space)(archs) / 1e6, [float(r["macs_millions"]) for r in rows], rtol=1e-9
    )


def test_macs_of_several_resolutions():
    both = pf.spaces.get("ofa-mbv3", resolutions=(160, 224))
    archs = both.sample(50, seed=0)
    macs = pf.costs.macs(both)(archs)
    for i, resolution in enumerate((160, 224)):
        single = pf.costs.macs(pf.spaces.get("ofa-mbv3", resolutions=(resolution,)))
        rows = archs[:, -1] == i + 1
        np.testing.assert_array_equal(macs[rows], single(archs[rows, :-1].copy()))


@pytest.mark.parametrize("count", [pf.costs.macs, pf.costs.parameters])
def test_a_space_is_not_what_it_is_called(count):
    slots = [{"name": f"edge{k}", "choices": list(range(5))} for k in range(6)]
    named = pf.spaces.from_definition(
        {"name": "nasbench201", "stages": [{"slots": slots, "min_depth": 6}]}
    )
    with pytest.raises(UnsupportedSpaceError, match="no layered network"):
        count(named)
    renamed = pf.spaces.get("nasbench201")
    renamed.name = "cells"
    assert count(renamed)(renamed.sample(3, seed=0)).min() > 0


def test_multiply_adds_and_parameters_have_their_own_units(tiny, cell, tmp_path):
    for space in (tiny, cell):
        macs, parameters = pf.costs.macs(space), pf.costs.parameters(space)
        assert (macs.unit, parameters.unit) == ("MACs", "parameters")
        assert macs.describe() == "macs in MACs on any"
        assert parameters.describe() == "parameters on any"
        for table in (macs, parameters):
            # Files of the first days counted both in "count".
            old = {**table.to_json(), "unit": "count", "format": "pnag-cost-table", "version": 1}
            (tmp_path / "old.json").write_text(json.dumps(old))
            assert pf.CostTable.load(tmp_path / "old.json").unit == table.unit


def test_peak_memory_is_that_of_the_largest_operation():
    space = pf.spaces.get("ofa-mbv3")
    table = pf.costs.peak_memory(space)
    archs = space.sample(50, seed=0)
    network = space.network
    for arch, found in zip(archs, table(archs), strict=True):
        layers = [
            network.layer(slot, int(code), 224) for slot, code in enumerate(arch.tolist()) if code
        ]
        held = []
        for block in layers:
            before = block.resolution**2 * block.in_channels
            wide = block.resolution**2 * block.mid_channels
            narrow = block.out_resolution**2 * block.mid_channels
            after = block.out_resolution**2 * block.out_channels
            waits = before if block.stride == 1 and before == after else 0
            held += [before + wide, wide + narrow + waits, narrow + after + waits]
        # The stem writes 16 channels of 112 x 112, the first block reads and filters them.
        stem = 3 * 224**2 + 16 * 112**2
        assert found >= max(held)
        assert found == max(*held, stem, 3 * 16 * 112**2)
    assert table.reduce == "max"
    np.testing.assert_array_equal(
        pf.costs.peak_memory(space, bytes_per_value=4)(archs), 4 * table(archs)
    )
    with pytest.raises(InvalidInputError, match="bytes_per_value"):
        pf.costs.peak_memory(space, bytes_per_value=0)
