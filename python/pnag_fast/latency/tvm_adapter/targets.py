"""Targets: from what a user writes to what TVM compiles for."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
import tvm.target.codegen as llvm

from ...errors import InvalidInputError
from ..tiles import Machine
from .cuda import EXAMPLE, check_architecture, local_architecture

SUPPORTED = (
    "supported are 'llvm' or 'cpu' (this processor with all of its instructions), 'llvm' with "
    "-mcpu=, -mattr= or -mtriple=, and 'cuda' (this machine's device) or 'cuda' with -arch="
)

# LLVM's name of each instruction set that compiled code may contain, and that of Linux.
_X86_FEATURES = {
    "sse3": "pni",
    "ssse3": "ssse3",
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
    "avx": "avx",
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "bmi": "bmi1",
    "bmi2": "bmi2",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512cd": "avx512cd",
    "avx512dq": "avx512dq",
    "avx512vl": "avx512vl",
}


@dataclass(frozen=True)
class ResolvedTarget:
    """A target that names its processor, and what the schedules need to know of it."""

    target: Any
    text: str
    machine: Machine
    device_kind: str = "cpu"  # as TVM names it


def resolve_target(text: str, *, threads: int, remote: bool = False) -> ResolvedTarget:
    """Parse `text`; for this machine, fill in the processor where none is named.

    Accepts TVM's JSON form and the older ``llvm -mcpu=...`` form, which TVM itself has dropped.
    ``cpu`` is short for ``llvm``. The host of a remote CUDA device is taken to be a processor like
    this one, unless the JSON form says otherwise under ``host``.

    Raises
    ------
    InvalidInputError
        For a target that this machine cannot run, that TVM does not know, or that says nothing of
        the processor of a remote device.
    DeviceUnusableError
        For ``cuda`` without an architecture, if this machine has no device to take it from.
    """
    fields = _parse(text)
    if fields.get("kind") == "cuda":
        return _resolve_cuda(fields, text, threads=threads, remote=remote)
    if fields.get("kind") != "llvm":
        raise InvalidInputError(f"target {text!r} is not supported; {SUPPORTED}")
    triple = fields.get("mtriple")
    here = _architecture(platform.machine())
    architecture = here if triple is None else _architecture(triple)
    if remote:
        if not {"mcpu", "mtriple", "mattr"} & set(fields):
            raise InvalidInputError(
                f"target {text!r} does not say what processor the device has; name it, for "
                "example 'llvm -mtriple=aarch64-linux-gnu -mcpu=cortex-a76 -mattr=+neon'"
            )
    elif architecture != here:
        raise InvalidInputError(
            f"target {text!r} is for {architecture}, and this machine is {here}: the runner "
            f"'local' cannot run it, 'rpc://HOST:PORT/KEY' can; {SUPPORTED}"
        )
    elif "mcpu" not in fields and triple is None:
        fields["mcpu"] = str(llvm.llvm_get_system_cpu())
        masked = _masked_features(_features(_target(fields, text)))
        if masked:
            fields["mattr"] = [*fields.get("mattr", []), *masked]
    target = _target(fields, text)
    lanes, accumulators = _vector_registers(_features(target), architecture)
    return ResolvedTarget(
        target, json.dumps(fields, sort_keys=True), Machine(lanes, accumulators, threads)
    )


def _resolve_cuda(
    fields: dict[str, Any], text: str, *, threads: int, remote: bool
) -> ResolvedTarget:
    if threads != 1:
        raise InvalidInputError(f"a CUDA device has no number of threads to choose: {threads}")
    if "arch" not in fields:
        if remote:
            raise InvalidInputError(
                f"target {text!r} does not say what architecture the device has; name it, for "
                f"example {EXAMPLE}"
            )
        fields["arch"] = local_architecture()
    check_architecture(fields["arch"], text)
    # Lanes of the widest load, and registers for the sums of a thread.
    machine = Machine(lanes=4, accumulators=32, threads=1, kind="cuda")
    return ResolvedTarget(
        _target(fields, text), json.dumps(fields, sort_keys=True), machine, device_kind="cuda"
    )


def _parse(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(f"target {text!r} is not valid JSON: {error}") from None
        return dict(fields)
    kind, *options = text.split() or [""]
    fields = {"kind": "llvm" if kind == "cpu" else kind}
    for option in options:
        name, equals, value = option.lstrip("-").partition("=")
        if not option.startswith("-") or not equals or not value:
            raise InvalidInputError(
                f"target {text!r}: option {option!r} should read -name=value; {SUPPORTED}"
            )
        fields[name] = value.split(",") if name == "mattr" else value
    return fields


def _target(fields: Mapping[str, Any], text: str) -> Any:
    try:
        return tvm.target.Target(dict(fields))
    except (ValueError, TypeError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InvalidInputError(f"target {text!r} is not known to TVM: {reason}") from error


def _features(target: Any) -> frozenset[str]:
    return frozenset(str(name) for name in llvm.llvm_get_cpu_features(target))


def _architecture(name: str) -> str:
    """Reduce a triple or a machine name to its architecture."""
    first = name.partition("-")[0].lower()
    return {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}.get(first, first)


def _masked_features(expected: frozenset[str]) -> list[str]:
    """List what LLVM expects of this processor and the operating system does not show.

    LLVM goes by the processor's model; a hypervisor may hide instructions of it, and code that
    uses them dies with SIGILL.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), None)
    if flags is None:
        return []
    return [
        f"-{name}" for name, flag in _X86_FEATURES.items() if name in expected and flag not in flags
    ]


def _vector_registers(features: frozenset[str], architecture: str) -> tuple[int, int]:
    """Return floats per vector, and how many registers the sums of a tile may fill.

    The rest of the 32 or 16 registers holds one row of weights and the input values.
    """
    if "avx512f" in features:
        return 16, 24
    if "avx" in features:
        return 8, 12
    return 4, 24 if architecture == "aarch64" else 12
