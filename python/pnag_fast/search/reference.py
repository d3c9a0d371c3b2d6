"""The reference search for the front of accuracy against costs.

Where the accuracy model has slopes, three things take turns at an archive of what is not dominated:

1. Simulated annealing (Kirkpatrick et al. 1983) of ``top1 - weight * cost`` from random
   architectures, by jumps (`pnag_fast.search.jumps`), each chain under a weight of its own. Learned
   accuracy has many local fronts, some a quarter of a point apart; which one a search ends in is
   decided here, and climbing alone often ends in a worse one.
2. Jumps from the archive under random weights; of several thousand that are ranked by their
   first-order estimate, a few hundred that promise most beyond the front are evaluated exactly.
3. Mutations of the archive and crossovers between its members, which join parts of local fronts.

Where the model is a table there are mutations and crossovers alone; where the space is small, all
of it is evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .. import arguments
from ..accuracy import AccuracyModel
from ..costs import CostTable
from ..errors import InvalidInputError, InvalidTypeError
from ..progress import ProgressCallback, ignore_progress
from ..runs.checkpoint import Arrays, Checkpoint, State, random_arrays, restore_random
from ..spaces import Archs, SearchSpace
from ..threads import one_thread
from .evaluations import Evaluations, mixed_seed, require_problem
from .jumps import Jumps
from .result import Front, extremes

FloatArray = npt.NDArray[np.float64]

# Spaces up to this size are searched by looking at every architecture.
EXHAUSTIVE_LIMIT = 200_000

# Annealing: share of the evaluations, most chains and fewest steps of each, proposals per step, and
# the first and last temperature, in top-1.
_ANNEALING_SHARE, _CHAINS, _CHAIN_STEPS, _CHAIN_JUMPS = 0.5, 128, 100, 4
_HOT, _COLD = 2e-3, 1e-4
# Weights on the costs, in units of the spread of top-1 over the spread of a cost.
_WEIGHTS = (0.005, 20.0)
# A round from the archive: evaluations at most, the share of these that are mutations and
# crossovers, jumps proposed for each evaluation, and from each origin.
_ROUND, _LOCAL, _PROPOSED, _JUMPS = 1024, 0.25, 4, 64
# Share of origins that change their input resolution before they jump, where the space has several.
_RESIZED = 0.25
_SEEN_BITS = 22


def front(
    space: SearchSpace,
    model: AccuracyModel,
    tables: Sequence[CostTable],
    *,
    seed: int = 0,
    evaluations: int = 1_300_000,
    time_limit_s: float | None = None,
    start: Archs | None = None,
    checkpoint: Checkpoint | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Front:
    """Search for the front: exhaustively where the space is small, else from an archive.

    Parameters
    ----------
    evaluations : int
        Predictions of the accuracy model to spend at most; slopes are not counted.
    time_limit_s : float, optional
        Stop after this many seconds, whatever is left of the evaluations. With a limit the result
        depends on the speed of the machine; without, only on the seed.
    start : ndarray of uint8, shape (n, n_slots), optional
        Architectures to begin with, such as the front of another device. Annealing goes on beside
        them: where the accuracy differs too, they hold a search in local fronts.
    checkpoint : Checkpoint, optional
        Where the search keeps its state every few seconds: killed and called again with the same
        arguments, it goes on and ends with the same front.

    Returns
    -------
    Front

    Examples
    --------
    >>> import pnag_fast as pf
    >>> space = pf.spaces.get("nasbench201")
    >>> archs = space.enumerate()
    >>> model = pf.accuracy.table(space, archs, (archs == 4).mean(axis=1))
    >>> len(pf.search.front(space, model, [pf.costs.macs(space)]))
    7
    """
    with one_thread():
        return _front(
            space, model, tables, seed, evaluations, time_limit_s, start, checkpoint, progress
        )


def _front(
    space: SearchSpace,
    model: AccuracyModel,
    tables: Sequence[CostTable],
    seed: int,
    evaluations: int,
    time_limit_s: float | None,
    start: Archs | None,
    checkpoint: Checkpoint | None,
    progress: ProgressCallback,
) -> Front:
    require_problem(space, model, tables)
    evaluations, seed = arguments.integer(evaluations, "evaluations", 1), arguments.seed(seed)
    if space.n_architectures <= min(EXHAUSTIVE_LIMIT, evaluations):
        run = Evaluations(
            space, model, tables, space.n_architectures, None, progress, "exhaustive search"
        )
        run.evaluate(space.enumerate())
        return run.front()
    run = Evaluations(space, model, tables, evaluations, time_limit_s, progress, "front search")
    kept = Checkpoint(None, {}) if checkpoint is None else checkpoint
    if not isinstance(kept, Checkpoint):
        raise InvalidTypeError(
            "checkpoint should be a pnag_fast.runs.Checkpoint or None, found "
            f"{arguments.shown(checkpoint)}"
        )
    jumps = Jumps(space, run.tables)
    rng = np.random.default_rng([seed, 1])
    seen = _Seen(space)
    state = kept.restore("rounds")
    if state is None:
        _begin(run, jumps, start, seed, kept)
    else:
        run.restore(state)
        restore_random(rng, state)
        seen.restore(state)
    size = min(_ROUND, max(run.limit // 64, 32))
    while run.left > 0:
        jumped = _jump(run, jumps, seen, size - int(size * _LOCAL), rng)
        batch = np.concatenate([jumped, _vary(run, size - len(jumped), rng)])
        seen.add(batch)
        run.evaluate(batch)
        kept.forget("annealing")
        kept.keep("rounds", run.count, lambda: run.state() | random_arrays(rng) | seen.state())
    kept.forget("rounds")
    return run.front()


def _begin(
    run: Evaluations, jumps: Jumps, start: Archs | None, seed: int, kept: Checkpoint
) -> None:
    """Fill the archive: with what was given, and by annealing or at random."""
    run.evaluate(extremes(run.tables))
    if start is not None:
        run.space.validate(start)
        if len(start) == 0:
            raise InvalidInputError("start should hold at least one architecture")
        run.evaluate(start)
    if jumps.slopes(run.model, run.archs[:1]) is not None:
        _anneal(run, jumps, np.random.default_rng([seed, 0]), kept)
    elif start is None:
        # Uniform over architectures favours deep networks, uniform decisions the shallow ones.
        first = min(4096, max(run.left // 16, 16))
        run.evaluate(run.space.sample(first, seed=mixed_seed(seed, 0)))
        run.evaluate(run.space.sample(first, seed=mixed_seed(seed, 1), distribution="decisions"))


def _spread(run: Evaluations) -> FloatArray:
    """Top-1 over cost, the natural unit of a weight; shape (n_tables,)."""
    bounds = run.stack.bounds
    cost = np.maximum(bounds[:, 1] - bounds[:, 0], 1e-300)
    return np.asarray(max(float(np.ptp(run.top1)), 1e-6) / cost)


def _random_weights(
    run: Evaluations, shape: tuple[int, int], rng: np.random.Generator
) -> FloatArray:
    """Directions uniform over the simplex, lengths log-uniform; shape (*shape, n_tables)."""
    direction = rng.dirichlet(np.ones(len(run.tables)), size=shape)
    length = _WEIGHTS[0] * (_WEIGHTS[1] / _WEIGHTS[0]) ** rng.random((*shape, 1))
    return np.asarray(direction * length * _spread(run))


def _anneal(run: Evaluations, jumps: Jumps, rng: np.random.Generator, kept: Checkpoint) -> None:
    """Anneal chains of jumps from random architectures, each under its own weight."""
    budget = _ANNEALING_SHARE * run.left
    n = int(min(_CHAINS, max(budget // (_CHAIN_JUMPS * _CHAIN_STEPS), 4)))
    current, top1, costs = run.evaluate(
        run.space.sample(n, seed=int(rng.integers(2**63)), distribution="decisions")
    )
    if len(current) < n:
        return
    weights = _random_weights(run, (n, 1), rng)
    chains = {
        "chains": current,
        "weights": weights,
        "value": top1 - (costs * weights[:, 0]).sum(axis=1),
    }
    state = kept.restore("annealing")
    if state is not None:
        run.restore(state)
        restore_random(rng, state)
        chains = {
            name: state.take(name, array.dtype, array.shape).copy()
            for name, array in chains.items()
        }
        state.take_archs("chains", run.space)
    current, value = chains["chains"], chains["value"]
    repeated = np.repeat(chains["weights"], _CHAIN_JUMPS, axis=1)
    while run.spent < _ANNEALING_SHARE:
        slopes = jumps.slopes(run.model, current)
        if slopes is None:
            return
        archs, top1, costs = run.evaluate(jumps.propose(current, slopes, repeated, rng))
        if len(archs) < n * _CHAIN_JUMPS:
            return
        archs = archs.reshape(n, _CHAIN_JUMPS, -1)
        values = top1.reshape(n, -1) - (costs.reshape(n, _CHAIN_JUMPS, -1) * repeated).sum(axis=2)
        # To stay is no jump: it would win over every jump that costs a little.
        values[(archs == current[:, None]).all(axis=2)] = -np.inf
        best = values.argmax(axis=1)
        values = values.max(axis=1)
        temperature = _HOT * (_COLD / _HOT) ** (run.spent / _ANNEALING_SHARE)
        moved = np.flatnonzero(value - values < temperature * rng.exponential(size=n))
        value[moved] = values[moved]
        current[moved] = archs[moved, best[moved]]
        kept.keep("annealing", run.count, lambda: run.state() | random_arrays(rng) | chains)


def _jump(run: Evaluations, jumps: Jumps, seen: _Seen, n: int, rng: np.random.Generator) -> Archs:
    """Return new architectures that promise most beyond the archive, at most `n`."""
    origins = _spread_parents(run, -(-n * _PROPOSED // _JUMPS), rng)
    slot = run.space.resolution_slot
    if slot is not None:
        resized = np.flatnonzero(rng.random(len(origins)) < _RESIZED)
        origins[resized, slot] = rng.integers(1, run.space.n_codes[slot], size=len(resized))
    slopes = jumps.slopes(run.model, origins)
    if slopes is None:
        return np.empty_like(origins[:0])
    archs = jumps.propose(origins, slopes, _random_weights(run, (len(origins), _JUMPS), rng), rng)
    new = seen.new(archs)
    archs, owner = np.ascontiguousarray(archs[new]), new // _JUMPS
    estimate = run.model.predict(origins)[owner]
    estimate += jumps.gain(slopes[owner], origins[owner], archs)
    promise = estimate - run.front_at(run.stack(archs))
    return archs[np.argsort(-promise, kind="stable")[:n]]


def _vary(run: Evaluations, n: int, rng: np.random.Generator) -> Archs:
    """Mutations of archive members at several rates, and crossovers; `n` rows."""
    space = run.space
    parents = _spread_parents(run, n, rng)
    n_crossed = n // 3
    partners = _spread_parents(run, n_crossed, rng)
    seeds = rng.integers(2**63, size=4).tolist()
    crossed = space.crossover(np.ascontiguousarray(parents[:n_crossed]), partners, seed=seeds[0])
    mutated = [
        space.mutate(np.ascontiguousarray(part), rate=rate, seed=seed)
        for part, rate, seed in zip(
            np.array_split(parents[n_crossed:], 3),
            (1 / space.n_slots, 2 / space.n_slots, 4 / space.n_slots),
            seeds[1:],
            strict=True,
        )
    ]
    return np.concatenate([crossed, *mutated])


def _spread_parents(run: Evaluations, n: int, rng: np.random.Generator) -> Archs:
    """Draw archive members so that every part of one randomly chosen cost range is as likely."""
    column = run.costs[:, rng.integers(run.costs.shape[1])]
    wanted = rng.uniform(column.min(), column.max(), size=n)
    order = np.argsort(column, kind="stable")
    right = np.searchsorted(column[order], wanted).clip(0, len(order) - 1)
    left = np.maximum(right - 1, 0)
    nearer_left = wanted - column[order[left]] < column[order[right]] - wanted
    return np.ascontiguousarray(run.archs[order[np.where(nearer_left, left, right)]])


class _Seen:
    """Which architectures were evaluated before, by a hash: a few that were not count as seen."""

    def __init__(self, space: SearchSpace) -> None:
        self._flags = np.zeros(1 << _SEEN_BITS, dtype=bool)
        rng = np.random.default_rng(0)
        self._factors = rng.integers(2**63, size=space.n_slots, dtype=np.uint64) * 2 + 1

    def _hash(self, archs: Archs) -> npt.NDArray[np.uint64]:
        # Multiply-shift; uint64 wraps around.
        mixed = ((archs.astype(np.uint64) + 1) * self._factors).sum(axis=1, dtype=np.uint64)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        return np.asarray(mixed >> np.uint64(64 - _SEEN_BITS))

    def add(self, archs: Archs) -> None:
        """Mark as evaluated."""
        self._flags[self._hash(archs)] = True

    def state(self) -> Arrays:
        return {"seen": np.packbits(self._flags)}

    def restore(self, state: State) -> None:
        packed = state.take("seen", np.uint8, (len(self._flags) // 8,))
        self._flags = np.unpackbits(packed).astype(bool)

    def new(self, archs: Archs) -> npt.NDArray[np.intp]:
        """Rows that were not evaluated before, each once."""
        hashes, first = np.unique(self._hash(archs), return_index=True)
        return np.sort(first[~self._flags[hashes]])
