"""Building blocks of a network, as plain descriptions.

One description serves everything that has to agree on a block: its multiply-adds and parameters,
its torch module, and the TVM function that is compiled and timed. Nothing here computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Activation = Literal["relu", "h_swish"]


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round a channel count to a multiple of `divisor`, never down by more than 10 %.

    The rule of the MobileNet family and of Once-for-All.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    if rounded < 0.9 * value:
        rounded += divisor
    return rounded


def strided(resolution: int, stride: int) -> int:
    """Output resolution of a convolution with padding ``kernel // 2``."""
    return (resolution - 1) // stride + 1


@dataclass(frozen=True, slots=True)
class Stem:
    """First convolution: ``kernel x kernel``, batch norm, h-swish."""

    resolution: int
    in_channels: int
    out_channels: int
    stride: int
    kernel: int = 3
    activation: Activation = "h_swish"

    @property
    def out_resolution(self) -> int:
        """Height and width of the output."""
        return strided(self.resolution, self.stride)

    @property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        return self.out_resolution**2 * self.kernel**2 * self.in_channels * self.out_channels

    @property
    def parameters(self) -> int:
        """Trained parameters, batch norm's scale and shift included."""
        return self.kernel**2 * self.in_channels * self.out_channels + 2 * self.out_channels

    @property
    def key(self) -> str:
        """Name that is equal exactly when the computation is."""
        return (
            f"stem-r{self.resolution}-i{self.in_channels}-o{self.out_channels}"
            f"-k{self.kernel}-s{self.stride}-{self.activation}"
        )


@dataclass(frozen=True, slots=True)
class MBConv:
    """Inverted residual: 1x1 expand, depthwise, optional squeeze-excite, 1x1 project.

    Without `expand` the first 1x1 convolution is absent and ``mid_channels == in_channels``.
    The input is added to the output where stride and channels allow it.
    """

    resolution: int
    in_channels: int
    mid_channels: int
    out_channels: int
    kernel: int
    stride: int
    activation: Activation
    squeeze_excite: bool
    expand: bool = True

    @property
    def out_resolution(self) -> int:
        """Height and width of the output."""
        return strided(self.resolution, self.stride)

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.in_channels == self.out_channels

    @property
    def squeeze_channels(self) -> int:
        """Channels inside squeeze-excite: a quarter of the expanded ones, in multiples of 8."""
        return make_divisible(self.mid_channels // 4)

    @property
    def macs(self) -> int:
        """Multiply-adds for one image; those of squeeze-excite included, pooling not."""
        before, after = self.resolution**2, self.out_resolution**2
        total = before * self.in_channels * self.mid_channels if self.expand else 0
        total += after * self.kernel**2 * self.mid_channels
        if self.squeeze_excite:
            total += 2 * self.mid_channels * self.squeeze_channels
        return total + after * self.mid_channels * self.out_channels

    @property
    def parameters(self) -> int:
        """Trained parameters, batch norm's scale and shift included."""
        mid = self.mid_channels
        total = self.in_channels * mid + 2 * mid if self.expand else 0
        total += self.kernel**2 * mid + 2 * mid
        if self.squeeze_excite:
            total += 2 * mid * self.squeeze_channels + self.squeeze_channels + mid
        return total + mid * self.out_channels + 2 * self.out_channels

    @property
    def key(self) -> str:
        """Name that is equal exactly when the computation is."""
        return (
            f"mbconv-r{self.resolution}-i{self.in_channels}-m{self.mid_channels}"
            f"-o{self.out_channels}-k{self.kernel}-s{self.stride}-{self.activation}"
            f"-se{int(self.squeeze_excite)}-x{int(self.expand)}"
        )


@dataclass(frozen=True, slots=True)
class Pointwise:
    """1x1 convolution with batch norm, of any stride: an identity where the shape changes."""

    resolution: int
    in_channels: int
    out_channels: int
    stride: int

    @property
    def out_resolution(self) -> int:
        """Height and width of the output."""
        return strided(self.resolution, self.stride)

    @property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        return self.out_resolution**2 * self.in_channels * self.out_channels

    @property
    def parameters(self) -> int:
        """Trained parameters, batch norm's scale and shift included."""
        return self.in_channels * self.out_channels + 2 * self.out_channels

    @property
    def key(self) -> str:
        """Name that is equal exactly when the computation is."""
        return (
            f"pointwise-r{self.resolution}-i{self.in_channels}-o{self.out_channels}-s{self.stride}"
        )


@dataclass(frozen=True, slots=True)
class Head:
    """1x1 convolution with batch norm, global pooling, 1x1 convolution, linear classifier.

    The second convolution has neither bias nor batch norm, as in Once-for-All. With 0 feature
    channels there is none, as in MobileNetV2: the classifier reads what was pooled.
    """

    resolution: int
    in_channels: int
    expand_channels: int
    feature_channels: int
    classes: int
    activation: Activation = "h_swish"

    @property
    def pooled_channels(self) -> int:
        """Channels that the classifier reads."""
        return self.feature_channels or self.expand_channels

    @property
    def macs(self) -> int:
        """Multiply-adds for one image; the classifier included, pooling not."""
        return (
            self.resolution**2 * self.in_channels * self.expand_channels
            + self.expand_channels * self.feature_channels
            + self.pooled_channels * self.classes
        )

    @property
    def parameters(self) -> int:
        """Trained parameters, batch norm's scale and shift and the classifier's bias included."""
        return (
            self.in_channels * self.expand_channels
            + 2 * self.expand_channels
            + self.expand_channels * self.feature_channels
            + self.pooled_channels * self.classes
            + self.classes
        )

    @property
    def key(self) -> str:
        """Name that is equal exactly when the computation is."""
        return (
            f"head-r{self.resolution}-i{self.in_channels}-x{self.expand_channels}"
            f"-f{self.feature_channels}-c{self.classes}-{self.activation}"
        )


Block = Stem | MBConv | Pointwise | Head
