"""From what a user writes as a runner to the devices behind it."""

from __future__ import annotations

import importlib.util
import os
import re
from typing import Any

from .. import arguments
from ..errors import InvalidInputError, InvalidTypeError, MeasurementError, MissingDependencyError
from .device import Device
from .fleet import Fleet
from .worker import DeviceSpec, WorkerDevice

_RPC = re.compile(r"rpc://(?P<host>[^:/\[\]]+|\[[^\]]+\]):(?P<port>\d{1,5})/(?P<key>[^/\s]+)")

# Longest silence of a device, in seconds, and how long to wait for one when none is there.
TIMEOUT_S = 120.0
PATIENCE_S = 60.0


def open_fleet(
    target: str,
    *,
    runner: str = "local",
    threads: int = 1,
    timeout_s: float = TIMEOUT_S,
    patience_s: float = PATIENCE_S,
    max_devices: int | None = None,
) -> Fleet:
    """Open the devices behind a target and a runner, each in a child process.

    On this machine there is one device; where a core is left, a second child compiles while the
    first one runs. Behind a tracker there are as many as it knows under the key at this moment, or
    `max_devices` if that is less.

    Raises
    ------
    MissingDependencyError
        If TVM is not installed.
    InvalidInputError
        For a target or runner that is not supported.
    MeasurementError
        If there is no such device.
    """
    _check_text(target, "target", "llvm")
    _check_text(runner, "runner", "local")
    threads = arguments.integer(threads, "threads", 1, 1024)
    timeout_s = arguments.number(timeout_s, "timeout_s", 0, 1e6, above=True)
    patience_s = arguments.number(patience_s, "patience_s", 0, 1e6, above=True)
    if max_devices is not None:
        max_devices = arguments.integer(max_devices, "max_devices", 1)
    spec = _device_spec(target, runner, threads, patience_s)
    _require_tvm()
    device = WorkerDevice(spec, timeout_s=max(timeout_s, 2 * patience_s))
    device.timeout_s = timeout_s
    if runner != "local":
        count = device.count if max_devices is None else min(device.count, max_devices)
        devices = [device, *(device.twin() for _ in range(count - 1))]
        return Fleet(devices, measure_alone=False, patience_s=patience_s)
    spare = _usable_cores() > threads
    return Fleet([device, *([device.twin()] if spare else [])], patience_s=patience_s)


def open_device(target: str, *, threads: int = 1) -> Device:
    """Open this machine in this process; loads TVM."""
    _check_text(target, "target", "llvm")
    threads = arguments.integer(threads, "threads", 1, 1024)
    return load_adapter().LocalDevice(target, threads=threads)  # type: ignore[no-any-return]


def _check_text(value: object, name: str, example: str) -> None:
    if not isinstance(value, str):
        raise InvalidTypeError(
            f"{name} should be a text such as {example!r}, found {arguments.shown(value)}"
        )


def _require_tvm() -> None:
    """Look for TVM without loading it, before a child does."""
    try:
        found = importlib.util.find_spec("tvm") is not None
    except ImportError:  # somebody's own importer refuses it
        found = False
    if not found:
        raise MissingDependencyError("tvm", "tvm", "measuring latency")


def load_adapter() -> Any:
    """Import what touches TVM, and say clearly why that fails if it does."""
    try:
        from . import tvm_adapter
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("tvm", "tvm_ffi"):
            raise MissingDependencyError("tvm", "tvm", "measuring latency") from None
        raise
    except (ImportError, OSError, AttributeError) as error:
        raise MeasurementError(
            f"TVM is installed but does not load ({error}); 'pnag doctor' says which versions are "
            "tested, and pip install 'pnag-fast[tvm]' installs them"
        ) from error
    return tvm_adapter


def local_device(**options: Any) -> Device:
    """Make the device of this machine, in a child process."""
    return load_adapter().LocalDevice(**options)  # type: ignore[no-any-return]


def rpc_device(**options: Any) -> Device:
    """Make a device behind a tracker, in a child process."""
    return load_adapter().RpcDevice(**options)  # type: ignore[no-any-return]


def _device_spec(target: str, runner: str, threads: int, patience_s: float) -> DeviceSpec:
    options: dict[str, Any] = {"target": target, "threads": threads}
    if runner == "local":
        return DeviceSpec(f"{__name__}:local_device", options)
    match = _RPC.fullmatch(runner)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise InvalidInputError(
            f"runner {runner!r} is not supported; supported are 'local', this machine, and "
            "'rpc://HOST:PORT/KEY', the devices that a TVM tracker knows under a key"
        )
    options |= {
        "host": match["host"].strip("[]"),
        "port": int(match["port"]),
        "key": match["key"],
        "patience_s": patience_s,
    }
    return DeviceSpec(f"{__name__}:rpc_device", options)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
