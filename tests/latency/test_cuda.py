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

from pnag_fast.latency.gpu_tiles import MAX_THREADS, SHARED_BYTES, GpuTile, gpu_family
from pnag_fast.latency.kernels import Convolution, Depthwise, Mean
from pnag_fast.latency.tiles import Machine, family, nearest, parse_tile

pytest.importorskip("tvm")
torch = pytest.importorskip("torch")
functional = torch.nn.functional

import tvm  # noqa: E402 - only where it is installed

from pnag_fast.latency.tvm_adapter.schedules import scheduled  # noqa: E402

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
        kind = (tile.staged > 0, tile.sharers > 1, tile.lanes, tile.pixels > 1)
        kinds.setdefault(kind, tile)
    return list(kinds.values())


def cuda_source(functions):
    """Return the CUDA source of scheduled functions."""
    target = tvm.target.Target({"kind": "cuda", "arch": "sm_80"})
    with target:
        built = tvm.tirx.build(tvm.IRModule(functions), target=target)
    (device,) = built.imports
    return str(device.inspect_source())


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
