"""The supernet of a space of MobileNets, and the networks that are cut out of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pnag_fast import arguments, costs
from pnag_fast.errors import InvalidInputError, InvalidTypeError, UnsupportedSpaceError
from pnag_fast.spaces import Archs, MobileNetV3, NasBenchMacro, SearchSpace, Stage
from pnag_fast.spaces.blocks import Block, Head, MBConv, Pointwise
from pnag_fast.spaces.space import require_space

from .modules import (
    ElasticDepthwise,
    ElasticMBConv,
    HeadLayer,
    Layer,
    MBConvLayer,
    PointwiseLayer,
    StemLayer,
    Weights,
    make_layer,
)
from .trained_on import TrainedOn

Arch = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class InputScale:
    """How pixels enter a network: ``(pixel / 255 - mean) / std``, per colour.

    Attributes
    ----------
    mean, std : tuple of float
        Red, green, blue.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# As `pnag_fast.data.normalize` does it: -1 to 1.
PLAIN_INPUT = InputScale((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# What networks trained on ImageNet take, those of Once-for-All among them.
IMAGENET_INPUT = InputScale((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def build(space: SearchSpace, *, classes: int | None = None, seed: int = 0) -> Supernet:
    """Build a supernet with fresh weights.

    Parameters
    ----------
    space : SearchSpace
        One of the MobileNetV3 spaces, or ``nasbench-macro``.
    classes : int, optional
        Checked against the space, whose cost tables depend on it. Default: as in the space.
    seed : int
        Same seed, same weights. Torch's global generator is neither read nor changed.

    Returns
    -------
    Supernet
        On the CPU, in training mode, with its largest network active.

    Raises
    ------
    UnsupportedSpaceError
        If the space is of another kind.
    InvalidInputError
        If `classes` is not that of the space.

    Examples
    --------
    >>> import pnag_fast as pf
    >>> space = pf.spaces.get("mbv3-tiny")
    >>> net = build(space, seed=1)
    >>> net.set_active(space.sample(1, seed=2)[0])
    >>> net(torch.zeros(4, 3, 16, 16)).shape
    torch.Size([4, 10])
    """
    network = require_elastic(space)
    if classes is not None and classes != network.classes:
        raise InvalidInputError(
            f"classes={classes!r} differs from space '{space.name}', whose networks and cost "
            f"tables have {network.classes}; get a space with that many: "
            f"pnag_fast.spaces.get({space.name!r}, classes={classes!r})"
        )
    net = Supernet(space)
    net.initialise(seed)
    return net


class Supernet(nn.Module):
    """Every network of a space in one set of shared weights, as in Once-for-All.

    A narrower layer uses the first channels of the widest, a shallower stage its first layers, a
    smaller kernel the transformed centre of the larger one. Images enter as float32,
    ``(b, 3, h, w)``, -1 to 1 as `pnag_fast.data.normalize` returns them unless `input_scale` says
    otherwise.

    `build`, `load` and `load_ofa` make supernets; the constructor itself leaves the weights unset.

    Attributes
    ----------
    space : SearchSpace
    input_scale : InputScale
        What the weights take their pixels to be.
    trained_on : TrainedOn, optional
        The images they learned from; None where nobody said. `train` sets it, files keep it.
    stem, first, head : StemLayer, MBConvLayer or None, HeadLayer
        What all networks share as it is; not every space has a fixed first block.
    slots : nn.ModuleList of ElasticMBConv
        One per elastic layer of the space, in the order of its slots.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        network = require_elastic(space)
        resolution = max(space.resolutions)
        self.space = space
        self.input_scale = PLAIN_INPUT
        self.trained_on: TrainedOn | None = None
        # On the meta device nothing is allocated or drawn, so a hostile file cannot fill memory
        # and torch's global random state stays as it was.
        with torch.device("meta"):
            self.stem = StemLayer(network.stem(resolution))
            first = network.first_block(resolution)
            self.first = None if first is None else MBConvLayer(first)
            self.slots = nn.ModuleList(
                ElasticMBConv([network.layer(slot, code, resolution) for code in codes])
                for slot, codes in enumerate(_slot_codes(space))
            )
            self.head = HeadLayer(network.head(resolution))
        self._path: list[ElasticMBConv] = [cast(ElasticMBConv, slot) for slot in self.slots]

    def extra_repr(self) -> str:
        """Say in a line what `print` shows: its hundreds of layers are in its attributes."""
        known = "" if self.trained_on is None else f", trained on {self.trained_on.name!r}"
        return f"{self.space.name!r}, {_summary(self, self.head.block.classes)}{known}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def initialise(self, seed: int) -> None:
        """Allocate all weights on the CPU and draw them anew from `seed`.

        Convolutions are normal with variance 2 / fan-out, the fan-out of a depthwise convolution
        being that of one channel; linear layers are uniform; kernel transforms are identities.
        """
        self.to_empty(device="cpu")
        generator = torch.Generator().manual_seed(arguments.seed(seed))
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    fan_out = module.out_channels // module.groups * math.prod(module.kernel_size)
                    module.weight.normal_(0, math.sqrt(2 / fan_out), generator=generator)
                    if module.bias is not None:
                        module.bias.zero_()
                elif isinstance(module, nn.Linear):
                    bound = 1 / math.sqrt(module.in_features)
                    module.weight.uniform_(-bound, bound, generator=generator)
                    module.bias.zero_()
                elif isinstance(module, nn.BatchNorm2d):
                    module.reset_parameters()
                elif isinstance(module, ElasticDepthwise):
                    std = math.sqrt(2) / module.kernels[0]
                    module.weight.normal_(0, std, generator=generator)
                    for matrix in module.transforms.values():
                        nn.init.eye_(matrix)

    def set_active(self, arch: Arch) -> None:
        """Let `forward` compute one architecture.

        Parameters
        ----------
        arch : ndarray of uint8, shape (n_slots,)

        Raises
        ------
        InvalidInputError
            If it is no architecture of the space.
        """
        blocks = self.layers(arch)
        present = np.flatnonzero(arch[: len(self.slots)]).tolist()
        self._path = []
        n_fixed = 1 if self.first is None else 2
        for slot, block in zip(present, blocks[n_fixed:-1], strict=True):
            layer = cast(ElasticMBConv, self.slots[slot])
            layer.active = cast(MBConv | Pointwise, block)
            self._path.append(layer)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits with the active architecture.

        Parameters
        ----------
        images : Tensor of float32, shape (b, 3, h, w)
            Of this supernet's `input_scale`. Any size that the strides leave a pixel of.

        Returns
        -------
        Tensor, shape (b, classes)
        """
        x = self.stem(images)
        if self.first is not None:
            x = self.first(x)
        for layer in self._path:
            x = layer(x)
        return cast(Tensor, self.head(x))

    def layers(self, arch: Arch) -> list[Block]:
        """List the blocks of an architecture, shape ``(n_slots,)``, in the order they run."""
        if not isinstance(arch, np.ndarray) or arch.dtype != np.uint8:
            found = arch.dtype if isinstance(arch, np.ndarray) else type(arch).__name__
            raise InvalidTypeError(f"an architecture is an array of uint8, found {found}")
        if arch.shape != (self.space.n_slots,):
            raise InvalidInputError(
                f"an architecture of space '{self.space.name}' has shape "
                f"({self.space.n_slots},), found {arch.shape}; pass one row of a batch"
            )
        return self.space.layers(np.ascontiguousarray(arch))

    def extract(self, arch: Arch) -> StaticNetwork:
        """Cut one network out, with its own copy of its weights.

        Parameters
        ----------
        arch : ndarray of uint8, shape (n_slots,)

        Returns
        -------
        StaticNetwork
            In evaluation mode. Its batch-norm statistics are those of the supernet, which belong to
            no network in particular: call `recalibrate` before using it.
        """
        static = StaticNetwork(self.layers(arch))
        static.input_scale = self.input_scale
        static.trained_on = self.trained_on
        present = np.flatnonzero(arch[: len(self.slots)]).tolist()
        elastic = [cast(ElasticMBConv, self.slots[slot]) for slot in present]
        path: list[StemLayer | MBConvLayer | ElasticMBConv | HeadLayer]
        first = [] if self.first is None else [self.first]
        path = [self.stem, *first, *elastic, self.head]
        state: Weights = {}
        with torch.no_grad():
            for i, (source, block) in enumerate(zip(path, static.blocks, strict=True)):
                part = (
                    source.slice(cast(MBConv | Pointwise, block))
                    if isinstance(source, ElasticMBConv)
                    else source.state_dict()
                )
                state |= {f"layers.{i}.{name}": t.detach().clone() for name, t in part.items()}
        # Strict: a weight that is missing, left over or of another shape is an error here.
        static.load_state_dict(state, strict=True, assign=True)
        for parameter in static.parameters():
            parameter.requires_grad_(True)
        return static.eval()


class StaticNetwork(nn.Module):
    """One ordinary network: `nn.Conv2d`, `nn.BatchNorm2d`, `nn.Linear`, nothing elastic.

    Made by `Supernet.extract`; the constructor itself leaves the weights unset.

    Attributes
    ----------
    blocks : tuple of Block
        The description of each layer.
    layers : nn.ModuleList
        One module per block.
    input_scale, trained_on
        As in the supernet.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.blocks = tuple(blocks)
        self.input_scale = PLAIN_INPUT
        self.trained_on: TrainedOn | None = None
        with torch.device("meta"):
            self.layers = nn.ModuleList(make_layer(block) for block in self.blocks)

    def extra_repr(self) -> str:
        """Say in a line what `print` shows; `layers` has the rest."""
        head = self.blocks[-1]
        classes = head.classes if isinstance(head, Head) else 0
        return (
            f"{len(self.blocks)} layers, {_summary(self, classes)}, {self.blocks[0].resolution} px"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits ``(b, classes)`` of images ``(b, 3, h, w)`` of this `input_scale`."""
        x = images
        for layer in self.layers:
            x = layer(x)
        return x


def _summary(net: nn.Module, classes: int) -> str:
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return f"{classes} classes, {parameters / 1e6:.2f} million parameters"


def folded_weights(static: StaticNetwork) -> list[dict[str, npt.NDArray[np.float32]]]:
    """Fold batch norm into the convolutions and return plain arrays.

    Parameters
    ----------
    static : StaticNetwork
        With the statistics that inference should use; see `recalibrate`.

    Returns
    -------
    list of dict
        One per block, in order; O, I, M, S, X, F, C are output, input, expanded, squeezed, head,
        feature and class channels, k the kernel size:

        - Stem and Pointwise: ``weight`` (O, I, k, k), ``bias`` (O,).
        - MBConv: ``expand.weight`` (M, I, 1, 1), ``expand.bias`` (both only where the block
          expands), ``depthwise.weight`` (M, 1, k, k), ``depthwise.bias``, with squeeze-excite
          ``squeeze.reduce.weight`` (S, M), ``squeeze.reduce.bias``, ``squeeze.expand.weight``
          (M, S), ``squeeze.expand.bias``; ``project.weight`` (O, M, 1, 1), ``project.bias``.
        - Head: ``expand.weight`` (X, I, 1, 1), ``expand.bias``, ``feature.weight`` (F, X) where
          there are feature channels, ``classifier.weight`` (C, F), ``classifier.bias``.
    """
    return [_folded_layer(cast(Layer, layer)) for layer in static.layers]


def _folded_layer(layer: Layer) -> dict[str, npt.NDArray[np.float32]]:
    weights: Weights = {}
    if isinstance(layer, (StemLayer, PointwiseLayer)):
        weights |= _folded("", layer.conv, layer.bn)
    elif isinstance(layer, HeadLayer):
        weights |= _folded("expand.", layer.expand, layer.expand_bn)
        if layer.block.feature_channels:
            weights["feature.weight"] = layer.feature.weight.flatten(1)
        weights["classifier.weight"] = layer.classifier.weight
        weights["classifier.bias"] = layer.classifier.bias
    else:
        if layer.block.expand:
            weights |= _folded("expand.", layer.expand, layer.expand_bn)
        weights |= _folded("depthwise.", layer.depthwise, layer.depthwise_bn)
        if layer.block.squeeze_excite:
            for name in ("reduce", "expand"):
                convolution = cast(nn.Conv2d, getattr(layer.squeeze, name))
                weights[f"squeeze.{name}.weight"] = convolution.weight.flatten(1)
                weights[f"squeeze.{name}.bias"] = cast(Tensor, convolution.bias)
        weights |= _folded("project.", layer.project, layer.project_bn)
    return {
        name: np.array(tensor.detach().cpu().numpy(), dtype=np.float32, order="C")
        for name, tensor in weights.items()
    }


def _folded(prefix: str, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Weights:
    # In double precision: folding rounds once, so the folded network agrees with the original one.
    mean = cast(Tensor, norm.running_mean).double()
    variance = cast(Tensor, norm.running_var).double()
    scale = norm.weight.double() / torch.sqrt(variance + norm.eps)
    return {
        f"{prefix}weight": convolution.weight.double() * scale.reshape(-1, 1, 1, 1),
        f"{prefix}bias": norm.bias.double() - mean * scale,
    }


def extremes(space: SearchSpace) -> Archs:
    """Return the smallest and the largest architecture of a space that can be a supernet.

    Returns
    -------
    ndarray of uint8, shape (2, n_slots)
        The smallest has the fewest layers, the narrowest expansion, the smallest kernels and the
        smallest images; where a stage lists its rows, its rows of fewest and most multiply-adds.
    """
    network = require_elastic(space)
    if not isinstance(network, MobileNetV3):
        table = costs.macs(space)
        return np.stack([table.cheapest(), table.dearest()])
    found = np.zeros((2, space.n_slots), dtype=np.uint8)
    for i, pick in enumerate((min, max)):
        resolution = pick(space.resolutions)
        code = network.code(pick(network.kernels), pick(network.expand_ratios))
        row: list[int] = []
        for stage in space.stages[: network.n_stages]:
            depth = stage.min_depth if pick is min else len(stage.slots)
            rows = stage.rows or ((code,) * depth + (0,) * (len(stage.slots) - depth),)
            macs = [
                sum(
                    network.layer(s, c, resolution).macs for s, c in enumerate(codes, len(row)) if c
                )
                for codes in rows
            ]
            row.extend(rows[macs.index(pick(macs))])
        found[i, : len(row)] = row
        if space.resolution_slot is not None:
            found[i, space.resolution_slot] = 1 + space.resolutions.index(resolution)
    return found


def elastic_stages(space: SearchSpace) -> tuple[Stage, ...]:
    """Return the stages of layers, without the one that picks the input resolution."""
    return space.stages if space.resolution_slot is None else space.stages[:-1]


def _slot_codes(space: SearchSpace) -> list[list[int]]:
    """List the codes that each elastic slot can take: all, or those of the rows of its stage."""
    codes = []
    for stage in elastic_stages(space):
        for position, slot in enumerate(stage.slots):
            if stage.rows is None:
                codes.append(list(range(1, slot.n_choices + 1)))
            else:
                codes.append(sorted({row[position] for row in stage.rows if row[position]}))
    return codes


def require_elastic(space: SearchSpace) -> MobileNetV3 | NasBenchMacro:
    """Return the network of a space that can be a supernet."""
    require_space(space)
    network = space.require_network("a supernet")
    if not isinstance(network, (MobileNetV3, NasBenchMacro)):
        raise UnsupportedSpaceError(
            f"space '{space.name}' is no space of MobileNets, which a supernet needs"
        )
    return network


def require_mobilenet(space: SearchSpace) -> MobileNetV3:
    """Return the network of a MobileNetV3 space, which weights of Once-for-All need."""
    require_space(space)
    network = space.require_network("a supernet")
    if not isinstance(network, MobileNetV3):
        raise UnsupportedSpaceError(
            f"space '{space.name}' is no MobileNetV3 space, which supernets of Once-for-All need"
        )
    return network
