"""How far a table of blocks may be wrong: what was measured of blocks, and of whole networks.

The entries of a table are block times by a correction (`pnag_fast.latency.correction`). What is
unknown of them is taken apart into what moves together, each part with a standard deviation: the
offset and the common scale; the scale of each stage; each distinct block, wherever it occurs, by
the spread of its measurements and by how differently it runs between other blocks. How strong the
latter are is what makes the measured whole networks likely (the evidence: Bishop, Pattern
Recognition and Machine Learning, 2006, section 3.5), and these networks then take their share off.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..costs import CostTable, Posterior
from ..costs.features import entries as entries_of
from ..costs.features import features, n_features
from ..spaces import Archs, SearchSpace
from ..typing import BoolArray, FloatArray
from .protocol import Summary

# What networks measured another time differ by, all alike, as a share: sessions within minutes lay
# 0.5 % apart, and what a search finds was 0.3 to 1.5 % slower than its table says.
_COMMON = 0.01
# What networks differ by from a table that does not say how well it knows them.
_MISFIT = 0.01
# Standard deviations that are weighed, as shares: of the scales of stages, of blocks that run
# between others, of networks about any sum of blocks.
_STAGES = (0.0, 0.03, 0.1, 0.3)
_BLOCKS = (0.0, 0.02, 0.05, 0.1, 0.2)
_MISFITS = (0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2)
# The standard deviation of normal values by their interquartile range, and that of the median of n
# by that of one, times sqrt(n).
_OF_RANGE, _OF_MEDIAN = 1 / 1.349, 1.2533
# Directions with a smaller share of the variance are left out: searches multiply by each.
_NEGLIGIBLE = 1e-7


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How strongly the parts of a table of blocks vary, standard deviations as shares.

    Attributes
    ----------
    stages : float
        The scale of a stage about the common one.
    blocks : float
        A block between others about the block alone.
    misfit : float
        Networks about any sum of blocks.
    common : float
        All networks together, from one session of measuring to the next.
    """

    stages: float
    blocks: float
    misfit: float
    common: float = _COMMON


def refine(
    table: CostTable, blocks: Mapping[str, Summary], archs: Archs, measured_ms: FloatArray
) -> tuple[CostTable, Uncertainty]:
    """Return a corrected table of blocks with what whole networks say of each, and its posterior.

    Parameters
    ----------
    table : CostTable
        Corrected.
    blocks : mapping
        What was measured of each block of the space, by its key.
    archs : ndarray of uint8, shape (n, n_slots)
        The networks that the correction was fitted to.
    measured_ms : ndarray of float64, shape (n,)

    Raises
    ------
    InvalidInputError
        If the networks contradict each other so much that some network would cost nothing.
    """
    parts = _Parts.of(table, blocks)
    design = features(table.space, archs)
    residual = measured_ms - table(archs)
    settings = list(itertools.product(_STAGES, _BLOCKS, _MISFITS))
    evidence = np.empty(len(settings))
    for index, (stages, between, misfit) in enumerate(settings):
        covariance = _covariance(design @ parts.root(stages, between), misfit, measured_ms)
        _, size = np.linalg.slogdet(covariance)
        evidence[index] = -(size + residual @ np.linalg.solve(covariance, residual)) / 2
    # Twenty networks do not tell one setting from its neighbours: the variances are averaged.
    weights = np.exp(evidence - evidence.max())
    variances = weights @ np.square(settings) / weights.sum()
    stages, between, misfit = np.sqrt(variances).tolist()
    root = parts.root(stages, between)
    misfit *= _inflation(_covariance(design @ root, misfit, measured_ms), residual)
    shift, posterior = Posterior(root, misfit).conditioned(
        design, residual, (misfit * measured_ms) ** 2
    )
    common = _COMMON * (parts.weights + shift)[:, None]
    left = Posterior(_narrowed(np.hstack([posterior.root, common])), misfit)
    constants, entries = entries_of(table.space, shift)
    refined = CostTable.build(
        table.space,
        metric=table.metric,
        unit=table.unit,
        device=table.device,
        constants=table.constants + constants,
        entries=table.entries + entries,
        posterior=left,
    )
    return refined, Uncertainty(stages, between, misfit)


def _covariance(projected: FloatArray, misfit: float, measured_ms: FloatArray) -> FloatArray:
    return np.asarray(projected @ projected.T + np.diag((misfit * measured_ms) ** 2))


def _inflation(covariance: FloatArray, residual: FloatArray) -> float:
    """How much farther off networks are, each predicted from all others, than they should be."""
    inverse = np.linalg.inv(covariance)
    squares = (inverse @ residual) ** 2 / np.diag(inverse)
    return max(1.0, float(np.sqrt(squares.mean())))


def _narrowed(root: FloatArray) -> FloatArray:
    """Leave out of a root what adds nothing to any variance."""
    directions, size, _ = np.linalg.svd(root, full_matrices=False)
    kept = size**2 > _NEGLIGIBLE * (size**2).sum()
    return np.ascontiguousarray(directions[:, kept] * size[kept])


def slower_together(table: CostTable, share: float) -> CostTable:
    """Return the table with a posterior that allows all networks to be slower by a share."""
    posterior = table.posterior or Posterior(np.zeros((n_features(table.space), 0)), _MISFIT)
    root = np.column_stack([posterior.root, share * table.weights])
    return replace(table, posterior=replace(posterior, root=root))


def _codes(space: SearchSpace) -> list[tuple[int, int]]:
    """List slots and codes in the order of `features`."""
    return [
        (slot, code)
        for slot in range(space.n_slots)
        if slot != space.resolution_slot
        for code in range(1, space.n_codes[slot])
    ]


@dataclass(frozen=True)
class _Parts:
    """The weights of a table, and which of them move together.

    Attributes
    ----------
    weights : ndarray of float64, shape (n_features,)
    stages : ndarray of bool, shape (n_stages, n_features)
    kinds : ndarray of bool, shape (n_kinds, n_features)
        Of each distinct block: where it occurs. At several resolutions those of the last count, for
        a weight there serves all.
    spread : ndarray of float64, shape (n_kinds,)
        Standard deviation of each distinct block's measured time, as a share.
    """

    weights: FloatArray
    stages: BoolArray
    kinds: BoolArray
    spread: FloatArray

    @classmethod
    def of(cls, table: CostTable, blocks: Mapping[str, Summary]) -> _Parts:
        space = table.space
        network = space.require_network("the uncertainty of a table of blocks")
        sizes = [len(stage.slots) for stage in space.stages]
        stage_of = np.repeat(np.arange(len(sizes)), sizes)
        codes = _codes(space)
        keys = [network.layer(slot, code, space.resolutions[-1]).key for slot, code in codes]
        slots = np.array(codes)[:, 0]
        names, stages = np.array(["", *keys]), np.array([-1, *stage_of[slots]])
        if space.resolution_slot is not None:
            names, stages = np.tile(names, 2), np.tile(stages, 2)
        distinct = list(dict.fromkeys(keys))
        passes = np.array([blocks[key].passes for key in distinct])
        ranges = np.array([blocks[key].spread for key in distinct])
        return cls(
            table.weights,
            np.array([stages == stage for stage in sorted(set(stages.tolist()) - {-1})]),
            np.array([names == key for key in distinct]),
            ranges * _OF_RANGE * _OF_MEDIAN / np.sqrt(passes),
        )

    def root(self, stages: float, between: float) -> FloatArray:
        """Return the covariance of the weights before any whole network, as a root."""
        # What the networks alone say: the offset may be any, and so may the scale.
        offset = np.zeros_like(self.weights)
        offset[0] = np.abs(self.weights).max()
        columns = [
            offset[None],
            self.weights[None],
            stages * self.stages * self.weights,
            np.hypot(self.spread, between)[:, None] * self.kinds * self.weights,
        ]
        return np.ascontiguousarray(np.concatenate(columns).T)
