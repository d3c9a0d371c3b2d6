"""Sorting channels by importance, so that a narrow layer keeps the best ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from pnag_fast.spaces import MobileNetV3

from .model import Supernet
from .modules import ElasticMBConv


def sort_channels(net: Supernet, widths_so_far: Sequence[int]) -> None:
    """Put the channels that matter most first, in place; the widest networks compute the same.

    Importance is the L1 norm of the weights that read a channel, as in Once-for-All (section 3.3,
    "elastic width"). Where narrower layers have learned already, channels stay inside the widths
    they belong to, so those layers do not change either.

    Parameters
    ----------
    net : Supernet
    widths_so_far : sequence of int
        Expand ratios that have been trained.
    """
    network, resolution = cast(MobileNetV3, net.space.network), max(net.space.resolutions)
    with torch.no_grad():
        for slot, module in enumerate(net.slots):
            codes = [network.code(network.kernels[0], ratio) for ratio in widths_so_far]
            blocks = [network.layer(slot, code, resolution) for code in codes]
            _sort_layer(
                cast(ElasticMBConv, module),
                {block.mid_channels for block in blocks},
                {block.squeeze_channels for block in blocks},
            )


def _sort_layer(layer: ElasticMBConv, widths: set[int], squeezed: set[int]) -> None:
    order = _order(layer.project.weight.abs().sum((0, 2, 3)), widths)
    _permute(layer.expand.weight, order)
    _permute(layer.depthwise.weight, order)
    for norm in (layer.expand_bn, layer.depthwise_bn):
        for name in ("weight", "bias", "running_mean", "running_var"):
            _permute(getattr(norm, name), order)
    _permute(layer.project.weight, order, dim=1)
    if hasattr(layer, "squeeze"):
        reduce, expand = layer.squeeze.reduce, layer.squeeze.expand
        _permute(reduce.weight, order, dim=1)
        _permute(expand.weight, order)
        _permute(cast(Tensor, expand.bias), order)
        inner = _order(expand.weight.abs().sum((0, 2, 3)), squeezed)
        _permute(reduce.weight, inner)
        _permute(cast(Tensor, reduce.bias), inner)
        _permute(expand.weight, inner, dim=1)


def _order(importance: Tensor, ends: set[int]) -> Tensor:
    order = torch.arange(len(importance), device=importance.device)
    first = 0
    for end in sorted({*ends, len(importance)}):
        part = torch.argsort(importance[first:end], descending=True, stable=True)
        order[first:end] = first + part
        first = end
    return order


def _permute(tensor: Tensor, order: Tensor, dim: int = 0) -> None:
    tensor.copy_(tensor.index_select(dim, order))
