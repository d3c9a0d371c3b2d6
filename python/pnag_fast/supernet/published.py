"""Supernets that come with the package."""

from __future__ import annotations

from importlib import resources

from pnag_fast.errors import InvalidInputError

from .checkpoint import load
from .model import Supernet


def published(name: str) -> Supernet:
    """Load a trained supernet that comes with the package.

    Parameters
    ----------
    name : str
        ``"mbv3-cifar"``: trained on CIFAR-10 for about an hour on one CPU core, so far from
        converged. How it was made and what it reaches is in the JSON file beside its weights and in
        ``docs/training.md``.

    Returns
    -------
    Supernet
        As from `load`.
    """
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
    with resources.as_file(folder / f"{name}.safetensors") as path:
        return load(path)
