"""Pareto kernels: fronts, masks, crowding distance, hypervolume, and the best within bounds.

Every function minimises; negate an objective to maximise it. Rows are points, columns objectives.
Accepted are arrays and nested sequences of real numbers (float16 to float64, any integers that a
float64 holds exactly) in any memory layout; whatever is not a C-contiguous float64 array is copied
into one. What would lose its meaning on the way is refused by name: masked entries, units, missing
values, sparse matrices, tensors with a gradient or in bfloat16. Inputs are never changed. NaN is
refused, infinities are ordinary values, and -0.0 equals 0.0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pnag_fast import _core, arguments
from pnag_fast.threads import resolve_threads

__all__ = [
    "best_within",
    "crowding_distance",
    "hypervolume",
    "hypervolume_contributions",
    "is_non_dominated",
    "non_dominated_sort",
]

_FLOAT64 = np.dtype(np.float64)

_MEANINGS = {
    "points": "(n, m): one row per point",
    "reference": "(m,): one entry per objective",
    "costs": "(n, m): one column per cost",
    "merit": "(n,): one entry per row of costs",
    "bounds": "(b, m): one column per cost",
}

# Kernels on fewer values end before a second thread has started.
_FEW_VALUES = 4096


def _threads_for(points: NDArray[np.float64], threads: int | None) -> int:
    """Return the number of threads, without asking the system for cores that will not be used."""
    return 1 if threads is None and points.size < _FEW_VALUES else resolve_threads(threads)


def _as_float64(values: ArrayLike, name: str, n_dims: int) -> NDArray[np.float64]:
    """Return a C-contiguous float64 array of the same numbers, or refuse by name."""
    # The usual case first: the checks below take longer than a kernel on a hundred points.
    if (
        type(values) is np.ndarray
        and values.dtype is _FLOAT64
        and values.ndim == n_dims
        and values.flags.c_contiguous
        and values.flags.aligned
    ):
        return values
    meaning = _MEANINGS[name]
    return arguments.floats(values, name, (None,) * n_dims, meaning=meaning)


def non_dominated_sort(points: ArrayLike, /, *, threads: int | None = None) -> NDArray[np.int32]:
    """Return the front that each point belongs to.

    Front 0 holds the points that no other point dominates; the front of any other point is one more
    than the largest front of the points that dominate it. A point dominates another if it is not
    above it in any objective and below it in at least one. Equal points share a front.

    Parameters
    ----------
    points : array_like, shape (n, m)
        Objectives, minimised; any real numbers and infinities, no NaN, m >= 1.
    threads : int, optional
        Number of threads; None for every usable core. The result does not depend on it.

    Returns
    -------
    ndarray, shape (n,), int32
        Front of each point, from 0; empty for n = 0.

    Raises
    ------
    InvalidInputError
        NaN (named by row and column), no columns, or not two dimensions.
    InvalidTypeError
        Not real numbers.

    Notes
    -----
    O(n log n) for m <= 2, about O(n log^2 n) for m = 3, and O(n log^(m-1) n) for m >= 4 by divide
    and conquer [1]_ with the corrections of [2]_ and [3]_.

    References
    ----------
    .. [1] M. T. Jensen, "Reducing the run-time complexity of multiobjective EAs: The NSGA-II and
       other algorithms", IEEE Transactions on Evolutionary Computation 7(5), 2003.
    .. [2] F.-A. Fortin, S. Grenier, M. Parizeau, "Generalizing the improved run-time complexity
       algorithm for non-dominated sorting", GECCO 2013.
    .. [3] M. Buzdalov, A. Shalyto, "A provably asymptotically fast version of the generalized
       Jensen algorithm for non-dominated sorting", PPSN 2014.

    Examples
    --------
    >>> from pnag_fast import pareto
    >>> pareto.non_dominated_sort([[1, 4], [2, 2], [3, 3], [4, 1], [4, 4]])
    array([0, 0, 1, 0, 2], dtype=int32)
    """
    array = _as_float64(points, "points", 2)
    return _core.non_dominated_sort(array, _threads_for(array, threads))


def is_non_dominated(points: ArrayLike, /, *, threads: int | None = None) -> NDArray[np.bool_]:
    """Return which points no other point dominates.

    Of equal points all are kept. The result equals ``non_dominated_sort(points) == 0``, faster.

    Parameters
    ----------
    points : array_like, shape (n, m)
        Objectives, minimised; any real numbers and infinities, no NaN, m >= 1.
    threads : int, optional
        Number of threads; None for every usable core. The result does not depend on it.

    Returns
    -------
    ndarray, shape (n,), bool
        True for points of the front; empty for n = 0.

    Raises
    ------
    InvalidInputError
        NaN (named by row and column), no columns, or not two dimensions.
    InvalidTypeError
        Not real numbers.

    Notes
    -----
    One pass where a few strong points rule out most others, as in random data; at worst O(n log n)
    for m <= 2 and O(n log^(m-1) n) above [1]_.

    References
    ----------
    .. [1] H. T. Kung, F. Luccio, F. P. Preparata, "On finding the maxima of a set of vectors",
       Journal of the ACM 22(4), 1975.

    Examples
    --------
    >>> from pnag_fast import pareto
    >>> pareto.is_non_dominated([[1, 4], [2, 2], [3, 3], [2, 2]])
    array([ True,  True, False,  True])
    """
    array = _as_float64(points, "points", 2)
    return _core.is_non_dominated(array, _threads_for(array, threads))


def crowding_distance(points: ArrayLike, /, *, threads: int | None = None) -> NDArray[np.float64]:
    """Return the crowding distance of NSGA-II of each point, all points as one front.

    For each objective, the gap between a point's two neighbours in sorted order is divided by the
    range of the objective; the sum over objectives is the distance. The first and the last point of
    an objective get infinity.

    Parameters
    ----------
    points : array_like, shape (n, m)
        Objectives; any real numbers and infinities, no NaN, m >= 1.
    threads : int, optional
        Number of threads; None for every usable core. The result does not depend on it.

    Returns
    -------
    ndarray, shape (n,), float64
        Distances, 0 to infinity; all infinite for n <= 2.

    Raises
    ------
    InvalidInputError
        NaN (named by row and column), no columns, or not two dimensions.
    InvalidTypeError
        Not real numbers.

    Notes
    -----
    Equal values are ordered by row, so that of several points with the smallest value only the
    first is a boundary point, and of those with the largest only the last. An objective in which
    all points are equal contributes nothing, to its ends neither. If the range is infinite, a gap
    counts 1 if it is infinite too and 0 otherwise. O(m n log n) [1]_.

    References
    ----------
    .. [1] K. Deb, A. Pratap, S. Agarwal, T. Meyarivan, "A fast and elitist multiobjective genetic
       algorithm: NSGA-II", IEEE Transactions on Evolutionary Computation 6(2), 2002.

    Examples
    --------
    >>> from pnag_fast import pareto
    >>> pareto.crowding_distance([[0, 4], [1, 3], [2, 1], [4, 0]])
    array([ inf, 1.25, 1.5 ,  inf])
    """
    array = _as_float64(points, "points", 2)
    return _core.crowding_distance(array, _threads_for(array, threads))


def hypervolume(points: ArrayLike, reference: ArrayLike, /, *, threads: int | None = None) -> float:
    """Return the volume that the points dominate, bounded by a reference point.

    Points that are not below the reference in every objective add nothing.

    Parameters
    ----------
    points : array_like, shape (n, m)
        Objectives, minimised; no NaN and no -inf, m >= 1.
    reference : array_like, shape (m,)
        Corner that bounds the volume; finite.
    threads : int, optional
        Number of threads; None for every usable core. The result does not depend on it.

    Returns
    -------
    float
        The volume, in the product of the objectives' units; 0.0 without points.

    Raises
    ------
    InvalidInputError
        NaN or -inf (named by row and column), a reference that is not finite or of another length,
        a volume that overflows or underflows float64, or one far below 1e-300 of the box from the
        lowest values to the reference.
    InvalidTypeError
        Not real numbers.

    Notes
    -----
    Exact up to rounding, whatever the units and the order of the objectives. O(n log n) for m = 2
    and m = 3 [1]_, O(n^2) in practice for m = 4, in the manner of [2]_; O(n^(m/2)) for m = 5 to 8
    by divide and conquer over cells [3]_; WFG [4]_ above, whose time grows steeply with m and with
    the size of the front.

    References
    ----------
    .. [1] N. Beume, C. M. Fonseca, M. Lopez-Ibanez, L. Paquete, J. Vahrenhold, "On the complexity
       of computing the hypervolume indicator", IEEE Transactions on Evolutionary Computation
       13(5), 2009.
    .. [2] A. P. Guerreiro, C. M. Fonseca, "Computing and updating hypervolume contributions in up
       to four dimensions", IEEE Transactions on Evolutionary Computation 22(3), 2018.
    .. [3] T. M. Chan, "Klee's measure problem made easy", IEEE Symposium on Foundations of Computer
       Science (FOCS), 2013.
    .. [4] L. While, L. Bradstreet, L. Barone, "A fast way of calculating exact hypervolumes", IEEE
       Transactions on Evolutionary Computation 16(1), 2012.

    Examples
    --------
    >>> from pnag_fast import pareto
    >>> pareto.hypervolume([[1, 3], [2, 1]], [4, 4])
    7.0
    """
    array = _as_float64(points, "points", 2)
    corner = _as_float64(reference, "reference", 1)
    return _core.hypervolume(array, corner, _threads_for(array, threads))


def hypervolume_contributions(
    points: ArrayLike, reference: ArrayLike, /, *, threads: int | None = None
) -> NDArray[np.float64]:
    """Return how much hypervolume would be lost without each point.

    Parameters
    ----------
    points : array_like, shape (n, m)
        Objectives, minimised; no NaN and no -inf, m >= 1.
    reference : array_like, shape (m,)
        Corner that bounds the volume; finite.
    threads : int, optional
        Number of threads; None for every usable core. The result does not depend on it.

    Returns
    -------
    ndarray, shape (n,), float64
        Volume that the point dominates and no other point does: 0 for dominated points, for points
        that have an equal, and for points not below the reference. Dominated points count as
        others: they take their part from the point that dominates them.

    Raises
    ------
    InvalidInputError
        NaN or -inf (named by row and column), a reference that is not finite or of another length,
        or a contribution that overflows float64, or underflows it without being 0.
    InvalidTypeError
        Not real numbers.

    Notes
    -----
    Exact up to rounding, whatever the units and the order of the objectives; each contribution is
    computed within the box that the point dominates, not as a difference of two whole volumes. O(n
    log n) for m = 2, and for m = 3 in practice, by the sweep of HVC3D [1]_; O(n^(m/2)) for m = 4 to
    8 by divide and conquer over cells, all points at once [2]_; n hypervolumes of the cut points
    above.

    References
    ----------
    .. [1] A. P. Guerreiro, C. M. Fonseca, "Computing and updating hypervolume contributions in up
       to four dimensions", IEEE Transactions on Evolutionary Computation 22(3), 2018.
    .. [2] T. M. Chan, "Klee's measure problem made easy", IEEE Symposium on Foundations of Computer
       Science (FOCS), 2013.

    Examples
    --------
    >>> from pnag_fast import pareto
    >>> pareto.hypervolume_contributions([[1, 3], [2, 1], [3, 2]], [4, 4])
    array([1., 3., 0.])
    """
    array = _as_float64(points, "points", 2)
    corner = _as_float64(reference, "reference", 1)
    return _core.hypervolume_contributions(array, corner, _threads_for(array, threads))


def best_within(
    costs: ArrayLike, merit: ArrayLike, bounds: ArrayLike, /, *, threads: int | None = None
) -> NDArray[np.intp]:
    """Return the best of all rows within each vector of upper bounds.

    Parameters
    ----------
    costs : array_like, shape (n, m)
        Any real numbers and infinities, no NaN, m >= 1.
    merit : array_like, shape (n,)
        Larger is better; no NaN.
    bounds : array_like, shape (b, m)
        Upper bounds, inclusive; inf leaves a cost open.
    threads : int, optional
        Number of threads; None for every usable core. The result does not depend on it.

    Returns
    -------
    ndarray, shape (b,), intp
        Row of the largest merit among those of which no cost is above its bound; -1 where there is
        none. Of equal merits the lexicographically first costs win, of equal costs too the first
        row: an answer is never dominated.

    Raises
    ------
    InvalidInputError
        NaN (named by row and column), no columns, or lengths that do not fit together.
    InvalidTypeError
        Not real numbers.

    Notes
    -----
    Rows are sorted by merit once, O(n log n); then a bound takes a binary search (m = 1), or a walk
    down a tree whose nodes know the least of every cost below them, in order of merit: O(n m) at
    worst, a few blocks of 16 rows where merit and costs rise together.

    Examples
    --------
    >>> from pnag_fast import pareto
    >>> pareto.best_within([[1, 4], [2, 2], [4, 1]], [0.7, 0.8, 0.9], [[4, 4], [3, 5], [1, 1]])
    array([ 2,  1, -1])
    """
    rows = _as_float64(costs, "costs", 2)
    wanted = _as_float64(bounds, "bounds", 2)
    n_threads = _threads_for(wanted, threads)
    within = _core.BestWithin(rows, _as_float64(merit, "merit", 1), n_threads)
    return within.find(wanted, n_threads).astype(np.intp, copy=False)
