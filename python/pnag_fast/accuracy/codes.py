"""Codes of a space as columns of numbers: which a batch has, and which a space can reach."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import arguments
from ..spaces import Archs, SearchSpace, hull
from ..spaces.space import require_space
from ..typing import BoolArray, Float32Array, Int64Array, IntArray

# Rows whose codes differ have different words below this size.
_WORD = 2**62


def feature_offsets(space: SearchSpace) -> IntArray:
    """Column of code 1 of every slot in `one_hot`, and the number of columns at the end."""
    return np.concatenate([[0], np.cumsum(np.array(space.n_codes) - 1)])


def one_hot(space: SearchSpace, archs: Archs) -> Float32Array:
    """Encode rows as one column per slot and code (0, absent, has none).

    Returns
    -------
    ndarray of float32, shape (n, sum of choices)
    """
    choices = np.array(space.n_codes) - 1
    slots = np.repeat(np.arange(space.n_slots), choices)
    codes = np.arange(1, len(slots) + 1) - feature_offsets(space)[slots]
    # Comparing all columns is several times faster than writing ones where they belong.
    return np.equal(archs[:, slots], codes.astype(np.uint8)).astype(np.float32)


# --- which codes occur ---------------------------------------------------------------------------


def code_offsets(space: SearchSpace) -> IntArray:
    """Position of code 0 of every slot among all codes of all slots, and their number at the end.

    Absence is a code as well: what a layer adds is known only beside networks without it.
    """
    return np.concatenate([[0], np.cumsum(np.array(space.n_codes))])


def codes_in(space: SearchSpace, archs: Archs) -> BoolArray:
    """Say which codes of which slots occur in the rows, shape (number of all codes,)."""
    offsets = code_offsets(space)
    found = np.zeros(int(offsets[-1]), dtype=np.bool_)
    for start in range(0, len(archs), 65536):
        found[offsets[:-1] + archs[start : start + 65536]] = True
    return found


def codes_reached(space: SearchSpace) -> BoolArray:
    """Say which codes of which slots the architectures of a space have, as `codes_in`."""
    reached = np.ones(int(code_offsets(space)[-1]), dtype=np.bool_)
    offsets = code_offsets(space)
    first = 0
    for stage in space.stages:
        slots = range(first, first + len(stage.slots))
        first = slots.stop
        if stage.rows is None:
            reached[offsets[slots.start : slots.start + stage.min_depth]] = False
            continue
        reached[offsets[slots.start] : offsets[slots.stop]] = False
        reached[offsets[slots.start : slots.stop] + np.array(stage.rows, dtype=np.intp)] = True
    return reached


def describe_code(space: SearchSpace, position: int) -> str:
    """Name a code, given by its position among all codes, for a message."""
    offsets = code_offsets(space)
    slot = int(np.searchsorted(offsets, position, side="right")) - 1
    return hull.describe_code(space, slot, position - int(offsets[slot]))


def covering(space: SearchSpace, archs: Archs | None = None, *, seed: int = 0) -> Archs:
    """Choose a few architectures that have every code which `archs` lack.

    What a code adds to the accuracy is known only if some measured architecture has it: measure
    these as well.

    Parameters
    ----------
    space : SearchSpace
    archs : ndarray of uint8, shape (n, n_slots), optional
        What is measured already.
    seed : int
        Of what is chosen from.

    Returns
    -------
    ndarray of uint8, shape (m, n_slots)
        Empty where nothing is missing.

    Examples
    --------
    >>> import pnag_fast as pf
    >>> space = pf.spaces.get("ofa-mbv3")
    >>> few = space.sample(10, seed=0)
    >>> more = pf.accuracy.covering(space, few)
    >>> len(more) < 20, len(pf.accuracy.covering(space, np.concatenate([few, more])))
    (True, 0)
    """
    require_space(space)
    seed = arguments.seed(seed)
    missing = codes_reached(space)
    if archs is not None:
        space.validate(archs)
        missing &= ~codes_in(space, archs)
    offsets = code_offsets(space)[:-1]
    chosen: list[Archs] = []
    for pool in _pools(space, seed):
        while missing.any():
            gain = missing[offsets + pool].sum(axis=1)
            best = int(gain.argmax())
            if gain[best] == 0:
                break
            chosen.append(pool[best])
            missing[offsets + pool[best]] = False
    return np.stack(chosen) if chosen else np.empty((0, space.n_slots), dtype=np.uint8)


def _pools(space: SearchSpace, seed: int) -> Iterator[Archs]:
    yield space.sample(1024, seed=seed)
    yield space.sample(1024, seed=seed, distribution="decisions")
    # One decision away from a network of full depth lies every code of every slot.
    deepest = np.concatenate(
        [
            np.ones(len(stage.slots), dtype=np.uint8)
            if stage.rows is None
            else np.array(stage.rows[0], dtype=np.uint8)
            for stage in space.stages
        ]
    )
    yield space.neighbors(deepest)
    yield deepest[None]


# --- rows as numbers -----------------------------------------------------------------------------


def row_words(space: SearchSpace, archs: Archs) -> list[Int64Array]:
    """Write each row as a few integers: equal rows have equal ones, and order as the rows do."""
    words = []
    start = 0
    while start < space.n_slots:
        stop = start + 1
        while stop < space.n_slots and math.prod(space.n_codes[start : stop + 1]) < _WORD:
            stop += 1
        radix = np.append(np.cumprod(np.array(space.n_codes[stop - 1 : start : -1]))[::-1], 1)
        words.append(archs[:, start:stop].astype(np.int64) @ radix.astype(np.int64))
        start = stop
    return words


def equal_rows(space: SearchSpace, archs: Archs) -> tuple[IntArray, Int64Array]:
    """Find the first of every set of equal rows, in their order, and the set of each row.

    Returns
    -------
    first : ndarray of intp, shape (m,)
    index : ndarray of int64, shape (n,)
        ``archs[first[index]]`` equals ``archs``.
    """
    words = row_words(space, archs)
    order = np.lexsort(words[::-1])
    new = np.ones(len(archs), dtype=np.bool_)
    if len(archs):
        new[1:] = np.any([word[order[1:]] != word[order[:-1]] for word in words], axis=0)
    first = order[new]
    sets = np.argsort(first, kind="stable")
    position = np.empty(len(first), dtype=np.int64)
    position[sets] = np.arange(len(first))
    index = np.empty(len(archs), dtype=np.int64)
    index[order] = position[np.cumsum(new) - 1]
    return first[sets], index


def feature_keys(features: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint64]:
    """Hash rows of features, as float32, to 64 bits, shape (n,): equal rows have equal keys.

    A thousand times faster than sorting rows of hundreds of columns. Two of a million rows collide
    with a probability of 3e-8.
    """
    odd = np.random.default_rng(0).integers(2**63, size=features.shape[1], dtype=np.uint64) * 2 + 1
    # What multiplication mixes best are the high bits, and sums the low ones hardly at all.
    words = np.ascontiguousarray(features, dtype=np.float32).view(np.uint32).astype(np.uint64) * odd
    return np.asarray((words ^ (words >> np.uint64(32))) @ odd)
