"""What is believed of a device before it is measured, and what devices known so far add to that.

The costs of a new device are taken for a scale times (the mean of the known tables + a part along
each of their differences + a part along each kind of operation that is counted + what slots and
codes deviate by, see `pnag_fast.costs.structure`), each part with a variance of its own. Those are
learned by leaving one known table out and looking at it as at a new device: empirical Bayes over
devices (Efron and Morris, Journal of the American Statistical Association 70, 1975). Everything is
relative to the cost of a network, since devices differ by a factor of a hundred.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import InvalidInputError, InvalidTypeError
from ..spaces import Archs, SearchSpace
from ..spaces.blocks import Block, MBConv
from ..spaces.nasbench201 import is_cell_space
from ..typing import FloatArray
from . import structure
from .counts import macs
from .evidence import EXPECTED_NOISE
from .features import features, n_contexts, n_features, weights
from .structure import Component
from .table import CostTable

# Networks that a known table is judged by when it is left out.
_JUDGED = 100
# Variances of the parts before any device is known, where a part adds about as much as a network
# costs: of the scale, of the differences between known devices, and of all others.
_SCALE, _KNOWN, _OTHER = 4.0, 1.0, 1e-3
# Costs are not taken to be smaller than this share of the mean, where they are divided by.
_LEAST_SHARE = 0.05
# Of a fixed point.
_ROUNDS = 20
# Variances that are learned are at least this: a part that the known devices do not show at all.
_LEAST = 1e-8


@dataclass(frozen=True, eq=False)
class Prior:
    """Weights before measurements: a mean, and parts that are added to it.

    Attributes
    ----------
    mean : ndarray of float64, shape (n_features,)
        Up to a scale, for which the measurements are asked. Zero where there is none.
    components : sequence of Component
    variances : ndarray of float64, shape (n_components,), optional
        What is expected of each. None: nothing is.
    """

    mean: FloatArray
    components: Sequence[Component]
    variances: FloatArray | None = None

    @cached_property
    def root(self) -> FloatArray:
        """Of the covariance of the weights, where the mean has the scale 1."""
        parts = zip(self.components, self.expected, strict=True)
        return np.concatenate([np.sqrt(v) * part.root for part, v in parts], axis=1)

    @property
    def expected(self) -> FloatArray:
        """The variances, all alike where none is expected."""
        return np.ones(len(self.components)) if self.variances is None else self.variances

    def level(self, rows: FloatArray, target: FloatArray) -> float:
        """Return what the mean has to be multiplied by; 1 where there is none."""
        if self.variances is None:
            return 1.0
        return float(np.exp(np.median(np.log(target / positive(rows @ self.mean)))))


def of_space(space: SearchSpace) -> Prior:
    """Return the regularity of a space, of unknown scale: for measurements that are many."""
    components = structure.of_space(space)
    return Prior(np.zeros(len(components[0].root)), components)


def of_tables(space: SearchSpace, tables: Sequence[CostTable]) -> Prior:
    """Return what `tables` say of a device that is none of theirs.

    Parameters
    ----------
    tables : sequence of CostTable
        Sums over the slots of `space`, in any units; those of the same metric say most. Without
        any, multiply-adds stand for the device.

    Raises
    ------
    InvalidInputError
        If a table is for another space, or is no sum.
    """
    if not isinstance(tables, (list, tuple)):
        raise InvalidTypeError(
            f"prior should be a list of CostTables, found {type(tables).__name__}"
        )
    known = [_checked(space, table) for table in tables]
    archs = sample(space, _JUDGED)
    rows = features(space, archs)
    columns = [table.weights for table in known]
    if not columns:
        columns = [_typical(space)]
    level = [float(np.mean(rows @ column)) for column in columns]
    devices = np.stack([c / size for c, size in zip(columns, level, strict=True)], axis=1)
    mean = devices.mean(axis=1)
    parts = [Component(mean[:, None], "scale"), Component(_apart(devices), "known devices")]
    parts += _normalised(_kinds(space) + structure.of_space(space), rows, mean)
    variances = np.array([_SCALE, _KNOWN] + [_OTHER] * (len(parts) - 2))
    if len(known) > 1:
        blur = [
            None if table.posterior is None else table.posterior.root / size
            for table, size in zip(known, level, strict=True)
        ]
        variances = _learned(rows, devices, blur, parts, variances)
    return Prior(mean, parts, variances)


def sample(space: SearchSpace, n: int) -> Archs:
    """Return `n` architectures of all kinds: uniform, and uniform over what is decided."""
    half = n // 2
    halves = (
        space.sample(n - half, seed=0),
        space.sample(half, seed=0, distribution="decisions"),
    )
    return np.concatenate(halves)


def _checked(space: SearchSpace, table: CostTable) -> CostTable:
    if not isinstance(table, CostTable):
        raise InvalidTypeError(f"prior should hold CostTables, found {type(table).__name__}")
    if table.reduce != "sum":
        raise InvalidInputError(
            f"the {table.metric} table of '{table.device}' is a maximum over slots, which says "
            "nothing of a sum: leave it out of prior"
        )
    return table.mean.for_space(space)


def _typical(space: SearchSpace) -> FloatArray:
    """Weights of no device in particular."""
    if space.network is not None or is_cell_space(space):
        return macs(space).weights
    return np.ones(n_features(space))


def _apart(devices: FloatArray) -> FloatArray:
    """Return how devices differ from their mean, as the root of a covariance."""
    n = devices.shape[1]
    return np.asarray((devices - devices.mean(axis=1, keepdims=True)) / np.sqrt(n))


def _normalised(
    parts: Sequence[Component], rows: FloatArray, mean: FloatArray
) -> Iterator[Component]:
    """Scale components so that each adds about as much as a network costs."""
    cost = positive(rows @ mean)
    for part in parts:
        size = np.sqrt(np.mean(np.sum(((rows / cost[:, None]) @ part.root) ** 2, axis=1)))
        if size > 0:
            yield Component(part.root / size, part.name)


def positive(costs: FloatArray) -> FloatArray:
    """Raise what weights that are no table's own make of the cheapest networks, even below zero."""
    return np.asarray(np.maximum(costs, _LEAST_SHARE * costs.mean()))


def _learned(
    rows: FloatArray,
    devices: FloatArray,
    blur: Sequence[FloatArray | None],
    parts: Sequence[Component],
    variances: FloatArray,
) -> FloatArray:
    """Return the variances that make each device most likely, given the others."""
    told = []
    for k in range(devices.shape[1]):
        others = np.delete(devices, k, axis=1)
        mean = others.mean(axis=1)
        cost = positive(rows @ devices[:, k])
        scaled = rows / cost[:, None]
        level = np.median(rows @ devices[:, k] / positive(rows @ mean))
        roots = [level * mean[:, None], level * _apart(others)]
        roots += [part.root for part in parts[2:]]
        noise = EXPECTED_NOISE**2 * np.eye(len(rows))
        uncertain = blur[k]
        if uncertain is not None:
            seen = scaled @ uncertain
            noise += seen @ seen.T
        seen_roots = [scaled @ root for root in roots]
        spread = np.stack([root @ root.T for root in seen_roots])
        target = scaled @ (devices[:, k] - level * mean)
        told.append((noise, spread, target))
    for _ in range(_ROUNDS):
        explained, expected = np.zeros(len(variances)), np.zeros(len(variances))
        for noise, spread, target in told:
            inverse = np.linalg.inv(noise + np.tensordot(variances, spread, 1))
            solved = inverse @ target
            explained += (spread @ solved) @ solved
            expected += spread.reshape(len(spread), -1) @ inverse.ravel()
        # Of what the tables do not show, as differences between two, nothing is learned.
        shown = expected > 0
        variances = np.where(
            shown, variances * explained / np.where(shown, expected, 1.0), variances
        )
        variances = np.maximum(variances, _LEAST)
    return variances


def _kinds(space: SearchSpace) -> list[Component]:
    """Return a part for each kind of operation that devices are fast or slow at.

    Blocks that are launched, and multiply-adds of full convolutions and of depthwise ones, apart
    with and without stride: of the measured GPUs some take ten times as long for one kind.
    """
    if space.network is None:
        return []
    slots = [slot for slot in range(space.n_slots) if slot != space.resolution_slot]
    constants = np.zeros((len(_KINDS), n_contexts(space)))
    entries = np.zeros((len(_KINDS), n_contexts(space), space.n_slots, max(space.n_codes)))
    for context, resolution in enumerate(space.resolutions):
        for block in space.network.fixed_blocks(resolution):
            constants[:, context] += _kinds_of(block)
        for slot in slots:
            for code in range(1, space.n_codes[slot]):
                block = space.network.layer(slot, code, resolution)
                entries[:, context, slot, code] = _kinds_of(block)
    return [
        Component(weights(space, *counts)[:, None], name)
        for name, *counts in zip(_KINDS, constants, entries, strict=True)
    ]


_KINDS = ("blocks", "convolutions", "depthwise convolutions", "strided depthwise convolutions")


def _kinds_of(block: Block) -> FloatArray:
    """Count what a block computes, one number for each of `_KINDS`."""
    if not isinstance(block, MBConv):
        return np.array([0.0, block.macs, 0.0, 0.0])
    depthwise = block.out_resolution**2 * block.kernel**2 * block.mid_channels
    full = block.macs - depthwise
    if block.stride > 1:
        return np.array([1.0, full, 0.0, depthwise])
    return np.array([1.0, full, depthwise, 0.0])
