"""Layers with shared weights, and the ordinary layers they turn into.

Sources: Once-for-All (Cai et al., ICLR 2020) for elastic kernels, widths and depths; MobileNetV3
(Howard et al., ICCV 2019) for the blocks. A block description (`pnag_fast.spaces.MBConv` and its
siblings) says which part of the shared weights is used, so that channel counts here cannot differ
from those in a cost table.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every torch user knows
from torch import Tensor, nn

from pnag_fast.spaces.blocks import Activation, Block, Head, MBConv, Pointwise, Stem

from .depthwise import depthwise_conv2d

BATCH_NORM_MOMENTUM = 0.1
BATCH_NORM_EPSILON = 1e-5

Weights = dict[str, Tensor]


def activate(x: Tensor, activation: Activation) -> Tensor:
    """Apply ReLU or h-swish, ``x * relu6(x + 3) / 6``."""
    return F.relu(x) if activation == "relu" else F.hardswish(x)


# --- ordinary layers -----------------------------------------------------------------------------


def _convolution(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
    )


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM)


class SqueezeExcite(nn.Module):
    """Scale channels by what their global means say: reduce, ReLU, expand, h-sigmoid."""

    def __init__(self, channels: int, squeeze_channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeeze_channels, 1)
        self.expand = nn.Conv2d(squeeze_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` times one factor per image and channel; shape ``(b, channels, h, w)``."""
        means = x.mean((2, 3), keepdim=True)
        return x * F.hardsigmoid(self.expand(F.relu(self.reduce(means))))


class StemLayer(nn.Module):
    """The block `Stem` as a torch module."""

    def __init__(self, block: Stem) -> None:
        super().__init__()
        self.block = block
        self.conv = _convolution(block.in_channels, block.out_channels, block.kernel, block.stride)
        self.bn = _batch_norm(block.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b, in, h, w)`` to ``(b, out, h / stride, w / stride)``."""
        return activate(self.bn(self.conv(x)), self.block.activation)


class MBConvLayer(nn.Module):
    """The block `MBConv` as a torch module."""

    def __init__(self, block: MBConv) -> None:
        super().__init__()
        self.block = block
        mid = block.mid_channels
        if block.expand:
            self.expand = _convolution(block.in_channels, mid, 1)
            self.expand_bn = _batch_norm(mid)
        self.depthwise = _convolution(mid, mid, block.kernel, block.stride, groups=mid)
        self.depthwise_bn = _batch_norm(mid)
        if block.squeeze_excite:
            self.squeeze = SqueezeExcite(mid, block.squeeze_channels)
        self.project = _convolution(mid, block.out_channels, 1)
        self.project_bn = _batch_norm(block.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b, in, h, w)`` to ``(b, out, h / stride, w / stride)``."""
        block, y = self.block, x
        if block.expand:
            y = activate(self.expand_bn(self.expand(y)), block.activation)
        y = activate(self.depthwise_bn(self.depthwise(y)), block.activation)
        if block.squeeze_excite:
            y = self.squeeze(y)
        y = cast(Tensor, self.project_bn(self.project(y)))
        return x + y if block.residual else y


class PointwiseLayer(nn.Module):
    """The block `Pointwise` as a torch module."""

    def __init__(self, block: Pointwise) -> None:
        super().__init__()
        self.block = block
        self.conv = _convolution(block.in_channels, block.out_channels, 1, block.stride)
        self.bn = _batch_norm(block.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b, in, h, w)`` to ``(b, out, h / stride, w / stride)``."""
        return cast(Tensor, self.bn(self.conv(x)))


class HeadLayer(nn.Module):
    """The block `Head` as a torch module."""

    def __init__(self, block: Head) -> None:
        super().__init__()
        self.block = block
        self.expand = _convolution(block.in_channels, block.expand_channels, 1)
        self.expand_bn = _batch_norm(block.expand_channels)
        if block.feature_channels:
            self.feature = _convolution(block.expand_channels, block.feature_channels, 1)
        self.classifier = nn.Linear(block.pooled_channels, block.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b, in, h, w)`` to logits ``(b, classes)``."""
        x = activate(self.expand_bn(self.expand(x)), self.block.activation)
        x = x.mean((2, 3), keepdim=True)
        if self.block.feature_channels:
            x = activate(self.feature(x), self.block.activation)
        return cast(Tensor, self.classifier(x.flatten(1)))


Layer = StemLayer | MBConvLayer | PointwiseLayer | HeadLayer


def make_layer(block: Block) -> Layer:
    """Make the module of a block description, with torch's own initial weights."""
    if isinstance(block, Stem):
        return StemLayer(block)
    if isinstance(block, Head):
        return HeadLayer(block)
    if isinstance(block, Pointwise):
        return PointwiseLayer(block)
    return MBConvLayer(block)


# --- elastic layers ------------------------------------------------------------------------------


def centre(weight: Tensor, kernel: int) -> Tensor:
    """Crop filters ``(..., k, k)`` to their centre ``(..., kernel, kernel)``."""
    start = (weight.shape[-1] - kernel) // 2
    return weight[..., start : start + kernel, start : start + kernel]


class ElasticDepthwise(nn.Module):
    """Depthwise convolution of elastic width and kernel size.

    A smaller kernel is the centre of the next larger one, times a learned matrix that all channels
    share (Once-for-All, section 3.2 "elastic kernel size"). The matrices start as identities.

    Parameters
    ----------
    channels : int
        The largest width.
    kernels : sequence of int
        Distinct odd sizes, in any order.
    """

    def __init__(self, channels: int, kernels: Sequence[int]) -> None:
        super().__init__()
        self.kernels = tuple(sorted(kernels, reverse=True))
        self.weight = nn.Parameter(torch.empty(channels, 1, self.kernels[0], self.kernels[0]))
        self.transforms = nn.ParameterDict(
            {
                f"{large}to{small}": nn.Parameter(torch.eye(small**2))
                for large, small in itertools.pairwise(self.kernels)
            }
        )

    def filters(self, channels: int, kernel: int) -> Tensor:
        """Return the filters of one kernel size, ``(channels, 1, kernel, kernel)``."""
        filters = self.weight[:channels]
        for large, small in itertools.pairwise(self.kernels):
            if large == kernel:
                break
            crop = centre(filters, small).reshape(channels, small**2)
            matrix = self.transforms[f"{large}to{small}"]
            filters = F.linear(crop, matrix).reshape(channels, 1, small, small)
        return filters

    def forward(self, x: Tensor, kernel: int, stride: int) -> Tensor:
        """Convolve ``(b, c, h, w)`` with the first c channels' filters of size `kernel`."""
        return depthwise_conv2d(x, self.filters(x.shape[1], kernel), stride)


class ElasticBatchNorm(nn.BatchNorm2d):
    """Batch norm over the first channels of the largest width."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(b, c, h, w)`` with the weights and statistics of the first c channels."""
        c = x.shape[1]
        return F.batch_norm(
            x,
            cast(Tensor, self.running_mean)[:c],
            cast(Tensor, self.running_var)[:c],
            self.weight[:c],
            self.bias[:c],
            self.training,
            self.momentum or 0.0,
            self.eps,
        )

    def slice(self, channels: int, prefix: str) -> Weights:
        """Return the state of an `nn.BatchNorm2d` over the first `channels`."""
        names = ("weight", "bias", "running_mean", "running_var")
        state = {f"{prefix}.{name}": getattr(self, name)[:channels] for name in names}
        state[f"{prefix}.num_batches_tracked"] = cast(Tensor, self.num_batches_tracked)
        return state


def _elastic_batch_norm(channels: int) -> ElasticBatchNorm:
    return ElasticBatchNorm(channels, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM)


class ElasticMBConv(nn.Module):
    """All the choices of one slot, in one set of weights.

    Parameters
    ----------
    choices : sequence of MBConv or Pointwise
        What the slot can be. Those of the first kind, of which there is one at least, differ in
        kernel size and expanded channels only; one of the second has weights of its own.

    Attributes
    ----------
    active : MBConv or Pointwise
        The choice that `forward` computes; at first the widest with the largest kernel.
    """

    def __init__(self, choices: Sequence[MBConv | Pointwise]) -> None:
        super().__init__()
        blocks = [choice for choice in choices if isinstance(choice, MBConv)]
        widest = max(blocks, key=lambda block: (block.mid_channels, block.kernel))
        self.active: MBConv | Pointwise = widest
        mid = widest.mid_channels
        self.expand = _convolution(widest.in_channels, mid, 1)
        self.expand_bn = _elastic_batch_norm(mid)
        self.depthwise = ElasticDepthwise(mid, sorted({block.kernel for block in blocks}))
        self.depthwise_bn = _elastic_batch_norm(mid)
        if widest.squeeze_excite:
            self.squeeze = SqueezeExcite(mid, widest.squeeze_channels)
        self.project = _convolution(mid, widest.out_channels, 1)
        self.project_bn = _batch_norm(widest.out_channels)
        for choice in choices:
            if isinstance(choice, Pointwise):
                self.pointwise = PointwiseLayer(choice)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the active choice; ``(b, in, h, w)`` to ``(b, out, h / stride, w / stride)``."""
        block = self.active
        if isinstance(block, Pointwise):
            return cast(Tensor, self.pointwise(x))
        mid = block.mid_channels
        y = F.conv2d(x, self.expand.weight[:mid])
        y = activate(self.expand_bn(y), block.activation)
        y = self.depthwise(y, block.kernel, block.stride)
        y = activate(self.depthwise_bn(y), block.activation)
        if block.squeeze_excite:
            squeeze, s = self.squeeze, block.squeeze_channels
            reduce_bias = cast(Tensor, squeeze.reduce.bias)[:s]
            expand_bias = cast(Tensor, squeeze.expand.bias)[:mid]
            means = y.mean((2, 3), keepdim=True)
            means = F.relu(F.conv2d(means, squeeze.reduce.weight[:s, :mid], reduce_bias))
            means = F.conv2d(means, squeeze.expand.weight[:mid, :s], expand_bias)
            y = y * F.hardsigmoid(means)
        y = cast(Tensor, self.project_bn(F.conv2d(y, self.project.weight[:, :mid])))
        return x + y if block.residual else y

    def slice(self, block: MBConv | Pointwise) -> Weights:
        """Return the state of the layer that computes one choice; views where possible."""
        if isinstance(block, Pointwise):
            return self.pointwise.state_dict()
        mid, s = block.mid_channels, block.squeeze_channels
        state = {
            "expand.weight": self.expand.weight[:mid],
            "depthwise.weight": self.depthwise.filters(mid, block.kernel),
            "project.weight": self.project.weight[:, :mid],
            **self.expand_bn.slice(mid, "expand_bn"),
            **self.depthwise_bn.slice(mid, "depthwise_bn"),
        }
        state |= {f"project_bn.{name}": t for name, t in self.project_bn.state_dict().items()}
        if block.squeeze_excite:
            state |= {
                "squeeze.reduce.weight": self.squeeze.reduce.weight[:s, :mid],
                "squeeze.reduce.bias": cast(Tensor, self.squeeze.reduce.bias)[:s],
                "squeeze.expand.weight": self.squeeze.expand.weight[:mid, :s],
                "squeeze.expand.bias": cast(Tensor, self.squeeze.expand.bias)[:mid],
            }
        return state
