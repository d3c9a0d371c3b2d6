"""What a supernet learned from: enough to know those images again, and to use it without them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pnag_fast import files
from pnag_fast.data import (
    DIGITS,
    Fractions,
    ImageData,
    Images,
    find,
)
from pnag_fast.errors import DataError, FileFormatError, InvalidInputError

if TYPE_CHECKING:
    from .model import Supernet

# As many as `recalibrate` uses by default, so that it does the same with them as with the data.
_CALIBRATION_IMAGES = 256
_CALIBRATION_BYTES = 8 << 20
# The statistics of fewer images are too noisy to be worth it.
_FEWEST_IMAGES = 32

CALIBRATION_TENSOR = "calibration.images"
_KEYS = ("name", "classes", "resolution", "resize", "train_sha256", "images", "seed", "fractions")

# How images of any size became those of ImageNet's published networks: the shorter side to 8/7 of
# the resolution, then its centre.
CENTRE_CROP = "centre-crop"


@dataclass(frozen=True, eq=False)
class TrainedOn:
    """The images that a supernet learned from, as far as they are known.

    Attributes
    ----------
    name : str
        Where they came from.
    classes : tuple of str, optional
        Names by label; None where they only had numbers.
    resolution : int
        In pixels.
    resize : str, optional
        How they got that size: `pnag_fast.data.BILINEAR`, `CENTRE_CROP`, or unknown.
    train_sha256 : str, optional
        Fingerprint of the training split. Another seed or other fractions give another one, and
        with it validation images that were learned from.
    images : (int, int, int), optional
        Training, validation and test images.
    seed, fractions : optional
        How they were split; see `pnag_fast.data.ImageData`.
    calibration : ndarray of uint8, shape (k, resolution, resolution, 3), optional
        The first training images, to measure batch-norm statistics on.
    """

    name: str
    classes: tuple[str, ...] | None
    resolution: int
    resize: str | None = None
    train_sha256: str | None = None
    images: tuple[int, int, int] | None = None
    seed: int | None = None
    fractions: Fractions | None = None
    calibration: Images | None = None

    def __repr__(self) -> str:
        n = 0 if self.calibration is None else len(self.calibration)
        classes = "unnamed classes" if self.classes is None else f"{len(self.classes)} classes"
        return f"<TrainedOn {self.name!r}: {classes}, {self.resolution} px, carries {n} images>"

    def differences(self, data: ImageData) -> list[str]:
        """Say in what images differ from these; nothing where they are the same, or unknown."""
        found = []
        if self.classes is not None and len(self.classes) != len(data.classes):
            found.append(f"{len(data.classes)} classes instead of {len(self.classes)}")
        elif self.classes is not None and _named(data.classes) is not None:
            other = [
                f"class {label} is {now!r} instead of {then!r}"
                for label, (then, now) in enumerate(zip(self.classes, data.classes, strict=True))
                if then != now
            ]
            found += other[:1]
        if self.train_sha256 is None:
            return found
        if data.resolution != self.resolution:
            found.append(f"{data.resolution} px instead of {self.resolution}")
        elif data.train.fingerprint != self.train_sha256:
            sizes = (len(data.train), len(data.validation), len(data.test))
            if self.images is not None and sizes[0] != self.images[0]:
                now, then = ("/".join(map(str, s)) for s in (sizes, self.images))
                found.append(f"{now} training/validation/test images instead of {then}")
            for key in ("seed", "fractions"):
                now, then = getattr(data, key), getattr(self, key)
                if None not in (now, then) and now != then:
                    found.append(f"split with {key}={now} instead of {then}")
            if not found:
                found.append("other training images, or the same ones split in another way")
        return found

    def require_same(self, data: ImageData) -> None:
        """Refuse images of which some that are held out may have been learned from."""
        found = self.differences(data)
        if found:
            split = "" if self.seed is None else f" with seed={self.seed}"
            if self.fractions is not None:
                split += f", fractions={self.fractions}"
            raise DataError(
                f"'{data.name}' is not what this supernet was trained on, '{self.name}': "
                f"{'; '.join(found)}. Held-out images may be among those it learned from, or mean "
                f"something else to it. Load the images that it was trained on{split}, or say that "
                "others are meant: other_data=True, --other-data on the command line"
            )

    def header(self) -> dict[str, Any]:
        """Return all but the images, for JSON."""
        return {
            key: list(value) if isinstance(value := getattr(self, key), tuple) else value
            for key in _KEYS
        }


def remember(data: ImageData) -> TrainedOn:
    """Note what a supernet is about to learn from."""
    size = int(np.prod(data.train.images.shape[1:]))
    n = min(_CALIBRATION_IMAGES, _CALIBRATION_BYTES // size, len(data.train))
    enough = n >= min(_FEWEST_IMAGES, len(data.train))
    return TrainedOn(
        name=data.name,
        classes=_named(data.classes),
        resolution=data.resolution,
        resize=data.resize,
        train_sha256=data.train.fingerprint,
        images=(len(data.train), len(data.validation), len(data.test)),
        seed=data.seed,
        fractions=data.fractions,
        calibration=data.train.images[:n].copy() if enough else None,
    )


def images_of(net: Supernet, source: files.StrPath | None = None, *, seed: int = 0) -> ImageData:
    """Load the images of a supernet at its resolution, in the split that it was trained with.

    Parameters
    ----------
    net : Supernet
    source : path, optional
        As for `pnag_fast.data.load`, or ``"digits"``. Default: the digits, if it was trained on
        them; nothing else is found by itself.
    seed : int
        Of the split, where the supernet does not know its own.

    Raises
    ------
    InvalidInputError
        If `source` is not given and the supernet was not trained on the digits.
    DataError
        If the images cannot be used. Whether they are those it was trained on is checked by what
        they are used for.
    """
    known = net.trained_on
    if source is None and (known is None or known.name != DIGITS):
        said = (
            "nothing says what this supernet was trained on"
            if known is None
            else f"this supernet was trained on '{known.name}'"
        )
        raise InvalidInputError(
            f"{said}; say where its images are: --data on the command line, for instance "
            "'--data digits', or source="
        )
    shares = None if known is None else known.fractions
    if known is not None and known.seed is not None:
        seed = known.seed
    resolution = max(net.space.resolutions)
    return find(DIGITS if source is None else source, resolution, fractions=shares, seed=seed)


def from_header(
    header: Mapping[str, Any],
    calibration: npt.NDArray[Any] | None,
    n_classes: int,
    path: files.StrPath,
) -> TrainedOn:
    """Return what `TrainedOn.header` wrote, with everything checked."""
    what = f"'{path}': 'trained_on'"
    files.check_keys(header, _KEYS, path, within="trained_on")
    name = files.require(header, "name", str, path, within="trained_on")
    resolution = files.integer(header.get("resolution"), f"{what}, resolution", low=1, high=4096)
    classes = None
    if header.get("classes") is not None:
        names = files.require_each(
            header, "classes", str, path, within="trained_on", length=n_classes
        )
        classes = tuple(names)
    resize, sha256 = header.get("resize"), header.get("train_sha256")
    if not (resize is None or (isinstance(resize, str) and len(resize) < 100)):
        raise FileFormatError(f"{what}: 'resize' should be the name of a rule")
    if sha256 is not None and not (
        isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256)
    ):
        raise FileFormatError(f"{what}: 'train_sha256' should be 64 hexadecimal digits")
    images, fractions, seed = header.get("images"), header.get("fractions"), header.get("seed")
    sizes = shares = None
    if images is not None:
        given = files.require_each(header, "images", int, path, within="trained_on", length=3)
        a, b, c = (files.integer(n, f"{what}, images", low=0) for n in given)
        sizes = a, b, c
    if fractions is not None:
        kinds = (int, float)
        given = files.require_each(header, "fractions", kinds, path, within="trained_on", length=3)
        low, middle, high = (files.number(f, f"{what}, fractions", low=0, high=1) for f in given)
        shares = low, middle, high
    if seed is not None:
        seed = files.integer(seed, f"{what}, seed", low=0, high=2**64 - 1)
    if calibration is not None and not (
        calibration.dtype == np.uint8
        and calibration.ndim == 4
        and len(calibration) > 0
        and calibration.shape[1:] == (resolution, resolution, 3)
    ):
        raise FileFormatError(
            f"'{path}': its calibration images are {calibration.dtype} of shape "
            f"{calibration.shape}, not uint8 of shape (n, {resolution}, {resolution}, 3)"
        )
    return TrainedOn(name, classes, resolution, resize, sha256, sizes, seed, shares, calibration)


def _named(classes: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return class names, unless they are mere numbers, which is what unnamed classes get."""
    return None if classes == tuple(map(str, range(len(classes)))) else classes
