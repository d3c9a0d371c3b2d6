"""From the sum of blocks to the network: a block that is timed alone runs with warm caches."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .. import arguments
from ..agreement import relative as agreement
from ..costs.fitting import LEAST_R2
from ..errors import InvalidInputError, MeasurementError
from ..typing import FloatArray

MIN_NETWORKS = 4

# A table that predicts networks worse than this is not to be trusted for close decisions.
GOOD_R2 = 0.98
GOOD_ERROR = 0.05

_REMEDY = (
    "do not trust the table for close decisions; measure again on a quiet machine, in another work "
    "directory"
)

# A scale for each stage is tried from this many networks on, held to the common scale by one of
# these ridge penalties, and kept if it predicts networks better by `_WORTH`.
_STAGE_NETWORKS = 12
_PENALTIES = (1.0, 0.1, 0.01)
_WORTH = 0.05


@dataclass(frozen=True, slots=True)
class Correction:
    """``network = offset_ms + sum over stages of scale * blocks``, and how well that predicts.

    The qualities are those of networks left out of everything: each network is predicted by a
    correction that was chosen and fitted with all the others.

    Attributes
    ----------
    offset_ms, scale : float
        The correction, fitted to relative errors.
    stage_scales : tuple of float
        Scale of each stage where these help, else the common `scale` for each. Blocks that belong
        to no stage take `scale`.
    networks : int
        Distinct networks that were measured.
    r2 : float
        Coefficient of determination; 1 is perfect, and a constant guess has about 0.
    rank_correlation : float
        Spearman's rank correlation.
    mean_error, worst_error : float
        Absolute error as a fraction of the measured latency.
    noise : float, optional
        Relative standard deviation of one measurement, where networks were measured repeatedly.
    """

    offset_ms: float
    scale: float
    stage_scales: tuple[float, ...]
    networks: int
    r2: float
    rank_correlation: float
    mean_error: float
    worst_error: float
    noise: float | None = None

    @property
    def warnings(self) -> list[str]:
        """Why a table corrected by this should not be trusted; mostly nothing."""
        found = []
        if not self.r2 >= LEAST_R2:
            found.append(
                f"the table explains little of how the latencies of {self.networks} whole networks "
                f"differ that it was not fitted to (R2 {self.r2:.2f}, good is {GOOD_R2} or more)"
            )
        if not self.mean_error <= GOOD_ERROR:
            found.append(
                f"the table is {self.mean_error:.1%} off on average for networks that it was not "
                f"fitted to (good is {GOOD_ERROR:.0%} or less)"
            )
        if self.offset_ms == 0.0:
            found.append(
                "the fitted offset would make the fastest network cost less than nothing, so it "
                "was left out"
            )
        return [f"{line}: {_REMEDY}" for line in found]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        fields = {**asdict(self), "stage_scales": list(self.stage_scales)}
        if self.noise is None:
            del fields["noise"]
        return fields


def fit_correction(
    predicted_ms: FloatArray,
    measured_ms: FloatArray,
    stage_ms: FloatArray | None = None,
    *,
    networks: Sequence[Hashable] | None = None,
    cheapest_ms: float | None = None,
) -> Correction:
    """Fit the correction by least squares of the relative error.

    A network that was measured repeatedly counts once, with the median, and is left out as a whole.

    Parameters
    ----------
    predicted_ms : ndarray of float64, shape (n,)
        Sum of the blocks of each network.
    measured_ms : ndarray of float64, shape (n,)
        Its measured latency, positive.
    stage_ms : ndarray of float64, shape (n, n_stages), optional
        The parts of `predicted_ms` that belong to each stage.
    networks : sequence, optional
        Which network each row is: any names. Default: rows with the same blocks are the same.
    cheapest_ms : float, optional
        Sum of the blocks of the cheapest network of the space. An offset that would leave it less
        than nothing is noise of a busy machine, and is left out.

    Raises
    ------
    InvalidInputError
        If there are fewer than 4 distinct networks, or a latency is not a positive number.
    MeasurementError
        If the networks do not grow with the sum of their blocks, so that no table can be trusted.

    Examples
    --------
    >>> import numpy as np
    >>> blocks = np.array([1.0, 2.0, 3.0, 4.0])
    >>> correction = fit_correction(blocks, 0.5 + 1.2 * blocks)
    >>> round(correction.offset_ms, 6), round(correction.scale, 6), round(correction.r2, 6)
    (0.5, 1.2, 1.0)
    """
    predicted_ms = arguments.floats(predicted_ms, "predicted_ms", (None,), finite=True)
    n = len(predicted_ms)
    measured_ms = arguments.floats(measured_ms, "measured_ms", (n,), finite=True)
    stages = np.empty((n, 0))
    if stage_ms is not None:
        stages = arguments.floats(stage_ms, "stage_ms", (n, None), finite=True)
    for name, values in (("predicted_ms", predicted_ms), ("measured_ms", measured_ms)):
        bad = np.flatnonzero(values <= 0)
        if len(bad):
            raise InvalidInputError(
                f"{name} should be above zero, found {values[bad[0]]} in row {bad[0]}"
            )
    features = np.concatenate([np.ones((n, 1)), predicted_ms[:, None], stages], axis=1)
    features, measured_ms, noise = _distinct(features, measured_ms, networks)
    n, predicted_ms = len(features), features[:, 1]
    if n < MIN_NETWORKS:
        raise InvalidInputError(
            f"a correction needs at least {MIN_NETWORKS} different networks, found {n}"
        )
    weights = _fit(features, measured_ms, _choose_penalty(features, measured_ms))
    if cheapest_ms is not None and weights[0] <= -weights[1] * cheapest_ms:
        features[:, 0] = 0.0
        weights = _fit(features, measured_ms, _choose_penalty(features, measured_ms))
    offset, scale = float(weights[0]), float(weights[1])
    if not scale > 0 or not np.isfinite(offset):
        raise MeasurementError(
            f"the latency of {n} whole networks does not grow with the sum of their blocks (fitted "
            f"scale {scale:.3g}): the machine was too busy, or the networks are too alike; measure "
            "again on a quiet machine"
        )
    held_out = _left_out(features, measured_ms, lambda x, y: _fit(x, y, _choose_penalty(x, y)))
    quality = agreement(held_out, measured_ms)
    return Correction(
        offset_ms=offset,
        scale=scale,
        stage_scales=tuple(float(scale + extra) for extra in weights[2:]),
        networks=n,
        r2=quality["r2"],
        rank_correlation=quality["spearman"],
        mean_error=quality["mean_error"],
        worst_error=quality["worst_error"],
        noise=noise,
    )


def _distinct(
    features: FloatArray, measured: FloatArray, networks: Sequence[Hashable] | None
) -> tuple[FloatArray, FloatArray, float | None]:
    """Rows of different networks, in their order, the median of each, and how repeats differ."""
    names = list(map(tuple, features.tolist())) if networks is None else list(networks)
    if len(names) != len(features):
        raise InvalidInputError(
            f"networks should have {len(features)} names, one for each row, found {len(names)}"
        )
    rows: dict[Hashable, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    if len(rows) == len(features):
        return features, measured, None
    first = [members[0] for members in rows.values()]
    medians = np.array([np.median(measured[members]) for members in rows.values()])
    relative = np.concatenate(
        [measured[members] / measured[members].mean() - 1.0 for members in rows.values()]
    )
    noise = float(np.sqrt(np.sum(relative**2) / (len(features) - len(rows))))
    return features[first], medians, noise


def _left_out(
    features: FloatArray, measured: FloatArray, fit: Callable[[FloatArray, FloatArray], FloatArray]
) -> FloatArray:
    """Predict each network by a fit to all the others."""
    predicted = np.empty(len(measured))
    for i in range(len(measured)):
        others = np.arange(len(measured)) != i
        predicted[i] = features[i] @ fit(features[others], measured[others])
    return predicted


def _choose_penalty(features: FloatArray, measured: FloatArray) -> float:
    """Choose how strongly the scales of stages are held together; infinity makes them one."""
    if len(measured) < _STAGE_NETWORKS or features.shape[1] == 2:
        return math.inf

    def error(penalty: float) -> float:
        if penalty < math.inf:
            weights = _fit(features, measured, penalty)
            # A stage that costs less than nothing is noise.
            if not (weights[1] + weights[2:] > 0).all():
                return math.inf
        predicted = _left_out(features, measured, lambda x, y: _fit(x, y, penalty))
        return float(np.sqrt(np.mean((predicted / measured - 1.0) ** 2)))

    best = min(_PENALTIES, key=error)
    return best if error(best) < (1.0 - _WORTH) * error(math.inf) else math.inf


def _fit(features: FloatArray, measured: FloatArray, penalty: float) -> FloatArray:
    """Fit an offset, a scale, and for each further column what it adds to the scale."""
    n_extra = features.shape[1] - 2
    # Dividing each equation by its measured latency makes the residuals relative errors.
    design, ones = features / measured[:, None], np.ones(len(measured))
    weights = np.zeros(features.shape[1])
    if n_extra == 0 or penalty == math.inf:
        weights[:2] = np.linalg.lstsq(design[:, :2], ones, rcond=None)[0]
        return weights
    ridge = np.sqrt(penalty) * np.eye(n_extra, features.shape[1], k=2)
    target = np.concatenate([ones, np.zeros(n_extra)])
    solution: FloatArray = np.linalg.lstsq(np.concatenate([design, ridge]), target, rcond=None)[0]
    return solution
