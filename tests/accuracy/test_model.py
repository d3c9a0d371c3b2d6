from __future__ import annotations

import copy
import json
import pickle
import warnings

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast import files
from pnag_fast.accuracy.distance import Reach
from pnag_fast.errors import FileFormatError, InvalidInputError, InvalidTypeError, PnagError


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
def test_sensitivity_is_the_derivative(tiny, caution, beyond):
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


def test_files_without_codes_still_load(tiny, tiny_model, tmp_path):
    path = tmp_path / "model.safetensors"
    tensors, body = tiny_model.to_tensors()
    old = {k: v for k, v in tensors.items() if k != "seen" and not k.startswith("reach")}
    files.write_safetensors(path, "pnag-accuracy-model", 2, old, body)
    loaded = pf.accuracy.load(path)
    archs = tiny.sample(100, seed=2)
    np.testing.assert_array_equal(loaded.predict(archs), tiny_model.predict(archs))
    assert loaded.for_space(tiny) is loaded


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


def test_other_odd_arguments_are_refused(tiny, tiny_samples, tiny_model):
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
    tiny, tiny_samples, tiny_model, cell, compofa, kind, tmp_path, monkeypatch, measured_cells
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
        model, archs = pf.accuracy.fit(cell, *measured_cells), cell.sample(20, seed=1)
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
