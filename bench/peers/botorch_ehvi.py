"""Bayesian optimisation by BoTorch: log expected hypervolume improvement over a pool.

pip install botorch
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from pnag_fast.costs import CostTable
from pnag_fast.search import extremes
from pnag_fast.spaces import SearchSpace
from pnag_fast.spaces.decisions import Decisions
from pnag_fast.typing import IntArray

from .questions import Judge, Questions

# Architectures first; times the answers of the last fit of the kernel at which it is fitted anew;
# architectures among which the next one is chosen; draws from the posterior.
INITIAL, REFIT, POOL, DRAWS = 20, 1.4, 500, 32
# Neighbours of the front among them; steps of the optimiser for one fit, which goes on from the
# last one; standard deviations within which an improvement may lie.
NEAR, STEPS, HOPE = 300, 200, 2


def available() -> bool:
    """Whether BoTorch is installed."""
    return importlib.util.find_spec("botorch") is not None


def search(
    space: SearchSpace,
    judge: Judge,
    tables: Sequence[CostTable],
    *,
    seed: int,
    evaluations: int,
    initial: int = INITIAL,
    refit: float = REFIT,
    pool: int = POOL,
) -> None:
    """Ask about `initial` architectures, then about one at a time.

    The first are the cheapest and the dearest by every table, as in our own active search, and
    random ones. The error has a Gaussian process on one-hot codes with BoTorch's own kernel and
    priors: given every answer at once, its hyperparameters fitted anew at `refit` times as many.
    Costs are known, and enter as a deterministic model. Asked is the best of `pool` architectures
    drawn uniformly, and of `NEAR` neighbours of those on the front by now, of which none was asked
    before. The acquisition is computed where `HOPE` standard deviations may reach beyond the front
    only: it is next to nothing elsewhere, and takes most of the time. The reference is the worst
    answered by then: that of the front, BoTorch's own, leaves its ends unasked.
    """
    import torch
    from botorch.acquisition.multi_objective.logei import qLogExpectedHypervolumeImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import ModelList, SingleTaskGP
    from botorch.models.deterministic import GenericDeterministicModel
    from botorch.sampling.get_sampler import get_sampler
    from botorch.utils.multi_objective.box_decompositions import FastNondominatedPartitioning
    from botorch.utils.multi_objective.pareto import is_non_dominated
    from gpytorch.mlls import ExactMarginalLogLikelihood

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    ask = Questions(space, judge, tables, evaluations)
    blocks = [np.eye(n) for n in ask.options]
    stops = np.cumsum(ask.options)

    def drawn(n: int) -> IntArray:
        return np.asarray(rng.integers(ask.options, size=(n, len(ask.options))))

    def one_hot(x: IntArray) -> Any:
        return torch.from_numpy(np.hstack([b[c] for b, c in zip(blocks, x.T, strict=True)]))

    def costs_of(codes: Any) -> Any:
        parts = np.split(codes.numpy().reshape(-1, stops[-1]), stops[:-1], axis=1)
        x = np.column_stack([part.argmax(axis=1) for part in parts])
        return torch.from_numpy(-ask.costs(x) / unit).reshape(*codes.shape[:-1], -1)

    # Equal scales: what smooths the logarithm is in units of the objectives.
    unit = ask.costs(drawn(pool)).std(axis=0)
    ends = Decisions(space, by="slot").encode(extremes(tables))
    asked = np.unique(np.vstack([ends, drawn(initial)[len(ends) :]]), axis=0)
    values = ask(asked)
    names = {row.tobytes() for row in asked}
    kept: Any = None
    fitted = 0
    while ask.left > 0:
        x = one_hot(asked)
        error = values[:, 0]
        merit = torch.from_numpy(-(error - error.mean()) / error.std(ddof=1))[:, None]
        model = SingleTaskGP(x, merit, outcome_transform=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kept is not None:
                model.load_state_dict(kept)
            if len(asked) >= fitted * refit:
                fit_gpytorch_mll(
                    ExactMarginalLogLikelihood(model.likelihood, model),
                    optimizer_kwargs={"options": {"maxiter": STEPS}},
                )
                kept, fitted = model.state_dict(), len(asked)
            model.eval()
            both = ModelList(model, GenericDeterministicModel(costs_of, len(tables)))
            y = torch.hstack([merit, torch.from_numpy(-values[:, 1:] / unit)])
            front = is_non_dominated(y)
            reference = y.min(dim=0).values
            improvement = qLogExpectedHypervolumeImprovement(
                both,
                ref_point=reference,
                partitioning=FastNondominatedPartitioning(reference, y),
                sampler=get_sampler(both.posterior(x[:1]), torch.Size([DRAWS]), seed=seed),
            )
            near = rng.permutation(_neighbours(asked[front.numpy()], ask.options))[:NEAR]
            candidates = np.unique(np.vstack([drawn(pool), near]), axis=0)
            candidates = np.array([row for row in candidates if row.tobytes() not in names])
            with torch.no_grad():
                codes = one_hot(candidates)
                seen = model.posterior(codes)
                hoped = torch.hstack([seen.mean + HOPE * seen.variance.sqrt(), costs_of(codes)])
                below = (hoped[:, None] <= y[front]).all(dim=-1).any(dim=-1)
                rows = torch.nonzero(~below)[:, 0] if not below.all() else torch.arange(len(below))
                chosen = rows[improvement(codes[rows][:, None]).argmax()]
            best = candidates[int(chosen)]
        asked = np.vstack([asked, best])
        names.add(best.tobytes())
        values = np.vstack([values, ask(best[None])])


def _neighbours(x: IntArray, options: IntArray) -> IntArray:
    """Every row with one decision taken otherwise."""
    found = []
    for i, n in enumerate(options):
        for option in range(n):
            changed = x.copy()
            changed[:, i] = option
            found.append(changed[x[:, i] != option])
    return np.vstack(found)
