"""The policies that answer budgets, one file each; a new file is found by itself."""

from __future__ import annotations

import importlib
import pkgutil

from .policy import BudgetPolicy

__all__ = ["BudgetPolicy"]

# Files name the kind of their policy, so every kind has to be known before one is read.
for _found in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_found.name}")
