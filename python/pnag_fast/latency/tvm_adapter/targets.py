"""Targets: from what a user writes to what TVM compiles for."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tvm
import tvm.target.codegen as llvm

from ...errors import InvalidInputError
from ..tiles import Machine
from . import llvm_names
from .cuda import EXAMPLE, check_architecture, local_architecture
from .llvm_names import architecture, features, lacking_features

SUPPORTED = (
    "supported are 'llvm' or 'cpu' (this processor with all of its instructions), 'llvm' with "
    "-mcpu=, -mattr= or -mtriple=, and 'cuda' (this machine's device) or 'cuda' with -arch="
)


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
        For a target that this machine cannot run, that names what TVM or LLVM does not know, or
        that says nothing of the processor of a remote device.
    DeviceUnusableError
        For ``cuda`` without an architecture, if this machine has no device to take it from.
    """
    fields = _parse(text)
    if fields.get("kind") == "cuda":
        return _resolve_cuda(fields, text, threads=threads, remote=remote)
    if fields.get("kind") != "llvm":
        raise InvalidInputError(f"target {text!r} is not supported; {SUPPORTED}")
    llvm_names.check_names(fields, text)
    if "host" in fields:
        _check_host(fields["host"], text, remote=remote)
    _target(fields, text)
    triple = fields.get("mtriple")
    here = architecture(platform.machine())
    if remote:
        if not {"mcpu", "mtriple", "mattr"} & set(fields):
            raise InvalidInputError(
                f"target {text!r} does not say what processor the device has; name it, for "
                "example 'llvm -mtriple=aarch64-linux-gnu -mcpu=cortex-a76 -mattr=+neon'"
            )
    else:
        _check_local(fields, here, text)
        cpu = str(llvm.llvm_get_system_cpu())
        if triple is None and fields.get("mcpu", cpu) == cpu:
            fields["mcpu"] = cpu
            lacking = lacking_features(features(_target(fields, text)), here)
            # What a user asks for by name is refused below.
            asked = {name for name in lacking if f"+{name}" in fields.get("mattr", [])}
            masked = [f"-{name}" for name in lacking if name not in asked]
            if masked:
                fields["mattr"] = [*fields.get("mattr", []), *masked]
    target = _target(fields, text)
    if not remote:
        llvm_names.check_runs_here(target, here, text)
    named = here if triple is None else architecture(triple)
    lanes, accumulators = _vector_registers(features(target), named)
    return ResolvedTarget(
        target, json.dumps(fields, sort_keys=True), Machine(lanes, accumulators, threads)
    )


def _check_local(fields: Mapping[str, Any], here: str, text: str) -> None:
    """Refuse a target whose code this machine cannot run, whatever its processor."""
    triple = fields.get("mtriple")
    if triple is None:
        return
    if architecture(triple) != here:
        raise InvalidInputError(
            f"target {text!r} is for {architecture(triple)}, and this machine is {here}: the "
            f"runner 'local' cannot run it, 'rpc://HOST:PORT/KEY' can; {SUPPORTED}"
        )
    llvm_names.check_system(triple, text)


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
    if "host" in fields:
        _check_host(fields["host"], text, remote=remote)
    # Lanes of the widest load, and registers for the sums of a thread.
    machine = Machine(lanes=4, accumulators=32, threads=1, kind="cuda")
    return ResolvedTarget(
        _target(fields, text), json.dumps(fields, sort_keys=True), machine, device_kind="cuda"
    )


def _check_host(host: object, text: str, *, remote: bool) -> None:
    """Check the processor beside a device, for which TVM compiles as well."""
    fields = _parse(host) if isinstance(host, str) else host
    if not isinstance(fields, dict) or fields.get("kind") != "llvm":
        raise InvalidInputError(
            f"target {text!r}: host should be a target of the kind llvm, found {host!r}"
        )
    llvm_names.check_names(fields, text)
    if not remote:
        here = architecture(platform.machine())
        _check_local(fields, here, text)
        llvm_names.check_runs_here(_target(fields, text), here, text)


def _parse(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        try:
            fields = json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, text))
        except InvalidInputError:
            raise
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(f"target {text!r} is not valid JSON: {error}") from None
        return dict(fields)
    kind, *options = text.split() or [""]
    pairs: list[tuple[str, Any]] = [("kind", "llvm" if kind == "cpu" else kind)]
    for option in options:
        name, equals, value = option.lstrip("-").partition("=")
        if not option.startswith("-") or not equals or not value:
            raise InvalidInputError(
                f"target {text!r}: option {option!r} should read -name=value; {SUPPORTED}"
            )
        pairs.append((name, value.split(",") if name == "mattr" else value))
    return _unique(pairs, text)


def _unique(pairs: list[tuple[str, Any]], text: str) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInputError(f"target {text!r} names '{twice}' twice; which one counts?")
    return fields


def _target(fields: Mapping[str, Any], text: str) -> Any:
    try:
        target = tvm.target.Target(dict(fields))
        if target.kind.name == "llvm":
            features(target)  # LLVM looks at some options no earlier
        return target
    except (ValueError, TypeError, RuntimeError, KeyError, OverflowError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InvalidInputError(f"target {text!r} is not known to TVM: {reason}") from error


def _vector_registers(features: frozenset[str], architecture: str) -> tuple[int, int]:
    """Return floats per vector, and how many registers the sums of a tile may fill.

    The rest of the 32 or 16 registers holds one row of weights and the input values.
    """
    if "avx512f" in features:
        return 16, 24
    if "avx" in features:
        return 8, 12
    return 4, 24 if architecture == "aarch64" else 12
