"""The only part of pnag_fast that touches TVM's own interfaces; importing it loads TVM.

Written for apache-tvm 0.27. TVM moves names between releases: what has to follow is in here.
"""

from __future__ import annotations

from .local import LocalDevice
from .schedules import Machine, Tile, default_tile
from .targets import ResolvedTarget, resolve_target

__all__ = [
    "LocalDevice",
    "Machine",
    "ResolvedTarget",
    "Tile",
    "default_tile",
    "resolve_target",
]
