"""Architectures as rows of a linear model: the sum that a cost table is, as a product."""

from __future__ import annotations

import numpy as np

from ..spaces import Archs, SearchSpace
from ..typing import FloatArray


def features(space: SearchSpace, archs: Archs) -> FloatArray:
    """Return what a table multiplies its unknowns by, shape (n, `n_features`).

    A constant and one column per present code, slot by slot; where the space has several input
    resolutions, the same once more, multiplied by the pixels as a share of the largest: every
    entry is then linear in the number of pixels.
    """
    plain = indicators(space, archs)
    if space.resolution_slot is None:
        return plain
    share = pixels(space)[archs[:, space.resolution_slot] - 1]
    return np.hstack([plain, plain * share[:, None]])


def n_features(space: SearchSpace) -> int:
    """Return the number of columns of `features`."""
    present = sum(n - 1 for slot, n in enumerate(space.n_codes) if slot != space.resolution_slot)
    return (1 + present) * (1 if space.resolution_slot is None else 2)


def n_contexts(space: SearchSpace) -> int:
    """Return how many sets of entries a table has: one for each resolution to choose from."""
    return 1 if space.resolution_slot is None else len(space.resolutions)


def indicators(space: SearchSpace, archs: Archs) -> FloatArray:
    """One column per present code, and a constant."""
    columns = [np.ones(len(archs))]
    for slot in range(space.n_slots):
        if slot != space.resolution_slot:
            codes = range(1, space.n_codes[slot])
            columns += [(archs[:, slot] == code).astype(np.float64) for code in codes]
    return np.stack(columns, axis=1)


def entries(space: SearchSpace, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return constants and entries of a table from one weight per column of `features`."""
    constants = np.zeros(n_contexts(space))
    found = np.zeros((n_contexts(space), space.n_slots, max(space.n_codes)))
    parts = np.split(weights, 2) if space.resolution_slot is not None else [weights]
    scales = [np.ones(n_contexts(space))]
    if space.resolution_slot is not None:
        scales.append(pixels(space))
    for part, scale in zip(parts, scales, strict=True):
        constants += scale * part[0]
        column = 1
        for slot in range(space.n_slots):
            if slot == space.resolution_slot:
                continue
            n = space.n_codes[slot] - 1
            found[:, slot, 1 : n + 1] += scale[:, None] * part[column : column + n]
            column += n
    return constants, found


def pixels(space: SearchSpace) -> FloatArray:
    """Pixels of each resolution, as a fraction of the largest so that columns stay comparable."""
    squared = np.square(np.array(space.resolutions, dtype=np.float64))
    return np.asarray(squared / squared.max())
