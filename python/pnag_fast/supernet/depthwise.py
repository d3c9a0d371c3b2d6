"""Depthwise convolution for training, with the gradient that torch computes slowly on a CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every torch user knows
from torch import Tensor
from torch.nn.grad import conv2d_input

from pnag_fast import _core

# Kernels whose filter gradient is 5 to 7 times as fast here as in torch; at size 3 they nearly tie.
_KERNELS = (5, 7)


def depthwise_conv2d(x: Tensor, filters: Tensor, stride: int) -> Tensor:
    """Convolve every channel with a filter of its own, centred, zeros around.

    Parameters
    ----------
    x : Tensor, shape (b, c, h, w)
    filters : Tensor, shape (c, 1, k, k)
    stride : int
    """
    kernel = filters.shape[-1]
    learns = torch.is_grad_enabled() and filters.requires_grad
    if not learns or x.device.type != "cpu" or kernel not in _KERNELS:
        return F.conv2d(x, filters, None, stride, kernel // 2, groups=x.shape[1])
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, filters = x.to(dtype), filters.to(dtype)
    return _Depthwise.apply(x, filters, stride)  # type: ignore[no-any-return, no-untyped-call]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, filters: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, filters)
        ctx.stride = stride
        return F.conv2d(x, filters, None, stride, filters.shape[-1] // 2, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (gradient,) = gradients
        x, filters = ctx.saved_tensors
        kernel, stride = filters.shape[-1], ctx.stride
        wide, pixels = _channels_last(gradient), _channels_last(x)
        by_image = None
        if ctx.needs_input_grad[0]:
            # In bfloat16 torch takes 20 times as long as in float32 where the stride is 2.
            exact = stride > 1
            by_image = conv2d_input(  # type: ignore[no-untyped-call]
                x.shape,
                filters.float() if exact else filters,
                wide if exact else gradient,
                stride,
                kernel // 2,
                groups=x.shape[1],
            ).to(x.dtype)
        by_filter = _core.depthwise_weight_gradient(
            pixels.permute(0, 2, 3, 1).numpy(),
            wide.permute(0, 2, 3, 1).numpy(),
            kernel,
            stride,
            torch.get_num_threads(),
        )
        return by_image, torch.from_numpy(by_filter).unsqueeze(1).to(filters.dtype), None


def _channels_last(x: Tensor) -> Tensor:
    return x.detach().float().contiguous(memory_format=torch.channels_last)
