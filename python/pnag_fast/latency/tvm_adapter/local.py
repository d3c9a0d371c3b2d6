"""Compiling programs and running them in this process."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi

from ...errors import MeasurementError
from ...progress import ProgressCallback
from ..device import Conditions, DeviceLostError
from ..networks import Floats, Program
from ..tiles import Machine
from .compiling import KERNELS_VERSION, compile_programs, error_text
from .cuda import local_device
from .programs import DevicePrograms, Programs
from .targets import resolve_target

# The clock of everything that runs on a CUDA device.
CUDA_CLOCK = "cuda events"


class LocalDevice:
    """The processor or the CUDA device of this machine, used from this process.

    With one thread nothing is parallel and TVM's thread pool never starts, so time is the CPU time
    of the calling thread, which other processes disturb far less than the time on the wall. A CUDA
    device is timed by its own events, from the launch of the first kernel to the end of the last.
    """

    count = 1

    def __init__(self, target: str, *, threads: int = 1) -> None:
        self._target = resolve_target(target, threads=threads)
        self._threads = threads
        self._cuda = local_device() if self._target.device_kind == "cuda" else None
        self._processor = processor_name() if self._cuda is None else str(self._cuda.device_name)

    @property
    def name(self) -> str:
        """Model of the processor, and the threads used; model of the CUDA device."""
        if self._cuda is not None:
            return self._processor
        return f"{self._processor}, {self._threads} thread{'s' * (self._threads > 1)}"

    @property
    def machine(self) -> Machine:
        """What the rules for schedules have to know."""
        return self._target.machine

    @property
    def conditions(self) -> Conditions:
        """Target, processor, versions and clock."""
        return {
            "target": self._target.text,
            "runner": "local",
            "processor": self._processor,
            "threads": self._threads,
            "governor": _governor(),
            "clock": "thread" if self._threads == 1 else "wall",
            **versions(),
            **({} if self._cuda is None else _cuda_conditions(self._cuda)),
        }

    def compile(
        self,
        programs: Mapping[str, Program],
        parameters: Mapping[str, Mapping[str, Floats]],
        progress: ProgressCallback,
    ) -> _LocalPrograms | DevicePrograms:
        """Compile all programs into one module, in which equal kernels are compiled once."""
        loaded = (
            _LocalPrograms(self._threads)
            if self._cuda is None
            else DevicePrograms(self._cuda, _lost_context)
        )
        loaded.failures = compile_programs(
            programs,
            self._target,
            progress,
            lambda compiled, executable: loaded.add(compiled, executable, parameters),
        )
        return loaded

    def close(self) -> None:
        """Nothing is held beyond the loaded programs."""


class _LocalPrograms(Programs):
    """Programs that run in this thread, or in TVM's pool of threads."""

    def __init__(self, threads: int) -> None:
        super().__init__(tvm.cpu())
        self._threads = threads

    def seconds(self, name: str, number: int) -> float:
        """Run a program `number` times and return the seconds of all."""
        machine, function = self.machine(name)
        invoke = machine.module["invoke_stateful"]
        clock = time.thread_time if self._threads == 1 else time.perf_counter
        with _thread_pool(self._threads):
            try:
                # A loop here and not TVM's time_evaluator: that one reads the wall clock only.
                start = clock()
                for _ in itertools.repeat(None, number):
                    invoke(function)
                return clock() - start
            except RuntimeError as error:
                raise MeasurementError(f"program '{name}': {error_text(error)}") from error

    def run(self, name: str, image: Floats) -> Floats:
        """Run a program on one image."""
        with _thread_pool(self._threads):
            return super().run(name, image)


@contextlib.contextmanager
def _lost_context(doing: str) -> Iterator[None]:
    """After an error on the device, CUDA refuses everything else in the same process."""
    try:
        yield
    except RuntimeError as error:
        raise DeviceLostError(f"CUDA failed at '{doing}': {error_text(error)}", doing) from error


class _thread_pool:  # noqa: N801 - reads as a statement
    """Give TVM's pool a size, and afterwards the calling thread its processors back.

    The pool pins the thread that starts it, and everything in this process that comes later
    (torch, say) would inherit that.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._affinity: set[int] | None = None

    def __enter__(self) -> None:
        if self._threads == 1:
            return
        if hasattr(os, "sched_getaffinity"):
            self._affinity = os.sched_getaffinity(0)
        tvm_ffi.get_global_func("runtime.config_threadpool")(0, self._threads)

    def __exit__(self, *_: object) -> None:
        if self._affinity is not None:
            os.sched_setaffinity(0, self._affinity)


def versions() -> dict[str, str | int]:
    """Return what has to be the same before two compiled kernels can be."""
    return {
        "tvm": str(tvm.__version__),
        "tvm_ffi": importlib.metadata.version("apache-tvm-ffi"),
        "kernels": KERNELS_VERSION,
    }


def processor_name() -> str:
    """Model of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine() or "unknown processor"


def _cuda_conditions(device: Any) -> Conditions:
    return {
        "governor": "unknown",
        "clock": CUDA_CLOCK,
        "compute_capability": str(device.compute_version),
        "cuda": str(device.api_version),
    }


def _governor() -> str:
    """Frequency governor, where the operating system shows one."""
    try:
        path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return "unknown"
