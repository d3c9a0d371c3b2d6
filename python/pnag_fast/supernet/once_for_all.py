"""Supernets as Once-for-All publishes them: ``ofa_mbv3_d234_e346_k357_w1.0`` and ``..._w1.2``.

Source: github.com/mit-han-lab/once-for-all, `OFAMobileNetV3`. The layers are the same one for one;
what differs is their names, of which Once-for-All itself has several: its `load_state_dict` reads
checkpoints of older releases by doubling or undoubling a part of a name.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from pnag_fast import files
from pnag_fast.errors import FileFormatError
from pnag_fast.optional_torch import load_tensors
from pnag_fast.runs import Arrays
from pnag_fast.spaces import MobileNetV3, SearchSpace
from pnag_fast.spaces.mobilenetv3 import mobilenetv3_space

from .checkpoint import check_arrays, set_weights, weight_arrays
from .model import IMAGENET_INPUT, Supernet, require_mobilenet
from .modules import ElasticMBConv
from .trained_on import CENTRE_CROP, TrainedOn

_PUBLISHED = {
    "stem.conv": "first_conv.conv",
    "stem.bn": "first_conv.bn",
    "expand": "inverted_bottleneck.conv",
    "expand_bn": "inverted_bottleneck.bn",
    "depthwise": "depth_conv.conv",
    "depthwise_bn": "depth_conv.bn",
    "squeeze": "depth_conv.se.fc",
    "project": "point_linear.conv",
    "project_bn": "point_linear.bn",
    "head.expand": "final_expand_layer.conv",
    "head.expand_bn": "final_expand_layer.bn",
    "head.feature": "feature_mix_layer.conv",
    "head.classifier": "classifier.linear",
}

_IMAGENET_CLASSES = 1000

# Parts of names that only some releases write. Without them every spelling is the same.
_SPELLINGS = (
    (".mobile_inverted_conv.", ".conv."),
    (".bn.bn.", ".bn."),
    (".conv.conv.weight", ".conv.weight"),
    (".linear.linear.", ".linear."),
)


def load_ofa(path: files.StrPath, space: SearchSpace) -> Supernet:
    """Read a supernet published with Once-for-All.

    The file is what ``torch.save`` made of ``{"state_dict": ...}``, under the names of any release
    of Once-for-All. No code in it is run. Its images are normalised as is usual for ImageNet, which
    the supernet's `input_scale` says, and which `evaluate` and `recalibrate` follow. Where it tells
    1,000 classes apart its `trained_on` is ImageNet; it carries no images of it.

    Parameters
    ----------
    path : path
        For instance ``ofa_mbv3_d234_e346_k357_w1.2``.
    space : SearchSpace
        ``ofa-mbv3`` or ``compofa-mbv3`` of the checkpoint's width and classes. A space with fewer
        kernel sizes gets the filters that these sizes have in the checkpoint.

    Returns
    -------
    Supernet
        On the CPU, in evaluation mode, with its largest network active.

    Raises
    ------
    FileFormatError
        If the file is truncated or foreign, holds more than tensors, is of another width, or lacks
        or has in excess any weight, or one has another shape or type or is not finite.
    FileAccessError
        If it cannot be read, or does not fit into memory.
    UnsupportedSpaceError
        If the space is no MobileNetV3.
    """
    network = require_mobilenet(space)
    arrays = _read(path)
    _check_width(arrays, network, space, path)
    # All kernel sizes, which a space with fixed kernels lacks.
    elastic = mobilenetv3_space(space.name, network, min_depth=1, resolutions=space.resolutions[:1])
    net = Supernet(elastic)
    names = {
        name: published_name(name)
        for name in net.state_dict()
        if not name.endswith("num_batches_tracked")
    }
    shapes = {names[name]: tuple(t.shape) for name, t in net.state_dict().items() if name in names}
    check_arrays(arrays, shapes, path, f"the published supernet of space '{space.name}'")
    set_weights(net, {name: arrays[published] for name, published in names.items()}, path)
    return _part(net, space, path)


def published_name(name: str) -> str:
    """Return the name that Once-for-All gives to one of our tensors, in its shortest spelling.

    Examples
    --------
    >>> published_name("slots.0.depthwise.transforms.7to5")
    'blocks.1.conv.depth_conv.conv.7to5_matrix'
    """
    head, _, rest = name.partition(".")
    block = ""
    if head == "first":
        block, name = "blocks.0.conv.", rest
    elif head == "slots":
        index, _, name = rest.partition(".")
        block = f"blocks.{int(index) + 1}.conv."
    if ".transforms." in name:
        return f"{block}depth_conv.conv.{name.rpartition('.')[2]}_matrix"
    for ours, published in _PUBLISHED.items():
        if name.startswith(f"{ours}."):
            return f"{block}{published}{name.removeprefix(ours)}"
    raise KeyError(name)


def _read(path: files.StrPath) -> Arrays:
    """Read all tensors but the counters of batches, named in their shortest spelling."""
    document = load_tensors(path)
    state = document.get("state_dict", document) if isinstance(document, dict) else None
    if not isinstance(state, dict) or not state:
        raise FileFormatError(
            f"'{path}' is no published supernet: expected a dictionary with 'state_dict', found "
            + ("an empty one" if state == {} else f"{type(document).__name__}")
        )
    arrays: Arrays = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise FileFormatError(
                f"'{path}' is no published supernet: its entry {name!r} is a "
                f"{type(value).__name__}, not a tensor under a name"
            )
        if name.endswith("num_batches_tracked"):
            continue
        short = name
        for long, spelling in _SPELLINGS:
            short = short.replace(long, spelling)
        if short in arrays:
            raise FileFormatError(f"'{path}' has the tensor '{short}' twice, under two spellings")
        try:
            arrays[short] = value.detach().numpy()
        except (RuntimeError, TypeError) as error:
            raise FileFormatError(
                f"'{path}': tensor '{name}' is no ordinary array, but {value.dtype} of layout "
                f"{value.layout}"
            ) from error
    return arrays


def _check_width(
    arrays: Arrays, network: MobileNetV3, space: SearchSpace, path: files.StrPath
) -> None:
    """Tell another width apart from other damage, since it is the likeliest mistake."""
    first = arrays.get("first_conv.conv.weight")
    channels = network.stage_channels(-1)
    if first is not None and first.ndim == 4 and first.shape[0] != channels:
        raise FileFormatError(
            f"'{path}' is of another width: its first convolution has {first.shape[0]} channels, "
            f"that of space '{space.name}' of width {network.width:g} has {channels}; pass the "
            "space with the checkpoint's width, for example "
            f"pnag_fast.spaces.get({space.name!r}, width=1.2)"
        )


def _part(net: Supernet, space: SearchSpace, path: files.StrPath) -> Supernet:
    """Return the part of a supernet of all kernel sizes that `space` uses."""
    part = Supernet(space)
    arrays = {n: a for n, a in weight_arrays(net).items() if not n.startswith("slots.")}
    with torch.no_grad():
        for i, (source, target) in enumerate(zip(net.slots, part.slots, strict=True)):
            whole, slot = cast(ElasticMBConv, source), cast(ElasticMBConv, target)
            state = whole.slice(slot.active)
            state |= {
                f"depthwise.transforms.{step}": whole.depthwise.transforms[step]
                for step in slot.depthwise.transforms
            }
            arrays |= {f"slots.{i}.{n}": t.numpy() for n, t in state.items() if t.ndim}
    set_weights(part, arrays, path)
    part.input_scale = IMAGENET_INPUT
    if part.head.block.classes == _IMAGENET_CLASSES:
        resolution = max(space.resolutions)
        part.trained_on = TrainedOn("ImageNet", None, resolution, resize=CENTRE_CROP)
    return part.eval()
