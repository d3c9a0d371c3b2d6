"""How uncertain a fitted model is away from what was measured.

Two terms, both learned from rows that are held out: leverage, which grows in directions of which
the rows say little, and reach, which grows beyond the range that they cover. Random held-out rows
lie among measured ones and say nothing of either; here whole ranges are held out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .. import files
from ..errors import FileFormatError
from ..spaces import SearchSpace
from ..typing import BoolArray, Float32Array, FloatArray, IntArray
from .codes import code_offsets, feature_offsets
from .measured import MINIMUM_ROWS, Measured

# Shares of the rows that are held out at each end of a direction.
_TAILS = (0.1, 0.25, 0.5)
# A direction's range leaves out its most extreme rows: a model rests on more than one.
_OUTSIDE = 0.02

PredictWithout = Callable[[BoolArray], FloatArray]


@dataclass(frozen=True, eq=False)
class Reach:
    """What a model's error may be beyond the range of the rows it was fitted to.

    A row x of codes lies at ``x @ directions``. A linear fit to something curved errs beyond the
    range it has seen, with half width h, by about ``growth * (2 h e + e^2)`` for the excess e:
    nothing inside. Of all directions the largest error counts.

    Attributes
    ----------
    directions : ndarray of float32, shape (features, k)
    low, high : ndarray of float32, shape (k,)
        Ends of the range.
    below, above : ndarray of float32, shape (k,)
        Growth beyond each end, at least 0.
    """

    names: ClassVar[tuple[str, ...]] = ("directions", "low", "high", "below", "above")

    directions: Float32Array
    low: Float32Array
    high: Float32Array
    below: Float32Array
    above: Float32Array

    def squared(self, features: Float32Array) -> FloatArray:
        """Return the squared error to expect of each row, shape (n,)."""
        error, _, _ = self._largest(features)
        return error**2

    def slopes(self, features: Float32Array) -> Float32Array:
        """Return the derivative of `squared` by the features, shape (n, features)."""
        error, direction, slope = self._largest(features)
        by_place = (2 * error * slope).astype(np.float32)
        return np.asarray(by_place[:, None] * self.directions.T[direction])

    def _largest(self, features: Float32Array) -> tuple[FloatArray, IntArray, FloatArray]:
        """Return the largest error, its direction, and its derivative by the place there."""
        place = (features @ self.directions).astype(np.float64)
        half = (self.high.astype(np.float64) - self.low) / 2
        under, over = np.maximum(self.low - place, 0), np.maximum(place - self.high, 0)
        error = self.below * _curved(under, half) + self.above * _curved(over, half)
        direction = error.argmax(axis=1)
        rows = np.arange(len(place))
        slope = self.above * (2 * half + 2 * over) * (over > 0)
        slope = slope - self.below * (2 * half + 2 * under) * (under > 0)
        return error[rows, direction], direction, slope[rows, direction]

    @property
    def arrays(self) -> dict[str, Float32Array]:
        """Arrays of a file, by name."""
        return {name: getattr(self, name) for name in self.names}

    @classmethod
    def of_arrays(
        cls, arrays: Mapping[str, npt.NDArray[Any]], n_features: int, path: files.StrPath
    ) -> Reach:
        """Check what a file has of `arrays`, each finite float32 of the shape it should have."""
        sizes = {len(array) if array.ndim == 1 else -1 for array in list(arrays.values())[1:]}
        size = max(sizes)
        if (
            len(sizes) != 1
            or size < 1
            or arrays["directions"].shape != (n_features, size)
            or (arrays["low"] > arrays["high"]).any()
            or (arrays["below"] < 0).any()
            or (arrays["above"] < 0).any()
        ):
            raise FileFormatError(
                f"'{path}': the arrays of 'reach' do not fit each other; the file is damaged"
            )
        return cls(**arrays)


def _curved(excess: FloatArray, half: FloatArray) -> FloatArray:
    return 2 * half * excess + excess**2


def reach_term(
    measured: Measured,
    features: Float32Array,
    effects: FloatArray,
    noise: float,
    predict_without: PredictWithout,
) -> Reach:
    """Learn how errors grow beyond the measured range, from rows held out at its ends.

    Parameters
    ----------
    effects : ndarray of float64, shape (features,)
        What each code adds to the prediction, to first order.
    noise : float
        Root mean square error on rows held out at random.
    predict_without : callable
        Predictions of all rows by a fit to the rows of a mask.
    """
    directions = _directions(measured.space, features, effects)
    places = features.astype(np.float64) @ directions
    growth = np.zeros((2, directions.shape[1]))
    for j in range(directions.shape[1]):
        for end, sign in enumerate((-1.0, 1.0)):
            growth[end, j] = _growth(measured, sign * places[:, j], noise, predict_without)
    low, high = np.quantile(places, [_OUTSIDE, 1 - _OUTSIDE], axis=0)
    arrays = (directions, low, high, *growth)
    return Reach(*(array.astype(np.float32) for array in arrays))


def _growth(
    measured: Measured, place: FloatArray, noise: float, predict_without: PredictWithout
) -> float:
    """Fit the growth to errors on the highest rows, predicted by the others."""
    squared = expected = 0.0
    for tail in _TAILS:
        out = place > np.quantile(place, 1 - tail)
        # Of the same network nothing is left inside.
        out = np.isin(measured.network, measured.network[out])
        if out.sum() < 3 or (~out).sum() < 8:
            continue
        low, high = np.quantile(place[~out], [_OUTSIDE, 1 - _OUTSIDE])
        excess = np.maximum(place[out] - high, 0)
        error = predict_without(~out)[out] - measured.top1[out]
        squared += max(float(np.mean(error**2 - noise**2)), 0.0)
        expected += float(np.mean(_curved(excess, np.asarray((high - low) / 2)) ** 2))
    return float(np.sqrt(squared / expected)) if expected > 0 else 0.0


def _directions(space: SearchSpace, features: Float32Array, effects: FloatArray) -> FloatArray:
    """Directions along which a search leaves what is measured, shape (features, k).

    What the model predicts; how many slots are present; and for every factor of numbers, such as
    kernel sizes, how large it is beside what is usual, summed over the slots that are present.
    """
    columns = [effects, np.ones(len(effects))]
    share = features.mean(axis=0, dtype=np.float64)
    offsets = feature_offsets(space)
    names = dict.fromkeys(name for slot in space.slots for name, _ in slot.factors)
    for name in names:
        rank, has = np.zeros((2, len(effects)))
        for slot, start in zip(space.slots, offsets.tolist(), strict=False):
            for at, (factor, values) in enumerate(slot.factors):
                if factor != name or len(values) < 2 or not _numbers(values):
                    continue
                columns_of = slice(start, start + slot.n_choices)
                order = sorted(values)
                rank[columns_of] = [order.index(choice[at]) for choice in slot.choices]
                has[columns_of] = 1.0
        usual = float(share @ rank) / max(float(share @ has), 1e-12)
        if has.any():
            columns.append(has * (rank - usual))
    # A direction along which all rows are alike has no range to leave.
    kept = [c for c in columns if np.ptp(features.astype(np.float64) @ c) > 0]
    return np.stack(kept or columns[:1], axis=1)


def _numbers(values: tuple[Any, ...]) -> bool:
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def distance_term(
    measured: Measured,
    features: Float32Array,
    noise: float,
    penalty: float,
    predict_without: PredictWithout,
) -> Float32Array:
    """Learn how errors grow in directions of which the measured rows say little.

    The distance is the leverage of ridge regression, ``x' (X'X + penalty)^-1 x`` of centred x: the
    share of the noise that goes through the fit into x. Its weight is what explains the errors on
    held-out ranges of top-1.

    Parameters
    ----------
    predict_without : callable
        Predictions of all rows by a fit to the rows of a mask.

    Returns
    -------
    ndarray of float32, shape (features + 1, features)
        See `AccuracyModel.distance`.
    """
    top1 = measured.top1
    fold = measured.ranges(top1, 5)
    squared = leverage = 0.0
    for k in range(5):
        if not 0 < np.count_nonzero(fold == k) < len(fold):
            continue
        root = _leverage_root(features[fold != k], penalty)
        far = features[fold == k] @ root[:-1] + root[-1]
        leverage += float(np.sum(far**2))
        error = predict_without(fold != k)[fold == k] - top1[fold == k]
        squared += float(np.sum(error**2 - noise**2))
    weight = np.sqrt(max(squared, 0.0) / leverage) if leverage > 0 else 0.0
    return (weight * _leverage_root(features, penalty)).astype(np.float32)


def widened_by_unseen(
    measured: Measured,
    distance: Float32Array,
    noise: float,
    predict_without: PredictWithout,
) -> Float32Array:
    """Add to a distance what is not known of codes that no measured row has.

    For a model that knows them from elsewhere, as one that is calibrated. Each such code in a row
    adds the error that known codes have where all rows with them are held out.

    Returns
    -------
    ndarray of float32, shape as `distance`
    """
    space = measured.space
    unseen = np.flatnonzero(~measured.codes)
    if len(unseen) == 0:
        return distance
    spread = _error_without_a_code(measured, noise, predict_without)
    offsets, first = code_offsets(space), feature_offsets(space)
    columns = np.zeros((len(distance), len(unseen)))
    for column, position in zip(columns.T, unseen.tolist(), strict=True):
        slot = int(np.searchsorted(offsets, position, side="right")) - 1
        code = position - int(offsets[slot])
        if code > 0:
            column[first[slot] + code - 1] = spread
        else:  # absent is what has none of the slot's choices
            column[-1] = spread
            column[first[slot] : first[slot + 1]] = -spread
    # At the mean of all rows every column is 0, so as many as there are features say the same.
    both = np.hstack([distance.astype(np.float64), columns])
    triangle: FloatArray = np.asarray(np.linalg.qr(both.T, mode="r"))
    return np.ascontiguousarray(triangle[: distance.shape[1]].T, dtype=np.float32)


def _error_without_a_code(
    measured: Measured, noise: float, predict_without: PredictWithout
) -> float:
    """Return the error, beyond the noise, of rows with a code that no other row has.

    Of all codes that are tried the largest counts: what a code that nobody measured does may be as
    much. Codes that say how deep a stage is tend to be those.
    """
    positions = code_offsets(measured.space)[:-1] + measured.archs
    count = np.bincount(positions.ravel(), minlength=len(measured.codes))
    often = np.flatnonzero((count >= 3) & (len(measured) - count >= MINIMUM_ROWS // 2))
    squared = []
    absent = np.isin(often, code_offsets(measured.space))
    for position in [*often[absent], *often[~absent][:: max(len(often) // 24, 1)]]:
        out = (positions == position).any(axis=1)
        error = predict_without(~out)[out] - measured.top1[out]
        squared.append(float(np.mean(error**2 - noise**2)))
    return float(np.sqrt(max([*squared, noise**2])))


def _leverage_root(features: Float32Array, penalty: float) -> FloatArray:
    """Matrix R with ``|(x, 1) @ R|^2`` the leverage of x."""
    x = features.astype(np.float64)
    centre = x.mean(axis=0)
    x -= centre
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += penalty
    root = np.linalg.inv(np.linalg.cholesky(gram)).T
    return np.vstack([root, -centre @ root])
