"""Additive costs of architectures: latency, energy, multiply-adds, parameters.

A cost table is ``constant + sum over slots of entry[slot, code]`` (or the maximum, for peak
memory). Where a space lets the architecture choose its input resolution, a table has one set of
entries per resolution, since no cost of a network is additive over its layers and its resolution.
"""

from __future__ import annotations

from ..agreement import relative as agreement
from ..agreement import spearman
from .adding import add
from .counts import from_blocks, macs, parameters
from .csv_files import load_measured, save_measured
from .fitting import fit
from .once_for_all import from_ofa_yaml
from .posterior import Posterior
from .table import CostStack, CostTable, stack

__all__ = [
    "CostStack",
    "CostTable",
    "Posterior",
    "add",
    "agreement",
    "fit",
    "from_blocks",
    "from_ofa_yaml",
    "load_measured",
    "macs",
    "parameters",
    "save_measured",
    "spearman",
    "stack",
]
