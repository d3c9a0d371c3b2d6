"""Compiling programs with Relax and running them in this process."""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import relax
from tvm.relax.backend.cpu_generic.pipeline import dataflow_lower_passes, finalize_passes

from ...errors import MeasurementError
from ...progress import ProgressCallback
from ..device import Conditions
from ..networks import INPUT, Floats, Program
from .schedules import scheduled
from .targets import ResolvedTarget, resolve_target

# Raised whenever the code that is generated for a kernel changes: older measurements are of
# other code.
_KERNELS_VERSION = 1


class LocalDevice:
    """The processor of this machine, used from this process.

    With one thread nothing is parallel and TVM's thread pool never starts, so time is the CPU time
    of the calling thread, which other processes disturb far less than the time on the wall.
    """

    def __init__(self, target: str, *, threads: int = 1) -> None:
        self._target = resolve_target(target, threads=threads)
        self._threads = threads
        self._processor = processor_name()

    @property
    def name(self) -> str:
        """Model of the processor, and the threads used."""
        return f"{self._processor}, {self._threads} thread{'s' * (self._threads > 1)}"

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
            "tvm": str(tvm.__version__),
            "tvm_ffi": importlib.metadata.version("apache-tvm-ffi"),
            "kernels": _KERNELS_VERSION,
        }

    def compile(
        self,
        programs: Mapping[str, Program],
        parameters: Mapping[str, Mapping[str, Floats]],
        progress: ProgressCallback,
    ) -> _LocalPrograms:
        """Compile all programs into one module, in which equal kernels are compiled once."""
        kernels, failures = self._scheduled_kernels(programs, progress)
        good = {name: program for name, program in programs.items() if name not in failures}
        loaded = _LocalPrograms(failures, self._threads)
        progress("compiling", 0, len(good))
        try:
            loaded.add(good, _build(good, kernels, self._target), parameters)
        except RuntimeError:
            # One program spoils a shared module: compile each on its own to learn which it is.
            for done, (name, program) in enumerate(good.items()):
                progress("compiling one by one", done, len(good))
                try:
                    executable = _build({name: program}, kernels, self._target)
                    loaded.add({name: program}, executable, parameters)
                except RuntimeError as error:
                    failures[name] = _error_text(error)
        progress("compiling", len(good), len(good))
        return loaded

    def _scheduled_kernels(
        self, programs: Mapping[str, Program], progress: ProgressCallback
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Schedule every distinct kernel; return them by name, and the programs that failed."""
        wanted = {
            step.kernel.name: step.kernel for program in programs.values() for step in program.steps
        }
        kernels: dict[str, Any] = {}
        broken: dict[str, str] = {}
        for done, (name, kernel) in enumerate(wanted.items()):
            progress("scheduling kernels", done, len(wanted))
            try:
                kernels[name] = scheduled(kernel, self._target.machine)
            except (RuntimeError, ValueError, TypeError) as error:
                broken[name] = f"kernel {name}: {_error_text(error)}"
        progress("scheduling kernels", len(wanted), len(wanted))
        failures = {
            name: broken[step.kernel.name]
            for name, program in programs.items()
            for step in program.steps
            if step.kernel.name in broken
        }
        return kernels, failures


class _LocalPrograms:
    """Compiled programs in virtual machines of this process."""

    def __init__(self, failures: dict[str, str], threads: int) -> None:
        self.failures = failures
        self._threads = threads
        self._machines: dict[str, tuple[Any, Any, str]] = {}
        self._arguments: dict[str, list[Any]] = {}
        # Programs that are timed one after another may share arrays of equal name and shape; a
        # dozen networks would otherwise hold a dozen sets of weights.
        self._arrays: dict[int, Any] = {}

    def add(
        self,
        programs: Mapping[str, Program],
        executable: Any,
        parameters: Mapping[str, Mapping[str, Floats]],
    ) -> None:
        """Load an executable, and give each of its programs an image and its parameters."""
        machine = relax.VirtualMachine(executable, tvm.cpu())
        invoke = machine.module["invoke_stateful"]
        rng = np.random.default_rng(0)
        for index, (name, program) in enumerate(programs.items()):
            image = rng.standard_normal(program.input_shape, dtype=np.float32)
            values = parameters.get(name, {})
            arguments = [self._array(values[key]) for key in program.parameters]
            symbol = _symbol(index)
            machine.set_input(symbol, tvm.runtime.tensor(image), *arguments)
            self._machines[name] = (machine, invoke, symbol)
            self._arguments[name] = arguments

    def _array(self, value: Floats) -> Any:
        if id(value) not in self._arrays:
            # The source is kept with its copy, so that its id stays taken.
            self._arrays[id(value)] = (value, tvm.runtime.tensor(value))
        return self._arrays[id(value)][1]

    def seconds(self, name: str, number: int) -> float:
        """Run a program `number` times and return the seconds of all."""
        if name not in self._machines:
            raise MeasurementError(f"program '{name}' was not compiled")
        _, invoke, symbol = self._machines[name]
        clock = time.thread_time if self._threads == 1 else time.perf_counter
        with _thread_pool(self._threads):
            try:
                # A loop here and not TVM's time_evaluator: that one reads the wall clock only.
                start = clock()
                for _ in itertools.repeat(None, number):
                    invoke(symbol)
                return clock() - start
            except RuntimeError as error:
                raise MeasurementError(f"program '{name}': {_error_text(error)}") from error

    def run(self, name: str, image: Floats) -> Floats:
        """Run a program on one image."""
        machine, _, symbol = self._machines[name]
        with _thread_pool(self._threads):
            output = machine[symbol](tvm.runtime.tensor(image), *self._arguments[name])
        result: Floats = output.numpy()
        return result


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


def _symbol(index: int) -> str:
    return f"program{index}"


def _build(
    programs: Mapping[str, Program], kernels: Mapping[str, Any], target: ResolvedTarget
) -> Any:
    """Compile `programs` into one Relax executable."""
    builder = relax.BlockBuilder()
    functions: dict[str, Any] = {}
    for index, program in enumerate(programs.values()):
        for step in program.steps:
            name = step.kernel.name
            if name not in functions:
                functions[name] = builder.add_func(kernels[name], name)
        _emit(builder, _symbol(index), program, functions)
    passes = [*dataflow_lower_passes(target.target), *finalize_passes(target.target)]
    # TVM's default pipelines would fuse and schedule a second time, and more slowly.
    return relax.build(
        builder.finalize(), target.target, relax_pipeline=tvm.transform.Sequential(passes)
    )


def _emit(builder: Any, symbol: str, program: Program, functions: Mapping[str, Any]) -> None:
    """Write one program as a Relax function of its input and its parameters."""
    values = {INPUT: relax.Var(INPUT, _type(program.input_shape))}
    for index, (name, shape) in enumerate(program.parameters.items()):
        values[name] = relax.Var(f"parameter{index}", _type(shape))
    with builder.function(symbol, list(values.values())):
        with builder.dataflow():
            result = values[INPUT]
            for step in program.steps:
                arguments = [values[name] for name in step.inputs]
                call = relax.call_tir(
                    functions[step.kernel.name], arguments, _type(step.kernel.output_shape)
                )
                result = values[step.output] = builder.emit(call)
            output = builder.emit_output(result)
        builder.emit_func_output(output)


def _type(shape: Sequence[int]) -> Any:
    return relax.TensorType(shape, "float32")


def _error_text(error: BaseException) -> str:
    """Reduce an error to its last line: above it TVM prints pages of its own stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"


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


def _governor() -> str:
    """Frequency governor, where the operating system shows one."""
    try:
        path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return "unknown"
