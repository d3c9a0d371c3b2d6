from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import re

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.costs import features
from pnag_fast.errors import (
    FileFormatError,
    InvalidInputError,
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
        (lambda d: d.update(version=3), "upgrade"),
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


@pytest.fixture(scope="module")
def compound():
    """A table fitted to the 243 networks of CompOFA, exact for those."""
    space = pf.spaces.get("compofa-mbv3")
    archs = space.enumerate()
    macs = pf.costs.macs(space)
    return pf.costs.fit(space, archs, macs(archs), metric="macs", unit="MACs", device="any")


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


def _uncertain(space: pf.SearchSpace) -> pf.CostTable:
    macs = pf.costs.macs(space)
    n = pf.costs.features.n_features(space)
    root = np.random.default_rng(0).normal(size=(n, 5)) * macs.bounds[0] * 0.02
    return pf.CostTable.build(
        space,
        metric="latency",
        unit="ms",
        device="unsure",
        constants=macs.constants,
        entries=macs.entries,
        posterior=pf.costs.Posterior(root, 0.03),
    )


def test_what_a_table_does_not_know_is_its_std_and_upper_bounds_lie_above():
    table = _uncertain(pf.spaces.get("mbv3-tiny"))
    archs = table.space.sample(200, seed=1)
    mean, std = table(archs, return_std=True)
    np.testing.assert_array_equal(mean, table(archs))
    features = pf.costs.features.features(table.space, archs)
    covariance = table.posterior.root @ table.posterior.root.T
    expected = np.einsum("ij,jk,ik->i", features, covariance, features) + (0.03 * mean) ** 2
    np.testing.assert_allclose(std**2, expected, rtol=1e-9)
    upper = table.cautious(2.0)
    np.testing.assert_allclose(upper(archs), mean + 2 * std, rtol=1e-12)
    np.testing.assert_allclose(
        pf.costs.stack([upper, table])(archs), np.stack([mean + 2 * std, mean], axis=1)
    )
    assert upper.bounds[0] <= upper(archs).min()
    assert upper.mean.caution == 0.0


@pytest.mark.parametrize("rank", [0, 1, 5, 17])
def test_stds_at_every_resolution_are_those_of_the_features(rank):
    space = pf.spaces.get("mbv3-tiny", resolutions=(128, 160, 192))
    macs = pf.costs.macs(space)
    root = 1e5 * np.random.default_rng(rank).normal(size=(features.n_features(space), rank))
    table = dataclasses.replace(macs, posterior=pf.costs.Posterior(root, 0.01))
    archs = space.sample(500, seed=1)
    mean, std = table(archs, return_std=True)
    known = np.square(features.features(space, archs) @ root).sum(axis=1)
    np.testing.assert_allclose(std**2, known + (0.01 * mean) ** 2, rtol=1e-12)
    np.testing.assert_array_equal(table(archs, return_std=True, threads=3)[1], std)
    for again in (pickle.loads(pickle.dumps(table)), copy.deepcopy(table)):
        np.testing.assert_array_equal(again(archs, return_std=True)[1], std)
    with pytest.raises(InvalidInputError, match="row 0, slot 0 is 200"):
        table(np.full_like(archs[:1], 200), return_std=True)


def test_an_exact_table_is_never_cautious():
    table = pf.costs.macs(pf.spaces.get("mbv3-tiny"))
    assert table.cautious(3.0) is table
    assert not table(table.space.sample(5, seed=0), return_std=True)[1].any()


def test_a_measurement_draws_the_table_to_it_and_leaves_less_unknown():
    table = _uncertain(pf.spaces.get("mbv3-tiny"))
    archs = table.space.sample(30, seed=1)
    mean, std = table(archs, return_std=True)
    features = pf.costs.features.features(table.space, archs)
    values = mean + features @ table.posterior.root @ [1.0, -1.0, 0.5, 2.0, -1.5]
    after = table.updated(archs[:20], values[:20], noise=0.001)
    again, less = after(archs, return_std=True)
    assert np.abs(again - values)[20:].mean() < 0.5 * np.abs(mean - values)[20:].mean()
    # The misfit grows with the mean; what is unknown of the entries shrinks.
    assert (less**2 - (0.03 * again) ** 2 < std**2 - (0.03 * mean) ** 2).all()


def test_uncertain_tables_are_kept_in_files(tmp_path):
    table = _uncertain(pf.spaces.get("mbv3-tiny")).cautious(1.5)
    table.save(tmp_path / "table.json")
    again = pf.CostTable.load(tmp_path / "table.json")
    archs = table.space.sample(50, seed=0)
    np.testing.assert_array_equal(again(archs), table(archs))
    assert again.caution == 1.5


@pytest.mark.parametrize("sizes", [(160,), (192,), (128, 192)])
@pytest.mark.parametrize("caution", [0.0, 2.0])
def test_a_table_of_some_resolutions_costs_the_same(sizes, caution):
    everywhere = pf.spaces.get("mbv3-tiny", resolutions=(128, 160, 192))
    rng = np.random.default_rng(0)
    macs = pf.costs.macs(everywhere)
    root = 1e4 * rng.normal(size=(features.n_features(everywhere), 3))
    table = dataclasses.replace(macs, posterior=pf.costs.Posterior(root, 0.1)).cautious(caution)
    part = table.at(sizes)
    assert part.space.resolutions == sizes
    archs = part.space.sample(20, seed=1)
    dicts = [
        {**row, "r": [part.space.resolution_of(arch)]}
        for row, arch in zip(part.space.to_dicts(archs), archs, strict=True)
    ]
    expected = table(everywhere.from_dicts(dicts), return_std=True)
    np.testing.assert_allclose(part(archs, return_std=True), expected, rtol=1e-12)
    assert table.at((128, 160, 192)) is table
    for wrong in ((224,), ()):
        with pytest.raises(InvalidInputError, match="128, 160, 192"):
            table.at(wrong)


def test_a_fitted_table_says_its_std_and_keeps_it_in_a_small_file(tiny, tiny_table, tmp_path):
    archs = tiny.sample(400, seed=0, distribution="decisions")
    noisy = tiny_table(archs) * np.random.default_rng(0).normal(1, 0.03, 400)
    table = pf.costs.fit(tiny, archs, noisy, metric="latency", unit="ms")
    assert re.search(r"\n std 3\.\d% to 3\.\d%>$", repr(table))
    assert "costs are upper bounds, mean + 1.645 std" in repr(table.cautious(1.645))
    table.save(tmp_path / "table.json")
    loaded = pf.CostTable.load(tmp_path / "table.json")
    np.testing.assert_array_equal(loaded.posterior.root, table.posterior.root)
    np.testing.assert_array_equal(loaded(archs, return_std=True), table(archs, return_std=True))
    numbers = table.posterior.root.size
    assert (tmp_path / "table.json").stat().st_size < 6 * numbers + 60_000
    # Not of the kind that a fit rounds, and kept to the last bit.
    later = table.updated(archs[:5], noisy[:5], noise=0.01)
    later.save(tmp_path / "later.json")
    loaded = pf.CostTable.load(tmp_path / "later.json")
    np.testing.assert_array_equal(loaded.posterior.root, later.posterior.root)


def ones(posterior, number):
    return " ".join([number] * len(posterior["root"][0]["numbers"].split(" ")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.update(root="1 2 3"), "root should be a list of directions"),
        (lambda p: p.update(root=[[1.0, 2.0]]), "direction 0 of the root should be an object"),
        (lambda p: p["root"][0].update(numbers="1 2"), "numbers of direction 0 .* in one text"),
        (lambda p: p["root"][0].update(numbers=[1, 2]), "numbers of direction 0 .* in one text"),
        (lambda p: p["root"][1].update(unit=-1.0), "unit of direction 1"),
        (lambda p: p["root"][1].update(scale=1.0), "scale"),
        (lambda p: p.update(misfit="much"), "misfit"),
        (lambda p: p["root"][0].update(numbers=p["root"][0]["numbers"] + "x"), "numbers of"),
        (lambda p: p["root"][0].update(numbers="nan" + p["root"][0]["numbers"][1:]), "finite|nan"),
        (lambda p: p["root"][0].update(unit=1e308), "root should be finite"),
        (lambda p: p["root"][0].update(unit=0, numbers=ones(p, "inf")), "root should be finite"),
        (lambda p: p["root"][0].update(numbers=ones(p, "9" * 5000)), "root should be finite"),
        (lambda p: p["root"][0].update(numbers=ones(p, "1e200")), "wrong by more than 1e.150 MACs"),
        (lambda p: p.update(misfit=1e300), "wrong by more than"),
        (lambda p: p.update(floor=1e300), "wrong by more than"),
        (lambda p: p.update(floor=-1.0), "posterior floor"),
    ],
)
def test_a_file_whose_uncertainty_is_broken_is_refused(cell, tmp_path, change, message):
    macs = pf.costs.macs(cell)
    archs = cell.sample(200, seed=0)
    noisy = macs(archs) * np.random.default_rng(0).normal(1, 0.03, 200)
    table = pf.costs.fit(cell, archs, noisy, metric="macs", unit="MACs")
    document = table.to_json()
    change(document["posterior"])
    with pytest.raises(FileFormatError, match=message):
        pf.CostTable.from_json(document, "table.json")


def test_more_directions_than_features_say_the_same(cell):
    macs = pf.costs.macs(cell)
    n = features.n_features(cell)
    root = np.random.default_rng(0).normal(size=(n, 40 * n)) * 1e5
    table = dataclasses.replace(macs, posterior=pf.costs.Posterior(root, 0.01))
    read = pf.CostTable.from_json(table.to_json(), "table.json")
    assert read.posterior.root.shape == (n, n)
    archs = cell.sample(50, seed=0)
    np.testing.assert_allclose(
        read(archs, return_std=True), table(archs, return_std=True), rtol=1e-12
    )


def test_upper_bounds_have_no_windows(tiny, tiny_table):
    archs = tiny.sample(400, seed=0, distribution="decisions")
    noisy = tiny_table(archs) * np.random.default_rng(0).normal(1, 0.03, 400)
    table = pf.costs.fit(tiny, archs, noisy, metric="latency", unit="ms").cautious(2.0)
    for ask in (lambda w: tiny.sample(3, within=w), lambda w: tiny.count(within=w)):
        with pytest.raises(InvalidInputError, match=r"do not: use table\.mean"):
            ask((table, 1.0, 2.0))
        ask((table.mean, 1.0, 2.0))


def test_repeats_of_a_network_are_one_network_measured_better():
    table = _uncertain(pf.spaces.get("mbv3-tiny"))
    archs = table.space.sample(3, seed=1)
    values = table(archs) * np.array([1.1, 1.05, 1.2])
    # Ten measurements of the first, two of the second: their means are the values.
    rows = np.repeat([0, 1, 2], [10, 2, 1])
    wiggle = np.array([0.99, 1.01] * 6 + [1.0])
    repeated = table.updated(archs[rows], values[rows] * wiggle, noise=0.02)
    once = table.updated(archs, values, noise=0.02 / np.sqrt([10, 2, 1]))
    probe = table.space.sample(20, seed=2)
    for a, b in zip(repeated(probe, return_std=True), once(probe, return_std=True), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    assert len(table.updated(archs[:0], []).space.slots) == len(table.space.slots)


@pytest.mark.parametrize(
    ("values", "noise", "message"),
    [
        ([1e5, 0.0], 0.0, "values of row 1 should be above zero"),
        ([1e5, 1e5], [0.0, -0.1], "noise of row 1 should be from 0 to 1000"),
        ([1e5, 1e5], 1e200, "noise of row 0 should be from 0 to 1000"),
        ([1e5, 1e5], [0.1, 0.1, 0.1], "noise should be one number, or 2"),
    ],
)
def test_measurements_that_cannot_be_taken_in_are_named(values, noise, message):
    table = _uncertain(pf.spaces.get("mbv3-tiny"))
    with pytest.raises(InvalidInputError, match=message):
        table.updated(table.space.sample(2, seed=0), values, noise=noise)


def test_a_count_of_measurements_that_is_none_is_forgotten():
    table = dataclasses.replace(
        _uncertain(pf.spaces.get("mbv3-tiny")), provenance={"updated": "often"}
    )
    archs = table.space.sample(2, seed=0)
    later = table.updated(archs, table(archs)).updated(archs, table(archs))
    assert later.provenance["updated"] == 4
