"""Checks that what this package uses is installed and works: what ``pnag doctor`` prints."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "examine"]

Status = Literal["ok", "absent", "broken"]

# Optional distributions and the extra that brings them.
_OPTIONAL = (
    ("torch", "train"),
    ("scikit-learn", "train"),
    ("pillow", "train"),
    ("matplotlib", "report"),
    ("onnx", "export"),
    ("pyyaml", "ofa"),
)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    status : {"ok", "absent", "broken"}
        ``"absent"`` is an optional dependency that is not installed.
    remedy : str
        What to do; empty where nothing has to be done.
    """

    subject: str
    status: Status
    detail: str
    remedy: str = ""


def examine() -> list[Check]:
    """Look at the interpreter, the extension and every dependency.

    Takes some seconds where TVM is installed: it is tried out in a child process.
    """
    checks = [Check("python", "ok", f"{platform.python_version()} on {platform.platform()}")]
    checks.append(_extension())
    checks += [_optional(name, extra) for name, extra in _OPTIONAL]
    return checks + _tvm()


def _extension() -> Check:
    from . import __version__, _core

    info = ", ".join(f"{key} {value}" for key, value in _core.build_info().items())
    built = _core.build_info().get("version")
    if built != __version__:
        return Check(
            "C++ core",
            "broken",
            f"is of version {built}, the package of {__version__}",
            "install pnag-fast again",
        )
    return Check("C++ core", "ok", info)


def _optional(name: str, extra: str) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "absent", "not installed", f"pip install 'pnag-fast[{extra}]'")


def _tvm() -> list[Check]:
    from .latency import check_tvm

    try:
        importlib.metadata.version("apache-tvm")
    except importlib.metadata.PackageNotFoundError:
        return [_optional("apache-tvm", "tvm")]
    return [
        Check(found.subject, "ok" if found.ok else "broken", found.detail, found.remedy)
        for found in check_tvm()
    ]
