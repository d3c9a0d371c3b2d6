"""Samplers of Optuna, told the error and every cost of each architecture in turn.

pip install optuna scipy torch      # the last two for its Gaussian process
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np

from pnag_fast.costs import CostTable
from pnag_fast.spaces import SearchSpace

from .questions import Judge, Questions

Sampler = Literal["tpe", "nsga2", "gp"]


def available(sampler: Sampler = "tpe") -> bool:
    """Whether Optuna is installed, and what the sampler needs beside it."""
    needed = ("optuna", "scipy", "torch") if sampler == "gp" else ("optuna",)
    return all(importlib.util.find_spec(name) is not None for name in needed)


def search(
    space: SearchSpace,
    judge: Judge,
    tables: Sequence[CostTable],
    *,
    seed: int,
    evaluations: int,
    sampler: Sampler = "tpe",
) -> None:
    """Ask about architectures, a categorical parameter for each decision.

    Settings are Optuna's own: ten random trials first for TPE and the Gaussian process (log
    expected hypervolume improvement), a population of 50 for NSGA-II. TPE is the multivariate one:
    the other, which is the default, asks the same again and again, and is worse. Optuna takes no
    objective for known, so it learns the costs as well.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # That multivariate TPE is experimental; what SciPy deprecates.
    warnings.simplefilter("ignore")
    samplers = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True),
        "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed, deterministic_objective=True),
    }
    ask = Questions(space, judge, tables, evaluations)
    study = optuna.create_study(
        directions=["minimize"] * ask.n_objectives, sampler=samplers[sampler]()
    )
    parameters = {
        f"decision {i}": optuna.distributions.CategoricalDistribution(range(n))
        for i, n in enumerate(ask.options.tolist())
    }
    while ask.left > 0:
        trial = study.ask(parameters)
        x = np.array([[trial.params[name] for name in parameters]])
        study.tell(trial, ask(x)[0].tolist())
