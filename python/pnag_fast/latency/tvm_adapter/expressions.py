"""Kernels as TVM tensor expressions, not yet scheduled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx

from ..kernels import Activation, Convolution, Depthwise, Kernel, Mean

_DTYPE = "float32"


def prim_func(kernel: Kernel) -> Any:
    """Write `kernel` as a TIR function of its inputs and its output, in that order.

    Its blocks are named ``pad``, ``gated``, ``acc`` (the sum) and ``out`` (everything after it);
    the schedules find them by these names.
    """
    inputs = [
        te.placeholder(shape, _DTYPE, name=f"input{i}")
        for i, shape in enumerate(kernel.input_shapes)
    ]
    if isinstance(kernel, Convolution):
        output = _convolution(kernel, inputs)
    elif isinstance(kernel, Depthwise):
        output = _depthwise(kernel, inputs)
    else:
        output = _mean(kernel, inputs)
    return te.create_prim_func([*inputs, output])


def _convolution(kernel: Convolution, inputs: list[Any]) -> Any:
    rest = iter(inputs)
    image, weight = next(rest), next(rest)
    bias = next(rest) if kernel.bias else None
    gate = next(rest) if kernel.gated else None
    residual = next(rest) if kernel.residual else None
    if gate is not None and gates_weight(kernel):
        weight = _scaled(weight, lambda _y, _x, i, _o: gate[0, 0, i])
    elif gate is not None:
        image = _scaled(image, lambda _h, _w, i: gate[0, 0, i])
    image = _padded(image, kernel.kernel // 2)
    size, stride = kernel.kernel, kernel.stride
    ky, kx = te.reduce_axis((0, size), name="ky"), te.reduce_axis((0, size), name="kx")
    ki = te.reduce_axis((0, kernel.in_channels), name="ki")
    acc = te.compute(
        kernel.output_shape,
        lambda h, w, o: te.sum(
            image[h * stride + ky, w * stride + kx, ki] * weight[ky, kx, ki, o], axis=[ky, kx, ki]
        ),
        name="acc",
    )

    def finish(h: Any, w: Any, o: Any) -> Any:
        value = acc[h, w, o] if bias is None else acc[h, w, o] + bias[o]
        value = _activate(value, kernel.activation)
        return value if residual is None else value + residual[h, w, o]

    return te.compute(kernel.output_shape, finish, name="out")


def _depthwise(kernel: Depthwise, inputs: list[Any]) -> Any:
    image, weight, bias = inputs
    image = _padded(image, kernel.kernel // 2)
    size, stride = kernel.kernel, kernel.stride
    ky, kx = te.reduce_axis((0, size), name="ky"), te.reduce_axis((0, size), name="kx")
    acc = te.compute(
        kernel.output_shape,
        lambda h, w, c: te.sum(
            image[h * stride + ky, w * stride + kx, c] * weight[ky, kx, c], axis=[ky, kx]
        ),
        name="acc",
    )
    return te.compute(
        kernel.output_shape,
        lambda h, w, c: _activate(acc[h, w, c] + bias[c], kernel.activation),
        name="out",
    )


def _mean(kernel: Mean, inputs: list[Any]) -> Any:
    size = kernel.resolution
    ky, kx = te.reduce_axis((0, size), name="ky"), te.reduce_axis((0, size), name="kx")
    acc = te.compute(
        kernel.output_shape,
        lambda _h, _w, c: te.sum(inputs[0][ky, kx, c], axis=[ky, kx]),
        name="acc",
    )
    return te.compute(
        kernel.output_shape, lambda h, w, c: acc[h, w, c] * _const(1.0 / size**2), name="out"
    )


def gates_weight(kernel: Convolution) -> bool:
    """Whether the gate scales the weight, which is done where the image is the larger of the two.

    The two are the same sum of products.
    """
    return kernel.resolution**2 > kernel.out_channels


def _scaled(tensor: Any, factor: Callable[..., Any]) -> Any:
    return te.compute(tensor.shape, lambda *index: tensor[index] * factor(*index), name="gated")


def _padded(image: Any, border: int) -> Any:
    if border == 0:
        return image
    height, width, channels = (int(extent) for extent in image.shape)

    def value(h: Any, w: Any, c: Any) -> Any:
        inside = tirx.all(h >= border, h < height + border, w >= border, w < width + border)
        return tirx.if_then_else(inside, image[h - border, w - border, c], _const(0.0))

    return te.compute((height + 2 * border, width + 2 * border, channels), value, name="pad")


def _activate(value: Any, activation: Activation) -> Any:
    if activation == "relu":
        return tirx.max(value, _const(0.0))
    if activation == "none":
        return value
    sixth = tirx.min(tirx.max(value + _const(3.0), _const(0.0)), _const(6.0)) * _const(1 / 6)
    return value * sixth if activation == "h_swish" else sixth


def _const(value: float) -> Any:
    return tirx.const(value, _DTYPE)
