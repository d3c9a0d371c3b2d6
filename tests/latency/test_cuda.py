"""Kernels for graphics processors: limits, results, and compiled code, all without one.

Their CUDA source is run by `cuda_emulation.hpp` on the processor, every thread of a block a fiber,
and compared with torch. What it cannot show is how fast they are, and that the driver takes them.
"""

from __future__ import annotations

import ctypes
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import pnag_fast as pf
from pnag_fast.errors import InvalidInputError, MeasurementError
from pnag_fast.latency.device import DeviceLostError
from pnag_fast.latency.gpu_tiles import MAX_THREADS, SHARED_BYTES, GpuTile, gpu_family
from pnag_fast.latency.kernels import Convolution, Depthwise, Mean
from pnag_fast.latency.networks import block_program, pack_weights, random_weights
from pnag_fast.latency.runners import open_device
from pnag_fast.latency.tiles import Machine, family, nearest, parse_tile
from pnag_fast.progress import ignore_progress
from pnag_fast.spaces import Head, MBConv, Stem

pytest.importorskip("tvm")
torch = pytest.importorskip("torch")
functional = torch.nn.functional

import tvm  # noqa: E402 - only where it is installed
from tvm.s_tir import transform as s_tir  # noqa: E402
from tvm.s_tir.analysis import verify_gpu_code  # noqa: E402

from pnag_fast.latency.tvm_adapter import local  # noqa: E402
from pnag_fast.latency.tvm_adapter.compiling import compile_programs  # noqa: E402
from pnag_fast.latency.tvm_adapter.programs import DevicePrograms  # noqa: E402
from pnag_fast.latency.tvm_adapter.schedules import scheduled  # noqa: E402
from pnag_fast.latency.tvm_adapter.targets import resolve_target  # noqa: E402

GPU = Machine(lanes=4, accumulators=32, threads=1, kind="cuda")

KERNELS = {
    "pointwise": Convolution(8, 24, 32, activation="h_swish"),
    "odd channels": Convolution(7, 20, 12, activation="relu"),
    "gated image": Convolution(4, 32, 40, gated=True, residual=True),
    "gated weight": Convolution(10, 16, 24, gated=True, residual=True),
    "without bias": Convolution(1, 48, 40, activation="h_swish", bias=False),
    "dense": Convolution(1, 96, 24, activation="h_sigmoid"),
    "stem": Convolution(16, 3, 8, 3, 2, "h_swish"),
    "stem of odd size": Convolution(15, 5, 16, 5, 2, "relu"),
    "gated with a border": Convolution(6, 8, 8, 3, 1, "relu", gated=True),
    "depthwise": Depthwise(8, 24, 3, 1, "relu"),
    "depthwise with stride": Depthwise(14, 20, 5, 2, "h_swish"),
    "depthwise on odd size": Depthwise(7, 16, 7, 2, "h_swish"),
    "depthwise of one pixel": Depthwise(5, 16, 1, 1, "relu"),
    "mean": Mean(7, 40),
    "mean of one pixel": Mean(1, 16),
}
# Two architectures between which nvcc's limits differ most, of those that it still supports.
ARCHITECTURES = ("sm_80", "sm_90")


def kinds_of_tiles(kernel):
    """Return the tile of the rules and the first of each kind of code."""
    kinds = {}
    for tile in gpu_family(kernel):
        kind = (tile.staged > 0, tile.sharers > 1, tile.pixels > 1)
        kinds.setdefault(kind, tile)
    return list(kinds.values())


def cuda_source(functions):
    """Return the CUDA source of scheduled functions."""
    target = tvm.target.Target({"kind": "cuda", "arch": "sm_80"})
    with target:
        built = tvm.tirx.build(tvm.IRModule(functions), target=target)
    (source,) = cuda_sources(built)
    return source


def cuda_sources(module):
    own = [str(module.inspect_source())] if module.kind == "cuda" else []
    return own + [source for part in module.imports for source in cuda_sources(part)]


def emulated(source, tiled, folder):
    """Compile `source` for the processor; returns a library with a function for each kernel."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler to run CUDA source on the processor with")
    parts = ['#include "cuda_emulation.hpp"', source.replace("#include <cuda.h>", "")]
    for name, (kernel, tile) in tiled.items():
        (parameters,) = re.findall(rf"void [^;]*\b{name}_kernel\((.*)\) {{", source)
        numbers = {f"input{i}": i for i in range(5)} | {"out": len(kernel.input_shapes)}
        order = [numbers[p] for p in re.findall(r"(\w+)_ptr", parameters)]
        arguments = ", ".join(f"a[{number}]" for number in order)
        blocks = math.prod(kernel.output_shape) // (tile.rows * tile.columns * tile.channels)
        parts.append(
            f'extern "C" void run_{name}(float** a) {{ emulation::launch({blocks}, '
            f"{tile.threads // tile.sharers}, {tile.sharers}, [=] {{ {name}_kernel({arguments}); "
            "}); }"
        )
    path = folder / "kernels.cpp"
    path.write_text("\n".join(parts), encoding="utf-8")
    library = folder / "kernels.so"
    here = Path(__file__).parent
    command = [compiler, "-std=c++17", "-O1", "-w", "-fPIC", "-shared", f"-I{here}", str(path)]
    subprocess.run([*command, "-o", str(library)], check=True, timeout=300)
    return ctypes.CDLL(str(library))


class Guarded:
    """An array between margins of NaN: reading outside shows in the result, writing in these."""

    MARGIN = 4096

    def __init__(self, values):
        floats = values.size + 2 * self.MARGIN + 16
        raw = np.full(floats, np.nan, dtype=np.float32)
        start = self.MARGIN + -(raw.ctypes.data // 4) % 16  # vectors want to be aligned
        self.raw, self.start = raw, start
        self.values = raw[start : start + values.size].reshape(values.shape)
        self.values[...] = values

    @property
    def intact(self):
        outside = np.concatenate(
            [self.raw[: self.start], self.raw[self.start + self.values.size :]]
        )
        return np.isnan(outside).all()


def expected(kernel, inputs):
    image, *rest = (torch.from_numpy(value).double() for value in inputs)
    image = image.permute(2, 0, 1)[None]
    if isinstance(kernel, Mean):
        return image.mean((2, 3))[0][None, None].numpy()
    weight = rest.pop(0)
    border = kernel.kernel // 2
    if isinstance(kernel, Depthwise):
        weight = weight.permute(2, 0, 1)[:, None]
        y = functional.conv2d(image, weight, rest.pop(0), kernel.stride, border, 1, len(weight))
    else:
        bias = rest.pop(0) if kernel.bias else None
        if kernel.gated:
            image = image * rest.pop(0)[0, 0][:, None, None]
        y = functional.conv2d(image, weight.permute(3, 2, 0, 1), bias, kernel.stride, border)
    sixth = torch.clamp(y + 3, 0, 6) / 6
    y = {"relu": y.relu(), "h_swish": y * sixth, "h_sigmoid": sixth, "none": y}[kernel.activation]
    y = y[0].permute(1, 2, 0)
    return (y + rest.pop(0) if rest else y).numpy()


def test_cuda_kernels_agree_with_torch_when_emulated(tmp_path):
    tiled, functions = {}, {}
    for kernel in KERNELS.values():
        for tile in kinds_of_tiles(kernel):
            name = f"{kernel.name}_{tile}"
            tiled[name] = kernel, tile
            functions[name] = scheduled(kernel, GPU, tile).with_attr("global_symbol", name)
    library = emulated(cuda_source(functions), tiled, tmp_path)
    rng = np.random.default_rng(0)
    for name, (kernel, _) in tiled.items():
        inputs = [2 * rng.standard_normal(s, dtype=np.float32) for s in kernel.input_shapes]
        arrays = [Guarded(value) for value in inputs]
        arrays.append(Guarded(np.full(kernel.output_shape, np.nan, dtype=np.float32)))
        pointers = (ctypes.c_void_p * len(arrays))(*(a.values.ctypes.data for a in arrays))
        library[f"run_{name}"](pointers)
        assert arrays[-1].intact, name
        result = arrays[-1].values
        np.testing.assert_allclose(
            result, expected(kernel, inputs), rtol=1e-4, atol=2e-4, err_msg=name
        )


def keeps_limits(function):
    """Whether TVM counts no more threads and shared memory in a scheduled function than allowed."""
    passes = [
        s_tir.LowerCrossThreadReduction(),
        s_tir.LowerInitBlock(),
        s_tir.PlanAndUpdateBufferAllocationLocation(),
        s_tir.ConvertBlocksToOpaque(),
        s_tir.UnifyThreadBinding(),
        s_tir.CompactBufferAllocation(),
        s_tir.LowerMatchBuffer(),
        s_tir.LowerOpaqueBlock(),
        tvm.tirx.transform.FlattenBuffer(),
        tvm.tirx.transform.VectorizeLoop(),
    ]
    lowered = tvm.transform.Sequential(passes)(tvm.IRModule({"main": function}))
    limits = {
        "max_threads_per_block": MAX_THREADS,
        "max_thread_x": MAX_THREADS,
        "max_thread_y": MAX_THREADS,
        "max_shared_memory_per_block": SHARED_BYTES,
        "max_vector_bytes": 16,
    }
    return verify_gpu_code(lowered["main"], limits)


def test_tiles_keep_the_limits_of_a_thread_block():
    for kernel in KERNELS.values():
        tiles = gpu_family(kernel)
        assert len(set(tiles)) == len(tiles)
        for tile in tiles:
            assert tile.threads <= MAX_THREADS
            extents = (tile.rows, tile.columns, tile.channels)
            if isinstance(kernel, Mean):
                extents = (1, 1, tile.channels)
            assert all(n % d == 0 for n, d in zip(kernel.output_shape, extents, strict=True))
        for tile in tiles[::24]:
            assert keeps_limits(scheduled(kernel, GPU, tile)), (kernel.name, str(tile))


def test_too_many_threads_and_too_much_memory_are_seen():
    kernel = Convolution(64, 64, 64)
    assert keeps_limits(scheduled(kernel, GPU, GpuTile(16, 16, 16, 1, 4)))
    assert not keeps_limits(scheduled(kernel, GPU, GpuTile(32, 32, 16, 1, 4)))
    assert not keeps_limits(scheduled(kernel, GPU, GpuTile(32, 32, 16, 4, 4, staged=16)))


def test_tiles_read_what_they_write():
    for kernel in KERNELS.values():
        for machine in (GPU, Machine(8, 12, 1)):
            for tile in family(kernel, machine):
                assert parse_tile(str(tile)) == tile
                assert str(tile).isidentifier() or machine.kind == "cpu"
    for text in ("", "b1x2", "b1x1x8t1x1s1k", "1x2x3x4", "b1x1x8t1x1s1k0c", "b-1x1x8t1x1s1k0"):
        with pytest.raises(ValueError, match="is not a tile"):
            parse_tile(text)


def test_the_nearest_tile_differs_least():
    tiles = gpu_family(KERNELS["pointwise"])
    assert nearest(tiles[5], tiles)[0] == tiles[5]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvcc_compiles_the_kernels(architecture, tmp_path):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not installed")
    # As a module of a whole block and as the device would be given it.
    target = resolve_target(f"cuda -arch={architecture}", threads=1, remote=True)
    blocks = {
        "stem": Stem(16, 3, 8, 2),
        "gated": MBConv(8, 24, 72, 24, 5, 1, "h_swish", True),
        "head": Head(4, 16, 32, 40, 10),
    }
    modules = []
    failures = compile_programs(
        {name: block_program(block) for name, block in blocks.items()},
        target,
        ignore_progress,
        lambda _, executable: modules.append(executable),
    )
    assert failures == {}
    (executable,) = modules
    executable.export_library(str(tmp_path / "programs.tar"))
    (source,) = cuda_sources(executable.mod)
    path = tmp_path / "kernels.cu"
    path.write_text(source, encoding="utf-8")
    command = [nvcc, "--cubin", f"-arch={architecture}", "--use_fast_math", str(path)]
    subprocess.run([*command, "-o", str(tmp_path / "a.cubin")], check=True, timeout=300)
    assert (tmp_path / "a.cubin").read_bytes()[:4] == b"\x7fELF"


@pytest.mark.parametrize(
    ("target", "remote", "text"),
    [
        ("cuda -arch=80", True, "should be like sm_80, found '80'"),
        ("cuda", True, "does not say what architecture the device has"),
        ("cuda -arch=sm_80 -mcpu", True, "should read -name=value"),
        ("cuda -arch=sm_80 -nonsense=1", False, "not known to TVM"),
    ],
)
def test_cuda_targets_that_cannot_be_are_named(target, remote, text):
    with pytest.raises(InvalidInputError, match=text):
        resolve_target(target, threads=1, remote=remote)
    with pytest.raises(InvalidInputError, match="number of threads"):
        resolve_target("cuda -arch=sm_80", threads=2, remote=remote)


def test_the_code_around_a_cuda_device_runs():
    """With the processor in its place: all but the kernels themselves is the same."""
    block = MBConv(8, 24, 72, 24, 5, 1, "h_swish", True)
    loaded = DevicePrograms(tvm.cpu(), local._lost_context)
    parameters = {"block": pack_weights([block], random_weights([block], 0))}
    compile_programs(
        {"block": block_program(block)},
        resolve_target("llvm", threads=1),
        ignore_progress,
        lambda programs, executable: loaded.add(programs, executable, parameters),
    )
    assert loaded.seconds("block", 3) > 0
    image = np.zeros((8, 8, 24), dtype=np.float32)
    assert loaded.run("block", image).shape == (8, 8, 24)
    with pytest.raises(MeasurementError, match="was not compiled"):
        loaded.seconds("other", 1)
    # Whatever fails there takes the context with it, and so the process.
    with pytest.raises(DeviceLostError, match="CUDA failed at 'block'"):
        loaded.run("block", np.zeros((1, 1, 24), dtype=np.float32))


@pytest.mark.parametrize("target", ["cuda", "cuda -arch=sm_80"])
def test_without_a_device_the_error_says_so(mini, tmp_path, target):
    if tvm.cuda(0).exist:
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(MeasurementError, match="has no CUDA device that TVM can use"):
        pf.latency.measure(mini, target=target, work_dir=tmp_path)


def test_a_cuda_device_computes_and_is_timed(mini, tmp_path):
    if not tvm.cuda(0).exist:
        pytest.skip("this machine has no CUDA device")
    block = MBConv(8, 24, 72, 24, 5, 1, "h_swish", True)
    parameters = {"block": pack_weights([block], random_weights([block], 0))}
    programs = {"block": block_program(block)}
    image = np.random.default_rng(0).standard_normal((8, 8, 24), dtype=np.float32)
    results = []
    for target in ("cuda", "llvm"):
        loaded = open_device(target).compile(programs, parameters, ignore_progress)
        assert loaded.failures == {}
        assert loaded.seconds("block", 10) > 0
        results.append(loaded.run("block", image))
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-4)
    table = pf.latency.measure(mini, target="cuda", work_dir=tmp_path, n_networks=4, passes=3)
    assert table.provenance["conditions"]["clock"] == "cuda events"
