"""Programs as Relax executables: every distinct kernel compiled once, failures kept apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tvm
from tvm import relax
from tvm.relax.backend.cpu_generic import pipeline as cpu_pipeline
from tvm.relax.backend.cuda import pipeline as cuda_pipeline

from ...progress import ProgressCallback
from ..networks import INPUT, Program
from .schedules import scheduled
from .targets import ResolvedTarget

# Raised whenever the code that is generated for a kernel changes: older measurements are of
# other code.
KERNELS_VERSION = 1

# What TVM raises for a program that it cannot compile.
_ERRORS = (RuntimeError, ValueError, TypeError)


def compile_programs(
    programs: Mapping[str, Program],
    target: ResolvedTarget,
    progress: ProgressCallback,
    use: Callable[[Mapping[str, Program], Any], None],
) -> dict[str, str]:
    """Compile programs and hand each executable to `use`, with the programs that are in it.

    Program number ``i`` of an executable is its function ``symbol(i)``. Returns the error text of
    every program that does not compile.
    """
    kernels, failures = _scheduled_kernels(programs, target, progress)
    good = {name: program for name, program in programs.items() if name not in failures}
    progress("compiling", 0, len(good))
    try:
        executable = _build(good, kernels, target)
    except _ERRORS:
        # One program spoils a shared module: compile each on its own to learn which it is.
        for done, (name, program) in enumerate(good.items()):
            progress("compiling one by one", done, len(good))
            try:
                executable = _build({name: program}, kernels, target)
            except _ERRORS as error:
                failures[name] = error_text(error)
            else:
                use({name: program}, executable)
    else:
        progress("compiling", len(good), len(good))
        use(good, executable)
    return failures


def symbol(index: int) -> str:
    """Name of a program in its executable."""
    return f"program{index}"


def error_text(error: BaseException) -> str:
    """Reduce an error to its last line: above it TVM prints pages of its own stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"


def _scheduled_kernels(
    programs: Mapping[str, Program], target: ResolvedTarget, progress: ProgressCallback
) -> tuple[dict[str, Any], dict[str, str]]:
    """Schedule every distinct kernel; return them by symbol, and the programs that failed."""
    wanted = {step.symbol: step for program in programs.values() for step in program.steps}
    kernels: dict[str, Any] = {}
    broken: dict[str, str] = {}
    for done, (name, step) in enumerate(wanted.items()):
        progress("scheduling kernels", done, len(wanted))
        try:
            function = scheduled(step.kernel, target.machine, step.tile)
        except _ERRORS as error:
            broken[name] = f"kernel {name}: {error_text(error)}"
        else:
            kernels[name] = function.with_attr("global_symbol", name)
    progress("scheduling kernels", len(wanted), len(wanted))
    failures = {
        name: broken[step.symbol]
        for name, program in programs.items()
        for step in program.steps
        if step.symbol in broken
    }
    return kernels, failures


def _build(
    programs: Mapping[str, Program], kernels: Mapping[str, Any], target: ResolvedTarget
) -> Any:
    """Compile `programs` into one Relax executable."""
    builder = relax.BlockBuilder()
    functions: dict[str, Any] = {}
    for index, program in enumerate(programs.values()):
        for step in program.steps:
            if step.symbol not in functions:
                functions[step.symbol] = builder.add_func(kernels[step.symbol], step.symbol)
        _emit(builder, symbol(index), program, functions)
    pipeline = cuda_pipeline if target.device_kind == "cuda" else cpu_pipeline
    # TVM's default pipelines would fuse and schedule a second time, and more slowly.
    passes = [
        *pipeline.dataflow_lower_passes(target.target),
        *pipeline.finalize_passes(target.target),
    ]
    return relax.build(
        builder.finalize(), target.target, relax_pipeline=tvm.transform.Sequential(passes)
    )


def _emit(builder: Any, name: str, program: Program, functions: Mapping[str, Any]) -> None:
    """Write one program as a Relax function of its input and its parameters."""
    values = {INPUT: relax.Var(INPUT, _type(program.input_shape))}
    for index, (parameter, shape) in enumerate(program.parameters.items()):
        values[parameter] = relax.Var(f"parameter{index}", _type(shape))
    with builder.function(name, list(values.values())):
        with builder.dataflow():
            result = values[INPUT]
            for step in program.steps:
                arguments = [values[value] for value in step.inputs]
                call = relax.call_tir(
                    functions[step.symbol], arguments, _type(step.kernel.output_shape)
                )
                result = values[step.output] = builder.emit(call)
            output = builder.emit_output(result)
        builder.emit_func_output(output)


def _type(shape: Sequence[int]) -> Any:
    return relax.TensorType(shape, "float32")
