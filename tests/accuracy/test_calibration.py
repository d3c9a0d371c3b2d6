from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.errors import FileFormatError


def test_calibration_corrects_what_was_measured(tiny, tiny_samples, tmp_path, skewed):
    archs, top1 = tiny_samples
    some, others = archs[::2].copy(), archs[1::2].copy()
    model = pf.accuracy.calibrate(skewed, some, top1[::2])
    before = pf.accuracy.kendall(skewed.predict(others), top1[1::2])
    after = pf.accuracy.kendall(model.predict(others), top1[1::2])
    assert after > max(before, 0.9)
    assert model.report["before"]["mean_error"] > 3 * model.report["mean_error"]
    assert abs(model.report["bias"]) < 0.002
    assert model.source == "skewed; calibrated on 200 measured architectures"

    some = tiny.sample(50, seed=9)
    for caution in (0, 1.5):
        cautious = model.cautious(caution)
        cautious.save(tmp_path / "model.safetensors")
        loaded = pf.accuracy.load(tmp_path / "model.safetensors")
        for a, b in zip(
            loaded.predict(some, return_std=True),
            cautious.predict(some, return_std=True),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(loaded.sensitivity(some), cautious.sensitivity(some))
    tensors, body = model.to_tensors()
    files.write_safetensors(
        tmp_path / "bad.safetensors",
        "pnag-accuracy-model",
        2,
        {k: v for k, v in tensors.items() if k != "base.first"},
        body,
    )
    with pytest.raises(FileFormatError, match="base.first"):
        pf.accuracy.load(tmp_path / "bad.safetensors")


def test_calibrated_slopes(tiny, tiny_samples, beyond):
    """A linear base: predictions are exactly linear in the codes, and so are members."""
    features = sum(tiny.n_codes) - tiny.n_slots
    rng = np.random.default_rng(3)
    base = pf.accuracy.NetworkModel(
        space=tiny,
        source="linear",
        linear=rng.normal(0, 0.1, (1, features)).astype(np.float32),
        first=np.zeros((1, features, 1), np.float32),
        biases=(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)),
        weights=(np.zeros((1, 1, 1), np.float32),),
    )
    archs, top1 = tiny_samples
    model = pf.accuracy.calibrate(base, archs, top1)
    some = archs[:50]
    slope = model.sensitivity(some).astype(np.float64)
    x = pf.accuracy.one_hot(tiny, some).astype(np.float64)
    mean = model.predict(some)
    np.testing.assert_allclose(mean - mean[0], ((x - x[0]) * slope).sum(axis=1), atol=1e-5)

    # The bound's slope, against central differences of the members in float64.
    outputs = model.linear.astype(float) + model.scale[:, None] * base.linear.astype(float)

    def bound(x):
        values = x @ outputs.T + model.constant.astype(float)
        far = np.sum((x @ model.distance[:-1].astype(float) + model.distance[-1]) ** 2, axis=1)
        far += beyond(model.reach, x)
        return values.mean(1) - 2 * np.sqrt(values.var(1) + model.noise**2 + far)

    step = 1e-6 * np.eye(features)
    expected = np.stack([bound(x + e) - bound(x - e) for e in step], axis=1) / 2e-6
    np.testing.assert_allclose(model.cautious(2).sensitivity(some), expected, atol=1e-5)


def test_a_constant_model_can_be_calibrated(tiny, tiny_samples):
    archs, top1 = tiny_samples
    features = sum(tiny.n_codes) - tiny.n_slots
    constant = pf.accuracy.NetworkModel(
        space=tiny,
        source="constant",
        linear=np.zeros((1, features), np.float32),
        first=np.zeros((1, features, 1), np.float32),
        biases=(np.zeros((1, 1), np.float32), np.full((1, 1), 0.5, np.float32)),
        weights=(np.zeros((1, 1, 1), np.float32),),
    )
    assert pf.accuracy.calibrate(constant, archs, top1).report["kendall"] > 0.9
