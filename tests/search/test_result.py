from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import FileFormatError
from pnag_fast.search import objectives


def test_small_spaces_are_searched_exhaustively(cell):
    pytest.importorskip("torch")
    archs = cell.sample(300, seed=0)
    top1 = 0.3 + 0.1 * (archs == 4).sum(axis=1)
    model = pf.accuracy.fit(cell, archs, top1)
    macs = pf.costs.macs(cell)
    front = pf.search.front(cell, model, [macs])
    everything = cell.enumerate()
    points = objectives(model.predict(everything), macs(everything)[:, None])
    best = pf.pareto.is_non_dominated(points)
    assert front.evaluations == len(everything)
    np.testing.assert_array_equal(
        np.unique(front.archs, axis=0), np.unique(everything[best], axis=0)
    )


def test_front_beats_its_baselines_at_equal_evaluations(tiny, tiny_model, tiny_table):
    reference = np.array([1.0, tiny_table.bounds[1]])
    volume = {}
    for name in ("front", "nsga2", "random"):
        search = getattr(pf.search, name)
        found = search(tiny, tiny_model, [tiny_table], evaluations=10_000, seed=0)
        assert found.evaluations == 10_000
        points = objectives(found.top1, found.costs)
        assert pf.pareto.is_non_dominated(points).all()
        assert (np.diff(found.costs[:, 0]) >= 0).all()
        np.testing.assert_array_equal(found.costs[:, 0], tiny_table(found.archs))
        volume[name] = pf.pareto.hypervolume(points, reference)
    assert volume["front"] > volume["nsga2"] > volume["random"]


def test_best_within_budgets(tiny, tiny_model, tiny_table):
    front = pf.search.random(tiny, tiny_model, [tiny_table], evaluations=2000)
    budgets = np.linspace(tiny_table.bounds[0] * 0.5, tiny_table.bounds[1], 20)[:, None]
    for budget, row in zip(budgets[:, 0], front.best(budgets), strict=True):
        fits = front.costs[:, 0] <= budget
        if not fits.any():
            assert row == -1
        else:
            assert front.top1[row] == front.top1[fits].max()


def test_files_round_trip(tiny, tiny_model, tiny_table, tmp_path):
    front = pf.search.random(tiny, tiny_model, [tiny_table], evaluations=500)
    front.save(tmp_path / "front.json")
    loaded = pf.Front.load(tmp_path / "front.json", [tiny_table])
    np.testing.assert_array_equal(loaded.archs, front.archs)
    np.testing.assert_array_equal(loaded.top1, front.top1)
    lines = front.to_csv().splitlines()
    assert lines[0] == "arch,top1,latency_ms"
    assert len(lines) == 1 + len(front)
    (tmp_path / "front.json").write_text("{}")
    with pytest.raises(FileFormatError):
        pf.Front.load(tmp_path / "front.json", [tiny_table])
