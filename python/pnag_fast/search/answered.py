"""What was asked and answered, by a hash of the architecture: a table of fixed size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..runs import Arrays
from ..spaces import Archs, SearchSpace
from ..typing import BoolArray, FloatArray

_LEAST_BITS, _MOST_BITS = 10, 19


class Memory:
    """Answers to questions; of two that want the same place the later one stays.

    Parameters
    ----------
    space : SearchSpace
    state : dict of ndarray
        Where everything is kept, zeros at first; changed in place.
    """

    def __init__(self, space: SearchSpace, state: Arrays) -> None:
        self._asked, self._answers = state["asked"], state["answers"]
        self._shift = np.uint64(65 - len(self._asked).bit_length())
        rng = np.random.default_rng(0)
        self._factors = rng.integers(2**63, size=space.n_slots, dtype=np.uint64) * 2 + 1

    @staticmethod
    def empty(limit: int) -> Arrays:
        """Return the state of one that knows nothing, by how much may be asked."""
        size = 1 << min(max(limit.bit_length() + 1, _LEAST_BITS), _MOST_BITS)
        return {"asked": np.zeros(size, dtype=np.uint64), "answers": np.zeros(size)}

    def _hash(self, archs: Archs) -> npt.NDArray[np.uint64]:
        # 64 bits, so that two of a million architectures share them once in 10^7 searches; uint64
        # wraps around.
        words = (archs.astype(np.uint64) + 1) * self._factors
        words = (words ^ (words >> np.uint64(32))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = words.sum(axis=1, dtype=np.uint64)
        return np.asarray((mixed ^ (mixed >> np.uint64(29))) * np.uint64(0x94D049BB133111EB))

    def add(self, archs: Archs, answers: FloatArray) -> None:
        """Keep answers, shape (n,), to rows."""
        hashes = self._hash(archs)
        place = hashes >> self._shift
        self._asked[place], self._answers[place] = hashes, answers

    def recall(self, archs: Archs) -> tuple[BoolArray, FloatArray]:
        """Say which rows are known, and what was answered."""
        hashes = self._hash(archs)
        place = hashes >> self._shift
        return self._asked[place] == hashes, self._answers[place]

    def distinct(self, archs: Archs) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Row of each distinct architecture, and which of these every row is."""
        _, first, place = np.unique(self._hash(archs), return_index=True, return_inverse=True)
        return first, place
