from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError, InvalidTypeError


def test_fit_generalises_and_says_how_well(tiny_samples, tiny_model):
    archs, top1 = tiny_samples
    report = tiny_model.report
    assert report["rows"] == len(archs)
    assert report["kendall"] > 0.9
    assert report["mean_error"] < 0.01
    mean, std = tiny_model.predict(archs, return_std=True)
    assert mean.shape == std.shape == (len(archs),)
    assert (std >= tiny_model.noise).all()
    assert ((mean >= 0) & (mean <= 1)).all()
    # About two thirds of errors lie within one standard deviation where the noise is Gaussian.
    assert 0.5 < np.mean(np.abs(mean - top1) < std) <= 1


def test_the_network_learns_what_is_not_additive(tiny):
    archs = tiny.sample(1500, seed=0)
    both = (archs[:, 0] > 5) & (archs[:, 3] > 5)
    top1 = 0.5 + 0.2 * both
    model = pf.accuracy.fit(tiny, archs, top1)
    assert model.report["steps"] > 0
    # A linear model cannot do better than 0.05 here.
    assert model.report["mean_error"] < 0.03


def test_fit_is_reproducible(tiny, tiny_samples, tiny_model):
    again = pf.accuracy.fit(tiny, *tiny_samples)
    archs = tiny.sample(100, seed=0)
    np.testing.assert_array_equal(again.predict(archs), tiny_model.predict(archs))


@pytest.mark.parametrize(
    ("rows", "change", "message"),
    [
        (3, lambda y: y, "too few"),
        (100, lambda y: y * 100, "percent"),
        (100, lambda y: y * 0 + 0.5, "the same top-1"),
        (100, lambda y: np.where(np.arange(len(y)) == 7, np.nan, y), "row 7"),
        (100, lambda y: y[:-1], "shape"),
        (100, lambda y: ["good"] * len(y), "numbers"),
    ],
)
def test_bad_accuracies_are_refused(tiny, tiny_samples, tiny_model, rows, change, message):
    archs, top1 = tiny_samples
    with pytest.raises((InvalidInputError, InvalidTypeError), match=message):
        pf.accuracy.fit(tiny, archs[:rows], change(top1[:rows]))
    with pytest.raises((InvalidInputError, InvalidTypeError), match=message):
        pf.accuracy.calibrate(tiny_model, archs[:rows], change(top1[:rows]))


def test_foreign_architectures_are_refused(tiny, tiny_samples):
    archs, top1 = tiny_samples
    archs = archs.copy()
    archs[3, 0] = 200
    with pytest.raises(InvalidInputError, match="row 3 is not an architecture"):
        pf.accuracy.fit(tiny, archs, top1)


@pytest.mark.parametrize(
    "options",
    [
        {"members": 1},
        {"members": 2.5},
        {"members": "x"},
        {"members": 300},
        {"seed": -1},
        {"seed": 1.5},
        {"seed": None},
        {"hidden": 0},
        {"hidden": 2.5},
        {"hidden": "x"},
        {"epochs": "x"},
        {"epochs": -1},
        {"epochs": 1.5},
    ],
)
def test_odd_arguments_are_refused_by_name(tiny, tiny_samples, tiny_model, options):
    (name,) = options
    with pytest.raises(InvalidInputError, match=name):
        pf.accuracy.fit(tiny, *tiny_samples, **options)
    if name in ("members", "seed"):
        with pytest.raises(InvalidInputError, match=name):
            pf.accuracy.calibrate(tiny_model, *tiny_samples, **options)
