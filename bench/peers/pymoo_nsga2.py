"""NSGA-II of pymoo on the decisions of a search space."""

from __future__ import annotations

import importlib.util

import numpy as np

import pnag_fast as pf
from pnag_fast.accuracy import AccuracyModel
from pnag_fast.accuracy.oracle import Oracle
from pnag_fast.costs import CostTable
from pnag_fast.search import Front, objectives
from pnag_fast.spaces import SearchSpace
from pnag_fast.spaces.decisions import Decisions

# Children for each one that is new, where only those count, after which no more is new.
_AGAIN = 20


def available() -> bool:
    """Whether pymoo is installed."""
    return importlib.util.find_spec("pymoo") is not None


def search(
    space: SearchSpace,
    model: AccuracyModel | Oracle,
    tables: list[CostTable],
    *,
    seed: int,
    evaluations: int,
    population: int = 200,
    mutation_rate: float = 0.1,
) -> Front:
    """Uniform crossover, and mutation that redraws a decision; duplicates are eliminated.

    Of an oracle, architectures that are new in this search are counted, as by our own methods; of
    the last generation too many are asked. Whoever compares cuts what was asked.
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.mutation import Mutation
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.ux import UX
    from pymoo.operators.sampling.rnd import IntegerRandomSampling

    decisions = Decisions(space)
    options = np.array([d.n_options for d in decisions.decisions])
    stack = pf.costs.stack(tables)
    ask = model if isinstance(model, Oracle) else model.predict
    seen = []
    distinct: set[bytes] = set()

    class Search(Problem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(
                n_var=len(options), n_obj=1 + len(tables), xl=0, xu=options - 1, vtype=int
            )

        def _evaluate(self, x: np.ndarray, out: dict[str, np.ndarray], *_: object) -> None:
            archs = decisions.decode(x.astype(np.int64))
            top1, costs = ask(archs), stack(archs)
            seen.append((archs, top1, costs))
            distinct.update(arch.tobytes() for arch in archs)
            out["F"] = objectives(top1, costs)

    class Redraw(Mutation):  # type: ignore[misc]
        def _do(
            self, problem: object, x: np.ndarray, random_state: object = None, **_: object
        ) -> np.ndarray:
            del problem, random_state
            return np.where(
                rng.random(x.shape) < mutation_rate, rng.integers(options, size=x.shape), x
            )

    rng = np.random.default_rng(seed)
    algorithm = NSGA2(
        pop_size=population,
        sampling=IntegerRandomSampling(),
        crossover=UX(),
        mutation=Redraw(prob=1.0),
    )
    # More generations than an oracle can need: below, what is new is counted.
    most = evaluations * (_AGAIN if isinstance(model, Oracle) else 1)
    algorithm.setup(Search(), termination=("n_eval", most), seed=seed)
    while algorithm.has_next() and not (isinstance(model, Oracle) and len(distinct) >= evaluations):
        algorithm.next()
    archs, top1, costs = (np.concatenate(part) for part in zip(*seen, strict=True))
    return Front.of(
        archs,
        top1,
        costs,
        tables,
        accuracy_source=model.source,
        evaluations=len(archs),
        seconds=0.0,
    )
