"""Reading one image of a stranger: its size is known before it is decoded, and it is turned."""

from __future__ import annotations

import contextlib
import functools
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import files
from .errors import FileAccessError, FileFormatError, MissingDependencyError
from .npz import reason

if TYPE_CHECKING:
    from PIL import Image

# Pillow's own bound, where it warns; one image of it takes 0.25 GiB in RGB.
MAX_PIXELS = 89_478_485

# Raises it, for those who cannot pass `max_pixels`: who uses the command.
PIXELS_VARIABLE = "PNAG_MAX_IMAGE_PIXELS"

# An encoded image larger than this is none, or none that fits into the bound on pixels.
_MAX_ENCODED = 1 << 30

# Postscript is a program; Pillow has Ghostscript run it.
_REFUSED_FORMATS = ("EPS",)

_ORIENTATION = 0x0112

# Held by whoever has raised Pillow's bound.
_BOUND = threading.RLock()


class UnreadableImageError(Exception):
    """Why a file is no image that can be trained on; collected, then raised as `DataError`."""


def pillow() -> Any:
    """Import Pillow, or say which extra installs it."""
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise MissingDependencyError("pillow", "train", "reading images") from error
    return Image


def read(path: Path, resolution: int, max_pixels: int) -> npt.NDArray[np.uint8]:
    """Read an image file as `decode` does."""
    try:
        raw = files.read_bytes(path, limit=_MAX_ENCODED)
    except FileAccessError as error:
        raise UnreadableImageError(str(error).partition(": ")[2]) from error
    except FileFormatError as error:
        raise UnreadableImageError(f"a file of more than {_MAX_ENCODED:,} bytes") from error
    return decode(raw, resolution, max_pixels)


def decode(raw: bytes, resolution: int, max_pixels: int) -> npt.NDArray[np.uint8]:
    """Decode an image file: first frame, upright, over white; ``(resolution, resolution, 3)``.

    Raises
    ------
    UnreadableImageError
        If it is no image, is damaged, has more than 8 bits a channel in a mode that Pillow keeps
        so, or more than `max_pixels` pixels by its header.
    """
    library = pillow()
    try:
        with library.open(io.BytesIO(raw), formats=_formats()) as image:
            pixels = image.width * image.height
            if pixels > max_pixels:
                raise UnreadableImageError(_too_many(f"{pixels:,}", max_pixels))
            image.load()
            return resized(image, resolution)
    except UnreadableImageError:
        raise
    except (library.DecompressionBombError, library.DecompressionBombWarning) as error:
        raise UnreadableImageError(_too_many("too many", max_pixels)) from error
    except OSError as error:
        described = error.errno is not None and error.strerror
        raise UnreadableImageError(described or "not an image, or truncated") from error
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        raise UnreadableImageError(reason(error)) from error


def resized(image: Image.Image, resolution: int) -> npt.NDArray[np.uint8]:
    """Turn a Pillow image upright, lay it over white, and scale it to a square of RGB."""
    library = pillow()
    # Pillow would clip these to 8 bits, which turns most of them white.
    if image.mode.startswith(("I", "F")):
        raise UnreadableImageError("more than 8 bits a channel; convert it to 8 bits")
    return scaled(_opaque(_upright(image, library), library), resolution)


def scaled(image: Image.Image, resolution: int) -> npt.NDArray[np.uint8]:
    """Scale a Pillow image of RGB or grey to a square; its aspect ratio is not kept."""
    # Pillow's bilinear filter averages over all pixels when it shrinks, so nothing aliases.
    size = (resolution, resolution)
    return np.asarray(image.resize(size, pillow().Resampling.BILINEAR))


@contextlib.contextmanager
def allowing(max_pixels: int) -> Iterator[None]:
    """Let Pillow open images of up to so many pixels inside a ``with`` block.

    Pillow keeps its own bound, for the whole process, and refuses images of more than twice it. It
    is touched only where ours was raised beyond it.
    """
    if max_pixels <= MAX_PIXELS:
        yield
        return
    library = pillow()
    with _BOUND:
        before = library.MAX_IMAGE_PIXELS
        if before is not None:
            library.MAX_IMAGE_PIXELS = max(before, max_pixels)
        try:
            yield
        finally:
            library.MAX_IMAGE_PIXELS = before


def _too_many(found: str, max_pixels: int) -> str:
    return (
        f"{found} pixels by its header, more than the bound of {max_pixels:,}; if you trust it, "
        f"set the environment variable {PIXELS_VARIABLE} (in Python also: max_pixels=)"
    )


@functools.cache
def _formats() -> list[str]:
    library = pillow()
    library.init()
    return [name for name in library.ID if name not in _REFUSED_FORMATS]


def _upright(image: Image.Image, library: Any) -> Image.Image:
    turn = library.Transpose
    turns = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:
        # A camera's notes that cannot be read say nothing about the picture, which every viewer
        # shows as it is.
        return image
    method = turns.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _opaque(image: Image.Image, library: Any) -> Image.Image:
    """Return the image in RGB; what is transparent shows white, as on a page."""
    if image.mode in ("RGBa", "La"):
        image = image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode])
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = library.alpha_composite(library.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")
