from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import (
    InvalidInputError,
    MemoryShortageError,
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
def test_windows_against_enumeration(name, options, window, random_table):
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


def test_windows_of_a_binned_space_against_rejection(tiny, random_table):
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
def test_every_architecture_of_a_small_window_is_equally_likely(name, random_table):
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


def test_windows_down_to_nothing_end(random_table):
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
def test_the_whole_range_is_plain_uniform(resolutions, random_table):
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


def test_narrow_windows_and_extremes_of_a_large_space(random_table):
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


def test_impossible_windows_are_refused(cell, random_table):
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


@pytest.mark.parametrize("name", ["nasbench201", "ofa-mbv3"])
def test_windows_with_an_open_side(name, random_table):
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
