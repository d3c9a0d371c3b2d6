"""Architectures of a coded space as columns of numbers that a Gaussian process learns from.

What a network is worth depends on few regularities: how deep its stages are, how large its kernels,
the same in all slots, in those of a stage, or in a slot of its own. Columns come in groups, one for
each of these components of variance (`pnag_fast.costs.structure`), and a group has one relevance:
fifty networks say a dozen numbers, and not two hundred.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from .. import costs
from ..costs import CostTable, structure
from ..costs.features import features
from ..spaces import Archs, SearchSpace
from ..typing import FloatArray, IntArray

# Architectures that say how far apart two are.
_REFERENCE = 1000


@dataclass(frozen=True, eq=False)
class Columns:
    """Architectures as columns of numbers.

    Two random architectures are at a squared distance of 1 by each group, and their mean is 0.

    Attributes
    ----------
    roots : ndarray of float64, shape (n_indicators, n)
        What `pnag_fast.costs.features.features` are multiplied by.
    counted : tuple of CostTable
        Multiply-adds and parameters, where the space knows its networks. The logarithm of each is
        one more column, in a group of their own: accuracy bends with them as with no sum over
        slots.
    scale : float
        Of the logarithms.
    centre : ndarray of float64, shape (n + len(counted),)
    group : ndarray of intp, shape (n + len(counted),)
        Ascending, from 0.
    """

    space: SearchSpace
    roots: FloatArray
    counted: tuple[CostTable, ...]
    scale: float
    centre: FloatArray
    group: IntArray

    def __call__(self, archs: Archs) -> FloatArray:
        """Return columns of architectures, shape (m, n + len(counted))."""
        sums = features(self.space, archs) @ self.roots
        logarithms = [self.scale * np.log(table(archs)) for table in self.counted]
        return np.column_stack([sums, *logarithms]) - self.centre


@lru_cache(maxsize=8)
def columns(space: SearchSpace) -> Columns:
    """Return the columns of a space."""
    rows = space.sample(_REFERENCE, seed=0, distribution="decisions")
    plain = features(space, rows)
    roots, group = [np.empty((plain.shape[1], 0))], []
    for part in structure.of_space(space):
        apart = 2 * float((plain @ part.root).var(axis=0).sum())
        # What all architectures share has none.
        if apart > 1e-12:
            group += [len(roots) - 1] * part.root.shape[1]
            roots.append(part.root / np.sqrt(apart))
    counted = () if space.network is None else (costs.macs(space), costs.parameters(space))
    group += [len(roots) - 1] * len(counted)
    made = Columns(
        space, np.hstack(roots), counted, 1.0, np.zeros(len(group)), np.array(group, dtype=np.intp)
    )
    if counted:
        apart = 2 * float(made(rows)[:, -len(counted) :].var(axis=0).sum())
        made = replace(made, scale=1 / np.sqrt(apart) if apart > 0 else 1.0)
    return replace(made, centre=made(rows).mean(axis=0))
