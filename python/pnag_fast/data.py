"""Labelled images: loading, checking, and splitting into training, validation and test images.

A network sees images as `normalize` returns them, with constants that do not depend on the data:
the supernet in torch, its ONNX export and its TVM build therefore take the very same input.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import files
from .errors import DataError, FileAccessError, InvalidInputError, MissingDependencyError
from .threads import resolve_threads

if TYPE_CHECKING:
    from PIL import Image

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Fractions = tuple[float, float, float]

# Half to learn from; a quarter to judge architectures by, a quarter to judge the final ones.
DEFAULT_FRACTIONS: Fractions = (0.5, 0.25, 0.25)

# Of the training images of shards, which bring their own test images.
_SHARD_VALIDATION = 0.1

_SPLITS = ("train", "validation", "test")
_FILES_NAMED_IN_AN_ERROR = 5


@dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels.

    Attributes
    ----------
    images : ndarray of uint8, shape (n, h, w, 3)
    labels : ndarray of int64, shape (n,)
        Index into the class names.
    """

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images of one size in three disjoint splits.

    Attributes
    ----------
    train : Split
        To learn weights and batch-norm statistics from.
    validation : Split
        To judge architectures by while searching.
    test : Split
        To judge what the search found; nothing else may look at them.
    classes : tuple of str
        Names of the classes, by label.
    name : str
        Where the images come from, for reports.
    """

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    name: str

    @property
    def resolution(self) -> int:
        """Height and width of the images, in pixels."""
        return int(self.train.images.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all images, labels and class names, in hexadecimal."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for name in _SPLITS:
            split: Split = getattr(self, name)
            digest.update(repr(split.images.shape).encode())
            digest.update(np.ascontiguousarray(split.images).data)
            digest.update(np.ascontiguousarray(split.labels, dtype="<i8").data)
        return digest.hexdigest()

    def __repr__(self) -> str:
        sizes = "/".join(str(len(getattr(self, name))) for name in _SPLITS)
        return (
            f"<ImageData {self.name!r}: {len(self.classes)} classes, "
            f"{self.resolution} px, {sizes} train/validation/test images>"
        )


def normalize(images: Images) -> npt.NDArray[np.float32]:
    """Turn images into the input of a network: ``x / 127.5 - 1``.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, h, w, 3)

    Returns
    -------
    ndarray of float32, shape (n, 3, h, w), C-contiguous
        Between -1 and 1.

    Examples
    --------
    >>> normalize(np.full((1, 1, 1, 3), 255, dtype=np.uint8)).ravel().tolist()
    [1.0, 1.0, 1.0]
    """
    if images.dtype != np.uint8 or images.ndim != 4:
        raise InvalidInputError(
            "images should be uint8 of shape (n, h, w, channels), "
            f"found {images.dtype} of shape {images.shape}"
        )
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
    planes /= np.float32(127.5)
    planes -= np.float32(1)
    return planes


def load_digits(
    resolution: int, *, fractions: Fractions = DEFAULT_FRACTIONS, seed: int = 0
) -> ImageData:
    """Load scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels, 10 classes.

    They come with scikit-learn; nothing is downloaded.

    Parameters
    ----------
    resolution : int
        Height and width to enlarge the images to, in pixels.
    fractions : (float, float, float)
        Shares of training, validation and test images.
    seed : int
        Of the split.

    Raises
    ------
    MissingDependencyError
        If scikit-learn or Pillow is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load_from_sklearn
    except ModuleNotFoundError as error:
        raise MissingDependencyError("scikit-learn", "train", "the digits") from error
    bunch = load_from_sklearn()
    # Their pixels count ink in 4x4 cells: 0 to 16.
    images = np.round(np.asarray(bunch.images) * (255 / 16)).astype(np.uint8)
    labels = np.asarray(bunch.target, dtype=np.int64)
    resized = _resize(_three_channels(images), resolution)
    return split(
        resized, labels, [str(d) for d in range(10)], name="digits", fractions=fractions, seed=seed
    )


def load(
    path: files.StrPath,
    resolution: int,
    *,
    fractions: Fractions | None = None,
    seed: int = 0,
) -> ImageData:
    """Load a user's images and split them.

    Parameters
    ----------
    path : path
        A folder with one sub-folder of image files per class, or an ``.npz`` file with ``images``
        ((n, h, w) or (n, h, w, 1 or 3); uint8, or floating point from 0 to 1), ``labels``
        ((n,) integers from 0) and optionally ``classes`` (names), or a folder of *shards*
        ``train*.npz`` and ``test*.npz``, each with ``labels`` and either ``images`` or encoded
        images: ``jpeg`` (bytes, one file after the other) and ``offsets`` ((n + 1,)). Hidden files
        are passed over; pickled arrays are refused.
    resolution : int
        Height and width to scale to, in pixels; the aspect ratio is not kept.
    fractions : (float, float, float), optional
        Shares of training, validation and test images, kept within every class. Shards bring their
        test images, and a tenth of the others becomes validation images unless the first two
        shares say otherwise.
    seed : int
        Of the split.

    Raises
    ------
    DataError
        If there is less than two classes, a class with less than three images, a file that is no
        image, or an array that does not fit; the message names it.
    FileAccessError
        If the path cannot be read.
    MissingDependencyError
        If Pillow is not installed.
    """
    source = Path(path)
    _check_resolution(resolution)
    if source.is_dir():
        if any(source.glob("train*.npz")):
            return _load_shards(source, resolution, fractions, seed)
        images, labels, classes = _load_folder(source, resolution)
    elif not source.exists():
        raise FileAccessError(
            f"cannot read '{source}': no such file or folder; expected a folder of images by "
            "class, or an .npz with 'images' and 'labels'"
        )
    elif source.suffix.lower() == ".npz":
        images, labels, classes = _load_npz(source, resolution)
    else:
        raise DataError(
            f"'{source}' is neither a folder of images by class nor an .npz file; "
            "put each class into a sub-folder of its own, or save 'images' and 'labels' as .npz"
        )
    shares = DEFAULT_FRACTIONS if fractions is None else fractions
    return split(images, labels, classes, name=str(source), fractions=shares, seed=seed)


def from_dataset(
    dataset: Any,
    resolution: int,
    *,
    classes: Sequence[str] | None = None,
    fractions: Fractions = DEFAULT_FRACTIONS,
    seed: int = 0,
    name: str = "dataset",
) -> ImageData:
    """Read a `torch.utils.data.Dataset`, or any sequence of (image, label), once into memory.

    Parameters
    ----------
    dataset : sequence of (image, label)
        Images are Pillow images, uint8 arrays (h, w) or (h, w, 1 or 3), or tensors (1 or 3, h, w)
        of floating point from 0 to 1 as torchvision's ``ToTensor`` makes them. Random transforms
        belong into training (`pnag_fast.supernet.train`): each image is read once.
    resolution : int
        Height and width to scale to, in pixels.
    classes : sequence of str, optional
        Names by label. Default: ``dataset.classes``, or the labels.
    fractions, seed
        As for `split`.
    name : str
        For reports.

    Raises
    ------
    DataError
        If an item is no image with a label, or labels are out of range; the message names it.
    """
    _check_resolution(resolution)
    pillow = _pillow()
    images = np.empty((len(dataset), resolution, resolution, 3), dtype=np.uint8)
    labels = np.empty(len(dataset), dtype=np.int64)
    for i in range(len(dataset)):
        try:
            image, label = dataset[i]
            labels[i] = int(label)
            if not isinstance(image, pillow.Image):
                image = pillow.fromarray(_pixels(np.asarray(image)))
            images[i] = _resize_one(image.convert("RGB"), resolution)
        except (TypeError, ValueError, IndexError) as error:  # noqa: PERF203 - reading costs more
            raise DataError(f"item {i} of '{name}' is no image with a label: {error}") from error
    names = classes or getattr(dataset, "classes", None)
    if names is None:
        names = [str(label) for label in range(max(int(labels.max(initial=0)), 0) + 1)]
    return split(images, labels, [str(c) for c in names], name=name, fractions=fractions, seed=seed)


def _pixels(image: npt.NDArray[Any]) -> Images:
    """Turn one array of any accepted kind into uint8, (h, w) or (h, w, channels)."""
    if image.dtype == np.uint8:
        return image if image.ndim == 2 or image.shape[-1] == 3 else image[..., 0]
    if not np.issubdtype(image.dtype, np.floating) or image.ndim != 3:
        raise ValueError(f"{image.dtype} of shape {image.shape}")
    # Written so that NaN is refused as well.
    if not (image.min() >= 0 and image.max() <= 1):
        raise ValueError(f"values from {image.min():g} to {image.max():g}, not 0 to 1")
    planes: Images = np.round(image * 255).astype(np.uint8).transpose(1, 2, 0)
    return planes if planes.shape[2] == 3 else planes[..., 0]


def split(
    images: Images,
    labels: Labels,
    classes: Sequence[str],
    *,
    name: str,
    fractions: Fractions = DEFAULT_FRACTIONS,
    seed: int = 0,
) -> ImageData:
    """Split images at random into training, validation and test images, class by class.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, h, w, 3)
    labels : ndarray of int64, shape (n,)
    classes : sequence of str
    name : str
        Where the images come from.
    fractions : (float, float, float)
        Shares of the three splits, each above 0, together 1. Every class has at least one image in
        each split.
    seed : int
        Same seed, same split.
    """
    shares = _checked_shares(fractions)
    _check_labels(labels, len(images), classes, name)
    rng = np.random.default_rng(_seed(seed))
    parts: tuple[list[npt.NDArray[np.intp]], ...] = ([], [], [])
    for label in range(len(classes)):
        members = rng.permutation(np.flatnonzero(labels == label))
        n_validation = max(1, round(shares[1] * len(members)))
        n_test = max(1, round(shares[2] * len(members)))
        held_out = min(n_validation + n_test, len(members) - 1)
        n_validation = min(n_validation, held_out - 1)
        parts[0].append(members[held_out:])
        parts[1].append(members[:n_validation])
        parts[2].append(members[n_validation:held_out])
    # Shuffled, so that any first part of a split has all classes in it.
    chosen = [rng.permutation(np.concatenate(part)) for part in parts]
    train, validation, test = (Split(_frozen(images[i]), _frozen(labels[i])) for i in chosen)
    return ImageData(train, validation, test, tuple(classes), name)


# --- reading ------------------------------------------------------------------------------------


def _load_folder(folder: Path, resolution: int) -> tuple[Images, Labels, list[str]]:
    try:
        classes = sorted(p for p in folder.iterdir() if p.is_dir() and not _hidden(p))
        members = [sorted(p for p in c.iterdir() if not _hidden(p)) for c in classes]
    except OSError as error:
        raise FileAccessError(f"cannot read '{folder}': {error.strerror or error}") from error
    if len(classes) < 2:
        raise DataError(
            f"'{folder}' has {len(classes)} sub-folder(s) and so {len(classes)} class(es); at "
            "least 2 are needed: put the images of each class into a sub-folder of their own"
        )
    images, labels, broken = [], [], []
    for label, paths in enumerate(members):
        for path in paths:
            try:
                images.append(_read_image(path, resolution))
                labels.append(label)
            except _UnreadableImageError as error:  # noqa: PERF203 - decoding costs far more
                broken.append(f"{path.relative_to(folder)} ({error})")
    if broken:
        named = "; ".join(broken[:_FILES_NAMED_IN_AN_ERROR])
        rest = len(broken) - _FILES_NAMED_IN_AN_ERROR
        raise DataError(
            f"'{folder}' has {len(broken)} entries that are no readable image: {named}"
            + (f"; and {rest} more" if rest > 0 else "")
            + "; remove or replace them"
        )
    stacked = np.stack(images) if images else np.zeros((0, resolution, resolution, 3), np.uint8)
    return stacked, np.array(labels, dtype=np.int64), [c.name for c in classes]


class _UnreadableImageError(Exception):
    """Why a file is no image that can be trained on; collected, then raised as `DataError`."""


def _read_image(path: Path, resolution: int) -> Images:
    try:
        return _decode(path.read_bytes(), resolution)
    except OSError as error:
        raise _UnreadableImageError(error.strerror) from error


def _decode(raw: bytes, resolution: int) -> Images:
    pillow = _pillow()
    try:
        with pillow.open(io.BytesIO(raw)) as image:
            # Pillow would clip these to 8 bits, which turns most of them white.
            if image.mode.startswith(("I", "F")):
                raise _UnreadableImageError("more than 8 bits a channel; convert it to 8 bits")
            return _resize_one(image.convert("RGB"), resolution)
    except OSError as error:
        reason = "not an image, or truncated" if error.errno is None else error.strerror
        raise _UnreadableImageError(reason) from error
    except (ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        # What Pillow's decoders raise for broken files, SyntaxError included.
        raise _UnreadableImageError(str(error) or type(error).__name__) from error


def _read_npz(path: Path, keys: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    try:
        # Opened here, because numpy leaves a file open that turns out to be broken.
        with open(path, "rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array without a name")
            for key in keys:
                if key in archive:
                    arrays[key] = archive[key]
    except (ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        raise DataError(
            f"'{path}' cannot be read as .npz ({error}); save it with numpy.savez(path, "
            "images=..., labels=...) and arrays of numbers"
        ) from error
    except OSError as error:
        raise FileAccessError(f"cannot read '{path}': {error.strerror or error}") from error
    return arrays


def _load_npz(path: Path, resolution: int) -> tuple[Images, Labels, list[str]]:
    arrays = _read_npz(path, ("images", "labels", "classes"))
    missing = [key for key in ("images", "labels") if key not in arrays]
    if missing:
        raise DataError(
            f"'{path}' has no array named {' and '.join(map(repr, missing))}; save it with "
            "numpy.savez(path, images=..., labels=...)"
        )
    labels = arrays["labels"]
    _check_label_array(labels, path)
    if len(arrays["images"]) != len(labels):
        raise DataError(
            f"'{path}' has {len(arrays['images'])} images and {len(labels)} labels; "
            "there should be one label per image"
        )
    high = int(labels.max())
    classes = [str(label) for label in range(high + 1)]
    if "classes" in arrays:
        classes = [str(c) for c in np.atleast_1d(arrays["classes"]).ravel().tolist()]
        if high >= len(classes):
            raise DataError(
                f"'{path}' names {len(classes)} classes, but its labels go up to {high}; "
                "labels count from 0"
            )
    images = _three_channels(_as_bytes(arrays["images"], path))
    return _resize(images, resolution), labels.astype(np.int64), classes


def _as_bytes(images: npt.NDArray[Any], path: Path) -> Images:
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise DataError(
            f"'images' of '{path}' should have shape (n, h, w), (n, h, w, 1) or (n, h, w, 3), "
            f"found {images.shape}"
        )
    if 0 in images.shape:
        raise DataError(f"'images' of '{path}' are empty: their shape is {images.shape}")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(
            f"'images' of '{path}' should be uint8 (0 to 255) or floating point (0 to 1), "
            f"found {images.dtype}"
        )
    flat = images.reshape(len(images), -1)
    bad = ~np.isfinite(flat).all(axis=1)
    if bad.any():
        raise DataError(
            f"image {int(np.argmax(bad))} of '{path}' has values that are not numbers (NaN or "
            "infinite); remove it or repair it"
        )
    low, high = float(flat.min()), float(flat.max())
    if low < 0 or high > 1:
        raise DataError(
            f"'images' of '{path}' run from {low:g} to {high:g}; floating point images should "
            "lie between 0 and 1: divide by 255, or save them as uint8"
        )
    return np.round(images * 255).astype(np.uint8)


def _three_channels(images: Images) -> Images:
    planes = images[..., np.newaxis] if images.ndim == 3 else images
    return planes if planes.shape[3] == 3 else np.repeat(planes, 3, axis=3)


def _resize(images: Images, resolution: int) -> Images:
    _check_resolution(resolution)
    if images.shape[1:3] == (resolution, resolution):
        return images
    pillow = _pillow()
    return np.stack([_resize_one(pillow.fromarray(image), resolution) for image in images])


def _resize_one(image: Image.Image, resolution: int) -> Images:
    # Pillow's bilinear filter averages over all pixels when it shrinks, so nothing aliases.
    return np.asarray(image.resize((resolution, resolution), _pillow().Resampling.BILINEAR))


def _pillow() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise MissingDependencyError("pillow", "train", "reading images") from error
    return Image


def _load_shards(
    folder: Path, resolution: int, fractions: Fractions | None, seed: int
) -> ImageData:
    parts = []
    for part in ("train", "test"):
        shards = [_read_shard(p, resolution) for p in sorted(folder.glob(f"{part}*.npz"))]
        if not shards:
            raise DataError(f"'{folder}' has no {part}*.npz; shards of both kinds are needed")
        parts.append([np.concatenate(arrays) for arrays in zip(*shards, strict=True)])
    (images, labels), (test_images, test_labels) = parts
    names = [str(label) for label in range(max(int(labels.max()), int(test_labels.max())) + 1)]
    validation = _SHARD_VALIDATION
    if fractions is not None:
        shares = _checked_shares(fractions)
        validation = float(shares[1] / (shares[0] + shares[1]))
    # The images at hand have no test part: what `split` would put there stays for training.
    rest = (1 - validation) / 2
    held_out = split(
        images, labels, names, name=str(folder), fractions=(rest, validation, rest), seed=seed
    )
    train = Split(
        _frozen(np.concatenate([held_out.train.images, held_out.test.images])),
        _frozen(np.concatenate([held_out.train.labels, held_out.test.labels])),
    )
    test = Split(_frozen(test_images), _frozen(test_labels))
    return ImageData(train, held_out.validation, test, tuple(names), str(folder))


def _read_shard(path: Path, resolution: int) -> tuple[Images, Labels]:
    arrays = _read_npz(path, ("images", "jpeg", "offsets", "labels"))
    if "jpeg" not in arrays:
        images, labels, _ = _load_npz(path, resolution)
        return images, labels
    missing = [key for key in ("offsets", "labels") if key not in arrays]
    if missing:
        raise DataError(f"'{path}' has no array named {' and '.join(map(repr, missing))}")
    encoded, offsets, labels = arrays["jpeg"], arrays["offsets"], arrays["labels"]
    _check_label_array(labels, path)
    whole = (
        encoded.dtype == np.uint8
        and encoded.ndim == offsets.ndim == 1
        and np.issubdtype(offsets.dtype, np.integer)
        and len(offsets) == len(labels) + 1
        and offsets[0] >= 0
        and offsets[-1] <= len(encoded)
        and bool((np.diff(offsets) > 0).all())
    )
    if not whole:
        raise DataError(
            f"'{path}': 'offsets' should be {len(labels) + 1} rising positions in 'jpeg', whose "
            "bytes are uint8"
        )
    raw = encoded.tobytes()
    images = np.empty((len(labels), resolution, resolution, 3), dtype=np.uint8)

    def decode(i: int) -> str | None:
        try:
            images[i] = _decode(raw[offsets[i] : offsets[i + 1]], resolution)
        except _UnreadableImageError as error:
            return f"image {i} ({error})"
        return None

    _pillow()  # its absence is told here, not by a thread
    # Pillow decodes without holding Python's lock.
    with ThreadPoolExecutor(resolve_threads(None)) as pool:
        broken = [
            problem for problem in pool.map(decode, range(len(labels)), chunksize=64) if problem
        ]
    if broken:
        raise DataError(f"'{path}' has {len(broken)} images that cannot be read: {broken[0]}")
    return images, labels.astype(np.int64)


# --- checks -------------------------------------------------------------------------------------


def _check_label_array(labels: npt.NDArray[Any], path: Path) -> None:
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"'labels' of '{path}' should be integers of shape (n,), found {labels.dtype} of "
            f"shape {labels.shape}"
        )
    if len(labels) == 0:
        raise DataError(f"'{path}' has no images")
    low, high = int(labels.min()), int(labels.max())
    # A class without images is refused below; this bounds how many could be named before that.
    if low < 0 or high >= len(labels):
        raise DataError(
            f"'labels' of '{path}' run from {low} to {high}; they should be 0 to "
            "number of classes - 1, every class with images"
        )


def _checked_shares(fractions: Fractions) -> npt.NDArray[np.float64]:
    shares = np.asarray(fractions, dtype=np.float64)
    if shares.shape != (3,) or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-9:
        raise InvalidInputError(
            "fractions should be three positive shares (training, validation, test) that sum "
            f"to 1, found {fractions!r}"
        )
    return shares


def _check_labels(labels: Labels, n_images: int, classes: Sequence[str], name: str) -> None:
    if n_images == 0:
        raise DataError(f"'{name}' has no images")
    if len(labels) != n_images:
        raise DataError(f"'{name}' has {n_images} images and {len(labels)} labels")
    if len(classes) < 2:
        raise DataError(f"'{name}' has {len(classes)} class(es); at least 2 are needed")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(
            f"labels of '{name}' run from {labels.min()} to {labels.max()}; "
            f"with {len(classes)} classes they should be 0 to {len(classes) - 1}"
        )
    counts = np.bincount(labels, minlength=len(classes))
    rarest = int(np.argmin(counts))
    if counts[rarest] < 3:
        raise DataError(
            f"class {classes[rarest]!r} of '{name}' has {counts[rarest]} images; at least 3 are "
            "needed, one each to train, to choose and to test: add images or drop the class"
        )


def _check_resolution(resolution: int) -> None:
    if (
        isinstance(resolution, bool)
        or not isinstance(resolution, (int, np.integer))
        or not 1 <= resolution <= 4096
    ):
        raise InvalidInputError(
            f"resolution should be an integer from 1 to 4096 pixels, found {resolution!r}"
        )


def _seed(seed: int) -> int:
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or int(seed) < 0:
        raise InvalidInputError(f"seed should be an integer of at least 0, found {seed!r}")
    return int(seed)


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.setflags(write=False)
    return array
