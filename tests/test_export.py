from __future__ import annotations

import builtins
import io
import json

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import FileAccessError, InvalidInputError, MissingDependencyError

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")


def network(name="mbv3-tiny", seed=0, **options):
    """A network whose statistics and weights are all different, so that a mix-up shows."""
    space = pf.spaces.get(name, **options)
    net = pf.supernet.build(space, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor_name, tensor in net.state_dict().items():
            if tensor_name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.ndim == 1:
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.2)
    return space, net


def calibrated(net, arch, size):
    """Cut a network out and let its statistics fit it, so that its logits are of ordinary size."""
    noise = np.random.default_rng(1).integers(0, 256, (32, size, size, 3), dtype=np.uint8)
    return pf.supernet.recalibrate(net.extract(arch), noise)


def images(n, size, channels=3):
    return np.random.default_rng(0).uniform(-1, 1, (n, channels, size, size)).astype(np.float32)


def run(path, x):
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": x})[0]


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("mbv3-tiny", {}, 32),
        ("mbv3-cifar", {"classes": 7}, 32),
        ("ofa-mbv3", {"resolutions": (64,)}, 64),
        ("compofa-mbv3", {"resolutions": (65,)}, 65),
        ("nasbench-macro", {"width": 0.25, "resolutions": (33,)}, 33),
    ],
)
def test_onnxruntime_computes_what_torch_does(tmp_path, name, options, size):
    space, net = network(name, **options)
    archs = np.concatenate([pf.supernet.extremes(space), space.sample(3, seed=1)])
    for i, arch in enumerate(archs):
        static = calibrated(net, arch, size)
        path = tmp_path / f"{i}.onnx"
        pf.export.to_onnx(static, path)
        for batch in (1, 3):
            x = images(batch, size)
            with torch.inference_mode():
                expected = static(torch.from_numpy(x)).numpy()
            found = run(path, x)
            assert found.shape == expected.shape == (batch, space.network.classes)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_file_says_what_it_is(tmp_path):
    space, net = network()
    arch = space.sample(1, seed=2)
    path = tmp_path / "network.onnx"
    metadata = {"architecture": space.to_strings(arch)[0], "space": space.name}
    pf.export.to_onnx(net.extract(arch[0]), path, metadata=metadata)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    found = {p.key: p.value for p in model.metadata_props}
    assert {key: found[key] for key in metadata} == metadata
    assert set(found) == {*metadata, "preprocessing"}
    assert model.producer_name == "pnag_fast"
    (entry,), (result,) = model.graph.input, model.graph.output
    assert (entry.name, result.name) == ("images", "logits")
    dims = [d.dim_param or d.dim_value for d in entry.type.tensor_type.shape.dim]
    assert dims == ["batch", 3, 32, 32]
    assert [d.dim_param or d.dim_value for d in result.type.tensor_type.shape.dim] == ["batch", 10]
    # Folded: no batch norm is left, and no weight that nothing uses.
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    used = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used


def photo(seed, orientation=None):
    """Encode a picture as somebody's phone or drawing program would."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (9 + seed % 3, 14, 4), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((70, 50 + seed))
    stream = io.BytesIO()
    if orientation is None:
        image.save(stream, "png")
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.convert("RGB").save(stream, "jpeg", exif=exif)
    return stream.getvalue()


def prepared(raw, how, size):
    """What the documentation of the metadata says, and nothing of this package."""
    from PIL import Image, ImageOps

    assert (how["orientation"], how["transparency"]) == ("exif", "white")
    assert (how["colour"], how["layout"]) == ("RGB", "NCHW")
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(raw))).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    resize = how["resize"]
    assert (resize["filter"], resize["antialias"]) == ("bilinear", True)
    if "shorter_side" in resize:
        scale = resize["shorter_side"] / min(image.size)
        wide, high = (round(scale * n) for n in image.size)
        height, width = resize["centre_crop"]
        left, top = (wide - width) // 2, (high - height) // 2
        image = image.resize((wide, high), Image.Resampling.BILINEAR)
        image = image.crop((left, top, left + width, top + height))
    else:
        assert resize["keep_aspect_ratio"] is False
        height, width = resize["size"]
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = (np.asarray(image) * how["scale"] - how["mean"]) / how["std"]
    assert pixels.shape == (size, size, 3)
    return pixels.transpose(2, 0, 1)[None].astype(np.float32)


def metadata_of(path):
    return {p.key: json.loads(p.value) for p in onnx.load(path).metadata_props}


def test_who_has_the_file_alone_gets_the_logits_of_a_raw_image(tmp_path):
    pytest.importorskip("PIL")
    names = ("cat", "dög")
    files = [photo(i, orientation=(None, 6, 3)[i % 3]) for i in range(60)]
    for i, raw in enumerate(files):
        folder = tmp_path / "pets" / names[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:03}.img").write_bytes(raw)
    data = pf.data.load(tmp_path / "pets", 32)
    space = pf.spaces.get("mbv3-tiny", classes=2, resolutions=(32,))
    net = pf.supernet.build(space)
    pf.supernet.train(net, data, epochs=1, batch_size=8)
    static = pf.supernet.recalibrate(net.extract(space.sample(1, seed=1)[0]))
    path = tmp_path / "net.onnx"
    pf.export.to_onnx(static, path)
    found = metadata_of(path)
    assert found["classes"] == list(names)
    assert found["trained_on"] == {"name": "pets", "train_sha256": data.train.fingerprint}
    every = {image.tobytes(): image for image in data.train.images}
    logits = [run(path, prepared(raw, found["preprocessing"], 32)) for raw in files]
    # Those of the training images as the package itself loads and normalises them.
    with torch.inference_mode():
        expected = static(torch.from_numpy(pf.data.normalize(np.stack(list(every.values())))))
    nearest = (
        np.abs(np.concatenate(logits)[None] - expected.numpy()[:, None]).max(axis=2).min(axis=1)
    )
    assert nearest.max() < 1e-4


def test_imported_networks_say_how_imagenet_enters_them(tmp_path):
    """As in Once-for-All: resize to ceil(size / 0.875), centre crop, mean and std of ImageNet."""
    net = pf.supernet.build(pf.spaces.get("ofa-mbv3", resolutions=(192,)))
    net.input_scale = pf.supernet.model.IMAGENET_INPUT
    net.trained_on = pf.supernet.TrainedOn("ImageNet", None, 192, resize="centre-crop")
    static = calibrated(net, pf.supernet.extremes(net.space)[0], 192)
    path = tmp_path / "net.onnx"
    pf.export.to_onnx(static, path)
    found = metadata_of(path)
    assert "classes" not in found
    assert found["preprocessing"]["resize"]["shorter_side"] == 220
    raw = photo(1)
    x = prepared(raw, found["preprocessing"], 192)
    assert run(path, x).shape == (1, 1000)
    assert np.abs(x).max() < 2.7


def test_another_resolution(tmp_path):
    space, net = network()
    static = calibrated(net, pf.supernet.extremes(space)[1], 32)
    path = tmp_path / "network.onnx"
    pf.export.to_onnx(static, path, resolution=24)
    x = images(2, 24)
    with torch.inference_mode():
        expected = static(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(run(path, x), expected, rtol=1e-4, atol=1e-4)


def test_bad_input_leaves_the_old_file(tmp_path):
    space, net = network()
    static = net.extract(pf.supernet.extremes(space)[0])
    path = tmp_path / "network.onnx"
    path.write_bytes(b"old")
    for resolution in (0, -3, 1.5, True):
        with pytest.raises(InvalidInputError, match="resolution"):
            pf.export.to_onnx(static, path, resolution=resolution)
    with pytest.raises(InvalidInputError, match="strings to strings"):
        pf.export.to_onnx(static, path, metadata={"top1": 0.9})
    assert path.read_bytes() == b"old"
    with pytest.raises(FileAccessError, match="cannot write"):
        pf.export.to_onnx(static, tmp_path / "absent" / "network.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["network.onnx"]


def test_absent_onnx_is_named(monkeypatch, tmp_path):
    space, net = network()
    static = net.extract(pf.supernet.extremes(space)[0])
    real = builtins.__import__

    def without(wanted, *args, **kwargs):
        if wanted.split(".")[0] == "onnx":
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
        return real(wanted, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"'onnx'.*pnag-fast\[export\]"):
        pf.export.to_onnx(static, tmp_path / "network.onnx")
