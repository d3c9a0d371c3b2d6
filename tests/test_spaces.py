from __future__ import annotations

import concurrent.futures
import contextlib
import copy
import json
import multiprocessing
import pickle
import random
from pathlib import Path

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    MemoryShortageError,
    UnsupportedSpaceError,
)
from pnag_fast.spaces import mobilenetv3

ALL = [(name, {}) for name in pf.spaces.names()] + [
    ("ofa-mbv3", {"width": 1.2, "resolutions": (160, 192, 224)}),
    ("compofa-mbv3", {"kernel": "elastic"}),
]


@pytest.fixture(params=ALL, ids=lambda p: f"{p[0]}{p[1] or ''}")
def space(request):
    name, options = request.param
    return pf.spaces.get(name, **options)


def test_sizes_are_exact():
    per_stage = 9**2 + 9**3 + 9**4
    assert pf.spaces.get("ofa-mbv3").n_architectures == per_stage**5
    assert pf.spaces.get("ofa-mbv3").n_architectures > 2**64
    assert pf.spaces.get("ofa-mbv3", resolutions=(160, 224)).n_architectures == 2 * per_stage**5
    assert pf.spaces.get("compofa-mbv3").n_architectures == 3**5
    elastic = pf.spaces.get("compofa-mbv3", kernel="elastic")
    assert elastic.n_architectures == (3**2 + 3**3 + 3**4) ** 5
    assert pf.spaces.get("nasbench201").n_architectures == 5**6
    assert pf.spaces.get("mbv3-tiny").n_architectures == (9 + 9**2 + 9**3) ** 3


@pytest.mark.parametrize(
    ("name", "stem", "sizes", "channels"),
    [
        ("ofa-mbv3", (112, 16), [56, 28, 14, 14, 7], [24, 40, 80, 112, 160]),
        ("mbv3-cifar", (32, 8), [32, 16, 8, 8, 4], [16, 24, 40, 56, 80]),
        ("mbv3-tiny", (16, 8), [16, 8, 4], [8, 16, 24]),
    ],
)
def test_networks_shrink_and_widen_where_they_should(name, stem, sizes, channels):
    space = pf.spaces.get(name)
    network, resolution = space.network, space.resolutions[0]
    first = network.stem(resolution)
    assert (first.out_resolution, first.out_channels) == stem
    last_layers = [
        network.layer((stage + 1) * network.max_depth - 1, 1, resolution)
        for stage in range(network.n_stages)
    ]
    assert [layer.out_resolution for layer in last_layers] == sizes
    assert [layer.out_channels for layer in last_layers] == channels


def test_choices_are_ordered_kernel_major():
    slot = pf.spaces.get("ofa-mbv3").slots[0]
    assert slot.choices[:4] == ((3, 3), (3, 4), (3, 6), (5, 3))
    assert slot.choices[-1] == (7, 6)


@pytest.mark.parametrize("distribution", ["architectures", "decisions"])
def test_samples_are_valid_and_reproducible(space, distribution):
    archs = space.sample(500, seed=7, distribution=distribution)
    assert archs.shape == (500, space.n_slots)
    assert archs.dtype == np.uint8
    space.validate(archs)
    again = space.sample(500, seed=7, distribution=distribution, threads=1)
    np.testing.assert_array_equal(archs, again)
    assert (space.sample(500, seed=8, distribution=distribution) != archs).any()


def test_conversions_round_trip(space):
    archs = space.sample(200, seed=3)
    np.testing.assert_array_equal(space.from_dicts(space.to_dicts(archs)), archs)
    np.testing.assert_array_equal(space.from_strings(space.to_strings(archs)), archs)


def test_definition_round_trips_through_json(space, tmp_path):
    path = tmp_path / "space.json"
    space.save(path)
    loaded = pf.spaces.load(path)
    assert loaded == space
    assert loaded.fingerprint == space.fingerprint
    assert hash(loaded) == hash(space)
    np.testing.assert_array_equal(loaded.sample(50, seed=1), space.sample(50, seed=1))


def test_variation_stays_in_the_space(space):
    a, b = space.sample(300, seed=0), space.sample(300, seed=1)
    a.flags.writeable = b.flags.writeable = False
    for children in (space.mutate(a, rate=0.3, seed=2), space.crossover(a, b, seed=3)):
        space.validate(children)
        assert children.shape == a.shape
    np.testing.assert_array_equal(space.mutate(a, rate=0.0), a)
    np.testing.assert_array_equal(space.crossover(a, a), a)
    around = space.neighbors(a[0])
    space.validate(around)
    assert len(np.unique(around, axis=0)) == len(around)
    assert not (around == a[0]).all(axis=1).any()


def test_batches_into_arrays_of_the_caller():
    space = pf.spaces.get("ofa-mbv3")
    table = pf.costs.macs(space)
    a, b = space.sample(3000, seed=0), space.sample(3000, seed=1)
    calls = [
        lambda **into: space.sample(3000, seed=2, **into),
        lambda **into: space.sample(3000, seed=2, distribution="decisions", **into),
        lambda **into: space.sample(3000, seed=2, within=(table, 240e6, 241e6), **into),
        lambda **into: space.mutate(a, rate=0.3, seed=2, **into),
        lambda **into: space.crossover(a, b, seed=2, **into),
    ]
    read_only = np.empty_like(a)
    read_only.flags.writeable = False
    memory = np.full((3200, 20), 99, np.uint8)
    for call in calls:
        expected = call()
        out = memory[100:3100]
        assert call(out=out) is out
        np.testing.assert_array_equal(out, expected)
        assert (memory[:100] == 99).all()
        assert (memory[3100:] == 99).all()
        for wrong, error, message in [
            (memory[:2999], InvalidInputError, r"out has shape \(2999, 20\); .* \(3000, 20\)"),
            (memory.reshape(-1, 40)[:1500], InvalidInputError, r"out has shape \(1500, 40\)"),
            (memory[0], InvalidTypeError, "out has 1 dimensions"),
            (np.empty((3000, 20), np.int8), InvalidTypeError, "out has dtype int8"),
            (np.empty((20, 3000), np.uint8).T, InvalidTypeError, "out is not C-contiguous"),
            (np.empty((3000, 40), np.uint8)[:, :20], InvalidTypeError, "out is not C-contiguous"),
            (read_only, InvalidTypeError, "out is read-only"),
            ([[0]], InvalidTypeError, "out is a list"),
        ]:
            with pytest.raises(error, match=message):
                call(out=wrong)
    memory[:3000], memory[200:] = a, a
    for shared in (memory[:3000], memory[199:3199]):
        archs = memory[:3000]
        with pytest.raises(InvalidInputError, match="out shares memory with archs"):
            space.mutate(archs, out=shared)
        with pytest.raises(InvalidInputError, match="out shares memory with a$"):
            space.crossover(archs, b, out=shared)
        with pytest.raises(InvalidInputError, match="out shares memory with b$"):
            space.crossover(b, archs, out=shared)
    assert space.sample(0, out=memory[:0]).shape == (0, 20)


def test_notation_of_once_for_all():
    space = pf.spaces.get("ofa-mbv3")
    text = (
        "2,3,2,4,3:5,7,0,0,3,3,3,0,5,5,0,0,7,3,3,3,5,5,5,0:4,3,0,0,4,6,3,0,4,3,0,0,3,6,6,6,4,3,4,0"
    )
    archs = space.from_strings([text])
    (row,) = space.to_dicts(archs)
    assert row["d"] == [2, 3, 2, 4, 3]
    assert row["ks"][:4] == [5, 7, 0, 0]
    assert row["e"][:4] == [4, 3, 0, 0]
    assert row["r"] == [224]
    assert space.to_strings(archs) == [text]
    # Once-for-All's own dictionaries hold values for absent layers too; they do not matter.
    full = {"d": row["d"], "ks": [k or 3 for k in row["ks"]], "e": [e or 6 for e in row["e"]]}
    np.testing.assert_array_equal(space.from_dicts([full]), archs)


def test_notation_of_nasbench201():
    space = pf.spaces.get("nasbench201")
    text = (
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|"
        "+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    )
    archs = space.from_strings([text])
    assert archs.tolist() == [[5, 3, 2, 3, 2, 2]]
    assert space.to_strings(archs) == [text]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1:2:3", "5 depths"),
        ("2,2,2,2,9:" + ",".join(["3"] * 20) + ":" + ",".join(["3"] * 20), "depth 9"),
        ("2,2,2,2,2:" + ",".join(["4"] * 20) + ":" + ",".join(["3"] * 20), "kernel 4"),
        ("2,2,2,2,1:" + ",".join(["3"] * 20) + ":" + ",".join(["3"] * 20), "not an architecture"),
        ("nonsense", "expected 'd:ks:e'"),
        ("a,b,c,d,e:" + ",".join(["3"] * 20) + ":" + ",".join(["3"] * 20), "integers"),
    ],
)
def test_bad_strings_are_named(row, message):
    with pytest.raises(InvalidInputError, match=message):
        pf.spaces.get("ofa-mbv3").from_strings([row])


def test_bad_rows_are_named():
    space = pf.spaces.get("ofa-mbv3")
    archs = space.sample(10, seed=0)
    archs[4, 17] = 10
    with pytest.raises(
        InvalidInputError, match=r"row 4 .* slot 17 \('stage5.layer2'\) has code 10"
    ):
        space.validate(archs)
    archs = space.sample(10, seed=0)
    archs[2, 0] = 0
    with pytest.raises(InvalidInputError, match="row 2 .* slot 0"):
        space.validate(archs)


def test_arrays_of_another_kind_are_refused():
    space = pf.spaces.get("mbv3-tiny")
    archs = space.sample(4, seed=0)
    for bad in (archs.astype(np.int64), archs[:, :-1].copy(), archs[0], np.asfortranarray(archs)):
        with pytest.raises((InvalidTypeError, InvalidInputError)):
            space.validate(bad)


@pytest.mark.parametrize(
    "options",
    [
        {"width": 0.0},
        {"resolutions": ()},
        {"resolutions": (224, 224)},
        {"resolutions": (1,)},
        {"classes": 1},
        {"depth": 3},
    ],
)
def test_bad_options_are_refused(options):
    with pytest.raises(InvalidInputError):
        pf.spaces.get("ofa-mbv3", **options)
    with pytest.raises(InvalidInputError, match="unknown search space 'resnet'"):
        pf.spaces.get("resnet")


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(InvalidInputError, match="seed"):
        pf.spaces.get("nasbench201").sample(1, seed=seed)


def test_enumeration_of_small_spaces(cell):
    archs = cell.enumerate()
    assert len(np.unique(archs, axis=0)) == 5**6
    compound = pf.spaces.get("compofa-mbv3")
    assert len(np.unique(compound.enumerate(), axis=0)) == 243
    with pytest.raises(InvalidInputError, match="sample"):
        pf.spaces.get("ofa-mbv3").enumerate()


def test_compofa_is_part_of_ofa():
    ofa, compound = pf.spaces.get("ofa-mbv3"), pf.spaces.get("compofa-mbv3")
    ofa.validate(compound.enumerate())
    assert compound.fingerprint == ofa.fingerprint
    rows = compound.to_dicts(compound.enumerate())
    assert {(tuple(r["d"]), tuple(r["e"])) for r in rows if r["d"][0] == 2}
    for row in rows[::17]:
        for stage, depth in enumerate(row["d"]):
            expand = {2: 3, 3: 4, 4: 6}[depth]
            assert row["e"][4 * stage : 4 * stage + depth] == [expand] * depth
            assert set(row["ks"][4 * stage : 4 * stage + depth]) == {(3, 5, 3, 3, 5)[stage]}


def test_blocks_of_a_network():
    space = pf.spaces.get("ofa-mbv3")
    layers = space.layers(
        space.from_strings(["2,2,2,2,2:" + ("3,3,0,0," * 5)[:-1] + ":" + ("6,6,0,0," * 5)[:-1]])[0]
    )
    assert len(layers) == 3 + 10
    assert [b.resolution for b in layers] == [224, 112, 112, 56, 56, 28, 28, 14, 14, 14, 14, 7, 7]
    assert layers[2].stride == 2
    assert not layers[2].residual
    assert layers[3].residual


USER_SPACE = {
    "format": "pnag-space",
    "version": 1,
    "space": {
        "name": "mine",
        "stages": [
            {
                "name": "body",
                "min_depth": 1,
                "slots": [
                    {"name": "a", "factors": [["width", [8, 16]], ["op", ["conv", "pool"]]]},
                    {"name": "b", "choices": ["x", "y", "z"]},
                ],
            },
            {"name": "tail", "rows": [[1, 2], [2, 0]], "slots": [{"choices": [1, 2]}] * 2},
        ],
    },
}


def test_a_user_writes_a_space(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(USER_SPACE))
    space = pf.spaces.load(path)
    assert space.n_architectures == (4 + 4 * 3) * 2
    archs = space.enumerate()
    np.testing.assert_array_equal(space.from_dicts(space.to_dicts(archs)), archs)
    np.testing.assert_array_equal(space.from_strings(space.to_strings(archs)), archs)
    assert space.to_dicts(archs[:1])[0]["a"] == {"width": 8, "op": "conv"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format="other"), "not a pnag-space file"),
        (lambda d: d.update(version=99), "upgrade"),
        (lambda d: d["space"].pop("stages"), "stages"),
        (lambda d: d["space"].update(name=3), "name"),
        (lambda d: d["space"]["stages"][0].update(min_depth=3), "depth"),
        (lambda d: d["space"]["stages"][0].update(slots=[]), "slot"),
        (lambda d: d["space"]["stages"][1].update(rows=[[1, 9]]), "9"),
        (lambda d: d["space"]["stages"][1].update(rows=[[0, 1]]), "row"),
        (lambda d: d["space"]["stages"][1].update(rows=[]), "'rows' should be a non-empty list"),
        (lambda d: d["space"]["stages"][1].update(rows="12"), "'rows' should be a non-empty list"),
        (lambda d: d["space"]["stages"][0]["slots"][1].update(choices=["x", "x"]), "distinct"),
        (lambda d: d["space"]["stages"][0]["slots"][1].update(name="a"), "more than once"),
        (
            lambda d: d["space"]["stages"][0]["slots"][0].update(factors=[["w", [1]], ["w", [2]]]),
            "same name",
        ),
    ],
)
def test_bad_space_files_are_refused(tmp_path, change, message):
    document = json.loads(json.dumps(USER_SPACE))
    change(document)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match=message):
        pf.spaces.load(path)


# --- windows of cost ------------------------------------------------------------------------------


def random_table(space, seed=0, reduce="sum"):
    rng = np.random.default_rng(seed)
    n_contexts = max(1, len(space.resolutions)) if space.resolution_slot is not None else 1
    entries = rng.uniform(0.5, 2.0, (n_contexts, space.n_slots, max(space.n_codes)))
    entries[:, :, 0] = 0.0
    if space.resolution_slot is not None:
        entries[:, space.resolution_slot] = 0.0
    constants = np.linspace(5.0, 9.0, n_contexts)
    return pf.CostTable.build(
        space,
        metric="latency",
        unit="ms",
        device="made up",
        constants=constants,
        entries=entries,
        reduce=reduce,
    )


def assert_uniform(counts):
    """Chi-square within five standard deviations of its mean."""
    expected = counts.sum() / counts.size
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - (counts.size - 1)) < 5 * np.sqrt(2 * counts.size) + 5


def row_keys(archs):
    return np.ascontiguousarray(archs).view(f"V{archs.shape[1]}").ravel()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("compofa-mbv3", {}),
        ("compofa-mbv3", {"resolutions": (160, 192, 224)}),
        ("nasbench201", {}),
    ],
)
@pytest.mark.parametrize("window", [(0.2, 0.8), (0.0, 0.05), (0.97, 1.0), (0.5, 0.52), (0, 1)])
def test_windows_against_enumeration(name, options, window):
    space = pf.spaces.get(name, **options)
    table = random_table(space)
    archs = space.enumerate()
    costs = table(archs)
    low, high = np.quantile(costs, window)
    inside = archs[(costs >= low) & (costs <= high)]
    within = (table, low, high)
    assert space.count(within=within) == pf.spaces.WindowCount(len(inside), len(inside), 0.0)
    n = 50 * len(inside)
    drawn = space.sample(n, within=within, seed=3, threads=1)
    np.testing.assert_array_equal(space.sample(n, within=within, seed=3, threads=3), drawn)
    np.testing.assert_array_equal(space.sample(7, within=within, seed=3), drawn[:7])
    assert (space.sample(n, within=within, seed=4) != drawn).any() or len(inside) == 1
    drawn_costs = table(drawn)
    assert drawn_costs.min() >= low
    assert drawn_costs.max() <= high
    _, counts = np.unique(np.concatenate([row_keys(inside), row_keys(drawn)]), return_counts=True)
    assert len(counts) == len(inside)
    assert_uniform(counts - 1)


def test_windows_of_a_binned_space_against_rejection(tiny):
    # Three units, two of them binned. 819^3 architectures are too many to count one by one: costs
    # and codes are compared with those of plain samples that lie in the window.
    space = tiny
    table = random_table(space, 1)
    plain = space.sample(400_000, seed=1)
    costs = table(plain)
    for low_share, high_share in ((0.3, 0.31), (0.0005, 0.01), (0.2, 0.9), (0.5, 0.5002)):
        low, high = np.quantile(costs, [low_share, high_share])
        kept = plain[(costs >= low) & (costs <= high)]
        drawn = space.sample(40_000, within=(table, low, high), seed=2)
        space.validate(drawn)
        drawn_costs = table(drawn)
        assert drawn_costs.min() >= low
        assert drawn_costs.max() <= high
        count = space.count(within=(table, low, high))
        share = count.estimate / space.n_architectures
        spread = 5 * np.sqrt(share / len(plain)) + (count.upper - count.lower) / float(
            space.n_architectures
        )
        assert abs(share - len(kept) / len(plain)) < spread
        if len(kept) < 2000:
            continue
        # Two samples of the same distribution: costs (Kolmogorov and Smirnov), codes (chi-square).
        assert ks_distance(table(kept), drawn_costs) < 2.0 * np.sqrt(1 / len(kept) + 1 / 40_000)
        for slot in range(space.n_slots):
            a = np.bincount(kept[:, slot], minlength=10)
            b = np.bincount(drawn[:, slot], minlength=10)
            pooled = (a + b) / (a.sum() + b.sum())
            used = pooled > 0
            statistic = sum(
                ((x - x.sum() * pooled)[used] ** 2 / (x.sum() * pooled)[used]).sum() for x in (a, b)
            )
            assert statistic < 9 + 5 * np.sqrt(18) + 5


@pytest.mark.parametrize("name", ["mbv3-tiny", "ofa-mbv3"])
def test_every_architecture_of_a_small_window_is_equally_likely(name):
    # At the cheap end a window of a binned space holds few enough to see each of them often.
    space = pf.spaces.get(name)
    table = random_table(space, 4)
    low, high = table.bounds[0], table.bounds[0] + 1.0
    while space.count(within=(table, low, high)).lower > 4000:
        high = low + (high - low) * 0.9
    count = space.count(within=(table, low, high))
    assert count.exact
    drawn = space.sample(100 * count.lower, within=(table, low, high), seed=6)
    _, counts = np.unique(row_keys(drawn), return_counts=True)
    assert len(counts) == count.lower
    assert_uniform(counts)


def inside_by_halves(costs, low, high):
    """Codes of four slots whose costs sum to a window, from sorted sums of two and two."""
    n = len(costs[0])
    first = np.add.outer(costs[0], costs[1]).ravel()
    second = np.add.outer(costs[2], costs[3]).ravel()
    order = np.argsort(second)
    begin = np.searchsorted(second[order], low - first, side="left")
    count = np.searchsorted(second[order], high - first, side="right") - begin
    a = np.repeat(np.arange(first.size), count)
    b = order[np.arange(count.sum()) + np.repeat(begin - (np.cumsum(count) - count), count)]
    return np.stack([a // n, a % n, b // n, b % n], axis=1).astype(np.uint8) + 1


@pytest.mark.parametrize(
    ("n_contexts", "step", "jitter", "width"),
    [
        (1, 0.0, 0.0, 6e-3),
        (2, 0.0, 0.0, 6e-3),
        (1, 0.0, 0.0, 1e-3),
        (2, 0.005, 1e-5, 3e-5),
        (1, 1.0, 0.0, 0.0),
    ],
    ids=["narrow", "contexts", "listed", "clusters", "whole numbers"],
)
def test_windows_narrower_than_bins_are_uniform(n_contexts, step, jitter, width):
    # Four slots of 130 choices are four units of which two or three are binned. All architectures
    # of the window are known; they are too many to see each one, so they are counted by groups.
    rng = np.random.default_rng(8)
    costs = rng.uniform(0.0, 1.0, (n_contexts, 5, 131))
    if step == 1.0:
        costs = np.floor(costs * 50)
    elif step > 0.0:
        costs = np.floor(costs / step) * step + rng.uniform(0.0, jitter, costs.shape)
    costs[:, 4] = 0.0
    core = pf._core.Space([([130], 1, None)] * 4 + [([n_contexts], 1, None)])
    constants = np.arange(n_contexts) * (1.0 if step == 1.0 else 0.1)
    n_codes = [131] * 4 + [n_contexts + 1]
    windows = pf._core.WindowSampler(core, costs, constants, 4, n_codes)
    tables = pf._core.CostTables(costs[None], constants[None], [False], 4, n_codes)
    low = float(np.median(tables.lookup(core.sample(100_001, 0, False, 1), 1)))
    if step > 0.0:
        low = np.floor(low / step) * step
    high = low + width
    inside = []
    for k in range(n_contexts):
        # A little more than the window, then to the last bit.
        rows = inside_by_halves(
            costs[k, :4, 1:], low - constants[k] - 1e-9, high - constants[k] + 1e-9
        )
        inside.append(np.column_stack([rows, np.full(len(rows), k + 1, np.uint8)]))
    inside = np.concatenate(inside)
    found = tables.lookup(inside, 1)[:, 0]
    inside = inside[(found >= low) & (found <= high)]
    lower, upper, _ = windows.count(low, high, 2)
    assert lower <= len(inside) <= upper
    n = 200_000
    drawn = windows.sample(n, low, high, 7, 1)
    np.testing.assert_array_equal(windows.sample(n, low, high, 7, 2), drawn)
    found = tables.lookup(drawn, 1)[:, 0]
    assert found.min() >= low
    assert found.max() <= high
    weights = rng.integers(1, 2**60, 5, dtype=np.uint64)
    groups = [
        lambda rows: (rows @ weights) % 997,
        lambda rows: (tables.lookup(rows, 1)[:, 0] - low) // ((width or 1.0) / 50),
        *[lambda rows, slot=slot: rows[:, slot] for slot in range(5)],
        lambda rows: rows[:, 0].astype(int) // 20 * 10 + rows[:, 3] // 20,
    ]
    for group in groups:
        names, expected = np.unique(group(inside), return_counts=True)
        at = np.searchsorted(names, group(drawn))
        assert (names[at] == group(drawn)).all()
        counts = np.bincount(at, minlength=len(names))
        expected = expected * (n / len(inside))
        # Groups of few are joined to one.
        few = expected < 10
        counts = np.append(counts[~few], counts[few].sum())
        expected = np.append(expected[~few], expected[few].sum() + 1e-9)
        chi_square = ((counts - expected) ** 2 / np.maximum(expected, 1e-3)).sum()
        assert chi_square < len(counts) + 5 * np.sqrt(2 * len(counts)) + 5


def test_windows_down_to_nothing_end():
    space = pf.spaces.get("ofa-mbv3")
    table = random_table(space, 3)
    low = float(np.median(table(space.sample(10_000, seed=1))))
    for width in (1e-5, 1e-7):
        drawn = space.sample(2000, within=(table, low, low + width), seed=1)
        found = table(drawn)
        assert low <= found.min() <= found.max() <= low + width
        assert len(np.unique(row_keys(drawn))) > 1990
    # 10^20 architectures do not fill all doubles; this window may hold none or a few hundred.
    with pytest.raises(InvalidInputError, match="all but empty"):
        space.sample(10, within=(table, low, np.nextafter(low, np.inf)), seed=1)


def ks_distance(a, b):
    both = np.sort(np.concatenate([a, b]))
    cdf = [np.searchsorted(np.sort(x), both, side="right") / len(x) for x in (a, b)]
    return float(np.abs(cdf[0] - cdf[1]).max())


@pytest.mark.parametrize("resolutions", [(224,), (160, 224)])
def test_the_whole_range_is_plain_uniform(resolutions):
    space = pf.spaces.get("ofa-mbv3", resolutions=resolutions)
    table = random_table(space, 2)
    within = (table, table.bounds[0] - 1.0, table.bounds[1] + 1.0)
    assert space.count(within=within).lower == space.n_architectures
    assert space.count(within=within).exact
    drawn = space.sample(300_000, within=within, seed=5)
    indices = space._core.rank(drawn, 1)
    for stage in range(5):
        assert_uniform(np.bincount(indices[:, stage], minlength=7371))
    coarse = indices[:, :5] * 6 // 7371
    for a in range(4):
        assert_uniform(np.bincount(coarse[:, a] * 6 + coarse[:, a + 1], minlength=36)[:35])
    if len(resolutions) > 1:
        assert_uniform(np.bincount(indices[:, 5], minlength=2))


def test_narrow_windows_and_extremes_of_a_large_space():
    space = pf.spaces.get("ofa-mbv3")
    table = random_table(space, 3)
    costs = np.sort(table(space.sample(10_000, seed=1)))
    for low, width in (
        (costs[5000], 1e-2),
        (costs[5000], 1e-4),
        (costs[0], 1e-3),
        (table.bounds[0], 0.05),
        (table.bounds[1] - 0.05, 0.1),
        (table.bounds[0], 0.0),
    ):
        drawn = space.sample(500, within=(table, low, low + width), seed=1)
        space.validate(drawn)
        found = table(drawn)
        assert found.min() >= low
        assert found.max() <= low + width
        count = space.count(within=(table, low, low + width))
        assert count.upper > 0
        assert count.lower <= count.estimate <= count.upper
        assert count.exact == (count.tolerance == 0.0)
    np.testing.assert_array_equal(drawn, np.tile(table.cheapest(), (500, 1)))


def test_counts_of_whole_numbers_add_up():
    space = pf.spaces.get("ofa-mbv3")
    table = pf.costs.parameters(space)
    low, high = table.bounds
    middle = np.floor((low + high) / 2)
    whole = space.count(within=(table, low, high))
    assert (whole.lower, whole.tolerance) == (space.n_architectures, 0.0)
    parts = [
        space.count(within=(table, low, middle)),
        space.count(within=(table, middle + 1, high)),
    ]
    assert sum(p.lower for p in parts) <= space.n_architectures <= sum(p.upper for p in parts)
    assert abs(sum(p.estimate for p in parts) - space.n_architectures) < 0.01 * whole.lower


def test_impossible_windows_are_refused(cell):
    table = random_table(cell)
    low, high = table.bounds
    other = random_table(pf.spaces.get("compofa-mbv3"))
    costs = np.unique(table(cell.enumerate()))
    gap = int(np.argmax(np.diff(costs)))
    between = (costs[gap] * 0.6 + costs[gap + 1] * 0.4, costs[gap] * 0.4 + costs[gap + 1] * 0.6)
    for within, message in [
        ((table, low - 2, low - 1), "costs reach from"),
        ((table, high + 1, high + 2), "no architecture costs"),
        ((table, *between), "nearest to this window"),
        ((table, high, low), "must not be above"),
        ((table, np.nan, high), "low end of within= should be a number"),
        ((table, np.inf, np.inf), "no architecture costs inf"),
        ((table, -np.inf, -np.inf), "no architecture costs -inf"),
        ((table, -np.inf, low - 1), "costs reach from"),
        ((table, "x", high), "low end of within= should be a number"),
        ((table, low, 10**400), "high end of within= should be a number"),
        ((None, 0, 1), "with a cost table"),
        ((cell, 0, 1), "with a cost table"),
        (table, "takes"),
        ((other, low, high), "is for space 'compofa-mbv3'"),
        ((random_table(cell, reduce="max"), low, high), "reduce='max'"),
        ((table, low), "takes"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            cell.sample(1, within=within)
    assert cell.count(within=(table, *between)).upper == 0
    with pytest.raises(InvalidInputError, match="distribution"):
        cell.sample(1, within=(table, low, high), distribution="decisions")
    with pytest.raises(InvalidInputError, match="seed"):
        cell.sample(1, within=(table, low, high), seed=-1)
    with pytest.raises(MemoryShortageError, match=r"2\^64 bytes"):
        cell.sample(2**62, within=(table, low, high))
    assert cell.sample(0, within=(table, low, high)).shape == (0, 6)


def test_cells_that_compute_the_same_have_the_same_features():
    cell = pf.spaces.get("nasbench201")
    n, s, a, b, p = "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"

    def features(*edges):
        row = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*edges)
        return cell.features(cell.from_strings([row]))[0]

    # Node 2 leads nowhere; node 1 is fed by nothing; nodes 1 and 2 change places.
    np.testing.assert_array_equal(features(a, b, p, s, b, n), features(a, n, n, s, b, n))
    np.testing.assert_array_equal(features(n, b, p, s, b, a), features(n, b, n, s, n, a))
    np.testing.assert_array_equal(features(a, b, n, s, p, s), features(b, a, n, s, s, p))
    # An edge between the nodes tells them apart, and so does an operation that is alive.
    assert (features(a, b, s, s, p, s) != features(b, a, s, s, s, p)).any()
    assert (features(a, b, p, s, b, a) != features(a, b, p, s, b, b)).any()
    assert features(n, n, n, n, n, n)[-1] == 0
    assert pf.spaces.get("ofa-mbv3").features is None


# --- what users pass ------------------------------------------------------------------------------


def public_calls():
    """Every public function of the spaces, with one argument left open."""
    cell = pf.spaces.get("nasbench201")
    tiny = pf.spaces.get("mbv3-tiny", resolutions=(32, 48))
    table = random_table(cell)
    archs = cell.sample(2)
    mine = pf.spaces.from_definition(json.loads(json.dumps(USER_SPACE))["space"])
    return {
        "get": pf.spaces.get,
        "get width": lambda v: pf.spaces.get("mbv3-tiny", width=v),
        "get classes": lambda v: pf.spaces.get("mbv3-tiny", classes=v),
        "get resolutions": lambda v: pf.spaces.get("mbv3-tiny", resolutions=v),
        "get one resolution": lambda v: pf.spaces.get("mbv3-tiny", resolutions=[v]),
        "get kernel": lambda v: pf.spaces.get("compofa-mbv3", kernel=v),
        "get unknown": lambda v: pf.spaces.get("nasbench201", width=v),
        "find": pf.spaces.find,
        "find width": lambda v: pf.spaces.find("mbv3-tiny", width=v),
        "from_definition": pf.spaces.from_definition,
        "from_definition stages": lambda v: pf.spaces.from_definition({"name": "x", "stages": v}),
        "network": lambda v: pf.spaces.MobileNetV3(strides=v),
        "network classes": lambda v: pf.spaces.MobileNetV3(classes=v),
        "sample n": cell.sample,
        "sample seed": lambda v: cell.sample(1, seed=v),
        "sample distribution": lambda v: cell.sample(1, distribution=v),
        "sample within": lambda v: cell.sample(1, within=v),
        "sample table": lambda v: cell.sample(1, within=(v, 0, 1)),
        "sample low": lambda v: cell.sample(1, within=(table, v, 1e9)),
        "sample high": lambda v: cell.sample(1, within=(table, 0, v)),
        "sample out": lambda v: cell.sample(2, out=v),
        "sample threads": lambda v: cell.sample(1, threads=v),
        "count": lambda v: cell.count(within=v),
        "count low": lambda v: cell.count(within=(table, v, 1e9)),
        "mutate": cell.mutate,
        "mutate rate": lambda v: cell.mutate(archs, rate=v),
        "mutate seed": lambda v: cell.mutate(archs, seed=v),
        "mutate out": lambda v: cell.mutate(archs, out=v),
        "crossover": lambda v: cell.crossover(v, archs),
        "crossover seed": lambda v: cell.crossover(archs, archs, seed=v),
        "crossover out": lambda v: cell.crossover(archs, archs, out=v),
        "neighbors": cell.neighbors,
        "enumerate": lambda v: cell.enumerate(threads=v),
        "validate": cell.validate,
        "to_dicts": cell.to_dicts,
        "to_strings": cell.to_strings,
        "from_dicts": cell.from_dicts,
        "from_dicts row": lambda v: cell.from_dicts([v]),
        "from_dicts value": lambda v: cell.from_dicts([cell.to_dicts(archs)[0] | {"1<-0": v}]),
        "from_dicts depth": lambda v: tiny.from_dicts(
            [tiny.to_dicts(tiny.sample(1))[0] | {"d": v}]
        ),
        "from_dicts one depth": lambda v: tiny.from_dicts(
            [tiny.to_dicts(tiny.sample(1))[0] | {"d": [v] * 3}]
        ),
        "from_dicts size": lambda v: tiny.from_dicts([tiny.to_dicts(tiny.sample(1))[0] | {"r": v}]),
        "from_dicts mine": lambda v: mine.from_dicts([{"a": v, "c": {"choice": 1}}]),
        "from_dicts mine value": lambda v: mine.from_dicts([{"a": {"width": v, "op": "conv"}}]),
        "from_dicts mine row": lambda v: mine.from_dicts([v]),
        "from_strings": cell.from_strings,
        "from_strings row": lambda v: cell.from_strings([v]),
        "from_strings tiny": lambda v: tiny.from_strings([v]),
        "from_strings mine": lambda v: mine.from_strings([v]),
        "resolution_of": tiny.resolution_of,
        "with_classes": tiny.with_classes,
        "layers": tiny.layers,
    }


@pytest.mark.parametrize("name", public_calls())
def test_odd_arguments_raise_our_own_errors_only(name, odd_values, refusal):
    call = public_calls()[name]
    refusals = [message for value in odd_values() if (message := refusal(call, value))]
    assert all(message.isprintable() and len(message) < 1000 for message in refusals)
    assert len(refusals) > 20


def test_other_objects_than_spaces_are_equal_to_none(odd_values):
    space = pf.spaces.get("nasbench201")
    assert not any(space == value for value in odd_values() if type(value).__name__ != "Hostile")


def test_more_rows_than_memory_are_refused_at_once():
    space = pf.spaces.get("ofa-mbv3")
    for call in (
        lambda: space.sample(10**13),
        lambda: space.sample(10**30),
        lambda: space.sample(10**13, within=(pf.costs.macs(space), 0, np.inf)),
    ):
        with pytest.raises(MemoryShortageError, match=r"20 slots would take .* of memory"):
            call()
    with pytest.raises(InvalidInputError, match="out has shape"):
        space.sample(10**13, out=np.empty((1, 20), np.uint8))


def test_masked_rows_are_no_architectures():
    space = pf.spaces.get("nasbench201")
    archs = space.sample(3, seed=0)
    masked = np.ma.masked_array(archs, mask=[[0] * 6, [1] * 6, [0] * 6])
    table = pf.costs.macs(space)
    for call in (
        space.validate,
        space.mutate,
        space.to_strings,
        lambda rows: space.crossover(archs, rows),
        lambda rows: space.neighbors(rows[1]),
        lambda rows: space.sample(3, out=rows),
        table,
        pf.costs.stack([table]),
    ):
        with pytest.raises(InvalidTypeError, match="6 masked entries"):
            call(masked)
    np.testing.assert_array_equal(table(np.ma.masked_array(archs)), table(archs))


def test_memory_maps_are_architectures(tmp_path):
    space = pf.spaces.get("nasbench201")
    np.save(tmp_path / "archs.npy", space.sample(3, seed=0))
    space.validate(np.load(tmp_path / "archs.npy", mmap_mode="r"))


@pytest.mark.parametrize("name", ["nasbench201", "ofa-mbv3"])
def test_windows_with_an_open_side(name):
    space = pf.spaces.get(name)
    table = random_table(space)
    low, high = table.bounds
    middle = 0.45 * low + 0.55 * high
    cheap = space.sample(300, within=(table, -np.inf, middle), seed=1)
    dear = space.sample(300, within=(table, middle, np.inf), seed=1)
    assert table(cheap).max() <= middle <= table(dear).min()
    if name == "nasbench201":
        costs = table(space.enumerate())
        assert space.count(within=(table, -np.inf, middle)).estimate == (costs <= middle).sum()
        assert space.count(within=(table, middle, np.inf)).estimate == (costs >= middle).sum()
    everything = space.count(within=(table, -np.inf, np.inf))
    assert everything.lower == everything.upper == space.n_architectures
    counted = pf.costs.macs(space)
    assert space.count(within=(counted, -np.inf, np.inf)).estimate == space.n_architectures


# --- notations ------------------------------------------------------------------------------------


def test_dictionaries_are_never_rounded():
    space = pf.spaces.get("ofa-mbv3", resolutions=(160, 224))
    archs = space.sample(1, seed=5)
    (row,) = space.to_dicts(archs)
    for key, bad in [
        ("d", [2.9, 3, 4, 2, 3]),
        ("d", "23423"),
        ("d", [True, 3, 4, 2, 3]),
        ("d", [2, 3]),
        ("d", {2, 3, 4}),
        ("d", np.array([2.0, 3, 4, 2, 3])),
        ("ks", [3.7] * 20),
        ("ks", ["3"] * 20),
        ("e", np.ma.masked_array([3] * 20, mask=[1] * 20)),
        ("r", [224.0]),
        ("r", "224"),
        ("r", True),
        ("r", [160, 224]),
        ("r", [200]),
        ("wid", 1),
        ("depth", [2] * 5),
    ]:
        with pytest.raises((InvalidInputError, InvalidTypeError), match="row 0|masked"):
            space.from_dicts([row | {key: bad}])
    for key in ("d", "ks", "e"):
        with pytest.raises(InvalidInputError, match=f"row 0: '{key}' is missing"):
            space.from_dicts([{k: v for k, v in row.items() if k != key}])
    with pytest.raises(InvalidInputError, match="'dd'.*did you mean 'd'"):
        space.from_dicts([row | {"dd": [2] * 5}])
    for good in (
        {key: np.array(value) for key, value in row.items()},
        {key: tuple(map(np.int8, value)) for key, value in row.items() if key != "r"}
        | {"r": np.int64(row["r"][0])},
        row | {"wid": None},
    ):
        np.testing.assert_array_equal(space.from_dicts([good]), archs)
        np.testing.assert_array_equal(space.from_dicts(np.array([good])), archs)


def test_values_of_a_users_space_are_compared_with_their_type():
    definition = {
        "name": "mine",
        "stages": [{"slots": [{"name": "a", "factors": [["se", [False, True]], ["k", [0, 1]]]}]}],
    }
    space = pf.spaces.from_definition(definition)
    np.testing.assert_array_equal(space.from_dicts([{"a": {"se": True, "k": np.int64(0)}}]), [[3]])
    for bad in (
        {"se": 1, "k": 0},
        {"se": True, "k": False},
        {"se": True},
        {"se": True, "k": 0, "l": 0},
        {"se": True, "k": 0.5},
        [True, 0],
    ):
        with pytest.raises(InvalidInputError, match="row 0"):
            space.from_dicts([{"a": bad}])


def test_strings_hold_plain_digits_only():
    space = pf.spaces.get("mbv3-tiny")
    mine = pf.spaces.from_definition(
        {"name": "m", "stages": [{"slots": [{"choices": [1, 2]}] * 2}]}
    )
    archs = space.sample(1, seed=5)
    (text,) = space.to_strings(archs)
    spaced = text.replace(",", ", ") + "\n"
    np.testing.assert_array_equal(space.from_strings([spaced]), archs)
    np.testing.assert_array_equal(space.from_strings(np.array([text])), archs)
    depths, rest = text.split(":", 1)
    for bad in ("٣,1,1", "+3,1,1", "0_3,1,1", "3.0,1,1", "9" * 5000 + ",1,1", "1,1", "1,1,1,1"):
        with pytest.raises(InvalidInputError, match="row 0: ") as caught:
            space.from_strings([f"{bad}:{rest}"])
        assert len(str(caught.value)) < 300
    assert depths.count(",") == 2
    for bad in ("1,٢", "1,9999999999", "1,99", "1", "1,1,1", ",", ""):
        with pytest.raises(InvalidInputError, match="row 0"):
            mine.from_strings([bad])


# --- definitions ----------------------------------------------------------------------------------


@contextlib.contextmanager
def bounded_memory(n_bytes=300_000_000):
    """Let whatever asks for more address space than this fail with a `MemoryError`."""
    resource = pytest.importorskip("resource")
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("the size of the process is not known here")
    used = int(statm.read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize(
    ("where", "key", "message"),
    [
        ((), "spaces", "'spaces'.*did you mean 'space'"),
        (("space",), "stage", "'stage'.*did you mean 'stages'"),
        (("space", "stages", 0), "min_dept", "stage 0.*'min_dept'.*did you mean 'min_depth'"),
        (("space", "stages", 0, "slots", 0), "factor", "slot 0.*'factor'.*did you mean 'factors'"),
        (("space",), "nasbench201", "only one of"),
        (("space",), "mobilenetv3", "only one of"),
    ],
)
def test_unknown_fields_of_a_space_are_refused(tmp_path, where, key, message):
    document = json.loads(json.dumps(USER_SPACE))
    inner = document
    for step in where:
        inner = inner[step]
    inner[key] = 1
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match=message):
        pf.spaces.load(path)


def test_unknown_fields_of_a_network_are_refused():
    definition = pf.spaces.get("ofa-mbv3").definition
    for change, message in [
        (lambda d: d.update(min_dept=1), "'min_dept'.*did you mean 'min_depth'"),
        (lambda d: d["mobilenetv3"].update(kernel=[3]), "'kernel'.*did you mean 'kernels'"),
        (lambda d: d.pop("min_depth"), "needs the field 'min_depth'"),
        (lambda d: d.update(stages=[]), "only one of"),
    ]:
        changed = json.loads(json.dumps(definition))
        change(changed)
        with pytest.raises(FileFormatError, match=message):
            pf.spaces.from_definition(changed)
    with pytest.raises(FileFormatError, match="named 'nasbench201'"):
        pf.spaces.from_definition({"name": "mine", "nasbench201": {}})
    with pytest.raises(FileFormatError, match="no settings"):
        pf.spaces.from_definition({"name": "nasbench201", "nasbench201": {"edges": 7}})


HUGE = 10**9


@pytest.mark.parametrize(
    "change",
    [
        {"max_depth": HUGE},
        {"max_depth": 500},
        {"max_depth": 2.0},
        {"max_depth": True},
        {"strides": [2.5] * 5},
        {"strides": "22212"},
        {"strides": [0] * 5},
        {"strides": [2] * 4},
        {"strides": [2] * 2000},
        {"kernels": [3, 5, 5]},
        {"kernels": [4]},
        {"kernels": [HUGE + 1]},
        {"kernels": list(range(1, 199, 2))},
        {"kernels": "357"},
        {"kernels": {}},
        {"expand_ratios": [0]},
        {"expand_ratios": [HUGE]},
        {"expand_ratios": [3, 3.0]},
        {"expand_ratios": [True]},
        {"activations": ["relu"] * 4 + ["h_swich"]},
        {"activations": "relu"},
        {"squeeze_excite": [0, 1, 0, 1, 1]},
        {"channels": [HUGE] * 6},
        {"channels": [16.5] * 6},
        {"channels": [-16] * 6},
        {"expand_channels": HUGE},
        {"feature_channels": "1280"},
        {"stem_stride": 0},
        {"classes": HUGE},
        {"classes": 1000.0},
        {"image_channels": HUGE},
        {"width": "1"},
        {"width": HUGE},
    ],
    ids=lambda change: "-".join(f"{k}={v}"[:40] for k, v in change.items()),
)
def test_fields_of_a_network_are_checked_before_anything_is_made(change):
    definition = json.loads(json.dumps(pf.spaces.get("ofa-mbv3").definition))
    definition["mobilenetv3"].update(change)
    with (
        bounded_memory(),
        pytest.raises(FileFormatError, match=f"{next(iter(change))}|slots|choices"),
    ):
        pf.spaces.from_definition(definition)


@pytest.mark.parametrize(
    "change",
    [
        {"min_depth": 5},
        {"min_depth": 1.0},
        {"resolutions": list(range(8, 4000))},
        {"resolutions": [224.0]},
        {"resolutions": "224"},
        {"resolutions": {}},
        {"resolutions": HUGE},
        {"compound": "fixt"},
        {"compound": True},
        {"compound": 1},
        {"name": ""},
        {"name": "a\x1b[31m"},
        {"name": "x" * 1000},
        {"name": " x"},
        {"name": None},
    ],
    ids=lambda change: "-".join(f"{k}={v}"[:40] for k, v in change.items()),
)
def test_fields_of_a_space_are_checked_before_anything_is_made(change):
    definition = json.loads(json.dumps(pf.spaces.get("ofa-mbv3").definition))
    definition.update(change)
    with bounded_memory(), pytest.raises(FileFormatError) as caught:
        pf.spaces.from_definition(definition)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_sizes_of_spaces_are_bounded():
    def slots(n, choices=(1, 2)):
        return [{"choices": list(choices)} for _ in range(n)]

    rows = [[1 + i % 2] for i in range(2)]
    for stages, message in [
        ([{"slots": slots(1025)}], "1025 slots"),
        ([{"slots": slots(1)} for _ in range(1025)], "1025 slots"),
        ([{"slots": slots(1, range(255))}], "255 choices"),
        (
            [{"slots": [{"factors": [["a", list(range(16))], ["b", list(range(16))]]}]}],
            "256 choices",
        ),
        ([{"slots": [{"factors": [[f"f{i}", [0]] for i in range(33)]}]}], "1 to 32"),
        ([{"slots": slots(1), "rows": rows * 600_000}], "1200000 listed rows"),
        ([{"slots": slots(8, range(254))}], r"2\^62"),
        ([{"slots": slots(1), "min_depth": 10**400}], "'min_depth'"),
        ([{"slots": slots(1, [10**30])}], "finite number"),
        ([{"slots": slots(1, [float("nan")])}], "finite number"),
        ([{"slots": slots(1, ["a\nb"])}], "printable"),
        ([{"slots": slots(1, [[1]])}], "printable"),
        ([{"slots": slots(1, [1, True])}], "distinct"),
        ([{"slots": [{"choices": [1], "factors": [["a", [1]]]}]}], "either"),
        ([{"slots": [{"name": "a"}]}], "either"),
        ([{"slots": slots(1), "name": 3}], "'name'"),
        ([{"slots": slots(1), "rows": [[True]]}], "row"),
        ([{"slots": slots(1), "rows": [[255]]}], "row"),
    ]:
        with bounded_memory(), pytest.raises(FileFormatError, match=message):
            pf.spaces.from_definition({"name": "x", "stages": stages})
    with pytest.raises(InvalidInputError, match="cost table would have"):
        mobilenetv3.mobilenetv3_space(
            "x",
            pf.spaces.MobileNetV3(max_depth=200),
            min_depth=1,
            resolutions=list(range(8, 262)),
        )
    stages = [{"slots": [{"name": f"s{i}", "choices": list(range(254))}]} for i in range(1024)]
    largest = pf.spaces.from_definition({"name": "x", "stages": stages})
    assert largest.n_architectures == 254**1024
    assert len(repr(largest)) < 100
    with pytest.raises(InvalidInputError, match=r"has 3.55e\+2462 architectures"):
        largest.enumerate()


def with_depth(definition, depth=1_000_000_000):
    changed = json.loads(json.dumps(definition))
    changed["mobilenetv3"]["max_depth"] = depth
    return changed


def test_a_small_file_takes_no_memory(tmp_path, tiny, tiny_table):
    body = {"space": with_depth(tiny.definition)}
    files.write_json(tmp_path / "space.json", "pnag-space", 1, body)
    tiny_table.save(tmp_path / "table.json")
    document = json.loads((tmp_path / "table.json").read_text()) | body
    header = (document.pop("format"), document.pop("version"))
    for written in ("provenance", "sha256"):
        document.pop(written, None)
    files.write_json(tmp_path / "table.json", *header, document)
    for load, name in [(pf.spaces.load, "space.json"), (pf.CostTable.load, "table.json")]:
        with bounded_memory(), pytest.raises(FileFormatError, match="'max_depth'"):
            load(tmp_path / name)


def test_a_generator_that_asks_for_memory_is_refused(tmp_path, tiny_generator_path):
    tensors, body = files.read_safetensors(tiny_generator_path, "pnag-generator", 99)
    header = (body.pop("format"), body.pop("version"))
    for place in (body, body["tables"][0], body["model"]):
        good, place["space"] = place["space"], with_depth(place["space"])
        files.write_safetensors(tmp_path / "huge", *header, tensors, body)
        with bounded_memory(), pytest.raises(FileFormatError, match="'max_depth'"):
            pf.Generator.load(tmp_path / "huge")
        place["space"] = good


def mutated(definition, rng):
    """Change one thing somewhere in a definition: a value, a key, or the length of a list."""
    changed = json.loads(json.dumps(definition))
    places = []

    def walk(inner):
        for key in inner if isinstance(inner, dict) else range(len(inner)):
            places.append((inner, key))
            if isinstance(inner[key], (dict, list)):
                walk(inner[key])

    for _ in range(rng.choice((1, 1, 2, 3))):
        places.clear()
        walk(changed)
        if not places:
            break
        inner, key = rng.choice(places)
        odd = (None, True, -1, 0, 1, 2, 3, 255, 10**9, 10**400, 1.5, -1e300, float("nan"), "", "x")
        odd += ([], {}, [1], [[]], "a" * 300, "\x1b[2J", [0] * 3000, list(range(3000)), {"a": {}})
        kind = rng.randrange(4)
        if kind == 0:
            inner[key] = rng.choice(odd)
        elif kind == 1:
            inner[key] = copy.deepcopy(rng.choice(places)[0])
        elif kind == 2 and isinstance(inner, dict):
            inner[rng.choice(("stages", "mobilenetv3", "nasbench201", "name", "x" * 9))] = inner[
                key
            ]
        elif isinstance(inner, list):
            inner[:] = inner[:6] * rng.choice((0, 2, 500))
        else:
            inner[f"{key}x"] = inner.pop(key, None)
    return changed


@pytest.mark.parametrize("name", ["nasbench201", "mbv3-tiny", "compound", "mine"])
def test_damaged_definitions_are_refused_or_harmless(name, refusal):
    if name == "mine":
        definition = USER_SPACE["space"]
    elif name == "compound":
        definition = pf.spaces.get(
            "compofa-mbv3", kernel="elastic", resolutions=(160, 224)
        ).definition
    else:
        definition = pf.spaces.get(name).definition
    rng = random.Random(0)
    accepted = 0
    for _ in range(200):
        changed = mutated(definition, rng)
        with bounded_memory():
            message = refusal(pf.spaces.from_definition, changed, "file", error=FileFormatError)
            if message:
                assert message.startswith("file")
                assert message.isprintable()
                assert len(message) < 1000
                continue
            accepted += 1
            space = pf.spaces.from_definition(changed, "file")
            archs = space.sample(3, seed=0)
            np.testing.assert_array_equal(space.from_strings(space.to_strings(archs)), archs)
            assert pickle.loads(pickle.dumps(space)) == space
    assert accepted < 190


# --- identity, copies, processes ------------------------------------------------------------------


def test_the_name_of_a_space_says_nothing():
    definition = json.loads(json.dumps(USER_SPACE))["space"]
    for name in pf.spaces.names():
        space = pf.spaces.from_definition(definition | {"name": name})
        assert space != pf.spaces.get(name)
        assert space.fingerprint != pf.spaces.get(name).fingerprint
        with pytest.raises(UnsupportedSpaceError):
            pf.costs.macs(space)
        with pytest.raises(UnsupportedSpaceError):
            pf.costs.parameters(space)
        assert pickle.loads(pickle.dumps(space)) == space


def test_spaces_are_equal_however_they_are_written():
    short = {"name": "x", "stages": [{"slots": [{"choices": [1, 2]}]}]}
    long = {
        "stages": [
            {
                "min_depth": 1,
                "name": "stage1",
                "slots": [{"factors": [["choice", [1, 2]]], "name": "stage1.slot1"}],
            }
        ],
        "name": "x",
    }
    one, other = (pf.spaces.from_definition(d) for d in (short, long))
    assert one == other
    assert hash(one) == hash(other)
    short["stages"][0]["slots"][0]["choices"] = [True, 2]  # equal for Python, another choice
    assert pf.spaces.from_definition(short) != one
    assert pickle.loads(pickle.dumps(one)) == other  # what was built does not follow its source
    whole, real = (
        pf.spaces.get("mbv3-tiny", width=w, classes=c) for w, c in ((1, np.int64(10)), (1.0, 10))
    )
    assert whole == real
    assert whole.fingerprint == real.fingerprint
    assert pf.spaces.get("ofa-mbv3") != pf.spaces.get("compofa-mbv3")
    deeper = pf.spaces.from_definition(pf.spaces.get("ofa-mbv3").definition | {"min_depth": 1})
    assert deeper != pf.spaces.get("ofa-mbv3")
    assert deeper.fingerprint == pf.spaces.get("ofa-mbv3").fingerprint


def test_fingerprints_stay_as_they_were():
    assert pf.spaces.get("ofa-mbv3").fingerprint == "8478c50fd5e660b0"
    assert pf.spaces.get("nasbench201").fingerprint == "4d426b6e76a3d287"
    assert pf.spaces.get("mbv3-tiny", resolutions=(24, 32)).fingerprint == "52c30db5914f0650"


@pytest.mark.parametrize(
    "make",
    [copy.copy, copy.deepcopy]
    + [
        lambda s, p=p: pickle.loads(pickle.dumps(s, p))
        for p in range(2, pickle.HIGHEST_PROTOCOL + 1)
    ],
    ids=lambda make: getattr(make, "__name__", ""),
)
def test_spaces_are_copied_whole(space, make):
    if space.n_architectures < 10**15:
        space.sample(1, within=(random_table(space), -np.inf, np.inf))
    again = make(space)
    assert again == space
    assert hash(again) == hash(space)
    assert again.fingerprint == space.fingerprint
    assert (again.resolutions, again.network) == (space.resolutions, space.network)
    assert repr(again) == repr(space)
    archs = space.sample(50, seed=3)
    np.testing.assert_array_equal(again.sample(50, seed=3), archs)
    assert again.to_strings(archs) == space.to_strings(archs)
    assert len(pickle.dumps(space)) < 3000  # neither kernels nor windows
    kept = pf.spaces.get("mbv3-tiny", width=0.5, resolutions=(24, 32), classes=7)
    assert make(kept).network == kept.network
    assert make(kept).resolutions == (24, 32)


def test_a_users_space_is_copied_whole():
    space = pf.spaces.from_definition(json.loads(json.dumps(USER_SPACE))["space"])
    again = pickle.loads(pickle.dumps(space))
    assert again == space
    np.testing.assert_array_equal(again.enumerate(), space.enumerate())


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_spaces_work_in_process_pools(method):
    space = pf.spaces.get("mbv3-tiny", resolutions=(24, 32))
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        archs = pool.submit(space.sample, 20, seed=1, threads=1).result(timeout=120)
    np.testing.assert_array_equal(archs, space.sample(20, seed=1))


def test_representations_fit_on_a_line(space):
    assert len(repr(space)) < 100
    assert "\n" not in repr(space)


def test_compofa_is_always_coupled():
    with pytest.raises(InvalidInputError, match="kernel should be 'fixed' or 'elastic'"):
        pf.spaces.get("compofa-mbv3", kernel=None)


def test_names_are_guessed():
    with pytest.raises(InvalidInputError, match="did you mean 'nasbench201'"):
        pf.spaces.get("nasbench-201")
    with pytest.raises(InvalidInputError, match="did you mean 'resolutions'"):
        pf.spaces.get("ofa-mbv3", resolution=(224,))
    with pytest.raises(InvalidInputError, match="did you mean 'ofa-mbv3'"):
        pf.spaces.find("ofa_mbv3")


def test_an_architecture_without_a_resolution_has_none():
    space = pf.spaces.get("mbv3-tiny", resolutions=(24, 32))
    arch = space.sample(1)[0]
    arch[-1] = 0
    with pytest.raises(InvalidInputError, match="code 0 of slot 'resolution'"):
        space.resolution_of(arch)


def test_memory_that_runs_out_is_our_own_error(cell):
    """Too little to be asked for before, too much for a process that may not grow."""
    with bounded_memory(100_000_000), pytest.raises(MemoryShortageError, match="allocate"):
        cell.sample(40_000_000)
    archs = cell.sample(20_000_000)
    with bounded_memory(50_000_000), pytest.raises(MemoryShortageError, match="allocate"):
        cell.mutate(archs)
