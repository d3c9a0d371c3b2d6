from __future__ import annotations

import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from tests.conftest import smooth_top1

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError
from pnag_fast.objective import TOP1
from pnag_fast.search import objectives
from pnag_fast.search.jumps import Jumps
from pnag_fast.search.methods import front as reference


@pytest.fixture
def never_exhaustive(monkeypatch):
    monkeypatch.setattr(reference, "EXHAUSTIVE_LIMIT", 0)


def fitted(space, n=400):
    pytest.importorskip("torch")
    archs = np.unique(space.sample(n, seed=3), axis=0)
    noise = np.random.default_rng(3).normal(0, 0.01, len(archs))
    return pf.accuracy.fit(space, archs, np.clip(smooth_top1(space, archs) + noise, 0, 1))


def exact_front(space, model, tables):
    archs = space.enumerate()
    points = objectives(model.predict(archs), pf.costs.stack(tables)(archs))
    return np.unique(points[pf.pareto.is_non_dominated(points)], axis=0)


@pytest.mark.parametrize(
    ("name", "n_tables", "evaluations"),
    [("nasbench201", 1, 6000), ("nasbench201", 2, 12000), ("compofa-mbv3", 1, 1500)],
)
def test_the_exact_front_is_found(never_exhaustive, name, n_tables, evaluations):
    space = pf.spaces.get(name)  # compofa-mbv3 lists the rows of its stages
    model = fitted(space, 60 if name == "compofa-mbv3" else 400)
    tables = [pf.costs.macs(space), latency_like(space)][:n_tables]
    found = pf.search.front(space, model, tables, evaluations=evaluations)
    expected = exact_front(space, model, tables)
    points = np.unique(objectives(found.top1, found.costs), axis=0)
    assert found.evaluations <= evaluations
    # Batches of another size round predictions differently.
    rounded = {tuple(row) for row in np.round(points, 5).tolist()}
    missing = [row for row in np.round(expected, 5).tolist() if tuple(row) not in rounded]
    # With two costs 12,000 evaluations of 15,625 do not reach every corner.
    assert len(missing) <= (0.02 if n_tables == 1 else 0.05) * len(expected), (
        f"{len(missing)} of {len(expected)}"
    )


def latency_like(space):
    entries = np.random.default_rng(1).uniform(0.1, 1.0, (1, space.n_slots, max(space.n_codes)))
    return pf.CostTable.build(
        space, metric="latency", unit="ms", device="d", constants=[1.0], entries=entries
    )


def test_tables_without_slopes_are_searched_by_variation(never_exhaustive, cell):
    archs = cell.enumerate()
    model = pf.accuracy.table(cell, archs, smooth_top1(cell, archs))
    assert model.sensitivity(archs[:1]) is None
    table = latency_like(cell)
    found = pf.search.front(cell, model, [table], evaluations=8000)
    exact = exact_front(cell, model, [table])
    budgets = np.linspace(*table.bounds, 50)[:, None]
    best = exact[pf.pareto.best_within(exact[:, 1:], 1 - exact[:, 0], budgets), 0]
    assert (1 - found.top1[found.best(budgets)] - best).mean() < 1e-3


def test_best_rows_are_the_best_of_all_rows(tiny):
    table = pf.costs.macs(tiny)
    jumps = Jumps(tiny, [table])
    scores = np.random.default_rng(0).normal(size=(20, tiny.n_slots, max(tiny.n_codes)))
    scores = scores.astype(np.float32)
    firsts = np.cumsum([0] + [len(stage.slots) for stage in tiny.stages])
    found = np.concatenate(
        [jumps.best_rows(i, scores[:, slice(*firsts[i : i + 2])]) for i in range(len(tiny.stages))],
        axis=1,
    )
    tiny.validate(found)
    slots = np.arange(tiny.n_slots)
    for row, best in zip(scores, found, strict=True):
        total, first = 0.0, 0
        for stage in tiny.stages:
            options = []
            for depth in range(stage.min_depth, len(stage.slots) + 1):
                present = [range(1, slot.n_choices + 1) for slot in stage.slots[:depth]]
                for codes in itertools.product(*present):
                    padded = [*codes, *[0] * (len(stage.slots) - depth)]
                    options.append(sum(row[first + i, code] for i, code in enumerate(padded)))
            total += max(options)
            first += len(stage.slots)
        assert row[slots, best].sum() == pytest.approx(total, abs=1e-4)


def test_slopes_beat_variation_at_equal_evaluations(tiny, tiny_model, tiny_table, monkeypatch):
    reference_point = np.array([1.0, tiny_table.bounds[1]])
    volumes = []
    for sloped in (True, False):
        if not sloped:
            monkeypatch.setattr(type(tiny_model), "sensitivity", lambda self, archs: None)
        found = pf.search.front(tiny, tiny_model, [tiny_table], evaluations=3000)
        volumes.append(pf.pareto.hypervolume(objectives(found.top1, found.costs), reference_point))
    assert volumes[0] > volumes[1]


def test_resolutions_are_searched_too():
    space = pf.spaces.get("mbv3-tiny", resolutions=(16, 24, 32))
    model, table = fitted(space), pf.costs.macs(space)
    found = pf.search.front(space, model, [table], evaluations=6000)
    space.validate(found.archs)
    assert len(np.unique(found.archs[:, space.resolution_slot])) > 1
    budgets = np.linspace(*table.bounds, 30)[5:, None]
    sampled = pf.search.random(space, model, [table], evaluations=6000)
    gain = found.top1[found.best(budgets)] - sampled.top1[sampled.best(budgets)]
    assert gain.min() >= 0
    assert gain.mean() > 0


def test_a_search_goes_on_from_known_architectures(tiny, tiny_model, tiny_table):
    first = pf.search.front(tiny, tiny_model, [tiny_table], evaluations=3000)
    tables = [pf.costs.macs(tiny)]  # latency is nearly that
    corner = np.array([1.0, tables[0].bounds[1]])

    # With many questions what was known makes no difference on so small a space.
    known = np.ascontiguousarray(first.archs[::4])

    def volume(**options):
        fronts = [
            pf.search.front(tiny, tiny_model, tables, evaluations=80, seed=seed, **options)
            for seed in range(4)
        ]
        return sum(pf.pareto.hypervolume(objectives(f.top1, f.costs), corner) for f in fronts)

    assert volume(start=known) > volume()
    with pytest.raises(InvalidInputError, match="start"):
        pf.search.front(tiny, tiny_model, tables, start=first.archs[:0])
    with pytest.raises(InvalidInputError, match="not an architecture"):
        pf.search.front(tiny, tiny_model, tables, start=np.full_like(first.archs[:3], 250))


@pytest.mark.slow
@pytest.mark.shared_data
def test_annealing_leaves_local_fronts(monkeypatch, shared_data):
    """On the published predictor, whose local fronts are a quarter of a point apart."""
    pytest.importorskip("torch")
    space = pf.spaces.get("ofa-mbv3", width=1.2)
    model = pf.accuracy.load(shared_data / "ofa_imagenet" / "acc_predictor.pth", space)
    table = pf.costs.macs(space)
    budgets = np.linspace(*table.bounds, 20)[1:, None]
    top1 = []
    for hot, cold in [(reference._HOT, reference._COLD), (1e-12, 1e-12)]:
        monkeypatch.setattr(reference, "_HOT", hot)
        monkeypatch.setattr(reference, "_COLD", cold)
        found = [
            pf.search.front(space, model, [table], evaluations=60_000, seed=seed)
            for seed in range(2)
        ]
        top1.append([front.top1[front.best(budgets)].mean() for front in found])
    assert np.mean(top1[0]) > np.mean(top1[1]) + 5e-5


def test_random_weights_are_spread_over_all_trade_offs():
    # Two costs, of ranges 10 and 0.1, and 0.5 of top-1.
    run = SimpleNamespace(
        tables=(None, None),
        stack=SimpleNamespace(bounds=np.array([[5.0, 15.0], [0.0, 0.1]])),
        merit=np.array([0.3, 0.8, 0.5]),
        objective=TOP1,
    )
    weights = reference._random_weights(run, (4000, 3), np.random.default_rng(0))
    assert weights.shape == (4000, 3, 2)
    natural = weights * np.array([10.0, 0.1]) / 0.5
    length = natural.sum(axis=2)
    assert 0.005 <= length.min() < 0.0051
    assert 19.5 < length.max() <= 20.0
    # Log-uniform: as many below the geometric mean as above.
    assert np.mean(length < np.sqrt(0.005 * 20)) == pytest.approx(0.5, abs=0.02)
    # Uniform over directions: any share of the first cost is as likely as any other.
    share = np.sort((natural[..., 0] / length).ravel())
    np.testing.assert_allclose(share, np.linspace(0, 1, share.size), atol=0.02)


@pytest.mark.parametrize("factor", [2.0**-10, 2.0**10, -(2.0**10)])
def test_a_search_knows_no_scale(tiny, tiny_model, tiny_table, factor):
    """The same model in another unit, of either direction: the same front, bit for bit.

    Temperatures set for top-1 are hot or cold for anything else. Powers of two round nothing.
    """
    direction = "max" if factor > 0 else "min"
    scaled = np.float32(factor)
    other = dataclasses.replace(
        tiny_model,
        objective=pf.accuracy.Objective("other", direction=direction),
        linear=scaled * tiny_model.linear,
        biases=(tiny_model.biases[0], scaled * tiny_model.biases[1]),
        weights=(scaled * tiny_model.weights[0],),
    )
    same = dataclasses.replace(tiny_model, objective=pf.accuracy.Objective("same"))
    assert tiny_model.link == "identity"
    a, b = (
        pf.search.front(tiny, model, [tiny_table], evaluations=4000, seed=3)
        for model in (same, other)
    )
    np.testing.assert_array_equal(a.archs, b.archs)
    np.testing.assert_array_equal(a.top1 * factor, b.top1)
