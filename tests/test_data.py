from __future__ import annotations

import builtins
import copy
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import (
    DataError,
    FileAccessError,
    InvalidInputError,
    InvalidTypeError,
    MemoryShortageError,
    MissingDependencyError,
    PnagError,
)

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def digits():
    return pf.data.load_digits(16)


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def grey(n=12, size=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size), dtype=np.uint8)


LABELS = np.arange(12) % 3


def write_folder(root, per_class=4, classes=("cat", "dog"), size=(9, 7)):
    rng = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            pixels = rng.integers(0, 100, (*size, 3), dtype=np.uint8) + np.uint8(100 * label)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def splits(data):
    return (data.train, data.validation, data.test)


def test_digits(digits):
    assert sum(len(s) for s in splits(digits)) == 1797
    assert digits.classes == tuple("0123456789")
    assert digits.resolution == 16
    for part in splits(digits):
        assert part.images.dtype == np.uint8
        assert part.images.shape == (len(part), 16, 16, 3)
        assert part.labels.dtype == np.int64
        assert (part.images[..., 0] == part.images[..., 1]).all()
        # Every class is there in the share that it has overall, about one in ten.
        assert (np.abs(np.bincount(part.labels) / len(part) - 0.1) < 0.01).all()
    assert max(part.images.max() for part in splits(digits)) > 240


def test_splits_are_disjoint_and_complete():
    images = np.arange(200, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 1, 3), np.uint8)
    labels = np.repeat(np.arange(4), 50)
    data = pf.data.split(images, labels, list("abcd"), name="x", fractions=(0.6, 0.3, 0.1), seed=5)
    seen = np.concatenate([part.images[:, 0, 0, 0] for part in splits(data)])
    assert sorted(seen.tolist()) == list(range(200))
    assert [len(part) for part in splits(data)] == [120, 60, 20]
    for part in splits(data):
        assert (part.labels == part.images[:, 0, 0, 0] // 50).all()
        assert not part.images.flags.writeable


def test_every_class_is_in_every_split_however_rare():
    labels = np.array([0] * 40 + [1] * 3)
    images = np.zeros((43, 2, 2, 3), np.uint8)
    data = pf.data.split(images, labels, ["a", "b"], name="x", fractions=(0.9, 0.05, 0.05))
    assert all((part.labels == 1).sum() == 1 for part in splits(data))


def test_the_split_depends_on_the_seed_alone(digits):
    again = pf.data.load_digits(16)
    other = pf.data.load_digits(16, seed=1)
    assert again.fingerprint == digits.fingerprint
    assert other.fingerprint != digits.fingerprint
    assert (again.train.images == digits.train.images).all()
    assert not (other.train.images == digits.train.images).all()


def test_the_fingerprint_sees_every_pixel_label_and_name():
    images, names = grey()[..., None].repeat(3, axis=3), list("abc")
    first = pf.data.split(images, LABELS, names, name="x").fingerprint
    pixel = images.copy()
    pixel[0, 0, 0, 0] ^= 1
    labels = LABELS.copy()
    labels[:2] = labels[1::-1]
    assert pf.data.split(images, LABELS, names, name="elsewhere").fingerprint == first
    assert pf.data.split(pixel, LABELS, names, name="x").fingerprint != first
    assert pf.data.split(images, labels, names, name="x").fingerprint != first
    assert pf.data.split(images, LABELS, list("abd"), name="x").fingerprint != first


def test_normalize():
    images = np.array([0, 51, 255], dtype=np.uint8).reshape(1, 1, 1, 3)
    before = images.copy()
    x = pf.data.normalize(images)
    assert x.shape == (1, 3, 1, 1)
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    np.testing.assert_allclose(x.ravel(), [-1, -0.6, 1], atol=1e-6)
    assert (images == before).all()
    with pytest.raises(InvalidInputError, match="uint8"):
        pf.data.normalize(images.astype(np.float32))


@pytest.mark.parametrize(
    "images",
    [
        grey(),
        grey()[..., None],
        np.repeat(grey()[..., None], 3, axis=3),
        (grey() / 255).astype(np.float32),
        grey() / 255,
    ],
    ids=["n-h-w", "n-h-w-1", "n-h-w-3", "float32", "float64"],
)
def test_npz_kinds_agree(tmp_path, images):
    path = npz(tmp_path / "a.npz", images=images, labels=LABELS.astype(np.uint8))
    data = pf.data.load(path, 6)
    assert data.classes == ("0", "1", "2")
    expected = pf.data.split(np.repeat(grey()[..., None], 3, axis=3), LABELS, list("012"), name="x")
    assert data.fingerprint == expected.fingerprint


def test_npz_with_class_names_and_another_size(tmp_path):
    path = npz(tmp_path / "a.npz", images=grey(), labels=LABELS, classes=np.array(["x", "y", "z"]))
    data = pf.data.load(path.rename(tmp_path / "b.NPZ"), 11)
    assert data.classes == ("x", "y", "z")
    assert data.resolution == 11


def test_folder(tmp_path):
    root = write_folder(tmp_path / "pets")
    (root / ".cache").mkdir()
    (root / "dog" / ".DS_Store").write_bytes(b"not an image")
    (root / "notes.txt").write_text("files beside the class folders do not matter")
    data = pf.data.load(root, 8)
    assert data.classes == ("cat", "dog")
    assert sum(len(s) for s in splits(data)) == 8
    for part in splits(data):
        bright = part.images.mean(axis=(1, 2, 3)) > 100
        assert (bright == part.labels).all()


def test_folder_with_other_image_modes(tmp_path):
    root = tmp_path / "modes"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for mode in ("L", "P", "RGBA", "1"):
            Image.new(mode, (5, 5)).save(root / name / f"{mode}.png")
    assert pf.data.load(root, 4).train.images.shape[1:] == (4, 4, 3)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": LABELS}, "no array named 'images'"),
        ({"x": LABELS}, "'images' and 'labels'"),
        ({"images": grey(), "labels": LABELS[:5]}, "12 images and 5 labels"),
        ({"images": grey(), "labels": LABELS / 1}, "should be integers"),
        ({"images": grey(), "labels": LABELS[:, None]}, r"of shape \(12, 1\)"),
        ({"images": grey(), "labels": LABELS - 1}, "run from -1 to 1"),
        ({"images": grey(), "labels": LABELS * 2**40}, "run from 0 to"),
        ({"images": grey(), "labels": LABELS * 2}, "class '1' .* has 0 images"),
        ({"images": grey(), "labels": LABELS * 0}, "1 class"),
        ({"images": grey(), "labels": LABELS, "classes": np.array(["a", "b"])}, "go up to 2"),
        ({"images": grey()[:0], "labels": LABELS[:0]}, "has no images"),
        ({"images": grey(size=1)[:, 0], "labels": LABELS}, "should have shape"),
        ({"images": np.zeros((12, 2, 2, 4), np.uint8), "labels": LABELS}, "should have shape"),
        ({"images": np.zeros((12, 0, 2), np.uint8), "labels": LABELS}, "are empty"),
        ({"images": grey().astype(np.int32), "labels": LABELS}, "found int32"),
        ({"images": grey() * 1.0, "labels": LABELS}, "divide by 255"),
        ({"images": grey() / 255 - 0.5, "labels": LABELS}, "between 0 and 1"),
        ({"images": grey(), "labels": np.arange(12) % 6}, "at least 3 are needed"),
    ],
)
def test_npz_errors(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        pf.data.load(npz(tmp_path / "a.npz", **arrays), 8)


def test_npz_with_a_value_that_is_no_number(tmp_path):
    images = grey() / 255
    images[7, 1, 1] = np.nan
    with pytest.raises(DataError, match="image 7 .* not numbers"):
        pf.data.load(npz(tmp_path / "a.npz", images=images, labels=LABELS), 8)


def test_npz_never_unpickles(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    images = np.empty(12, dtype=object)
    images[:] = [Trap() for _ in range(12)]
    path = npz(tmp_path / "a.npz", images=images, labels=LABELS)
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        pf.data.load(path, 8)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("keep", [0, 10, 300])
def test_truncated_npz(tmp_path, keep):
    path = npz(tmp_path / "a.npz", images=grey(), labels=LABELS)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        pf.data.load(path, 8)


def test_npz_that_is_something_else(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"hello, this is a text file, long enough to be read")
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        pf.data.load(path, 8)
    with open(path, "wb") as stream:
        np.save(stream, grey())
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        pf.data.load(path, 8)


def test_paths_that_are_no_data(tmp_path):
    with pytest.raises(FileAccessError, match="no such file or folder"):
        pf.data.load(tmp_path / "absent", 8)
    other = tmp_path / "a.csv"
    other.write_text("1,2")
    with pytest.raises(DataError, match="neither a folder"):
        pf.data.load(other, 8)


@pytest.mark.parametrize("n_classes", [0, 1])
def test_folder_with_too_few_classes(tmp_path, n_classes):
    root = tmp_path / "pets"
    root.mkdir()
    write_folder(root, classes=("cat", "dog")[:n_classes])
    with pytest.raises(DataError, match="at least 2 are needed"):
        pf.data.load(root, 8)


def test_folder_names_its_unreadable_files(tmp_path):
    root = write_folder(tmp_path / "pets")
    (root / "cat" / "0.png").write_bytes((root / "cat" / "1.png").read_bytes()[:60])
    (root / "cat" / "readme.txt").write_text("hello")
    (root / "dog" / "nested").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(root / "dog" / "deep.png")
    for i in range(4):
        (root / "dog" / f"z{i}.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="8 entries that are no readable image") as caught:
        pf.data.load(root, 8)
    message = str(caught.value)
    assert "cat/0.png" in message
    assert "cat/readme.txt" in message
    assert "deep.png (more than 8 bits" in message
    assert "nested" in message
    assert "and 3 more; remove or replace them" in message


def test_folder_with_an_empty_class(tmp_path):
    root = write_folder(tmp_path / "pets")
    (root / "emu").mkdir()
    with pytest.raises(DataError, match="class 'emu' .* has 0 images"):
        pf.data.load(root, 8)


@pytest.mark.parametrize("resolution", [0, -1, 1.5, True, 10**6])
def test_resolution_is_checked(tmp_path, resolution):
    with pytest.raises(InvalidInputError, match="resolution"):
        pf.data.load_digits(resolution)
    with pytest.raises(InvalidInputError, match="resolution"):
        pf.data.load(tmp_path, resolution)


@pytest.mark.parametrize("fractions", [(1, 0, 0), (0.5, 0.5), (0.5, 0.6, 0.1), (0.5, -0.5, 1)])
def test_fractions_are_checked(fractions):
    with pytest.raises(InvalidInputError, match="three positive shares"):
        pf.data.load_digits(8, fractions=fractions)


@pytest.mark.parametrize("seed", [-1, True, 1.5])
def test_seed_is_checked(seed):
    with pytest.raises(InvalidInputError, match="seed"):
        pf.data.load_digits(8, seed=seed)


@pytest.mark.parametrize(("module", "name"), [("sklearn", "scikit-learn"), ("PIL", "pillow")])
def test_absent_dependencies_are_named(monkeypatch, module, name):
    real = builtins.__import__

    def without(wanted, *args, **kwargs):
        if wanted.split(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return real(wanted, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=rf"'{name}'.*pnag-fast\[train\]"):
        pf.data.load_digits(16)


# --- shards and datasets ------------------------------------------------------------------------


def shard(path, n, seed, **changes):
    import io

    from PIL import Image

    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    files = []
    for label in labels:
        image = np.full((6, 6, 3), 60 * label + 20 + rng.integers(10), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "jpeg", quality=95)
        files.append(stream.getvalue())
    offsets = np.cumsum([0, *map(len, files)])
    arrays = {"jpeg": np.frombuffer(b"".join(files), np.uint8), "offsets": offsets}
    np.savez(path, **{**arrays, "labels": labels.astype(np.uint8), **changes})


def test_shards_bring_their_test_images(tmp_path):
    for i in range(2):
        shard(tmp_path / f"train_{i}.npz", 60, i)
    shard(tmp_path / "test_0.npz", 9, 9)
    data = pf.data.load(tmp_path, 8)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [108, 12, 9]
    for part in (data.train, data.validation, data.test):
        brightness = part.images.mean((1, 2, 3))
        assert (np.abs(brightness - 60 * part.labels - 25) < 9).all()
    assert pf.data.load(tmp_path, 8).fingerprint == data.fingerprint
    other = pf.data.load(tmp_path, 8, fractions=(0.4, 0.4, 0.2))
    assert [len(part) for part in (other.train, other.validation, other.test)] == [60, 60, 9]


def test_broken_shards_are_refused(tmp_path):
    shard(tmp_path / "train.npz", 30, 0)
    with pytest.raises(DataError, match=r"has no test\*.npz"):
        pf.data.load(tmp_path, 8)
    test = tmp_path / "test.npz"
    shard(test, 9, 0, offsets=np.arange(4))
    with pytest.raises(DataError, match="10 rising positions"):
        pf.data.load(tmp_path, 8)
    shard(test, 9, 0, jpeg=np.zeros(100_000, np.uint8))
    with pytest.raises(DataError, match="9 images that cannot be read: image 0"):
        pf.data.load(tmp_path, 8)
    shard(test, 9, 0, labels=np.full(9, -1))
    with pytest.raises(DataError, match="run from -1 to -1"):
        pf.data.load(tmp_path, 8)


def test_a_dataset_of_a_user(tmp_path):
    from PIL import Image

    rows = []
    for i in range(30):
        gray = np.full((5 + i % 3, 7), 40 * (i % 2) + 10, np.uint8)
        kinds = (
            gray,
            Image.fromarray(gray),
            np.repeat(gray[..., None], 3, 2),
            np.repeat(gray[None].astype(np.float32) / 255, 3, 0),
        )
        rows.append((kinds[i % 4], i % 2))
    data = pf.data.from_dataset(rows, 4, name="mine")
    assert data.classes == ("0", "1")
    for part in (data.train, data.validation, data.test):
        assert (part.images == 40 * part.labels[:, None, None, None] + 10).all()
    for bad, match in (
        ((np.zeros((3, 4, 4)) - 1, 0), "item 3 of 'mine' .* not 0 to 1"),
        ((np.zeros((3, 4, 4), int), 0), "item 3 .* int64"),
        ("x", "item 3"),
        ((np.zeros((4, 4), np.uint8), 7), "labels|class"),
    ):
        with pytest.raises(DataError, match=match):
            pf.data.from_dataset([*rows[:3], bad, *rows[4:]], 4, classes=["a", "b"], name="mine")


# --- what photos are like -----------------------------------------------------------------------


def corners():
    """A picture whose four corners all differ, so that every way of turning it shows."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, :4], pixels[:4, 4:] = (250, 0, 0), (0, 250, 0)
    pixels[4:, :4], pixels[4:, 4:] = (0, 0, 250), (250, 250, 250)
    return pixels


def turned(pixels, orientation):
    """What a camera that is held so stores (EXIF 2.3, tag 0x0112): row 0 and column 0 are named."""
    return {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: pixels.transpose(1, 0, 2)[::-1],
        7: pixels.transpose(1, 0, 2)[::-1, ::-1],
        8: pixels.transpose(1, 0, 2)[:, ::-1],
    }[orientation]


def encoded(pixels, kind="jpeg", orientation=None, **options):
    import io

    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    if kind == "jpeg":
        options = {"quality": 100, "subsampling": 0, **options}
    if orientation is not None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def folder_of(root, *files):
    """Two classes of the same files, three of each at least."""
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i in range(max(3, len(files))):
            (root / name / f"{i}.img").write_bytes(files[i % len(files)])
    return root


def all_images(data):
    return np.concatenate([part.images for part in splits(data)])


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned(tmp_path, orientation, kind):
    stored = np.ascontiguousarray(turned(corners(), orientation))
    options = {"lossless": True} if kind == "webp" else {}
    file = encoded(stored, kind, orientation, **options)
    found = all_images(pf.data.load(folder_of(tmp_path / "photos", file), 8))
    np.testing.assert_allclose(found.astype(int), np.stack([corners()] * len(found)), atol=12)


def test_photos_in_shards_and_datasets_are_turned(tmp_path):
    import io

    file = encoded(np.ascontiguousarray(turned(corners(), 6)), orientation=6)
    jpeg = {
        "jpeg": np.frombuffer(file * 6, np.uint8),
        "offsets": len(file) * np.arange(7),
        "labels": np.arange(6) % 2,
    }
    for part in ("train", "test"):
        np.savez(tmp_path / f"{part}.npz", **jpeg)
    rows = [(Image.open(io.BytesIO(file)), i % 2) for i in range(6)]
    for data in (pf.data.load(tmp_path, 8), pf.data.from_dataset(rows, 8)):
        found = all_images(data)
        np.testing.assert_allclose(found.astype(int), np.stack([corners()] * len(found)), atol=12)


def test_an_orientation_that_cannot_be_read_leaves_the_photo_as_it_is(tmp_path):
    file = bytearray(encoded(corners(), orientation=6))
    start = file.index(b"Exif\0\0") + 6
    file[start : start + 8] = b"XXXXXXXX"
    found = all_images(pf.data.load(folder_of(tmp_path / "photos", bytes(file)), 8))
    np.testing.assert_allclose(found.astype(int), np.stack([corners()] * len(found)), atol=12)


def test_modes_are_read_as_the_documentation_says(tmp_path):
    palette = Image.fromarray(np.full((4, 4, 3), (10, 200, 30), np.uint8)).quantize(4)
    half = Image.new("RGBA", (4, 4), (200, 0, 0, 128))
    hidden = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    keyed = Image.new("RGB", (4, 4), (1, 2, 3))
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    expected = {
        "palette": (encoded(palette, "png"), (10, 200, 30)),
        "transparent palette": (encoded(palette, "gif", transparency=0), (255, 255, 255)),
        "alpha": (encoded(half, "png"), (227, 127, 127)),
        "hidden": (encoded(hidden, "png"), (255, 255, 255)),
        "grey with alpha": (encoded(Image.new("LA", (4, 4), (0, 0)), "png"), (255, 255, 255)),
        "one colour transparent": (encoded(keyed, "png", transparency=(1, 2, 3)), (255,) * 3),
        "cmyk": (encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0))), (254, 0, 0)),
        "grey": (encoded(Image.new("L", (4, 4), 77), "png"), (77, 77, 77)),
        "bits": (encoded(Image.new("1", (4, 4), 1), "png"), (255, 255, 255)),
        "animation": (
            encoded(frames[0], "gif", save_all=True, append_images=frames[1:]),
            (255, 0, 0),
        ),
    }
    for name, (file, colour) in expected.items():
        found = all_images(pf.data.load(folder_of(tmp_path / name, file), 4))
        wanted = np.broadcast_to(colour, found.shape)
        np.testing.assert_allclose(found.astype(int), wanted, atol=2, err_msg=name)


def test_postscript_is_not_run(tmp_path):
    file = encoded(corners(), "eps")
    with pytest.raises(DataError, match="no readable image"):
        pf.data.load(folder_of(tmp_path / "eps", file), 8)


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        (np.zeros((4, 4, 4), np.uint8), 0, r"uint8 of shape \(4, 4, 4\)"),
        (np.zeros((3, 4, 5), np.uint8), 0, r"uint8 of shape \(3, 4, 5\)"),
        (np.zeros((4, 5, 5), np.float32), 0, r"float32 of shape \(4, 5, 5\)"),
        (np.zeros((4, 4), np.uint8), 0.5, "float"),
        (np.zeros((0, 4), np.uint8), 0, "item 3"),
        (object(), 0, "item 3"),
    ],
)
def test_datasets_that_would_be_misread(image, label, message):
    """A fourth channel, planes first, or half a label used to pass: one channel was kept."""
    rows = [(np.zeros((4, 4), np.uint8), i % 2) for i in range(8)]
    rows[3] = (image, label)
    with pytest.raises(DataError, match=message):
        pf.data.from_dataset(rows, 4, classes=["x", "y"], name="mine")


def test_datasets_with_absurd_labels_or_without_length():
    rows = [(np.zeros((4, 4), np.uint8), i * 10**9) for i in range(8)]
    with pytest.raises(DataError, match="go up to 7000000000"):
        pf.data.from_dataset(rows, 4)
    with pytest.raises(InvalidTypeError, match="no length"):
        pf.data.from_dataset(iter(rows), 4)


def test_arrays_that_are_no_images_are_not_split():
    images, labels = np.zeros((12, 4, 4, 3), np.uint8), LABELS
    for changed, message in (
        ((images / 2, labels), "float64"),
        ((images[..., :1], labels), r"\(12, 4, 4, 1\)"),
        ((images, labels / 1), "integers"),
        ((images.tolist(), labels), "list"),
    ):
        with pytest.raises((InvalidInputError, InvalidTypeError), match=message):
            pf.data.split(*changed, list("abc"), name="x")


# --- files of strangers -------------------------------------------------------------------------


def packed(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(shape, dtype="|u1", payload=b"", order=False):
    import io

    stream = io.BytesIO()
    header = {"descr": dtype, "fortran_order": order, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + payload


LABELS_NPY = npy((12,), "<i8", (np.arange(12) % 3).astype("<i8").tobytes())


def peak_of(script, tmp_path):
    """Run a script and return what it printed; it may take 1 GiB and 60 seconds."""
    import resource

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        preexec_fn=limit,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


READ = """
import pnag_fast as pf
from pnag_fast.errors import DataError
try:
    pf.data.load({path!r}, 16)
except DataError as error:
    print(error)
"""


def test_a_small_file_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(tmp_path):
    n = 600
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("labels.npy", npy((n,), "|u1", bytes(i % 2 for i in range(n))))
        with archive.open("images.npy", "w") as member:
            member.write(npy((n, 1024, 1024)))
            for _ in range(n):
                member.write(bytes(1024**2))
    assert path.stat().st_size < 4 << 20
    found = peak_of(READ.format(path=str(path)), tmp_path)
    # Grey as it lies there, and its three channels.
    assert "unpacks to 2,516," in found
    assert "more than the bound of 2,147,483,648" in found


def test_the_bound_on_unpacked_bytes_can_be_moved(tmp_path, monkeypatch):
    path = npz(tmp_path / "a.npz", images=np.zeros((12, 64, 64), np.uint8), labels=LABELS)
    with pytest.raises(DataError, match="more than the bound of 100,000; if you trust the file"):
        pf.data.load(path, 8, max_bytes=100_000)
    # Four bytes a pixel: grey as it lies there, and its three channels.
    assert len(pf.data.load(path, 8, max_bytes=12 * 64 * 64 * 5).train) > 0
    monkeypatch.setattr(pf.data, "_UNPACKED_BYTES", 100_000)
    monkeypatch.setattr(pf.data, "_UNPACKED_TIMES", 0)
    with pytest.raises(DataError, match="PNAG_FILE_LIMIT_MB to 1 or more"):
        pf.data.load(path, 8)
    monkeypatch.setenv("PNAG_FILE_LIMIT_MB", "1")
    assert len(pf.data.load(path, 8).train) > 0


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many"])
def test_bounds_are_checked(tmp_path, value):
    for name in ("max_bytes", "max_pixels"):
        with pytest.raises(InvalidInputError, match=name):
            pf.data.load(tmp_path, 8, **{name: value})


def test_images_that_exceed_memory_when_scaled_are_refused(tmp_path, monkeypatch):
    path = npz(tmp_path / "a.npz", images=grey(), labels=LABELS)
    monkeypatch.setattr(pf.data, "machine_memory", lambda: 1 << 20)
    assert len(pf.data.load(path, 32).train) > 0
    with pytest.raises(MemoryShortageError, match="images of 512 px are more than"):
        pf.data.load(path, 512)


IMAGES_NPY = npy((12, 4, 4), "|u1", bytes(192))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (npy((12, 4, 4), "|u1", bytes(10)), "should have 192 bytes .* holds 10"),
        (npy((12, 4, 4), "|u1", bytes(400)), "should have 192 bytes .* holds 400"),
        (npy((10**12, 4, 4)), "cannot be read"),
        (npy((-12, -4, 4), "|u1", bytes(192)), "cannot be read"),
        (npy((12, 4, 4), "|O", bytes(192 * 8)), "Python objects"),
        (npy((12, 4), [("a", "|u1", 4)], bytes(192)), "records"),
        (b"\x93NUMPY\x03\x00" + bytes(300), "format"),
        (b"\x93NUMPY\x01\x00\x40\x00" + b"(" * 64, "cannot be read"),
        (b"\x93NUMPY\x01\x00\x10\x00" + b"{'descr': '''abc", "cannot be read"),
        (b"\x93NUMPY\x01\x00\x20\x00" + b"\x00" * 32, "cannot be read"),
        (b"", "cannot be read"),
    ],
    ids=range(11),
)
def test_arrays_that_lie_about_themselves(tmp_path, images, message):
    path = packed(tmp_path / "a.npz", {"images.npy": images, "labels.npy": LABELS_NPY})
    with pytest.raises(DataError, match=message):
        pf.data.load(path, 8)


def test_arrays_of_columns_and_of_the_second_format_are_read(tmp_path):
    images = grey()
    path = npz(tmp_path / "a.npz", images=np.asfortranarray(images), labels=LABELS)
    expected = pf.data.load(npz(tmp_path / "b.npz", images=images, labels=LABELS), 6)
    assert pf.data.load(path, 6).fingerprint == expected.fingerprint
    import io

    stream = io.BytesIO()
    np.lib.format.write_array(stream, images, version=(2, 0))
    packed(path, {"images.npy": stream.getvalue(), "labels.npy": LABELS_NPY})
    assert pf.data.load(path, 6).fingerprint == expected.fingerprint


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_that_numpy_does_not_write(tmp_path, method):
    members = {"images.npy": IMAGES_NPY, "labels.npy": LABELS_NPY}
    with pytest.raises(DataError, match="compressed in a way"):
        pf.data.load(packed(tmp_path / "a.npz", members, method), 8)


def test_archives_with_two_arrays_of_a_name_or_encrypted_ones(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", IMAGES_NPY)
        archive.writestr("labels.npy", LABELS_NPY)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("images.npy", IMAGES_NPY)
    with pytest.raises(DataError, match="'images' twice"):
        pf.data.load(path, 8)
    raw = bytearray(packed(path, {"images.npy": IMAGES_NPY, "labels.npy": LABELS_NPY}).read_bytes())
    for sign, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(sign) + offset] |= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match="encrypted"):
        pf.data.load(path, 8)


@pytest.mark.parametrize("size", [(13_305, 13_305), (9_460, 9_460)], ids=["177M", "89M"])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, size):
    file = encoded(Image.new("1", size), "png")
    assert len(file) < 1 << 20
    root = folder_of(tmp_path / "photos", file)
    with pytest.raises(DataError, match="pixels by its header, more than the bound of 89,478,485"):
        pf.data.load(root, 8)


def test_the_bound_on_pixels_can_be_moved(tmp_path, monkeypatch):
    root = folder_of(tmp_path / "photos", encoded(Image.new("L", (300, 300)), "png"))
    with pytest.raises(DataError, match="bound of 80,000; .* max_pixels="):
        pf.data.load(root, 8, max_pixels=80_000)
    monkeypatch.setenv("PNAG_MAX_IMAGE_PIXELS", "80000")
    with pytest.raises(DataError, match="PNAG_MAX_IMAGE_PIXELS"):
        pf.data.load(root, 8)
    assert len(pf.data.load(root, 8, max_pixels=90_000).train) > 0
    monkeypatch.setenv("PNAG_MAX_IMAGE_PIXELS", "a lot")
    with pytest.raises(InvalidInputError, match="PNAG_MAX_IMAGE_PIXELS should be an integer"):
        pf.data.load(root, 8)


def test_pillow_s_own_bound_is_raised_with_ours_and_put_back(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    root = folder_of(tmp_path / "photos", encoded(Image.new("L", (300, 300)), "png"))
    with pytest.raises(DataError, match="too many pixels by its header"):
        pf.data.load(root, 8)
    assert len(pf.data.load(root, 8, max_pixels=100_000_000).train) > 0
    assert Image.MAX_IMAGE_PIXELS == 10_000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.timeout(60)
def test_pipes_devices_and_loops_are_named(tmp_path):
    root = write_folder(tmp_path / "pets")
    os.mkfifo(root / "cat" / "pipe.png")
    (root / "cat" / "zero.png").symlink_to("/dev/zero")
    (root / "cat" / "loop.png").symlink_to("loop.png")
    (root / "dog" / "up").symlink_to("..")
    with pytest.raises(DataError, match="4 entries") as caught:
        pf.data.load(root, 8)
    message = str(caught.value)
    assert "pipe.png (it is a pipe" in message
    assert "zero.png (it is a device" in message
    assert "loop.png" in message
    assert "up (it is a folder" in message
    for name in ("train.npz", "a.npz"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(FileAccessError, match="it is a pipe"):
            pf.data.load(tmp_path if name == "train.npz" else tmp_path / name, 8)
        (tmp_path / name).unlink()
    (tmp_path / "zero.npz").symlink_to("/dev/zero")
    with pytest.raises(FileAccessError, match="it is a device"):
        pf.data.load(tmp_path / "zero.npz", 8)


def test_a_class_that_is_a_broken_link_is_not_left_out(tmp_path):
    root = write_folder(tmp_path / "pets")
    (root / "emu").symlink_to(root / "emu")
    with pytest.raises(DataError, match="link 'emu', which leads nowhere"):
        pf.data.load(root, 8)


def damaged(raw, rng):
    """Damage a file in one of the ways in which files get damaged, or are made to do harm."""
    raw = bytearray(raw)
    kind = rng.integers(6)
    place = int(rng.integers(len(raw)))
    if kind == 0:
        del raw[place:]
    elif kind == 1:
        raw[place] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        for i in rng.integers(len(raw), size=8):
            raw[i] = int(rng.integers(256))
    elif kind == 3:
        raw[place : place + 4] = bytes(rng.choice([0, 255, 127, 128], 4).astype(np.uint8))
    elif kind == 4:
        del raw[place : place + int(rng.integers(1, 40))]
    else:
        raw[place:place] = bytes(rng.integers(0, 256, int(rng.integers(1, 40))).astype(np.uint8))
    return bytes(raw)


def assert_read_or_refused(path, what):
    try:
        data = pf.data.load(path, 8)
    except PnagError:
        return
    except Warning:  # Pillow's, of a file that it reads all the same
        return
    assert data.resolution == 8, what


@pytest.mark.parametrize("kind", ["images", "jpeg"])
def test_damaged_archives_never_raise_anything_else(tmp_path, kind):
    if kind == "images":
        path = tmp_path / "a.npz"
        np.savez_compressed(path, images=grey(), labels=LABELS, classes=np.array(list("abc")))
        where = path
    else:
        shard(tmp_path / "train.npz", 9, 0)
        path, where = tmp_path / "test.npz", tmp_path
        shard(path, 9, 1)
    raw = path.read_bytes()
    rng = np.random.default_rng(0)
    for i in range(100):
        path.write_bytes(damaged(raw, rng))
        assert_read_or_refused(where, i)


def test_damaged_images_never_raise_anything_else(tmp_path):
    root = folder_of(tmp_path / "photos", encoded(corners(), "png"))
    kinds = ("jpeg", "png", "gif", "bmp", "tiff", "webp", "ppm", "tga", "ico", "jpeg2000")
    picture = Image.fromarray(corners()).resize((24, 24))
    raws = [encoded(picture, kind, orientation=6 if kind == "jpeg" else None) for kind in kinds]
    rng = np.random.default_rng(0)
    for i in range(200):
        (root / "a" / "0.img").write_bytes(damaged(raws[i % len(raws)], rng))
        assert_read_or_refused(root, (i, kinds[i % len(raws)]))


def test_a_reason_cannot_write_to_the_terminal(tmp_path):
    packed(
        tmp_path / "a.npz",
        {
            "images.npy": b"\x93NUMPY\x01\x00\x14\x00\x1b[2J\x1b]0;owned\x07{'a'}}",
            "labels.npy": b"",
        },
    )
    with pytest.raises(DataError) as caught:
        pf.data.load(tmp_path / "a.npz", 8)
    assert "\x1b" not in str(caught.value)


# --- copies -------------------------------------------------------------------------------------


def test_data_is_copied_and_printed(digits):
    for copied in (pickle.loads(pickle.dumps(digits)), copy.deepcopy(digits)):
        assert copied.fingerprint == digits.fingerprint
        assert not copied.train.images.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            copied.train.images[0] = 0
    for thing in (digits, digits.train):
        assert repr(thing).count("\n") < 5
        assert len(repr(thing)) < 200
    writable = pf.data.Split(np.zeros((1, 2, 2, 3), np.uint8), np.zeros(1, np.int64))
    copy.copy(writable)
    assert writable.images.flags.writeable


def test_data_knows_how_it_was_split(tmp_path):
    digits = pf.data.load_digits(8, fractions=(0.3, 0.3, 0.4), seed=4)
    assert (digits.seed, digits.fractions) == (4, (0.3, 0.3, 0.4))
    assert digits.resize == pf.data.BILINEAR
    again = pf.data.load_digits(8, fractions=digits.fractions, seed=digits.seed)
    assert again.fingerprint == digits.fingerprint
    assert again.train.fingerprint == digits.train.fingerprint != digits.test.fingerprint
    shard(tmp_path / "train.npz", 30, 0, classes=np.array(["x", "y", "z"]))
    shard(tmp_path / "test.npz", 9, 0)
    data = pf.data.load(tmp_path, 8, seed=3)
    assert data.classes == ("x", "y", "z")
    assert (data.seed, data.fractions) == (3, None)
    shard(tmp_path / "test.npz", 9, 0, classes=np.array(["x", "y", "q"]))
    with pytest.raises(DataError, match="other classes"):
        pf.data.load(tmp_path, 8)


def test_data_says_when_held_out_images_were_learned_from(digits):
    assert digits.warnings == ()
    rng = np.random.default_rng(0)
    once = rng.integers(0, 256, (200, 4, 4, 3), dtype=np.uint8)
    twice = np.concatenate([once, once])
    data = pf.data.split(twice, np.arange(400) % 2, ["a", "b"], name="copies")
    assert len(data.warnings) == 2
    assert (
        "% of the validation images of 'copies' are among its training images" in data.warnings[0]
    )
    few = pf.data.split(once[:40], np.arange(40) % 2, ["a", "b"], name="few")
    assert "'few' has 10 validation images: one of them is 10.0 points" in few.warnings[0]


def test_images_are_found_by_name_or_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()  # a folder of that name is not meant
    found, same = pf.data.find("digits", 8, seed=3), pf.data.load_digits(8, seed=3)
    assert found.fingerprint == same.fingerprint
    assert found.name == pf.data.DIGITS
    with pytest.raises(FileAccessError, match="absent"):
        pf.data.find(tmp_path / "absent", 8)
