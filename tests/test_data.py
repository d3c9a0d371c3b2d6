from __future__ import annotations

import builtins

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import DataError, FileAccessError, InvalidInputError, MissingDependencyError

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
