"""Additive costs of architectures: latency, energy, multiply-adds, parameters.

A cost table is ``constant + sum over slots of entry[slot, code]`` (or the maximum, for peak
memory). Where a space lets the architecture choose its input resolution, a table has one set of
entries per resolution, since no cost of a network is additive over its layers and its resolution.
"""

from __future__ import annotations

from ..agreement import relative as agreement
from ..agreement import spearman
from .adding import add
from .counts import from_blocks, macs, parameters, peak_memory
from .csv_files import load_measured, save_measured
from .fitting import fit
from .least import Least, least
from .once_for_all import from_ofa_yaml
from .posterior import Posterior
from .table import CostStack, CostTable, stack

__all__ = [
    "CostStack",
    "CostTable",
    "Least",
    "Posterior",
    "add",
    "agreement",
    "fit",
    "from_blocks",
    "from_ofa_yaml",
    "least",
    "load_measured",
    "macs",
    "parameters",
    "peak_memory",
    "save_measured",
    "spearman",
    "stack",
]
