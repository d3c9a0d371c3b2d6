from __future__ import annotations

import json

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import FileFormatError, InvalidInputError, UnsupportedSpaceError


def brute_force(table, archs):
    result = []
    for arch in archs.tolist():
        slot = table.space.resolution_slot
        context = 0 if slot is None else arch[slot] - 1
        values = [table.constants[context]]
        values += [table.entries[context, s, c] for s, c in enumerate(arch)]
        result.append(sum(values) if table.reduce == "sum" else max(values))
    return np.array(result)


@pytest.mark.parametrize("name", ["ofa-mbv3", "nasbench201", "mbv3-tiny", "mbv3-cifar"])
@pytest.mark.parametrize("count", [pf.costs.macs, pf.costs.parameters])
def test_lookup_is_the_sum_of_entries(name, count):
    table = count(pf.spaces.get(name))
    archs = table.space.sample(200, seed=0)
    np.testing.assert_array_equal(table(archs), brute_force(table, archs))


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


@pytest.mark.parametrize(
    ("name", "options"),
    [("nasbench201", {}), ("compofa-mbv3", {}), ("compofa-mbv3", {"resolutions": (160, 224)})],
)
@pytest.mark.parametrize("reduce", ["sum", "max"])
def test_bounds_are_exact(name, options, reduce):
    space = pf.spaces.get(name, **options)
    rng = np.random.default_rng(0)
    shape = (max(len(space.resolutions), 1), space.n_slots, max(space.n_codes))
    entries = rng.normal(size=shape)
    entries[:, :, 0] = 0
    table = pf.CostTable.build(
        space,
        metric="m",
        unit="u",
        device="d",
        constants=rng.normal(size=shape[0]),
        entries=entries,
        reduce=reduce,
    )
    values = table(space.enumerate())
    # The kernel adds in a fixed order of its own.
    np.testing.assert_allclose(
        values, brute_force(table, space.enumerate()), rtol=1e-12, atol=1e-12
    )
    assert table.bounds == (values.min(), values.max())
    assert table(table.cheapest()[None])[0] == values.min()
    assert table(table.dearest()[None])[0] == values.max()


def test_bounds_with_elastic_depth(tmp_path):
    network = {"name": "s", "stages": [{"min_depth": 0, "slots": [{"choices": [1, 2]}] * 3}] * 2}
    path = tmp_path / "space.json"
    for stage in network["stages"]:
        stage["slots"] = [dict(slot) for slot in stage["slots"]]
    network["stages"] = [dict(stage) for stage in network["stages"]]
    path.write_text(json.dumps({"format": "pnag-space", "version": 1, "space": network}))
    network["stages"][1]["slots"] = [{"name": f"t{i}", "choices": [1, 2]} for i in range(3)]
    path.write_text(json.dumps({"format": "pnag-space", "version": 1, "space": network}))
    space = pf.spaces.load(path)
    for seed in range(20):
        entries = np.random.default_rng(seed).normal(size=(1, 6, 3))
        for reduce in ("sum", "max"):
            table = pf.CostTable.build(
                space,
                metric="m",
                unit="u",
                device="d",
                constants=[-9.0],
                entries=entries,
                reduce=reduce,
            )
            values = table(space.enumerate())
            np.testing.assert_allclose(table.bounds, (values.min(), values.max()), rtol=1e-12)


def test_a_stack_equals_its_tables(tiny, tiny_table):
    tables = [tiny_table, pf.costs.macs(tiny), pf.costs.parameters(tiny)]
    archs = tiny.sample(1000, seed=0)
    stacked = pf.costs.stack(tables)(archs)
    assert stacked.shape == (1000, 3)
    for i, table in enumerate(tables):
        np.testing.assert_array_equal(stacked[:, i], table(archs))
    np.testing.assert_array_equal(
        pf.costs.stack(tables).bounds, np.array([table.bounds for table in tables])
    )


def test_macs_of_several_resolutions():
    both = pf.spaces.get("ofa-mbv3", resolutions=(160, 224))
    archs = both.sample(50, seed=0)
    macs = pf.costs.macs(both)(archs)
    for i, resolution in enumerate((160, 224)):
        single = pf.costs.macs(pf.spaces.get("ofa-mbv3", resolutions=(resolution,)))
        rows = archs[:, -1] == i + 1
        np.testing.assert_array_equal(macs[rows], single(archs[rows, :-1].copy()))


def test_save_and_load(tiny_table, tmp_path):
    path = tmp_path / "table.json"
    tiny_table.save(path)
    loaded = pf.CostTable.load(path)
    archs = tiny_table.space.sample(100, seed=0)
    np.testing.assert_array_equal(loaded(archs), tiny_table(archs))
    assert loaded.describe() == "latency in ms on test device"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("entries"), "entries"),
        (lambda d: d["entries"][0][3].pop(), "slot 3"),
        (lambda d: d["entries"][0][3].__setitem__(2, None), "code 2"),
        (lambda d: d["entries"][0].append([0]), "valid"),
        (lambda d: d.update(reduce="mean"), "mean"),
        (lambda d: d.update(constants=["a"]), "constants|float"),
        (lambda d: d.update(space={"name": "x"}), "stages"),
        (lambda d: d.update(version=2), "upgrade"),
    ],
)
def test_damaged_tables_are_refused(tiny_table, tmp_path, change, message):
    path = tmp_path / "table.json"
    tiny_table.save(path)
    document = json.loads(path.read_text())
    del document["sha256"]
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match=message):
        pf.CostTable.load(path)


def test_a_table_of_another_space_is_refused(tiny_table):
    other = pf.spaces.get("mbv3-tiny", width=2.0)
    with pytest.raises(InvalidInputError, match="measure or load a table for this space"):
        tiny_table.for_space(other)
    with pytest.raises(InvalidInputError):
        pf.costs.stack([tiny_table, pf.costs.macs(other)])
    with pytest.raises(InvalidInputError, match="at least one"):
        pf.costs.stack([])


def test_an_entry_that_is_not_finite_is_named(tiny):
    entries = np.zeros((1, tiny.n_slots, max(tiny.n_codes)))
    entries[0, 4, 2] = np.inf
    with pytest.raises(InvalidInputError, match=r"slot 4 \('stage2.layer2'\), code 2 is inf"):
        pf.CostTable.build(tiny, metric="m", unit="u", device="d", constants=[0.0], entries=entries)


@pytest.mark.shared_data
@pytest.mark.parametrize("resolution", [160, 192, 224])
def test_once_for_all_latency_tables(shared_data, resolution):
    path = shared_data / "ofa_latency" / "note10" / f"{resolution}_lookup_table.yaml"
    space = pf.spaces.get("ofa-mbv3", width=1.2, resolutions=(resolution,))
    table = pf.costs.from_ofa_yaml(path, space)
    assert table.device == "note10"
    low, high = table.bounds
    assert 5 < low < high < 200
    # Compound spaces share slots and network, so the table serves them too.
    compound = pf.spaces.get("compofa-mbv3", width=1.2, resolutions=(resolution,))
    assert len(table.for_space(compound)(compound.enumerate())) == 243
    with pytest.raises(FileFormatError, match="has no entry"):
        pf.costs.from_ofa_yaml(path, pf.spaces.get("ofa-mbv3", resolutions=(resolution,)))


@pytest.mark.shared_data
@pytest.mark.parametrize("resolution", [160, 192, 224])
def test_once_for_all_tables_agree_with_looking_up_every_layer(shared_data, read_csv, resolution):
    """Every architecture of the shared files, added up layer by layer as the file is keyed."""
    import yaml

    path = shared_data / "ofa_latency" / "note10" / f"{resolution}_lookup_table.yaml"
    means = {key: entry["mean"] for key, entry in yaml.safe_load(path.read_text()).items()}
    space = pf.spaces.get("ofa-mbv3", width=1.2, resolutions=(resolution,))
    archs = set()
    for name in ("ofa_imagenet/measured_w1.0_r224", "ofa_latency/measured_gpus_ms"):
        archs |= {row["arch"] for row in read_csv(shared_data / f"{name}.csv")}
    archs |= {row["arch"] for row in read_csv(shared_data / "ofa_imagenet" / "pnag_published.csv")}
    assert len(archs) > 5000
    archs = sorted(archs)
    table = pf.costs.from_ofa_yaml(path, space)
    expected = [note10_latency(arch, means, resolution) for arch in archs]
    np.testing.assert_allclose(table(space.from_strings(archs)), expected, rtol=1e-12)


def note10_latency(arch, means, resolution):
    """Latency of a network of width 1.2, written down from the file's keys alone."""
    depths, kernels, ratios = ([int(n) for n in part.split(",")] for part in arch.split(":"))
    size, channels = resolution // 2, 24
    total = means[f"Conv-input:{resolution}x{resolution}x3-output:{size}x{size}x24"]

    def block(out, expand, kernel, stride, skip, se, hs):
        nonlocal size, channels
        after = size // stride
        key = (
            f"expanded_conv-input:{size}x{size}x{channels}-output:{after}x{after}x{out}"
            f"-expand:{expand}-kernel:{kernel}-stride:{stride}-idskip:{skip}-se:{se}-hs:{hs}"
        )
        size, channels = after, out
        return means[key]

    total += block(24, 24, 3, 1, 1, 0, 0)
    stages = [(32, 2, 0, 0), (48, 2, 1, 0), (96, 2, 0, 1), (136, 1, 1, 1), (192, 2, 1, 1)]
    for unit, (out, stride, se, hs) in enumerate(stages):
        for layer in range(depths[unit]):
            slot = 4 * unit + layer
            expand = channels_multiple(channels * ratios[slot])
            first = layer == 0
            total += block(
                out, expand, kernels[slot], stride if first else 1, 0 if first else 1, se, hs
            )
    total += means[f"Conv_1-input:{size}x{size}x192-output:{size}x{size}x1152"]
    total += means[f"AvgPool2D-input:{size}x{size}x1152-output:1x1x1152"]
    total += means["Conv_2-input:1x1x1152-output:1x1x1536"]
    return total + means["Logits-input:1x1x1536-output:1000"]


def channels_multiple(channels):
    """Round to a multiple of 8, and not by more than a tenth down."""
    rounded = max(8, (channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def test_fit_recovers_an_additive_cost(tiny, tiny_table):
    archs = tiny.sample(600, seed=0, distribution="decisions")
    fitted = pf.costs.fit(tiny, archs, tiny_table(archs), metric="latency", unit="ms")
    fresh = tiny.sample(500, seed=9)
    np.testing.assert_allclose(fitted(fresh), tiny_table(fresh), rtol=1e-8)
    assert fitted.provenance["held_out"]["r2"] > 0.999999


def test_fit_with_several_resolutions():
    space = pf.spaces.get("mbv3-tiny", resolutions=(16, 24, 32))
    macs = pf.costs.macs(space)
    archs = space.sample(1500, seed=0, distribution="decisions")
    fitted = pf.costs.fit(space, archs, macs(archs), metric="macs", unit="count")
    # Squeeze-excite and classifier do not grow with the pixels; the rest does, exactly.
    np.testing.assert_allclose(fitted(archs), macs(archs), rtol=1e-6)


@pytest.mark.parametrize(
    ("n", "change", "message"),
    [
        (600, lambda v: np.append(v, 1.0), "shape"),
        (600, lambda v: np.where(np.arange(len(v)) == 5, np.nan, v), "row 5"),
        (600, lambda v: np.where(np.arange(len(v)) == 3, -1.0, v), "row 3"),
        (3, lambda v: v, "code|few"),
        (90, lambda v: v, "code|few"),
    ],
)
def test_fit_refuses(tiny, tiny_table, n, change, message):
    archs = tiny.sample(n, seed=0, distribution="decisions")
    with pytest.raises(InvalidInputError, match=message):
        pf.costs.fit(tiny, archs, change(tiny_table(archs)), metric="latency", unit="ms")


# Spearman's correlation and mean error on networks left out, with room below and above. An additive
# table says less of small batches.
GPUS = {
    "2080ti_1": (0.65, 0.10),
    "2080ti_32": (0.70, 0.13),
    "2080ti_64": (0.97, 0.05),
    "titan_xp_1": (0.70, 0.09),
    "titan_xp_32": (0.98, 0.04),
    "titan_xp_64": (0.99, 0.03),
    "v100_1": (0.83, 0.06),
    "v100_64": (0.99, 0.025),
}


@pytest.mark.shared_data
@pytest.mark.parametrize("device", GPUS)
def test_fit_on_measured_gpus(shared_data, read_csv, device):
    rows = read_csv(shared_data / "ofa_latency" / "measured_gpus_ms.csv")
    sizes = tuple(sorted({int(row["resolution"]) for row in rows}))
    space = pf.spaces.get("ofa-mbv3", resolutions=sizes)
    archs = space.from_strings([f"{row['arch']}:{row['resolution']}" for row in rows])
    measured = [float(row[device]) for row in rows]
    table = pf.costs.fit(
        space, archs, measured, metric="latency", unit="ms", device=device, folds=2
    )
    held_out = table.provenance["held_out"]
    least_correlation, most_error = GPUS[device]
    assert held_out["spearman"] > least_correlation
    assert held_out["mean_error"] < most_error
    # The report is of other networks than the fit's own, which it describes a little better.
    assert pf.costs.agreement(table(archs), np.array(measured))["r2"] > held_out["r2"]


def test_spaces_without_layers_have_no_block_tables(cell, tmp_path):
    with pytest.raises(UnsupportedSpaceError):
        pf.costs.from_blocks(cell, lambda b: 1.0, metric="m", unit="u", device="d")
    with pytest.raises(UnsupportedSpaceError):
        pf.costs.from_ofa_yaml(
            tmp_path / "x.yaml", pf.spaces.get("ofa-mbv3", resolutions=(160, 224))
        )


def test_agreement_and_spearman():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 20, 100).astype(float), rng.integers(0, 20, 100).astype(float)
    assert pf.costs.spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert pf.costs.spearman(a, np.ones(100)) == 0.0
    perfect = pf.costs.agreement(a + 1, a + 1)
    assert perfect["r2"] == 1.0
    assert perfect["worst_error"] == 0.0
