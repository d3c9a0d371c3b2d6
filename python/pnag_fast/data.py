"""Labelled images: loading, checking, and splitting into training, validation and test images.

A network sees images as `normalize` returns them, with constants that do not depend on the data:
the supernet in torch, its ONNX export and its TVM build therefore take the very same input.
"""

from __future__ import annotations

import hashlib
import math
import operator
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import arguments, files, npz, pictures
from .disk import raised_limit
from .errors import (
    DataError,
    FileAccessError,
    InvalidInputError,
    InvalidTypeError,
    MemoryShortageError,
    MissingDependencyError,
)
from .memory import machine_memory
from .pictures import UnreadableImageError
from .threads import resolve_threads

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Fractions = tuple[float, float, float]

# Scikit-learn's, wherever images are named.
DIGITS = "digits"

# Half to learn from; a quarter to judge architectures by, a quarter to judge the final ones.
DEFAULT_FRACTIONS: Fractions = (0.5, 0.25, 0.25)

# Of the training images of shards, which bring their own test images.
_SHARD_VALIDATION = 0.1

# How images of any size become images of one: `pnag_fast.pictures.scaled`.
BILINEAR = "bilinear"

# What the arrays of one file may unpack to, as images of three channels, whatever its own size.
_UNPACKED_BYTES = 2 << 30
# A file that was not packed has one byte for each grey pixel, which takes four with its colours.
_UNPACKED_TIMES = 4

# Above this share, held-out images that were learned from are said.
_REPEATS = 0.01
# Below, a difference of two networks is a matter of luck.
_FEW_IMAGES = 50

# Images that are converted at a time.
_BLOCK = 256

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

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the images and labels, in their order, in hexadecimal."""
        digest = hashlib.sha256()
        _digest(digest, self)
        return digest.hexdigest()

    def __repr__(self) -> str:
        return f"<Split: {len(self)} images of shape {self.images.shape[1:]}>"

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Pickled arrays come back writable, and a write would make the fingerprint a lie.
        frozen = {key: state[key].view() for key in ("images", "labels")}
        for array in frozen.values():
            array.setflags(write=False)
        self.__dict__.update(state | frozen)


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
    seed, fractions : int and (float, float, float), optional
        How they were split, where they were split here; `load` with the same makes the same split.
    resize : str, optional
        How they got their size: `BILINEAR` where they were scaled here.
    """

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    name: str
    seed: int | None = None
    fractions: Fractions | None = None
    resize: str | None = None

    @property
    def resolution(self) -> int:
        """Height and width of the images, in pixels."""
        return int(self.train.images.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all images, labels and class names, in hexadecimal."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for name in _SPLITS:
            _digest(digest, getattr(self, name))
        return digest.hexdigest()

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What makes figures on held-out images worth little; usually nothing.

        Images that are in the training split as well, and too few images to tell networks apart.
        """
        found = []
        learned = set(map(_image_digest, self.train.images))
        for name in _SPLITS[1:]:
            split: Split = getattr(self, name)
            repeats = sum(_image_digest(image) in learned for image in split.images)
            if repeats > _REPEATS * len(split):
                found.append(
                    f"{100 * repeats / len(split):.0f} % of the {name} images of '{self.name}' are "
                    "among its training images as well, byte for byte, so accuracy on them says "
                    "little about new ones: remove the repeats."
                )
            if len(split) < _FEW_IMAGES:
                found.append(
                    f"'{self.name}' has {len(split)} {name} images: one of them is "
                    f"{100 / len(split):.1f} points of accuracy, by which networks can hardly be "
                    "told apart. Add images, or give this split a larger share."
                )
        return tuple(found)

    def __repr__(self) -> str:
        sizes = "/".join(str(len(getattr(self, name))) for name in _SPLITS)
        return (
            f"<ImageData {self.name!r}: {len(self.classes)} classes, "
            f"{self.resolution} px, {sizes} train/validation/test images>"
        )


def _image_digest(image: Images) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def _digest(digest: Any, split: Split) -> None:
    digest.update(repr(split.images.shape).encode())
    digest.update(np.ascontiguousarray(split.images).data)
    digest.update(np.ascontiguousarray(split.labels, dtype="<i8").data)


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
    if not isinstance(images, np.ndarray):
        raise InvalidTypeError(
            "images should be a numpy array of uint8, shape (n, h, w, channels), found "
            f"{type(images).__name__}"
        )
    if images.dtype != np.uint8 or images.ndim != 4:
        raise InvalidInputError(
            "images should be uint8 of shape (n, h, w, channels), "
            f"found {images.dtype} of shape {images.shape}"
        )
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
    planes /= np.float32(127.5)
    planes -= np.float32(1)
    return planes


def find(
    source: files.StrPath, resolution: int, *, fractions: Fractions | None = None, seed: int = 0
) -> ImageData:
    """Load the images that a user names: ``"digits"``, or a path as for `load`."""
    if source == DIGITS:
        return load_digits(resolution, fractions=fractions or DEFAULT_FRACTIONS, seed=seed)
    return load(source, resolution, fractions=fractions, seed=seed)


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
    resized = _resize(images, resolution, "digits")
    return _split(
        resized, labels, [str(d) for d in range(10)], "digits", fractions, seed, resize=BILINEAR
    )


def load(
    path: files.StrPath,
    resolution: int,
    *,
    fractions: Fractions | None = None,
    seed: int = 0,
    max_bytes: int | None = None,
    max_pixels: int | None = None,
) -> ImageData:
    """Load a user's images and split them.

    Image files are read in any format that Pillow knows but Postscript. A photo is turned as its
    orientation (EXIF) says; what is transparent shows white; palettes, grey and CMYK become RGB; of
    an animation the first frame counts; more than 8 bits a channel are refused where Pillow would
    clip them.

    Parameters
    ----------
    path : path
        A folder with one sub-folder of image files per class, or an ``.npz`` file with ``images``
        ((n, h, w) or (n, h, w, 1 or 3); uint8, or floating point from 0 to 1), ``labels``
        ((n,) integers from 0) and optionally ``classes`` (names), or a folder of *shards*
        ``train*.npz`` and ``test*.npz``, each with ``labels``, optionally ``classes``, and either
        ``images`` or encoded images: ``jpeg`` (bytes, one file after the other) and ``offsets``
        ((n + 1,)). Hidden files are passed over; pickled arrays, pipes and devices are refused.
    resolution : int
        Height and width to scale to, in pixels; the aspect ratio is not kept.
    fractions : (float, float, float), optional
        Shares of training, validation and test images, kept within every class. Shards bring their
        test images, and a tenth of the others becomes validation images unless the first two
        shares say otherwise.
    seed : int
        Of the split.
    max_bytes : int, optional
        Most that the arrays of one ``.npz`` may unpack to, in three channels. Default: the largest
        of 2 GiB, four times the file's own size, and the environment's ``PNAG_FILE_LIMIT_MB``.
    max_pixels : int, optional
        Most pixels of one image. Default: the environment's ``PNAG_MAX_IMAGE_PIXELS``, else
        89,478,485.

    Raises
    ------
    DataError
        If there is less than two classes, a class with less than three images, a file that is no
        image, an array that does not fit, or a bound is exceeded; the message names it. Sizes are
        read from headers, before anything is unpacked.
    FileAccessError
        If the path cannot be read.
    MemoryShortageError
        If the scaled images are more than this machine's memory.
    MissingDependencyError
        If Pillow is not installed.
    """
    try:
        source = Path(path)
    except TypeError as error:
        raise InvalidTypeError(f"path should be a path, found {type(path).__name__}") from error
    _check_resolution(resolution)
    bounds = _Bounds(resolution, max_bytes, max_pixels)
    if source.is_dir():
        if any(source.glob("train*.npz")):
            return _load_shards(source, bounds, fractions, seed)
        with pictures.allowing(bounds.pixels):
            images, labels, classes = _load_folder(source, bounds)
    elif not source.exists():
        raise FileAccessError(
            f"cannot read '{source}': no such file or folder; expected a folder of images by "
            "class, or an .npz with 'images' and 'labels'"
        )
    elif source.suffix.lower() == ".npz":
        images, labels, names = _load_npz(source, bounds)
        classes = names or _numbered(int(labels.max()) + 1)
    else:
        raise DataError(
            f"'{source}' is neither a folder of images by class nor an .npz file; "
            "put each class into a sub-folder of its own, or save 'images' and 'labels' as .npz"
        )
    shares = DEFAULT_FRACTIONS if fractions is None else fractions
    return _split(images, labels, classes, str(source), shares, seed, resize=BILINEAR)


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
        of floating point from 0 to 1 as torchvision's ``ToTensor`` makes them. Pillow images are
        treated as by `load`. Random transforms belong into training (`pnag_fast.supernet.train`):
        each image is read once.
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
    pillow = pictures.pillow()
    try:
        n = len(dataset)
    except TypeError as error:
        raise InvalidTypeError(
            f"'{name}' has no length ({error}); pass a sequence, for instance list(dataset)"
        ) from error
    images = _Bounds(resolution).room(n, name)
    labels = np.empty(n, dtype=np.int64)
    for i in range(n):
        try:
            image, label = dataset[i]
            labels[i] = operator.index(label)
            if not isinstance(image, pillow.Image):
                image = pillow.fromarray(_pixels(np.asarray(image)))
            images[i] = pictures.resized(image, resolution)
        except Exception as error:  # noqa: PERF203 - the dataset's own code may raise anything
            raise DataError(
                f"item {i} of '{name}' is no image with a label: {npz.reason(error)}"
            ) from error
    names = classes or getattr(dataset, "classes", None)
    if names is None:
        high = int(labels.max(initial=0))
        if high >= max(n, 1):
            raise DataError(
                f"labels of '{name}' go up to {high}, but there are {n} images; every class from 0 "
                "should have some"
            )
        names = _numbered(high + 1)
    named = [str(c) for c in names]
    return _split(images, labels, named, name, fractions, seed, resize=BILINEAR)


def _pixels(image: npt.NDArray[Any]) -> Images:
    """Turn one array of any accepted kind into uint8, (h, w) or (h, w, 3)."""
    floating = np.issubdtype(image.dtype, np.floating)
    planes = image.transpose(1, 2, 0) if floating and image.ndim == 3 else image
    if (
        0 in image.shape
        or not (floating or image.dtype == np.uint8)
        or not (
            (planes.ndim == 2 and not floating) or (planes.ndim == 3 and planes.shape[2] in (1, 3))
        )
    ):
        raise ValueError(
            f"{image.dtype} of shape {image.shape}; expected uint8 of shape (h, w), (h, w, 1) or "
            "(h, w, 3), or floating point of shape (1, h, w) or (3, h, w)"
        )
    if floating:
        # Written so that NaN is refused as well.
        if not (image.min() >= 0 and image.max() <= 1):
            raise ValueError(f"values from {image.min():g} to {image.max():g}, not 0 to 1")
        planes = np.round(planes * 255).astype(np.uint8)
    return planes[..., 0] if planes.ndim == 3 and planes.shape[2] == 1 else planes


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

    Raises
    ------
    InvalidInputError
        If the arrays are not of these types and shapes, or an option is out of range.
    DataError
        If a class has less than three images.
    """
    for array, what, expected in (
        (images, "images", "uint8 of shape (n, h, w, 3)"),
        (labels, "labels", "integers of shape (n,)"),
    ):
        if not isinstance(array, np.ndarray):
            raise InvalidTypeError(
                f"{what} should be a numpy array, {expected}, found {type(array).__name__}"
            )
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise InvalidInputError(
            "images should be uint8 of shape (n, h, w, 3), found "
            f"{images.dtype} of shape {images.shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise InvalidInputError(
            f"labels should be integers of shape (n,), found {labels.dtype} of shape {labels.shape}"
        )
    return _split(images, labels.astype(np.int64), classes, name, fractions, seed)


def _split(
    images: Images,
    labels: Labels,
    classes: Sequence[str],
    name: str,
    fractions: Fractions,
    seed: int,
    *,
    resize: str | None = None,
) -> ImageData:
    shares = _checked_shares(fractions)
    _check_labels(labels, len(images), classes, name)
    rng = np.random.default_rng(arguments.seed(seed))
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
    low, middle, high = shares.tolist()
    return ImageData(
        train, validation, test, tuple(classes), name, int(seed), (low, middle, high), resize
    )


# --- reading ------------------------------------------------------------------------------------


class _Bounds:
    """How much may be made of what is read."""

    def __init__(
        self, resolution: int, max_bytes: int | None = None, max_pixels: int | None = None
    ) -> None:
        self.resolution = resolution
        self.pixels = _pixel_bound(max_pixels)
        self._bytes = None if max_bytes is None else arguments.integer(max_bytes, "max_bytes", 1)
        self._scaled = 0

    def unpacked(self, path: Path) -> int:
        """Return how many bytes the arrays of a file may take."""
        if self._bytes is not None:
            return self._bytes
        try:
            size = path.stat().st_size
        except OSError as error:
            raise FileAccessError(f"cannot read '{path}': {error.strerror or error}") from error
        return max(_UNPACKED_BYTES, _UNPACKED_TIMES * size, raised_limit())

    def room(self, n: int, name: object) -> Images:
        """Allocate `n` scaled images, if they fit into memory with those before."""
        size = n * self.resolution**2 * 3
        self._scaled += size
        memory = machine_memory()
        known = "" if memory is None else f", {memory / 2**30:.1f} GiB"
        shortage = MemoryShortageError(
            f"{self._scaled / 2**30:.1f} GiB of images of {self.resolution} px are more than this "
            f"machine's memory{known}; load fewer of '{name}', or smaller ones"
        )
        # Without an answer, what no machine has: numpy could not count it.
        if self._scaled > (1 << 62 if memory is None else memory):
            raise shortage
        try:
            return np.empty((n, self.resolution, self.resolution, 3), dtype=np.uint8)
        except MemoryError as error:
            raise shortage from error


def _pixel_bound(given: int | None) -> int:
    if given is not None:
        return arguments.integer(given, "max_pixels", 1)
    text = os.environ.get(pictures.PIXELS_VARIABLE, "").strip()
    if not text:
        return pictures.MAX_PIXELS
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text
    return arguments.integer(value, f"the environment variable {pictures.PIXELS_VARIABLE}", 1)


def _numbered(n: int) -> list[str]:
    return [str(label) for label in range(n)]


def _load_folder(folder: Path, bounds: _Bounds) -> tuple[Images, Labels, list[str]]:
    try:
        entries = sorted(p for p in folder.iterdir() if not _hidden(p))
        classes = [p for p in entries if p.is_dir()]
        members = [sorted(p for p in c.iterdir() if not _hidden(p)) for c in classes]
    except OSError as error:
        raise FileAccessError(f"cannot read '{folder}': {error.strerror or error}") from error
    lost = [p.name for p in entries if p.is_symlink() and not p.exists()]
    if lost:
        raise DataError(
            f"'{folder}' has the link {lost[0]!r}, which leads nowhere: if it is a class, its "
            "images would be left out; mend or remove it"
        )
    if len(classes) < 2:
        raise DataError(
            f"'{folder}' has {len(classes)} sub-folder(s) and so {len(classes)} class(es); at "
            "least 2 are needed: put the images of each class into a sub-folder of their own"
        )
    images = bounds.room(sum(map(len, members)), folder)
    labels: list[int] = []
    broken: list[str] = []
    for label, paths in enumerate(members):
        for path in paths:
            try:
                images[len(labels)] = pictures.read(path, bounds.resolution, bounds.pixels)
                labels.append(label)
            except UnreadableImageError as error:  # noqa: PERF203 - decoding costs far more
                broken.append(f"{path.relative_to(folder)} ({error})")
    if broken:
        named = "; ".join(broken[:_FILES_NAMED_IN_AN_ERROR])
        rest = len(broken) - _FILES_NAMED_IN_AN_ERROR
        raise DataError(
            f"'{folder}' has {len(broken)} entries that are no readable image: {named}"
            + (f"; and {rest} more" if rest > 0 else "")
            + "; remove or replace them"
        )
    return images, np.array(labels, dtype=np.int64), [c.name for c in classes]


def _load_npz(path: Path, bounds: _Bounds) -> tuple[Images, Labels, list[str] | None]:
    """Read images, labels and, where there are any, class names."""
    limit = bounds.unpacked(path)
    arrays = npz.read_arrays(path, ("images", "labels", "classes"), limit, made_of=_three_channels)
    missing = [key for key in ("images", "labels") if key not in arrays]
    if missing:
        raise DataError(
            f"'{path}' has no array named {' and '.join(map(repr, missing))}; save it with "
            "numpy.savez(path, images=..., labels=...)"
        )
    images, labels = arrays["images"], arrays["labels"]
    _check_label_array(labels, path)
    _check_image_array(images, path)
    if len(images) != len(labels):
        raise DataError(
            f"'{path}' has {len(images)} images and {len(labels)} labels; "
            "there should be one label per image"
        )
    classes = _class_names(arrays, path)
    return _resize(images, bounds.resolution, path, bounds), labels.astype(np.int64), classes


def _three_channels(key: str, shape: tuple[int, ...]) -> int:
    """Return how many bytes images of this shape take in RGB."""
    if key != "images" or len(shape) not in (3, 4):
        return 0
    return 3 * math.prod(shape[:3])


def _class_names(arrays: dict[str, npt.NDArray[Any]], path: Path) -> list[str] | None:
    if "classes" not in arrays:
        return None
    names, labels = arrays["classes"], arrays["labels"]
    high = int(labels.max())
    if high >= names.size:
        raise DataError(
            f"'{path}' names {names.size} classes, but its labels go up to {high}; "
            "labels count from 0"
        )
    if names.size > 1 << 20:
        raise DataError(f"'{path}' names {names.size:,} classes; at most 1,048,576 are read")
    return [str(c) for c in names.ravel().tolist()]


def _check_image_array(images: npt.NDArray[Any], path: Path) -> None:
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise DataError(
            f"'images' of '{path}' should have shape (n, h, w), (n, h, w, 1) or (n, h, w, 3), "
            f"found {images.shape}"
        )
    if 0 in images.shape:
        raise DataError(f"'images' of '{path}' are empty: their shape is {images.shape}")
    if images.dtype == np.uint8:
        return
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(
            f"'images' of '{path}' should be uint8 (0 to 255) or floating point (0 to 1), "
            f"found {images.dtype}"
        )
    low, high = np.inf, -np.inf
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK]
        good = np.isfinite(block.reshape(len(block), -1)).all(axis=1)
        if not good.all():
            raise DataError(
                f"image {start + int(np.argmin(good))} of '{path}' has values that are not numbers "
                "(NaN or infinite); remove it or repair it"
            )
        low, high = min(low, float(block.min())), max(high, float(block.max()))
    if low < 0 or high > 1:
        raise DataError(
            f"'images' of '{path}' run from {low:g} to {high:g}; floating point images should "
            "lie between 0 and 1: divide by 255, or save them as uint8"
        )


def _resize(
    images: npt.NDArray[Any], resolution: int, name: object, bounds: _Bounds | None = None
) -> Images:
    """Scale images of any accepted kind, one after the other, to squares of RGB."""
    _check_resolution(resolution)
    same_size = images.shape[1:3] == (resolution, resolution)
    if same_size and images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3:
        return images
    pillow = pictures.pillow()
    found = (bounds or _Bounds(resolution)).room(len(images), name)
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK]
        pixels = block if block.dtype == np.uint8 else np.round(block * 255).astype(np.uint8)
        planes = pixels[..., np.newaxis] if pixels.ndim == 3 else pixels
        if same_size:
            found[start : start + _BLOCK] = np.repeat(planes, 3 // planes.shape[3], axis=3)
            continue
        for i, image in enumerate(planes, start):
            # Grey is scaled as grey, a third of the work, and then has three equal channels.
            grey = image.shape[2] == 1
            scaled = pictures.scaled(pillow.fromarray(image[..., 0] if grey else image), resolution)
            found[i] = scaled[..., np.newaxis] if grey else scaled
    return found


def _load_shards(
    folder: Path, bounds: _Bounds, fractions: Fractions | None, seed: int
) -> ImageData:
    parts = []
    given: list[str] | None = None
    for part in ("train", "test"):
        shards = []
        for path in sorted(folder.glob(f"{part}*.npz")):
            with pictures.allowing(bounds.pixels):
                images, labels, names = _read_shard(path, bounds)
            if names is not None:
                if given is not None and names != given:
                    raise DataError(f"'{path}' names other classes than the shards before it")
                given = names
            shards.append((images, labels))
        if not shards:
            raise DataError(f"'{folder}' has no {part}*.npz; shards of both kinds are needed")
        parts.append([np.concatenate(arrays) for arrays in zip(*shards, strict=True)])
    (images, labels), (test_images, test_labels) = parts
    high = max(int(labels.max()), int(test_labels.max()))
    classes = given or _numbered(high + 1)
    if high >= len(classes):
        raise DataError(f"'{folder}' names {len(classes)} classes, but its labels go up to {high}")
    validation = _SHARD_VALIDATION
    if fractions is not None:
        shares = _checked_shares(fractions)
        validation = float(shares[1] / (shares[0] + shares[1]))
    # The images at hand have no test part: what `split` would put there stays for training.
    rest = (1 - validation) / 2
    held_out = _split(images, labels, classes, str(folder), (rest, validation, rest), seed)
    train = Split(
        _frozen(np.concatenate([held_out.train.images, held_out.test.images])),
        _frozen(np.concatenate([held_out.train.labels, held_out.test.labels])),
    )
    test = Split(_frozen(test_images), _frozen(test_labels))
    kept = None if fractions is None else fractions
    return ImageData(
        train, held_out.validation, test, tuple(classes), str(folder), int(seed), kept, BILINEAR
    )


def _read_shard(path: Path, bounds: _Bounds) -> tuple[Images, Labels, list[str] | None]:
    limit = bounds.unpacked(path)
    arrays = npz.read_arrays(path, ("jpeg", "offsets", "labels", "classes"), limit)
    if "jpeg" not in arrays:
        return _load_npz(path, bounds)
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
        # Compared, not subtracted: differences of unsigned integers are never negative.
        and bool((offsets[1:] > offsets[:-1]).all())
    )
    if not whole:
        raise DataError(
            f"'{path}': 'offsets' should be {len(labels) + 1} rising positions in 'jpeg', whose "
            "bytes are uint8"
        )
    classes = _class_names(arrays, path)
    images = bounds.room(len(labels), path)

    def decode(i: int) -> str | None:
        try:
            raw = encoded[offsets[i] : offsets[i + 1]].tobytes()
            images[i] = pictures.decode(raw, bounds.resolution, bounds.pixels)
        except UnreadableImageError as error:
            return f"image {i} ({error})"
        return None

    pictures.pillow()  # its absence is told here, not by a thread
    # Pillow decodes without holding Python's lock.
    with ThreadPoolExecutor(resolve_threads(None)) as pool:
        broken = [
            problem for problem in pool.map(decode, range(len(labels)), chunksize=64) if problem
        ]
    if broken:
        raise DataError(f"'{path}' has {len(broken)} images that cannot be read: {broken[0]}")
    return images, labels.astype(np.int64), classes


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
    try:
        shares = np.asarray(fractions, dtype=np.float64)
    except (TypeError, ValueError):
        shares = np.zeros(0)
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
    arguments.integer(resolution, "resolution", 1, 4096)


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.setflags(write=False)
    return array
