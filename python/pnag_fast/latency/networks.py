"""Blocks and networks as programs: which kernels run, on what, in which order.

Nothing here compiles or computes. The weights of a block come in the layout of torch, batch norm
folded into them, and leave in the layout of the kernels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from .. import arguments
from ..errors import InvalidInputError, InvalidTypeError
from ..spaces.blocks import Block, Head, MBConv, Pointwise, Stem
from .kernels import Convolution, Depthwise, Kernel, Mean, Shape
from .tiles import Tile

Floats = npt.NDArray[np.float32]
Weights = Mapping[str, Floats]

INPUT = "input"

# Output vectors that do not fill whole registers are slow; the classes that are added have zero
# weights and are cut off again. Every other channel count is a multiple of 8 to begin with.
_CLASS_MULTIPLE = 8


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel call: `inputs` and `output` name values of the program."""

    kernel: Kernel
    inputs: tuple[str, ...]
    output: str
    tile: Tile | None = None  # None is the tile that the rules prefer

    @property
    def symbol(self) -> str:
        """Name that is equal exactly when the compiled function is; an identifier."""
        return self.kernel.name if self.tile is None else f"{self.kernel.name}_t{self.tile}"


@dataclass(frozen=True)
class Program:
    """Kernel calls, one after another; the last output is the result.

    Values are ``"input"``, the parameters by name, and the outputs of earlier steps. `classes`
    is the number of leading entries of the result that count, where it is logits.
    """

    input_shape: Shape
    steps: tuple[Step, ...]
    parameters: Mapping[str, Shape] = field(default_factory=dict)
    classes: int | None = None

    @property
    def output_shape(self) -> Shape:
        """Shape of the result."""
        return self.steps[-1].kernel.output_shape if self.steps else self.input_shape

    def tiled(self, tiles: Mapping[str, Tile]) -> Program:
        """Return the program with the given tile for each kernel that `tiles` names."""
        steps = tuple(replace(step, tile=tiles.get(step.kernel.name)) for step in self.steps)
        return replace(self, steps=steps)


class _Writer:
    """Appends steps to a program and declares the parameters that they use."""

    def __init__(self, input_shape: Shape) -> None:
        self.input_shape = input_shape
        self.steps: list[Step] = []
        self.parameters: dict[str, Shape] = {}
        self.classes: int | None = None

    def call(self, kernel: Kernel, image: str, parameters: str, *others: str) -> str:
        """Call `kernel` on `image` and the parameters ``<parameters>.weight`` and ``.bias``."""
        inputs = [image]
        if not isinstance(kernel, Mean):
            names = ["weight"]
            if isinstance(kernel, Depthwise) or kernel.bias:
                names.append("bias")
            for name, shape in zip(names, kernel.input_shapes[1:], strict=False):
                self.parameters[f"{parameters}.{name}"] = shape
                inputs.append(f"{parameters}.{name}")
        output = f"value{len(self.steps)}"
        self.steps.append(Step(kernel, (*inputs, *others), output))
        return output

    def block(self, block: Block, image: str, prefix: str) -> str:
        """Append one block and return the name of its result."""
        if isinstance(block, Stem):
            kernel = Convolution(
                block.resolution,
                block.in_channels,
                block.out_channels,
                block.kernel,
                block.stride,
                block.activation,
            )
            return self.call(kernel, image, prefix.rstrip("."))
        if isinstance(block, MBConv):
            return self._mbconv(block, image, prefix)
        if isinstance(block, Pointwise):
            kernel = Convolution(
                block.resolution, block.in_channels, block.out_channels, stride=block.stride
            )
            return self.call(kernel, image, prefix.rstrip("."))
        return self._head(block, image, prefix)

    def _mbconv(self, block: MBConv, image: str, prefix: str) -> str:
        size, mid, act = block.resolution, block.mid_channels, block.activation
        value = image
        if block.expand:
            expand = Convolution(size, block.in_channels, mid, activation=act)
            value = self.call(expand, value, f"{prefix}expand")
        depthwise = Depthwise(size, mid, block.kernel, block.stride, act)
        value = self.call(depthwise, value, f"{prefix}depthwise")
        size = block.out_resolution
        others = []
        if block.squeeze_excite:
            squeezed = block.squeeze_channels
            mean = self.call(Mean(size, mid), value, "")
            reduce = Convolution(1, mid, squeezed, activation="relu")
            gate = self.call(reduce, mean, f"{prefix}squeeze.reduce")
            widen = Convolution(1, squeezed, mid, activation="h_sigmoid")
            others.append(self.call(widen, gate, f"{prefix}squeeze.expand"))
        if block.residual:
            others.append(image)
        project = Convolution(
            size, mid, block.out_channels, gated=block.squeeze_excite, residual=block.residual
        )
        return self.call(project, value, f"{prefix}project", *others)

    def _head(self, block: Head, image: str, prefix: str) -> str:
        size, wide, act = block.resolution, block.expand_channels, block.activation
        expand = Convolution(size, block.in_channels, wide, activation=act)
        value = self.call(expand, image, f"{prefix}expand")
        value = self.call(Mean(size, wide), value, "")
        if block.feature_channels:
            feature = Convolution(1, wide, block.feature_channels, activation=act, bias=False)
            value = self.call(feature, value, f"{prefix}feature")
        self.classes = block.classes
        classifier = Convolution(1, block.pooled_channels, _padded(block.classes))
        return self.call(classifier, value, f"{prefix}classifier")

    def program(self) -> Program:
        return Program(self.input_shape, tuple(self.steps), self.parameters, self.classes)


def block_program(block: Block) -> Program:
    """Return the program of one block on its own."""
    return network_program([block])


def network_program(blocks: Sequence[Block]) -> Program:
    """Return the program of blocks that run one after another.

    Parameters are named ``<position>.<name in the block>``, for example ``2.project.bias``; those
    of a stem or a pointwise block are ``<position>.weight`` and ``<position>.bias``.
    """
    _check_chain(blocks)
    first = blocks[0]
    writer = _Writer((first.resolution, first.resolution, first.in_channels))
    value = INPUT
    for position, block in enumerate(blocks):
        value = writer.block(block, value, f"{position}.")
    return writer.program()


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _check_chain(blocks: Sequence[Block]) -> None:
    """Check that there are blocks, and that each takes what the one before it gives."""
    if not _is_sequence(blocks):
        raise InvalidTypeError(
            f"blocks should be a sequence such as space.layers(arch), found {type(blocks).__name__}"
        )
    if not blocks:
        raise InvalidInputError("blocks is empty; there should be one at least")
    given: tuple[int, int] | None = None
    for position, block in enumerate(blocks):
        if not isinstance(block, (Stem, MBConv, Pointwise, Head)):
            raise InvalidTypeError(
                f"block {position} should be one of pnag_fast.spaces, found {type(block).__name__}"
            )
        taken = (block.resolution, block.in_channels)
        if given is not None and given != taken:
            raise InvalidInputError(
                f"block {position} ({block.key}) takes {taken[1]} channels of {taken[0]} pixels, "
                f"and what comes before it gives {given[1]} of {given[0]}"
            )
        if isinstance(block, Head):
            given = (0, 0)  # logits: nothing comes after them
        else:
            given = (-(-block.resolution // block.stride), block.out_channels)


# --- weights -----------------------------------------------------------------------------------


def weight_shapes(block: Block) -> dict[str, Shape]:
    """Shapes of the weights of a block, in the layout of torch.

    Examples
    --------
    >>> from pnag_fast.spaces import Stem
    >>> weight_shapes(Stem(resolution=32, in_channels=3, out_channels=8, stride=1))
    {'weight': (8, 3, 3, 3), 'bias': (8,)}
    """
    if isinstance(block, Stem):
        size = block.kernel
        return {
            "weight": (block.out_channels, block.in_channels, size, size),
            "bias": (block.out_channels,),
        }
    if isinstance(block, Head):
        wide, features = block.expand_channels, block.feature_channels
        return {
            "expand.weight": (wide, block.in_channels, 1, 1),
            "expand.bias": (wide,),
            **({"feature.weight": (features, wide)} if features else {}),
            "classifier.weight": (block.classes, block.pooled_channels),
            "classifier.bias": (block.classes,),
        }
    if isinstance(block, Pointwise):
        return {
            "weight": (block.out_channels, block.in_channels, 1, 1),
            "bias": (block.out_channels,),
        }
    mid, squeezed = block.mid_channels, block.squeeze_channels
    shapes: dict[str, Shape] = {}
    if block.expand:
        shapes["expand.weight"] = (mid, block.in_channels, 1, 1)
        shapes["expand.bias"] = (mid,)
    shapes["depthwise.weight"] = (mid, 1, block.kernel, block.kernel)
    shapes["depthwise.bias"] = (mid,)
    if block.squeeze_excite:
        shapes["squeeze.reduce.weight"] = (squeezed, mid)
        shapes["squeeze.reduce.bias"] = (squeezed,)
        shapes["squeeze.expand.weight"] = (mid, squeezed)
        shapes["squeeze.expand.bias"] = (mid,)
    shapes["project.weight"] = (block.out_channels, mid, 1, 1)
    shapes["project.bias"] = (block.out_channels,)
    return shapes


def random_weights(blocks: Sequence[Block], seed: int) -> list[dict[str, Floats]]:
    """Draw weights that keep activations near one.

    Zeros, denormals and infinities change how fast some processors multiply, so a network that is
    only timed still gets weights of an ordinary size.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for block in blocks:
        weights: dict[str, Floats] = {}
        for name, shape in weight_shapes(block).items():
            scale = 0.1 if len(shape) == 1 else float(np.prod(shape[1:])) ** -0.5
            weights[name] = rng.normal(0.0, scale, shape).astype(np.float32)
        drawn.append(weights)
    return drawn


def pack_weights(blocks: Sequence[Block], weights: Sequence[Weights]) -> dict[str, Floats]:
    """Bring weights into the layout of `network_program`'s parameters.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Names the block and the weight that is missing, unknown, of another shape or dtype, or not
        finite.
    """
    check_weights(blocks, weights)
    packed: dict[str, Floats] = {}
    for position, given in enumerate(weights):
        packed |= {f"{position}.{name}": _packed(name, value) for name, value in given.items()}
    return packed


def check_weights(blocks: Sequence[Block], weights: Sequence[Weights]) -> None:
    """Check that weights fit blocks; see `pack_weights` for what is raised."""
    if not _is_sequence(weights):
        raise InvalidTypeError(
            "weights should be a sequence with one mapping for each block, found "
            f"{type(weights).__name__}"
        )
    if len(weights) != len(blocks):
        raise InvalidInputError(
            f"weights of {len(weights)} blocks were given for a network of {len(blocks)}; give one "
            "mapping per block of space.layers(arch), in that order"
        )
    for position, (block, given) in enumerate(zip(blocks, weights, strict=True)):
        _check_weights(block, given, f"block {position} ({block.key})")


def _check_weights(block: Block, given: Weights, where: str) -> None:
    expected = weight_shapes(block)
    if not isinstance(given, Mapping):
        raise InvalidTypeError(
            f"{where}: weights should be a mapping of names to arrays, found {type(given).__name__}"
        )
    for name in sorted(set(expected) ^ set(given), key=str):
        state = "is missing" if name in expected else "is unknown"
        raise InvalidInputError(
            f"{where}: weight '{name}' {state}; the block has {', '.join(expected)}"
        )
    for name, shape in expected.items():
        value = given[name]
        if not isinstance(value, np.ndarray) or value.dtype != np.float32:
            raise InvalidTypeError(
                f"{where}: weight '{name}' should be a float32 array, found "
                f"{getattr(value, 'dtype', type(value).__name__)}"
            )
        arguments.require_plain(value, f"{where}: weight '{name}'")
        if value.shape != shape:
            raise InvalidInputError(
                f"{where}: weight '{name}' should have shape {shape}, found {value.shape}"
            )
        if not np.isfinite(value).all():
            raise InvalidInputError(f"{where}: weight '{name}' has values that are not finite")


def _packed(name: str, value: Floats) -> Floats:
    """Bring one weight into the layout of its kernel."""
    if name.startswith("classifier."):
        extra = _padded(len(value)) - len(value)
        value = np.pad(value, [(0, extra)] + [(0, 0)] * (value.ndim - 1))
    if name == "depthwise.weight":
        value = value[:, 0].transpose(1, 2, 0)
    elif value.ndim == 2:
        value = value.T[None, None]
    elif value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
    return np.ascontiguousarray(value)


class RandomParameters:
    """Random parameters for programs that are only timed.

    Blocks that are equal in kind and position share their arrays between networks, since a dozen
    networks would otherwise hold a dozen sets of weights; within a network no two blocks do, since
    shared weights would be warm in the caches.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._known: dict[tuple[int, str], dict[str, Floats]] = {}

    def of(self, blocks: Sequence[Block]) -> dict[str, Floats]:
        """Return the parameters of `network_program` for `blocks`."""
        parameters: dict[str, Floats] = {}
        for position, block in enumerate(blocks):
            known = self._known.get((position, block.key))
            if known is None:
                (weights,) = random_weights([block], self._seed + position)
                known = {f"{position}.{name}": _packed(name, w) for name, w in weights.items()}
                self._known[(position, block.key)] = known
            parameters |= known
        return parameters


def _padded(classes: int) -> int:
    return -(-classes // _CLASS_MULTIPLE) * _CLASS_MULTIPLE
