from __future__ import annotations

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.errors import FileFormatError, InvalidInputError, UnsupportedSpaceError


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
    with pytest.raises(InvalidInputError, match=message):
        pf.accuracy.fit(tiny, archs[:rows], change(top1[:rows]))
    with pytest.raises(InvalidInputError, match=message):
        pf.accuracy.calibrate(tiny_model, archs[:rows], change(top1[:rows]))


def test_contradicting_rows_are_refused(tiny, cell, tiny_samples):
    archs, top1 = (values[:100].copy() for values in tiny_samples)
    archs[70], top1[70] = archs[20], top1[20] + 0.0005
    pf.accuracy.fit(tiny, archs, top1, epochs=1)  # measured twice
    top1[70] = top1[20] + 0.05
    with pytest.raises(InvalidInputError, match="rows 20 and 70 are the same architecture"):
        pf.accuracy.fit(tiny, archs, top1)
    same = cell.sample(1)[[0, 0]]
    assert len(pf.accuracy.table(cell, same, [0.5, 0.5]).predict(same)) == 2
    with pytest.raises(InvalidInputError, match="rows 0 and 1 are the same architecture"):
        pf.accuracy.table(cell, same, [0.5, 0.5005])


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
    from pnag_fast.accuracy.validation import saved_front

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
    for link in ("identity", "logit"):
        model = pf.accuracy.NetworkModel(
            space=tiny,
            source="random",
            noise=0.05,
            distance=distance,
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
            return np.mean(outputs, 0) - caution * np.sqrt(np.var(outputs, 0) + 0.05**2 + far)

        np.testing.assert_allclose(
            model.predict(archs), predict(x).clip(0, 1), rtol=1e-5, atol=1e-5
        )
        step = 1e-6 * np.eye(features)
        expected = np.stack([predict(x + e) - predict(x - e) for e in step], axis=1) / 2e-6
        np.testing.assert_allclose(model.sensitivity(archs), expected, rtol=1e-3, atol=1e-4)


def test_std_grows_away_from_the_measured_rows(tiny):
    """Rows without one choice say little of it; errors on held-out ranges say how little."""
    archs = tiny.sample(600, seed=3)
    top1 = 0.5 + 0.02 * (archs > 3).sum(axis=1) + np.random.default_rng(0).normal(0, 0.004, 600)
    known = archs[:, 0] != 5
    model = pf.accuracy.fit(tiny, archs[known], top1[known], epochs=50)
    inside = model.predict(archs[known], return_std=True)[1]
    outside = model.predict(archs[~known], return_std=True)[1]
    assert outside.mean() > 1.1 * inside.mean()


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
    with pytest.raises(UnsupportedSpaceError, match="too large"):
        pf.accuracy.table(pf.spaces.get("ofa-mbv3"), archs, top1)


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
    import pickle

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
    pytest.importorskip("sklearn")
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
    assert (pf.accuracy.fit(cell, archs, top1, seed=4).predict(every) != mean).any()

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
    pytest.importorskip("sklearn")
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
