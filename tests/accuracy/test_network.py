from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import FileFormatError, UnsupportedSpaceError


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
