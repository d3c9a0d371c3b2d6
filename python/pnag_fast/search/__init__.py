"""Searches for the front of accuracy against cost: the reference search and its baselines.

All take a space, an accuracy model and cost tables, count their evaluations and their time, and
return a `Front`.
"""

from .baselines import evolution, exhaustive, independent, reinforce
from .classic import nsga2, random
from .reference import front
from .result import Front, extremes, objectives

__all__ = [
    "Front",
    "evolution",
    "exhaustive",
    "extremes",
    "front",
    "independent",
    "nsga2",
    "objectives",
    "random",
    "reinforce",
]
