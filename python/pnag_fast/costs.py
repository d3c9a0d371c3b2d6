"""Additive costs of architectures: latency, energy, multiply-adds, parameters.

A cost table is ``constant + sum over slots of entry[slot, code]`` (or the maximum, for peak
memory). Where a space lets the architecture choose its input resolution, a table has one set of
entries per resolution, since no cost of a network is additive over its layers and its resolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import _core, files
from .errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    MissingDependencyError,
    UnsupportedSpaceError,
)
from .spaces import Archs, MobileNetV3, SearchSpace, from_definition
from .spaces.blocks import Block, Head, Stem
from .spaces.nasbench201 import is_cell_space
from .threads import resolve_threads

__all__ = [
    "CostStack",
    "CostTable",
    "fit",
    "from_ofa_yaml",
    "macs",
    "parameters",
    "stack",
]

FloatArray = npt.NDArray[np.float64]

COST_FORMAT = "pnag-cost-table"
COST_VERSION = 1


@dataclass(frozen=True, eq=False)
class CostTable:
    """One additive cost over a search space.

    Attributes
    ----------
    space : SearchSpace
        The space whose slots and codes the entries are for.
    metric, unit, device : str
        What is counted, for example ``"latency"``, ``"ms"``, ``"pixel7-cpu"``.
    constants : ndarray of float64, shape (n_contexts,)
        Cost of what all architectures share, one value per input resolution of the space.
    entries : ndarray of float64, shape (n_contexts, n_slots, max_codes)
        Cost of each code in each slot; NaN where a slot has no such code.
    reduce : {"sum", "max"}
        How constant and entries combine.
    provenance : dict
        Where the numbers come from; JSON.

    Examples
    --------
    >>> import pnag_fast as pf
    >>> table = pf.costs.macs(pf.spaces.get("nasbench201"))
    >>> table(table.space.from_strings(
    ...     ["|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"]
    ... ))
    array([43172480.])
    """

    space: SearchSpace
    metric: str
    unit: str
    device: str
    constants: FloatArray
    entries: FloatArray
    reduce: Literal["sum", "max"] = "sum"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        space: SearchSpace,
        *,
        metric: str,
        unit: str,
        device: str,
        constants: Sequence[float] | FloatArray,
        entries: FloatArray,
        reduce: Literal["sum", "max"] = "sum",
        provenance: Mapping[str, Any] | None = None,
    ) -> CostTable:
        """Check shapes and values and make a table.

        Raises
        ------
        InvalidInputError
            If a shape does not fit the space, or an entry of an existing code is not finite.
        """
        constants = np.array(constants, dtype=np.float64).reshape(-1)
        entries = np.array(entries, dtype=np.float64)
        shape = (_n_contexts(space), space.n_slots, max(space.n_codes))
        if entries.shape != shape or constants.shape != shape[:1]:
            raise InvalidInputError(
                f"entries and constants of a table for space '{space.name}' should have shapes "
                f"{shape} and {shape[:1]}, found {entries.shape} and {constants.shape}"
            )
        if reduce not in ("sum", "max"):
            raise InvalidInputError(f"reduce should be 'sum' or 'max', found {reduce!r}")
        exists = _code_exists(space)
        bad = np.argwhere(~np.isfinite(entries) & exists)
        if len(bad):
            context, slot, code = bad[0]
            raise InvalidInputError(
                f"entry of slot {slot} ('{space.slots[slot].name}'), code {code}"
                f"{_context_name(space, context)} is {entries[context, slot, code]}; "
                "every entry must be a finite number"
            )
        if not np.isfinite(constants).all():
            raise InvalidInputError(f"constants should be finite, found {constants.tolist()}")
        entries = np.where(exists, entries, np.nan)
        constants.flags.writeable = entries.flags.writeable = False
        return cls(space, metric, unit, device, constants, entries, reduce, dict(provenance or {}))

    def __call__(
        self, archs: Archs, *, threads: int | None = None, out: FloatArray | None = None
    ) -> FloatArray:
        """Cost of each row.

        Parameters
        ----------
        archs : ndarray of uint8, shape (n, n_slots)
        threads : int, optional
            Default: all cores that the process may use; the result does not depend on it.
        out : ndarray of float64, shape (n,), optional
            Where to write, C-contiguous; saves the time of fresh memory in a loop over batches.

        Returns
        -------
        ndarray of float64, shape (n,)
            `out`, if it was given.
        """
        if out is None:
            return self._kernel.lookup(archs, resolve_threads(threads)).reshape(-1)
        if not isinstance(out, np.ndarray) or out.ndim != 1:
            raise InvalidTypeError("out should be a float64 array with one dimension")
        # A view of one column, or, of an array with gaps, one that the kernel refuses.
        self._kernel.lookup(archs, resolve_threads(threads), out[:, None])
        return out

    @cached_property
    def _kernel(self) -> _core.CostTables:
        return _kernel([self])

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest cost over the space, exact."""
        return float(self(self.cheapest()[None])[0]), float(self(self.dearest()[None])[0])

    def cheapest(self) -> Archs:
        """Return an architecture of the smallest cost, shape (n_slots,)."""
        return self._extreme(1.0)

    def dearest(self) -> Archs:
        """Return an architecture of the largest cost, shape (n_slots,)."""
        return self._extreme(-1.0)

    def _extreme(self, sign: float) -> Archs:
        """Minimise ``sign * cost``: stages are independent, for a sum as for a maximum."""
        rows = [self._extreme_in_context(sign, context) for context in range(len(self.constants))]
        costs = sign * self(np.stack(rows))
        return rows[int(np.argmin(costs))]

    def _extreme_in_context(self, sign: float, context: int) -> Archs:
        entries = self.entries[context]
        total = np.sum if self.reduce == "sum" else np.max
        arch = np.zeros(self.space.n_slots, dtype=np.uint8)
        first = 0
        for stage in self.space.stages:
            slots = slice(first, first + len(stage.slots))
            first = slots.stop
            if self.space.resolution_slot == slots.start:
                arch[slots] = context + 1
                continue
            if stage.rows is not None:
                candidates = list(stage.rows)
            else:
                best = [
                    1 + int(np.argmin(sign * entries[s, 1 : self.space.n_codes[s]]))
                    for s in range(slots.start, slots.stop)
                ]
                candidates = [
                    tuple(best[:depth] + [0] * (len(best) - depth))
                    for depth in range(stage.min_depth, len(best) + 1)
                ]
            index = np.arange(slots.start, slots.stop)
            arch[slots] = min(candidates, key=lambda row: sign * total(entries[index, list(row)]))
        return arch

    def for_space(self, space: SearchSpace) -> CostTable:
        """Return the same table for another space over the same slots and network.

        Raises
        ------
        InvalidInputError
            If the slots or the network differ.
        """
        if space == self.space:
            return self
        if space.fingerprint != self.space.fingerprint:
            raise InvalidInputError(
                f"this {self.metric} table of '{self.device}' is for space '{self.space.name}' "
                f"({self.space.fingerprint}), not for '{space.name}' ({space.fingerprint}): the "
                "slots, the network's width or classes, or the input resolutions differ; measure "
                "or load a table for this space"
            )
        return CostTable(
            space,
            self.metric,
            self.unit,
            self.device,
            self.constants,
            self.entries,
            self.reduce,
            self.provenance,
        )

    def describe(self) -> str:
        """Name the table in one line, for messages and reports."""
        return f"{self.metric} in {self.unit} on {self.device}"

    def to_json(self) -> dict[str, Any]:
        """Return the table as JSON values; `from_json` reads them back."""
        return {
            "space": self.space.definition,
            "metric": self.metric,
            "unit": self.unit,
            "device": self.device,
            "reduce": self.reduce,
            "constants": self.constants.tolist(),
            # Codes that a slot does not have are left out: JSON knows no NaN.
            "entries": [
                [row[:n].tolist() for row, n in zip(context, self.space.n_codes, strict=True)]
                for context in self.entries
            ],
            "measured": dict(self.provenance),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any], path: files.StrPath) -> CostTable:
        """Read what `to_json` wrote; `path` names the source in error messages."""
        space = from_definition(files.require(document, "space", dict, path), f"'{path}'")
        listed = files.require(document, "entries", list, path)
        entries = np.full((_n_contexts(space), space.n_slots, max(space.n_codes)), np.nan)
        try:
            for context, rows in enumerate(listed):
                for slot, row in enumerate(rows):
                    if len(row) != space.n_codes[slot]:
                        raise FileFormatError(
                            f"'{path}': slot {slot} should have {space.n_codes[slot]} entries, "
                            f"found {len(row)}"
                        )
                    entries[context, slot, : len(row)] = row
            return cls.build(
                space,
                metric=files.require(document, "metric", str, path),
                unit=files.require(document, "unit", str, path),
                device=files.require(document, "device", str, path),
                constants=files.require(document, "constants", list, path),
                entries=entries,
                reduce=files.require(document, "reduce", str, path),
                provenance=files.require(document, "measured", dict, path),
            )
        except FileFormatError:
            raise
        except (InvalidInputError, TypeError, ValueError, IndexError) as error:
            raise FileFormatError(f"'{path}' is not a valid cost table: {error}") from error

    def save(self, path: files.StrPath) -> None:
        """Write the table as versioned JSON, atomically."""
        files.write_json(path, COST_FORMAT, COST_VERSION, self.to_json())

    @classmethod
    def load(cls, path: files.StrPath) -> CostTable:
        """Read a table; `FileFormatError` or `FileAccessError` say what is wrong with the file."""
        return cls.from_json(files.read_json(path, COST_FORMAT, COST_VERSION), path)


@dataclass(frozen=True, eq=False)
class CostStack:
    """Several cost tables of one space, looked up in one pass over the architectures."""

    tables: tuple[CostTable, ...]

    def __call__(
        self, archs: Archs, *, threads: int | None = None, out: FloatArray | None = None
    ) -> FloatArray:
        """Costs of each row, shape (n, number of tables), float64.

        They are written into `out`, a C-contiguous array of that shape and type, if it is given:
        beyond a few MB the pages of fresh memory take more time than the lookup.
        """
        return self._kernel.lookup(archs, resolve_threads(threads), out)

    @cached_property
    def _kernel(self) -> _core.CostTables:
        return _kernel(self.tables)

    @property
    def space(self) -> SearchSpace:
        """The space of all tables."""
        return self.tables[0].space

    @cached_property
    def bounds(self) -> FloatArray:
        """Smallest and largest cost by each table, shape (number of tables, 2)."""
        return np.array([table.bounds for table in self.tables])


def stack(tables: Sequence[CostTable]) -> CostStack:
    """Combine tables of one space; ``stack(tables)(archs)`` has shape (n, len(tables)).

    Raises
    ------
    InvalidInputError
        If there is no table, or two are for different spaces.
    """
    tables = tuple(tables)
    if not tables:
        raise InvalidInputError("stack() needs at least one cost table")
    return CostStack(tuple(table.for_space(tables[0].space) for table in tables))


def _kernel(tables: Sequence[CostTable]) -> _core.CostTables:
    space = tables[0].space
    return _core.CostTables(
        np.stack([table.entries for table in tables]),
        np.stack([table.constants for table in tables]),
        [table.reduce == "max" for table in tables],
        -1 if space.resolution_slot is None else space.resolution_slot,
        list(space.n_codes),
    )


# --- closed forms --------------------------------------------------------------------------------


def macs(space: SearchSpace) -> CostTable:
    """Multiply-adds for one image, exact.

    Squeeze-excite and classifier are included, pooling, activations and biases are not.
    """
    if is_cell_space(space):
        return _nasbench201_table(space, "macs", _CELL_MACS)
    return _closed_form(space, "macs", lambda block: block.macs)


def parameters(space: SearchSpace) -> CostTable:
    """Trained parameters, exact; batch norm counts two a channel, biases are included."""
    if is_cell_space(space):
        return _nasbench201_table(space, "parameters", _CELL_PARAMETERS)
    return _closed_form(space, "parameters", lambda block: block.parameters)


def _closed_form(space: SearchSpace, metric: str, count: Callable[[Block], int]) -> CostTable:
    return from_blocks(
        space,
        count,
        metric=metric,
        unit="count",
        device="any",
        provenance={"source": "closed form"},
    )


def from_blocks(
    space: SearchSpace,
    cost: Callable[[Block], float],
    *,
    metric: str,
    unit: str,
    device: str,
    provenance: Mapping[str, Any] | None = None,
) -> CostTable:
    """Build a table from the cost of every block of the space's network.

    Parameters
    ----------
    cost : callable
        Called once for every (resolution, slot, code) and every fixed block.
    """
    network = space.require_network(f"a {metric} table from blocks")
    entries = np.zeros((_n_contexts(space), space.n_slots, max(space.n_codes)))
    constants = np.zeros(_n_contexts(space))
    for context, resolution in enumerate(space.resolutions):
        constants[context] = math.fsum(cost(block) for block in network.fixed_blocks(resolution))
        for slot in range(space.n_slots):
            if slot == space.resolution_slot:
                continue
            for code in range(1, space.n_codes[slot]):
                entries[context, slot, code] = cost(network.layer(slot, code, resolution))
    return CostTable.build(
        space,
        metric=metric,
        unit=unit,
        device=device,
        constants=constants,
        entries=entries,
        provenance=provenance,
    )


# NAS-Bench-201: 3 stacks of 5 cells with 16, 32 and 64 channels on 32, 16 and 8 pixels, with a
# residual block between stacks (Dong and Yang, ICLR 2020, section 2.1).
_STACKS = ((16, 32), (32, 16), (64, 8))
_CELLS = 5


def _conv(in_channels: int, out_channels: int, kernel: int) -> int:
    return in_channels * out_channels * kernel**2


# Residual block: 3x3 (stride 2), 3x3, and a 1x1 shortcut after 2x2 average pooling.
_REDUCTIONS = tuple(
    _conv(c, 2 * c, 3) + _conv(2 * c, 2 * c, 3) + _conv(c, 2 * c, 1) for c, _ in _STACKS[:-1]
)
_CELL_MACS: dict[str, Any] = {
    "constant": _conv(3, 16, 3) * 32**2
    + sum(n * r**2 for n, (_, r) in zip(_REDUCTIONS, _STACKS[1:], strict=True))
    + 64 * 10,
    "nor_conv_1x1": _CELLS * sum(_conv(c, c, 1) * r**2 for c, r in _STACKS),
    "nor_conv_3x3": _CELLS * sum(_conv(c, c, 3) * r**2 for c, r in _STACKS),
}
_CELL_PARAMETERS: dict[str, Any] = {
    # Batch norms: after the stem, two in each residual block, one before pooling.
    "constant": _conv(3, 16, 3)
    + 2 * 16
    + sum(n + 4 * 2 * c for n, (c, _) in zip(_REDUCTIONS, _STACKS, strict=False))
    + 2 * 64
    + 64 * 10
    + 10,
    "nor_conv_1x1": _CELLS * sum(_conv(c, c, 1) + 2 * c for c, _ in _STACKS),
    "nor_conv_3x3": _CELLS * sum(_conv(c, c, 3) + 2 * c for c, _ in _STACKS),
}


def _nasbench201_table(space: SearchSpace, metric: str, counts: Mapping[str, Any]) -> CostTable:
    operations = space.slots[0].choices
    row = [0.0] + [float(counts.get(name, 0)) for (name,) in operations]
    return CostTable.build(
        space,
        metric=metric,
        unit="count",
        device="any",
        constants=[float(counts["constant"])],
        entries=np.array([[row] * space.n_slots]),
        provenance={"source": "closed form", "data": "10 classes, 32x32 images"},
    )


# --- tables made elsewhere -----------------------------------------------------------------------


def from_ofa_yaml(
    path: files.StrPath, space: SearchSpace, *, device: str | None = None
) -> CostTable:
    """Read a latency table of the Once-for-All tools: one YAML file per input resolution.

    Parameters
    ----------
    path : path
        A file such as ``224_lookup_table.yaml``, in milliseconds, for the width and the resolution
        of `space`.
    device : str, optional
        Name to record; default: the name of the file's folder.

    Raises
    ------
    FileFormatError
        If an entry that the space needs is missing: the message names it.
    UnsupportedSpaceError
        If the space has several resolutions, or is no MobileNetV3.
    """
    network = space.require_network("an Once-for-All latency table")
    if not isinstance(network, MobileNetV3) or len(space.resolutions) != 1:
        raise UnsupportedSpaceError(
            f"an Once-for-All latency file has one resolution; space '{space.name}' has "
            f"{list(space.resolutions)}: make a space with one of them"
        )
    text = files.read_bytes(path)
    try:
        import yaml
    except ImportError as error:
        raise MissingDependencyError("yaml", "ofa", "reading an Once-for-All table") from error
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FileFormatError(f"'{path}' is not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise FileFormatError(f"'{path}' is not an Once-for-All latency table: no mapping inside")

    def mean(key: str) -> float:
        entry = document.get(key)
        value = entry.get("mean") if isinstance(entry, dict) else None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise FileFormatError(
                f"'{path}' has no entry '{key}', which space '{space.name}' (width "
                f"{network.width}, {space.resolutions[0]} px, {network.classes} classes) needs"
            )
        return float(value)

    def cost(block: Block) -> float:
        return math.fsum(mean(key) for key in _ofa_keys(block))

    return from_blocks(
        space,
        cost,
        metric="latency",
        unit="ms",
        device=device or _parent_name(path),
        provenance={"source": "Once-for-All latency table"},
    )


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
    out = block.out_resolution
    return [
        f"expanded_conv-input:{size}x{size}x{block.in_channels}"
        f"-output:{out}x{out}x{block.out_channels}-expand:{block.mid_channels}"
        f"-kernel:{block.kernel}-stride:{block.stride}-idskip:{int(block.residual)}"
        f"-se:{int(block.squeeze_excite)}-hs:{int(block.activation == 'h_swish')}"
    ]


def _parent_name(path: files.StrPath) -> str:
    from pathlib import Path

    return Path(path).resolve().parent.name or "unknown"


# --- tables from whole networks ------------------------------------------------------------------


def fit(
    space: SearchSpace,
    archs: Archs,
    values: npt.ArrayLike,
    *,
    metric: str,
    unit: str,
    device: str = "unknown",
    folds: int = 5,
    seed: int = 0,
) -> CostTable:
    """Fit a table to whole-network measurements by least squares.

    With several resolutions in the space, every entry is linear in the number of pixels, so that
    measurements at all resolutions are used together.

    Parameters
    ----------
    archs : ndarray of uint8, shape (n, n_slots)
    values : array of float, shape (n,)
        Measured costs in `unit`, positive.
    folds : int
        For the error on held-out networks, recorded under ``held_out`` in ``provenance``:
        ``r2``, ``spearman``, ``mean_error`` and ``worst_error`` (both relative).

    Raises
    ------
    InvalidInputError
        If there are fewer rows than a table needs, or a code of the space occurs in none of them.
    """
    space.validate(archs)
    target = np.asarray(values, dtype=np.float64)
    if target.shape != (len(archs),):
        raise InvalidInputError(
            f"values should have shape ({len(archs)},), one per architecture, found {target.shape}"
        )
    bad = np.flatnonzero(~(np.isfinite(target) & (target > 0)))
    if len(bad):
        raise InvalidInputError(f"value {target[bad[0]]} of row {bad[0]} is not a positive number")
    features, unseen = _fit_features(space, archs)
    if unseen is not None:
        slot, code = unseen
        raise InvalidInputError(
            f"no architecture has code {code} in slot {slot} ('{space.slots[slot].name}'): "
            "measure some that do"
        )
    rank = int(np.linalg.matrix_rank(features))
    if not 2 <= folds <= len(archs) or len(archs) * (folds - 1) // folds < rank:
        raise InvalidInputError(
            f"{len(archs)} measurements are too few for a table of space '{space.name}': with "
            f"{folds} folds it needs at least {math.ceil(rank * folds / max(folds - 1, 1))}"
        )
    held_out = np.empty_like(target)
    fold = np.random.default_rng(seed).permutation(len(archs)) % folds
    for k in range(folds):
        inside = fold != k
        held_out[~inside] = features[~inside] @ _least_squares(features[inside], target[inside])
    constants, entries = _fit_entries(space, _least_squares(features, target))
    return CostTable.build(
        space,
        metric=metric,
        unit=unit,
        device=device,
        constants=constants,
        entries=entries,
        provenance={
            "source": "least squares on whole networks",
            "networks": len(archs),
            "held_out": agreement(held_out, target),
        },
    )


def agreement(predicted: FloatArray, measured: FloatArray) -> dict[str, float]:
    """R², Spearman's rank correlation, and the mean and worst relative error of a prediction."""
    residual = predicted - measured
    spread = float(np.sum((measured - measured.mean()) ** 2))
    relative = np.abs(residual) / measured
    return {
        "r2": 1.0 - float(np.sum(residual**2)) / spread if spread > 0 else 0.0,
        "spearman": spearman(predicted, measured),
        "mean_error": float(relative.mean()),
        "worst_error": float(relative.max()),
    }


def spearman(a: FloatArray, b: FloatArray) -> float:
    """Spearman's rank correlation, with mid-ranks for ties; 0 where one side is constant."""
    ranks_a, ranks_b = _mid_ranks(a), _mid_ranks(b)
    scale = float(np.sqrt((ranks_a @ ranks_a) * (ranks_b @ ranks_b)))
    return float(ranks_a @ ranks_b) / scale if scale > 0 else 0.0


def _mid_ranks(values: FloatArray) -> FloatArray:
    """Ranks around zero; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return np.asarray(ranks - ranks.mean(), dtype=np.float64)


def _least_squares(features: FloatArray, target: FloatArray) -> FloatArray:
    # lstsq gives the smallest solution where depths make columns depend on each other.
    solution = np.linalg.lstsq(features, target, rcond=None)[0]
    return np.asarray(solution, dtype=np.float64)


def _fit_features(space: SearchSpace, archs: Archs) -> tuple[FloatArray, tuple[int, int] | None]:
    """One column per present code, and a constant; all times pixels, with several resolutions."""
    columns = [np.ones(len(archs))]
    unseen = None
    for slot in range(space.n_slots):
        if slot == space.resolution_slot:
            continue
        for code in range(1, space.n_codes[slot]):
            column = (archs[:, slot] == code).astype(np.float64)
            if unseen is None and not column.any() and _code_allowed(space, slot, code):
                unseen = (slot, code)
            columns.append(column)
    features = np.stack(columns, axis=1)
    if space.resolution_slot is not None:
        pixels = _pixels(space)[archs[:, space.resolution_slot] - 1]
        features = np.concatenate([features, features * pixels[:, None]], axis=1)
    return features, unseen


def _fit_entries(space: SearchSpace, solution: FloatArray) -> tuple[FloatArray, FloatArray]:
    constants = np.zeros(_n_contexts(space))
    entries = np.zeros((_n_contexts(space), space.n_slots, max(space.n_codes)))
    parts = np.split(solution, 2) if space.resolution_slot is not None else [solution]
    scales = [np.ones(_n_contexts(space))]
    if space.resolution_slot is not None:
        scales.append(_pixels(space))
    for part, scale in zip(parts, scales, strict=True):
        constants += scale * part[0]
        column = 1
        for slot in range(space.n_slots):
            if slot == space.resolution_slot:
                continue
            n = space.n_codes[slot] - 1
            entries[:, slot, 1 : n + 1] += scale[:, None] * part[column : column + n]
            column += n
    return constants, entries


def _pixels(space: SearchSpace) -> FloatArray:
    """Pixels of each resolution, as a fraction of the largest so that columns stay comparable."""
    squared = np.square(np.array(space.resolutions, dtype=np.float64))
    return np.asarray(squared / squared.max())


def _code_allowed(space: SearchSpace, slot: int, code: int) -> bool:
    first = 0
    for stage in space.stages:
        if slot < first + len(stage.slots):
            return stage.rows is None or any(row[slot - first] == code for row in stage.rows)
        first += len(stage.slots)
    return False


def _n_contexts(space: SearchSpace) -> int:
    return 1 if space.resolution_slot is None else len(space.resolutions)


def _context_name(space: SearchSpace, context: int) -> str:
    return "" if space.resolution_slot is None else f" at {space.resolutions[context]} px"


def _code_exists(space: SearchSpace) -> npt.NDArray[np.bool_]:
    codes = np.arange(max(space.n_codes))
    return codes[None, :] < np.array(space.n_codes)[:, None]
