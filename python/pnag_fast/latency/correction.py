"""From the sum of blocks to the network: a block that is timed alone runs with warm caches."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidInputError, MeasurementError

FloatArray = npt.NDArray[np.float64]

MIN_NETWORKS = 4


@dataclass(frozen=True, slots=True)
class Correction:
    """``network = offset_ms + scale * sum of blocks``, and how well that predicts.

    The qualities are those of networks left out of the fit: each network is predicted from a fit
    to all the others.

    Attributes
    ----------
    offset_ms, scale : float
        The correction, fitted to relative errors.
    networks : int
        Networks that were measured.
    r2 : float
        Coefficient of determination; 1 is perfect, and a constant guess has about 0.
    rank_correlation : float
        Spearman's rank correlation.
    mean_error, worst_error : float
        Absolute error as a fraction of the measured latency.
    """

    offset_ms: float
    scale: float
    networks: int
    r2: float
    rank_correlation: float
    mean_error: float
    worst_error: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def fit_correction(predicted_ms: FloatArray, measured_ms: FloatArray) -> Correction:
    """Fit the correction by least squares of the relative error.

    Parameters
    ----------
    predicted_ms : ndarray of float64, shape (n,)
        Sum of the blocks of each network.
    measured_ms : ndarray of float64, shape (n,)
        Its measured latency, positive.

    Raises
    ------
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
    n = len(predicted_ms)
    if n < MIN_NETWORKS:
        raise InvalidInputError(
            f"a correction needs at least {MIN_NETWORKS} measured networks, found {n}"
        )
    offset, scale = _fit(predicted_ms, measured_ms)
    if not scale > 0 or not np.isfinite(offset):
        raise MeasurementError(
            f"the latency of {n} whole networks does not grow with the sum of their blocks (fitted "
            f"scale {scale:.3g}): the machine was too busy, or the networks are too alike; measure "
            "again on a quiet machine"
        )
    held_out = np.empty(n)
    for i in range(n):
        others = np.arange(n) != i
        a, b = _fit(predicted_ms[others], measured_ms[others])
        held_out[i] = a + b * predicted_ms[i]
    residuals = held_out - measured_ms
    total = float(np.sum((measured_ms - measured_ms.mean()) ** 2))
    errors = np.abs(residuals) / measured_ms
    return Correction(
        offset_ms=offset,
        scale=scale,
        networks=n,
        r2=1.0 - float(np.sum(residuals**2)) / total if total > 0 else 0.0,
        rank_correlation=_rank_correlation(held_out, measured_ms),
        mean_error=float(errors.mean()),
        worst_error=float(errors.max()),
    )


def _fit(predicted: FloatArray, measured: FloatArray) -> tuple[float, float]:
    # Dividing each equation by its measured latency makes the residuals relative errors.
    design = np.stack([np.ones_like(predicted), predicted], axis=1) / measured[:, None]
    solution = np.linalg.lstsq(design, np.ones_like(measured), rcond=None)[0]
    return float(solution[0]), float(solution[1])


def _rank_correlation(a: FloatArray, b: FloatArray) -> float:
    ranks_a, ranks_b = _ranks(a), _ranks(b)
    if np.ptp(ranks_a) == 0 or np.ptp(ranks_b) == 0:
        return 0.0
    return float(np.corrcoef(ranks_a, ranks_b)[0, 1])


def _ranks(values: FloatArray) -> FloatArray:
    """Rank from 0; ties share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean_ranks: FloatArray = ends - (counts + 1) / 2.0
    return mean_ranks[inverse]
