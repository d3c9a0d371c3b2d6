"""What TVM needs to know of CUDA beyond the code: the device, the architecture, the compiler."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from typing import Any

import tvm

from ...errors import InvalidInputError
from ..device import DeviceUnusableError

EXAMPLE = "'cuda -arch=sm_80'"

# Names either of TVM's two ways to compile CUDA source.
_COMPILER_VARIABLE = "TVM_CUDA_COMPILE_MODE"


def local_device() -> Any:
    """Return the first CUDA device of this machine.

    Raises
    ------
    DeviceUnusableError
        If there is none that TVM can use, or nothing to compile for it with.
    """
    device = tvm.cuda(0)
    if not device.exist:
        raise DeviceUnusableError(
            "this machine has no CUDA device that TVM can use: TVM looks for the driver "
            "(libcuda.so.1) and the CUDA 13 runtime (libcudart.so.13); a device elsewhere is "
            "reached with the runner rpc://HOST:PORT/KEY"
        )
    _choose_compiler()
    return device


def local_architecture() -> str:
    """Return the architecture of the first CUDA device of this machine, such as ``sm_80``."""
    return "sm_" + str(local_device().compute_version).replace(".", "")


def check_architecture(name: object, text: str) -> None:
    """Refuse what is not the name of an architecture: TVM would compile for another one."""
    if not isinstance(name, str) or not re.fullmatch(r"sm_\d{2,3}[af]?", name):
        raise InvalidInputError(
            f"target {text!r}: the architecture should be like sm_80, found {name!r}; "
            f"for example {EXAMPLE}"
        )


def _choose_compiler() -> None:
    """Have TVM use the compiler that is there; by itself it looks for NVRTC only."""
    if os.environ.get(_COMPILER_VARIABLE) or _has_nvrtc():
        return
    if shutil.which("nvcc") is None:
        raise DeviceUnusableError(
            "TVM compiles CUDA source with nvcc or with the Python package cuda-bindings, and "
            "neither is here"
        )
    os.environ[_COMPILER_VARIABLE] = "nvcc"


def _has_nvrtc() -> bool:
    try:
        return importlib.util.find_spec("cuda.bindings") is not None
    except ModuleNotFoundError:
        return False
