"""`SearchSpace`: slots grouped into stages, and batches of architectures over them."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import itertools
import json
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from .. import _core, arguments, files
from ..errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    UnsupportedSpaceError,
)
from ..memory import require_memory
from ..threads import resolve_threads
from .blocks import Block
from .neighborhoods import Neighborhoods

Archs = npt.NDArray[np.uint8]
ArchDict = dict[str, Any]
Distribution = Literal["architectures", "decisions"]

SPACE_FORMAT = "pnag-space"
SPACE_VERSION = 1

# A million rows of 20 slots are 20 MB; beyond that nobody wants a whole space in memory.
ENUMERATION_LIMIT = 20_000_000

# Bounds of what a file may describe, far above any space that was ever published. A few bytes of a
# file must not ask for more memory than they take themselves.
MAX_SLOTS = 1024
MAX_CHOICES = 254
MAX_FACTORS = 32
MAX_ROWS = 1_000_000
MAX_NAME = 200
# Of a cost table: one entry for each resolution, slot and code.
MAX_ENTRIES = 2**22


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

    def with_resolutions(self, space: SearchSpace, resolutions: Sequence[int]) -> SearchSpace:
        """Rebuild `space` for other input resolutions."""


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
        # Its own copy: a caller who goes on with his dictionary would change what is pickled.
        self.definition: dict[str, Any] = copy.deepcopy(dict(definition))
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
            f"<SearchSpace {self.name!r}: {self.n_slots} slots, "
            f"{_rounded(self.n_architectures)} archs>"
        )

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, SearchSpace) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[Callable[..., SearchSpace], tuple[dict[str, Any]]]:
        # The definition says everything; kernels and windows are made again where they are needed.
        return _rebuilt, (self.definition,)

    # --- size and identity -------------------------------------------------------------------

    @property
    def n_slots(self) -> int:
        """Number of slots, the length of a row."""
        return len(self.slots)

    @property
    def core(self) -> _core.Space:
        """The space as the kernels of the C++ core know it."""
        return self._core

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

    @cached_property
    def _identity(self) -> str:
        """Everything that two spaces share if they are the same, however they were written."""
        stages = [
            # With rows the smallest depth says nothing.
            [stage.name, len(stage.slots), stage.rows or stage.min_depth]
            for stage in self.stages
        ]
        kind = type(self._notation).__name__
        return json.dumps([self.fingerprint, self.name, kind, self.resolution_slot, stages])

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
            ends of the window. The table must add up over slots and be for this space. An end of
            ``-inf`` or ``inf`` leaves that side open.
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
        MemoryShortageError
            If the rows do not fit into memory.

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
        n, seed = arguments.integer(n, "n", 0), arguments.seed(seed)
        arguments.one_of(distribution, "distribution", ("architectures", "decisions"))
        if out is None or n >= 2**62:
            self._require_memory(n, "draw fewer at a time")
        if within is not None:
            if distribution != "architectures":
                raise InvalidInputError(
                    "within= draws uniformly over architectures; leave distribution= out"
                )
            sampler, low, high = self._window(within)
            return sampler.sample(n, low, high, seed, resolve_threads(threads), out)
        return self._core.sample(
            n, seed, distribution == "decisions", resolve_threads(threads), out
        )

    def count(self, *, within: Window, threads: int | None = None) -> WindowCount:
        """Count the architectures whose cost lies in a window.

        Parameters
        ----------
        within : (table, low, high)
            Those with ``low <= table(arch) <= high``; ``-inf`` and ``inf`` leave a side open.
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

    def _require_memory(self, n: int, remedy: str) -> None:
        what = f"{arguments.shown(n)} architectures"
        require_memory(n * self.n_slots, f"{what} of {self.n_slots} slots", remedy)

    def _window(self, within: Window) -> tuple[_core.WindowSampler, float, float]:
        if not isinstance(within, (tuple, list)) or len(within) != 3:
            raise InvalidInputError(
                f"within= takes (table, low, high), found {arguments.shown(within)}"
            )
        table, low, high = within
        if not isinstance(getattr(table, "space", None), SearchSpace) or not hasattr(
            table, "reduce"
        ):
            raise InvalidInputError(
                "within= takes (table, low, high) with a cost table, as pnag_fast.CostTable, found "
                f"{arguments.shown(table)}"
            )
        low = arguments.number(low, "the low end of within=", finite=False)
        high = arguments.number(high, "the high end of within=", finite=False)
        if low == math.inf or high == -math.inf:
            raise InvalidInputError(
                f"no architecture costs {low:g} to {high:g}; an open window has -inf as its low "
                "end or inf as its high end"
            )
        if table.reduce != "sum":
            raise InvalidInputError(
                "within= needs a table that adds up over slots; this one has "
                f"reduce='{table.reduce}'"
            )
        if getattr(table, "caution", 0.0):
            raise InvalidInputError(
                "within= needs a table that adds up over slots, and the upper "
                "bounds of a cautious one do not: use table.mean"
            )
        if table.space.fingerprint != self.fingerprint:
            raise InvalidInputError(
                f"the table of within= is for space '{table.space.name}', not for '{self.name}': "
                "the slots, the network's width or classes, or the input resolutions differ"
            )
        sampler = self._windows.get(table)
        if sampler is None:
            # A table of another class may know nothing of where its numbers come from.
            require_determined = getattr(table, "require_determined", None)
            if require_determined is not None:
                require_determined(self)
            sampler = self._windows[table] = _core.WindowSampler(
                self._core,
                np.ascontiguousarray(table.entries, dtype=np.float64),
                np.ascontiguousarray(table.constants, dtype=np.float64),
                -1 if self.resolution_slot is None else self.resolution_slot,
                list(self.n_codes),
            )
        if math.isinf(low) or math.isinf(high):
            # The kernel counts in bins of the window: an open side ends beyond any cost.
            beyond = self._beyond(table)
            low, high = max(low, -beyond), min(high, beyond)
        return sampler, low, high

    def _beyond(self, table: AdditiveCost) -> float:
        """Return a cost whose magnitude no architecture reaches, rounding included."""
        codes = np.arange(table.entries.shape[2]) < np.array(self.n_codes)[:, None]
        entries = np.where(codes, np.abs(table.entries), 0.0)
        return 1.0 + 2.0 * float(
            np.abs(table.constants).max() + entries.max(axis=2).sum(axis=1).max()
        )

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
        rate, seed = arguments.fraction(rate, "rate"), arguments.seed(seed)
        return self._core.mutate(archs, rate, seed, resolve_threads(threads), out)

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
        return self._core.crossover(a, b, arguments.seed(seed), resolve_threads(threads), out)

    def neighbors(self, arch: npt.NDArray[np.uint8]) -> Archs:
        """Return all architectures that are one decision away from `arch`, shape ``(n_slots,)``."""
        return self._core.neighbors(arch)

    def neighborhoods(
        self,
        archs: Archs,
        radius: int = 1,
        *,
        samples: int | None = None,
        own: bool = True,
        seed: int = 0,
        threads: int | None = None,
    ) -> Neighborhoods:
        """Return what lies within a few edits of each architecture, each once.

        An edit draws one decision anew: the choice of a present slot; the depth of a stage, by one
        slot more, with any choice, or one less; the row of a stage whose rows are listed. A stage
        with depths differs by as many edits as its depths and, of the slots that both have, the
        choices do.

        Parameters
        ----------
        archs : ndarray of uint8, shape (n, n_slots)
        radius : int
            Edits at most, 1 to 64.
        samples : int, optional
            Take at most so many neighbours of each, all sets of them equally likely; which ones
            depends on the architecture and the seed alone, so equal ones have equal neighbourhoods
            in every batch. Default: all.
        own : bool
            Whether an architecture is the first of its own neighbourhood, not counted in `samples`.
        seed : int
        threads : int, optional
            Default: all cores that the process may use. The result does not depend on it.

        Returns
        -------
        Neighborhoods
            Nearest first. At radius 1 there are some 170 in ``ofa-mbv3`` and 24 in
            ``nasbench201``, at radius 2 some 13,000 and 264.

        Raises
        ------
        InvalidInputError
            If an architecture has more than 2^62 within `radius`, whatever `samples`.
        MemoryShortageError
            If the rows do not fit into memory.

        Examples
        --------
        >>> import pnag_fast as pf
        >>> space = pf.spaces.get("nasbench201")
        >>> archs = space.sample(2, seed=0)
        >>> around = space.neighborhoods(archs)
        >>> around.archs.shape, around.offsets.tolist()
        ((50, 6), [0, 25, 50])
        >>> len(space.neighborhoods(archs, 2, samples=10).archs)
        22
        """
        radius = arguments.integer(radius, "radius", 1, 64)
        most = -1 if samples is None else arguments.integer(samples, "samples", 1, 2**62)
        seed, cores, with_own = arguments.seed(seed), resolve_threads(threads), bool(own)
        offsets = self._core.neighborhood_offsets(archs, radius, most, with_own, cores)
        self._require_memory(int(offsets[-1]), "take samples=, or fewer architectures at a time")
        rows = self._core.neighborhoods(archs, radius, with_own, seed, offsets, cores)
        return Neighborhoods(rows, offsets)

    def enumerate(self, *, threads: int | None = None) -> Archs:
        """Return every architecture; an error for spaces of more than twenty million."""
        if self.n_architectures > ENUMERATION_LIMIT:
            raise InvalidInputError(
                f"space '{self.name}' has {_rounded(self.n_architectures)} architectures; "
                f"enumerate() stops at {ENUMERATION_LIMIT}: use sample() instead"
            )
        self._require_memory(self.n_architectures, "use sample() instead")
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
        """Encode dictionaries; `InvalidInputError` names the first bad row.

        Values may be numbers, lists and arrays of Python or numpy. Nothing is rounded: a depth of
        2.9 is an error.
        """
        archs = self._notation.from_dicts(self, _dicts(rows))
        self.validate(archs)
        return archs

    def to_strings(self, archs: Archs) -> list[str]:
        """Write rows as strings, in the notation of the space."""
        self.validate(archs)
        return self._notation.to_strings(self, archs)

    def from_strings(self, rows: Sequence[str]) -> Archs:
        """Parse strings; `InvalidInputError` names the first bad row."""
        archs = self._notation.from_strings(self, _strings(rows))
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
        try:
            code = int(arch[self.resolution_slot])
        except (TypeError, ValueError, LookupError):
            raise InvalidInputError(
                f"an architecture of space '{self.name}' is one row of {self.n_slots} codes, found "
                f"{arguments.shown(arch)}"
            ) from None
        if not 1 <= code <= len(self.resolutions):  # code 0 would be the last of the list
            raise InvalidInputError(
                f"code {code} of slot 'resolution' of space '{self.name}' is not in 1 to "
                f"{len(self.resolutions)}"
            )
        return self.resolutions[code - 1]

    def with_classes(self, classes: int) -> SearchSpace:
        """Return the same space with the network's classifier for another number of classes."""
        classes = arguments.integer(classes, "classes", 2, 1_000_000)
        return self.require_network("a classifier").with_classes(self, classes)

    def with_resolutions(self, resolutions: Sequence[int]) -> SearchSpace:
        """Return the same space with other input resolutions; of several, one is chosen."""
        return self.require_network("a resolution").with_resolutions(self, resolutions)

    def layers(self, arch: npt.NDArray[np.uint8]) -> list[Block]:
        """List the blocks of one architecture, shape ``(n_slots,)``, in the order they run."""
        network = self.require_network("layers()")
        if not isinstance(arch, np.ndarray) or arch.ndim != 1:
            raise InvalidTypeError(
                f"arch should be one row, a uint8 array of shape ({self.n_slots},), found "
                f"{arguments.shown(arch)}"
            )
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
        known = [slot.name for slot in space.slots]
        for i, row in enumerate(rows):
            arguments.known_keys(row, known, f"row {i}: an architecture of '{space.name}'")
            for s, slot in enumerate(space.slots):
                value = row.get(slot.name)
                if value is not None:
                    archs[i, s] = _choice_code(slot, value, i)
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


def _choice_code(slot: Slot, value: object, row: int) -> int:
    """Code of the choice that has these factor values."""
    if not isinstance(value, Mapping):
        raise InvalidInputError(
            f"row {row}: slot '{slot.name}' should be a dictionary with "
            f"{', '.join(name for name, _ in slot.factors)}, or None where it is absent, found "
            f"{arguments.shown(value)}"
        )
    arguments.known_keys(
        value, [name for name, _ in slot.factors], f"row {row}: slot '{slot.name}'"
    )
    code = 0
    for name, values in slot.factors:
        wanted = value.get(name)
        if isinstance(wanted, np.generic):
            wanted = wanted.item()
        for position, known in enumerate(values):
            # 1, 1.0 and True are equal in Python; True is another thing than a number.
            if (
                isinstance(wanted, (str, int, float))
                and isinstance(wanted, bool) == isinstance(known, bool)
                and wanted == known
            ):
                code = code * len(values) + position
                break
        else:
            raise InvalidInputError(
                f"row {row}: {arguments.shown(wanted)} is no {name} of slot '{slot.name}'; choose "
                f"one of {arguments.shown(list(values))}"
            )
    return 1 + code


def _dicts(rows: object) -> Sequence[Mapping[str, Any]]:
    """Return rows as a sequence of dictionaries, or refuse by number what is none."""
    listed = _listed(rows, "from_dicts", "dictionaries")
    for i, row in enumerate(listed):
        if not isinstance(row, Mapping):
            raise InvalidInputError(
                f"row {i} should be a dictionary, found {arguments.shown(row)}; to_dicts() shows "
                "how architectures of this space are written"
            )
    return listed


def _strings(rows: object) -> Sequence[str]:
    """Return rows as a sequence of strings, or refuse by number what is none."""
    listed = _listed(rows, "from_strings", "strings")
    for i, row in enumerate(listed):
        if not isinstance(row, str):
            raise InvalidInputError(
                f"row {i} should be a string, found {arguments.shown(row)}; to_strings() shows "
                "how architectures of this space are written"
            )
    return listed


def _listed(rows: Any, function: str, what: str) -> Sequence[Any]:
    if isinstance(rows, (list, tuple)):
        return rows
    # Frames of pandas have columns of strings; a string or a dictionary is one row, not a sequence.
    if hasattr(rows, "tolist") and len(getattr(rows, "shape", ())) == 1:
        found = rows.tolist()
        if isinstance(found, list):
            return found
    if isinstance(rows, Sequence) and not isinstance(rows, (str, bytes, bytearray, memoryview)):
        return rows
    raise InvalidInputError(
        f"{function} takes a sequence of {what}, found one {type(rows).__name__}; "
        "pass a list, with one entry for each architecture"
    )


def parse_integers(text: str, *, row: int, what: str, length: int) -> list[int]:
    """Parse `length` integers separated by commas; white space around them is allowed."""
    # int() also reads digits of all scripts, underscores, and numbers as long as anyone likes.
    values: list[int] = []
    if text.isascii() and "_" not in text and "+" not in text and len(text) <= 20 * length + 20:
        with contextlib.suppress(ValueError):
            values = [int(part) for part in text.split(",")]
    if not values or max(values) >= 10**9 or min(values) <= -(10**9):
        raise InvalidInputError(
            f"row {row}: {what} should be integers separated by commas, found "
            f"{arguments.shown(text)}"
        )
    if len(values) != length:
        raise InvalidInputError(
            f"row {row}: expected {length} {what}, found {len(values)} in {arguments.shown(text)}"
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
    arguments.known_keys(definition, ("name", "stages"), source)
    name = checked_name(definition.get("name"), f"{source}: 'name'")
    listed = definition.get("stages")
    if not isinstance(listed, list) or not listed:
        raise FileFormatError(f"{source}: 'stages' should be a non-empty list")
    n_slots = n_rows = 0
    stages = []
    for i, entry in enumerate(listed):
        stage = _generic_stage(entry, i, f"{source}: stage {i}")
        n_slots += len(stage.slots)
        n_rows += len(stage.rows or ())
        require_size(source, n_slots=n_slots, n_rows=n_rows)
        stages.append(stage)
    seen: set[str] = set()
    for slot in (slot for stage in stages for slot in stage.slots):
        if slot.name in seen:
            raise FileFormatError(f"{source}: slot name {slot.name!r} is used more than once")
        seen.add(slot.name)
    try:
        plain = json.loads(json.dumps(dict(definition)))
    except (TypeError, ValueError) as error:  # made in Python, of numbers of numpy
        raise FileFormatError(f"{source}: a definition holds what JSON can hold: {error}") from None
    return SearchSpace(name, stages, definition=plain, notation=CodeNotation())


def require_size(
    where: str,
    *,
    n_slots: int = 0,
    n_rows: int = 0,
    n_choices: int = 0,
    n_resolutions: int = 1,
) -> None:
    """Refuse sizes that no search space has, before anything of that size is made."""
    for found, most, what in (
        (n_slots, MAX_SLOTS, "slots"),
        (n_rows, MAX_ROWS, "listed rows"),
        (n_choices, MAX_CHOICES, "choices in a slot"),
    ):
        if found > most:
            raise InvalidInputError(
                f"{where} asks for {arguments.shown(found)} {what}; at most {most} are possible"
            )
    entries = n_resolutions * n_slots * (1 + max(n_choices, n_resolutions))
    if entries > MAX_ENTRIES:
        raise InvalidInputError(
            f"{where} asks for {n_resolutions} resolutions of {n_slots} slots; a cost table would "
            f"have {entries} entries, and at most {MAX_ENTRIES} are possible: list fewer of them"
        )


def checked_name(name: object, what: str) -> str:
    """Return a name that can be printed anywhere: names of files reach terminals and reports."""
    if (
        not isinstance(name, str)
        or not 1 <= len(name) <= MAX_NAME
        or not name.isprintable()
        or name != name.strip()
    ):
        raise InvalidInputError(
            f"{what} should be a string of 1 to {MAX_NAME} printable characters without spaces "
            f"around it, found {arguments.shown(name)}"
        )
    return name


def _generic_stage(entry: object, index: int, where: str) -> Stage:
    if not isinstance(entry, dict) or not isinstance(entry.get("slots"), list):
        raise FileFormatError(f"{where} should be an object with a list 'slots'")
    if not entry["slots"]:
        raise FileFormatError(f"{where} has no slots; it needs at least one")
    arguments.known_keys(entry, ("name", "slots", "min_depth", "rows"), where)
    require_size(where, n_slots=len(entry["slots"]))
    name = checked_name(entry.get("name", f"stage{index + 1}"), f"{where}: 'name'")
    slots = tuple(
        _generic_slot(slot, f"{where}, slot {j}", f"{name}.slot{j + 1}"[:MAX_NAME])
        for j, slot in enumerate(entry["slots"])
    )
    min_depth = arguments.integer(
        entry.get("min_depth", len(slots)), f"{where}: 'min_depth'", 0, len(slots)
    )
    rows = entry.get("rows")
    if rows is not None:
        rows = _generic_rows(rows, slots, where)
    return Stage(name, slots, min_depth, rows)


def _generic_slot(slot: object, where: str, default_name: str) -> Slot:
    if not isinstance(slot, dict):
        raise FileFormatError(f"{where} should be an object")
    arguments.known_keys(slot, ("name", "choices", "factors"), where)
    name = checked_name(slot.get("name", default_name), f"{where}: 'name'")
    if ("choices" in slot) == ("factors" in slot):
        raise FileFormatError(
            f"{where} needs either 'choices' (a list) or 'factors' (a list of [name, values])"
        )
    factors = slot["factors"] if "factors" in slot else [["choice", slot["choices"]]]
    if not isinstance(factors, list) or not 1 <= len(factors) <= MAX_FACTORS:
        raise FileFormatError(
            f"{where}: 'factors' should be a list of 1 to {MAX_FACTORS} pairs [name, values], "
            f"found {arguments.shown(factors)}"
        )
    parsed: dict[str, tuple[Any, ...]] = {}
    for factor in factors:
        if not isinstance(factor, list) or len(factor) != 2 or not isinstance(factor[1], list):
            raise FileFormatError(
                f"{where}: a factor is [name, [distinct values]], found {arguments.shown(factor)}"
            )
        factor_name = checked_name(factor[0], f"{where}: the name of a factor")
        if factor_name in parsed:
            raise FileFormatError(f"{where}: two factors have the same name {factor_name!r}")
        parsed[factor_name] = _factor_values(factor[1], f"{where}, factor {factor_name!r}")
    require_size(where, n_choices=math.prod(map(len, parsed.values())))
    return Slot(name, tuple(parsed.items()))


def _factor_values(values: list[Any], where: str) -> tuple[Any, ...]:
    require_size(where, n_choices=len(values))
    for value in values:
        good = isinstance(value, (str, int, float))
        if isinstance(value, str):
            good = len(value) <= MAX_NAME and value.isprintable()
        elif good:
            good = math.isfinite(value) if isinstance(value, float) else abs(value) < 2**63
        if not good:
            raise FileFormatError(
                f"{where}: a value should be a string of at most {MAX_NAME} printable characters, "
                f"a finite number, true or false, found {arguments.shown(value)}"
            )
    if not values or len(set(values)) != len(values):
        raise FileFormatError(
            f"{where} should have distinct values, at least one, found {arguments.shown(values)}"
        )
    return tuple(values)


def _generic_rows(rows: object, slots: Sequence[Slot], where: str) -> tuple[tuple[int, ...], ...]:
    if not isinstance(rows, list) or not rows:
        raise FileFormatError(f"{where}: 'rows' should be a non-empty list of rows of codes")
    require_size(where, n_rows=len(rows))
    for row in rows:
        if (
            not isinstance(row, list)
            or len(row) != len(slots)
            or not all(type(c) is int and 0 <= c <= MAX_CHOICES for c in row)
        ):
            raise FileFormatError(
                f"{where}: row {arguments.shown(row)} should be {len(slots)} codes, 0 (absent) to "
                "the number of choices of each slot"
            )
    return tuple(tuple(row) for row in rows)


def _rounded(n: int) -> str:
    """Write a number of any size with three digits."""
    if n < 10**300:
        return f"{n:.3g}"
    exponent = len(str(n)) - 1
    return f"{n / 10**exponent:.3g}e+{exponent}"


def _rebuilt(definition: dict[str, Any]) -> SearchSpace:
    """Make a space again from the definition that it was pickled as."""
    from . import from_definition

    return from_definition(definition, "a pickled search space")


def require_space(space: object) -> None:
    """Refuse what is no search space, such as its name."""
    if not isinstance(space, SearchSpace):
        raise InvalidTypeError(
            f"space should be a search space (SearchSpace), found {arguments.shown(space)}; "
            "pf.spaces.get makes one by its name, pf.spaces.load reads one"
        )
