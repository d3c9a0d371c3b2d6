"""The filter gradient of depthwise convolutions beside torch's, on one core.

    python bench/kernels/compare_depthwise.py [--rounds 15]

Both compute it for 32 float32 images in channels-last order, in turns, after one call that is not
timed; the table shows medians of CPU milliseconds. Results that differ by more than rounding end
the run.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from compare_spaces import machine
from torch.nn.grad import conv2d_weight

from pnag_fast import _core

IMAGES = 32
# Channels, pixels a side, kernel, stride: layers of `mbv3-cifar`.
LAYERS = [
    (96, 32, 7, 1),
    (96, 32, 7, 2),
    (144, 16, 7, 1),
    (144, 16, 5, 1),
    (288, 8, 7, 1),
    (288, 8, 5, 1),
    (144, 16, 3, 1),
]


def compare(channels: int, side: int, kernel: int, stride: int, rounds: int) -> tuple[float, float]:
    """CPU milliseconds of torch and of ours."""
    outputs = (side - 1) // stride + 1
    x = torch.randn(IMAGES, channels, side, side).to(memory_format=torch.channels_last)
    gradient = torch.randn(IMAGES, channels, outputs, outputs)
    gradient = gradient.to(memory_format=torch.channels_last)
    shape = (channels, 1, kernel, kernel)
    rows = x.permute(0, 2, 3, 1).numpy(), gradient.permute(0, 2, 3, 1).numpy()

    theirs: list[float] = []
    ours: list[float] = []
    for _ in range(1 + rounds):
        start = time.thread_time()
        a = conv2d_weight(  # type: ignore[no-untyped-call]
            x, shape, gradient, stride, kernel // 2, groups=channels
        )
        theirs.append(time.thread_time() - start)
        start = time.thread_time()
        b = _core.depthwise_weight_gradient(*rows, kernel, stride, 1)
        ours.append(time.thread_time() - start)
        a = a.squeeze(1).numpy()
        if not np.allclose(a, b, rtol=0, atol=1e-4 * np.abs(a).max()):
            raise SystemExit(f"results differ at {(channels, side, kernel, stride)}")
    return 1e3 * statistics.median(theirs[1:]), 1e3 * statistics.median(ours[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    if rounds < 1:
        parser.error("--rounds should be at least 1")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(machine())
    print("channels, pixels, kernel, stride | torch ms | here ms | ratio")
    for layer in LAYERS:
        theirs, ours = compare(*layer, rounds)
        name = ", ".join(map(str, layer))
        print(f"{name:>32} | {theirs:8.1f} | {ours:7.1f} | {theirs / ours:.1f}")


if __name__ == "__main__":
    main()
