"""Elastic MobileNetV3 spaces: Once-for-All, CompOFA and two small ones that train on a CPU.

Sources: Once-for-All (Cai et al., ICLR 2020), CompOFA (Sahni et al., ICLR 2021).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from .. import arguments
from ..errors import FileFormatError, InvalidInputError
from .blocks import Activation, Block, Head, MBConv, Stem, make_divisible, strided
from .space import (
    MAX_CHOICES,
    MAX_SLOTS,
    ArchDict,
    Archs,
    SearchSpace,
    Slot,
    Stage,
    checked_name,
    parse_integers,
    require_size,
)


@dataclass(frozen=True)
class MobileNetV3:
    """Everything about an elastic MobileNetV3 that no architecture changes.

    Channel counts are those of width 1.0. The first entry of `channels` is the stem and the fixed
    first block; the others are the elastic stages. Layer ``l`` of stage ``s`` is in slot
    ``max_depth * s + l``.

    Raises
    ------
    InvalidInputError
        For a field of the wrong type, or beyond what a network of this kind can be.
    """

    channels: tuple[int, ...] = (16, 24, 40, 80, 112, 160)
    strides: tuple[int, ...] = (2, 2, 2, 1, 2)
    activations: tuple[Activation, ...] = ("relu", "relu", "h_swish", "h_swish", "h_swish")
    squeeze_excite: tuple[bool, ...] = (False, True, False, True, True)
    expand_channels: int = 960
    feature_channels: int = 1280
    stem_stride: int = 2
    max_depth: int = 4
    kernels: tuple[int, ...] = (3, 5, 7)
    expand_ratios: tuple[int, ...] = (3, 4, 6)
    width: float = 1.0
    classes: int = 1000
    image_channels: int = 3

    def __post_init__(self) -> None:
        # Numbers become plain ones: 1 and 1.0, and integers of numpy, are the same network.
        for field in dataclasses.fields(self):
            value = _FIELDS[field.name](getattr(self, field.name), f"'{field.name}'")
            object.__setattr__(self, field.name, value)
        n = len(self.strides)
        for name, length in (("channels", n + 1), ("activations", n), ("squeeze_excite", n)):
            if len(getattr(self, name)) != length:
                raise InvalidInputError(
                    f"'{name}' should have {length} entries, as there are {n} strides, found "
                    f"{len(getattr(self, name))}"
                )
        require_size(
            "a MobileNetV3",
            n_slots=n * self.max_depth,
            n_choices=len(self.kernels) * len(self.expand_ratios),
        )

    @property
    def n_stages(self) -> int:
        """Number of elastic stages."""
        return len(self.strides)

    def stage_channels(self, stage: int) -> int:
        """Output channels of an elastic stage; of stem and first block for -1."""
        return make_divisible(self.channels[stage + 1] * self.width)

    def stage_resolution(self, stage: int, resolution: int) -> int:
        """Input resolution of an elastic stage."""
        size = strided(resolution, self.stem_stride)
        for stride in self.strides[:stage]:
            size = strided(size, stride)
        return size

    def choice(self, code: int) -> tuple[int, int]:
        """Kernel size and expand ratio of a code; choices are ordered kernel-major."""
        kernel, expand = divmod(code - 1, len(self.expand_ratios))
        return self.kernels[kernel], self.expand_ratios[expand]

    def code(self, kernel: int, expand: int) -> int:
        """Code of a kernel size and an expand ratio."""
        return (
            1
            + self.kernels.index(kernel) * len(self.expand_ratios)
            + self.expand_ratios.index(expand)
        )

    def stem(self, resolution: int) -> Stem:
        """First convolution."""
        return Stem(resolution, self.image_channels, self.stage_channels(-1), self.stem_stride)

    def first_block(self, resolution: int) -> MBConv:
        """Return the fixed block after the stem: no expansion, kernel 3."""
        channels = self.stage_channels(-1)
        size = strided(resolution, self.stem_stride)
        return MBConv(size, channels, channels, channels, 3, 1, "relu", False, expand=False)

    def layer(self, slot: int, code: int, resolution: int) -> MBConv:
        """Elastic block that `code` puts into `slot`."""
        stage, position = divmod(slot, self.max_depth)
        kernel, expand = self.choice(code)
        first = position == 0
        size = self.stage_resolution(stage if first else stage + 1, resolution)
        in_channels = self.stage_channels(stage - 1 if first else stage)
        return MBConv(
            resolution=size,
            in_channels=in_channels,
            mid_channels=make_divisible(round(in_channels * expand)),
            out_channels=self.stage_channels(stage),
            kernel=kernel,
            stride=self.strides[stage] if first else 1,
            activation=self.activations[stage],
            squeeze_excite=self.squeeze_excite[stage],
        )

    def head(self, resolution: int) -> Head:
        """Everything after the last stage."""
        return Head(
            self.stage_resolution(self.n_stages, resolution),
            self.stage_channels(self.n_stages - 1),
            make_divisible(self.expand_channels * self.width),
            make_divisible(self.feature_channels * self.width),
            self.classes,
        )

    def fixed_blocks(self, resolution: int) -> list[Block]:
        """Stem, first block and head."""
        return [self.stem(resolution), self.first_block(resolution), self.head(resolution)]

    def layers(self, arch: npt.NDArray[np.uint8], resolution: int) -> list[Block]:
        """All blocks of one architecture, in the order in which they run."""
        n_layers = self.n_stages * self.max_depth
        elastic = [
            self.layer(slot, int(code), resolution)
            for slot, code in enumerate(arch[:n_layers].tolist())
            if code
        ]
        return [
            self.stem(resolution),
            self.first_block(resolution),
            *elastic,
            self.head(resolution),
        ]

    def with_classes(self, space: SearchSpace, classes: int) -> SearchSpace:
        """Rebuild `space` for another number of classes."""
        changed = {**space.definition, "mobilenetv3": {**space.definition["mobilenetv3"]}}
        changed["mobilenetv3"]["classes"] = classes
        return from_definition(changed, f"space '{space.name}'")

    def with_resolutions(self, space: SearchSpace, resolutions: Sequence[int]) -> SearchSpace:
        """Rebuild `space` for other input resolutions."""
        changed = {**space.definition, "resolutions": list(resolutions)}
        return from_definition(changed, f"space '{space.name}'")


# As a view of keys, which compares as a set does and keeps its order in messages.
_DICT_KEYS = dict.fromkeys(("d", "ks", "e", "r")).keys()


class MobileNetNotation:
    """``{"d", "ks", "e", "r"}`` as in Once-for-All, ``d:ks:e`` as in PNAG.

    ``ks`` and ``e`` have one entry per layer, 0 where the layer is absent. A space with several
    resolutions appends the resolution to the string: ``d:ks:e:r``.
    """

    def to_dicts(self, space: SearchSpace, archs: Archs) -> list[ArchDict]:
        """Write depths, kernel sizes, expand ratios and the resolution of each row."""
        network = _network(space)
        n_layers = network.n_stages * network.max_depth
        kernels = np.array([0] + [network.choice(c + 1)[0] for c in range(_n_choices(network))])
        ratios = np.array([0] + [network.choice(c + 1)[1] for c in range(_n_choices(network))])
        codes = archs[:, :n_layers]
        present = (codes > 0).reshape(len(archs), network.n_stages, network.max_depth)
        depths, ks, e = (
            present.sum(axis=2).tolist(),
            kernels[codes].tolist(),
            ratios[codes].tolist(),
        )
        return [
            {"d": depths[i], "ks": ks[i], "e": e[i], "r": [space.resolution_of(archs[i])]}
            for i in range(len(archs))
        ]

    def from_dicts(self, space: SearchSpace, rows: Sequence[Mapping[str, Any]]) -> Archs:
        """Encode; values of layers beyond the depth of their stage are ignored.

        The resolution may be left out where the space has only one.
        """
        network = _network(space)
        archs = np.zeros((len(rows), space.n_slots), dtype=np.uint8)
        n_layers = network.n_stages * network.max_depth
        for i, row in enumerate(rows):
            if not row.keys() <= _DICT_KEYS:
                # Once-for-All also writes "wid", for spaces that choose a width, as None.
                arguments.known_keys(
                    {key: value for key, value in row.items() if key != "wid" or value is not None},
                    _DICT_KEYS,
                    f"row {i}: an architecture of '{space.name}'",
                )
            depths = _integers(row, "d", network.n_stages, i)
            kernels = _integers(row, "ks", n_layers, i)
            ratios = _integers(row, "e", n_layers, i)
            for stage, depth in enumerate(depths):
                if not 0 <= depth <= network.max_depth:
                    raise InvalidInputError(
                        f"row {i}: depth {arguments.shown(depth)} of stage {stage} is not in 0 to "
                        f"{network.max_depth}"
                    )
                for slot in range(stage * network.max_depth, stage * network.max_depth + depth):
                    kernel, expand = kernels[slot], ratios[slot]
                    if kernel not in network.kernels or expand not in network.expand_ratios:
                        raise InvalidInputError(
                            f"row {i}: layer {slot} has kernel {arguments.shown(kernel)} and "
                            f"expand ratio {arguments.shown(expand)}; "
                            f"allowed are {network.kernels} and {network.expand_ratios}"
                        )
                    archs[i, slot] = network.code(kernel, expand)
            self._set_resolution(space, archs[i], row.get("r"), i)
        return archs

    def to_strings(self, space: SearchSpace, archs: Archs) -> list[str]:
        """Write ``d:ks:e``, or ``d:ks:e:r`` where the resolution is a choice."""
        keys = ("d", "ks", "e") if space.resolution_slot is None else ("d", "ks", "e", "r")
        return [
            ":".join(",".join(map(str, row[key])) for key in keys)
            for row in self.to_dicts(space, archs)
        ]

    def from_strings(self, space: SearchSpace, rows: Sequence[str]) -> Archs:
        """Parse ``d:ks:e`` or ``d:ks:e:r``."""
        network = _network(space)
        n_layers = network.n_stages * network.max_depth
        parsed = []
        for i, text in enumerate(rows):
            parts = text.split(":", 4)
            if len(parts) not in (3, 4):
                raise InvalidInputError(
                    f"row {i}: expected 'd:ks:e' or 'd:ks:e:r', found {arguments.shown(text)}"
                )
            row = {
                "d": parse_integers(parts[0], row=i, what="depths", length=network.n_stages),
                "ks": parse_integers(parts[1], row=i, what="kernel sizes", length=n_layers),
                "e": parse_integers(parts[2], row=i, what="expand ratios", length=n_layers),
            }
            if len(parts) == 4:
                row["r"] = parse_integers(parts[3], row=i, what="resolutions", length=1)
            parsed.append(row)
        return self.from_dicts(space, parsed)

    @staticmethod
    def _set_resolution(
        space: SearchSpace, arch: npt.NDArray[np.uint8], value: object, row: int
    ) -> None:
        if value is None and space.resolution_slot is None:
            return
        try:
            found = _plain_list(value)
            resolution = arguments.integer(
                found[0] if found is not None and len(found) == 1 else value, "r"
            )
        except InvalidInputError:
            resolution = -1
        if resolution not in space.resolutions:
            raise InvalidInputError(
                f"row {row}: resolution {arguments.shown(value)} is not one of space "
                f"'{space.name}': {list(space.resolutions)}"
            )
        if space.resolution_slot is not None:
            arch[space.resolution_slot] = 1 + space.resolutions.index(resolution)


def _network(space: SearchSpace) -> MobileNetV3:
    network = space.network
    if not isinstance(network, MobileNetV3):  # a notation is only ever given to its own spaces
        raise TypeError(f"space '{space.name}' is no MobileNetV3 space")
    return network


def _n_choices(network: MobileNetV3) -> int:
    return len(network.kernels) * len(network.expand_ratios)


def _integers(row: Mapping[str, Any], key: str, length: int, index: int) -> list[int]:
    if key not in row:
        raise InvalidInputError(
            f"row {index}: '{key}' is missing; an architecture needs 'd', 'ks' and 'e'"
        )
    values = _plain_list(row[key])
    if values is None or len(values) != length:
        raise InvalidInputError(
            f"row {index}: '{key}' should be a list of {length} integers, found "
            f"{arguments.shown(row[key])}"
        )
    if set(map(type, values)) == {int}:
        return values
    return [
        arguments.integer(v, f"row {index}: entry {i} of '{key}'") for i, v in enumerate(values)
    ]


def _plain_list(value: Any) -> list[Any] | None:
    """Return the entries of a list, a tuple or an array of one dimension, else None."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if hasattr(value, "tolist") and len(getattr(value, "shape", ())) == 1:
        arguments.require_plain(value, "an array of an architecture")
        found = value.tolist()
        return found if isinstance(found, list) else None
    return None


# --- construction ------------------------------------------------------------------------------

# CompOFA ties the width of a stage to its depth (its section 3) and fixes the kernel per stage
# to those of MobileNetV3-Large.
COMPOUND_EXPAND = {2: 3, 3: 4, 4: 6}
COMPOUND_KERNELS = (3, 5, 3, 3, 5)


def mobilenetv3_space(
    name: str,
    network: MobileNetV3,
    *,
    min_depth: int,
    resolutions: Sequence[int],
    compound: str | None = None,
) -> SearchSpace:
    """Build a space over an elastic MobileNetV3.

    Parameters
    ----------
    compound : {None, "fixed", "elastic"}
        Couple depth and width as CompOFA does, with the kernel fixed per stage or free per layer.
    """
    name = checked_name(name, "the name of a space")
    resolutions = _checked_resolutions(name, resolutions)
    min_depth = arguments.integer(min_depth, "'min_depth'", 0, network.max_depth)
    require_size(
        f"space '{name}'",
        n_slots=network.n_stages * network.max_depth + (len(resolutions) > 1),
        n_choices=len(network.kernels) * len(network.expand_ratios),
        n_resolutions=len(resolutions),
    )
    if compound is not None:
        _require_compound(network, compound)
    factors = (("kernel", network.kernels), ("expand", network.expand_ratios))
    stages = []
    for stage in range(network.n_stages):
        slots = tuple(
            Slot(f"stage{stage + 1}.layer{layer + 1}", factors)
            for layer in range(network.max_depth)
        )
        rows = None if compound is None else _compound_rows(network, stage, compound)
        stages.append(Stage(f"stage{stage + 1}", slots, min_depth, rows))
    resolution_slot = None
    if len(resolutions) > 1:
        resolution_slot = network.n_stages * network.max_depth
        slot = Slot("resolution", (("resolution", resolutions),))
        stages.append(Stage("resolution", (slot,), 1))
    definition = {
        "name": name,
        "mobilenetv3": dataclasses.asdict(network),
        "min_depth": min_depth,
        "resolutions": resolutions,
        "compound": compound,
    }
    return SearchSpace(
        name,
        stages,
        definition=_lists(definition),
        notation=MobileNetNotation(),
        network=network,
        resolutions=resolutions,
        resolution_slot=resolution_slot,
    )


def from_definition(definition: Mapping[str, Any], source: str) -> SearchSpace:
    """Rebuild a space from what `mobilenetv3_space` recorded."""
    arguments.known_keys(
        definition, ("name", "mobilenetv3", "min_depth", "resolutions", "compound"), source
    )
    for key in ("name", "min_depth", "resolutions"):
        if key not in definition:
            raise FileFormatError(f"{source}: a MobileNetV3 space needs the field '{key}'")
    fields = definition["mobilenetv3"]
    if not isinstance(fields, Mapping):
        raise FileFormatError(
            f"{source}: 'mobilenetv3' should be an object, found {arguments.shown(fields)}"
        )
    arguments.known_keys(fields, tuple(_FIELDS), f"{source}: 'mobilenetv3'")
    return mobilenetv3_space(
        definition["name"],
        MobileNetV3(**fields),
        min_depth=definition["min_depth"],
        resolutions=definition["resolutions"],
        compound=definition.get("compound"),
    )


def _require_compound(network: MobileNetV3, compound: str) -> None:
    arguments.one_of(compound, "kernel", ("fixed", "elastic"))
    kernels = set(COMPOUND_KERNELS) if compound == "fixed" else set()
    depths = COMPOUND_EXPAND
    if (
        network.max_depth < max(depths)
        or network.n_stages > len(COMPOUND_KERNELS)
        or not set(depths.values()) <= set(network.expand_ratios)
        or not kernels <= set(network.kernels)
    ):
        raise InvalidInputError(
            f"a compound space needs stages of at least {max(depths)} layers, at most "
            f"{len(COMPOUND_KERNELS)} of them, expand ratios {sorted(depths.values())}"
            + (f" and kernels {sorted(kernels)}" if kernels else "")
        )
    if compound == "elastic":
        n_rows = sum(len(network.kernels) ** depth for depth in depths)
        require_size("a compound space", n_rows=network.n_stages * n_rows)


def _compound_rows(network: MobileNetV3, stage: int, compound: str) -> tuple[tuple[int, ...], ...]:
    rows = []
    for depth, expand in COMPOUND_EXPAND.items():
        kernels = (COMPOUND_KERNELS[stage],) if compound == "fixed" else network.kernels
        # A fixed kernel is the same in every layer, an elastic one is free in each.
        for chosen in itertools.product(kernels, repeat=depth):
            codes = [network.code(kernel, expand) for kernel in chosen]
            rows.append(tuple(codes + [0] * (network.max_depth - depth)))
    return tuple(rows)


def _checked_resolutions(name: str, resolutions: object) -> tuple[int, ...]:
    what = f"resolutions of space '{name}'"
    listed = _plain_list(resolutions)
    try:
        if listed is None or not 1 <= len(listed) <= MAX_CHOICES:
            raise InvalidInputError
        values = tuple(arguments.integer(r, what, 8, 4096) for r in listed)
        if len(set(values)) != len(values):
            raise InvalidInputError
    except InvalidInputError:
        raise InvalidInputError(
            f"{what} should be a list of distinct integers from 8 to 4096, 1 to {MAX_CHOICES} of "
            f"them, found {arguments.shown(resolutions)}"
        ) from None
    return values


# --- fields of a network -------------------------------------------------------------------------

_Check = Callable[[Any, str], Any]

# Wider or longer than any published network by far; a file may not ask for more.
_MAX_CHANNELS = 2**16
_MAX_STAGES = 32
_MAX_KERNELS = 16


def _integer(low: int, high: int) -> _Check:
    return lambda value, name: arguments.integer(value, name, low, high)


def _tuple(check: _Check, most: int, *, distinct: bool = False) -> _Check:
    """Check every entry of a list or tuple."""

    def checked(value: Any, name: str) -> tuple[Any, ...]:
        listed = _plain_list(value)
        if listed is None or not 1 <= len(listed) <= most:
            raise InvalidInputError(
                f"{name} should be a list of 1 to {most} entries, found {arguments.shown(value)}"
            )
        found = tuple(check(entry, f"entry {i} of {name}") for i, entry in enumerate(listed))
        if distinct and len(set(found)) != len(found):
            raise InvalidInputError(
                f"{name} should have distinct entries, found {arguments.shown(value)}"
            )
        return found

    return checked


def _kernel(value: Any, name: str) -> int:
    kernel = arguments.integer(value, name, 1, 99)
    if kernel % 2 == 0:  # a layer pads by half its kernel on either side
        raise InvalidInputError(f"{name} should be odd, found {kernel}")
    return kernel


def _ratio(value: Any, name: str) -> int:
    # Strings and dictionaries write ratios as integers; older files may hold 3.0 for 3.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return arguments.integer(value, name, 1, 100)


def _activation(value: Any, name: str) -> str:
    return arguments.one_of(value, name, get_args(Activation))


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidInputError(f"{name} should be true or false, found {arguments.shown(value)}")
    return bool(value)


_FIELDS: dict[str, _Check] = {
    "channels": _tuple(_integer(1, _MAX_CHANNELS), _MAX_STAGES + 1),
    "strides": _tuple(_integer(1, 16), _MAX_STAGES),
    "activations": _tuple(_activation, _MAX_STAGES),
    "squeeze_excite": _tuple(_flag, _MAX_STAGES),
    "expand_channels": _integer(1, _MAX_CHANNELS),
    "feature_channels": _integer(1, _MAX_CHANNELS),
    "stem_stride": _integer(1, 16),
    "max_depth": _integer(1, MAX_SLOTS),
    "kernels": _tuple(_kernel, _MAX_KERNELS, distinct=True),
    "expand_ratios": _tuple(_ratio, MAX_CHOICES, distinct=True),
    "width": lambda value, name: arguments.number(value, name.strip("'"), 0.1, 10),
    "classes": lambda value, name: arguments.integer(value, name.strip("'"), 2, 1_000_000),
    "image_channels": _integer(1, 1024),
}


def _lists(value: Any) -> Any:
    """Turn tuples into lists, so that a definition equals its own JSON round trip."""
    if isinstance(value, Mapping):
        return {key: _lists(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_lists(item) for item in value]
    return value
