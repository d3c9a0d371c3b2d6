"""Architectures as rows of a linear model: the sum that a cost table is, as a product."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..spaces import Archs, SearchSpace
from ..typing import FloatArray


def features(space: SearchSpace, archs: Archs) -> FloatArray:
    """Return what a table multiplies its unknowns by, shape (n, `n_features`).

    A constant and one column per present code, slot by slot; where the space has several input
    resolutions, the same once more, multiplied by `shares`: every entry is then linear in what its
    blocks compute.
    """
    plain = indicators(space, archs)
    if space.resolution_slot is None:
        return plain
    return np.hstack([plain, plain * shares(space)[archs[:, space.resolution_slot] - 1]])


def n_features(space: SearchSpace) -> int:
    """Return the number of columns of `features`."""
    return n_indicators(space) * (1 if space.resolution_slot is None else 2)


def n_indicators(space: SearchSpace) -> int:
    """Return the number of columns of `indicators`."""
    return 1 + sum(n - 1 for slot, n in enumerate(space.n_codes) if slot != space.resolution_slot)


def n_contexts(space: SearchSpace) -> int:
    """Return how many sets of entries a table has: one for each resolution to choose from."""
    return 1 if space.resolution_slot is None else len(space.resolutions)


def indicators(space: SearchSpace, archs: Archs) -> FloatArray:
    """One column per present code, and a constant."""
    found = np.zeros((len(archs), n_indicators(space)))
    found[:, 0] = 1.0
    before = 0
    for slot, n in enumerate(space.n_codes):
        if slot != space.resolution_slot:
            present = np.flatnonzero(archs[:, slot])
            found[present, before + archs[present, slot].astype(np.intp)] = 1.0
            before += n - 1
    return found


def entries(space: SearchSpace, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return constants and entries of a table from one weight per column of `features`."""
    constants = np.zeros(n_contexts(space))
    found = np.zeros((n_contexts(space), space.n_slots, max(space.n_codes)))
    parts = np.split(weights, 2) if space.resolution_slot is not None else [weights]
    scales = [np.ones((1, n_indicators(space)))]
    if space.resolution_slot is not None:
        scales.append(shares(space))
    for part, scale in zip(parts, scales, strict=True):
        scaled = scale * part
        constants += scaled[:, 0]
        column = 1
        for slot in range(space.n_slots):
            if slot == space.resolution_slot:
                continue
            n = space.n_codes[slot] - 1
            found[:, slot, 1 : n + 1] += scaled[:, column : column + n]
            column += n
    return constants, found


def weights(space: SearchSpace, constants: FloatArray, entries: FloatArray) -> FloatArray:
    """Return the weights of a table's constants and entries, as `entries` takes them.

    What absent codes cost goes to the constants and to the present ones. With several resolutions,
    those whose entries are nearest, by least squares: a table's entries may be no line in `shares`.
    """
    columns = [constants + entries[:, :, 0].sum(axis=1)]
    for slot in range(space.n_slots):
        if slot != space.resolution_slot:
            columns += list((entries[:, slot, 1 : space.n_codes[slot]] - entries[:, slot, :1]).T)
    contexts = np.stack(columns, axis=1)
    if space.resolution_slot is None:
        return np.asarray(contexts[0])
    share = shares(space) - shares(space).mean(axis=0)
    slope = (share * contexts).sum(axis=0) / (share**2).sum(axis=0)
    fixed = contexts.mean(axis=0) - slope * shares(space).mean(axis=0)
    return np.concatenate([fixed, slope])


# Spaces whose blocks were counted; those with many resolutions take 20 ms.
@lru_cache(maxsize=16)
def shares(space: SearchSpace) -> FloatArray:
    """Return what the columns of `indicators` compute at each resolution, as a share of the most.

    Shares of the multiply-adds at the largest resolution. Latency is not linear in the pixels of
    the input: a stage of stride 32 has as many of its own for 129 as for 160. On the measurements
    of GPUs at batch 64, that costs up to 2 % of the latency.

    Returns
    -------
    ndarray of float64, shape (n_contexts, n_indicators)
        Read-only.
    """
    network = space.require_network("counting what blocks compute at each resolution")
    counts = np.empty((n_contexts(space), n_indicators(space)))
    for context, resolution in enumerate(space.resolutions):
        counts[context, 0] = sum(block.macs for block in network.fixed_blocks(resolution))
        counts[context, 1:] = [
            network.layer(slot, code, resolution).macs
            for slot, n in enumerate(space.n_codes)
            if slot != space.resolution_slot
            for code in range(1, n)
        ]
    pixels = np.square(np.array(space.resolutions, dtype=np.float64))[:, None]
    # What multiplies nothing still reads its input; and what computes the same at all resolutions,
    # as a stage of stride 32 does for 208 and 224, needs two columns that differ, as all others.
    counts = np.where(np.ptp(counts, axis=0) > 0, counts, pixels)
    found = counts / counts.max(axis=0)
    found.flags.writeable = False
    return np.asarray(found)
