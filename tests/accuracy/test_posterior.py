from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.accuracy.model import MODEL_FORMAT, MODEL_VERSION
from pnag_fast.errors import FileFormatError, InvalidInputError
from pnag_fast.objective import Objective


def quality(archs):
    """Larger kernels and more layers are better, less and less."""
    size = (archs > 0).mean(axis=1) + 0.1 * (archs % 3).mean(axis=1)
    return 0.98 - 0.2 * np.exp(-2 * size)


@pytest.fixture(scope="module")
def space():
    return pf.spaces.get("mbv3-tiny")


@pytest.fixture(scope="module")
def judged(space):
    archs = np.concatenate(
        [pf.accuracy.covering(space), space.sample(120, seed=1, distribution="decisions")]
    )
    noise = 0.003 * np.random.default_rng(1).normal(size=len(archs))
    return archs, quality(archs) + noise


@pytest.fixture(scope="module")
def model(space, judged):
    return pf.accuracy.fit_process(space, *judged)


def test_it_knows_what_was_not_judged_and_how_well(space, judged, model):
    others = space.sample(500, seed=9, distribution="decisions")
    truth = quality(others)
    top1, std = model.predict(others, return_std=True)
    assert pf.accuracy.kendall(top1, truth) > 0.85
    # Errors are what the deviations say.
    z = (top1 - truth) / std
    assert 0.5 < np.sqrt(np.mean(z**2)) < 1.5
    # What was judged is known better than what was not, and better than it was judged.
    archs, values = judged
    known, known_std = model.predict(archs, return_std=True)
    assert np.median(known_std) < np.median(std) < 0.01
    assert np.std(known - quality(archs)) < np.std(values - quality(archs))
    assert model.report["kendall"] > 0.85
    assert model.report["judging_noise"] == pytest.approx(0.003, rel=0.5)
    # A cautious search stays near to what was judged.
    assert (model.cautious(1.0).predict(others) < top1).all()


def test_what_was_judged_often_is_known_better(space, judged):
    archs, values = judged
    often = np.repeat(archs[:10], 12, axis=0)
    noise = 0.003 * np.random.default_rng(2).normal(size=len(often))
    model = pf.accuracy.fit_process(
        space, np.concatenate([archs, often]), np.append(values, quality(often) + noise)
    )
    _, std = model.predict(archs, return_std=True)
    assert np.median(std[:10]) < 0.75 * np.median(std[10:])
    assert model.report["repeats"] == 120


def test_files_round_trip(space, model, tmp_path):
    path = tmp_path / "model.safetensors"
    model.cautious(0.5).save(path)
    loaded = pf.accuracy.load(path, space)
    archs = space.sample(50, seed=2)
    for a, b in zip(
        model.cautious(0.5).predict(archs, return_std=True),
        loaded.predict(archs, return_std=True),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert loaded.report == model.report
    assert loaded.identity() == model.cautious(0.5).identity()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, b: t.pop("rows"), "rests on no rows"),
        (lambda t, b: t.update(rows=t["rows"] + 50), "rows"),
        (lambda t, b: t.update(weight=0 * t["weight"]), "'weight' should be above 0"),
        (lambda t, b: t.update(judged=t["judged"][:-1]), "judged"),
        (lambda t, b: t.update(relevance=t["relevance"][:-1]), "relevance"),
        (lambda t, b: b["process"].update(process_noise=0.0), "process.process_noise"),
        (lambda t, b: b["process"].pop("linear"), "process.linear"),
        (lambda t, b: b.pop("process"), "process"),
    ],
)
def test_damaged_files_are_refused(model, tmp_path, change, message):
    path = tmp_path / "model.safetensors"
    tensors, body = model.to_tensors()
    change(tensors, body)
    files.write_safetensors(path, MODEL_FORMAT, MODEL_VERSION, tensors, body)
    with pytest.raises(FileFormatError, match=message):
        pf.accuracy.load(path)


def test_generators_and_searches_take_it(space, model):
    table = pf.costs.macs(space)
    front = pf.search.front(space, model, [table], evaluations=3000)
    drawn = space.sample(3000, seed=5)
    budgets = np.quantile(table(drawn), [0.2, 0.5, 0.8])
    best = front.top1[front.best(budgets[:, None])]
    fits = table(drawn)[None] <= budgets[:, None]
    assert (best > np.where(fits, model.predict(drawn), 0).max(axis=1)).all()


def test_other_objectives_and_too_few(space, judged):
    archs, values = judged
    loss = Objective("loss", direction="min", low=0.0)
    model = pf.accuracy.fit_process(space, archs, 10 - 5 * values, objective=loss)
    assert pf.accuracy.kendall(model.predict(archs), -quality(archs)) > 0.8
    assert (model.cautious(1.0).predict(archs) > model.predict(archs)).all()
    with pytest.raises(InvalidInputError, match="at least 20"):
        pf.accuracy.fit_process(space, archs[:10], values[:10])
    refit = dataclasses.replace(model, unit=0.0)
    assert np.ptp(refit.predict(archs)) == 0
