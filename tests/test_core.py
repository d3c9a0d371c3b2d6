"""The extension's search spaces and cost tables, as the layers above call them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pnag_fast import __version__, _core
from pnag_fast.errors import InvalidInputError, InvalidTypeError
from pnag_fast.threads import resolve_threads

LISTED = np.array([[1, 1, 0], [1, 2, 0], [2, 2, 3], [1, 0, 0]], np.uint8)
SMALL = [([3, 2, 2], 1, None), ([2, 3, 3], 0, LISTED), ([4], 0, None)]
OFA = [([9] * 4, 2, None)] * 5


def stage_rows(n_choices, min_depth, listed):
    if listed is not None:
        return [list(map(int, row)) for row in listed]
    n = len(n_choices)
    return [
        [*codes, *[0] * (n - depth)]
        for depth in range(min_depth, n + 1)
        for codes in itertools.product(*[range(1, c + 1) for c in n_choices[:depth]])
    ]


def all_rows(stages):
    parts = [stage_rows(*stage) for stage in stages]
    return np.array([list(itertools.chain(*row)) for row in itertools.product(*parts)], np.uint8)


@st.composite
def small_spaces(draw):
    """Stages of a space with at most a few thousand architectures."""
    stages = []
    for _ in range(draw(st.integers(1, 3))):
        n_choices = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
        min_depth = draw(st.integers(0, len(n_choices)))
        listed = None
        if draw(st.booleans()):
            rows = stage_rows(n_choices, min_depth, None)
            picked = draw(
                st.lists(st.sampled_from(range(len(rows))), min_size=1, max_size=8, unique=True)
            )
            listed = np.array([rows[i] for i in picked], np.uint8)
        stages.append((n_choices, min_depth, listed))
    return stages


def chi_square(counts):
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2 / expected).sum())


def assert_uniform(counts):
    """Chi-square within five standard deviations of its mean."""
    freedom = counts.size - 1
    assert abs(chi_square(counts) - freedom) < 5 * np.sqrt(2 * freedom) + 5


def frozen(array):
    array.setflags(write=False)
    return array


# --- search spaces ------------------------------------------------------------------------------


def test_counts_and_shape():
    space = _core.Space(SMALL)
    assert space.n_slots == 7
    assert space.n_choices == (3, 2, 2, 2, 3, 3, 4)
    assert space.stage_counts == [21, 4, 5]
    assert _core.Space(OFA).stage_counts == [7371] * 5


@given(small_spaces())
@settings(deadline=None, max_examples=60)
def test_enumeration_matches_brute_force(stages):
    space = _core.Space(stages)
    expected = all_rows(stages)
    n = len(expected)
    assert np.prod(space.stage_counts) == n
    np.testing.assert_array_equal(space.enumerate(0, n, 2), expected)
    np.testing.assert_array_equal(space.enumerate(n // 2, n - n // 2, 1), expected[n // 2 :])
    assert space.find_invalid(expected, 1) is None
    indices = space.rank(expected, 1)
    np.testing.assert_array_equal(
        np.ravel_multi_index(tuple(indices.T), space.stage_counts), np.arange(n)
    )
    np.testing.assert_array_equal(space.unrank(indices, 2), expected)


@given(small_spaces(), st.data())
@settings(deadline=None, max_examples=100)
def test_any_row_is_judged_as_by_enumeration(stages, data):
    space = _core.Space(stages)
    valid = {row.tobytes() for row in all_rows(stages)}
    rows = np.array(
        data.draw(
            st.lists(
                st.lists(st.integers(0, 4), min_size=space.n_slots, max_size=space.n_slots),
                min_size=1,
                max_size=200,
            )
        ),
        np.uint8,
    )
    wrong = [i for i, row in enumerate(rows) if row.tobytes() not in valid]
    found = space.find_invalid(rows, 2)
    if not wrong:
        assert found is None
        return
    row, slot, value = found
    assert row == wrong[0]
    assert rows[row, slot] == value
    with pytest.raises(InvalidInputError, match=rf"row {row}, slot {slot} is {value}"):
        space.rank(rows, 1)


@pytest.mark.parametrize("decisions", [False, True])
@pytest.mark.parametrize("stages", [SMALL, OFA], ids=["small", "ofa"])
def test_samples_are_valid_and_reproducible(stages, decisions):
    space = _core.Space(stages)
    one = space.sample(40_000, 7, decisions, 1)
    assert one.shape == (40_000, space.n_slots)
    assert one.dtype == np.uint8
    assert space.find_invalid(one, 2) is None
    np.testing.assert_array_equal(space.sample(40_000, 7, decisions, 4), one)
    # A row depends on the seed and its number only.
    np.testing.assert_array_equal(space.sample(100, 7, decisions, 1), one[:100])
    assert (space.sample(40_000, 8, decisions, 1) != one).any(axis=1).mean() > 0.9


def test_uniform_sampling_is_uniform_over_architectures():
    space = _core.Space(SMALL)
    indices = space.rank(space.sample(210_000, 1, False, 2), 1)
    counts = np.bincount(np.ravel_multi_index(tuple(indices.T), (21, 4, 5)), minlength=420)
    assert_uniform(counts)


def test_stage_rows_of_a_large_space_are_uniform_and_independent():
    space = _core.Space(OFA)
    indices = space.rank(space.sample(400_000, 2, False, 2), 1)
    for stage in range(5):
        assert_uniform(np.bincount(indices[:, stage], minlength=7371))
    coarse = indices * 10 // 7371
    for a, b in itertools.combinations(range(5), 2):
        table = np.bincount(coarse[:, a] * 10 + coarse[:, b], minlength=100).reshape(10, 10)
        expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
        assert ((table - expected) ** 2 / expected).sum() < 81 + 5 * np.sqrt(2 * 81)


def test_decisions_are_uniform_one_by_one():
    space = _core.Space(OFA)
    archs = space.sample(200_000, 3, True, 2).reshape(-1, 5, 4)
    depths = (archs > 0).sum(axis=2)
    for stage in range(5):
        assert_uniform(np.bincount(depths[:, stage], minlength=5)[2:])
        for layer in range(4):
            codes = archs[:, stage, layer]
            assert_uniform(np.bincount(codes[codes > 0], minlength=10)[1:])
    small = _core.Space(SMALL)
    listed = small.rank(small.sample(40_000, 4, True, 1), 1)[:, 1]
    assert_uniform(np.bincount(listed, minlength=4))


def test_stages_too_large_for_a_table():
    space = _core.Space([([200, 100, 50, 20], 1, None)])
    archs = space.sample(100_000, 5, False, 2)
    assert space.find_invalid(archs, 1) is None
    share = ((archs > 0).sum(axis=1) == 4).mean()
    assert share == pytest.approx(20_000_000 / space.stage_counts[0], abs=5e-3)
    np.testing.assert_array_equal(space.unrank(space.rank(archs, 1), 1), archs)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 1 / 3, 0.5, 0.999, 1.0])
def test_mutation_redraws_at_the_stated_rate(rate):
    n = 100_000
    space = _core.Space(
        [([9] * 4, 4, None), ([5] * 2, 2, None), ([3, 3], 0, LISTED[:3, :2].copy())]
    )
    archs = frozen(space.sample(n, 1, True, 1))
    child = space.mutate(archs, rate, 2, 1)
    assert space.find_invalid(child, 1) is None
    np.testing.assert_array_equal(space.mutate(archs, rate, 2, 3), child)
    changed = (child != archs).mean(axis=0)
    # A redrawn choice stays as it was once in c times.
    for slot, n_choices in enumerate([9] * 4 + [5] * 2):
        expected = rate * (1 - 1 / n_choices)
        assert abs(changed[slot] - expected) <= 5 * np.sqrt(expected * (1 - expected) / n) + 1e-12
    rows = (child[:, 6:] != archs[:, 6:]).any(axis=1).mean()
    assert abs(rows - rate * 2 / 3) <= 5 * np.sqrt(0.25 / n)


def test_mutation_of_depth():
    n = 200_000
    space = _core.Space([([4] * 4, 1, None)])
    archs = np.tile(np.array([3, 2, 0, 0], np.uint8), (n, 1))
    child = space.mutate(archs, 0.5, 9, 2)
    depths = (child > 0).sum(axis=1)
    shares = np.bincount(depths, minlength=5)[1:] / n
    np.testing.assert_allclose(shares, [0.125, 0.5 + 0.125, 0.125, 0.125], atol=6e-3)
    # Slots that appear are uniform, whatever the rate.
    for slot, present in ((2, depths >= 3), (3, depths == 4)):
        assert_uniform(np.bincount(child[present, slot], minlength=5)[1:])
    kept = child[depths >= 2, 1] == 2
    assert kept.mean() == pytest.approx(0.5 + 0.5 / 4, abs=6e-3)


def test_crossover_takes_every_decision_from_either_parent():
    n = 100_000
    space = _core.Space(SMALL)
    a = frozen(space.sample(n, 1, True, 1))
    b = frozen(space.sample(n, 2, True, 1))
    child = space.crossover(a, b, 3, 1)
    assert space.find_invalid(child, 1) is None
    np.testing.assert_array_equal(space.crossover(a, b, 3, 4), child)
    np.testing.assert_array_equal(space.crossover(a, a, 3, 1), a)
    for first, last in ((0, 3), (6, 7)):
        depths = [(x[:, first:last] > 0).sum(axis=1) for x in (a, b, child)]
        assert ((depths[2] == depths[0]) | (depths[2] == depths[1])).all()
        differ = depths[0] != depths[1]
        assert (depths[2] == depths[0])[differ].mean() == pytest.approx(0.5, abs=0.01)
        for slot in range(first, last):
            present = child[:, slot] > 0
            both = present & (a[:, slot] > 0) & (b[:, slot] > 0) & (a[:, slot] != b[:, slot])
            assert (child[both, slot] == a[both, slot]).mean() == pytest.approx(0.5, abs=0.015)
            single = present & ((a[:, slot] == 0) ^ (b[:, slot] == 0))
            np.testing.assert_array_equal(
                child[single, slot], np.maximum(a[single, slot], b[single, slot])
            )
    rows = [x[:, 3:6] for x in (a, b, child)]
    from_a = (rows[2] == rows[0]).all(axis=1)
    from_b = (rows[2] == rows[1]).all(axis=1)
    assert (from_a | from_b).all()
    assert from_a[(rows[0] != rows[1]).any(axis=1)].mean() == pytest.approx(0.5, abs=0.01)


@given(small_spaces(), st.integers(0, 10**9))
@settings(deadline=None, max_examples=60)
def test_neighbors_are_all_rows_one_decision_away(stages, number):
    space = _core.Space(stages)
    rows = all_rows(stages)
    arch = rows[number % len(rows)]

    def is_neighbor(row):
        changed = []
        at = 0
        for n_choices, _, listed in stages:
            n = len(n_choices)
            old, new = arch[at : at + n], row[at : at + n]
            at += n
            if (old != new).any():
                changed.append(
                    listed is not None
                    or ((old != new).sum() == 1 and abs((old > 0).sum() - (new > 0).sum()) <= 1)
                )
        return changed == [True]

    expected = {row.tobytes() for row in rows if is_neighbor(row)}
    found = space.neighbors(arch)
    assert found.shape == (len(expected), space.n_slots)
    assert {row.tobytes() for row in found} == expected
    np.testing.assert_array_equal(space.neighbors(arch), found)


@given(small_spaces(), st.integers(0, 10**9), st.integers(1, 4))
@settings(deadline=None, max_examples=25)
def test_neighborhoods_are_all_rows_within_a_distance(stages, number, radius):
    space = _core.Space(stages)
    rows = all_rows(stages)
    archs = np.ascontiguousarray(rows[np.arange(number, number + 3) % len(rows)])

    def distance(a, b):
        edits, at = 0, 0
        for n_choices, _, listed in stages:
            old, new = a[at : at + len(n_choices)], b[at : at + len(n_choices)]
            at += len(n_choices)
            if listed is not None:
                edits += (old != new).any()
                continue
            shared = (old > 0) & (new > 0)
            edits += abs((old > 0).sum() - (new > 0).sum()) + ((old != new) & shared).sum()
        return edits

    offsets = space.neighborhood_offsets(archs, radius, -1, True, 1)
    found = space.neighborhoods(archs, radius, True, 0, offsets, 2)
    for arch, begin, end in zip(archs, offsets[:-1], offsets[1:], strict=True):
        edits = [distance(arch, row) for row in found[begin:end]]
        assert edits == sorted(edits)
        assert edits[0] == 0
        expected = {row.tobytes() for row in rows if distance(arch, row) <= radius}
        assert len(expected) == end - begin
        assert {row.tobytes() for row in found[begin:end]} == expected
        near = space.neighbors(arch)
        np.testing.assert_array_equal(found[begin + 1 : begin + 1 + len(near)], near)
    # Some of them are some of them, in the same order, whatever the batch.
    few = space.neighborhood_offsets(archs, radius, 5, False, 1)
    some = space.neighborhoods(archs, radius, False, 7, few, 1)
    for i, arch in enumerate(archs):
        own = some[few[i] : few[i + 1]]
        place = {row.tobytes(): k for k, row in enumerate(found[offsets[i] : offsets[i + 1]])}
        places = [place[row.tobytes()] for row in own]
        assert places == sorted(set(places))
        assert len(places) == min(5, len(place) - 1)
        assert 0 not in places
        alone = space.neighborhood_offsets(arch[None], radius, 5, False, 1)
        again = space.neighborhoods(arch[None], radius, False, 7, alone, 1)
        np.testing.assert_array_equal(own, again)


@pytest.mark.parametrize("statistic", ["mean", "median", "min", "max"])
def test_segments_are_reduced_as_by_numpy(statistic):
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 9, 3000))])
    values = rng.normal(size=offsets[-1])
    values[rng.random(len(values)) < 0.1] = np.nan
    values = frozen(values)
    found = _core.reduce_segments(values, offsets, statistic, 1)
    np.testing.assert_array_equal(_core.reduce_segments(values, offsets, statistic, 3), found)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [
            getattr(np, f"nan{statistic}")(values[a:b]) if a < b else np.nan
            for a, b in itertools.pairwise(offsets)
        ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


def test_segments_that_are_none_are_refused():
    values = np.ones(3)
    for offsets, message in (
        (np.array([0, 2]), "end with the number of values, 3"),
        (np.array([0, 2, 1, 3]), "ascend"),
        (np.empty(0, np.int64), "offsets is empty"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            _core.reduce_segments(values, offsets, "mean", 1)
    with pytest.raises(InvalidInputError, match="statistic is 'mode'"):
        _core.reduce_segments(values, np.array([0, 3]), "mode", 1)
    with pytest.raises(InvalidTypeError, match="offsets"):
        _core.reduce_segments(values, np.array([0.0, 3.0]), "mean", 1)


def test_wrong_batches_are_refused():
    space = _core.Space(OFA)
    good = space.sample(10, 0, False, 1)
    batch_calls = [
        lambda x: space.mutate(x, 0.1, 0, 1),
        lambda x: space.crossover(x, good, 0, 1),
        lambda x: space.crossover(good, x, 0, 1),
        lambda x: space.rank(x, 1),
        lambda x: space.neighborhood_offsets(x, 1, -1, True, 1),
        lambda x: space.neighborhoods(x, 1, True, 0, np.arange(11), 1),
        lambda x: space.find_invalid(x, 1),
        lambda x: space.one_hot(x, 1),
    ]
    for call in batch_calls:
        for wrong in (good.astype(np.int64), np.asfortranarray(good), good[0], good[::2], [[1]]):
            with pytest.raises(InvalidTypeError, match="C-contiguous"):
                call(wrong)
        with pytest.raises(InvalidInputError, match="19 columns"):
            call(np.ascontiguousarray(good[:, 1:]))
    empty = good[:0]
    assert space.mutate(empty, 0.1, 0, 1).shape == (0, 20)
    assert space.crossover(empty, empty, 0, 1).shape == (0, 20)
    assert space.rank(empty, 1).shape == (0, 5)
    assert space.find_invalid(empty, 1) is None
    bad = good.copy()
    bad[4, 11] = 10
    for call in batch_calls[:6]:
        with pytest.raises(InvalidInputError, match="row 4, slot 11 is 10"):
            call(bad)
    with pytest.raises(InvalidInputError, match="10 rows and b has 9"):
        space.crossover(good, good[:9], 0, 1)
    with pytest.raises(InvalidInputError, match="row 0, slot 11 is 10"):
        space.neighbors(bad[4])
    with pytest.raises(InvalidTypeError, match="dimension"):
        space.neighbors(bad)


def test_wrong_arguments_are_refused():
    space = _core.Space(SMALL)
    for call, message in [
        (lambda: space.sample(-1, 0, False, 1), "n is -1"),
        (lambda: space.sample(2**62, 0, False, 1), "more rows than fit"),
        (lambda: space.sample(1, -1, False, 1), "seed is -1"),
        (lambda: space.sample(1, 2**64, False, 1), "seed is 18446744073709551616"),
        (lambda: space.sample(1, 0, False, 0), "threads is 0"),
        (lambda: space.mutate(all_rows(SMALL), -0.1, 0, 1), "rate is -0.1"),
        (lambda: space.mutate(all_rows(SMALL), float("nan"), 0, 1), "rate is nan"),
        (lambda: space.enumerate(0, 421, 1), "beyond the 420"),
        (lambda: space.enumerate(-1, 1, 1), "first is -1"),
        (lambda: space.enumerate(0, -1, 1), "count is -1"),
        (lambda: space.enumerate(2**70, 1, 1), "64-bit"),
        (lambda: space.unrank(np.array([[0, 4, 0]]), 1), "row 0, stage 1 is 4"),
        (lambda: space.unrank(np.array([[0, 0]]), 1), "2 columns"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            call()
    assert space.sample(0, 2**64 - 1, True, 1).shape == (0, 7)


@pytest.mark.parametrize(
    ("stages", "error", "message"),
    [
        ([], InvalidInputError, "at least one stage"),
        ([([], 0, None)], InvalidInputError, "no slots"),
        ([([0], 0, None)], InvalidInputError, "0 choices"),
        ([([255], 0, None)], InvalidInputError, "255 choices"),
        ([([2], 2, None)], InvalidInputError, "min_depth 2"),
        ([([254] * 8, 0, None)], InvalidInputError, r"2\^62"),
        ([([2], 0, np.zeros((0, 1), np.uint8))], InvalidInputError, "at least one row"),
        ([([2, 2], 0, np.array([[0, 1]], np.uint8))], InvalidInputError, "absent"),
        ([([2], 0, np.array([[1], [1]], np.uint8))], InvalidInputError, "rows 0 and 1"),
        ([([2], 0, np.array([[3]], np.uint8))], InvalidInputError, "codes are 0 to 2"),
        ([([2], 0, np.array([[1, 1]], np.uint8))], InvalidInputError, "2 columns"),
        ([([2], 0, np.array([[1]]))], InvalidTypeError, "int64"),
        ([([2], 0)], InvalidTypeError, "tuple"),
        ([(["x"], 0, None)], InvalidTypeError, "list of int"),
    ],
)
def test_impossible_spaces_are_refused(stages, error, message):
    with pytest.raises(error, match=message):
        _core.Space(stages)


# --- cost tables --------------------------------------------------------------------------------


class Tables:
    """Random tables with NaN wherever no code exists."""

    def __init__(self, n_codes, use_max, context_slot=-1, seed=0):
        rng = np.random.default_rng(seed)
        self.n_codes, self.use_max, self.context_slot = n_codes, use_max, context_slot
        n_contexts = 1 if context_slot < 0 else n_codes[context_slot] - 1
        shape = (len(use_max), n_contexts, len(n_codes), max(n_codes) + 1)
        self.entries = rng.random(shape) * 10.0 ** rng.integers(-6, 6, shape)
        for slot, codes in enumerate(n_codes):
            self.entries[:, :, slot, codes:] = np.nan
        self.constants = rng.random(shape[:2])
        self.entries.setflags(write=False)
        self.constants.setflags(write=False)

    def build(self, tables=slice(None)):
        return _core.CostTables(
            np.ascontiguousarray(self.entries[tables]),
            np.ascontiguousarray(self.constants[tables]),
            self.use_max[tables],
            self.context_slot,
            self.n_codes,
        )

    def sample(self, n, seed=0):
        rng = np.random.default_rng(seed)
        columns = [
            rng.integers(1 if slot == self.context_slot else 0, codes, n)
            for slot, codes in enumerate(self.n_codes)
        ]
        return frozen(np.stack(columns, axis=1).astype(np.uint8))

    def cost(self, archs):
        """The documented order: the constant, then sums of pairs one after another."""
        n, n_slots = archs.shape
        context = archs[:, self.context_slot] - 1 if self.context_slot >= 0 else np.zeros(n, int)
        out = np.empty((n, len(self.use_max)))
        for t, use_max in enumerate(self.use_max):
            picked = self.entries[t][context[:, None], np.arange(n_slots), archs]
            total = self.constants[t][context]
            for s in range(0, n_slots, 2):
                pair = picked[:, s]
                if s + 1 < n_slots:
                    other = picked[:, s + 1]
                    pair = np.maximum(pair, other) if use_max else pair + other
                total = np.maximum(total, pair) if use_max else total + pair
            out[:, t] = total
        return out


@given(
    st.lists(st.integers(2, 12), min_size=1, max_size=9),
    st.lists(st.booleans(), min_size=1, max_size=9),
    st.booleans(),
    st.integers(0, 300),
)
@settings(deadline=None, max_examples=120)
def test_costs_match_to_the_last_bit(n_codes, use_max, with_context, n):
    context_slot = len(n_codes) - 1 if with_context else -1
    tables = Tables(n_codes, use_max, context_slot)
    archs = tables.sample(n)
    np.testing.assert_array_equal(tables.build().lookup(archs, 1), tables.cost(archs))


def test_tables_alone_and_stacked_agree_to_the_last_bit():
    tables = Tables([10] * 20, [t in (3, 7) for t in range(16)])
    archs = tables.sample(50_000)
    stacked = tables.build().lookup(archs, 1)
    np.testing.assert_array_equal(tables.build().lookup(archs, 4), stacked)
    for t in range(16):
        alone = tables.build(slice(t, t + 1)).lookup(archs, 2)
        np.testing.assert_array_equal(alone[:, 0], stacked[:, t])


def test_lookup_names_unknown_codes():
    tables = Tables([10, 4, 6], [False], context_slot=2)
    costs = tables.build()
    archs = tables.sample(100_000).copy()
    archs[70_000, 1] = 4
    with pytest.raises(InvalidInputError, match=r"row 70000, slot 1 is 4; codes there are 0 to 3"):
        costs.lookup(archs, 2)
    archs[65_000, 2] = 0
    with pytest.raises(InvalidInputError, match=r"row 65000, slot 2 is 0; this slot picks"):
        costs.lookup(archs, 2)
    assert costs.lookup(archs[:0], 1).shape == (0, 1)
    with pytest.raises(InvalidTypeError, match="int64"):
        costs.lookup(archs.astype(np.int64), 1)
    with pytest.raises(InvalidInputError, match="2 columns"):
        costs.lookup(np.ascontiguousarray(archs[:, :2]), 1)


def test_wrong_tables_are_refused():
    entries, constants = np.zeros((2, 1, 3, 4)), np.zeros((2, 1))
    arguments = {
        "entries": entries,
        "constants": constants,
        "use_max": [False, True],
        "context_slot": -1,
        "n_codes": [4, 4, 4],
    }
    _core.CostTables(**arguments)
    infinite, nan = entries.copy(), constants.copy()
    infinite[1, 0, 2, 3] = np.inf
    nan[1, 0] = np.nan
    for change, message in [
        ({"entries": infinite}, "table 1, context 0, slot 2, code 3 is inf"),
        ({"constants": nan}, "constant of table 1, context 0 is nan"),
        ({"constants": np.zeros((1, 1))}, r"constants has shape \(1, 1\)"),
        ({"use_max": [False]}, "use_max has 1"),
        ({"context_slot": 3}, "context_slot is 3"),
        ({"context_slot": 0}, "must have 3"),
        ({"n_codes": [4, 4]}, "n_codes has 2"),
        ({"n_codes": [4, 5, 4]}, "slot 1 is 5"),
        ({"n_codes": [4, 1, 4]}, "slot 1 is 1"),
        ({"entries": np.zeros((0, 1, 3, 4)), "constants": np.zeros((0, 1))}, "no tables"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            _core.CostTables(**{**arguments, **change})
    with pytest.raises(InvalidTypeError, match="float32"):
        _core.CostTables(**{**arguments, "entries": entries.astype(np.float32)})


def test_nan_of_absent_codes_is_never_reached():
    tables = Tables([3, 12, 2], [False, True])
    assert np.isfinite(tables.build().lookup(tables.sample(5000), 1)).all()


@st.composite
def spreads(draw):
    """Arguments of a CostSpread, rows that it knows, and their means."""
    n_codes = draw(st.lists(st.integers(2, 12), min_size=1, max_size=9))
    context_slot = draw(st.sampled_from([-1, 0, len(n_codes) - 1]))
    tables = Tables(n_codes, [False] * draw(st.integers(1, 40)), context_slot)
    arguments = (
        np.moveaxis(tables.entries - 0.5, 0, -1).copy(),
        np.moveaxis(tables.constants, 0, -1).copy(),
        draw(st.sampled_from([0.0, 0.1, 3.0])),
        context_slot,
        n_codes,
    )
    archs = tables.sample(draw(st.integers(0, 200)))
    return arguments, archs, np.random.default_rng(1).normal(size=len(archs))


@given(spreads())
@settings(deadline=None, max_examples=100)
def test_spreads_match_numpy(question):
    (entries, constants, misfit, context_slot, n_codes), archs, mean = question
    spread = _core.CostSpread(entries, constants, misfit, context_slot, n_codes)
    found = spread.lookup(archs, mean, 1)
    context = archs[:, context_slot] - 1 if context_slot >= 0 else np.zeros(len(archs), int)
    vectors = entries[context[:, None], np.arange(len(n_codes)), archs].sum(axis=1)
    known = np.square(vectors + constants[context]).sum(axis=1)
    np.testing.assert_allclose(found, np.sqrt(known + (misfit * mean) ** 2), rtol=1e-9)
    np.testing.assert_array_equal(spread.lookup(archs, mean, 3), found)


def test_wrong_spreads_are_refused():
    arguments = {
        "entries": np.zeros((1, 3, 4, 2)),
        "constants": np.zeros((1, 2)),
        "misfit": 0.1,
        "context_slot": -1,
        "n_codes": [4, 4, 4],
    }
    spread = _core.CostSpread(**arguments)
    archs = np.ones((5, 3), np.uint8)
    np.testing.assert_array_equal(spread.lookup(archs, np.ones(5), 1), [0.1] * 5)
    nan = np.zeros((1, 3, 4, 2))
    nan[0, 2, 3, 1] = np.nan
    for change, message in [
        ({"entries": nan}, "context 0, slot 2, code 3, number 1 is nan"),
        ({"constants": nan[0, 2, 3:]}, "context 0, constant 1 is nan"),
        ({"constants": np.zeros((1, 3))}, r"constants has shape \(1, 3\)"),
        ({"misfit": -1.0}, "misfit is -1"),
        ({"context_slot": 0}, "must have 3"),
        ({"n_codes": [4, 5, 4]}, "slot 1 is 5"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            _core.CostSpread(**{**arguments, **change})
    bad = archs.copy()
    bad[3, 1] = 4
    for wrong, mean, error, message in [
        (bad, np.ones(5), InvalidInputError, "row 3, slot 1 is 4; codes there are 0 to 3"),
        (archs, np.ones(4), InvalidInputError, "mean has 4 values for 5 rows"),
        (archs[:, :2].copy(), np.ones(5), InvalidInputError, "2 columns"),
        (archs, np.ones(5, np.float32), InvalidTypeError, "float32"),
        (archs.astype(np.int64), np.ones(5), InvalidTypeError, "int64"),
    ]:
        with pytest.raises(error, match=message):
            spread.lookup(wrong, mean, 1)


# --- the extension ------------------------------------------------------------------------------


def test_build_info():
    info = _core.build_info()
    assert {"compiler", "version", "flags", "simd_built", "simd_usable", "simd_used"} <= set(info)
    assert info["simd_used"] in info["simd_usable"]
    assert info["version"] == __version__


def run_with(simd, code):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PNAG_SIMD": simd},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_instruction_sets_agree_to_the_last_bit():
    code = (
        "import hashlib, numpy as np\n"
        "from pnag_fast import _core\n"
        "h = hashlib.sha256()\n"
        "space = _core.Space([([9] * 4, 2, None)] * 5)\n"
        "archs = space.sample(5000, 1, False, 1)\n"
        "h.update(archs.tobytes()); h.update(space.mutate(archs, 0.2, 1, 1).tobytes())\n"
        "h.update(space.crossover(archs, archs[::-1].copy(), 1, 1).tobytes())\n"
        "rng = np.random.default_rng(0)\n"
        "tables = _core.CostTables(rng.random((5, 1, 20, 10)), rng.random((5, 1)),\n"
        "                          [False, False, True, False, True], -1, [10] * 20)\n"
        "costs = tables.lookup(archs, 1)\n"
        "h.update(costs.tobytes())\n"
        "for rank in (1, 5, 16, 48):\n"
        "    spread = _core.CostSpread(rng.normal(size=(1, 20, 10, rank)),\n"
        "                              rng.random((1, rank)), 0.1, -1, [10] * 20)\n"
        "    h.update(spread.lookup(archs, costs[:, 0].copy(), 1).tobytes())\n"
        "for m in range(1, 8):\n"
        "    for p in (rng.random((3000, m)), rng.integers(0, 5, (3000, m)).astype(float)):\n"
        "        h.update(_core.non_dominated_sort(p, 1).tobytes())\n"
        "        h.update(_core.is_non_dominated(p, 1).tobytes())\n"
        "        h.update(_core.crowding_distance(p).tobytes())\n"
        "        within = _core.BestWithin(p, p.sum(axis=1))\n"
        "        h.update(within.find(p[::-1] + 0.1, 1).tobytes())\n"
        "        q = p[:40] / 5\n"
        "        h.update(np.float64(_core.hypervolume(q, np.full(m, 1.1))).tobytes())\n"
        "        h.update(_core.hypervolume_contributions(q, np.full(m, 1.1)).tobytes())\n"
        "    for n in (100, 130, 700 if m < 6 else 150):\n"
        "        q = rng.random((n, m)); q /= np.sqrt((q * q).sum(axis=1, keepdims=True))\n"
        "        h.update(np.float64(_core.hypervolume(q, np.full(m, 1.1))).tobytes())\n"
        "print(h.hexdigest())\n"
    )
    digests = {name: run_with(name, code) for name in _core.build_info()["simd_usable"]}
    for name, process in digests.items():
        assert process.returncode == 0, (name, process.stderr)
    assert len({process.stdout for process in digests.values()}) == 1


def test_an_unknown_instruction_set_fails_loudly():
    process = run_with("sse9", "from pnag_fast import _core; _core.build_info()")
    assert process.returncode != 0
    assert "PNAG_SIMD is 'sse9'" in process.stderr


def test_threads():
    assert resolve_threads(3) == 3
    assert resolve_threads(np.int32(2)) == 2
    assert resolve_threads(None) >= 1
    for wrong, error in (
        (0, InvalidInputError),
        (2000, InvalidInputError),
        ("2", InvalidTypeError),
    ):
        with pytest.raises(error, match="threads is"):
            resolve_threads(wrong)
    with pytest.raises(InvalidTypeError, match="bool"):
        resolve_threads(True)


def test_kernels_after_fork():
    # Threads live for one call, so a forked child finds nothing locked.
    code = (
        "import os, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "from pnag_fast import _core\n"
        "space = _core.Space([([9] * 4, 2, None)] * 5)\n"
        "a = space.sample(100000, 1, False, 4)\n"
        "pid = os.fork()\n"
        "b = space.sample(100000, 1, False, 4)\n"
        "if pid == 0:\n"
        "    os._exit(0 if (a == b).all() else 3)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    process = subprocess.run([sys.executable, "-c", code], timeout=120, check=False)
    assert process.returncode == 0


def test_lookup_into_an_array_of_the_caller():
    tables = Tables([10] * 20, [False, True, False])
    costs = tables.build()
    archs = tables.sample(30_000)
    expected = costs.lookup(archs, 1)
    out = np.full((30_000, 3), np.nan)
    assert costs.lookup(archs, 2, out) is out
    np.testing.assert_array_equal(out, expected)
    for wrong, error, message in [
        (np.empty((30_000, 2)), InvalidInputError, r"shape \(30000, 2\)"),
        (np.empty((29_999, 3)), InvalidInputError, r"shape \(29999, 3\)"),
        (np.empty((30_000, 3), np.float32), InvalidTypeError, "float32"),
        (np.empty((3, 30_000)).T, InvalidTypeError, "C-contiguous"),
        (frozen(np.empty((30_000, 3))), InvalidTypeError, "read-only"),
        ([0.0], InvalidTypeError, "out is a list"),
    ]:
        with pytest.raises(error, match=message):
            costs.lookup(archs, 1, wrong)
    memory = np.zeros(30_000 * 24, np.uint8)
    with pytest.raises(InvalidInputError, match="shares memory"):
        costs.lookup(
            memory[: 30_000 * 20].reshape(-1, 20), 1, memory.view(np.float64).reshape(-1, 3)
        )


# --- arrays at the border -------------------------------------------------------------------------


class Quantity(np.ndarray):
    """An array with a unit, as astropy and unyt have."""

    unit = "ms"


def kernels_of_arrays():
    """Every kernel that takes an array, with that array left open, and a good one."""
    space = _core.Space(SMALL)
    archs = all_rows(SMALL)[:4].copy()
    points = np.random.default_rng(0).random((4, 3))
    corner = np.ones(3)
    n_codes = [n + 1 for n in space.n_choices]
    lookup = Tables(n_codes, [False]).build().lookup
    entries = np.ones((1, space.n_slots, max(n_codes)))
    spread = _core.CostSpread(entries[..., None].copy(), np.ones((1, 1)), 0.1, -1, n_codes).lookup

    def window(entries):
        return _core.WindowSampler(space, entries, np.ones(1), -1, n_codes)

    pixels = np.ones((1, 1, 4, 4), np.float32)
    return {
        "sort": (lambda x: _core.non_dominated_sort(x, 1), points),
        "mask": (lambda x: _core.is_non_dominated(x, 1), points),
        "crowding": (lambda x: _core.crowding_distance(x, 1), points),
        "volume": (lambda x: _core.hypervolume(x, corner, 1), points),
        "reference": (lambda x: _core.hypervolume(points, x, 1), corner),
        "contributions": (lambda x: _core.hypervolume_contributions(x, corner, 1), points),
        "costs": (lambda x: _core.BestWithin(x, np.ones(4)), points),
        "merit": (lambda x: _core.BestWithin(points, x), np.ones(4)),
        "bounds": (lambda x: _core.BestWithin(points, np.ones(4)).find(x, 1), points),
        "mutate": (lambda x: space.mutate(x, 0.5, 0, 1), archs),
        "mutate out": (lambda x: space.mutate(archs, 0.5, 0, 1, x), archs.copy()),
        "crossover": (lambda x: space.crossover(archs, x, 0, 1), archs),
        "neighbors": (space.neighbors, archs[0]),
        "neighborhood_offsets": (
            lambda x: space.neighborhood_offsets(x, 1, -1, True, 1),
            archs,
        ),
        "neighborhoods": (lambda x: space.neighborhoods(x, 1, True, 0, np.arange(5), 1), archs),
        "one_hot": (lambda x: space.one_hot(x, 1), archs),
        "values": (
            lambda x: _core.reduce_segments(x, np.array([0, 4]), "mean", 1),
            np.ones(4),
        ),
        "rank": (lambda x: space.rank(x, 1), archs),
        "unrank": (lambda x: space.unrank(x, 1), space.rank(archs, 1)),
        "find_invalid": (lambda x: space.find_invalid(x, 1), archs),
        "sample out": (lambda x: space.sample(4, 0, False, 1, x), archs.copy()),
        "lookup": (lambda x: lookup(x, 1), archs),
        "spread": (lambda x: spread(x, np.ones(4), 1), archs),
        "mean": (lambda x: spread(archs, x, 1), np.ones(4)),
        "entries": (window, entries),
        "pixels": (lambda x: _core.depthwise_weight_gradient(x, pixels, 3, 1, 1), pixels),
    }


@pytest.mark.parametrize("name", kernels_of_arrays())
def test_arrays_that_mean_more_than_their_numbers_are_refused(name):
    call, good = kernels_of_arrays()[name]
    call(good)
    call(np.ma.masked_array(good))
    mask = np.zeros(good.shape, bool)
    mask[..., 0] = True
    with pytest.raises(InvalidTypeError, match=r"masked array with \d+ masked entr"):
        call(np.ma.masked_array(good, mask=mask))
    with pytest.raises(InvalidTypeError, match="with the unit 'ms'"):
        call(good.view(Quantity))
