from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.errors import FileFormatError, InvalidInputError


def test_cells_become_a_table(cell, tmp_path, measured_cells):
    archs, top1 = measured_cells
    model = pf.accuracy.fit(cell, archs, top1, seed=3)
    assert isinstance(model, pf.accuracy.TableModel)
    assert model.report["kendall"] > 0.9
    mean, std = model.predict(archs, return_std=True)
    np.testing.assert_allclose(mean, top1)
    assert not std.any()
    every = cell.enumerate()
    mean, std = model.predict(every, return_std=True)
    new = ~np.isin(cell.to_strings(every), cell.to_strings(archs))
    assert (std[new] > 0).all()
    again = pf.accuracy.fit(cell, archs, top1, seed=3)
    np.testing.assert_array_equal(again.predict(every), mean)
    # Other folds say something else of the same process.
    assert pf.accuracy.fit(cell, archs, top1, seed=4).report != model.report

    cautious = model.cautious(2)
    np.testing.assert_allclose(cautious.predict(every), (mean - 2 * std).clip(0, 1))
    cautious.save(tmp_path / "cells.safetensors")
    loaded = pf.accuracy.load(tmp_path / "cells.safetensors")
    for a, b in zip(
        loaded.predict(every, return_std=True),
        cautious.predict(every, return_std=True),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    calibrated = pf.accuracy.calibrate(model, archs, 0.9 * top1)
    np.testing.assert_allclose(calibrated.predict(archs), 0.9 * top1, atol=0.01)

    tensors, body = model.to_tensors()
    for wrong, message in ((tensors["deviations"][1:], "shape"), (-tensors["deviations"], "neg")):
        files.write_safetensors(
            tmp_path / "bad.safetensors",
            "pnag-accuracy-model",
            2,
            {**tensors, "deviations": wrong},
            body,
        )
        with pytest.raises(FileFormatError, match=message):
            pf.accuracy.load(tmp_path / "bad.safetensors")


@pytest.mark.parametrize(
    ("rows", "change", "message"),
    [
        (3, lambda y: y, "too few"),
        (100, lambda y: y * 100, "percent"),
        (100, lambda y: y * 0 + 0.5, "the same top-1"),
    ],
)
def test_bad_accuracies_of_cells_are_refused(cell, rows, change, message, measured_cells):
    archs, top1 = measured_cells
    with pytest.raises(InvalidInputError, match=message):
        pf.accuracy.fit(cell, archs[:rows], change(top1[:rows]))


@pytest.mark.shared_data
def test_cells_are_predicted_better_than_by_their_codes(shared_data, read_csv):
    path = shared_data / "nasbench201" / "accuracy_12_epochs.csv"
    table = pf.accuracy.load_nasbench201(path, "cifar10-test")
    archs = table.space.sample(1250, seed=0)
    top1 = table.predict(archs)
    known, others = np.ascontiguousarray(archs[:500]), np.ascontiguousarray(archs[1000:])
    scores = []
    for features in (table.space.features, None):
        space = pf.spaces.get("nasbench201")
        space.features = features
        model = pf.accuracy.fit(space, known, top1[:500])
        scores.append(pf.accuracy.kendall(model.predict(others), top1[1000:]))
    assert scores[0] > scores[1] + 0.05


def test_cells_with_an_operation_that_was_never_measured_are_refused(cell, measured_cells):
    archs, top1 = measured_cells
    known = archs[:, 2] != 5
    model = pf.accuracy.fit(cell, archs[known], top1[known])
    with pytest.raises(InvalidInputError, match=r"code 5 \(operation avg_pool_3x3\) of slot 2"):
        model.predict(archs)
    with pytest.raises(InvalidInputError, match=r"code 5 \(operation avg_pool_3x3\) of slot 2"):
        model.for_space(cell)


def test_cells_that_compute_the_same_are_held_out_together(cell):
    """Dead edges differ; accuracies are noise of the effective cell."""
    from pnag_fast.spaces.nasbench201 import effective_cells

    every = cell.enumerate()
    _, index, count = np.unique(
        effective_cells(every), axis=0, return_inverse=True, return_counts=True
    )
    index = index.reshape(-1)
    rng = np.random.default_rng(0)
    some = rng.permutation(np.flatnonzero(count >= 4))[:60]
    archs = np.concatenate([every[index == i][:4] for i in some])
    top1 = np.repeat(rng.uniform(0.4, 0.9, len(some)), 4)
    model = pf.accuracy.fit(cell, archs, top1)
    assert abs(model.report["kendall"]) < 0.25
    assert model.report["rows"] == len(archs)
    assert "repeats" not in model.report
    seen = []

    def fitter(space, a, y):
        seen.append({row.tobytes() for row in effective_cells(a)})
        return model

    pf.accuracy.cross_validate(cell, archs, top1, fitter)
    for inside in seen:
        assert len(inside) == 48
    base = pf.accuracy.table(cell, every, rng.uniform(size=len(every)))
    assert abs(pf.accuracy.calibrate(base, archs, top1).report["kendall"]) < 0.25
