"""Search spaces: what an architecture is, and how to draw, change, check and write one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import arguments, files
from ..errors import FileFormatError, InvalidInputError, InvalidTypeError
from . import mobilenetv3, nasbench201, nasbench_macro
from .blocks import Block, Head, MBConv, Pointwise, Stem
from .mobilenetv3 import MobileNetV3
from .nasbench_macro import NasBenchMacro
from .neighborhoods import Neighborhoods
from .space import (
    SPACE_FORMAT,
    SPACE_VERSION,
    AdditiveCost,
    Archs,
    SearchSpace,
    Slot,
    Stage,
    WindowCount,
    generic_space,
)

__all__ = [
    "AdditiveCost",
    "Archs",
    "Block",
    "Head",
    "MBConv",
    "MobileNetV3",
    "NasBenchMacro",
    "Neighborhoods",
    "Pointwise",
    "SearchSpace",
    "Slot",
    "Stage",
    "Stem",
    "WindowCount",
    "find",
    "from_definition",
    "get",
    "load",
    "names",
]


def _ofa(
    *, width: float = 1.0, resolutions: Sequence[int] = (224,), classes: int = 1000
) -> SearchSpace:
    network = MobileNetV3(width=width, classes=classes)
    return mobilenetv3.mobilenetv3_space("ofa-mbv3", network, min_depth=2, resolutions=resolutions)


def _compofa(
    *,
    width: float = 1.0,
    resolutions: Sequence[int] = (224,),
    classes: int = 1000,
    kernel: str = "fixed",
) -> SearchSpace:
    return mobilenetv3.mobilenetv3_space(
        "compofa-mbv3",
        MobileNetV3(width=width, classes=classes),
        min_depth=2,
        resolutions=resolutions,
        # None would uncouple depth and width: that is another space.
        compound=arguments.one_of(kernel, "kernel", ("fixed", "elastic")),
    )


def _cifar(
    *, width: float = 0.5, resolutions: Sequence[int] = (32,), classes: int = 10
) -> SearchSpace:
    # 32 pixels leave room for four halvings less than 224 do.
    network = MobileNetV3(stem_stride=1, strides=(1, 2, 2, 1, 2), width=width, classes=classes)
    return mobilenetv3.mobilenetv3_space(
        "mbv3-cifar", network, min_depth=2, resolutions=resolutions
    )


def _tiny(
    *, width: float = 1.0, resolutions: Sequence[int] = (32,), classes: int = 10
) -> SearchSpace:
    # Small enough to train in a minute on a CPU, and small at its small end: on easy images only
    # networks that are short of capacity differ in accuracy.
    network = MobileNetV3(
        channels=(8, 8, 16, 24),
        strides=(1, 2, 2),
        activations=("relu", "h_swish", "h_swish"),
        squeeze_excite=(False, True, True),
        expand_channels=64,
        feature_channels=64,
        max_depth=3,
        kernels=(3, 5, 7),
        expand_ratios=(1, 2, 4),
        width=width,
        classes=classes,
    )
    return mobilenetv3.mobilenetv3_space("mbv3-tiny", network, min_depth=1, resolutions=resolutions)


def _nasbench201() -> SearchSpace:
    return nasbench201.nasbench201_space()


def _nasbench_macro(
    *, width: float = 1.0, resolutions: Sequence[int] = (32,), classes: int = 10
) -> SearchSpace:
    network = NasBenchMacro(width=width, classes=classes)
    return nasbench_macro.nasbench_macro_space("nasbench-macro", network, resolutions=resolutions)


_BUILDERS: dict[str, Callable[..., SearchSpace]] = {
    "ofa-mbv3": _ofa,
    "compofa-mbv3": _compofa,
    "nasbench201": _nasbench201,
    "nasbench-macro": _nasbench_macro,
    "mbv3-cifar": _cifar,
    "mbv3-tiny": _tiny,
}


def names() -> tuple[str, ...]:
    """Names that `get` knows.

    Examples
    --------
    >>> names()
    ('ofa-mbv3', 'compofa-mbv3', 'nasbench201', 'nasbench-macro', 'mbv3-cifar', 'mbv3-tiny')
    """
    return tuple(_BUILDERS)


def get(name: str, **options: Any) -> SearchSpace:
    """Return a built-in search space.

    Parameters
    ----------
    name : str
        One of `names`.
    **options
        For the MobileNetV3 spaces: ``width`` (channel multiplier), ``resolutions`` (input sizes in
        pixels; more than one adds a last slot that picks among them), ``classes``. For
        ``compofa-mbv3`` also ``kernel="fixed"`` (as published, 243 networks) or ``"elastic"``.
        For ``nasbench-macro``: ``width``, ``resolutions`` (one size) and ``classes``.

    Raises
    ------
    InvalidInputError
        For an unknown name or option, or a value out of range.

    Examples
    --------
    >>> get("ofa-mbv3", width=1.2).n_architectures == (9**2 + 9**3 + 9**4) ** 5
    True
    >>> get("compofa-mbv3").n_architectures
    243
    """
    if not isinstance(name, str) or name not in _BUILDERS:
        raise InvalidInputError(
            f"unknown search space {arguments.shown(name)}; known are {', '.join(names())}"
            + arguments.nearest(name, names())
        )
    builder = _BUILDERS[name]
    known = sorted(getattr(builder, "__kwdefaults__", None) or {})
    for option in options:
        if option not in known:
            raise InvalidInputError(
                f"space '{name}' has no option {arguments.shown(option)}; its options are {known}"
                + arguments.nearest(option, known)
            )
    return builder(**options)


def load(path: files.StrPath) -> SearchSpace:
    """Read a search space that was saved, or that a user wrote, as JSON.

    A user's file has ``format``, ``version`` and ``space`` with a ``name`` and ``stages``; see
    ``docs/spaces.md`` for an example.
    """
    document = files.read_json(path, SPACE_FORMAT, SPACE_VERSION)
    files.check_keys(document, ("space",), path)
    return from_definition(files.require(document, "space", dict, path), f"'{path}'")


def find(name: files.StrPath, **options: Any) -> SearchSpace:
    """Return a built-in space by name, or the space in a file by its path.

    Options that are None count as not given; a space from a file takes none.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if not isinstance(name, (str, os.PathLike)):
        raise InvalidInputError(
            f"a search space is named by a string or a path, found {arguments.shown(name)}; spaces "
            f"are {', '.join(names())}"
        )
    if isinstance(name, str) and name in _BUILDERS:
        return get(name, **given)
    if not _is_file(name):
        raise InvalidInputError(
            f"{arguments.shown(name)} is neither a search space nor a file; spaces are "
            f"{', '.join(names())}" + arguments.nearest(name, names())
        )
    if given:
        raise InvalidInputError(
            f"'{name}' is a file, which fixes everything; leave out {', '.join(sorted(given))}"
        )
    return load(name)


def from_definition(definition: Mapping[str, Any], source: str = "definition") -> SearchSpace:
    """Rebuild a space from its ``definition``; `source` names it in error messages.

    Raises
    ------
    FileFormatError
        For a field that is missing, unknown, of the wrong type or beyond what any space needs; all
        is checked before anything is built.
    """
    if not isinstance(definition, Mapping):
        raise FileFormatError(
            f"{source}: a search space is an object, found {arguments.shown(definition)}"
        )
    kinds = [kind for kind in _KINDS if kind in definition]
    if len(kinds) != 1:
        raise FileFormatError(
            f"{source}: a search space needs 'name' and 'stages'"
            if not kinds
            else f"{source}: a search space has only one of {', '.join(map(repr, kinds))}"
        )
    try:
        return _KINDS[kinds[0]](definition, source)
    except (InvalidInputError, InvalidTypeError) as error:
        text = str(error)
        raise FileFormatError(text if text.startswith(source) else f"{source}: {text}") from error


# What a definition describes is said by the field that describes it, not by its name.
_KINDS: dict[str, Callable[[Mapping[str, Any], str], SearchSpace]] = {
    "nasbench201": nasbench201.from_definition,
    "nasbench_macro": nasbench_macro.from_definition,
    "mobilenetv3": mobilenetv3.from_definition,
    "stages": generic_space,
}


def _is_file(path: files.StrPath) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False
