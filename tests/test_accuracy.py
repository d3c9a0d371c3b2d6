from __future__ import annotations

import copy
import itertools
import json
import pickle
import warnings

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.accuracy.distance import Reach
from pnag_fast.accuracy.validation import saved_front
from pnag_fast.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    PnagError,
    UnsupportedSpaceError,
)


def test_fit_generalises_and_says_how_well(tiny, tiny_samples, tiny_model):
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


def test_foreign_architectures_are_refused(tiny, tiny_samples):
    archs, top1 = tiny_samples
    archs = archs.copy()
    archs[3, 0] = 200
    with pytest.raises(InvalidInputError, match="row 3 is not an architecture"):
        pf.accuracy.fit(tiny, archs, top1)


def skewed(tiny, model):
    """The same model, but wrong in level, in scale, and in what it sees in one code."""
    import dataclasses

    first = model.first.copy()
    linear = 0.5 * model.linear
    linear[:, 2] += 0.4
    return dataclasses.replace(model, linear=linear, first=first, source="skewed")


def test_calibration_corrects_what_was_measured(tiny, tiny_samples, tiny_model, tmp_path):
    archs, top1 = tiny_samples
    wrong = skewed(tiny, tiny_model)
    some, others = archs[::2].copy(), archs[1::2].copy()
    model = pf.accuracy.calibrate(wrong, some, top1[::2])
    before = pf.accuracy.kendall(wrong.predict(others), top1[1::2])
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


def test_calibrated_slopes(tiny, tiny_samples):
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


def beyond(reach, x):
    """Variance beyond the measured range, in float64."""
    place = x @ reach.directions.astype(float)
    half = (reach.high.astype(float) - reach.low) / 2
    error = np.zeros_like(place)
    for outside, growth in ((reach.low - place, reach.below), (place - reach.high, reach.above)):
        excess = outside.clip(min=0)
        error += growth * (2 * half * excess + excess**2)
    return error.max(axis=1) ** 2


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


def test_cross_validation_holds_out_everything(tiny, tiny_samples):
    archs, top1 = tiny_samples
    seen = []

    def fitter(space, some, values):
        seen.append({row.tobytes() for row in some})
        return pf.accuracy.fit(space, some, values, epochs=20)

    report = pf.accuracy.cross_validate(tiny, archs, top1, fitter)
    assert report["kendall"] > 0.9
    assert report["split"] == "random"
    assert report["rows"] == len(archs)
    assert 0.3 < report["spread"] < 2
    # Every fold leaves a fifth of the rows out.
    assert [len(rows) for rows in seen] <= [len(archs) * 4 // 5] * 5

    macs = pf.costs.macs(tiny)(archs)
    seen.clear()
    report = pf.accuracy.cross_validate(tiny, archs, top1, fitter, by=macs)
    assert report["split"] == "ranges"
    order = np.argsort(macs, kind="stable")
    for k, rows in enumerate(seen):
        out = order[k * len(archs) // 5 : (k + 1) * len(archs) // 5]
        inside = np.setdiff1d(order, out)
        assert rows == {row.tobytes() for row in archs[inside]}
    with pytest.raises(InvalidInputError, match="by"):
        pf.accuracy.cross_validate(tiny, archs, top1, fitter, by=macs[:-1])
    with pytest.raises(InvalidInputError, match="folds"):
        pf.accuracy.cross_validate(tiny, archs, top1, fitter, folds=1)


def test_a_front_is_judged(tiny, tiny_model, tiny_table, tmp_path):
    wrong = skewed(tiny, tiny_model)
    front = pf.search.front(tiny, wrong, [tiny_table], evaluations=4000)
    itself = pf.accuracy.confirm(front, wrong)
    assert itself.summary()["confirmed"] == len(front)
    np.testing.assert_allclose(itself.judged_gain[1:], itself.predicted_gain[1:])

    judged = pf.accuracy.confirm(front, tiny_model.cautious(3))
    np.testing.assert_array_equal(judged.judged, tiny_model.predict(front.archs))
    for i, gain in enumerate(judged.judged_gain):
        before = judged.judged[:i]
        if i == 0:
            assert np.isnan(gain)
            assert judged.verdicts[i] == "confirmed"
            continue
        assert gain == pytest.approx(judged.judged[i] - before.max())
        expected = "confirmed" if gain > 0 else "refuted" if gain < -tiny_model.noise else "unclear"
        assert judged.verdicts[i] == expected
    summary = judged.summary()
    assert summary["confirmed"] + summary["unclear"] + summary["refuted"] == len(front)
    assert summary["refuted"] > 0
    assert len(judged.table(5)) == min(5, len(front))

    judged.save(tmp_path / "judged.json")
    document = files.read_json(tmp_path / "judged.json", "pnag-confirmation", 1)
    assert len(document["members"]) == len(front)
    front.save(tmp_path / "front.json")
    again = pf.accuracy.confirm(saved_front(tmp_path / "front.json"), tiny_model)
    assert again.verdicts == judged.verdicts
    (tmp_path / "bad.json").write_text('{"format": "pnag-front", "version": 1}')
    with pytest.raises(FileFormatError, match="space"):
        saved_front(tmp_path / "bad.json")


def test_save_and_load(tiny, tiny_model, tmp_path):
    path = tmp_path / "model.safetensors"
    tiny_model.save(path)
    loaded = pf.accuracy.load(path)
    archs = tiny.sample(500, seed=2)
    for a, b in zip(
        loaded.predict(archs, return_std=True),
        tiny_model.predict(archs, return_std=True),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert loaded.report == dict(tiny_model.report)


def test_a_model_of_another_space_is_refused(tiny_model):
    with pytest.raises(InvalidInputError, match="for space 'mbv3-tiny'"):
        tiny_model.for_space(pf.spaces.get("mbv3-tiny", width=2.0))


def test_files_of_version_1_still_load(tiny, tiny_model, tmp_path):
    path = tmp_path / "model.safetensors"
    tensors, body = tiny_model.to_tensors()
    for new in ("kind", "caution"):
        del body[new]
    files.write_safetensors(path, "pnag-accuracy-model", 1, tensors, body)
    archs = tiny.sample(100, seed=2)
    np.testing.assert_array_equal(pf.accuracy.load(path).predict(archs), tiny_model.predict(archs))


@pytest.mark.parametrize("caution", [0.0, 1.5])
def test_sensitivity_is_the_derivative(tiny, caution):
    """Against central differences of the same network evaluated in float64."""
    rng = np.random.default_rng(0)
    members, features, widths = 3, sum(tiny.n_codes) - tiny.n_slots, (7, 5, 1)
    shapes = list(zip((features, *widths), widths, strict=False))
    matrices = [rng.normal(0, 0.5, (members, *shape)).astype(np.float32) for shape in shapes]
    biases = [rng.normal(0, 0.5, (members, width)).astype(np.float32) for width in widths]
    linear = rng.normal(0, 0.1, (members, features)).astype(np.float32)
    archs = tiny.sample(40, seed=4)
    x = pf.accuracy.one_hot(tiny, archs).astype(np.float64)
    distance = rng.normal(0, 0.05, (features + 1, features)).astype(np.float32)
    # Most rows lie beyond one end of some direction.
    reach = Reach(
        rng.normal(0, 1, (features, 3)).astype(np.float32),
        *(np.array(end, dtype=np.float32) for end in ([-1, -0.5, -1], [0, 0.5, 1])),
        *rng.uniform(0.01, 0.05, (2, 3)).astype(np.float32),
    )
    assert np.mean(beyond(reach, x) > 0) > 0.8
    for link in ("identity", "logit"):
        model = pf.accuracy.NetworkModel(
            space=tiny,
            source="random",
            noise=0.05,
            distance=distance,
            reach=reach,
            linear=linear,
            first=matrices[0],
            biases=tuple(biases),
            weights=tuple(matrices[1:]),
            link=link,
        ).cautious(caution)

        def predict(x, link=link):
            outputs = []
            for m in range(members):
                values = x @ matrices[0][m].astype(np.float64) + biases[0][m]
                for weight, bias in zip(matrices[1:], biases[1:], strict=True):
                    values = np.maximum(values, 0) @ weight[m].astype(np.float64) + bias[m]
                value = values[:, 0] + x @ linear[m].astype(np.float64)
                outputs.append(1 / (1 + np.exp(-value)) if link == "logit" else value)
            far = np.sum((x @ distance[:-1].astype(float) + distance[-1]) ** 2, axis=1)
            far += beyond(reach, x)
            return np.mean(outputs, 0) - caution * np.sqrt(np.var(outputs, 0) + 0.05**2 + far)

        np.testing.assert_allclose(
            model.predict(archs), predict(x).clip(0, 1), rtol=1e-5, atol=1e-5
        )
        step = 1e-6 * np.eye(features)
        expected = np.stack([predict(x + e) - predict(x - e) for e in step], axis=1) / 2e-6
        np.testing.assert_allclose(model.sensitivity(archs), expected, rtol=1e-3, atol=1e-4)


def test_std_grows_away_from_the_measured_rows(tiny):
    """Small networks say little of large ones; errors on held-out ranges say how little."""
    archs = tiny.sample(600, seed=3)
    top1 = 0.5 + 0.02 * (archs > 3).sum(axis=1) + np.random.default_rng(0).normal(0, 0.004, 600)
    known = (archs > 3).sum(axis=1) <= 5
    model = pf.accuracy.fit(tiny, archs[known], top1[known], epochs=50)
    inside = model.predict(archs[known], return_std=True)[1]
    outside = model.predict(archs[~known & model.knows(archs)], return_std=True)[1]
    assert outside.mean() > 1.3 * inside.mean()


@pytest.mark.shared_data
@pytest.mark.parametrize("calibrated", [False, True])
def test_std_is_honest_beyond_the_measured_combinations(shared_data, read_csv, calibrated):
    """Models of deep, large or good networks only are asked about the others."""
    space = pf.spaces.get("ofa-mbv3")
    rows = read_csv(shared_data / "ofa_imagenet" / "measured_w1.0_r224.csv")
    archs = space.from_strings([row["arch"] for row in rows])
    top1 = np.array([float(row["top1_percent"]) for row in rows]) / 100
    depth, macs = (archs > 0).sum(axis=1), pf.costs.macs(space)(archs)
    base = pf.accuracy.load(shared_data / "ofa_imagenet" / "acc_predictor.pth")
    for known in (depth >= 16, macs > np.median(macs), top1 > np.median(top1)):
        some = np.ascontiguousarray(archs[known])
        if calibrated:
            model = pf.accuracy.calibrate(base, some, top1[known])
        else:
            model = pf.accuracy.fit(space, some, top1[known], epochs=20)
        asked = ~known & model.knows(archs)
        predicted, std = model.predict(np.ascontiguousarray(archs[asked]), return_std=True)
        scaled = (predicted - top1[asked]) / std
        # Without reach these are 2.8 to 5.
        assert np.sqrt(np.mean(scaled**2)) < 1.7
        assert np.mean(np.abs(scaled) < 2) > 0.8
        # What was measured does not become doubtful by it.
        assert model.predict(some, return_std=True)[1].mean() < 0.0025


def test_caution_subtracts_standard_deviations(tiny, tiny_model, tmp_path):
    archs = tiny.sample(200, seed=5)
    mean, std = tiny_model.predict(archs, return_std=True)
    cautious = tiny_model.cautious(2)
    lower, same = cautious.predict(archs, return_std=True)
    np.testing.assert_allclose(lower, (mean - 2 * std).clip(0, 1))
    np.testing.assert_array_equal(same, std)
    np.testing.assert_array_equal(cautious.predict(archs), lower)
    assert cautious.source == tiny_model.source + "; lower bound, mean - 2 std"
    assert cautious.cautious(1).source.endswith("mean - 1 std")
    assert cautious.cautious(0).source == tiny_model.source
    cautious.save(tmp_path / "model.safetensors")
    loaded = pf.accuracy.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict(archs), lower)
    for wrong in (-1, np.nan, np.inf):
        with pytest.raises(InvalidInputError, match="caution"):
            tiny_model.cautious(wrong)


def test_a_table_is_an_exact_model(cell, tmp_path):
    archs = cell.enumerate()
    top1 = np.random.default_rng(0).uniform(size=len(archs))
    model = pf.accuracy.table(cell, archs, top1)
    some = cell.sample(1000, seed=1)
    mean, std = model.predict(some, return_std=True)
    known = {row.tobytes(): value for row, value in zip(archs, top1, strict=True)}
    np.testing.assert_array_equal(mean, [known[row.tobytes()] for row in some])
    assert not std.any()
    assert model.sensitivity(some) is None
    np.testing.assert_array_equal(model.cautious(3).predict(some), mean)
    model.save(tmp_path / "table.safetensors")
    loaded = pf.accuracy.load(tmp_path / "table.safetensors")
    assert isinstance(loaded, pf.accuracy.TableModel)
    np.testing.assert_array_equal(loaded.predict(some), mean)

    partial = pf.accuracy.table(cell, archs[:10], top1[:10])
    np.testing.assert_array_equal(partial.predict(archs[:10]), top1[:10])
    with pytest.raises(InvalidInputError, match=r"row 2, architecture \|.* is not in the accuracy"):
        partial.predict(archs[8:12])


@pytest.mark.shared_data
def test_nasbench201_tables(shared_data, read_csv):
    path = shared_data / "nasbench201" / "accuracy_12_epochs.csv"
    model = pf.accuracy.load_nasbench201(path, "cifar100-val")
    rows = read_csv(path)
    archs = model.space.from_strings([row["arch"] for row in rows])
    assert len(np.unique(archs, axis=0)) == model.space.n_architectures
    expected = np.array([float(row["cifar100-val"]) for row in rows]) / 100
    np.testing.assert_array_equal(model.predict(archs), expected)
    assert "NAS-Bench-201, cifar100-val" in model.source
    with pytest.raises(FileFormatError, match="cifar10-test"):
        pf.accuracy.load_nasbench201(path, "mnist")


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
def test_truncated_models_are_refused(tiny_model, tmp_path, keep):
    path = tmp_path / "model.safetensors"
    tiny_model.save(path)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(keep * len(raw))])
    with pytest.raises(FileFormatError, match="truncated"):
        pf.accuracy.load(path)


def test_inconsistent_models_are_refused(tiny_model, tmp_path):
    path = tmp_path / "model.safetensors"
    tensors, body = tiny_model.to_tensors()

    def write(tensors, body):
        files.write_safetensors(path, "pnag-accuracy-model", 1, tensors, body)

    write({k: v for k, v in tensors.items() if k != "bias0"}, body)
    with pytest.raises(FileFormatError, match="bias0"):
        pf.accuracy.load(path)
    write({**tensors, "linear": tensors["linear"][:, :-1]}, body)
    with pytest.raises(FileFormatError, match="linear"):
        pf.accuracy.load(path)
    write({**tensors, "linear": tensors["linear"] * np.float32(np.nan)}, body)
    with pytest.raises(FileFormatError, match="finite"):
        pf.accuracy.load(path)
    write(tensors, {**body, "layers": 1000})
    with pytest.raises(FileFormatError, match="layers"):
        pf.accuracy.load(path)


def test_tables_round_trip(tiny, tiny_samples, tmp_path):
    path = tmp_path / "table.csv"
    pf.accuracy.save_table(path, tiny, *tiny_samples)
    archs, top1 = pf.accuracy.load_table(path, tiny)
    np.testing.assert_array_equal(archs, tiny_samples[0])
    np.testing.assert_array_equal(top1, tiny_samples[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns"),
        ("a,b\n1,2\n", "columns"),
        ("arch,top1\n1:2:3,0.5\n", "row 0"),
        ("arch,top1\nx,high\n", "row 0"),
        ("arch,top1\nx\n", "row 0"),
    ],
)
def test_bad_tables_are_refused(tiny, tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=message):
        pf.accuracy.load_table(path, tiny)


def test_kendall_agrees_with_scipy():
    from scipy.stats import kendalltau

    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 9, (2, 400)).astype(float)
        assert pf.accuracy.kendall(a, b) == pytest.approx(kendalltau(a, b).statistic)
    assert pf.accuracy.kendall([1, 1], [1, 2]) == 0.0


@pytest.mark.shared_data
def test_published_predictor(shared_data, read_csv):
    import torch

    path = shared_data / "ofa_imagenet" / "acc_predictor.pth"
    rows = read_csv(shared_data / "ofa_imagenet" / "measured_w1.0_r224.csv")
    model = pf.accuracy.load(path)
    space = model.space
    archs = space.from_strings([row["arch"] for row in rows])
    measured = np.array([float(row["top1_percent"]) for row in rows]) / 100
    predicted = model.predict(archs)
    assert pf.accuracy.kendall(predicted, measured) > 0.87

    # The same through the published layout, input by input.
    state = torch.load(path, map_location="cpu", weights_only=True)
    layers = [v for v in state.values() if v.ndim > 0]
    inputs = torch.zeros(50, 128)
    for i, row in enumerate(space.to_dicts(archs[:50])):
        for s, (k, e) in enumerate(zip(row["ks"], row["e"], strict=True)):
            if k:
                inputs[i, 3 * s + (3, 5, 7).index(k)] = 1
                inputs[i, 60 + 3 * s + (3, 4, 6).index(e)] = 1
        inputs[i, 120 + (224 - 112) // 16] = 1
    hidden = inputs
    for n, (weight, bias) in enumerate(zip(layers[::2], layers[1::2], strict=True)):
        hidden = hidden @ weight.T + bias
        if n < len(layers) // 2 - 1:
            hidden = hidden.relu()
    np.testing.assert_allclose(predicted[:50], hidden[:, 0].numpy(), atol=2e-6)

    elastic = pf.spaces.get("ofa-mbv3", resolutions=(160, 224))
    both = pf.accuracy.load(path, elastic)
    at_224 = np.concatenate([archs[:50], np.full((50, 1), 2, dtype=np.uint8)], axis=1)
    np.testing.assert_allclose(both.predict(at_224), predicted[:50], atol=2e-6)
    with pytest.raises(UnsupportedSpaceError):
        pf.accuracy.load(path, pf.spaces.get("mbv3-tiny"))
    with pytest.raises(UnsupportedSpaceError):
        pf.accuracy.load(path, pf.spaces.get("ofa-mbv3", resolutions=(200,)))


def test_a_pickle_with_code_is_not_run(tmp_path):
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    path = tmp_path / "attack.pth"
    path.write_bytes(pickle.dumps(Attack()))
    with pytest.raises(FileFormatError, match="no checkpoint as torch.save"):
        pf.accuracy.load(path)
    assert not (tmp_path / "owned").exists()


def measured_cells(cell, n=300):
    """What matters is the paths: convolutions on the longest one, and whether any is live."""
    from pnag_fast.spaces import nasbench201

    archs = cell.sample(n, seed=4)
    features = nasbench201.cell_features(archs)
    top1 = 0.1 + 0.2 * features[:, -1] + 0.05 * features[:, -10]
    return archs, top1.astype(np.float64).clip(0, 1)


def test_cells_become_a_table(cell, tmp_path):
    archs, top1 = measured_cells(cell)
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
def test_bad_accuracies_of_cells_are_refused(cell, rows, change, message):
    archs, top1 = measured_cells(cell)
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


# --- what the data determine ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def compofa():
    return pf.spaces.get("compofa-mbv3")


@pytest.fixture(scope="module")
def of_compofa(compofa):
    archs = compofa.enumerate()
    return pf.accuracy.fit(compofa, archs, 0.7 + 0.001 * (archs > 0).sum(axis=1), epochs=5)


def test_codes_that_were_never_measured_are_refused_by_name(compofa, of_compofa, tmp_path):
    ofa = pf.spaces.get("ofa-mbv3")
    named = r"code 4 \(kernel 5, expand 3\) of slot 0 \('stage1.layer1'\)"
    calibrated = pf.accuracy.calibrate(of_compofa, compofa.enumerate(), np.linspace(0.7, 0.8, 243))
    for model in (of_compofa, calibrated):
        model.save(tmp_path / "model.safetensors")
        loaded = pf.accuracy.load(tmp_path / "model.safetensors")
        for m in (model, loaded, model.cautious(2)):
            with pytest.raises(InvalidInputError, match=named):
                m.for_space(ofa)
            with pytest.raises(InvalidInputError, match=named):
                pf.search.front(ofa, m, [pf.costs.macs(ofa)], evaluations=100)
            assert m.for_space(compofa) is m
            np.testing.assert_array_equal(
                m.over(ofa).predict(compofa.enumerate()), m.predict(compofa.enumerate())
            )
    # Searched elsewhere, judged where it knows everything.
    front = pf.search.front(compofa, of_compofa, [pf.costs.macs(compofa)])
    assert len(pf.accuracy.confirm(front, calibrated).verdicts) == len(front)
    with pytest.raises(InvalidInputError, match=named):
        pf.accuracy.load(tmp_path / "model.safetensors", ofa)


def test_a_model_of_rows_without_a_code_refuses_it(tiny, tiny_samples, tiny_table):
    archs, top1 = tiny_samples
    known = ~(archs == 5).any(axis=1)
    model = pf.accuracy.fit(tiny, archs[known], top1[known], epochs=5)
    assert "code 5 (kernel 5, expand 2) of slot 0 ('stage1.layer1')" in model.report["warnings"][-1]
    others = np.ascontiguousarray(archs[~known])
    with pytest.raises(InvalidInputError, match=r"row 0 has code 5 \(kernel 5, expand 2\) of slot"):
        model.predict(others)
    with pytest.raises(InvalidInputError, match="code 5"):
        model.sensitivity(others)
    with pytest.raises(InvalidInputError, match="code 5"):
        pf.search.front(tiny, model, [tiny_table], evaluations=100)
    np.testing.assert_array_equal(model.knows(archs), known)
    more = pf.accuracy.covering(tiny, archs[known])
    assert 0 < len(more) < 9
    assert (more == 5).any(axis=0).all()
    both = np.concatenate([archs[known], more])
    values = np.concatenate([top1[known], np.full(len(more), top1.mean())])
    model = pf.accuracy.fit(tiny, both, values, epochs=5)
    assert model.for_space(tiny) is model
    assert not model.report["warnings"]


def test_an_absent_layer_is_a_code(tiny, tiny_samples):
    archs, top1 = tiny_samples
    deep = archs[:, 1] > 0
    model = pf.accuracy.fit(tiny, archs[deep], top1[deep], epochs=5)
    with pytest.raises(InvalidInputError, match=r"code 0 \(absent\) of slot 1"):
        model.for_space(tiny)


def test_cells_with_an_operation_that_was_never_measured_are_refused(cell):
    archs, top1 = measured_cells(cell)
    known = archs[:, 2] != 5
    model = pf.accuracy.fit(cell, archs[known], top1[known])
    with pytest.raises(InvalidInputError, match=r"code 5 \(operation avg_pool_3x3\) of slot 2"):
        model.predict(archs)
    with pytest.raises(InvalidInputError, match=r"code 5 \(operation avg_pool_3x3\) of slot 2"):
        model.for_space(cell)


@pytest.mark.parametrize("name", ["ofa-mbv3", "compofa-mbv3", "nasbench201", "mbv3-tiny"])
def test_covering_networks_have_every_code(name):
    space = pf.spaces.get(name)
    every = pf.accuracy.covering(space)
    reached = [set() for _ in range(space.n_slots)]
    for row in space.sample(20_000, seed=1, distribution="decisions"):
        for slot, code in enumerate(row.tolist()):
            reached[slot].add(code)
    assert [set(column.tolist()) for column in every.T] == reached
    assert len(every) <= 3 * max(space.n_codes)
    assert pf.accuracy.covering(space, every).shape == (0, space.n_slots)


def test_files_without_codes_still_load(tiny, tiny_model, tmp_path):
    path = tmp_path / "model.safetensors"
    tensors, body = tiny_model.to_tensors()
    old = {k: v for k, v in tensors.items() if k != "seen" and not k.startswith("reach")}
    files.write_safetensors(path, "pnag-accuracy-model", 2, old, body)
    loaded = pf.accuracy.load(path)
    archs = tiny.sample(100, seed=2)
    np.testing.assert_array_equal(loaded.predict(archs), tiny_model.predict(archs))
    assert loaded.for_space(tiny) is loaded


# --- repeats and folds ---------------------------------------------------------------------------


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


def test_equal_values_are_one_range(tiny, tiny_samples, tiny_model):
    archs, top1 = tiny_samples
    depth = (archs > 0).sum(axis=1)
    seen = []

    def fitter(space, some, values):
        seen.append(set((some > 0).sum(axis=1).tolist()))
        return tiny_model

    pf.accuracy.cross_validate(tiny, archs, top1, fitter, folds=3, by=depth)
    left_out = [set(depth.tolist()) - inside for inside in seen]
    assert all(left_out)
    assert sum(map(len, left_out)) == len(set(depth.tolist()))
    with pytest.raises(InvalidInputError, match="too few different values"):
        pf.accuracy.cross_validate(tiny, archs, top1, fitter, folds=3, by=np.zeros(len(archs)))


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


# --- what is worthless says so -------------------------------------------------------------------


def test_worthless_models_say_so(tiny, tiny_samples, tiny_model, cell, tmp_path):
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


def test_a_table_takes_as_much_as_fits_into_memory(compofa, tmp_path):
    archs = compofa.enumerate()
    top1 = np.random.default_rng(0).uniform(0.7, 0.8, len(archs))
    table = pf.accuracy.table(compofa, archs[::-1].copy(), top1[::-1])
    np.testing.assert_array_equal(table.predict(archs), top1)
    table.save(tmp_path / "table.safetensors")
    assert (tmp_path / "table.safetensors").stat().st_size < 20_000
    loaded = pf.accuracy.load(tmp_path / "table.safetensors")
    front = pf.search.front(compofa, loaded, [pf.costs.macs(compofa)])
    assert front.top1.max() == top1.max()

    ofa = pf.spaces.get("ofa-mbv3")
    for model in (table, loaded):
        with pytest.raises(InvalidInputError, match="lacks architectures of space 'ofa-mbv3', for"):
            model.for_space(ofa)
    # Rows that agree with known ones in either half, but not as a whole.
    many = ofa.sample(5000, seed=3)
    values = np.random.default_rng(1).uniform(size=len(many))
    table = pf.accuracy.table(ofa, many, values)
    np.testing.assert_array_equal(table.predict(many[::7].copy()), values[::7])
    mixed = many.copy()
    mixed[:, 12:] = np.roll(many[:, 12:], 1, axis=0)
    known = {row.tobytes() for row in many}
    for row in mixed[:200]:
        if row.tobytes() not in known:
            with pytest.raises(InvalidInputError, match="not in the accuracy table"):
                table.predict(row[None].copy())


def test_a_partial_table_is_not_searched(cell, tmp_path):
    archs = cell.sample(100, seed=0)
    table = pf.accuracy.table(cell, archs, np.linspace(0.5, 0.6, len(archs)))
    with pytest.raises(InvalidInputError, match=r"lacks architectures .*, for example \|"):
        pf.search.front(cell, table, [pf.costs.macs(cell)], evaluations=10)


# --- spreadsheets --------------------------------------------------------------------------------

ROWS = [
    ("1,1,1:3,0,0,5,0,0,7,0,0:1,0,0,2,0,0,4,0,0", 0.5),
    ("1,1,1:3,0,0,5,0,0,3,0,0:1,0,0,2,0,0,4,0,0", 0.625),
]


@pytest.mark.parametrize(
    "text",
    [
        '\ufeffarch,top1\r\n"{0}",0.5\r\n"{1}",0.625\r\n',
        "arch;top1\n{0};0,5\n{1};0,625\n",
        "\ufeffArch;Top1\r\n{0};0.5\r\n{1};0.625\r\n;\r\n",
        " ARCH ; TOP1 ;note\n {0} ; 0,5 ;x\n {1} ; 0,625 ;\n\n",
        "sep=;\r\narch;top1\r\n{0};0,5\r\n{1};0,625\r\n",
        "arch\ttop1\n{0}\t0,5\n{1}\t6,25e-1\n",
        'top1,x,arch\n.5,1,"{0}"\n+0.625,2,"{1}"',
        'arch,top1,\n"{0}",0.5,\n"{1}",0.625,\n,,\n',
    ],
)
def test_tables_of_spreadsheets_are_read(tiny, tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_bytes(text.format(ROWS[0][0], ROWS[1][0]).encode())
    archs, top1 = pf.accuracy.load_table(path, tiny)
    assert tiny.to_strings(archs) == [arch for arch, _ in ROWS]
    assert top1.tolist() == [0.5, 0.625]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ('arch,top1\n"{0}",0.5\n'.encode("utf-16"), "UTF-16"),
        ('arch,top1\n"{0}",0.5\n'.encode("utf-16-le"), "UTF-16"),
        (b'arch,top1\n"{0}",0.5\0\n', "NUL"),
        ('arch,top1,é\n"{0}",0.5,1\n'.encode("latin-1"), "UTF-8"),
        (b'arch,top1\n"{0}",0,5\n', "row 0 has 3 cells"),
        (b"arch,top1\n{0},0.5\n", "row 0 has"),
        (b"arch;top1\n{0};1.234,5\n", "number"),
        (b'arch,top1\n"{0}",nan\n', "number"),
        (b'arch,top1\n"{0}",inf\n', "number"),
        (b'arch,top1\n"{0}",1' + b"0" * 400 + b"\n", "number"),
        (b'arch,top1\n"1' + b"0" * 400 + b':2:3",0.5\n', "row 0"),
        (b'arch,top1\n"1' + b"0" * 5000 + b',1,1:2:3",0.5\n', "row 0"),
        (b'arch,top1\n"' + b"x" * 200_000 + b'",0.5\n', "field"),
        (b'arch,top1,Top1,TOP1\n"{0}",0.5,1,1\n', None),
        (b'arch,Top1,TOP1\n"{0}",0.5,1\n', "2 times"),
        (b"arch,top1\n", "no rows"),
    ],
)
def test_files_that_are_no_tables_are_refused(tiny, tmp_path, raw, message):
    path = tmp_path / "table.csv"
    path.write_bytes(raw.replace(b"{0}", ROWS[0][0].encode()))
    if message is None:  # of several, the one that is written as wanted
        assert pf.accuracy.load_table(path, tiny)[1].tolist() == [0.5]
        return
    with pytest.raises(FileFormatError, match=message) as caught:
        pf.accuracy.load_table(path, tiny)
    assert len(str(caught.value)) < 600


# --- objects and arguments -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["network", "calibrated", "table", "cautious"])
def test_models_are_pickled_copied_and_shown(tiny, tiny_samples, tiny_model, cell, kind):
    archs = tiny.sample(50, seed=8)
    if kind == "table":
        archs = cell.enumerate()
        model = pf.accuracy.table(cell, archs, np.linspace(0.1, 0.9, len(archs)))
    else:
        model = {
            "network": lambda: tiny_model,
            "calibrated": lambda: pf.accuracy.calibrate(tiny_model, *tiny_samples),
            "cautious": lambda: tiny_model.cautious(1.5),
        }[kind]()
    before = model.predict(archs, return_std=True)
    for copied in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert type(copied) is type(model)
        np.testing.assert_array_equal(copied.predict(archs, return_std=True), before)
        assert copied.report == model.report
        assert copied.for_space(model.space).caution == model.caution
    assert len(repr(model)) < 500
    assert repr(model).count("\n") < 5
    assert model.source[:20] in repr(model)
    assert model.space.name in repr(model)


def test_confirmations_are_pickled_and_shown(tiny, tiny_model, tiny_table, tmp_path):
    front = pf.search.front(tiny, tiny_model, [tiny_table], evaluations=500)
    confirmation = pf.accuracy.confirm(front, tiny_model)
    assert len(repr(confirmation)) < 500
    front.save(tmp_path / "front.json")
    confirmation = pf.accuracy.confirm(saved_front(tmp_path / "front.json"), tiny_model)
    again = pickle.loads(pickle.dumps(confirmation))
    assert again.verdicts == confirmation.verdicts


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


def test_other_odd_arguments_are_refused(tiny, tiny_samples, tiny_model, cell):
    archs, top1 = tiny_samples

    def fitter(space, some, values):
        return tiny_model

    for options in ({"folds": 2.5}, {"folds": "x"}, {"folds": 1}, {"seed": -1}, {"by": "x"}):
        with pytest.raises(PnagError, match=next(iter(options))):
            pf.accuracy.cross_validate(tiny, archs, top1, fitter, **options)
    for caution in ("x", None, -1, True, [1]):
        with pytest.raises(InvalidInputError, match="caution"):
            tiny_model.cautious(caution)
    for wrong in (tiny.definition, "mbv3-tiny", None):
        for call in (
            tiny_model.for_space,
            lambda space: pf.accuracy.fit(space, archs, top1),
            lambda space: pf.accuracy.table(space, archs, top1),
            lambda space: pf.accuracy.covering(space, archs),
            lambda space: pf.accuracy.load_table("nowhere.csv", space),
            lambda space: pf.accuracy.save_table("never-written.csv", space, archs, top1),
            lambda space: pf.accuracy.cross_validate(space, archs, top1, fitter),
        ):
            with pytest.raises(InvalidTypeError, match="search space"):
                call(wrong)
    with pytest.raises(InvalidTypeError, match="front"):
        pf.accuracy.confirm("front.json", tiny_model)
    with pytest.raises(InvalidTypeError, match="calibrate takes an accuracy model"):
        pf.accuracy.calibrate("model.safetensors", archs, top1)
    for a, b in (([1, 2], [1, 2, 3]), ([1, np.nan], [1, 2])):
        with pytest.raises(InvalidInputError, match="kendall"):
            pf.accuracy.kendall(a, b)
    with pytest.raises(InvalidInputError, match="top1"):
        pf.accuracy.save_table("never-written.csv", tiny, archs, top1[:-1])


def test_arrays_that_mean_more_than_their_numbers_are_refused(tiny, tiny_samples, tiny_model):
    torch = pytest.importorskip("torch")
    archs, top1 = tiny_samples
    masked = np.ma.masked_less(top1, np.median(top1))
    tensors = [torch.tensor(top1, requires_grad=True), torch.tensor(top1).bfloat16()]

    def fitter(space, some, values):
        return tiny_model

    for wrong in (masked, *tensors, top1.astype(object), [str(value) for value in top1]):
        for call in (
            lambda: pf.accuracy.fit(tiny, archs, wrong),  # noqa: B023
            lambda: pf.accuracy.calibrate(tiny_model, archs, wrong),  # noqa: B023
            lambda: pf.accuracy.table(tiny, archs, wrong),  # noqa: B023
            lambda: pf.accuracy.cross_validate(tiny, archs, wrong, fitter),  # noqa: B023
            lambda: pf.accuracy.save_table("never-written.csv", tiny, archs, wrong),  # noqa: B023
        ):
            with pytest.raises(InvalidTypeError, match="top1"):
                call()
        with pytest.raises(InvalidTypeError, match="by"):
            pf.accuracy.cross_validate(tiny, archs, top1, fitter, by=wrong)
    # Plain tensors and lists are as good as arrays.
    values = pf.accuracy.table(tiny, archs, torch.tensor(top1)).predict(archs)
    np.testing.assert_array_equal(values, pf.accuracy.table(tiny, archs, list(top1)).predict(archs))


def test_kendall_counts_a_hundred_thousand_pairs():
    from scipy.stats import kendalltau

    rng = np.random.default_rng(1)
    a = rng.normal(size=100_000).round(4)
    b = a + rng.normal(size=100_000).round(4)
    assert pf.accuracy.kendall(a, b) == pytest.approx(kendalltau(a, b).statistic, abs=1e-12)


# --- damaged files with a digest that fits -------------------------------------------------------


def _damages(rng, tensors, body):
    """One wrong value somewhere in a file: header fields, array types, shapes and values."""
    tensors, body = dict(tensors), copy.deepcopy(body)
    odd = [
        None, True, -1, 0, 1.5, float("nan"), float("inf"), -0.5, 1e300, 10**400, 2**70, "", "x",
        "\x1b[2J", [], [1], {}, {"a": 1}, [[[]]], {"kendall": "x"}, {"warnings": "x"},
        {"warnings": [1]}, {"before": 3}, {"kendall": 1e400}, {"mean_error": None},
    ]  # fmt: skip
    if rng.random() < 0.5:
        holder = body
        while True:
            key = sorted(holder)[rng.integers(len(holder))]
            inner = holder[key]
            if isinstance(inner, dict) and inner and rng.random() < 0.6 and key != "space":
                holder = inner
                continue
            break
        if rng.random() < 0.1:
            del holder[key]
        else:
            holder[key] = odd[rng.integers(len(odd))]
        return tensors, body
    name = sorted(tensors)[rng.integers(len(tensors))]
    array = np.array(tensors[name])
    kind = rng.integers(9)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _damage_array(rng, tensors, name, array, kind)
    return tensors, body


def _damage_array(rng, tensors, name, array, kind):
    if kind == 0:
        del tensors[name]
    elif kind == 1:
        tensors[name] = array[:-1]
    elif kind == 2:
        tensors[name] = array.astype(
            [np.float64, np.float32, np.int64, np.uint8, np.bool_][rng.integers(5)]
        )
    elif kind == 3:
        tensors[name] = array[None]
    elif kind == 4:
        tensors[name] = array.reshape(-1)
    elif kind == 5:
        tensors[name] = np.zeros((0, *array.shape[1:]), dtype=array.dtype)
    elif kind == 6:
        tensors[name] = np.swapaxes(array, 0, -1)
    else:
        flat = array.reshape(-1)
        value = np.array([np.nan, np.inf, -1e30, 3e38, -1.0, 255.0][rng.integers(6)])
        flat[rng.integers(len(flat))] = value.astype(array.dtype)
        tensors[name] = array


@pytest.mark.parametrize("kind", ["network", "calibrated", "table", "rows", "cells"])
def test_damaged_models_with_a_fitting_digest_are_refused(
    tiny, tiny_samples, tiny_model, cell, compofa, kind, tmp_path, monkeypatch
):
    """Whatever is wrong: refused, or a model that answers without a raw exception."""
    if kind == "network":
        model, archs = tiny_model, tiny.sample(20, seed=1)
    elif kind == "calibrated":
        model, archs = pf.accuracy.calibrate(tiny_model, *tiny_samples), tiny.sample(20, seed=1)
    elif kind == "table":
        archs = np.unique(cell.sample(300, seed=2), axis=0)
        model = pf.accuracy.table(cell, archs, np.linspace(0.1, 0.9, len(archs)))
    elif kind == "rows":
        archs = compofa.enumerate()
        again = np.concatenate([archs, archs])
        model = pf.accuracy.table(
            compofa, again, 0.7 + 0.005 * np.random.default_rng(0).random(486)
        )
    else:
        model, archs = pf.accuracy.fit(cell, *measured_cells(cell)), cell.sample(20, seed=1)
    tensors, body = model.to_tensors()
    path = tmp_path / "model.safetensors"
    # Files of other programs may hold what JSON does not allow.
    dumps = json.dumps
    monkeypatch.setattr(files.json, "dumps", lambda *a, **k: dumps(*a, **{**k, "allow_nan": True}))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(250):
        files.write_safetensors(path, "pnag-accuracy-model", 2, *_damages(rng, tensors, body))
        try:
            loaded = pf.accuracy.load(path)
        except FileFormatError:
            refused += 1
            continue
        assert len(repr(loaded)) < 500
        assert "\x1b" not in repr(loaded)
        try:
            top1, std = loaded.predict(archs, return_std=True)
            loaded.cautious(1).sensitivity(archs)
        except PnagError:
            continue
        assert np.isfinite(top1).all()
        assert np.isfinite(std).all()
        f"{loaded.report.get('kendall', 0):.2f} {loaded.report.get('mean_error', 0):.2f}"
        assert all(isinstance(text, str) for text in loaded.report.get("warnings", []))
    assert refused > 125


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("top1", 10**400),
        ("top1", "0.5"),
        ("top1", None),
        ("costs", []),
        ("costs", [1, 2]),
        ("costs", ["x"]),
        ("costs", 3),
        ("costs", [float("nan")]),
        ("arch", 3),
        ("arch", "x"),
        ("arch", None),
    ],
)
def test_damaged_fronts_are_refused(tiny, tiny_model, tiny_table, tmp_path, key, value):
    path = tmp_path / "front.json"
    pf.search.front(tiny, tiny_model, [tiny_table], evaluations=200).save(path)
    document = json.loads(path.read_text())
    document.pop("sha256", None)
    document["members"][1][key] = value
    path.write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match=r"front\.json"):
        saved_front(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {k: v.to_sparse() if v.ndim else v for k, v in state.items()},
        lambda state: {k: v.to(dtype=v.to_sparse().dtype) * float("nan") for k, v in state.items()},
        lambda state: {k: v.long() for k, v in state.items()},
        lambda state: {k: v.cfloat() for k, v in state.items()},
        lambda state: {"state_dict": 3},
        lambda state: {"state_dict": list(state.values())},
        lambda state: {},
        lambda state: [3],
        lambda state: {k: v[..., :-1] for k, v in state.items()},
    ],
)
def test_damaged_published_predictors_are_refused(tmp_path, change):
    torch = pytest.importorskip("torch")
    widths = (128, 8, 1)
    state = {}
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        state |= {f"{i}.weight": torch.rand(b, a), f"{i}.bias": torch.rand(b)}
    path = tmp_path / "predictor.pth"
    torch.save(state, path)
    assert pf.accuracy.load(path).n_members == 1
    torch.save(change(state), path)
    with pytest.raises(FileFormatError):
        pf.accuracy.load(path)
