"""The comparison of searches: what it measures by, and that its peers ask what they say."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import pnag_fast as pf

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(BENCH))
    import searches

    yield searches
    sys.path.remove(str(BENCH))


@pytest.fixture(scope="module")
def cells(bench):
    """Cells whose accuracy is made up: convolutions help, and some by themselves."""
    space = pf.spaces.get("nasbench201")
    archs = space.enumerate()
    rng = np.random.default_rng(0)
    top1 = 0.3 + 0.08 * (archs == 4).sum(axis=1) + rng.uniform(0, 0.05, len(archs))
    # Not in the order of the codes, as in the benchmark's file.
    order = rng.permutation(len(archs))
    return bench.Cells("made up", "made up", space, archs[order], top1[order], pf.costs.macs(space))


def test_deficit_and_regret_of_two_cells(cells):
    assert cells.deficit(np.arange(len(cells.archs))) == pytest.approx(0, abs=1e-9)
    assert cells.regret(np.arange(len(cells.archs))) == 0
    assert cells.deficit(cells.front) == pytest.approx(0, abs=1e-9)
    asked = cells.front[[len(cells.front) // 2, -2]]
    known = [
        max([cells.top1[row] for row in asked if cells.costs[row] <= b] or [cells.top1.min()])
        for b in cells.budgets
    ]
    best = [cells.top1[cells.costs <= b].max() for b in cells.budgets]
    assert cells.regret(asked) == pytest.approx(100 * (np.mean(best) - np.mean(known)))
    # Rectangles from the reference, of which the second is seen beside the first only.
    (a, b), (width, height) = cells.points[asked], cells.nadir
    low, high = (a, b) if a[1] < b[1] else (b, a)
    area = (width - low[0]) * (height - low[1])
    area += max(0, low[0] - high[0]) * (height - high[1])
    assert cells.deficit(asked) == pytest.approx(100 * (1 - area / cells.volume))


def test_nothing_within_any_budget_is_the_worst_of_all(cells):
    dearest = np.array([cells.costs.argmax()])
    assert cells.costs[dearest] > cells.budgets.max()
    best = [cells.top1[cells.costs <= b].max() for b in cells.budgets]
    assert cells.regret(dearest) == pytest.approx(100 * (np.mean(best) - cells.top1.min()))


def test_who_believes_what_is_not_so_loses_by_it(cells):
    rows = cells.front
    assert cells.lost(rows, cells.top1[rows]) == pytest.approx(0, abs=1e-9)
    # The cheapest fits everywhere, and is believed to be the best.
    cheapest = cells.costs[rows].argmin()
    believed = np.where(np.arange(len(rows)) == cheapest, 1.0, cells.top1[rows])
    assert cells.lost(rows, believed) == pytest.approx(cells.regret(rows[[cheapest]]))


def test_questions_are_written_down_in_their_order(bench, cells):
    asking = bench.Asking(cells)
    oracle = asking.oracle()
    values = oracle(cells.archs[[7, 3, 7]])
    assert values.tolist() == cells.top1[[7, 3, 7]].tolist()
    oracle(cells.archs[[3, 11]])
    assert asking.asked == [7, 3, 11]
    assert len(asking.cpu_s) == 3
    noisy = bench.Asking(cells, noise=3, seed=1)
    noise = 100 * (noisy(cells.archs) - cells.top1)
    assert noise.std() == pytest.approx(3, rel=0.05)
    assert (noisy(cells.archs[:5]) == noisy(cells.archs[:5])).all()


def test_methods_that_share_a_run_ask_the_same_whatever_the_limit(bench, cells):
    shared = [c for c in bench.CONTENDERS if not c.fixed and c.name in pf.search.names()]
    assert {"active", "nsga2", "random"} <= {c.name for c in shared}
    for contender in shared:
        asked = []
        for evaluations in (40, 60):
            asking = bench.Asking(cells)
            contender.run(asking, 3, evaluations)
            asked.append(asking.asked)
        assert len(asked[0]) == 40
        assert asked[0] == asked[1][:40], contender.name


def test_peers_are_answered_repeats_and_told_when_it_is_enough(bench, cells):
    from peers.questions import Questions

    asking = bench.Asking(cells)
    ask = Questions(cells.space, asking, [cells.table], evaluations=3)
    assert ask.options.tolist() == [5] * 6
    x = np.array([[0, 1, 2, 3, 4, 0], [0, 1, 2, 3, 4, 0], [1, 1, 1, 1, 1, 1]])
    values = ask(x)
    rows = cells.rows(ask.archs(x))
    np.testing.assert_array_equal(values, cells.points[rows])
    assert ask.left == 1
    assert asking.asked == rows[[0, 2]].tolist()
    for _ in range(1000):
        ask(x[:2])
    assert ask.left == 0
    np.testing.assert_array_equal(ask.costs(x)[:, 0], cells.costs[rows])


# What other packages deprecate is theirs.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("BoTorch", marks=pytest.mark.slow),
        pytest.param("Optuna GP", marks=pytest.mark.slow),
        "Optuna TPE",
        "Optuna NSGA-II",
        "pymoo",
    ],
)
def test_peers_find_more_than_nothing(bench, cells, name):
    contender = next(c for c in bench.CONTENDERS if c.name.startswith(name))
    if not contender.available():
        pytest.skip(f"{name} is not installed")
    asking = bench.Asking(cells)
    contender.run(asking, 0, 26)
    assert 26 <= len(asking.asked) <= 26 + bench.POPULATION
    assert len(set(asking.asked)) == len(asking.asked)
    assert 0 < cells.deficit(np.array(asking.asked)) < 100


def test_signed_ranks(bench):
    pytest.importorskip("scipy")
    ours = np.arange(6.0) + np.zeros((2, 6))
    more = np.arange(1.0, 7)
    # All six are less: the least p of a two-sided test of six pairs is 2 / 2^6.
    assert bench.p_of(ours, ours + more) == "< 0.031"
    assert bench.p_of(ours, ours - more) == "> 0.031"
    assert bench.p_of(ours[:, :5], ours[:, :5] + 1) == "-"
    assert bench.p_of(ours, np.full((2, 6), np.nan)) == "-"


@pytest.mark.slow
def test_a_comparison_goes_on(bench, tmp_path, shared_data, capsys):
    pytest.importorskip("matplotlib")
    if not shared_data.is_dir():
        pytest.skip("the folder of shared measurements is not here")
    options = ["--data", str(shared_data), "--tiny", "--work-dir", str(tmp_path)]
    options += ["--methods", "nsga2", "evolution", "random", "--plot", str(tmp_path / "a.png")]
    printed = []
    for _ in range(2):
        bench.main(options)
        lines = capsys.readouterr().out.splitlines()
        printed.append([line for line in lines if not line.startswith("<!-- searches")])
        asked = [line for line in lines if line.startswith("<!-- searches")]
    assert not asked
    assert printed[0] == printed[1]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    rows = [line for line in printed[0] if line.startswith(("| ns", "| ev", "| ra"))]
    assert len(rows) == 3
    # A seed that not every problem has is not in a table of what is there.
    bench.main([*options[:-2], "--only-kept", "--noise", "3"])
    assert "| nsga2 |" not in capsys.readouterr().out
    bench.main([*options[:-2], "--only-kept"])
    assert rows == [line for line in capsys.readouterr().out.splitlines() if line in rows]
