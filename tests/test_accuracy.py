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
    ],
)
def test_fit_refuses(tiny, tiny_samples, rows, change, message):
    archs, top1 = tiny_samples
    with pytest.raises(InvalidInputError, match=message):
        pf.accuracy.fit(tiny, archs[:rows], change(top1[:rows]))


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
    with pytest.raises(FileFormatError, match="without running code"):
        pf.accuracy.load(path)
    assert not (tmp_path / "owned").exists()
