"""Code for other processors: compiled and linked here, and run by an emulator if there is one."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.latency.kernels import Convolution, Depthwise, Mean
from pnag_fast.latency.networks import INPUT, Program, Step, block_program
from pnag_fast.latency.runners import open_device
from pnag_fast.progress import ignore_progress

pytest.importorskip("tvm")
tvm_ffi = pytest.importorskip("tvm_ffi")

from pnag_fast.latency.tvm_adapter.compiling import compile_programs  # noqa: E402
from pnag_fast.latency.tvm_adapter.targets import resolve_target  # noqa: E402

AARCH64 = "llvm -mtriple=aarch64-linux-gnu -mattr=+neon"
_ELF_AARCH64 = 183

KERNELS = (
    Convolution(16, 3, 8, 3, 2, "h_swish"),
    Convolution(10, 16, 24, activation="relu"),
    Convolution(4, 32, 40, gated=True, residual=True),
    Convolution(10, 16, 24, gated=True, residual=True),
    Convolution(1, 48, 40, activation="h_sigmoid", bias=False),
    Depthwise(14, 20, 5, 2, "h_swish"),
    Mean(7, 40),
)


def kernel_program(kernel):
    image, *others = kernel.input_shapes
    parameters = {f"parameter{i}": shape for i, shape in enumerate(others)}
    return Program(image, (Step(kernel, (INPUT, *parameters), "value0"),), parameters)


def objects(programs, folder, target=AARCH64):
    """Compile programs as a fleet would send them; returns the object files."""
    archive = folder / "programs.tar"
    failures = compile_programs(
        programs,
        resolve_target(target, threads=1, remote=True),
        ignore_progress,
        lambda _, executable: executable.export_library(str(archive)),
    )
    assert failures == {}
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            (folder / member.name).write_bytes(content.read())
    return sorted(folder.glob("*.o"))


def machine_of(path):
    header = path.read_bytes()[:20]
    assert header[:6] == b"\x7fELF\x02\x01", path  # 64 bits, little endian
    return struct.unpack("<H", header[18:20])[0]


def tool(name):
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def test_blocks_compile_and_link_for_aarch64(tmp_path):
    space = pf.spaces.get("mbv3-tiny")
    blocks = list(pf.latency.space_blocks(space).items())
    files = objects({key: block_program(block) for key, block in blocks[::6]}, tmp_path)
    assert files
    assert {machine_of(path) for path in files} == {_ELF_AARCH64}
    linker = tool("aarch64-linux-gnu-g++")
    library = tmp_path / "programs.so"
    subprocess.run([linker, "-shared", "-fPIC", "-o", str(library), *files], check=True)
    assert machine_of(library) == _ELF_AARCH64


def test_kernels_for_aarch64_compute_the_same_when_emulated(tmp_path):
    linker, emulator = tool("aarch64-linux-gnu-g++"), tool("qemu-aarch64")
    programs = {kernel.name: kernel_program(kernel) for kernel in KERNELS}
    files = objects(programs, tmp_path)
    lines = ['#include "cross_harness.hpp"']
    calls = []
    for kernel in KERNELS:
        symbol = f"__tvm_ffi_{kernel.name}"
        lines.append(f'extern "C" int {symbol}(void*, const TVMFFIAny*, int, TVMFFIAny*);')
        shapes = [*kernel.input_shapes, kernel.output_shape]
        listed = ", ".join("{" + ", ".join(map(str, shape)) + "}" for shape in shapes)
        calls.append(f"  run({symbol}, {{{listed}}});")
    source = tmp_path / "main.cpp"
    source.write_text("\n".join([*lines, "int main() {", *calls, "}"]), encoding="utf-8")
    includes = {str(Path(__file__).parent), tvm_ffi.libinfo.find_include_path()}
    includes.add(tvm_ffi.libinfo.find_dlpack_include_path())
    program = tmp_path / "kernels"
    # The library part of an executable is data that only TVM's loader reads.
    own = [path for path in files if path.name.startswith("lib")]
    command = [linker, "-std=c++17", "-static", *(f"-I{i}" for i in includes), "-o", program]
    subprocess.run([*command, source, *own], check=True)
    rng = np.random.default_rng(0)
    inputs = [
        [2 * rng.standard_normal(shape, dtype=np.float32) for shape in kernel.input_shapes]
        for kernel in KERNELS
    ]
    given = b"".join(array.tobytes() for arrays in inputs for array in arrays)
    done = subprocess.run(
        [emulator, program], input=given, capture_output=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    output = np.frombuffer(done.stdout, dtype=np.float32)
    native = open_device("llvm").compile(
        programs,
        {
            kernel.name: dict(zip(programs[kernel.name].parameters, arrays[1:], strict=True))
            for kernel, arrays in zip(KERNELS, inputs, strict=True)
        },
        ignore_progress,
    )
    for kernel, (image, *_) in zip(KERNELS, inputs, strict=True):
        size = int(np.prod(kernel.output_shape))
        result, output = output[:size].reshape(kernel.output_shape), output[size:]
        expected = native.run(kernel.name, image)
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4, err_msg=kernel.name)
    assert output.size == 0
