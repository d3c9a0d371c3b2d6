"""Neighbourhoods of architectures as an accuracy model."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from tests.conftest import smooth_top1

import pnag_fast as pf
from pnag_fast.accuracy import Neighborhood
from pnag_fast.accuracy.codes import code_offsets, codes_reached
from pnag_fast.accuracy.model import AccuracyModel
from pnag_fast.errors import FileFormatError, InvalidInputError, InvalidTypeError

STATISTIC = {"mean": np.mean, "median": np.median, "worst": np.min}


class Additive(AccuracyModel):
    """A model of a user's own."""

    def _moments(self, archs, with_variance):
        return smooth_top1(self.space, archs), None


@pytest.fixture(scope="module")
def fitted(cell, known):
    archs = cell.sample(300, seed=0)
    values = smooth_top1(cell, archs) + np.random.default_rng(0).normal(0, 0.001, 300)
    return pf.accuracy.calibrate(known, archs, values)


@pytest.fixture(scope="module")
def known(cell):
    archs = cell.enumerate()
    return pf.accuracy.table(cell, archs, smooth_top1(cell, archs))


@pytest.mark.parametrize("aggregate", ["mean", "median", "worst"])
@pytest.mark.parametrize("radius", [1, 2])
def test_predictions_are_those_of_the_neighbours(cell, known, aggregate, radius):
    model = Neighborhood(known, radius, aggregate)
    archs = cell.sample(40, seed=1)
    expected = []
    for arch in archs:
        edits = (known.space.enumerate() != arch).sum(axis=1)
        near = np.ascontiguousarray(cell.enumerate()[edits <= radius])
        expected.append(STATISTIC[aggregate](known.predict(near)))
    np.testing.assert_allclose(model.predict(archs), expected, rtol=1e-12)
    assert model.source == f"{aggregate} within {radius} edit{'s'[: radius - 1]} of {known.source}"


def test_the_worst_is_the_largest_where_smaller_is_better(cell):
    archs = cell.enumerate()
    loss = pf.accuracy.Objective("loss", direction="min")
    values = 1 - smooth_top1(cell, archs)
    model = Neighborhood(pf.accuracy.table(cell, archs, values, objective=loss), 1, "worst")
    assert model.objective == loss
    np.testing.assert_allclose(
        model.predict(archs[:5]),
        [values[(archs != arch).sum(axis=1) <= 1].max() for arch in archs[:5]],
    )


def test_samples_are_the_same_whenever_they_are_asked(cell, known, monkeypatch):
    model = Neighborhood(known, 2, samples=7)
    archs = cell.sample(100, seed=0)
    whole = model.predict(archs)
    np.testing.assert_array_equal(model.predict(archs[::-1].copy())[::-1], whole)
    monkeypatch.setattr("pnag_fast.accuracy.neighborhood._ROWS", 30)
    np.testing.assert_array_equal(model.predict(archs), whole)
    assert (Neighborhood(known, 2, samples=7, seed=1).predict(archs) != whole).any()
    assert model.predict(archs[:0]).shape == (0,)


def test_the_deviation_is_the_mean_of_the_neighbours(cell, fitted):
    model = Neighborhood(fitted, samples=9)
    archs = cell.sample(20, seed=3)
    mean, std = model.predict(archs, return_std=True)
    around = cell.neighborhoods(archs, samples=9)
    of_value, of_std = fitted.predict(around.archs, return_std=True)
    np.testing.assert_allclose(mean, around.aggregate(of_value))
    np.testing.assert_allclose(std, around.aggregate(of_std))
    cautious = model.cautious(2.0)
    np.testing.assert_allclose(cautious.predict(archs), np.clip(mean - 2 * std, 0, 1))
    assert cautious.source.endswith("lower bound, mean - 2 std")
    np.testing.assert_allclose(cautious.cautious(0).predict(archs), mean)


def test_a_model_without_deviation(tiny):
    model = Neighborhood(Additive(space=tiny, source="mine"))
    archs = tiny.sample(5, seed=0)
    mean, std = model.predict(archs, return_std=True)
    np.testing.assert_array_equal(mean, model.predict(archs))
    assert (std == 0).all()
    assert model.sensitivity(archs) is None
    with pytest.raises(InvalidInputError, match="neighbourhood of a Additive cannot be saved"):
        model.save("nowhere")
    assert model.identity() != Neighborhood(model.model, 2).identity()


def test_neighbours_of_unknown_codes_are_left_out(cell, fitted):
    archs = cell.sample(20, seed=0)
    archs = np.ascontiguousarray(archs[archs[:, 2] != 3])
    seen = codes_reached(cell)
    seen[code_offsets(cell)[2] + 3] = False
    model = Neighborhood(dataclasses.replace(fitted, seen=seen))
    around = cell.neighborhoods(archs)
    values = np.where(around.archs[:, 2] == 3, np.nan, fitted.predict(around.archs))
    np.testing.assert_allclose(model.predict(archs), around.aggregate(values))
    assert model.knows(around.archs).sum() == 24 * len(archs)
    bad = archs[:1].copy()
    bad[0, 2] = 3
    with pytest.raises(InvalidInputError, match="no network had"):
        model.predict(bad)
    with pytest.raises(InvalidInputError, match="reaches"):
        model.require_determined(cell)


def test_another_space_over_the_same_slots_has_other_neighbours():
    wide, narrow = pf.spaces.get("ofa-mbv3"), pf.spaces.get("compofa-mbv3")
    base = Additive(space=wide, source="mine")
    model = Neighborhood(base).for_space(narrow)
    rows = narrow.sample(4, seed=1)
    around = narrow.neighborhoods(rows)
    np.testing.assert_allclose(
        model.predict(rows), around.aggregate(base.predict(around.archs)), rtol=1e-12
    )
    assert (model.predict(rows) != Neighborhood(base).predict(rows)).any()


def test_files_and_pickles(cell, fitted, tmp_path):
    model = Neighborhood(fitted, 1, "median", samples=5, seed=3).cautious(0.5)
    archs = cell.sample(50, seed=1)
    model.save(tmp_path / "model")
    loaded = pf.accuracy.load(tmp_path / "model")
    assert isinstance(loaded, Neighborhood)
    assert loaded.source == model.source
    assert loaded.identity() == model.identity()
    for again in (loaded, pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(again.predict(archs), model.predict(archs))
    nested = Neighborhood(model, samples=3)
    nested.save(tmp_path / "nested")
    np.testing.assert_array_equal(
        pf.accuracy.load(tmp_path / "nested").predict(archs), nested.predict(archs)
    )
    tensors, body = model.to_tensors()
    for wrong in ({"radius": 0}, {"aggregate": "mode"}, {"samples": "all"}, {"base": {}}):
        with pytest.raises(FileFormatError):
            AccuracyModel.from_tensors(tensors, body | wrong, "a file")


def test_any_search_asks_it(cell, known):
    model = Neighborhood(known, aggregate="worst")
    tables = [pf.costs.macs(cell)]
    front = pf.search.nsga2(cell, model, tables, evaluations=400, population=40)
    np.testing.assert_allclose(front.top1, model.predict(front.archs))
    assert front.accuracy_source == f"worst within 1 edit of {known.source}"


def test_what_is_no_model_is_refused(cell, known, odd_values, refusal):
    oracle = pf.accuracy.oracle(cell, known.predict)
    with pytest.raises(InvalidTypeError, match=r"found an oracle .* pf.search.neighborhood"):
        Neighborhood(oracle)
    for call in (
        Neighborhood,
        lambda value: Neighborhood(known, value),
        lambda value: Neighborhood(known, 1, value),
        lambda value: Neighborhood(known, samples=value),
        lambda value: Neighborhood(known, seed=value),
    ):
        messages = [message for value in odd_values() if (message := refusal(call, value))]
        assert len(messages) > 15
