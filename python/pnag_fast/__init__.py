"""pnag_fast: the Pareto-optimal network for any budget, by inference alone.

Importing this package loads neither torch nor TVM nor a plotting library; the submodules that need
them are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import (
        accuracy,
        costs,
        data,
        errors,
        export,
        generator,
        latency,
        pareto,
        report,
        search,
        spaces,
        supernet,
    )
    from .costs import CostTable
    from .errors import BudgetInfeasibleError, PnagError
    from .generator import Generator, train_generator
    from .search import Front
    from .spaces import SearchSpace

_MODULES = frozenset(
    {
        "accuracy",
        "costs",
        "data",
        "errors",
        "export",
        "generator",
        "latency",
        "pareto",
        "report",
        "search",
        "spaces",
        "supernet",
    }
)
_NAMES = {
    "BudgetInfeasibleError": "errors",
    "CostTable": "costs",
    "Front": "search",
    "Generator": "generator",
    "PnagError": "errors",
    "SearchSpace": "spaces",
    "train_generator": "generator",
}

__all__ = [
    "BudgetInfeasibleError",
    "CostTable",
    "Front",
    "Generator",
    "PnagError",
    "SearchSpace",
    "__version__",
    "accuracy",
    "costs",
    "data",
    "errors",
    "export",
    "generator",
    "latency",
    "pareto",
    "report",
    "search",
    "spaces",
    "supernet",
    "train_generator",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _NAMES:
        return getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
