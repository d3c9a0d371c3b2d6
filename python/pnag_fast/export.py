"""Networks for other runtimes: ONNX.

The graph is written from the block descriptions and the folded weights, the same two things that
the TVM build uses. Torch's own exporters were tried and left: the current one takes seconds to tens
of seconds per network, the quick one is deprecated, and neither folds batch norm.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import __version__, arguments, files
from .errors import InvalidInputError, MissingDependencyError
from .spaces.blocks import Activation, Block, Head, MBConv, Pointwise, Stem

if TYPE_CHECKING:
    from .supernet import StaticNetwork

INPUT_NAME = "images"
OUTPUT_NAME = "logits"

# Opset 14 brought HardSwish; runtimes of 2022 and later read opset 17 and version 8 of the file.
_OPSET = 17
_IR_VERSION = 8

Weights = Mapping[str, npt.NDArray[np.float32]]


def to_onnx(
    network: StaticNetwork,
    path: files.StrPath,
    *,
    resolution: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a network as ONNX, with batch norm folded, atomically.

    The model maps ``images`` (float32, ``(batch, channels, resolution, resolution)``, of
    the network's `input_scale`: as `pnag_fast.data.normalize` returns them, if the supernet was
    trained here) to ``logits`` (float32, ``(batch, classes)``); the
    batch size is free.

    Parameters
    ----------
    network : StaticNetwork
        With the batch-norm statistics that inference should use; see
        `pnag_fast.supernet.recalibrate`.
    path : path
        Usually ends in ``.onnx``.
    resolution : int, optional
        Input height and width, in pixels. Default: that of the network's blocks.
    metadata : mapping of str to str, optional
        Stored with the model, for example ``{"architecture": "2,2,3:..."}``, beside what
        `described` says of the network.

    Raises
    ------
    MissingDependencyError
        If onnx is not installed.
    InvalidInputError
        If `resolution` is not a positive integer or `metadata` holds anything but strings.
    FileAccessError
        If the file cannot be written; an older one is then untouched.
    """
    from .supernet import folded_weights

    size = network.blocks[0].resolution if resolution is None else resolution
    size = arguments.integer(size, "resolution", 1)
    properties = {**described(network, size), **(metadata or {})}
    if not all(isinstance(item, str) for pair in properties.items() for item in pair):
        raise InvalidInputError(
            f"metadata should map strings to strings, found {dict(metadata or {})!r}; convert with "
            "str()"
        )
    model = onnx_model(network.blocks, folded_weights(network), resolution=size)
    import onnx

    onnx.helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    files.write_bytes(path, model.SerializeToString())


def described(network: StaticNetwork, resolution: int) -> dict[str, str]:
    """Say what whoever runs a network needs to know, as metadata of its ONNX file.

    Parameters
    ----------
    network : StaticNetwork
    resolution : int
        Of its input, in pixels.

    Returns
    -------
    dict of str to str
        JSON, all of it:

        ``preprocessing``
            How an image becomes the input: ``orientation`` (turned as its EXIF says),
            ``transparency`` (what it is laid over), ``colour`` and ``layout``; ``resize``: either
            ``{"size": [h, w], "keep_aspect_ratio": false, ...}``, or
            ``{"shorter_side": n, "centre_crop": [h, w], ...}``, or null where nobody said;
            ``filter`` is bilinear, over all pixels where it shrinks (Pillow's, or ``antialias``).
            Then, per colour, ``(pixel * scale - mean) / std``.
        ``classes``
            Names by label; absent where they have none.
        ``trained_on``
            ``name`` of the images, and ``train_sha256`` of their training split where it is known.
    """
    known = network.trained_on
    size = [resolution, resolution]
    filtering = {"filter": "bilinear", "antialias": True}
    resize: dict[str, Any] | None = None
    if known is not None and known.resize == "bilinear":
        resize = {"size": size, "keep_aspect_ratio": False, **filtering}
    elif known is not None and known.resize == "centre-crop":
        shorter = math.ceil(resolution / 0.875)
        resize = {"shorter_side": shorter, "centre_crop": size, **filtering}
    preprocessing = {
        "orientation": "exif",
        "transparency": "white",
        "colour": "RGB",
        "resize": resize,
        "scale": 1 / 255,
        "mean": list(network.input_scale.mean),
        "std": list(network.input_scale.std),
        "layout": "NCHW",
    }
    found: dict[str, Any] = {"preprocessing": preprocessing}
    if known is not None:
        # The name may be a path of the machine it was trained on.
        found["trained_on"] = {"name": Path(known.name).name, "train_sha256": known.train_sha256}
        if known.classes is not None:
            found["classes"] = list(known.classes)
    return {key: json.dumps(value) for key, value in found.items()}


def onnx_model(
    blocks: Sequence[Block], weights: Sequence[Weights], *, resolution: int | None = None
) -> Any:
    """Write blocks that run one after another as an ``onnx.ModelProto``.

    Parameters
    ----------
    blocks : sequence of Block
        A whole network, or a part of one, whose output is then feature maps.
    weights : sequence of mappings
        One per block, see `pnag_fast.latency.weight_shapes`.
    resolution : int, optional
        Input height and width, in pixels. Default: that of the first block.

    Raises
    ------
    MissingDependencyError
        If onnx is not installed.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise MissingDependencyError("onnx", "export", "ONNX export") from error
    graph = _Graph(onnx)
    value = INPUT_NAME
    for block, given in zip(blocks, weights, strict=True):
        value = _add_block(graph, value, block, given)
    graph.rename_output(value, OUTPUT_NAME)
    first, last = blocks[0], blocks[-1]
    size = first.resolution if resolution is None else resolution
    shape: list[str | int]
    if isinstance(last, Head):
        shape = ["batch", last.classes]
    else:
        shape = ["batch", last.out_channels, "height", "width"]
    float32 = onnx.TensorProto.FLOAT
    describe = onnx.helper.make_tensor_value_info
    return onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "pnag_fast",
            [describe(INPUT_NAME, float32, ["batch", first.in_channels, size, size])],
            [describe(OUTPUT_NAME, float32, shape)],
            graph.initializers,
        ),
        producer_name="pnag_fast",
        producer_version=__version__,
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )


class _Graph:
    """Nodes and weights of an ONNX graph; every node's output has the node's name."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        name = f"{operator.lower()}_{len(self.nodes)}"
        node = self._onnx.helper.make_node(operator, inputs, [name], name=name, **attributes)
        self.nodes.append(node)
        return name

    def weight(self, array: npt.NDArray[np.float32]) -> str:
        """Store a weight and return its name."""
        name = f"weight_{len(self.initializers)}"
        self.initializers.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def convolution(
        self,
        x: str,
        weight: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        *,
        stride: int = 1,
        groups: int = 1,
    ) -> str:
        """Append a convolution with padding ``kernel // 2``."""
        kernel = weight.shape[-1]
        return self.add(
            "Conv",
            x,
            self.weight(weight),
            self.weight(bias),
            kernel_shape=[kernel, kernel],
            pads=[kernel // 2] * 4,
            strides=[stride, stride],
            group=groups,
        )

    def activation(self, x: str, activation: Activation) -> str:
        """Append ReLU or h-swish."""
        return self.add("Relu" if activation == "relu" else "HardSwish", x)

    def rename_output(self, value: str, name: str) -> None:
        """Name the output of the last node, which computes `value`."""
        self.nodes[-1].output[list(self.nodes[-1].output).index(value)] = name


def _add_block(graph: _Graph, x: str, block: Block, weights: Weights) -> str:
    if isinstance(block, Stem):
        y = graph.convolution(x, weights["weight"], weights["bias"], stride=block.stride)
        return graph.activation(y, block.activation)
    if isinstance(block, MBConv):
        return _add_mbconv(graph, x, block, weights)
    if isinstance(block, Pointwise):
        return graph.convolution(x, weights["weight"], weights["bias"], stride=block.stride)
    y = graph.convolution(x, weights["expand.weight"], weights["expand.bias"])
    y = graph.add("GlobalAveragePool", graph.activation(y, block.activation))
    y = graph.add("Flatten", y, axis=1)
    if block.feature_channels:
        y = graph.add("Gemm", y, graph.weight(weights["feature.weight"]), transB=1)
        y = graph.activation(y, block.activation)
    weight, bias = weights["classifier.weight"], weights["classifier.bias"]
    return graph.add("Gemm", y, graph.weight(weight), graph.weight(bias), transB=1)


def _add_mbconv(graph: _Graph, x: str, block: MBConv, weights: Weights) -> str:
    y = x
    if block.expand:
        y = graph.convolution(y, weights["expand.weight"], weights["expand.bias"])
        y = graph.activation(y, block.activation)
    y = graph.convolution(
        y,
        weights["depthwise.weight"],
        weights["depthwise.bias"],
        stride=block.stride,
        groups=block.mid_channels,
    )
    y = graph.activation(y, block.activation)
    if block.squeeze_excite:
        reduce = weights["squeeze.reduce.weight"][:, :, np.newaxis, np.newaxis]
        expand = weights["squeeze.expand.weight"][:, :, np.newaxis, np.newaxis]
        factor = graph.add("GlobalAveragePool", y)
        factor = graph.convolution(factor, reduce, weights["squeeze.reduce.bias"])
        factor = graph.convolution(
            graph.add("Relu", factor), expand, weights["squeeze.expand.bias"]
        )
        # h-sigmoid is relu6(x + 3) / 6; ONNX's HardSigmoid has other constants unless told.
        factor = graph.add("HardSigmoid", factor, alpha=1 / 6, beta=0.5)
        y = graph.add("Mul", y, factor)
    y = graph.convolution(y, weights["project.weight"], weights["project.bias"])
    return graph.add("Add", x, y) if block.residual else y
