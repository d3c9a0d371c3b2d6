from __future__ import annotations

import inspect

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import FileFormatError, InvalidInputError
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


def test_same_seed_same_front(tiny, tiny_model, tiny_table):
    runs = [
        pf.search.front(tiny, tiny_model, [tiny_table], evaluations=3000, seed=s) for s in (0, 0, 1)
    ]
    np.testing.assert_array_equal(runs[0].archs, runs[1].archs)
    assert runs[0].archs.shape != runs[2].archs.shape or (runs[0].archs != runs[2].archs).any()


def test_several_costs(tiny, tiny_model, tiny_table):
    tables = [tiny_table, pf.costs.parameters(tiny)]
    front = pf.search.front(tiny, tiny_model, tables, evaluations=5000)
    assert front.costs.shape == (len(front), 2)
    assert pf.pareto.is_non_dominated(objectives(front.top1, front.costs)).all()


def test_best_within_budgets(tiny, tiny_model, tiny_table):
    front = pf.search.random(tiny, tiny_model, [tiny_table], evaluations=2000)
    budgets = np.linspace(tiny_table.bounds[0] * 0.5, tiny_table.bounds[1], 20)[:, None]
    for budget, row in zip(budgets[:, 0], front.best(budgets), strict=True):
        fits = front.costs[:, 0] <= budget
        if not fits.any():
            assert row == -1
        else:
            assert front.top1[row] == front.top1[fits].max()


def test_time_limit_ends_a_search(tiny, tiny_model, tiny_table):
    front = pf.search.front(tiny, tiny_model, [tiny_table], evaluations=10**9, time_limit_s=0.5)
    assert 0 < front.evaluations < 10**9


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


@pytest.mark.parametrize("options", [{"evaluations": 0}, {"time_limit_s": 0.0}])
def test_bad_options_are_refused(tiny, tiny_model, tiny_table, options):
    with pytest.raises(InvalidInputError):
        pf.search.front(tiny, tiny_model, [tiny_table], **options)
    with pytest.raises(InvalidInputError):
        pf.search.nsga2(tiny, tiny_model, [tiny_table], population=2)
    with pytest.raises(InvalidInputError):
        pf.search.front(tiny, tiny_model, [])


SEARCHES = ("front", "random", "nsga2", "evolution", "reinforce", "independent", "exhaustive")

# Large numbers of these are right, and take for ever.
COUNTS = ("evaluations", "generations", "population", "samples")


@pytest.mark.parametrize("name", SEARCHES)
def test_odd_arguments_raise_our_own_errors_only(name, cell, odd_values, refusal):
    search = getattr(pf.search, name)
    archs = cell.enumerate()
    model = pf.accuracy.table(cell, archs, (archs == 4).mean(axis=1))
    good = {"space": cell, "model": model, "tables": [pf.costs.parameters(cell)]}
    good["evaluations"] = 20_000 if name == "exhaustive" else 40
    options = inspect.signature(search).parameters
    good |= {key: few for key, few in (("population", 4), ("samples", 2)) if key in options}
    for argument in options:
        refused = 0
        for value in odd_values():
            large = isinstance(value, int) and value > 10**9
            if (argument in COUNTS and large) or (argument == "progress" and callable(value)):
                continue
            message = refusal(lambda given: search(**given), good | {argument: value})
            assert len(message) < 1000
            refused += bool(message)
        assert refused > 20 or (name, argument) == ("exhaustive", "seed"), argument
