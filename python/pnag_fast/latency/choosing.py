"""Which networks to measure on a device, so that few of them tell what all others take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import arguments
from ..costs import CostTable
from ..costs.evidence import EXPECTED_NOISE
from ..costs.features import features
from ..costs.prior import of_tables, positive
from ..costs.prior import sample as spread_sample
from ..errors import InvalidInputError
from ..spaces import Archs, SearchSpace
from ..spaces.space import require_space
from ..threads import one_thread
from ..typing import FloatArray, IntArray

# Networks to choose from, and networks that are to be predicted.
_CANDIDATES = 1000
_PREDICTED = 400
# Chosen one by one; by then the parts that a prior has are known, and more only average noise.
_GREEDY = 200
# More cannot be asked for: such a list is measured for weeks.
_MOST = 100_000
# Networks differ from the best sum over slots by this share of their cost, smoothly: networks
# closer than about `_REACH` standard deviations, in size and kind, by about as much. Without it
# the extremes are chosen, and devices that are no sum there, such as 2080ti_32, are told worse than
# by random networks.
_BEND, _REACH = 0.06, 0.5


def choose(
    space: SearchSpace,
    n: int,
    *,
    prior: CostTable | Sequence[CostTable] | None = None,
    measured: Archs | None = None,
    candidates: Archs | None = None,
    seed: int = 0,
) -> Archs:
    """Choose the networks whose measurements say most about all others.

    Networks are taken one after the other, each that which most reduces the mean variance of the
    predicted costs, as shares of the costs (I-optimal design; Atkinson, Donev and Tobias, Optimum
    Experimental Designs, with SAS, 2007, chapter 10). What is unknown is what `pnag_fast.costs.fit`
    with the same `prior` takes for unknown, and that costs are no exact sums over slots: networks
    are spread over sizes and kinds, or all would be the smallest and the largest.

    The first networks of a longer list are those of a shorter one.

    Parameters
    ----------
    n : int
        At least 1, at most 100,000. After 200 the rest are taken at random.
    prior : sequence of CostTable, or CostTable, optional
        Tables of other devices, of any units; or the one table of this device as fitted so far,
        whose posterior then says what is unknown. Without it little is taken for known.
    measured : ndarray of uint8, shape (m, n_slots), optional
        What was measured already and is in no table; none of these is chosen again.
    candidates : ndarray of uint8, shape (k, n_slots), optional
        Choose among these. Default: a thousand networks, sampled by `seed`.
    seed : int

    Returns
    -------
    ndarray of uint8, shape (n, n_slots)
        All different, the most telling first.

    Raises
    ------
    InvalidInputError
        If there are fewer than `n` networks to choose from, or a table does not fit the space.

    Examples
    --------
    >>> import pnag_fast as pf
    >>> space = pf.spaces.get("nasbench201")
    >>> archs = pf.latency.choose(space, 3)
    >>> more = pf.latency.choose(space, 3, measured=archs)
    >>> len({row.tobytes() for row in (*archs, *more)})
    6
    """
    require_space(space)
    n, seed = arguments.integer(n, "n", 1, _MOST), arguments.seed(seed)
    known = np.zeros((0, space.n_slots), dtype=np.uint8) if measured is None else measured
    space.validate(known)
    if candidates is not None:
        space.validate(candidates)
    offered = _offered(space, n, known, candidates, seed)
    if len(offered) < n:
        raise InvalidInputError(
            f"{n} networks were asked for, and there are {len(offered)} different ones of "
            f"'{space.name}' to choose from"
            + (" that were not measured yet" if len(known) else "")
            + ": ask for fewer"
        )
    with one_thread():
        belief = _Belief.of(space, prior)
        rows = _greedy(space, belief, offered, known, min(n, _GREEDY))
    if len(rows) < n:
        rest = np.setdiff1d(np.arange(len(offered)), rows)
        rows = np.concatenate(
            [rows, np.random.default_rng(seed).permutation(rest)[: n - len(rows)]]
        )
    return np.ascontiguousarray(offered[rows])


def _offered(
    space: SearchSpace, n: int, known: Archs, candidates: Archs | None, seed: int
) -> Archs:
    """Return different networks that are not known, in the order in which they first come."""
    if candidates is None:
        wanted = max(_CANDIDATES, 2 * n) + len(known)
        if space.n_architectures <= 2 * wanted:
            candidates = space.enumerate()
        else:
            half = wanted // 2
            candidates = np.concatenate(
                [
                    space.sample(wanted - half, seed=seed),
                    space.sample(half, seed=seed, distribution="decisions"),
                ]
            )
    _, first = np.unique(np.concatenate([known, candidates]), axis=0, return_index=True)
    first = np.sort(first[first >= len(known)]) - len(known)
    return np.ascontiguousarray(candidates[first])


@dataclass(frozen=True, eq=False)
class _Belief:
    """Costs before more is measured: their mean and the root of the covariance of the weights."""

    mean: FloatArray
    root: FloatArray
    noise: float

    @classmethod
    def of(cls, space: SearchSpace, prior: CostTable | Sequence[CostTable] | None) -> _Belief:
        if not isinstance(prior, CostTable):
            learned = of_tables(space, () if prior is None else prior)
            return cls(learned.mean, learned.root, EXPECTED_NOISE)
        table = prior.mean.for_space(space)
        if table.posterior is None:
            raise InvalidInputError(
                f"this {table.metric} table of '{table.device}' is exact, so nothing is left to "
                "measure; if it is of another device, give it in a list: prior=[table] "
                "(pnag table choose --prior)"
            )
        noise = max(table.posterior.misfit, EXPECTED_NOISE)
        return cls(table.weights, table.posterior.root, noise)

    def costs(self, rows: FloatArray) -> FloatArray:
        return positive(rows @ self.mean)

    def relative(self, rows: FloatArray) -> FloatArray:
        """Return the root of the covariance of costs, as shares of the costs."""
        return np.asarray((rows @ self.root) / self.costs(rows)[:, None])


def _greedy(space: SearchSpace, belief: _Belief, offered: Archs, known: Archs, n: int) -> IntArray:
    """Return rows of `offered`, best first."""
    targets = features(space, spread_sample(space, _PREDICTED))
    rows = features(space, np.concatenate([known, offered]))
    aim, root = belief.relative(targets), belief.relative(rows)
    places, aims = _places(belief, rows, root, targets, aim)
    # Of every network with those to be predicted, and its own variance, given what was chosen.
    shared = root @ aim.T + _bend(places, aims)
    variance = np.einsum("ij,ij->i", root, root) + _BEND**2
    found = np.empty((len(rows), len(known) + n))
    free = np.arange(len(rows)) >= len(known)
    chosen = []
    for k in range(len(known) + n):
        row = k
        if k >= len(known):
            gain = np.einsum("ij,ij->i", shared, shared) / (variance + belief.noise**2)
            row = int(np.argmax(np.where(free, gain, -1.0)))
            free[row] = False
        size = np.sqrt(variance[row] + belief.noise**2)
        column = root @ root[row] + _bend(places, places[row : row + 1])[:, 0]
        column -= found[:, :k] @ found[row, :k]
        found[:, k] = column / size
        shared -= np.outer(found[:, k], shared[row] / size)
        variance = np.maximum(variance - found[:, k] ** 2, 0.0)
        chosen.append(row)
    return np.array(chosen[len(known) :]) - len(known)


def _places(
    belief: _Belief, rows: FloatArray, root: FloatArray, targets: FloatArray, aim: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return where networks lie: their size, and how what is unknown weighs in them.

    Standardised over the networks to be predicted; shapes (n, 2) and (n_predicted, 2).
    """
    centre = aim.mean(axis=0)
    _, _, directions = np.linalg.svd(aim - centre, full_matrices=False)
    found = [
        np.stack([np.log(belief.costs(x)), (relative - centre) @ directions[0]], axis=1)
        for x, relative in ((rows, root), (targets, aim))
    ]
    spread = found[1].std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    return (found[0] - found[1].mean(axis=0)) / scale, (found[1] - found[1].mean(axis=0)) / scale


def _bend(places: FloatArray, others: FloatArray) -> FloatArray:
    """Covariance of how networks differ from a sum over slots."""
    square = np.square(places[:, None] - others[None]).sum(axis=2)
    return np.asarray(_BEND**2 * np.exp(-square / (2 * _REACH**2)))
