"""Supernets as files: safetensors with a JSON header, no pickle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pnag_fast import files, spaces
from pnag_fast.errors import FileFormatError, PnagError
from pnag_fast.runs import Arrays

from .model import PLAIN_INPUT, InputScale, Supernet
from .trained_on import CALIBRATION_TENSOR, from_header

SUPERNET_FORMAT = "pnag-supernet"
# Version 2 says what the supernet was trained on.
SUPERNET_VERSION = 2

# Fields of the header, those of later versions included.
_KEYS = ("space", "input_scale", "trained_on")

# Any deviation at all.
_SMALLEST = 1e-30

# Statistics that are squares: one below zero turns into NaN when a root is drawn.
_SQUARES = ("running_var", "exp_avg_sq.")


def save(net: Supernet, path: files.StrPath, *, calibration: bool = True) -> None:
    """Write a supernet, its space, and what it was trained on, atomically.

    Parameters
    ----------
    net : Supernet
    path : path
        Usually ends in ``.safetensors``.
    calibration : bool
        Whether the training images that the supernet carries for batch-norm statistics, at most 256
        and 8 MiB, go into the file. Without them whoever uses it needs images of its kind; with
        them whoever gets it can look at them.

    Raises
    ------
    FileAccessError
        If it cannot be written; an older file is then untouched.
    """
    body = {"space": net.space.definition, "input_scale": asdict(net.input_scale)}
    arrays = weight_arrays(net)
    if net.trained_on is not None:
        body["trained_on"] = net.trained_on.header()
        if calibration and net.trained_on.calibration is not None:
            arrays[CALIBRATION_TENSOR] = net.trained_on.calibration
    files.write_safetensors(path, SUPERNET_FORMAT, SUPERNET_VERSION, arrays, body)


def load(path: files.StrPath) -> Supernet:
    """Read what `save` wrote.

    Returns
    -------
    Supernet
        On the CPU, in evaluation mode, with its largest network active.

    Raises
    ------
    FileFormatError
        If the file is truncated, foreign, from a newer version, or lacks or has in excess any
        weight, or one has another shape or type than the space asks for, or is not finite.
    FileAccessError
        If it cannot be read.
    """
    arrays, header = files.read_safetensors(path, SUPERNET_FORMAT, SUPERNET_VERSION)
    files.check_keys(header, _KEYS, path)
    definition = files.require(header, "space", dict, path)
    try:
        net = Supernet(spaces.from_definition(definition, f"'{path}'"))
    except FileFormatError:
        raise
    except PnagError as error:
        raise FileFormatError(f"'{path}': {error}") from error
    # Whose images they are is said by the header, or they are nobody's.
    known = header.get("trained_on") is not None
    images = arrays.pop(CALIBRATION_TENSOR, None) if known else None
    set_weights(net, arrays, path)
    net.input_scale = _input_scale(header, path)
    if known:  # older files do not
        body = files.require(header, "trained_on", dict, path)
        net.trained_on = from_header(body, images, net.head.block.classes, path)
    return net.eval()


def _input_scale(header: Mapping[str, Any], path: files.StrPath) -> InputScale:
    if "input_scale" not in header:  # older files know one scale only
        return PLAIN_INPUT
    found = files.require(header, "input_scale", dict, path)
    files.check_keys(found, ("mean", "std"), path, within="input_scale")
    mean, std = (
        [
            files.number(value, f"'{path}': field 'input_scale.{key}[{i}]'", low=low)
            for i, value in enumerate(
                files.require_each(found, key, (int, float), path, within="input_scale", length=3)
            )
        ]
        # A deviation divides.
        for key, low in (("mean", -math.inf), ("std", _SMALLEST))
    )
    return InputScale((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))


def weight_arrays(net: Supernet) -> Arrays:
    """Return all weights and statistics as arrays that share memory with the supernet."""
    # With a fixed momentum the number of batches seen plays no part.
    return {
        name: tensor.detach().cpu().numpy()
        for name, tensor in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def set_weights(net: Supernet, arrays: Mapping[str, npt.NDArray[Any]], path: files.StrPath) -> None:
    """Put arrays into a supernet, whether or not it has weights yet; check all before the first."""
    state = net.state_dict()
    counters = {name for name in state if name.endswith("num_batches_tracked")}
    expected = {name: tuple(t.shape) for name, t in state.items() if name not in counters}
    check_arrays(arrays, expected, path, f"a supernet of space '{net.space.name}'")
    if any(tensor.is_meta for tensor in state.values()):
        net.to_empty(device="cpu")
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name in counters:
                tensor.zero_()
            else:
                tensor.copy_(torch.from_numpy(np.array(arrays[name])))


def check_arrays(
    arrays: Mapping[str, npt.NDArray[Any]],
    expected: Mapping[str, tuple[int, ...]],
    path: files.StrPath,
    what: str,
) -> None:
    """Check that names and shapes are those expected, and that all is finite float32."""
    absent = sorted(set(expected) - set(arrays))
    excess = sorted(set(arrays) - set(expected))
    if absent or excess:
        problem = f"lacks tensor '{absent[0]}'" if absent else f"has the extra tensor '{excess[0]}'"
        raise FileFormatError(
            f"'{path}' {problem} and so is not {what} "
            f"({len(absent)} tensors are absent, {len(excess)} in excess)"
        )
    for name, shape in expected.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != np.float32:
            raise FileFormatError(
                f"'{path}': tensor '{name}' is {array.dtype} of shape {array.shape}; "
                f"{what} needs float32 of shape {shape}"
            )
        if not np.isfinite(array).all():
            raise FileFormatError(f"'{path}': tensor '{name}' has values that are not finite")
        if any(part in name for part in _SQUARES) and array.size and array.min() < 0:
            raise FileFormatError(f"'{path}': tensor '{name}' has squares below zero")
