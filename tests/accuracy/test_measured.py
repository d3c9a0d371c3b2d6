from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError


def test_contradicting_rows_are_refused(tiny, cell, tiny_samples):
    archs, top1 = (values[:100].copy() for values in tiny_samples)
    archs[70], top1[70] = archs[20], top1[20] + 0.0005
    pf.accuracy.fit(tiny, archs, top1, epochs=1)  # measured twice
    top1[70] = top1[20] + 0.05
    with pytest.raises(InvalidInputError, match="rows 20 and 70 are the same architecture"):
        pf.accuracy.fit(tiny, archs, top1)
    same = cell.sample(1)[[0, 0]]
    with pytest.raises(InvalidInputError, match="rows 0 and 1 are the same architecture"):
        pf.accuracy.table(cell, same, [0.5, 0.52])
    # Where all differ by points between two trainings, nobody is to blame.
    again = np.concatenate([archs, archs])
    both = np.concatenate([top1, (top1 + 0.015).clip(0, 1)])
    assert pf.accuracy.table(tiny, again, both).report["measurement_noise"] > 0.005


def repeated_noise(space, n=60, times=5, jitter=0.0):
    """Accuracies that have nothing to do with the architectures, each measured `times`."""
    rng = np.random.default_rng(7)
    archs = np.unique(space.sample(n, seed=2), axis=0)
    archs = np.concatenate([archs, pf.accuracy.covering(space, archs)])
    top1 = np.tile(rng.uniform(0.4, 0.6, len(archs)), times)
    return np.tile(archs, (times, 1)), top1 + jitter * rng.normal(size=len(top1))


@pytest.mark.parametrize("jitter", [0.0, 0.001])
def test_repeats_do_not_leak_into_what_is_held_out(tiny, tiny_model, jitter):
    archs, top1 = repeated_noise(tiny, jitter=jitter)
    n = len(archs) // 5
    fitted = pf.accuracy.fit(tiny, archs, top1, epochs=50)
    for model in (fitted, pf.accuracy.calibrate(tiny_model, archs, top1)):
        report = model.report
        assert abs(report["kendall"]) < 0.3
        assert (report["rows"], report["measurements"], report["repeats"]) == (n, 5 * n, 4 * n)
        assert report["measurement_noise"] == pytest.approx(jitter, rel=0.15, abs=1e-12)

    def fitter(space, some, values):
        # A fitter may count rows: it gets all of them.
        assert len(some) == 5 * len(np.unique(some, axis=0))
        return pf.accuracy.fit(space, some, values, epochs=5)

    for by in (None, pf.costs.macs(tiny)(archs)):
        report = pf.accuracy.cross_validate(tiny, archs, top1, fitter, by=by)
        assert abs(report["kendall"]) < 0.35
        assert report["rows"] + report.get("refused", 0) >= n


def test_repeats_become_one_row_that_counts_more(tiny, tiny_samples, cell):
    archs, top1 = tiny_samples
    rng = np.random.default_rng(3)
    noisy = top1 + rng.normal(0, 0.004, (9, len(top1)))
    # The first half was measured once, the other half nine times.
    few, many = slice(0, 200), slice(200, None)
    rows = np.concatenate([archs[few], *[archs[many]] * 9])
    values = np.concatenate([noisy[0, few], noisy[:, many].ravel()])
    model = pf.accuracy.fit(tiny, rows, values, epochs=5)
    distinct = len(np.unique(archs, axis=0))
    assert model.report["rows"] == distinct
    assert model.report["measurement_noise"] == pytest.approx(0.004, rel=0.1)
    # Values of one measurement repeated say nothing new: the same model as without the copies.
    copies = pf.accuracy.fit(
        tiny, np.concatenate([archs, archs[:30]]), np.concatenate([top1, top1[:30]]), epochs=5
    )
    once = pf.accuracy.fit(tiny, archs, top1, epochs=5)
    np.testing.assert_array_equal(copies.predict(archs), once.predict(archs))

    a = cell.sample(2, seed=5)
    table = pf.accuracy.table(cell, a[[0, 0, 0, 0, 1]], [0.5, 0.504, 0.5, 0.504, 0.7])
    mean, std = table.predict(a, return_std=True)
    np.testing.assert_allclose(mean, [0.502, 0.7])
    noise = np.sqrt(4 * 0.002**2 / 3)
    assert table.report["measurement_noise"] == pytest.approx(noise)
    np.testing.assert_allclose(std, [noise / 2, noise])


def test_worthless_models_say_so(tiny, tiny_samples, tiny_model, tmp_path):
    archs, top1 = tiny_samples
    assert tiny_model.report["warnings"] == []
    rng = np.random.default_rng(0)
    model = pf.accuracy.fit(tiny, archs, rng.uniform(0.4, 0.6, len(archs)), epochs=20)
    assert any("Kendall" in text and "measure more" in text for text in model.report["warnings"])
    model.save(tmp_path / "model.safetensors")
    loaded = pf.accuracy.load(tmp_path / "model.safetensors")
    assert loaded.report["warnings"] == model.report["warnings"]
    assert "warning" in repr(loaded)
    # Ten classes.
    chance = pf.accuracy.fit(tiny, archs, 0.1 + 0.05 * (top1 - 0.5), epochs=5)
    assert any("guessing" in text and "train" in text for text in chance.report["warnings"])
    assert pf.accuracy.table(tiny, archs, 0.1 + 0 * top1).report["warnings"]
    # Between two measurements of one network lies as much as between networks.
    again, values = repeated_noise(tiny, times=3)
    values = rng.uniform(0.496, 0.504, len(again))
    noisy = pf.accuracy.fit(tiny, again, values, epochs=5)
    assert any("most of what is measured is noise" in text for text in noisy.report["warnings"])
    worse = pf.accuracy.calibrate(tiny_model, archs, rng.permutation(top1))
    assert any("Kendall" in text for text in worse.report["warnings"])
