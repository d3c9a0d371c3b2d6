"""`SearchSpace`: slots grouped into stages, and batches of architectures over them."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from .. import _core, files
from ..errors import FileFormatError, InvalidInputError, UnsupportedSpaceError
from ..threads import resolve_threads
from .blocks import Block

Archs = npt.NDArray[np.uint8]
ArchDict = dict[str, Any]
Distribution = Literal["architectures", "decisions"]

SPACE_FORMAT = "pnag-space"
SPACE_VERSION = 1

# A million rows of 20 slots are 20 MB; beyond that nobody wants a whole space in memory.
ENUMERATION_LIMIT = 20_000_000


@dataclass(frozen=True)
class Slot:
    """One position of an architecture: it picks one of its choices or is absent.

    A choice is one value per factor, for example a kernel size and an expand ratio; choices are
    ordered with the first factor slowest.
    """

    name: str
    factors: tuple[tuple[str, tuple[Any, ...]], ...]

    @cached_property
    def choices(self) -> tuple[tuple[Any, ...], ...]:
        """All choices, each a tuple with one value per factor."""
        return tuple(itertools.product(*(values for _, values in self.factors)))

    @property
    def n_choices(self) -> int:
        """Number of choices; codes run from 1 to this."""
        return math.prod(len(values) for _, values in self.factors)


@dataclass(frozen=True)
class Stage:
    """Consecutive slots of which the first ``min_depth`` to ``len(slots)`` are present.

    With `rows` (an array of codes, one allowed combination per row) only those are allowed.
    """

    name: str
    slots: tuple[Slot, ...]
    min_depth: int
    rows: tuple[tuple[int, ...], ...] | None = None


class Notation(Protocol):
    """How architectures of a space are written as dictionaries and strings."""

    def to_dicts(self, space: SearchSpace, archs: Archs) -> list[ArchDict]:
        """Describe each row as a dictionary."""

    def from_dicts(self, space: SearchSpace, rows: Sequence[Mapping[str, Any]]) -> Archs:
        """Encode dictionaries."""

    def to_strings(self, space: SearchSpace, archs: Archs) -> list[str]:
        """Write each row as a string."""

    def from_strings(self, space: SearchSpace, rows: Sequence[str]) -> Archs:
        """Parse strings."""


class Network(Protocol):
    """What the slots of a space stand for: blocks of a real network."""

    def fixed_blocks(self, resolution: int) -> list[Block]:
        """Blocks that every architecture shares."""

    def layer(self, slot: int, code: int, resolution: int) -> Block:
        """Block that `code` puts into `slot`."""

    def layers(self, arch: npt.NDArray[np.uint8], resolution: int) -> list[Block]:
        """All blocks of one architecture, in the order in which they run."""

    def with_classes(self, space: SearchSpace, classes: int) -> SearchSpace:
        """Rebuild `space` for another number of classes."""


class AdditiveCost(Protocol):
    """What a window needs of a cost table: `pnag_fast.CostTable` is one."""

    @property
    def space(self) -> SearchSpace:
        """The space whose slots and codes the entries are for."""

    @property
    def constants(self) -> npt.NDArray[np.float64]:
        """Cost of what all architectures share, shape (n_contexts,)."""

    @property
    def entries(self) -> npt.NDArray[np.float64]:
        """Cost of each code in each slot, shape (n_contexts, n_slots, max_codes)."""

    @property
    def reduce(self) -> Literal["sum", "max"]:
        """How constant and entries combine; a window needs a sum."""


Window = tuple[AdditiveCost, float, float]


@dataclass(frozen=True)
class WindowCount:
    """How many architectures a cost window holds.

    Attributes
    ----------
    lower, upper : int
        At least and at most this many; equal where the count is exact.
    tolerance : float
        What `upper` counts beyond `lower` costs within this much of an end of the window, in the
        unit of the table; 0 where the count is exact.
    """

    lower: int
    upper: int
    tolerance: float

    @property
    def exact(self) -> bool:
        """Whether the count is exact."""
        return self.lower == self.upper

    @property
    def estimate(self) -> int:
        """The middle between both bounds."""
        return (self.lower + self.upper) // 2


class SearchSpace:
    """A list of slots grouped into stages, and everything that acts on rows of codes.

    An architecture is one row of ``uint8``, one entry per slot: 0 is absent, otherwise
    1 + index of the choice. A batch is ``(n, n_slots)``, C-contiguous. Absent slots are a suffix of
    their stage, so two rows are equal exactly when the networks are.

    Spaces come from `pnag_fast.spaces.get` and `pnag_fast.spaces.load`.

    Examples
    --------
    >>> import pnag_fast as pf
    >>> space = pf.spaces.get("nasbench201")
    >>> space.n_slots, space.n_architectures
    (6, 15625)
    >>> space.to_strings(space.sample(1, seed=3))  # doctest: +ELLIPSIS
    ['|...~0|+|...~0|...~1|+|...~0|...~1|...~2|']
    """

    def __init__(
        self,
        name: str,
        stages: Sequence[Stage],
        *,
        definition: Mapping[str, Any],
        notation: Notation,
        network: Network | None = None,
        resolutions: tuple[int, ...] = (),
        resolution_slot: int | None = None,
        features: Callable[[Archs], npt.NDArray[np.float32]] | None = None,
    ) -> None:
        self.name = name
        self.stages = tuple(stages)
        self.slots = tuple(slot for stage in self.stages for slot in stage.slots)
        self.definition = dict(definition)
        self.network = network
        self.resolutions = resolutions
        self.resolution_slot = resolution_slot
        # What says more of accuracy than the codes, in a space small enough to tabulate.
        self.features = features
        self._notation = notation
        self._core = _core.Space(
            [
                (
                    [slot.n_choices for slot in stage.slots],
                    stage.min_depth,
                    None if stage.rows is None else np.array(stage.rows, dtype=np.uint8),
                )
                for stage in self.stages
            ]
        )
        # Windows are over few tables, asked again and again; a table that is gone frees its own.
        self._windows: weakref.WeakKeyDictionary[AdditiveCost, _core.WindowSampler] = (
            weakref.WeakKeyDictionary()
        )

    def __repr__(self) -> str:
        return (
            f"<SearchSpace {self.name!r}: {self.n_slots} slots, {self.n_architectures:.3g} archs>"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self.definition == other.definition

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    # --- size and identity -------------------------------------------------------------------

    @property
    def n_slots(self) -> int:
        """Number of slots, the length of a row."""
        return len(self.slots)

    @cached_property
    def n_architectures(self) -> int:
        """Number of architectures, an exact Python integer."""
        return math.prod(self._core.stage_counts)

    @cached_property
    def n_codes(self) -> tuple[int, ...]:
        """Codes per slot: 1 + its number of choices."""
        return tuple(slot.n_choices + 1 for slot in self.slots)

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the slots and of the network behind them.

        Two spaces that allow different rows of the same slots, such as ``ofa-mbv3`` and
        ``compofa-mbv3``, share it: a cost table of one is valid for the other.
        """
        identity = {
            "slots": [[slot.name, slot.factors] for slot in self.slots],
            "network": repr(self.network),
            "resolutions": self.resolutions,
        }
        text = json.dumps(identity, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def save(self, path: files.StrPath) -> None:
        """Write the space as JSON, to be read by `pnag_fast.spaces.load`."""
        files.write_json(path, SPACE_FORMAT, SPACE_VERSION, {"space": self.definition})

    # --- batches -----------------------------------------------------------------------------

    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        distribution: Distribution = "architectures",
        within: Window | None = None,
        threads: int | None = None,
        out: Archs | None = None,
    ) -> Archs:
        """Draw architectures.

        Parameters
        ----------
        n : int
            How many, at least 0.
        seed : int
            Same seed, same rows, whatever the thread count; 0 to 2^64 - 1.
        distribution : {"architectures", "decisions"}
            Uniform over architectures, or every decision uniform on its own: the depth of a stage
            over its range, then each present slot over its choices, as Once-for-All samples. The
            second favours shallow networks.
        within : (table, low, high), optional
            Only architectures with ``low <= table(arch) <= high``, all equally likely, whatever
            share of the space they are: nothing is drawn from outside and thrown away but near the
            ends of the window. The table must add up over slots and be for this space.
        threads : int, optional
            Default: all cores that the process may use.
        out : ndarray of uint8, shape (n, n_slots), optional
            Where to write, C-contiguous. Beyond a megabyte the pages of fresh memory take as long
            as the drawing: a loop over batches should pass the same array again.

        Returns
        -------
        ndarray of uint8, shape (n, n_slots)
            `out`, if it was given.

        Raises
        ------
        InvalidInputError
            If no architecture costs `low` to `high`: names the costs that can be reached. If the
            window is so nearly empty that 2^20 candidates in a row were outside it.

        Examples
        --------
        >>> import pnag_fast as pf
        >>> space = pf.spaces.get("ofa-mbv3")
        >>> macs = pf.costs.macs(space)
        >>> archs = space.sample(1000, within=(macs, 230e6, 231e6), seed=0)
        >>> costs = macs(archs)
        >>> bool(costs.min() >= 230e6 and costs.max() <= 231e6)
        True
        """
        if distribution not in ("architectures", "decisions"):
            raise InvalidInputError(
                f"unknown distribution {distribution!r}; choose 'architectures' or 'decisions'"
            )
        if within is not None:
            if distribution != "architectures":
                raise InvalidInputError(
                    "within= draws uniformly over architectures; leave distribution= out"
                )
            sampler, low, high = self._window(within)
            return sampler.sample(
                _count(n, "n"), low, high, _seed(seed), resolve_threads(threads), out
            )
        return self._core.sample(
            _count(n, "n"), _seed(seed), distribution == "decisions", resolve_threads(threads), out
        )

    def count(self, *, within: Window, threads: int | None = None) -> WindowCount:
        """Count the architectures whose cost lies in a window.

        Parameters
        ----------
        within : (table, low, high)
            Those with ``low <= table(arch) <= high``.
        threads : int, optional
            Default: all cores that the process may use.

        Returns
        -------
        WindowCount
            Exact integers of any size; bounds where costs in the last bin before an end of the
            window leave a doubt. A small space or window, or one of whole numbers that fall on the
            grid of bins, is counted exactly.

        Examples
        --------
        >>> import pnag_fast as pf
        >>> cell = pf.spaces.get("nasbench201")
        >>> cell.count(within=(pf.costs.parameters(cell), 500_000, 1_000_000))
        WindowCount(lower=5120, upper=5120, tolerance=0.0)
        """
        sampler, low, high = self._window(within)
        return WindowCount(*sampler.count(low, high, resolve_threads(threads)))

    def _window(self, within: Window) -> tuple[_core.WindowSampler, float, float]:
        if not isinstance(within, tuple) or len(within) != 3:
            raise InvalidInputError(f"within= takes (table, low, high), found {within!r}")
        table, low, high = within
        if table.reduce != "sum":
            raise InvalidInputError(
                "within= needs a table that adds up over slots; this one has "
                f"reduce='{table.reduce}'"
            )
        if table.space.fingerprint != self.fingerprint:
            raise InvalidInputError(
                f"the table of within= is for space '{table.space.name}', not for '{self.name}': "
                "the slots, the network's width or classes, or the input resolutions differ"
            )
        sampler = self._windows.get(table)
        if sampler is None:
            sampler = self._windows[table] = _core.WindowSampler(
                self._core,
                np.ascontiguousarray(table.entries, dtype=np.float64),
                np.ascontiguousarray(table.constants, dtype=np.float64),
                -1 if self.resolution_slot is None else self.resolution_slot,
                list(self.n_codes),
            )
        try:
            return sampler, float(low), float(high)
        except (TypeError, ValueError):
            raise InvalidInputError(
                f"a window reaches from one cost to another, found {low!r} to {high!r}"
            ) from None

    def mutate(
        self,
        archs: Archs,
        *,
        rate: float = 0.1,
        seed: int = 0,
        threads: int | None = None,
        out: Archs | None = None,
    ) -> Archs:
        """Redraw every decision with probability `rate`, uniformly.

        Decisions are the depth of a stage and the choice of each present slot; a layer that
        appears draws its choice. Where a stage lists its rows, the row is the decision.

        Returns
        -------
        ndarray of uint8, shape (n, n_slots)
            A new array, or `out` as in `sample`, which must not share memory with `archs`: they
            are not changed.
        """
        return self._core.mutate(archs, float(rate), _seed(seed), resolve_threads(threads), out)

    def crossover(
        self,
        a: Archs,
        b: Archs,
        *,
        seed: int = 0,
        threads: int | None = None,
        out: Archs | None = None,
    ) -> Archs:
        """Take every decision from one of two parents, each with probability one half.

        `out` is as in `mutate`: where to write, apart from both parents.
        """
        return self._core.crossover(a, b, _seed(seed), resolve_threads(threads), out)

    def neighbors(self, arch: npt.NDArray[np.uint8]) -> Archs:
        """Return all architectures that are one decision away from `arch`, shape ``(n_slots,)``."""
        return self._core.neighbors(arch)

    def enumerate(self, *, threads: int | None = None) -> Archs:
        """Return every architecture; an error for spaces of more than twenty million."""
        if self.n_architectures > ENUMERATION_LIMIT:
            raise InvalidInputError(
                f"space '{self.name}' has {self.n_architectures} architectures; enumerate() "
                f"stops at {ENUMERATION_LIMIT}: use sample() instead"
            )
        return self._core.enumerate(0, self.n_architectures, resolve_threads(threads))

    def validate(self, archs: Archs, *, threads: int | None = None) -> None:
        """Check that every row is an architecture of this space.

        Raises
        ------
        InvalidInputError
            Names the first bad row, its slot and the value.
        """
        found = self._core.find_invalid(archs, resolve_threads(threads))
        if found is None:
            return
        row, slot, value = found
        raise InvalidInputError(
            f"row {row} is not an architecture of space '{self.name}': slot {slot} "
            f"('{self.slots[slot].name}') has code {value}; allowed are 0 (absent, only after the "
            f"last present layer of its stage) and 1 to {self.slots[slot].n_choices}"
            + self._row_hint(slot)
        )

    def _row_hint(self, slot: int) -> str:
        first = 0
        for stage in self.stages:
            if slot < first + len(stage.slots):
                if stage.rows is not None:
                    return f"; stage '{stage.name}' allows {len(stage.rows)} listed combinations"
                return f"; stage '{stage.name}' keeps at least {stage.min_depth} layers"
            first += len(stage.slots)
        return ""

    # --- notations ---------------------------------------------------------------------------

    def to_dicts(self, archs: Archs) -> list[ArchDict]:
        """Describe rows as dictionaries, in the notation of the space."""
        self.validate(archs)
        return self._notation.to_dicts(self, archs)

    def from_dicts(self, rows: Sequence[Mapping[str, Any]]) -> Archs:
        """Encode dictionaries; `InvalidInputError` names the first bad row."""
        archs = self._notation.from_dicts(self, rows)
        self.validate(archs)
        return archs

    def to_strings(self, archs: Archs) -> list[str]:
        """Write rows as strings, in the notation of the space."""
        self.validate(archs)
        return self._notation.to_strings(self, archs)

    def from_strings(self, rows: Sequence[str]) -> Archs:
        """Parse strings; `InvalidInputError` names the first bad row."""
        if isinstance(rows, str):
            raise InvalidInputError("from_strings takes a sequence of strings, found one string")
        archs = self._notation.from_strings(self, rows)
        self.validate(archs)
        return archs

    # --- the network behind the slots --------------------------------------------------------

    def require_network(self, purpose: str) -> Network:
        """Return the network, or raise `UnsupportedSpaceError` where there is none."""
        if self.network is None:
            raise UnsupportedSpaceError(
                f"space '{self.name}' describes no layered network, which {purpose} needs; "
                "use one of the MobileNetV3 spaces"
            )
        return self.network

    def resolution_of(self, arch: npt.NDArray[np.uint8]) -> int:
        """Input resolution of one architecture, in pixels."""
        if not self.resolutions:
            raise UnsupportedSpaceError(f"space '{self.name}' has no input resolution")
        if self.resolution_slot is None:
            return self.resolutions[0]
        return self.resolutions[int(arch[self.resolution_slot]) - 1]

    def with_classes(self, classes: int) -> SearchSpace:
        """Return the same space with the network's classifier for another number of classes."""
        return self.require_network("a classifier").with_classes(self, classes)

    def layers(self, arch: npt.NDArray[np.uint8]) -> list[Block]:
        """List the blocks of one architecture, shape ``(n_slots,)``, in the order they run."""
        network = self.require_network("layers()")
        self.validate(arch.reshape(1, -1))
        return network.layers(arch, self.resolution_of(arch))


class CodeNotation:
    """Notation of spaces without one of their own: codes, and slot names with their values."""

    def to_dicts(self, space: SearchSpace, archs: Archs) -> list[ArchDict]:
        """Map each slot name to its factor values, or to None where the slot is absent."""
        return [
            {
                slot.name: dict(
                    zip((name for name, _ in slot.factors), slot.choices[code - 1], strict=True)
                )
                if code
                else None
                for slot, code in zip(space.slots, row.tolist(), strict=True)
            }
            for row in archs
        ]

    def from_dicts(self, space: SearchSpace, rows: Sequence[Mapping[str, Any]]) -> Archs:
        """Encode what `to_dicts` wrote; absent slots may be left out."""
        archs = np.zeros((len(rows), space.n_slots), dtype=np.uint8)
        known = {slot.name for slot in space.slots}
        for i, row in enumerate(rows):
            unknown = set(row) - known
            if unknown:
                raise InvalidInputError(
                    f"row {i}: space '{space.name}' has no slot {min(unknown)!r}"
                )
            for s, slot in enumerate(space.slots):
                value = row.get(slot.name)
                if value is None:
                    continue
                try:
                    choice = tuple(value[name] for name, _ in slot.factors)
                    archs[i, s] = 1 + slot.choices.index(choice)
                except (KeyError, TypeError, ValueError):
                    raise InvalidInputError(
                        f"row {i}: {value!r} is no choice of slot '{slot.name}'; factors are "
                        f"{dict(slot.factors)}"
                    ) from None
        return archs

    def to_strings(self, space: SearchSpace, archs: Archs) -> list[str]:  # noqa: ARG002
        """Write the codes, separated by commas."""
        return [",".join(map(str, row)) for row in archs.tolist()]

    def from_strings(self, space: SearchSpace, rows: Sequence[str]) -> Archs:
        """Parse codes separated by commas."""
        codes = [
            parse_integers(text, row=i, what="codes", length=space.n_slots)
            for i, text in enumerate(rows)
        ]
        return encode_codes(codes, space.n_slots)


def parse_integers(text: str, *, row: int, what: str, length: int) -> list[int]:
    """Parse `length` integers separated by commas."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        raise InvalidInputError(
            f"row {row}: {what} should be integers separated by commas, found {text!r}"
        ) from None
    if len(values) != length:
        raise InvalidInputError(
            f"row {row}: expected {length} {what}, found {len(values)} in {text!r}"
        )
    return values


def encode_codes(rows: Sequence[Sequence[int]], n_slots: int) -> Archs:
    """Pack rows of integer codes into uint8, refusing what does not fit."""
    wide = np.array(rows, dtype=np.int64).reshape(len(rows), n_slots)
    bad = np.argwhere((wide < 0) | (wide > np.iinfo(np.uint8).max))
    if len(bad):
        row, slot = bad[0]
        raise InvalidInputError(f"row {row}: code {wide[row, slot]} of slot {slot} is out of range")
    return wide.astype(np.uint8)


def generic_space(definition: Mapping[str, Any], source: str) -> SearchSpace:
    """Build a space from the ``stages`` of a user's JSON; `source` names it in errors."""
    name = definition.get("name")
    if not isinstance(name, str) or not name:
        raise FileFormatError(f"{source}: 'name' should be a non-empty string, found {name!r}")
    listed = definition.get("stages")
    if not isinstance(listed, list) or not listed:
        raise FileFormatError(f"{source}: 'stages' should be a non-empty list")
    stages = []
    for i, entry in enumerate(listed):
        where = f"{source}: stage {i}"
        if not isinstance(entry, dict) or not isinstance(entry.get("slots"), list):
            raise FileFormatError(f"{where} should be an object with a list 'slots'")
        stage_name = str(entry.get("name", f"stage{i + 1}"))
        slots = tuple(
            _generic_slot(slot, f"{where}, slot {j}", f"{stage_name}.slot{j + 1}")
            for j, slot in enumerate(entry["slots"])
        )
        min_depth = entry.get("min_depth", len(slots))
        if not isinstance(min_depth, int) or isinstance(min_depth, bool):
            raise FileFormatError(f"{where}: 'min_depth' should be an integer, found {min_depth!r}")
        rows = entry.get("rows")
        if rows is not None:
            rows = _generic_rows(rows, len(slots), where)
        stages.append(Stage(stage_name, slots, min_depth, rows))
    names = [slot.name for stage in stages for slot in stage.slots]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise FileFormatError(f"{source}: slot name {twice[0]!r} is used more than once")
    return SearchSpace(name, stages, definition=definition, notation=CodeNotation())


def _generic_slot(slot: object, where: str, default_name: str) -> Slot:
    if not isinstance(slot, dict):
        raise FileFormatError(f"{where} should be an object")
    name = slot.get("name", default_name)
    factors = slot.get("factors")
    if factors is None and isinstance(slot.get("choices"), list):
        factors = [["choice", slot["choices"]]]
    if not isinstance(name, str) or not isinstance(factors, list) or not factors:
        raise FileFormatError(
            f"{where} needs 'choices' (a list) or 'factors' (a list of [name, values])"
        )
    parsed = []
    for factor in factors:
        if (
            not isinstance(factor, list)
            or len(factor) != 2
            or not isinstance(factor[0], str)
            or not isinstance(factor[1], list)
            or not factor[1]
            or not all(isinstance(v, (str, int, float)) for v in factor[1])
            or len(set(factor[1])) != len(factor[1])
        ):
            raise FileFormatError(
                f"{where}: a factor is [name, [distinct values]], found {factor!r}"
            )
        parsed.append((factor[0], tuple(factor[1])))
    if len({factor_name for factor_name, _ in parsed}) != len(parsed):
        raise FileFormatError(f"{where}: two factors have the same name")
    return Slot(name, tuple(parsed))


def _generic_rows(rows: object, n_slots: int, where: str) -> tuple[tuple[int, ...], ...]:
    if not isinstance(rows, list) or not rows:
        raise FileFormatError(f"{where}: 'rows' should be a non-empty list of rows of codes")
    for row in rows:
        if (
            not isinstance(row, list)
            or len(row) != n_slots
            or not all(isinstance(c, int) and not isinstance(c, bool) and 0 <= c < 256 for c in row)
        ):
            raise FileFormatError(f"{where}: row {row!r} should be {n_slots} codes from 0 to 255")
    return tuple(tuple(row) for row in rows)


def _count(n: int, what: str) -> int:
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise InvalidInputError(f"{what} should be an integer, found {n!r}")
    if n < 0:
        raise InvalidInputError(f"{what} should be at least 0, found {n}")
    return int(n)


def _seed(seed: int) -> int:
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= int(seed) < 2**64:
        raise InvalidInputError(f"seed should be an integer from 0 to 2**64 - 1, found {seed!r}")
    return int(seed)


def describe_path(path: files.StrPath) -> str:
    """Name a path in an error message."""
    return f"'{os.fspath(path)}'"
