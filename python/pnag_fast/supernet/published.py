"""Supernets that come with the package, and what was measured with them."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pnag_fast import accuracy, spaces
from pnag_fast.errors import InvalidInputError
from pnag_fast.spaces import Archs

from .checkpoint import load
from .model import Supernet

if TYPE_CHECKING:
    from importlib.abc import Traversable


def published(name: str) -> Supernet:
    """Load a trained supernet that comes with the package.

    Parameters
    ----------
    name : str
        ``"mbv3-cifar"``: trained on CIFAR-10 for about an hour on a CPU, so far from converged. How
        it was made and what it reaches is in the JSON file beside its weights and in
        ``docs/training.md``.

    Returns
    -------
    Supernet
        As from `load`.
    """
    with resources.as_file(_file(name, ".safetensors")) as path:
        return load(path)


def published_accuracies(name: str) -> tuple[Archs, npt.NDArray[np.float64]]:
    """Return architectures that were judged with a published supernet, and their top-1.

    Parameters
    ----------
    name : str
        As for `published`; also the name of the space.

    Returns
    -------
    archs : ndarray of uint8, shape (n, n_slots)
    top1 : ndarray of float64, shape (n,)
        On test images, each with batch-norm statistics of its own; the JSON file says how many.
    """
    with resources.as_file(_file(name, ".csv")) as path:
        return accuracy.load_table(path, spaces.get(name))


def _file(name: str, ending: str) -> Traversable:
    folder = resources.files("pnag_fast") / "published"
    names = sorted(
        entry.name.removesuffix(".safetensors")
        for entry in (folder.iterdir() if folder.is_dir() else ())
        if entry.name.endswith(".safetensors")
    )
    if name not in names:
        raise InvalidInputError(
            f"no published supernet {name!r}; this release has {', '.join(names) or 'none'}"
        )
    return folder / f"{name}{ending}"
