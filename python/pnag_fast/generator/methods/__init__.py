"""The ways to train a generator, one file of its name each; a new file is found by itself."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from ..method import GeneratorMethod

for _found in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_found.name}")


def known() -> dict[str, type[GeneratorMethod]]:
    """All methods by name, those that a user has defined included."""
    found: dict[str, type[GeneratorMethod]] = {}
    left = GeneratorMethod.__subclasses__()
    while left:
        method = left.pop()
        left += method.__subclasses__()
        if not inspect.isabstract(method):
            found[method.name] = method
    return dict(sorted(found.items()))
