"""Checks that the installed TVM is one that works."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass

from .. import children

# The ranges of pyproject.toml, from the first version that is tested to the first that is not.
TESTED = {"apache-tvm": ((0, 27), (0, 28)), "apache-tvm-ffi": ((0, 1, 14), (0, 1, 15))}

_ROUND_TRIP_SECONDS = 120

# Some combinations of versions end the whole process here, which is why a child is asked.
_ROUND_TRIP = """
import tvm
from tvm import te
x = te.placeholder((8,), "float32", name="x")
y = te.compute((8,), lambda i: x[i] + x[i], name="y")
module = tvm.IRModule({"main": te.create_prim_func([x, y])})
tvm.ir.assert_structural_equal(module, tvm.ir.load_json(tvm.ir.save_json(module)))
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked; `remedy` is empty where nothing has to be done."""

    subject: str
    ok: bool
    detail: str
    remedy: str = ""


def check_tvm() -> list[Finding]:
    """Check that TVM is installed, of a tested version, and can save and load a module.

    The last takes some seconds, in a child process that a crash cannot leave.
    """
    remedy = "pip install 'pnag-fast[tvm]'"
    findings = []
    installed = True
    for package, (first, end) in TESTED.items():
        tested = f"tested: {_text(first)} up to, without, {_text(end)}"
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            installed = False
            findings.append(Finding(package, False, f"not installed; {tested}", remedy))
            continue
        ok = first <= _numbers(version) < end
        detail = f"{version}; {tested}"
        findings.append(Finding(package, ok, detail, "" if ok else remedy))
    if installed and importlib.util.find_spec("tvm") is not None:
        findings.append(_check_round_trip(remedy))
    return findings


def _check_round_trip(remedy: str) -> Finding:
    subject = "TVM module survives JSON"
    ended = children.run(_ROUND_TRIP, timeout_s=_ROUND_TRIP_SECONDS)
    if ended.code is None:
        return Finding(subject, False, f"no answer in {_ROUND_TRIP_SECONDS} s", remedy)
    if ended.code == 0:
        return Finding(subject, True, "yes")
    if ended.code < 0:
        detail = f"the process died of signal {-ended.code}"
    else:
        lines = ended.output.strip().splitlines()
        detail = lines[-1] if lines else f"exit code {ended.code}"
    return Finding(subject, False, detail, remedy)


def _numbers(version: str) -> tuple[int, ...]:
    """Leading numbers of a version: ``0.27.0.post1`` is (0, 27, 0)."""
    numbers = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
