"""Kernels that blocks are made of, as plain descriptions.

A kernel is what one compiled function computes: a convolution with everything that follows it
element by element. The fusion is decided here and not by the compiler, so that the same block has
the same kernels on every target, and a kernel can be scheduled from its description alone.

Activations are ``(height, width, channels)``: the batch is one image, and channels come last
because they are what a processor's vectors run over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..spaces.blocks import strided

Activation = Literal["relu", "h_swish", "h_sigmoid", "none"]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Convolution:
    """Convolution over all channels, then bias, activation and residual.

    Inputs, in order: image, weight ``(kernel, kernel, in, out)``, bias ``(out,)`` if `bias`, gate
    ``(1, 1, in)`` that scales the input channels if `gated`, residual (shape of the output) if
    `residual`. A fully connected layer is the convolution of a 1x1 image.
    """

    resolution: int
    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    activation: Activation = "none"
    bias: bool = True
    gated: bool = False
    residual: bool = False

    @property
    def out_resolution(self) -> int:
        """Height and width of the output."""
        return strided(self.resolution, self.stride)

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """Shapes of the inputs, in order."""
        shapes: list[Shape] = [
            (self.resolution, self.resolution, self.in_channels),
            (self.kernel, self.kernel, self.in_channels, self.out_channels),
        ]
        if self.bias:
            shapes.append((self.out_channels,))
        if self.gated:
            shapes.append((1, 1, self.in_channels))
        if self.residual:
            shapes.append(self.output_shape)
        return tuple(shapes)

    @property
    def output_shape(self) -> Shape:
        """Shape of the output."""
        return (self.out_resolution, self.out_resolution, self.out_channels)

    @property
    def name(self) -> str:
        """Name that is equal exactly when the computation is; an identifier."""
        return (
            f"conv_r{self.resolution}_i{self.in_channels}_o{self.out_channels}_k{self.kernel}"
            f"_s{self.stride}_{self.activation}{'_bias' * self.bias}{'_gated' * self.gated}"
            f"{'_residual' * self.residual}"
        )


@dataclass(frozen=True, slots=True)
class Depthwise:
    """Convolution of every channel on its own, then bias and activation.

    Inputs, in order: image, weight ``(kernel, kernel, channels)``, bias ``(channels,)``.
    """

    resolution: int
    channels: int
    kernel: int
    stride: int = 1
    activation: Activation = "none"

    @property
    def out_resolution(self) -> int:
        """Height and width of the output."""
        return strided(self.resolution, self.stride)

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """Shapes of the inputs, in order."""
        return (
            (self.resolution, self.resolution, self.channels),
            (self.kernel, self.kernel, self.channels),
            (self.channels,),
        )

    @property
    def output_shape(self) -> Shape:
        """Shape of the output."""
        return (self.out_resolution, self.out_resolution, self.channels)

    @property
    def name(self) -> str:
        """Name that is equal exactly when the computation is; an identifier."""
        return (
            f"depthwise_r{self.resolution}_c{self.channels}_k{self.kernel}_s{self.stride}"
            f"_{self.activation}"
        )


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean of every channel over the image. Input: image. Output: ``(1, 1, channels)``."""

    resolution: int
    channels: int

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """Shapes of the inputs, in order."""
        return ((self.resolution, self.resolution, self.channels),)

    @property
    def output_shape(self) -> Shape:
        """Shape of the output."""
        return (1, 1, self.channels)

    @property
    def name(self) -> str:
        """Name that is equal exactly when the computation is; an identifier."""
        return f"mean_r{self.resolution}_c{self.channels}"


Kernel = Convolution | Depthwise | Mean
