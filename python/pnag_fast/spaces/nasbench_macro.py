"""The space of NAS-Bench-Macro: eight layers, three choices each, for 32x32 images.

Su et al., "Prioritized Architecture Sampling with Monto-Carlo Tree Search", CVPR 2021.

The benchmark writes an architecture as eight digits, 0 for an identity, 1 for MBConv 3 with kernel
3 and 2 for MBConv 6 with kernel 5. An identity that changes no shape is no layer at all, so that
of the 6,561 strings many name the same network, and 3,969 networks differ. The benchmark trained
each of these once, written with identities last in their stage, and its file repeats the values.
Here, too, a network is one row: such an identity is an absent layer. The first layer of a stage
halves the image and doubles the channels; there an identity is a 1x1 convolution of stride 2 with
batch norm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import arguments
from ..errors import FileFormatError, InvalidInputError
from .blocks import Block, Head, MBConv, Pointwise, Stem, make_divisible, strided
from .space import ArchDict, Archs, SearchSpace, Slot, Stage, checked_name

_NAME = "nasbench-macro"

# In the order of the benchmark's digits.
CHOICES = ("identity", "mb3_k3", "mb6_k5")
# Expand ratio and kernel of those that are blocks.
_SHAPES = {"mb3_k3": (3, 3), "mb6_k5": (6, 5)}
# Layers of each stage.
DEPTHS = (2, 3, 3)
N_LAYERS = sum(DEPTHS)
# Stage and place within it of every layer.
_PLACES = tuple((stage, place) for stage, depth in enumerate(DEPTHS) for place in range(depth))
_FIRSTS = np.array([place == 0 for _, place in _PLACES])
# What an identity does to the shape is done by the first layer of a stage.
_STRIDE = 2


@dataclass(frozen=True)
class NasBenchMacro:
    """Everything about a network of the benchmark that no architecture changes.

    Attributes
    ----------
    width : float
        Of all channels: 32 of the stem, twice as many with each stage, 1280 of the head.
    classes : int

    Raises
    ------
    InvalidInputError
        For a field that is out of range.
    """

    width: float = 1.0
    classes: int = 10

    def __post_init__(self) -> None:
        width = arguments.number(self.width, "width", 0.1, 10)
        classes = arguments.integer(self.classes, "classes", 2, 1_000_000)
        object.__setattr__(self, "width", width)
        object.__setattr__(self, "classes", classes)

    def _channels(self, stage: int) -> int:
        """Output channels of a stage; of the stem for -1."""
        return make_divisible(32 * self.width) << (stage + 1)

    def _resolution(self, stage: int, resolution: int) -> int:
        """Input resolution of a stage."""
        for _ in range(stage):
            resolution = strided(resolution, _STRIDE)
        return resolution

    def stem(self, resolution: int) -> Stem:
        """First convolution, which keeps the size of the image."""
        return Stem(resolution, 3, self._channels(-1), stride=1, activation="relu")

    def first_block(self, resolution: int) -> None:
        """Return the fixed block after the stem: there is none."""
        del resolution

    def layer(self, slot: int, code: int, resolution: int) -> MBConv | Pointwise:
        """Block that `code` puts into `slot`."""
        stage, place = _PLACES[slot]
        first = place == 0
        choice = CHOICES[code - 1 if first else code]
        size = self._resolution(stage if first else stage + 1, resolution)
        before = self._channels(stage - 1 if first else stage)
        stride = _STRIDE if first else 1
        if choice == "identity":
            return Pointwise(size, before, self._channels(stage), stride)
        expand, kernel = _SHAPES[choice]
        return MBConv(
            resolution=size,
            in_channels=before,
            mid_channels=expand * before,
            out_channels=self._channels(stage),
            kernel=kernel,
            stride=stride,
            activation="relu",
            squeeze_excite=False,
        )

    def head(self, resolution: int) -> Head:
        """Everything after the last stage."""
        last = len(DEPTHS)
        return Head(
            self._resolution(last, resolution),
            self._channels(last - 1),
            make_divisible(1280 * self.width),
            0,
            self.classes,
            activation="relu",
        )

    def fixed_blocks(self, resolution: int) -> list[Block]:
        """Stem and head."""
        return [self.stem(resolution), self.head(resolution)]

    def layers(self, arch: npt.NDArray[np.uint8], resolution: int) -> list[Block]:
        """All blocks of one architecture, in the order in which they run."""
        chosen = [
            self.layer(slot, code, resolution) for slot, code in enumerate(arch.tolist()) if code
        ]
        return [self.stem(resolution), *chosen, self.head(resolution)]

    def with_classes(self, space: SearchSpace, classes: int) -> SearchSpace:
        """Rebuild `space` for another number of classes."""
        network = dataclasses.replace(self, classes=classes)
        return nasbench_macro_space(space.name, network, resolutions=space.resolutions)

    def with_resolutions(self, space: SearchSpace, resolutions: Sequence[int]) -> SearchSpace:
        """Rebuild `space` for another input resolution; it takes one."""
        return nasbench_macro_space(space.name, self, resolutions=resolutions)


class MacroNotation:
    """Eight digits, and one dictionary entry for each layer.

    Both take any of the benchmark's 6,561 architectures. Written are, of those that are the same
    network, the one whose identities come last in their stage, as in the benchmark's own files.
    """

    def to_dicts(self, space: SearchSpace, archs: Archs) -> list[ArchDict]:
        """Map each layer to its choice."""
        names = [slot.name for slot in space.slots]
        return [
            {name: CHOICES[digit] for name, digit in zip(names, row, strict=True)}
            for row in _digits(archs).tolist()
        ]

    def from_dicts(self, space: SearchSpace, rows: Sequence[Mapping[str, Any]]) -> Archs:
        """Encode choices; layers that are left out are identities."""
        names = [slot.name for slot in space.slots]
        digits = np.zeros((len(rows), N_LAYERS), dtype=np.uint8)
        for i, row in enumerate(rows):
            arguments.known_keys(row, names, f"row {i}: an architecture of '{space.name}'")
            for layer, name in enumerate(names):
                choice = row.get(name, CHOICES[0])
                if not isinstance(choice, str) or choice not in CHOICES:
                    raise InvalidInputError(
                        f"row {i}: unknown choice {arguments.shown(choice)} of '{name}'; known are "
                        f"{CHOICES}" + arguments.nearest(choice, CHOICES)
                    )
                digits[i, layer] = CHOICES.index(choice)
        return _codes(digits)

    def to_strings(self, space: SearchSpace, archs: Archs) -> list[str]:  # noqa: ARG002
        """Write digits, identities last in their stage."""
        return ["".join(map(str, row)) for row in _digits(archs).tolist()]

    def from_strings(self, space: SearchSpace, rows: Sequence[str]) -> Archs:  # noqa: ARG002
        """Parse the benchmark's strings."""
        digits = np.zeros((len(rows), N_LAYERS), dtype=np.uint8)
        for i, text in enumerate(rows):
            plain = text.strip()
            if len(plain) != N_LAYERS or not set(plain) <= set("012"):
                raise InvalidInputError(
                    f"row {i}: expected {N_LAYERS} digits of 0 (identity), 1 (MBConv 3 with kernel "
                    f"3) and 2 (MBConv 6 with kernel 5), such as '12220110', found "
                    f"{arguments.shown(text)}"
                )
            digits[i] = [int(digit) for digit in plain]
        return _codes(digits)


def _digits(archs: Archs) -> Archs:
    """Return the benchmark's digits of rows: an identity has no code where it is no layer."""
    return np.asarray(archs - _FIRSTS.astype(np.uint8))


def _codes(digits: Archs) -> Archs:
    """Return the rows of digits in any order."""
    archs = digits + _FIRSTS.astype(np.uint8)
    first = 0
    for depth in DEPTHS:
        later = archs[:, first + 1 : first + depth]
        # Stable, so that what is present keeps its order.
        order = np.argsort(later == 0, axis=1, kind="stable")
        archs[:, first + 1 : first + depth] = np.take_along_axis(later, order, axis=1)
        first += depth
    return np.ascontiguousarray(archs)


def nasbench_macro_space(
    name: str, network: NasBenchMacro, *, resolutions: Sequence[int]
) -> SearchSpace:
    """Build the space over a network; it takes one input resolution."""
    name = checked_name(name, "the name of a space")
    listed = list(resolutions) if isinstance(resolutions, (list, tuple)) else []
    if len(listed) != 1:
        raise InvalidInputError(
            f"resolutions of space '{name}' should be a list of one integer, as its architectures "
            f"are eight digits, found {arguments.shown(resolutions)}"
        )
    resolution = arguments.integer(listed[0], f"resolution of space '{name}'", 8, 4096)
    stages, layer = [], 0
    for stage, depth in enumerate(DEPTHS):
        slots = []
        for place in range(depth):
            layer += 1
            choices = CHOICES if place == 0 else CHOICES[1:]
            slots.append(Slot(f"layer{layer}", (("block", choices),)))
        stages.append(Stage(f"stage{stage + 1}", tuple(slots), 1))
    return SearchSpace(
        name,
        stages,
        definition={
            "name": name,
            "nasbench_macro": dataclasses.asdict(network),
            "resolutions": [resolution],
        },
        notation=MacroNotation(),
        network=network,
        resolutions=(resolution,),
    )


def from_definition(definition: Mapping[str, Any], source: str) -> SearchSpace:
    """Rebuild a space from what `nasbench_macro_space` recorded."""
    arguments.known_keys(definition, ("name", "nasbench_macro", "resolutions"), source)
    for key in ("name", "resolutions"):
        if key not in definition:
            raise FileFormatError(f"{source}: a NAS-Bench-Macro space needs the field '{key}'")
    fields = definition["nasbench_macro"]
    if not isinstance(fields, Mapping):
        raise FileFormatError(
            f"{source}: 'nasbench_macro' should be an object, found {arguments.shown(fields)}"
        )
    known = tuple(field.name for field in dataclasses.fields(NasBenchMacro))
    arguments.known_keys(fields, known, f"{source}: 'nasbench_macro'")
    return nasbench_macro_space(
        definition["name"], NasBenchMacro(**fields), resolutions=definition["resolutions"]
    )
