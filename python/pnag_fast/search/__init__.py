"""Searches for the front of quality against cost: the reference search, and what it is compared to.

Every method is one file of `pnag_fast.search.methods`, a frozen dataclass of its settings, and is
called as a function of the same name: ``pf.search.nsga2(space, model, tables, population=100)``.
All take a space, a model or an oracle, and cost tables, count what they ask, and return a `Front`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from . import methods
from .constrained import constrained, filled, first_estimate
from .method import Draws, Method, SearchFunction, search_function
from .problem import Problem
from .result import Front, extremes, objectives

# The methods themselves are found below.
__all__ = [
    "Draws",
    "Front",
    "Method",
    "Problem",
    "SearchFunction",
    "constrained",
    "extremes",
    "filled",
    "first_estimate",
    "methods",
    "names",
    "objectives",
]

# Every file there is a method or more; nothing else names them.
for _found in pkgutil.iter_modules(methods.__path__):
    importlib.import_module(f"{methods.__name__}.{_found.name}")


def _methods() -> dict[str, type[Method]]:
    found: dict[str, type[Method]] = {}
    left = Method.__subclasses__()
    while left:
        method = left.pop()
        left += method.__subclasses__()
        if not inspect.isabstract(method):
            found[method.name] = method
    return found


def names() -> list[str]:
    """Names of all methods, those that a user has defined included."""
    return sorted(_methods())


def __getattr__(name: str) -> SearchFunction:
    method = None if name.startswith("_") else _methods().get(name)
    if method is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return search_function(method)


def __dir__() -> list[str]:
    return sorted((*__all__, *names()))
