"""Least squares on whole networks: what they determine, and which of them are far off."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import InvalidInputError
from ..spaces import Archs, SearchSpace, hull
from ..typing import BoolArray, FloatArray
from .features import indicators, shares

# Beyond this many standard deviations, estimated from the median, a measurement is far off.
FAR = 8.0
# Few that are far off are faults. Many are what the table cannot describe, unless they are off by
# more than a factor of two, as a machine that was busy with something else makes them.
_FEW = 0.02
MANY = 0.10
GROSS = 2.0
# A table is not blamed for less than this, relative to the median.
_RESOLUTION = 0.005
# Where the loss of Huber turns from squares to lines, in standard deviations.
_HUBER = 1.345
_ROUNDS = 50


@dataclass(frozen=True)
class Design:
    """Features of architectures as orthonormal columns, and the way back to entries.

    Attributes
    ----------
    basis : ndarray of float64, shape (n, rank)
    back : ndarray of float64, shape (n_features, rank)
        Turns coefficients of the basis into the smallest solution; there are many, since depths
        make codes depend on each other.
    """

    basis: FloatArray
    back: FloatArray

    @classmethod
    def of(cls, space: SearchSpace, archs: Archs) -> Design:
        """Prepare a fit to `archs`.

        Raises
        ------
        InvalidInputError
            If they leave open what other architectures of `space` cost.
        """
        _require_all_codes(space, archs)
        spanning = hull.spanning(space)
        # The unknowns of the space: fewer than its codes, of which a layer always has one.
        _, size, right = np.linalg.svd(indicators(space, spanning.archs), full_matrices=False)
        unknowns = np.ascontiguousarray(right[size > _OPEN * size[0]].T)
        features, back = indicators(space, archs) @ unknowns, unknowns
        if space.resolution_slot is not None:
            share = shares(space)[archs[:, space.resolution_slot] - 1]
            centre, scale = share.mean(axis=0), share.std(axis=0)
            if scale.min() == 0:
                raise _one_size(space, archs)
            # Centred, sizes that are close to each other do not look like a constant.
            sized = (indicators(space, archs) * ((share - centre) / scale)) @ unknowns
            features = np.hstack([features, sized])
            back = np.block(
                [
                    [unknowns, -(centre / scale)[:, None] * unknowns],
                    [0 * unknowns, unknowns / scale[:, None]],
                ]
            )
        size, directions = np.linalg.eigh(features.T @ features)
        dependent = size <= _DEPENDENT * size[-1]
        if dependent.any():
            raise _leaves_open(space, archs, spanning, unknowns, directions[:, dependent])
        first = directions / np.sqrt(size)
        basis, back = features @ first, back @ first
        if size[0] > _ORTHOGONAL * size[-1]:
            return cls(basis, back)
        # Once more, for what rounding left of the angles.
        size, directions = np.linalg.eigh(basis.T @ basis)
        second = directions / np.sqrt(size)
        return cls(basis @ second, back @ second)

    def solve_without(self, rows: BoolArray, target: FloatArray) -> tuple[FloatArray, BoolArray]:
        """Fit to all but some rows, and say which rows the others determine."""
        out = self.basis[rows]
        size, directions = np.linalg.eigh(np.eye(out.shape[1]) - out.T @ out)
        known = size > _DEPENDENT_ROWS
        right_side = self.basis.T @ np.where(rows, 0.0, target)
        seen = directions[:, known]
        solution = seen @ ((seen.T @ right_side) / size[known])
        determined = np.ones(len(target), dtype=np.bool_)
        if not known.all():
            outside = np.linalg.norm(self.basis @ directions[:, ~known], axis=1)
            determined = outside <= _OPEN * np.linalg.norm(self.basis, axis=1)
        return np.asarray(solution, dtype=np.float64), determined


# A direction of features that is this much shorter than the longest, squared, is rounding.
_DEPENDENT = 1e-11
# One that is not is orthogonal to the others to ten digits.
_ORTHOGONAL = 1e-6
# The same, for a part of the rows of an orthonormal basis.
_DEPENDENT_ROWS = 1e-9
# Features that no combination of measured ones comes nearer to than this are open.
_OPEN = 1e-6
# Open costs that an error names.
_NAMED = 3


def _require_all_codes(space: SearchSpace, archs: Archs) -> None:
    for slot in range(space.n_slots):
        if slot == space.resolution_slot:
            continue
        seen = set(np.unique(archs[:, slot]).tolist())
        for code in range(1, space.n_codes[slot]):
            if code not in seen and _code_allowed(space, slot, code):
                raise InvalidInputError(
                    f"no architecture has {hull.describe_code(space, slot, code)}: measure some "
                    "that do, or give prior=, tables of devices that are known (pnag table fit "
                    "--prior)"
                )


def _one_size(space: SearchSpace, archs: Archs) -> InvalidInputError:
    """Say that architectures of few resolutions do not tell what others cost."""
    codes = np.unique(archs[:, space.resolution_slot]).tolist()
    sizes = ", ".join(str(space.resolutions[code - 1]) for code in codes)
    found = f"resolution {sizes}" if len(codes) == 1 else f"resolutions {sizes}"
    same = "" if len(codes) == 1 else ", where some blocks compute the same"
    return InvalidInputError(
        f"all architectures have the input {found}{same}, which leaves open what they cost at "
        "others: measure some there, or make a space of these resolutions alone"
    )


def _leaves_open(
    space: SearchSpace,
    archs: Archs,
    spanning: hull.Spanning,
    unknowns: FloatArray,
    directions: FloatArray,
) -> InvalidInputError:
    """Name some of what a design leaves open: `directions` are those in which it does not reach."""
    needed, found = directions.shape[0], directions.shape[0] - directions.shape[1]
    if len(archs) < needed:
        return InvalidInputError(
            f"{len(archs)} measured architectures are too few for a table of space "
            f"'{space.name}', which has {needed} unknowns"
        )
    features = indicators(space, spanning.archs) @ unknowns
    # What each changes of the first; where all changes are known, so is the first.
    features -= features[0]
    # With several resolutions a cost has two parts, one that grows with what is computed.
    parts = np.split(directions, needed // unknowns.shape[1])
    outside = [np.abs(features @ part).max(axis=1) > _OPEN for part in parts]
    rows = np.flatnonzero(np.any(outside, axis=0))
    named = list(
        dict.fromkeys(_open_cost(space, archs, *spanning.changes[row]) for row in rows.tolist())
    )
    more = f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    example = ",".join(map(str, spanning.archs[rows[0]].tolist()))
    return InvalidInputError(
        f"these {len(archs)} architectures determine {found} of {needed} unknowns of a table for "
        f"'{space.name}', and leave open: {'; '.join(named[:_NAMED])}{more}; measure networks that "
        f"tell these apart, for example that with the codes {example}"
    )


def _open_cost(space: SearchSpace, archs: Archs, slot: int, code: int) -> str:
    """Say why the cost of a code is open."""
    if archs[:, slot].all() and _code_allowed(space, slot, 0):
        return f"slot {slot} ('{space.slots[slot].name}') is never absent"
    what = hull.describe_code(space, slot, code)
    companion = hull.companion(archs, slot, code)
    if companion is not None:
        return f"{what}, which occurs only together with {hull.describe_code(space, *companion)}"
    return f"{what}, which occurs only in combinations with others"


@dataclass(frozen=True)
class Robust:
    """Least squares without what is far off.

    Attributes
    ----------
    solution, fitted : ndarray of float64, shapes (rank,) and (n,)
    left_out, gross : ndarray of bool, shape (n,)
        What was not fitted to; which of that is off by more than a factor of two.
    far : float
        Share that is far off, left out or not.
    """

    solution: FloatArray
    fitted: FloatArray
    left_out: BoolArray
    gross: BoolArray
    far: float


def fit_robust(design: Design, target: FloatArray) -> Robust:
    """Fit by least squares; where some are far off, by Huber's loss, and again without those.

    Where none is, this is plain least squares.
    """
    basis = design.basis
    n, rank = basis.shape
    # A row that nearly alone determines something is never off.
    shrinks = np.sqrt(np.maximum(1.0 - np.sum(basis**2, axis=1), 1e-3))
    freedom = math.sqrt(n / max(n - rank, 1))
    floor = _RESOLUTION * float(np.median(target))

    def deviations(fitted: FloatArray) -> FloatArray:
        """How far off each measurement is, in standard deviations."""
        residual = np.abs(target - fitted)
        scale = max(float(np.median(residual)) / 0.6745 * freedom, floor)
        return np.asarray(residual / (scale * shrinks))

    none = np.zeros(n, dtype=np.bool_)
    solution = basis.T @ target
    # Several that are far off hide each other from least squares, but not that something is.
    if (deviations(basis @ solution) <= FAR / 2).all():
        return Robust(solution, basis @ solution, none, none, 0.0)
    robust = solution
    for _ in range(_ROUNDS):
        fitted = basis @ robust
        # A product of a matrix with itself takes half the time of one with another.
        root = 1.0 / np.sqrt(np.maximum(deviations(fitted) / _HUBER, 1.0))
        weighted = basis * root[:, None]
        robust = np.linalg.solve(weighted.T @ weighted, weighted.T @ (root * target))
        if np.abs(basis @ robust - fitted).max() < floor:
            break
    left_out, gross, far = none, none, none
    for _ in range(_ROUNDS):
        fitted = basis @ robust
        far = deviations(fitted) > FAR
        gross = far & ((target > GROSS * fitted) | (GROSS * target < fitted))
        chosen = far if far.sum() <= max(1, _FEW * n) else gross
        if chosen.sum() > max(1, MANY * n):
            chosen = none
        _, determined = design.solve_without(chosen, target)
        # What nothing else determines has to stay.
        chosen = chosen & determined
        if np.array_equal(chosen, left_out):
            break
        left_out = chosen
        robust = design.solve_without(left_out, target)[0]
    if not left_out.any():
        robust = solution
    return Robust(robust, basis @ robust, left_out, gross & left_out, float(far.mean()))


def hold_out(
    design: Design, target: FloatArray, robust: Robust, folds: int, seed: int
) -> tuple[FloatArray, BoolArray]:
    """Predict each architecture by a fit to those of other folds, and say which to judge by.

    An architecture whose cost the others leave open cannot be predicted, only measured.
    """
    held_out = np.empty_like(target)
    judged = ~robust.gross
    fold = np.random.default_rng(seed).permutation(len(target)) % folds
    for k in range(folds):
        inside = fold == k
        solution, determined = design.solve_without(inside | robust.left_out, target)
        held_out[inside] = design.basis[inside] @ solution
        judged &= ~inside | determined
    if judged.sum() < 2:
        raise InvalidInputError(
            f"no measured architecture can be predicted from the others ({len(target)} in "
            f"{folds} folds): measure more"
        )
    return held_out, judged


def _code_allowed(space: SearchSpace, slot: int, code: int) -> bool:
    first = 0
    for stage in space.stages:
        if slot < first + len(stage.slots):
            if stage.rows is not None:
                return any(row[slot - first] == code for row in stage.rows)
            return code > 0 or slot - first >= stage.min_depth
        first += len(stage.slots)
    return False
