"""The generator: trained once on a front, it emits the architecture for any budget by inference."""

from __future__ import annotations

import warnings
from typing import Any

from .answers import Generated
from .bank import Bank
from .generator import Generator
from .method import GeneratorMethod
from .methods.expert import ExpertSettings
from .methods.pnag import PnagSettings, dominance
from .policies import BudgetPolicy
from .policies.independent import IndependentPolicy
from .policies.lstm import BudgetScale, LstmPolicy
from .training import train_generator

__all__ = [
    "Bank",
    "BudgetPolicy",
    "BudgetScale",
    "ExpertSettings",
    "Generated",
    "Generator",
    "GeneratorMethod",
    "IndependentPolicy",
    "LstmPolicy",
    "PnagSettings",
    "dominance",
    "train_generator",
]


def __getattr__(name: str) -> Any:
    if name == "Policy":
        warnings.warn(
            "pnag_fast.generator.Policy is now called LstmPolicy; what all policies have in common "
            "is BudgetPolicy",
            DeprecationWarning,
            stacklevel=2,
        )
        return LstmPolicy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
