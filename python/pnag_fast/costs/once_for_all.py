"""Latency tables of the Once-for-All tools."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, cast

from .. import arguments, files
from ..errors import (
    FileFormatError,
    InvalidInputError,
    MissingDependencyError,
    UnsupportedSpaceError,
)
from ..spaces import MobileNetV3, SearchSpace
from ..spaces.blocks import Block, Head, MBConv, Stem
from .counts import from_blocks
from .table import CostTable


def from_ofa_yaml(
    path: files.StrPath, space: SearchSpace, *, device: str | None = None
) -> CostTable:
    """Read a latency table of the Once-for-All tools: one YAML file per input resolution.

    Parameters
    ----------
    path : path
        A file such as ``224_lookup_table.yaml``, in milliseconds, for the width and the resolution
        of `space`; YAML, or the same as JSON.
    device : str, optional
        Name to record; default: the name of the file's folder.

    Raises
    ------
    FileFormatError
        If an entry that the space needs is missing or no number: the message names it.
    UnsupportedSpaceError
        If the space has several resolutions, or is no MobileNetV3.
    """
    network = space.require_network("an Once-for-All latency table")
    if not isinstance(network, MobileNetV3) or len(space.resolutions) != 1:
        raise UnsupportedSpaceError(
            f"an Once-for-All latency file has one resolution; space '{space.name}' has "
            f"{list(space.resolutions)}: make a space with one of them"
        )
    document = _read_yaml(path)

    def mean(key: str) -> float:
        entry = document.get(key, {})
        if "mean" not in entry:
            raise FileFormatError(
                f"'{path}' has no entry '{key}', which space '{space.name}' (width "
                f"{network.width}, {space.resolutions[0]} px, {network.classes} classes) needs"
            )
        text = entry["mean"]
        value = float(text) if isinstance(text, str) and _NUMBER.fullmatch(text) else math.nan
        if not math.isfinite(value):
            raise FileFormatError(
                f"'{path}': the mean of entry '{key}' should be a finite number, found "
                f"{arguments.shown(text)}"
            )
        return value

    def cost(block: Block) -> float:
        return math.fsum(mean(key) for key in _ofa_keys(block))

    try:
        return from_blocks(
            space,
            cost,
            metric="latency",
            unit="ms",
            device=device or _folder_name(path),
            provenance={"source": "Once-for-All latency table"},
        )
    except InvalidInputError as error:
        raise FileFormatError(f"'{path}': {error}") from error


# As text, a number is what JSON or Python writes; "1:30", which YAML takes for 90, is none.
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def _read_yaml(path: files.StrPath) -> dict[str, dict[str, Any]]:
    """Read a mapping of mappings; every scalar is the text that the file has.

    What a scalar means is left to the caller: YAML of 2002 reads the 5e-05 that JSON writes as
    text, makes dates of some texts, and numbers of others.
    """
    text = files.read_bytes(path)
    try:
        import yaml
    except ImportError as error:
        raise MissingDependencyError("yaml", "ofa", "reading an Once-for-All table") from error

    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # UnicodeDecodeError is a ValueError; deep nesting ends in a RecursionError.
        raise FileFormatError(
            f"'{path}' is not valid YAML: {arguments.shown_error(error)}"
        ) from error
    if not isinstance(node, yaml.MappingNode):
        raise FileFormatError(f"'{path}' is not an Once-for-All latency table: no mapping inside")
    entries = _pairs(node, path)
    return {
        key: _pairs(value, path) if isinstance(value, yaml.MappingNode) else {}
        for key, value in entries.items()
    }


def _pairs(node: Any, path: files.StrPath) -> dict[str, Any]:
    """Return the entries of a mapping, with the text of scalars; refuse keys that repeat."""
    pairs: dict[str, Any] = {}
    for key, value in node.value:
        name = key.value if isinstance(key.value, str) else arguments.shown(key.value)
        if name in pairs:
            raise FileFormatError(
                f"'{path}': key {arguments.shown(name)} occurs twice, the second time in line "
                f"{key.start_mark.line + 1}"
            )
        pairs[name] = value.value if isinstance(value.value, str) else value
    return pairs


def _ofa_keys(block: Block) -> list[str]:
    """Names of a block in an Once-for-All latency file."""
    size = block.resolution
    if isinstance(block, Stem):
        out = block.out_resolution
        return [f"Conv-input:{size}x{size}x3-output:{out}x{out}x{block.out_channels}"]
    if isinstance(block, Head):
        wide, features = block.expand_channels, block.feature_channels
        return [
            f"Conv_1-input:{size}x{size}x{block.in_channels}-output:{size}x{size}x{wide}",
            f"AvgPool2D-input:{size}x{size}x{wide}-output:1x1x{wide}",
            f"Conv_2-input:1x1x{wide}-output:1x1x{features}",
            f"Logits-input:1x1x{features}-output:{block.classes}",
        ]
    block = cast(MBConv, block)  # nothing else is in a MobileNetV3
    out = block.out_resolution
    return [
        f"expanded_conv-input:{size}x{size}x{block.in_channels}"
        f"-output:{out}x{out}x{block.out_channels}-expand:{block.mid_channels}"
        f"-kernel:{block.kernel}-stride:{block.stride}-idskip:{int(block.residual)}"
        f"-se:{int(block.squeeze_excite)}-hs:{int(block.activation == 'h_swish')}"
    ]


def _folder_name(path: files.StrPath) -> str:
    return Path(path).resolve().parent.name or "unknown"
