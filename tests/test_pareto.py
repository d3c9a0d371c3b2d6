"""Pareto kernels against hand-computed cases, brute force and moocore."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time
from fractions import Fraction

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pnag_fast import pareto
from pnag_fast.errors import InvalidInputError, InvalidTypeError, PnagError

INF = np.inf

# A machine that runs other tests too may wake us late.
SLACK_S = 0.5

# Few distinct values make ties, duplicates and equal columns common.
coarse = st.integers(-3, 3).map(float)
wild = st.floats(allow_nan=False) | st.sampled_from([INF, -INF, 0.0, -0.0, 5e-324, -5e-324, 1e308])
shapes = st.tuples(st.integers(0, 40), st.integers(1, 7))
any_points = st.one_of(
    hnp.arrays(np.float64, shapes, elements=coarse),
    hnp.arrays(np.float64, shapes, elements=wild),
)
tame_points = st.one_of(
    hnp.arrays(np.float64, st.tuples(st.integers(0, 14), st.integers(1, 6)), elements=coarse),
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(0, 14), st.integers(1, 6)),
        elements=st.floats(-4, 4, width=16),
    ),
)


def dominance(points):
    """(n, n): does row i dominate row j?"""
    not_above = (points[:, None, :] <= points[None, :, :]).all(axis=2)
    below = (points[:, None, :] < points[None, :, :]).any(axis=2)
    return not_above & below


def brute_force_ranks(points):
    dominates = dominance(points)
    ranks = np.zeros(len(points), np.int32)
    for j in np.lexsort(points.T[::-1]):
        above = ranks[dominates[:, j]]
        if above.size:
            ranks[j] = above.max() + 1
    return ranks


def brute_force_volume(points, reference):
    """Sum over the cells of the grid that all coordinates span."""
    points = points[(points < reference).all(axis=1)]
    if len(points) == 0:
        return 0.0
    m = points.shape[1]
    axes = [np.unique(np.append(points[:, j], reference[j])) for j in range(m)]
    covered = np.zeros([len(axis) - 1 for axis in axes], bool)
    for point in points:
        covered[tuple(slice(np.searchsorted(axes[j], point[j]), None) for j in range(m))] = True
    cells = np.array(1.0)
    for axis in axes:
        cells = np.multiply.outer(cells, np.diff(axis))
    return float(cells[covered].sum())


def sphere(rng, n, m):
    points = np.abs(rng.normal(size=(n, m)))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def families(rng, n, m):
    """Batches that have each broken somebody's implementation."""
    yield "uniform", rng.random((n, m))
    yield "integers", rng.integers(0, 4, (n, m)).astype(float)
    yield "sphere", sphere(rng, n, m)
    yield "chain", np.repeat(rng.permutation(n)[:, None].astype(float), m, axis=1)
    yield (
        "antichain",
        np.column_stack([np.arange(n), -np.arange(n)] + [np.zeros(n)] * (m - 2))[:, :m],
    )
    yield "all equal", np.full((n, m), 2.5)
    duplicated = rng.random((n, m))
    yield "duplicated", duplicated[rng.integers(0, max(n // 3, 1), n)]
    one_column = rng.random((n, m))
    one_column[:, m // 2] = 1.0
    yield "constant column", one_column
    yield "scales", rng.normal(size=(n, m)) * 10.0 ** rng.integers(-200, 200, m)
    yield "extremes", rng.choice([-INF, INF, 0.0, -0.0, 1e308, -1e308, 5e-324], (n, m))
    yield "layers", np.floor(sphere(rng, n, m) * 50) + rng.integers(0, 3, (n, 1))


def frozen(array):
    array = np.array(array)
    array.setflags(write=False)
    return array


# --- fronts -------------------------------------------------------------------------------------


def test_fronts_by_hand():
    points = [[1, 4], [2, 2], [3, 3], [4, 1], [4, 4], [2, 2]]
    ranks = pareto.non_dominated_sort(points)
    assert ranks.dtype == np.int32
    np.testing.assert_array_equal(ranks, [0, 0, 1, 0, 2, 0])


def test_one_objective_is_a_dense_ranking():
    np.testing.assert_array_equal(pareto.non_dominated_sort([[3], [1], [1], [INF]]), [1, 0, 0, 2])


def test_signed_zeros_are_equal():
    points = [[0.0, -0.0], [-0.0, 0.0], [0.0, 1.0]]
    np.testing.assert_array_equal(pareto.non_dominated_sort(points), [0, 0, 1])
    np.testing.assert_array_equal(pareto.is_non_dominated(points), [True, True, False])


def test_infinities_are_ordinary_values():
    points = [[-INF, INF], [INF, -INF], [0, INF], [INF, INF], [-INF, 1]]
    np.testing.assert_array_equal(pareto.non_dominated_sort(points), [1, 0, 2, 3, 0])
    assert pareto.is_non_dominated([[INF, INF], [INF, INF]]).all()


@given(any_points)
@settings(deadline=None, max_examples=400)
def test_fronts_match_brute_force(points):
    expected = brute_force_ranks(points)
    np.testing.assert_array_equal(pareto.non_dominated_sort(points), expected)
    np.testing.assert_array_equal(pareto.is_non_dominated(points), expected == 0)


@pytest.mark.parametrize("m", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("n", [50, 700, 1500])
def test_families_match_brute_force(n, m):
    rng = np.random.default_rng(n + m)
    for name, points in families(rng, n, m):
        expected = brute_force_ranks(points)
        for threads in (1, 3):
            ranks = pareto.non_dominated_sort(points, threads=threads)
            mask = pareto.is_non_dominated(points, threads=threads)
            np.testing.assert_array_equal(ranks, expected, err_msg=name)
            np.testing.assert_array_equal(mask, expected == 0, err_msg=name)


@pytest.mark.parametrize(("n", "m"), [(60_000, 2), (20_000, 3), (6_000, 4), (4_000, 6)])
def test_large_batches_match_moocore(n, m):
    rng = np.random.default_rng(n)
    for name, points in families(rng, n, m):
        if not np.isfinite(points).all() or name in ("chain", "scales"):
            continue  # moocore needs minutes for a chain, and other values are not its business
        expected = moocore.pareto_rank(points)
        np.testing.assert_array_equal(pareto.non_dominated_sort(points), expected, err_msg=name)
        np.testing.assert_array_equal(pareto.is_non_dominated(points), expected == 0, err_msg=name)


@pytest.mark.parametrize("m", [2, 3, 4, 5])
def test_results_do_not_depend_on_threads(m):
    rng = np.random.default_rng(m)
    for points in (rng.random((80_000, m)), sphere(rng, 8_000, m)):
        one = pareto.non_dominated_sort(points, threads=1)
        np.testing.assert_array_equal(pareto.non_dominated_sort(points, threads=4), one)
        for threads in (1, 4):
            mask = pareto.is_non_dominated(points, threads=threads)
            np.testing.assert_array_equal(mask, one == 0)


def test_long_staircases_in_three_objectives():
    # First objective rising, the others an antichain in random order: a staircase of all points,
    # every insertion somewhere in its middle.
    n = 60_000
    y = np.random.default_rng(0).permutation(n).astype(float)
    points = np.column_stack([np.arange(n), y, -y])
    assert (pareto.non_dominated_sort(points) == 0).all()
    assert pareto.is_non_dominated(points).all()


def test_points_equal_in_rounded_sums():
    # The sum of the objectives does not see the last one; the order of the kernel must.
    points = np.zeros((3000, 5))
    points[:, 0] = 1e16 * (np.arange(3000) % 2)
    points[:, 4] = np.arange(3000)[::-1] * 1e-3
    np.testing.assert_array_equal(pareto.is_non_dominated(points), brute_force_ranks(points) == 0)


# --- crowding distance --------------------------------------------------------------------------


def reference_crowding(points):
    n, m = points.shape
    if n <= 2:
        return np.full(n, INF)
    total = np.zeros(n)
    for j in range(m):
        order = np.argsort(points[:, j], kind="stable")
        column = points[order, j]
        if column[0] == column[-1]:
            continue
        gaps = (column[2:] - column[:-2]) / (column[-1] - column[0])
        total[order[1:-1]] += gaps
        total[order[[0, -1]]] = INF
    return total


def test_crowding_by_hand():
    np.testing.assert_array_equal(
        pareto.crowding_distance([[0, 4], [1, 3], [2, 1], [4, 0]]), [INF, 1.25, 1.5, INF]
    )


def test_crowding_of_constant_columns_and_ties():
    np.testing.assert_array_equal(
        pareto.crowding_distance([[5, 0], [5, 1], [5, 2]]), [INF, 1.0, INF]
    )
    np.testing.assert_array_equal(pareto.crowding_distance(np.ones((4, 2))), np.zeros(4))
    # Of equal smallest values the first row is the boundary.
    np.testing.assert_array_equal(
        pareto.crowding_distance([[0], [0], [1], [2], [2]]), [INF, 0.5, 1.0, 0.5, INF]
    )
    for n in (0, 1, 2):
        np.testing.assert_array_equal(pareto.crowding_distance(np.ones((n, 2))), np.full(n, INF))


def test_crowding_with_infinities():
    points = [[-INF], [0.0], [1.0], [2.0], [INF], [INF]]
    np.testing.assert_array_equal(pareto.crowding_distance(points), [INF, 1, 0, 1, 1, INF])
    np.testing.assert_array_equal(
        pareto.crowding_distance([[-1e308], [0.0], [1e308]]), [INF, 1.0, INF]
    )


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(0, 60), st.integers(1, 5)),
        elements=st.integers(-5, 5).map(float) | st.floats(-1e6, 1e6),
    )
)
@settings(deadline=None)
def test_crowding_matches_the_definition(points):
    np.testing.assert_array_equal(pareto.crowding_distance(points), reference_crowding(points))


@pytest.mark.parametrize("n", [3, 100, 5000, 70_000])
def test_crowding_of_large_batches(n):
    rng = np.random.default_rng(n)
    ties = rng.integers(0, 9, (n, 3)).astype(float)
    for points in (rng.random((n, 3)), ties, rng.normal(size=(n, 2)) ** 7):
        np.testing.assert_array_equal(pareto.crowding_distance(points), reference_crowding(points))


# --- hypervolume --------------------------------------------------------------------------------


def test_hypervolume_by_hand():
    assert pareto.hypervolume([[1, 3], [2, 1]], [4, 4]) == 7.0
    assert pareto.hypervolume([[1, 3], [2, 1], [4, 0], [5, 5]], [4, 4]) == 7.0
    assert pareto.hypervolume([[2]], [5]) == 3.0
    assert pareto.hypervolume(np.zeros((0, 3)), [1, 1, 1]) == 0.0
    assert pareto.hypervolume([[1, INF]], [4, 4]) == 0.0
    assert isinstance(pareto.hypervolume([[1, 3]], [4, 4]), float)


@given(tame_points, st.sampled_from([1.0, 2.0, 5.0]))
@settings(deadline=None, max_examples=300)
def test_hypervolume_matches_the_grid(points, corner):
    reference = np.full(points.shape[1], corner)
    expected = brute_force_volume(points, reference)
    assert pareto.hypervolume(points, reference) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("m", "n"), [(2, 20_000), (3, 5_000), (4, 300), (5, 120), (6, 60), (7, 40), (8, 25)]
)
def test_hypervolume_matches_moocore(m, n):
    rng = np.random.default_rng(m)
    reference = np.full(m, 1.1)
    for points in (rng.random((n, m)), sphere(rng, n, m), 1 - sphere(rng, n, m)):
        expected = moocore.hypervolume(points, ref=reference)
        assert pareto.hypervolume(points, reference) == pytest.approx(expected, rel=1e-10)


def test_hypervolume_of_scaled_objectives():
    rng = np.random.default_rng(1)
    points = sphere(rng, 50, 4)
    scale = 2.0 ** np.array([100, -100, 7, 0])  # powers of two: exact
    reference = np.full(4, 1.5)
    whole = pareto.hypervolume(points, reference)
    scaled = pareto.hypervolume(points * scale, reference * scale)
    assert scaled == pytest.approx(whole * scale.prod(), rel=1e-12)


@pytest.mark.parametrize("m", range(1, 7))
def test_contributions_are_what_is_lost(m):
    rng = np.random.default_rng(m)
    reference = np.full(m, 3.2)
    for name, points in families(rng, 30, m):
        if name in ("extremes", "scales"):
            continue
        whole = pareto.hypervolume(points, reference)
        lost = [
            whole - pareto.hypervolume(np.delete(points, i, axis=0), reference) for i in range(30)
        ]
        parts = pareto.hypervolume_contributions(points, reference)
        np.testing.assert_allclose(parts, lost, rtol=1e-9, atol=1e-9 * max(1.0, whole))
        assert (parts >= 0).all()


@given(tame_points)
@settings(deadline=None, max_examples=200)
def test_dominated_and_equal_points_contribute_nothing(points):
    reference = np.full(points.shape[1], 5.0)
    parts = pareto.hypervolume_contributions(points, reference)
    inside = (points < reference).all(axis=1)
    equal = (points[:, None, :] == points[None, :, :]).all(axis=2).sum(axis=1) > 1
    covered = dominance(points[inside]).any(axis=0) if inside.any() else np.zeros(0, bool)
    assert (parts[~inside] == 0).all()
    assert (parts[equal] == 0).all()
    assert (parts[inside][covered] == 0).all()
    assert (parts[inside][~covered & ~equal[inside]] >= 0).all()


@pytest.mark.parametrize(("m", "n"), [(2, 400), (3, 200), (4, 80), (5, 40)])
def test_contributions_match_moocore_on_fronts(m, n):
    points = sphere(np.random.default_rng(m), n, m)
    reference = np.full(m, 1.2)
    expected = moocore.hv_contributions(points, ref=reference)
    parts = pareto.hypervolume_contributions(points, reference)
    np.testing.assert_allclose(parts, expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(("m", "n"), [(2, 3000), (3, 3000), (4, 400), (5, 200), (6, 120), (8, 60)])
def test_volumes_do_not_depend_on_threads(m, n):
    rng = np.random.default_rng(m)
    reference = np.full(m, 1.1)
    for points in (rng.random((n, m)), sphere(rng, n, m), rng.integers(0, 5, (n, m)) / 5.0):
        for function in (pareto.hypervolume, pareto.hypervolume_contributions):
            one = function(points, reference, threads=1)
            np.testing.assert_array_equal(function(points, reference, threads=3), one)
        one = pareto.crowding_distance(points, threads=1)
        np.testing.assert_array_equal(pareto.crowding_distance(points, threads=3), one)


@pytest.mark.parametrize("m", range(2, 10))
def test_contributions_by_their_definition(m):
    # On a coarse grid all volumes are exact, so equality is meant.
    rng = np.random.default_rng(m)
    reference = np.full(m, 4.0)
    for n in (1, 2, 9, 24):
        for high in (3, 5):
            points = rng.integers(0, high, (n, m)).astype(float)
            whole = pareto.hypervolume(points, reference)
            lost = [
                whole - pareto.hypervolume(np.delete(points, i, axis=0), reference)
                for i in range(n)
            ]
            parts = pareto.hypervolume_contributions(points, reference)
            np.testing.assert_array_equal(parts, lost)


def test_small_volumes_in_large_cells_keep_their_digits():
    # The points lie near the corner in all objectives but one each: the cell that holds them is
    # some 10^28 times their volume.
    points = np.full((5, 5), 1 - 1e-7)
    np.fill_diagonal(points, 0.0)
    expected = 5e-28 - 4e-35
    volume = pareto.hypervolume(points, np.ones(5))
    assert volume == pytest.approx(expected, rel=1e-7)
    assert pareto.hypervolume_contributions(points, np.ones(5)).sum() == pytest.approx(
        5e-28 - 5e-35, rel=1e-7
    )


# --- volumes of any size ------------------------------------------------------------------------


def exact_volume(points, reference):
    """Volume in fractions, by inclusion and exclusion; for a few points."""
    rows = [[Fraction(float(x)) for x in row] for row in points]
    corner = [Fraction(float(x)) for x in reference]
    rows = [row for row in rows if all(x < c for x, c in zip(row, corner, strict=True))]
    total = Fraction(0)
    for size in range(1, len(rows) + 1):
        for subset in itertools.combinations(rows, size):
            box = Fraction((-1) ** (size + 1))
            for j, c in enumerate(corner):
                box *= c - max(row[j] for row in subset)
            total += box
    return total


def exact_contributions(points, reference):
    whole = exact_volume(points, reference)
    return [
        whole - exact_volume(np.delete(points, i, axis=0), reference) for i in range(len(points))
    ]


LARGEST = Fraction(sys.float_info.max)
LEAST_NORMAL = Fraction(sys.float_info.min)


def assert_close(value, exact, scale, rel):
    """Within rounding of the exact value; `scale` is what it was computed from."""
    assert abs(Fraction(value) - exact) <= Fraction(rel) * scale, (value, float(exact))


def test_objectives_in_any_order_give_the_same_volume():
    for order in itertools.permutations([1e-200, 1e-200, 1e300]):
        assert pareto.hypervolume([[0, 0, 0]], order) == pytest.approx(1e-100, rel=1e-15)
        parts = pareto.hypervolume_contributions([[0, 0, 0]], order)
        assert parts == pytest.approx([1e-100], rel=1e-15)


@given(
    st.lists(
        st.tuples(st.floats(1, 2), st.integers(-1074, 1000), st.booleans()), min_size=1, max_size=40
    )
)
@settings(deadline=None, max_examples=400)
def test_one_point_is_exact_or_refused(widths):
    # Up to 40 objectives with widths of any size, from subnormal ones on.
    reference = [np.ldexp(x, e) for x, e, _ in widths]
    below = np.array(
        [[-c if twice else 0.0 for c, (*_, twice) in zip(reference, widths, strict=True)]]
    )
    exact = exact_volume(below, reference)
    for function in (pareto.hypervolume, lambda *a: pareto.hypervolume_contributions(*a)[0]):
        if LEAST_NORMAL <= exact <= LARGEST * Fraction(0.999):
            assert_close(function(below, reference), exact, exact, 1e-14)
        elif exact > LARGEST * Fraction(1.001):
            with pytest.raises(InvalidInputError, match="overflows a double"):
                function(below, reference)
        elif exact < LEAST_NORMAL / 2**53:
            with pytest.raises(InvalidInputError, match="underflows a double"):
                function(below, reference)


@pytest.mark.parametrize("m", range(2, 12))
def test_units_change_no_digit(m):
    rng = np.random.default_rng(m)
    for n in (1, 2, 7, 25):
        points = sphere(rng, n, m)
        reference = np.full(m, 1.5)
        volume = pareto.hypervolume(points, reference)
        parts = pareto.hypervolume_contributions(points, reference)
        for spread in (10, 200, 480):
            shifts = rng.integers(-spread, spread + 1, m)
            shifts -= shifts[rng.permutation(m)]  # the sum is 0
            units = np.ldexp(1.0, shifts)
            assert pareto.hypervolume(points * units, reference * units) == volume
            np.testing.assert_array_equal(
                pareto.hypervolume_contributions(points * units, reference * units), parts
            )


@pytest.mark.parametrize("m", range(2, 11))
def test_points_far_apart_are_exact_in_any_order(m):
    # Coordinates of every size within an objective, and every objective in units of its own.
    rng = np.random.default_rng(m)
    for _ in range(30):
        n = int(rng.integers(1, 7))
        units = 10.0 ** rng.integers(-250, 250, m)
        points = -rng.random((n, m)) * 10.0 ** rng.integers(-20, 1, (n, m)) * units
        reference = units * rng.choice([0.0, 1e-3, 1.0])
        exact = exact_volume(points, reference)
        parts = exact_contributions(points, reference)
        for turn in (list(range(m)), list(reversed(range(m))), list(rng.permutation(m))):
            arguments = points[:, turn], reference[turn]
            if exact > LARGEST:
                with pytest.raises(InvalidInputError, match="overflows"):
                    pareto.hypervolume(*arguments)
            elif exact >= LEAST_NORMAL:
                assert_close(pareto.hypervolume(*arguments), exact, exact, 1e-11)
            else:
                with pytest.raises(InvalidInputError, match="underflows|too small"):
                    pareto.hypervolume(*arguments)
            if all(part == 0 or part >= LEAST_NORMAL for part in parts) and exact <= LARGEST:
                found = pareto.hypervolume_contributions(*arguments)
                for value, part in zip(found, parts, strict=True):
                    assert_close(value, part, exact if m > 3 else part, 1e-11)
            elif exact <= LARGEST:
                with pytest.raises(InvalidInputError, match="underflows|too small"):
                    pareto.hypervolume_contributions(*arguments)


def test_contributions_that_underflow_are_named():
    # The middle point alone covers 1e-400, beside 2e100.
    points = [[-1e300, 1e-200], [0.0, 0.0], [1e-200, -1e300]]
    with pytest.raises(InvalidInputError, match="row 1 underflows"):
        pareto.hypervolume_contributions(points, [1e-190, 1e-190])
    parts = pareto.hypervolume_contributions([*points, [0.0, 0.0]], [1e-190, 1e-190])
    np.testing.assert_array_equal(parts[[1, 3]], 0.0)


def test_random_fronts():
    """Random batches of up to 3,000 points against brute force and moocore.

    PNAG_RANDOM_FRONTS sets how many, PNAG_RANDOM_FIRST the number of the first; every batch depends
    on its number only. csrc/tests/test_random_fronts.cpp checks many more, without moocore.
    """
    first = int(os.environ.get("PNAG_RANDOM_FIRST", "0"))
    for number in range(first, first + int(os.environ.get("PNAG_RANDOM_FRONTS", "5000"))):
        rng = np.random.default_rng(number)
        m = int(rng.integers(1, 9))
        n = int(3001 ** (rng.random() * rng.random() ** 0.5))
        batch = list(families(rng, n, m)) if m > 1 else [("uniform", rng.random((n, 1)))]
        name, points = batch[rng.integers(len(batch))]
        message = f"{name}; repeat with PNAG_RANDOM_FIRST={number} PNAG_RANDOM_FRONTS=1"
        tame = name not in ("scales", "extremes")
        ranks = pareto.non_dominated_sort(points, threads=2)
        if n <= 100:
            expected = brute_force_ranks(points)
        elif name == "chain":  # of which moocore needs minutes
            expected = points[:, 0]
        elif tame:
            expected = moocore.pareto_rank(points)
        else:
            expected = ranks
        np.testing.assert_array_equal(ranks, expected, err_msg=message)
        mask = pareto.is_non_dominated(points, threads=2)
        np.testing.assert_array_equal(mask, ranks == 0, err_msg=message)
        if name != "extremes":
            crowding = pareto.crowding_distance(points)
            np.testing.assert_array_equal(crowding, reference_crowding(points), err_msg=message)
        if not tame:
            continue
        reference = points.max(axis=0, initial=0.0) + 0.5
        # Beyond four objectives moocore's time is exponential.
        some = points[: {5: 200, 6: 100, 7: 60, 8: 40}.get(m, n)]
        expected_volume = moocore.hypervolume(some, ref=reference)
        volume = pareto.hypervolume(some, reference)
        assert volume == pytest.approx(expected_volume, rel=1e-9), message
        front = np.unique(some[pareto.is_non_dominated(some)], axis=0)
        parts = pareto.hypervolume_contributions(front, reference)
        if m > 1 and len(front) <= (200 if m <= 3 else 12):
            expected_parts = moocore.hv_contributions(front, ref=reference)
            np.testing.assert_allclose(
                parts, expected_parts, rtol=1e-6, atol=1e-9 * volume, err_msg=message
            )


@pytest.mark.skipif(sys.platform == "win32", reason="no signals to a process")
@pytest.mark.parametrize(
    "call",
    [
        "pareto.hypervolume(sphere(20_000, 8), np.full(8, 1.1), threads=2)",
        "pareto.hypervolume_contributions(sphere(20_000, 7), np.full(7, 1.1), threads=1)",
        "pareto.hypervolume(sphere(3_000, 10), np.full(10, 1.1))",
        "pareto.hypervolume_contributions(sphere(2_000, 9), np.full(9, 1.1))",
        "pareto.non_dominated_sort(sphere(2_000_000, 8), threads=2)",
        "pareto.is_non_dominated(sphere(2_000_000, 8), threads=2)",
        "pareto.hypervolume(sphere(300_000, 4), np.full(4, 1.1))",
        "(lambda x: pareto.best_within(x[:50_000], x[:50_000, 0], x))(sphere(2_000_000, 6))",
    ],
)
def test_interrupts_are_answered(call):
    program = f"""
        import time
        import numpy as np
        from pnag_fast import pareto

        def sphere(n, m):
            points = np.abs(np.random.default_rng(0).normal(size=(n, m)))
            points /= np.linalg.norm(points, axis=1, keepdims=True)
            print("ready", flush=True)
            return points

        try:
            {call}
        except KeyboardInterrupt:
            print(time.time(), flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    assert process.poll() is None
    asked = time.time()
    process.send_signal(signal.SIGINT)
    try:
        answer, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert float(answer) - asked < 0.5 + SLACK_S


# --- the best within bounds ---------------------------------------------------------------------


def best_by_definition(costs, merit, bounds):
    """Row of the largest merit that fits; then the lexicographically first costs, then the row."""
    order = np.lexsort((np.arange(len(costs)), *costs.T[::-1], -merit))
    fits = (costs[order] <= bounds[:, None]).all(axis=2)
    if len(costs) == 0:
        return np.full(len(bounds), -1)
    return np.where(fits.any(axis=1), order[fits.argmax(axis=1)], -1)


def test_best_within_by_hand():
    costs = [[1, 4], [2, 2], [4, 1], [2, 2]]
    merit = [0.7, 0.8, 0.9, 0.8]
    bounds = [[4, 4], [3, 5], [1, 1], [INF, 1], [1, INF], [2, 2]]
    found = pareto.best_within(costs, merit, bounds)
    assert found.dtype == np.intp
    np.testing.assert_array_equal(found, [2, 1, -1, 2, 0, 1])
    # One cost: a cheaper one of the same merit is the answer, whatever the bound.
    found = pareto.best_within([[3], [2], [5], [1]], [1, 1, 0, 0], [[0.5], [1], [2], [3], [9]])
    np.testing.assert_array_equal(found, [-1, 3, 1, 1, 1])


@given(st.data(), st.integers(0, 60), st.integers(1, 6), st.booleans())
@settings(deadline=None, max_examples=100)
def test_best_within_matches_the_definition(data, n, m, is_coarse):
    values = coarse if is_coarse else wild
    costs = data.draw(hnp.arrays(np.float64, (n, m), elements=values))
    merit = data.draw(hnp.arrays(np.float64, n, elements=values))
    bounds = data.draw(hnp.arrays(np.float64, (9, m), elements=values))
    bounds = np.concatenate([bounds, costs[: n // 2], np.full((1, m), INF)])
    # -0.0 and 0.0 are one value.
    expected = best_by_definition(costs + 0.0, merit + 0.0, bounds)
    np.testing.assert_array_equal(pareto.best_within(costs, merit, bounds), expected)


@pytest.mark.parametrize("m", [1, 2, 4, 8])
def test_best_within_large_fronts(m):
    rng = np.random.default_rng(m)
    costs = rng.random((9000, m))
    # Merits that follow the costs with some noise.
    merit = np.round(costs.sum(axis=1) + rng.normal(0, 0.02, len(costs)), 3)
    bounds = costs[rng.integers(0, len(costs), 700)] * rng.uniform(0.9, 1.5, (700, m))
    bounds[::9, m - 1] = INF
    bounds[::10, 0] = -1.0
    found = pareto.best_within(costs, merit, bounds)
    np.testing.assert_array_equal(found, best_by_definition(costs, merit, bounds))
    assert (found < 0).any()
    assert len(np.unique(found)) > min(m, 2) * 20
    for threads in (1, 2, 5):
        np.testing.assert_array_equal(
            pareto.best_within(costs, merit, bounds, threads=threads), found
        )


def test_wrong_bounds_are_named():
    costs, merit, bounds = np.zeros((3, 2)), np.zeros(3), np.zeros((4, 2))
    nan = np.full((9, 2), np.nan)
    for arguments, message in [
        ((nan[:3], merit, bounds), "costs: row 0, column 0 is NaN"),
        ((costs, nan[:3, 0], bounds), "merit: row 0, column 0 is NaN"),
        ((costs, merit, nan[:4]), "bounds: row 0, column 0 is NaN"),
        ((costs, merit[:2], bounds), "merit has 2 values for 3 rows"),
        ((costs, merit, bounds[:, :1]), "bounds has 1 columns"),
        ((costs[:, :0], merit, bounds[:, :0]), "costs has no columns"),
        ((merit, merit, bounds), r"costs .* \(n, m\): one column per cost"),
        ((costs, costs, bounds), r"merit .* \(n,\): one entry per row of costs"),
        ((costs, merit, merit), r"bounds .* \(b, m\): one column per cost"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            pareto.best_within(*arguments)
    with pytest.raises(InvalidInputError, match="threads is 0"):
        pareto.best_within(costs, merit, bounds, threads=0)
    assert pareto.best_within(costs, merit, bounds[:0]).shape == (0,)
    np.testing.assert_array_equal(pareto.best_within(costs[:0], merit[:0], bounds), [-1] * 4)


# --- what goes in -------------------------------------------------------------------------------

FUNCTIONS = {
    "non_dominated_sort": pareto.non_dominated_sort,
    "is_non_dominated": pareto.is_non_dominated,
    "crowding_distance": pareto.crowding_distance,
    "hypervolume": lambda points: pareto.hypervolume(points, [10.0] * 3),
    "hypervolume_contributions": lambda points: pareto.hypervolume_contributions(
        points, [10.0] * 3
    ),
    "best_within": lambda points: pareto.best_within(np.eye(3), [1, 2, 3], points),
}
each_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())


@each_function
def test_layouts_and_dtypes_give_the_same_result(function):
    points = np.random.default_rng(0).integers(-9, 9, (40, 3)).astype(float)
    expected = function(points)
    wide = np.zeros((80, 6))
    wide[::2, ::2] = points
    unaligned = np.frombuffer(b"x" + points.tobytes(), np.float64, offset=1).reshape(40, 3)
    variants = [
        points.tolist(),
        np.asfortranarray(points),
        wide[::2, ::2],
        points[::-1][::-1],
        unaligned,
        frozen(points),
        points.astype(np.float32),
        points.astype(np.float16),
        points.astype(np.int8),
        points.astype(np.int64),
        points.astype(">f8"),
    ]
    for variant in variants:
        np.testing.assert_array_equal(function(variant), expected)


@each_function
def test_inputs_are_never_written(function):
    points = frozen(np.random.default_rng(0).random((50, 3)))
    before = points.copy()
    function(points)
    np.testing.assert_array_equal(points, before)


@each_function
def test_nan_is_named(function):
    points = np.random.default_rng(0).random((9000, 3))
    points[8765, 2] = np.nan
    points[8999, 0] = np.nan
    with pytest.raises(InvalidInputError, match=r"row 8765, column 2 is NaN"):
        function(points)


@each_function
@pytest.mark.parametrize(
    ("points", "error", "message"),
    [
        (np.zeros((3, 0)), InvalidInputError, "no columns"),
        (np.zeros(3), InvalidInputError, r"shape \(3,\)"),
        (np.zeros((2, 2, 2)), InvalidInputError, r"shape \(2, 2, 2\)"),
        ([[1, 2], [3]], InvalidInputError, "rectangular"),
        (np.zeros((2, 3), complex), InvalidTypeError, "complex128"),
        (np.zeros((2, 3), bool), InvalidTypeError, "bool"),
        (np.zeros((2, 3), object), InvalidTypeError, "object"),
        (np.full((2, 3), "1"), InvalidTypeError, "<U1"),
        (np.zeros((2, 3), "M8[s]"), InvalidTypeError, "datetime64"),
        (np.zeros((2, 3), np.longdouble), InvalidTypeError, "float128|longdouble"),
        (np.full((2, 3), 2**53 + 1), InvalidInputError, "9007199254740993"),
        (np.full((2, 3), 2**64 - 1, np.uint64), InvalidInputError, "18446744073709551615"),
    ],
)
def test_wrong_input_is_named(function, points, error, message):
    with pytest.raises(error, match=message) as caught:
        function(points)
    assert isinstance(caught.value, PnagError)


@pytest.mark.parametrize("function", [pareto.non_dominated_sort, pareto.is_non_dominated])
def test_wrong_threads_are_named(function):
    for threads, error in (
        (0, InvalidInputError),
        (-1, InvalidInputError),
        (1.5, InvalidTypeError),
    ):
        with pytest.raises(error, match="threads is"):
            function([[1.0, 2.0]], threads=threads)
    with pytest.raises(InvalidTypeError, match="bool"):
        function([[1.0, 2.0]], threads=True)
    assert function([[1.0, 2.0]], threads=np.int64(2)).shape == (1,)


@each_function
def test_empty_batches(function):
    result = function(np.zeros((0, 3)))
    assert result == 0.0 if isinstance(result, float) else result.shape == (0,)


@each_function
def test_signed_zeros_change_no_bit(function):
    points = np.random.default_rng(0).integers(-1, 2, (200, 3)).astype(float)
    signed = points.copy()
    signed[::2][points[::2] == 0] = -0.0
    assert np.signbit(signed).sum() > np.signbit(points).sum()
    np.testing.assert_array_equal(function(signed), function(points))


@each_function
def test_infinities_beside_ordinary_values(function):
    # What lies beyond all values in every objective changes nothing for the others.
    points = np.random.default_rng(0).random((60, 3))
    result = function(np.vstack([points, np.full((2, 3), INF)]))
    if isinstance(result, float):
        assert result == function(points)
    elif function is not pareto.crowding_distance:
        np.testing.assert_array_equal(result[:60], function(points))


@pytest.mark.parametrize("m", [1, 2, 3, 5, 40])
def test_one_row(m):
    point = np.full((1, m), 0.5)
    np.testing.assert_array_equal(pareto.non_dominated_sort(point), [0])
    np.testing.assert_array_equal(pareto.is_non_dominated(point), [True])
    np.testing.assert_array_equal(pareto.crowding_distance(point), [INF])
    assert pareto.hypervolume(point, np.ones(m)) == 0.5**m
    np.testing.assert_array_equal(pareto.hypervolume_contributions(point, np.ones(m)), [0.5**m])


@pytest.mark.parametrize("m", [2, 3, 4, 5, 9])
def test_subnormal_values_are_values(m):
    # Whole multiples of the smallest double in one objective, of a huge one in another.
    rng = np.random.default_rng(m)
    points = rng.integers(0, 4, (30, m)).astype(float)
    scale = np.ones(m)
    scale[0], scale[1] = 2.0**-1074, 2.0**1000
    reference = np.full(m, 4.0)
    for function in (
        pareto.non_dominated_sort,
        pareto.is_non_dominated,
        pareto.crowding_distance,
    ):
        np.testing.assert_array_equal(function(points * scale), function(points))
    for function in (pareto.hypervolume, pareto.hypervolume_contributions):
        small = np.asarray(function(points * scale, reference * scale))
        np.testing.assert_array_equal(small, np.asarray(function(points, reference)) * 2.0**-74)


def test_many_objectives():
    rng = np.random.default_rng(0)
    points = np.vstack([rng.integers(0, 3, (50, 300)), np.zeros((1, 300))])
    expected = brute_force_ranks(points)
    np.testing.assert_array_equal(pareto.non_dominated_sort(points), expected)
    np.testing.assert_array_equal(pareto.is_non_dominated(points), expected == 0)
    np.testing.assert_array_equal(pareto.crowding_distance(points), reference_crowding(points))
    assert pareto.hypervolume(points, np.full(300, 2.0)) == 2.0**300


@pytest.mark.parametrize("function", [pareto.hypervolume, pareto.hypervolume_contributions])
def test_wrong_references_are_named(function):
    points = [[1.0, 2.0]]
    for reference, message in [
        ([3.0], "1 entries"),
        ([3.0, INF], "entry 1 is inf"),
        ([np.nan, 1.0], "entry 0 is nan"),
        ([[3.0, 3.0]], r"shape \(1, 2\)"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            function(points, reference)
    with pytest.raises(InvalidInputError, match="row 1, column 0 is -inf"):
        function([[1, 1], [-INF, 1]], [2, 2])
    with pytest.raises(InvalidInputError, match="overflows"):
        function([[-1e200, -1e200]], [0, 0])


def test_options_are_keyword_only_and_data_positional_only():
    with pytest.raises(TypeError):
        pareto.non_dominated_sort([[1.0]], 2)  # type: ignore[misc]
    with pytest.raises(TypeError):
        pareto.non_dominated_sort(points=[[1.0]])  # type: ignore[call-arg]


def test_all_orders_of_a_small_batch():
    points = np.array([[0, 2], [1, 1], [2, 0], [1, 2], [2, 2]], float)
    expected = np.array([0, 0, 0, 1, 2])
    for order in itertools.permutations(range(5)):
        rows = list(order)
        np.testing.assert_array_equal(pareto.non_dominated_sort(points[rows]), expected[rows])


# --- what users pass ------------------------------------------------------------------------------


class Hostile:
    """An object whose every conversion and description fails."""

    def _fail(self, *args, **kwargs):
        raise RuntimeError("no")

    __repr__ = __str__ = __index__ = __float__ = __len__ = __iter__ = __array__ = _fail
    __eq__ = __hash__ = __bool__ = _fail


def odd_values():
    """Values that are no points, no reference and no number of threads."""
    masked = np.ma.masked_array(np.ones((2, 2)), mask=np.eye(2))
    values = [
        None, True, np.bool_(True), -1, 10**400, 10**6000, 1.5, np.nan, -np.inf, 1j, "x", "", b"x",
        {}, {"a": [1.0]}, {1.0}, [None], [[1.0], [1.0, 2.0]], ["x"], [["1", "2"]], [[1j, 2]],
        [[True, False]], object(), object, len, np, ..., (x for x in [1.0]), np.array(3.0),
        np.array([[None, 1.0]]), np.ones((2, 2), complex), np.ones((2, 2), bool), masked,
        [masked[0], masked[1]], [[1.0, np.ma.masked]], np.ones((2, 2), np.longdouble),
        np.zeros((2, 2), dtype=[("a", float)]), np.zeros((2, 2), "M8[D]"), np.full((2, 2), np.nan),
        np.ones((2, 2, 2)), np.ones((2, 0)), [[2**53 + 1, 0]], memoryview(b"abc"), Hostile(),
        [Hostile()], [[Hostile(), 1.0]],
    ]  # fmt: skip
    try:
        import torch
    except ImportError:
        return values
    points = torch.ones(2, 2)
    grad = points.clone().requires_grad_()
    return [*values, points.bfloat16(), grad, list(grad), points.to_sparse(), points.bool()]


@pytest.mark.parametrize("place", ["points", "reference", "threads"])
@pytest.mark.parametrize(
    "kernel",
    [
        pareto.non_dominated_sort,
        pareto.is_non_dominated,
        pareto.crowding_distance,
        pareto.hypervolume,
        pareto.hypervolume_contributions,
    ],
    ids=lambda kernel: kernel.__name__,
)
def test_odd_arguments_raise_our_own_errors_only(kernel, place):
    points, reference = np.zeros((2, 2)), [np.ones(2)]
    if not kernel.__name__.startswith("hypervolume"):
        reference = []
        if place == "reference":
            pytest.skip("takes no reference")
    for value in odd_values():
        if place == "threads":
            if value is None:
                continue
            with pytest.raises(PnagError) as caught:
                kernel(points, *reference, threads=value)
        elif place == "reference":
            with pytest.raises(PnagError) as caught:
                kernel(points, value)
        else:
            with pytest.raises(PnagError) as caught:
                kernel(value, *reference)
        assert len(str(caught.value)) < 1000


def test_masked_points_do_not_count():
    points = np.ma.masked_array([[1.0, 4.0], [0.0, 0.0], [2.0, 2.0]], mask=[[0, 0], [1, 1], [0, 0]])
    with pytest.raises(InvalidTypeError, match="points is a masked array with 2 masked entries"):
        pareto.is_non_dominated(points)
    kept = np.ma.compress_rows(points)
    np.testing.assert_array_equal(pareto.is_non_dominated(kept), [True, True])
    np.testing.assert_array_equal(pareto.is_non_dominated(np.ma.masked_array(kept)), [True, True])
