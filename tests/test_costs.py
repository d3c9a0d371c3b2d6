from __future__ import annotations

import copy
import itertools
import json
import pickle
import sys

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    MissingDependencyError,
    UnsupportedSpaceError,
)


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
        constants=rng.normal(size=shape[0]) + 60 if reduce == "sum" else np.full(shape[0], 1e-3),
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
        entries = np.random.default_rng(seed).uniform(-1, 2, size=(1, 6, 3))
        for reduce in ("sum", "max"):
            table = pf.CostTable.build(
                space,
                metric="m",
                unit="u",
                device="d",
                constants=[9.0] if reduce == "sum" else [1e-3],
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
        (lambda d: d.update(constants=["a"]), "constant 0"),
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
        pf.CostTable.build(tiny, metric="m", unit="u", device="d", constants=[1.0], entries=entries)


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
    fitted = pf.costs.fit(space, archs, macs(archs), metric="macs", unit="MACs")
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
    # The report is of other networks than the fit's own, which it describes a little better; what
    # is off by more than a factor of two is judged by neither.
    fitted, measured = table(archs), np.array(measured)
    near = (measured < 2 * fitted) & (fitted < 2 * measured)
    assert near.mean() > 0.99
    assert pf.costs.agreement(fitted[near], measured[near])["r2"] > held_out["r2"]


def test_spaces_without_layers_have_no_block_tables(cell, tmp_path):
    with pytest.raises(UnsupportedSpaceError):
        pf.costs.from_blocks(cell, lambda b: 1.0, metric="m", unit="u", device="d")
    with pytest.raises(UnsupportedSpaceError):
        pf.costs.from_ofa_yaml(
            tmp_path / "x.yaml", pf.spaces.get("ofa-mbv3", resolutions=(160, 224))
        )


def test_a_table_in_yaml_without_a_reader_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "table.yaml"
    path.write_text("{}")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingDependencyError, match=r"'yaml'.*pnag-fast\[ofa\]"):
        pf.costs.from_ofa_yaml(path, pf.spaces.get("ofa-mbv3"))


def test_agreement_and_spearman():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 20, 100).astype(float), rng.integers(0, 20, 100).astype(float)
    assert pf.costs.spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert pf.costs.spearman(a, np.ones(100)) == 0.0
    perfect = pf.costs.agreement(a + 1, a + 1)
    assert perfect["r2"] == 1.0
    assert perfect["worst_error"] == 0.0


# --- what a fitted table determines ---------------------------------------------------------------


def listed_space(name, stages):
    """A space of the user's: stages of (choices of each slot, least depth, allowed rows)."""
    listed = []
    for number, (choices, min_depth, rows) in enumerate(stages):
        slots = [
            {"name": f"{number}.{k}", "choices": list(range(n))} for k, n in enumerate(choices)
        ]
        stage = {"slots": slots, "min_depth": min_depth}
        listed.append(stage if rows is None else {**stage, "rows": [list(row) for row in rows]})
    return pf.spaces.from_definition({"name": name, "stages": listed})


@pytest.fixture(scope="module")
def compound():
    """A table fitted to the 243 networks of CompOFA, exact for those."""
    space = pf.spaces.get("compofa-mbv3")
    archs = space.enumerate()
    macs = pf.costs.macs(space)
    return pf.costs.fit(space, archs, macs(archs), metric="macs", unit="MACs", device="any")


def test_a_table_fitted_in_a_compound_space_refuses_the_whole_space(compound, tmp_path):
    ofa = pf.spaces.get("ofa-mbv3")
    first = r"code 2 \(kernel 3, expand 4\) of slot 0 \('stage1.layer1'\)"
    with pytest.raises(InvalidInputError, match=first):
        compound.for_space(ofa)
    with pytest.raises(InvalidInputError, match=first):
        compound.require_determined(ofa)
    with pytest.raises(InvalidInputError, match=first):
        pf.costs.stack([pf.costs.macs(ofa), compound])
    with pytest.raises(InvalidInputError, match=first):
        ofa.sample(3, within=(compound, 2e8, 3e8))
    with pytest.raises(InvalidInputError, match=first):
        ofa.count(within=(compound, 2e8, 3e8))
    compound.save(tmp_path / "table.json")
    loaded = pf.CostTable.load(tmp_path / "table.json")
    with pytest.raises(InvalidInputError, match=first):
        loaded.for_space(ofa)
    # An elastic kernel brings codes that were never measured.
    with pytest.raises(InvalidInputError, match="slot 1 .*never occurs there"):
        loaded.for_space(pf.spaces.get("compofa-mbv3", kernel="elastic"))
    # In its own space it is exact, and windows work.
    space = compound.space
    exact = pf.costs.macs(space)(space.enumerate())
    np.testing.assert_allclose(loaded(space.enumerate()), exact, rtol=1e-9)
    low, high = loaded.bounds
    assert len(space.sample(9, within=(loaded, low, high))) == 9


@pytest.fixture(scope="module")
def tall(tiny, tiny_table):
    """A table fitted to networks of `tiny` with at least two layers a stage."""
    space = pf.spaces.from_definition({**tiny.definition, "name": "tall", "min_depth": 2})
    archs = space.sample(600, seed=0, distribution="decisions")
    return pf.costs.fit(space, archs, tiny_table(archs), metric="latency", unit="ms")


def test_searches_and_generators_refuse_what_a_table_leaves_open(tiny, tiny_model, tall):
    message = r"does not know what code 0 \(absent\) of slot 1 .* it does not occur there"
    for search in (pf.search.front, pf.search.random, pf.search.nsga2):
        with pytest.raises(InvalidInputError, match=message):
            search(tiny, tiny_model, [tall], evaluations=100)
    with pytest.raises(InvalidInputError, match=message):
        pf.train_generator(tiny, tiny_model, [tall])


def test_a_table_fitted_in_the_whole_space_serves_a_part_of_it(tiny, tiny_table, tall, tmp_path):
    archs = tiny.sample(600, seed=0, distribution="decisions")
    fitted = pf.costs.fit(tiny, archs, tiny_table(archs), metric="latency", unit="ms")
    fitted.for_space(tall.space).save(tmp_path / "tall.json")
    loaded = pf.CostTable.load(tmp_path / "tall.json")
    # It still knows that it was fitted to all depths.
    np.testing.assert_allclose(loaded.for_space(tiny)(archs), tiny_table(archs), rtol=1e-8)
    with pytest.raises(InvalidInputError, match=r"code 0 \(absent\) of slot 1"):
        tall.for_space(tiny)


def test_tables_that_were_not_fitted_or_are_old_serve_every_space(compound, tmp_path):
    ofa = pf.spaces.get("ofa-mbv3")
    pf.costs.macs(compound.space).for_space(ofa)
    compound.save(tmp_path / "table.json")
    document = json.loads((tmp_path / "table.json").read_text())
    del document["determined_by"]
    document.pop("sha256", None)
    (tmp_path / "table.json").write_text(json.dumps(document))
    old = pf.CostTable.load(tmp_path / "table.json")
    assert old.domain is None
    assert old.for_space(ofa).space is ofa


def test_a_damaged_domain_is_refused(compound, tmp_path):
    path = tmp_path / "table.json"
    for change, message in (
        (pf.spaces.get("nasbench201").definition, "other slots"),
        ({"name": "x"}, "determined_by.*stages"),
        ([], "determined_by"),
    ):
        document = {**compound.to_json(), "determined_by": change}
        document |= {"format": "pnag-cost-table", "version": 1}
        path.write_text(json.dumps(document))
        with pytest.raises(FileFormatError, match=message):
            pf.CostTable.load(path)
    # A table cannot be for more than its domain determines.
    document = {**compound.to_json(), "space": pf.spaces.get("ofa-mbv3").definition}
    path.write_text(json.dumps(document | {"format": "pnag-cost-table", "version": 1}))
    with pytest.raises(FileFormatError, match="does not know"):
        pf.CostTable.load(path)


def test_what_determines_what_agrees_with_ranks():
    """Brute force: a space is determined where its rows add no rank to those of the other."""
    from pnag_fast.spaces import hull

    rng = np.random.default_rng(0)
    outcomes = []
    for _ in range(150):
        choices = [rng.integers(1, 4, rng.integers(1, 4)).tolist() for _ in range(2)]

        def draw(choices=choices):
            stages = []
            for sizes in choices:
                full = [
                    row
                    for row in np.ndindex(*(n + 1 for n in sizes))
                    if all(a or not b for a, b in itertools.pairwise(row))
                ]
                rows = None
                if rng.random() < 0.6:
                    rows = rng.permutation(full)[: rng.integers(1, len(full) + 1)].tolist()
                stages.append((sizes, int(rng.integers(0, len(sizes) + 1)), rows))
            return listed_space("s", stages)

        known, wanted = draw(), draw()
        assert known.fingerprint == wanted.fingerprint

        def indicators(space):
            archs = space.enumerate()
            codes = np.arange(1, max(space.n_codes))
            hot = (archs[:, :, None] == codes).reshape(len(archs), -1)
            return np.hstack([np.ones((len(archs), 1)), hot])

        ours = indicators(known)
        rank = np.linalg.matrix_rank(ours)
        both = np.linalg.matrix_rank(np.vstack([ours, indicators(wanted)]))
        found = hull.first_undetermined(known, wanted)
        assert (found is None) == (rank == both)
        assert np.linalg.matrix_rank(indicators(known)) == np.linalg.matrix_rank(
            np.vstack([indicators(known)[:0], span_of(known)])
        )
        outcomes.append(found is None)
    assert 10 < sum(outcomes) < 140


def span_of(space):
    from pnag_fast.spaces import hull

    archs = hull.spanning(space).archs
    space.validate(archs)
    codes = np.arange(1, max(space.n_codes))
    hot = (archs[:, :, None] == codes).reshape(len(archs), -1)
    return np.hstack([np.ones((len(archs), 1)), hot])


def test_stages_that_are_cut_elsewhere_are_compared():
    one = listed_space("one", [([2, 2], 2, None)])
    two = listed_space("two", [([2], 1, None), ([2], 1, None)])
    # The same slots under the same names, in one stage or in two.
    two = pf.spaces.from_definition(
        {
            "name": "two",
            "stages": [
                {"slots": [{"name": f"0.{k}", "choices": [0, 1]}], "min_depth": 1} for k in (0, 1)
            ],
        }
    )
    assert one.fingerprint == two.fingerprint
    from pnag_fast.spaces import hull

    assert hull.first_undetermined(one, two) is None
    assert hull.first_undetermined(two, one) is None
    coupled = listed_space("coupled", [([2, 2], 2, [(1, 1), (2, 2)])])
    assert hull.first_undetermined(two, coupled) is None
    found = hull.first_undetermined(coupled, two)
    assert (found.slot, found.code) == (0, 2)
    assert "only together with code 2 (choice 1) of slot 1" in found.reason


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        # Two codes that only occur together.
        (
            lambda a: (a[:, 0] == 2) == (a[:, 3] == 3),
            r"code 2 \(kernel 3, expand 2\) of slot 0 \('stage1.layer1'\), which occurs only "
            r"together with code 3 \(kernel 3, expand 4\) of slot 3",
        ),
        (lambda a: a[:, 2] > 0, r"slot 1 .* is never absent; slot 2 .* is never absent"),
        (lambda a: a[:, 4] != 5, r"code 5 \(kernel 5, expand 2\) of slot 4"),
    ],
)
def test_a_design_that_leaves_something_open_is_refused(tiny, tiny_table, keep, message):
    archs = tiny.sample(4000, seed=0, distribution="decisions")
    archs = np.ascontiguousarray(archs[keep(archs)])
    assert len(archs) > 300
    with pytest.raises(InvalidInputError, match=message):
        pf.costs.fit(tiny, archs, tiny_table(archs), metric="latency", unit="ms")


def test_measurements_at_one_of_several_resolutions_are_refused():
    space = pf.spaces.get("mbv3-tiny", resolutions=(16, 32))
    archs = space.sample(800, seed=0, distribution="decisions")
    archs = np.ascontiguousarray(archs[archs[:, -1] == 2])
    with pytest.raises(InvalidInputError, match="all architectures have the input resolution 32"):
        pf.costs.fit(space, archs, np.ones(len(archs)), metric="latency", unit="ms")


# --- noise and outliers ---------------------------------------------------------------------------


def test_noise_is_no_table(tiny):
    archs = tiny.sample(600, seed=0, distribution="decisions")
    noise = np.random.default_rng(0).lognormal(size=600)
    with pytest.raises(InvalidInputError, match="no better than their mean.*same order"):
        pf.costs.fit(tiny, archs, noise, metric="latency", unit="ms")
    with pytest.raises(InvalidInputError, match="nothing to fit"):
        pf.costs.fit(tiny, archs, np.full(600, 3.0), metric="latency", unit="ms")


def test_repeats_count_once_and_are_held_out_together(tiny, tiny_table):
    few = tiny.sample(150, seed=0, distribution="decisions")
    rng = np.random.default_rng(1)
    archs = np.repeat(few, 5, axis=0)
    # Each network with a time of its own that has nothing to do with its codes: by rows it could
    # be learned by heart.
    noise = np.repeat(rng.lognormal(size=150), 5)
    with pytest.raises(InvalidInputError, match="no better than their mean"):
        pf.costs.fit(tiny, archs, noise, metric="latency", unit="ms")
    measured = tiny_table(archs) * rng.normal(1, 0.02, len(archs))
    shuffled = rng.permutation(len(archs))
    table = pf.costs.fit(tiny, archs[shuffled], measured[shuffled], metric="latency", unit="ms")
    distinct = len(np.unique(few, axis=0))
    assert table.provenance["networks"] == distinct
    assert table.provenance["noise"]["networks"] == distinct
    assert table.provenance["noise"]["measurements"] == 750
    assert table.provenance["noise"]["spread"] == pytest.approx(0.02, rel=0.1)
    # As if each median had been measured once.
    unique, place = np.unique(few, axis=0, return_index=True)
    medians = np.median(measured.reshape(150, 5), axis=1)[place]
    single = pf.costs.fit(tiny, unique, medians, metric="latency", unit="ms")
    assert "noise" not in single.provenance
    if distinct == 150:
        np.testing.assert_allclose(table(unique), single(unique), rtol=1e-9)


# By less than a factor of two only where they are few.
@pytest.mark.parametrize(
    ("factor", "n"),
    [(100.0, 1), (0.01, 1), (3.0, 1), (100.0, 30), (0.01, 30), (3.0, 30), (1.2, 1), (1.2, 10)],
)
def test_outliers_are_left_out_and_named(tiny, tiny_table, factor, n):
    archs = np.unique(tiny.sample(900, seed=0, distribution="decisions"), axis=0)
    rng = np.random.default_rng(2)
    truth = tiny_table(archs)
    clean = truth * rng.normal(1, 0.01, len(archs))
    rows = rng.choice(len(archs), n, replace=False)
    dirty = clean.copy()
    dirty[rows] *= factor
    table = pf.costs.fit(tiny, archs, dirty, metric="latency", unit="ms")
    reference = pf.costs.fit(tiny, archs, clean, metric="latency", unit="ms")
    error = np.abs(table(archs) / truth - 1).mean()
    assert error < 1.3 * np.abs(reference(archs) / truth - 1).mean()
    outliers = table.provenance["outliers"]
    assert outliers["networks"] == n
    assert {entry["row"] for entry in outliers["rows"]} == set(rows.tolist())
    assert {entry["arch"] for entry in outliers["rows"]} == set(tiny.to_strings(archs[rows]))
    entry = outliers["rows"][0]
    assert entry["measured"] == dirty[entry["row"]]
    assert entry["fitted"] == pytest.approx(truth[entry["row"]], rel=0.05)
    assert table.provenance["held_out"]["r2"] > 0.98
    assert any(f"{n} of {len(archs)} networks lie far off" in w for w in table.warnings)
    assert "outliers" not in reference.provenance
    assert reference.warnings == ()


def test_without_outliers_a_fit_is_plain_least_squares(tiny, tiny_table):
    archs = tiny.sample(500, seed=0, distribution="decisions")
    noisy = tiny_table(archs) * np.random.default_rng(0).normal(1, 0.05, 500)
    table = pf.costs.fit(tiny, archs, noisy, metric="latency", unit="ms")
    codes = np.arange(1, max(tiny.n_codes))
    features = (archs[:, :, None] == codes).reshape(500, -1)
    features = np.hstack([np.ones((500, 1)), features])
    plain = features @ np.linalg.lstsq(features, noisy, rcond=None)[0]
    np.testing.assert_allclose(table(archs), plain, rtol=1e-9)


def test_a_table_that_explains_little_says_so(tiny, tiny_table):
    archs = tiny.sample(900, seed=0, distribution="decisions")
    rng = np.random.default_rng(0)
    truth = tiny_table(archs)
    noisy = truth + rng.normal(0, 0.9 * truth.std(), len(archs)).clip(-0.7 * truth, None)
    table = pf.costs.fit(tiny, archs, noisy, metric="latency", unit="ms")
    assert 0 < table.provenance["held_out"]["r2"] < 0.9
    assert len(table.warnings) == 1
    assert "do not trust close decisions" in table.warnings[0]
    assert "1 warning" in repr(table)


def test_codes_of_a_single_network_are_not_judged(tiny, tiny_table):
    """What only one network has cannot be predicted by the others, whatever is held out."""
    archs = tiny.sample(700, seed=0, distribution="decisions")
    rare = np.flatnonzero(archs[:, 0] == 9)
    archs = np.ascontiguousarray(np.delete(archs, rare[1:], axis=0))
    table = pf.costs.fit(tiny, archs, tiny_table(archs), metric="latency", unit="ms")
    assert table.provenance["held_out"]["worst_error"] < 1e-8
    fresh = tiny.sample(300, seed=5)
    np.testing.assert_allclose(table(fresh), tiny_table(fresh), rtol=1e-8)


@pytest.mark.shared_data
@pytest.mark.parametrize("device", GPUS)
def test_leaving_outliers_out_predicts_others_no_worse(shared_data, read_csv, device):
    """On real measurements, judged on all networks that were left out, far ones included."""
    rows = read_csv(shared_data / "ofa_latency" / "measured_gpus_ms.csv")
    sizes = tuple(sorted({int(row["resolution"]) for row in rows}))
    space = pf.spaces.get("ofa-mbv3", resolutions=sizes)
    archs = space.from_strings([f"{row['arch']}:{row['resolution']}" for row in rows])
    measured = np.array([float(row[device]) for row in rows])
    codes = np.arange(1, max(space.n_codes))
    hot = (archs[:, :-1, None] == codes[:9]).reshape(len(archs), -1)
    hot = np.hstack([np.ones((len(archs), 1)), hot])
    pixels = np.square(np.array(sizes))[archs[:, -1] - 1] / max(sizes) ** 2
    features = np.hstack([hot, hot * pixels[:, None]])
    inside = np.random.default_rng(0).random(len(archs)) < 0.75
    table = pf.costs.fit(space, archs[inside], measured[inside], metric="latency", unit="ms")
    plain = np.linalg.lstsq(features[inside], measured[inside], rcond=None)[0]
    ours = pf.costs.agreement(table(archs[~inside]), measured[~inside])
    theirs = pf.costs.agreement(features[~inside] @ plain, measured[~inside])
    assert ours["r2"] > theirs["r2"] - 1e-9
    assert ours["mean_error"] < theirs["mean_error"] + 1e-9


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"folds": 2.5}, InvalidInputError, "folds should be an integer of at least 2"),
        ({"folds": True}, InvalidInputError, "folds should be an integer"),
        ({"folds": 1}, InvalidInputError, "folds should be an integer of at least 2, found 1"),
        ({"folds": "5"}, InvalidInputError, "folds"),
        ({"folds": 10**9}, InvalidInputError, "too few"),
        ({"seed": -1}, InvalidInputError, "seed should be"),
        ({"seed": 1.5}, InvalidInputError, "seed should be"),
        ({"metric": None}, InvalidTypeError, "metric should be text"),
        ({"unit": 3}, InvalidTypeError, "unit should be text"),
        ({"values": np.ma.masked_less(np.ones(300), 2)}, InvalidTypeError, "masked"),
        ({"values": ["a"] * 300}, InvalidTypeError, "values"),
        ({"values": np.ones((300, 1))}, InvalidInputError, "values has shape"),
        ({"archs": np.zeros((300, 3))}, InvalidTypeError, "uint8"),
    ],
)
def test_arguments_of_fit_are_checked(tiny, options, error, message):
    archs = tiny.sample(300, seed=0, distribution="decisions")
    given = {"archs": archs, "values": np.arange(1.0, 301.0), "metric": "latency", "unit": "ms"}
    given |= options
    with pytest.raises(error, match=message):
        pf.costs.fit(tiny, given.pop("archs"), given.pop("values"), **given)


# --- values at or below zero ----------------------------------------------------------------------


def build(space, entries, constants, **options):
    about = {"metric": "m", "unit": "u", "device": "d", **options}
    return pf.CostTable.build(space, constants=constants, entries=entries, **about)


@pytest.mark.parametrize("constant", [0.0, -1.0, 6.0])
def test_a_table_by_which_a_network_is_free_is_refused(cell, tmp_path, constant):
    entries = np.zeros((1, 6, 6))
    # Single entries may be zero or below, as a skip is, as long as no total is.
    entries[0, :, 2] = -1.0
    with pytest.raises(
        InvalidInputError, match=rf"cheapest architecture of 'nasbench201' costs {constant - 6:.4g}"
    ):
        build(cell, entries, [constant])
    good = build(cell, entries, [6.5])
    assert good.bounds == (0.5, 6.5)
    document = {**good.to_json(), "constants": [constant]}
    document |= {"format": "pnag-cost-table", "version": 1}
    (tmp_path / "table.json").write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match="above zero"):
        pf.CostTable.load(tmp_path / "table.json")


def test_every_context_is_checked():
    space = pf.spaces.get("mbv3-tiny", resolutions=(16, 24, 32))
    entries = np.ones((3, space.n_slots, max(space.n_codes)))
    entries[:, :, 0] = 0
    entries[:, space.resolution_slot] = 0
    build(space, entries, [1.0, 1.0, 1.0])
    with pytest.raises(InvalidInputError, match=r"at 24 px costs -1 u"):
        build(space, entries, [1.0, -4.0, 1.0])


def test_a_maximum_may_not_be_zero_either(cell):
    entries = np.zeros((1, 6, 6))
    with pytest.raises(InvalidInputError, match="above zero"):
        build(cell, entries, [0.0], reduce="max")
    assert build(cell, entries, [2.0], reduce="max").bounds == (2.0, 2.0)


def test_entries_that_overflow_are_refused(cell):
    with pytest.raises(InvalidInputError, match="too large to add up"):
        build(cell, np.full((1, 6, 6), 1e308), [1.0])


@pytest.mark.shared_data
def test_a_fit_by_which_cells_are_free_is_refused(shared_data, read_csv, cell):
    """Degenerate cells take next to nothing on this phone, and a sum of edges gives them less."""
    rows = read_csv(shared_data / "nasbench201" / "accuracy_12_epochs.csv")
    times = {r["index"]: r for r in read_csv(shared_data / "nasbench201" / "latency_ms.csv")}
    archs = cell.from_strings([row["arch"] for row in rows])
    ms = np.array([float(times[row["index"]]["pixel3"]) for row in rows])
    with pytest.raises(InvalidInputError, match=r"costs -2.*measure more networks that are cheap"):
        pf.costs.fit(cell, archs, ms, metric="latency", unit="ms", device="pixel3")
    ms = np.array([float(times[row["index"]]["titanx_1"]) for row in rows])
    table = pf.costs.fit(cell, archs, ms, metric="latency", unit="ms", device="titanx_1")
    assert table.bounds[0] > 0


# --- identity, units, files -----------------------------------------------------------------------


@pytest.mark.parametrize("count", [pf.costs.macs, pf.costs.parameters])
def test_a_space_is_not_what_it_is_called(count):
    named = listed_space("nasbench201", [([5] * 6, 6, None)])
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


def set_entry(value):
    return lambda d: d["entries"][0][3].__setitem__(2, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_entry(True), r"slot 3 \('stage2.layer1'\), code 2 .*found True"),
        (set_entry("1.5"), r"slot 3 .*code 2 .*found '1.5'"),
        (set_entry([1.5]), r"slot 3 .*code 2 .*found \[1.5\]"),
        (set_entry({}), r"slot 3 .*code 2"),
        (set_entry(10**400), r"slot 3 .*code 2|too large|digits"),
        (set_entry(float("nan")), r"slot 3 .*code 2|NaN"),
        (set_entry(float("inf")), r"slot 3 .*code 2|Infinity"),
        (lambda d: d["entries"][0].__setitem__(3, "0123456789"), r"slot 3 .*list of 10"),
        (lambda d: d["entries"].append([]), "entries should be a list of 1, found 2"),
        (lambda d: d["entries"].__setitem__(0, {}), "entries should be a list of 9"),
        (lambda d: d.update(constants=[True]), "constant 0 .*found True"),
        (lambda d: d.update(constants=[[1.0]]), r"constant 0 .*found \[1.0\]"),
        (lambda d: d.update(constants=["1"]), "constant 0 .*found '1'"),
        (lambda d: d.update(constants=[1.0, 2.0]), "constants"),
        (lambda d: d.update(entrys=d["entries"]), "'entrys'.*did you mean 'entries'"),
        (lambda d: d.update(unit=3), "unit"),
    ],
)
def test_every_number_of_a_table_is_checked(tiny_table, tmp_path, change, message):
    document = {**tiny_table.to_json(), "format": "pnag-cost-table", "version": 1}
    path = tmp_path / "table.json"
    path.write_text(json.dumps(document))
    assert pf.CostTable.load(path).bounds == tiny_table.bounds
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match=message):
        pf.CostTable.load(path)


def ofa_document(space):
    """Means of every block of a space, under the keys of the Once-for-All tools."""
    from pnag_fast.costs import once_for_all

    document = {}

    def remember(block):
        for key in once_for_all._ofa_keys(block):
            document[key] = {"mean": 1e-5 * (1 + len(document) % 7), "count": 3}
        return 1.0

    pf.costs.from_blocks(space, remember, metric="m", unit="u", device="d")
    return document


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_once_for_all_tables_written_as_json_are_read(tiny, tmp_path, suffix):
    pytest.importorskip("yaml")
    document = ofa_document(tiny)
    text = json.dumps(document, indent=2)
    # What YAML reads as text.
    assert "e-05" in text
    path = tmp_path / f"table.{suffix}"
    path.write_text(text)
    table = pf.costs.from_ofa_yaml(path, tiny, device="x")
    network = tiny.layers(tiny.sample(1, seed=0)[0])
    from pnag_fast.costs import once_for_all

    expected = sum(document[k]["mean"] for b in network for k in once_for_all._ofa_keys(b))
    assert table(tiny.sample(1, seed=0))[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "value",
    ["1" * 400, "-.inf", ".nan", "true", "1:30", "[1]", "{a: 1}", "2001-99-99", "0x1F", "", "~"],
)
def test_means_that_are_no_numbers_are_refused(tiny, tmp_path, value):
    yaml = pytest.importorskip("yaml")
    document = ofa_document(tiny)
    key = next(iter(document))
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(document).replace("mean: 1.0e-05", f"mean: {value}", 1))
    with pytest.raises(FileFormatError, match="should be a finite number"):
        pf.costs.from_ofa_yaml(path, tiny)
    del document[key]["mean"]
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(FileFormatError, match="has no entry"):
        pf.costs.from_ofa_yaml(path, tiny)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "a: " + "[" * 3000 + "]" * 3000,
        "a: 2001-99-99",
        "a: {mean: 1}\na: {mean: 2}",
        "a: {mean: 1, mean: 2}",
        "- 1",
        "",
        "a: &b [*b]",
        "? [1, 2]\n: 3",
        "\x00",
    ],
)
def test_damaged_once_for_all_tables_are_refused(tiny, tmp_path, text):
    pytest.importorskip("yaml")
    path = tmp_path / "table.yaml"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=r"table\.yaml"):
        pf.costs.from_ofa_yaml(path, tiny)


# --- copies and what a person reads ---------------------------------------------------------------


def copies(thing):
    return [copy.deepcopy(thing), copy.copy(thing), pickle.loads(pickle.dumps(thing))]


def test_tables_and_stacks_can_be_copied(tiny_table, compound):
    archs = tiny_table.space.sample(50, seed=0)
    tiny_table(archs)
    for table in copies(tiny_table):
        np.testing.assert_array_equal(table(archs), tiny_table(archs))
        assert table.space == tiny_table.space
        assert not table.entries.flags.writeable
        # Windows remember tables by identity: copies are tables of their own.
        table.space.sample(3, within=(table, *table.bounds))
    stack = pf.costs.stack([tiny_table, pf.costs.macs(tiny_table.space)])
    stack(archs)
    for copied in copies(stack):
        np.testing.assert_array_equal(copied(archs), stack(archs))
        np.testing.assert_array_equal(copied.bounds, stack.bounds)
    for table in copies(compound):
        with pytest.raises(InvalidInputError, match="does not know"):
            table.for_space(pf.spaces.get("ofa-mbv3"))


def test_tables_print_in_a_few_short_lines(tiny_table, compound):
    stack = pf.costs.stack([tiny_table] * 9)
    for thing in (tiny_table, compound, stack, pf.costs.macs(tiny_table.space)):
        lines = repr(thing).splitlines()
        assert len(lines) <= 5
        assert max(map(len, lines)) <= 100
    assert "'mbv3-tiny'" in repr(tiny_table)
    assert "ms on 'test device'" in repr(tiny_table)
    assert "fitted to networks of 'compofa-mbv3'" in repr(compound)
    assert "and 6 more" in repr(stack)


def test_rows_that_were_never_measured_are_refused_in_a_lookup(compound):
    """The kernel finds out by itself; rows of another kind cost what their entries say."""
    inside = compound.space.enumerate()
    row = inside[:3].copy()
    row[1, 4] = 9
    message = r"row 1: .*'compofa-mbv3', in which code 9 \(kernel 7, expand 6\) of slot 4"
    out = np.empty(3)
    macs = pf.costs.macs(compound.space)
    for call in (
        lambda: compound(row),
        lambda: compound(row, out=out),
        lambda: pf.costs.stack([macs, compound])(row),
        lambda: copy.deepcopy(compound)(row),
    ):
        with pytest.raises(InvalidInputError, match=message):
            call()
    assert pf.costs.stack([macs, compound])(inside).shape == (243, 2)
    assert macs(row).shape == (3,)
    assert compound(row[:0]).shape == (0,)
    with pytest.raises(InvalidInputError, match="row 0"):
        compound(row[1:2])
