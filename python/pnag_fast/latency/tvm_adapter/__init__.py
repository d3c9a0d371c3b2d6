"""The only part of pnag_fast that touches TVM's own interfaces; importing it loads TVM.

Written for apache-tvm 0.27. TVM moves names between releases: what has to follow is in here.
"""

from __future__ import annotations

from .local import LocalDevice
from .rpc import RpcDevice
from .targets import ResolvedTarget, resolve_target

__all__ = ["LocalDevice", "ResolvedTarget", "RpcDevice", "resolve_target"]
