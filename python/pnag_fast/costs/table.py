"""`CostTable`: one additive cost over a search space, its file, and several looked up at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from .. import _core, arguments, files
from ..errors import FileFormatError, InvalidInputError, InvalidTypeError
from ..spaces import Archs, SearchSpace, from_definition, hull
from ..threads import resolve_threads
from ..typing import BoolArray, FloatArray, IntArray
from .features import entries as entries_of
from .features import features, n_contexts, n_features, shares
from .features import weights as weights_of
from .posterior import Posterior
from .table_file import (
    FIELDS,
    context_name,
    read_entries,
    read_posterior,
    written_entries,
    written_posterior,
)

COST_FORMAT = "pnag-cost-table"
# 2 knows how far a table may be wrong.
COST_VERSION = 2

# What a person reads for a metric.
_METRICS = {"macs": "multiply-adds"}
# A measurement without noise, of what is a sum over slots, would leave nothing unknown.
_LEAST_NOISE = 1e-4
# Beyond these a number says nothing but that it is not meant, and squares overflow.
_MOST_NOISE, _MOST_CAUTION, _MOST_STD = 1e3, 1e3, 1e150
# Tables that a stack names when it is printed.
_SHOWN_TABLES = 3

# Files of the first days count everything in "count".
COUNTED = {"macs": "MACs", "parameters": "parameters"}


@dataclass(frozen=True, eq=False, repr=False)
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
        Where the numbers come from; JSON. A list of strings under ``warnings`` says why they should
        not be trusted.
    domain : SearchSpace, optional
        The space whose architectures determine the entries, see `require_determined`. None where
        every entry was measured or counted by itself.
    posterior : Posterior, optional
        How far the table may be wrong; None for one that is exact, as counts are.
    caution : float
        Standard deviations by which the costs lie above the mean, see `cautious`.

    Examples
    --------
    >>> import pnag_fast as pf
    >>> table = pf.costs.macs(pf.spaces.get("nasbench201"))
    >>> table(table.space.from_strings(
    ...     ["|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"]
    ... ))
    array([43172480.])
    >>> table
    <CostTable of multiply-adds for 'nasbench201'
     7.783e+06 to 2.201e+08 MACs on any device>
    """

    space: SearchSpace
    metric: str
    unit: str
    device: str
    constants: FloatArray
    entries: FloatArray
    reduce: Literal["sum", "max"] = "sum"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    domain: SearchSpace | None = None
    posterior: Posterior | None = None
    caution: float = 0.0

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
        domain: SearchSpace | None = None,
        posterior: Posterior | None = None,
    ) -> CostTable:
        """Check shapes and values and make a table.

        Raises
        ------
        InvalidInputError
            If a shape does not fit the space, an entry of an existing code is not finite, or some
            architecture would cost nothing or less than nothing; if `domain` leaves open what an
            architecture of `space` costs.
        """
        for name, value in (("metric", metric), ("unit", unit), ("device", device)):
            require_text(value, name)
        constants = np.array(arguments.floats(constants, "constants")).reshape(-1)
        entries = np.array(arguments.floats(entries, "entries"))
        shape = (n_contexts(space), space.n_slots, max(space.n_codes))
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
                f"{context_name(space, context)} is {entries[context, slot, code]}; "
                "every entry must be a finite number"
            )
        if not np.isfinite(constants).all():
            raise InvalidInputError(f"constants should be finite, found {constants.tolist()}")
        entries = np.where(exists, entries, np.nan)
        constants.flags.writeable = entries.flags.writeable = False
        about = dict(provenance or {})
        if posterior is not None:
            posterior = _checked(posterior, space, reduce)
        table = cls(
            space, metric, unit, device, constants, entries, reduce, about, domain, posterior
        )
        table.require_determined(space)
        table._require_positive()
        if posterior is not None:
            _require_squares(posterior, table)
        return table

    def _require_positive(self) -> None:
        """Refuse a table by which some architecture is free: the cheapest tells, exactly."""
        low, high = self.bounds
        if low > 0 and math.isfinite(high):
            return
        if low > 0 or math.isnan(low):
            raise InvalidInputError(
                f"the dearest architecture of '{self.space.name}' costs {high} {self.unit}: the "
                "entries are too large to add up; choose a larger unit"
            )
        arch = self.cheapest()
        context = 0 if self.space.resolution_slot is None else arch[self.space.resolution_slot] - 1
        raise InvalidInputError(
            f"by this {self.metric} table of '{self.device}' the cheapest architecture of "
            f"'{self.space.name}'{context_name(self.space, int(context))} costs {low:.4g} "
            f"{self.unit} (codes {','.join(map(str, arch.tolist()))}); every total must be above "
            "zero, although single entries need not be: check what was measured, or add what all "
            "architectures share as constants"
        )

    @overload
    def __call__(
        self,
        archs: Archs,
        *,
        return_std: Literal[False] = False,
        threads: int | None = None,
        out: FloatArray | None = None,
    ) -> FloatArray: ...

    @overload
    def __call__(
        self,
        archs: Archs,
        *,
        return_std: Literal[True],
        threads: int | None = None,
        out: FloatArray | None = None,
    ) -> tuple[FloatArray, FloatArray]: ...

    def __call__(
        self,
        archs: Archs,
        *,
        return_std: bool = False,
        threads: int | None = None,
        out: FloatArray | None = None,
    ) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Cost of each row.

        Parameters
        ----------
        archs : ndarray of uint8, shape (n, n_slots)
        return_std : bool
            Return the standard deviations as well: how far a network of these codes may lie from
            its cost here. All zero for an exact table.
        threads : int, optional
            Default: all cores that the process may use; the result does not depend on it.
        out : ndarray of float64, shape (n,), optional
            Where to write, C-contiguous; saves the time of fresh memory in a loop over batches.

        Returns
        -------
        costs : ndarray of float64, shape (n,)
            `out`, if it was given. Means, or of a cautious table upper bounds.
        std : ndarray of float64, shape (n,)
            With `return_std`.

        Raises
        ------
        InvalidInputError
            If a row has a code beyond those of its slot, or one that never occurred in the space
            that the table was fitted in. Rows are not otherwise checked for being architectures:
            that takes 40 times as long as looking them up, see `SearchSpace.validate`.
        """
        if out is None:
            costs = self._kernel.lookup(archs, resolve_threads(threads)).reshape(-1)
        elif not isinstance(out, np.ndarray) or out.ndim != 1:
            raise InvalidTypeError("out should be a float64 array with one dimension")
        else:
            costs = out
            # A view of one column, or, of an array with gaps, one that the kernel refuses.
            self._kernel.lookup(archs, resolve_threads(threads), out[:, None])
        if self._unseen is not None:
            _refuse_unseen([self], archs, costs)
        if not return_std and not self.caution:
            return costs
        std = self._std(archs, costs, threads)
        costs += self.caution * std
        return (costs, std) if return_std else costs

    def _std(self, archs: Archs, mean: FloatArray, threads: int | None) -> FloatArray:
        """Return the standard deviation of each row of known mean cost."""
        if self._spread is None:
            return np.zeros(len(archs))
        std = self._spread.lookup(archs, np.ascontiguousarray(mean), resolve_threads(threads))
        floor = 0.0 if self.posterior is None else self.posterior.floor
        return np.hypot(std, floor, out=std) if floor else std

    @cached_property
    def _spread(self) -> _core.CostSpread | None:
        """The posterior as vectors by context and code, whose sums are `features` times its root.

        None for an exact table.
        """
        if self.posterior is None:
            return None
        rank = self.posterior.root.shape[1]
        constants = np.empty((*self.constants.shape, rank))
        entries = np.empty((*self.entries.shape, rank))
        for i, column in enumerate(self.posterior.root.T):
            constants[:, i], entries[..., i] = entries_of(self.space, column)
        return _core.CostSpread(
            entries,
            constants,
            self.posterior.misfit,
            _context_slot(self.space),
            list(self.space.n_codes),
        )

    @property
    def weights(self) -> FloatArray:
        """Weights whose sums over `features` its means are, shape (n_features,).

        At several resolutions those that come nearest to them.
        """
        return weights_of(self.space, self.constants, self.entries)

    @property
    def mean(self) -> CostTable:
        """The table without caution."""
        return self.cautious(0.0)

    def cautious(self, k: float) -> CostTable:
        """Return the same table with upper bounds for costs: mean + `k` standard deviations.

        For searches, which find the errors of whatever they trust: a network that looks cheap only
        because little is known of its codes gains nothing here. The costs are no sum over slots
        any more. An exact table is returned as it is.

        Parameters
        ----------
        k : float
            From 0, which is the mean, to 1000; 1.645 is above the cost of 95 % of networks.
        """
        k = arguments.number(k, "k", 0, _MOST_CAUTION)
        return self if self.posterior is None or k == self.caution else replace(self, caution=k)

    def updated(
        self, archs: Archs, values: npt.ArrayLike, *, noise: npt.ArrayLike = 0.0
    ) -> CostTable:
        """Return the table with measurements of whole networks taken in, and less uncertainty.

        Parameters
        ----------
        archs : ndarray of uint8, shape (n, n_slots)
            Repeats of a network belong into one call: they are one network, measured better.
        values : array of float, shape (n,)
            Measured costs, positive, in the table's unit.
        noise : array of float, shape () or (n,)
            Relative standard deviation of each measurement, at most 1000.

        Raises
        ------
        InvalidInputError
            If the table has no uncertainty to reduce, a value or its noise is out of range, or the
            result would make an architecture free.
        """
        if self.posterior is None:
            raise InvalidInputError(
                f"this {self.metric} table of '{self.device}' is exact, so a measurement cannot "
                "change it; fit one with pf.costs.fit, or measure one, to have its uncertainty"
            )
        self.space.validate(archs)
        target = arguments.floats(values, "values", (len(archs),), finite=True)
        spread = arguments.floats(noise, "noise", finite=True)
        if spread.shape not in ((), target.shape):
            raise InvalidInputError(
                f"noise should be one number, or {len(target)}: one per measurement; found shape "
                f"{spread.shape}"
            )
        spread = np.broadcast_to(spread, target.shape)
        for name, allowed, bad in (
            ("values", "above zero", target <= 0),
            ("noise", f"from 0 to {_MOST_NOISE:g}", (spread < 0) | (spread > _MOST_NOISE)),
        ):
            if bad.any():
                raise InvalidInputError(f"{name} of row {int(np.argmax(bad))} should be {allowed}")
        # What sets a network apart from the sum over its slots is the same whenever it is measured.
        networks, group = np.unique(archs, axis=0, return_inverse=True)
        group = group.reshape(-1)
        precision = np.maximum(spread, _LEAST_NOISE) ** -2.0
        together = np.bincount(group, precision)
        target = np.bincount(group, precision * target) / together
        mean = self.mean(networks)
        variance = self.posterior.apart(mean) + mean**2 / together
        shift, posterior = self.posterior.conditioned(
            features(self.space, networks), target - mean, variance
        )
        constants, entries = entries_of(self.space, shift)
        before = self.provenance.get("updated")
        taken_in = (before if isinstance(before, int) else 0) + len(archs)
        table = CostTable.build(
            self.space,
            metric=self.metric,
            unit=self.unit,
            device=self.device,
            constants=self.constants + constants,
            entries=self.entries + entries,
            provenance={**self.provenance, "updated": taken_in},
            domain=self.domain,
            posterior=posterior,
        )
        return table.cautious(self.caution)

    @cached_property
    def _unseen(self) -> BoolArray | None:
        """Codes that the table was not fitted to, shape (n_slots, max_codes); None: there is none.

        Only where stages list their rows: elsewhere every choice occurs.
        """
        if self.domain is None or all(stage.rows is None for stage in self.domain.stages):
            return None
        unseen = np.zeros(self.entries.shape[1:], dtype=np.bool_)
        first = 0
        for stage in self.domain.stages:
            if stage.rows is not None:
                rows = np.array(stage.rows)
                unseen[first : first + len(stage.slots)] = True
                unseen[np.arange(first, first + len(stage.slots)), rows] = False
            first += len(stage.slots)
        return unseen & _code_exists(self.space)

    @cached_property
    def _kernel(self) -> _core.CostTables:
        return _kernel([self])

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest cost over the space; of a cautious table, none is better nearby."""
        return float(self(self.cheapest()[None])[0]), float(self(self.dearest()[None])[0])

    def cheapest(self) -> Archs:
        """Return an architecture of the smallest cost, shape (n_slots,)."""
        return self._extreme(1.0)

    def dearest(self) -> Archs:
        """Return an architecture of the largest cost, shape (n_slots,)."""
        return self._extreme(-1.0)

    def _extreme(self, sign: float) -> Archs:
        """Minimise ``sign * cost``: stages are independent, for a sum as for a maximum."""
        archs = np.zeros((len(self.constants), self.space.n_slots), dtype=np.uint8)
        first = 0
        for stage in self.space.stages:
            slots = slice(first, first + len(stage.slots))
            first = slots.stop
            if self.space.resolution_slot == slots.start:
                archs[:, slots] = np.arange(1, len(archs) + 1)[:, None]
            elif stage.rows is not None:
                archs[:, slots] = self._extreme_rows(sign, slots, np.array(stage.rows))
            else:
                archs[:, slots] = self._extreme_codes(sign, slots, stage.min_depth)
        best: Archs = archs[int(np.argmin(sign * self(archs)))]
        return self._descend(sign, best) if self.caution else best

    def _descend(self, sign: float, arch: Archs) -> Archs:
        """Go on from the extreme of the means while a neighbour's upper bound is better."""
        best = sign * self(arch[None])[0]
        while True:
            around = self.space.neighbors(arch)
            if not len(around):
                return arch
            costs = sign * self(around)
            if not costs.min() < best:
                return arch
            arch, best = around[int(costs.argmin())], costs.min()

    def _extreme_rows(
        self, sign: float, slots: slice, rows: npt.NDArray[np.int_]
    ) -> npt.NDArray[np.int_]:
        """Best of the rows that a stage lists, in each context."""
        index = np.arange(slots.start, slots.stop)
        costs = [self._reduced(entries[index, rows]) for entries in self.entries]
        return rows[[int(np.argmin(sign * cost)) for cost in costs]]

    def _extreme_codes(self, sign: float, slots: slice, min_depth: int) -> IntArray:
        """Best codes of a stage in which every choice is free, in each context."""
        entries = self.entries[:, slots]
        exists = _code_exists(self.space)[slots, 1:]
        best = np.argmin(np.where(exists, sign * entries[:, :, 1:], np.inf), axis=2)[:, None] + 1
        present = np.arange(entries.shape[1]) < np.arange(min_depth, entries.shape[1] + 1)[:, None]
        candidates = np.where(present, best, 0)
        chosen = np.take_along_axis(entries[:, None], candidates[..., None], axis=3)[..., 0]
        depth = np.argmin(sign * self._reduced(chosen), axis=1)
        return np.asarray(candidates[np.arange(len(candidates)), depth])

    def _reduced(self, entries: FloatArray) -> FloatArray:
        with np.errstate(over="ignore"):
            costs = entries.sum(axis=-1) if self.reduce == "sum" else entries.max(axis=-1)
        return np.asarray(costs)

    def for_space(self, space: SearchSpace) -> CostTable:
        """Return the same table for another space over the same slots and network.

        Raises
        ------
        InvalidInputError
            If the slots or the network differ, or the table was fitted to architectures that leave
            open what others of `space` cost.
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
        self.require_determined(space)
        table = replace(self, space=space)
        # A table may have been checked for fewer architectures than this space has.
        table._require_positive()
        return table

    def at(self, resolutions: Sequence[int]) -> CostTable:
        """Return the table for some of the space's input resolutions alone.

        Parameters
        ----------
        resolutions : sequence of int
            In pixels; with one, the architecture no longer chooses it.

        Raises
        ------
        InvalidInputError
            If the space lacks one of them.
        """
        known = self.space.resolutions
        missing = [size for size in resolutions if size not in known]
        if missing or not len(resolutions):
            raise InvalidInputError(
                f"this {self.metric} table of '{self.device}' is for input resolutions "
                f"{list(known)}, found {arguments.shown(list(resolutions))}"
            )
        if tuple(resolutions) == known:
            return self
        space = self.space.with_resolutions(resolutions)
        contexts = [known.index(size) for size in resolutions]
        posterior = self.posterior
        if posterior is not None:
            # Every weight has a part that grows, as a share of what is computed at the largest
            # size; among sizes where that is the same, it does not.
            fixed, growing = np.split(posterior.root, 2)
            share = shares(self.space)[contexts]
            same = np.ptp(share, axis=0) == 0
            fixed = fixed + np.where(same, share[0], 0.0)[:, None] * growing
            growing = np.where(same, 0.0, share.max(axis=0))[:, None] * growing
            root = np.vstack([fixed, growing]) if len(contexts) > 1 else fixed
            posterior = replace(posterior, root=root)
        table = CostTable.build(
            space,
            metric=self.metric,
            unit=self.unit,
            device=self.device,
            constants=self.constants[contexts],
            entries=self.entries[contexts, : space.n_slots, : max(space.n_codes)],
            reduce=self.reduce,
            provenance=self.provenance,
            domain=None if self.domain is None else self.domain.with_resolutions(resolutions),
            posterior=posterior,
        )
        return table.cautious(self.caution)

    def require_determined(self, space: SearchSpace) -> None:
        """Check that what the table was made from determines the cost of all of `space`.

        A table that is fitted to whole networks knows the sums of entries that occurred in them,
        and no more: what a code costs that never occurred, or that always came with another one, is
        open, and the number in its place means nothing.

        Raises
        ------
        InvalidInputError
            Names the first code that is open, and why.
        """
        domain = self.domain
        if domain is None or domain is space:
            return
        if domain.fingerprint != space.fingerprint:
            raise InvalidInputError(
                f"this {self.metric} table of '{self.device}' was fitted to networks of "
                f"'{domain.name}', which has other slots, or another network, than '{space.name}'"
            )
        found = hull.first_undetermined(domain, space)
        if found is not None:
            what = hull.describe_code(space, found.slot, found.code)
            raise InvalidInputError(
                f"this {self.metric} table of '{self.device}' was fitted to networks of "
                f"'{domain.name}', and does not know what {what} costs, which "
                f"'{space.name}' allows: it {found.reason}; fit a table to networks of "
                f"'{space.name}', or use this one for '{domain.name}'"
            )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the table should not be trusted, for whoever shows it; mostly nothing."""
        listed = self.provenance.get("warnings")
        return tuple(map(str, listed)) if isinstance(listed, list) else ()

    def describe(self) -> str:
        """Name the table in one line, for messages and reports."""
        what = self.metric if self.metric == self.unit else f"{self.metric} in {self.unit}"
        return f"{what} on {self.device}"

    def __repr__(self) -> str:
        low, high = self.bounds
        device = "any device" if self.device == "any" else f"'{self.device}'"
        lines = [
            f"<CostTable of {_METRICS.get(self.metric, self.metric)} for '{self.space.name}'",
            f"{low:.4g} to {high:.4g} {self.unit} on {device}",
        ]
        if self.domain is not None:
            held_out = self.provenance.get("held_out")
            r2 = held_out.get("r2") if isinstance(held_out, dict) else None
            known = f", held-out R2 {r2:.3f}" if isinstance(r2, float) else ""
            lines.append(f"fitted to networks of '{self.domain.name}'{known}")
        if self.posterior is not None:
            means = self.mean(ends := np.stack([self.mean.cheapest(), self.mean.dearest()]))
            low, high = sorted(self._std(ends, means, 1) / means)
            bounds = f"; costs are upper bounds, mean + {self.caution:.4g} std" * bool(self.caution)
            lines.append(f"std {low:.1%} to {high:.1%}{bounds}")
        if self.warnings:
            lines.append(f"{len(self.warnings)} warnings: see table.warnings")
        return "\n ".join(line[:96] for line in lines) + ">"

    def __getstate__(self) -> dict[str, Any]:
        # Kernels are handles of C++, made anew from the entries where they are missing.
        handles = ("_kernel", "_spread")
        return {name: value for name, value in self.__dict__.items() if name not in handles}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.constants.flags.writeable = self.entries.flags.writeable = False

    def to_json(self) -> dict[str, Any]:
        """Return the table as JSON values; `from_json` reads them back."""
        document = {
            "space": self.space.definition,
            "metric": self.metric,
            "unit": self.unit,
            "device": self.device,
            "reduce": self.reduce,
            "constants": self.constants.tolist(),
            "entries": written_entries(self.space, self.entries),
            "measured": dict(self.provenance),
        }
        if self.domain is not None:
            document["determined_by"] = self.domain.definition
        if self.posterior is not None:
            document["posterior"] = written_posterior(self.posterior)
        if self.caution:
            document["caution"] = self.caution
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any], path: files.StrPath) -> CostTable:
        """Read what `to_json` wrote; `path` names the source in error messages."""
        try:
            arguments.known_keys(document, FIELDS, f"'{path}'")
            space = from_definition(files.require(document, "space", dict, path), f"'{path}'")
            domain = document.get("determined_by")
            if domain is not None:
                where = f"'{path}': determined_by"
                domain = from_definition(
                    files.require(document, "determined_by", dict, path), where
                )
                domain = space if domain == space else domain
            metric = files.require(document, "metric", str, path)
            unit = files.require(document, "unit", str, path)
            constants = files.require(document, "constants", list, path)
            posterior = document.get("posterior")
            if posterior is not None:
                posterior = read_posterior(space, files.require(document, "posterior", dict, path))
            table = cls.build(
                space,
                metric=metric,
                unit=COUNTED.get(metric, unit) if unit == "count" else unit,
                device=files.require(document, "device", str, path),
                constants=[
                    arguments.number(value, f"constant {context}")
                    for context, value in enumerate(constants)
                ],
                entries=read_entries(space, files.require(document, "entries", list, path)),
                reduce=files.require(document, "reduce", str, path),
                provenance=files.require(document, "measured", dict, path),
                domain=domain,
                posterior=posterior,
            )
            caution = document.get("caution", 0.0)
            return table.cautious(arguments.number(caution, "caution", 0, _MOST_CAUTION))
        except FileFormatError:
            raise
        except (InvalidInputError, InvalidTypeError) as error:
            raise FileFormatError(f"'{path}' is not a valid cost table: {error}") from error

    def save(self, path: files.StrPath) -> None:
        """Write the table as versioned JSON, atomically."""
        files.write_json(path, COST_FORMAT, COST_VERSION, self.to_json())

    @classmethod
    def load(cls, path: files.StrPath) -> CostTable:
        """Read a table; `FileFormatError` or `FileAccessError` say what is wrong with the file."""
        return cls.from_json(files.read_json(path, COST_FORMAT, COST_VERSION), path)


def _checked(posterior: Posterior, space: SearchSpace, reduce: str) -> Posterior:
    if reduce != "sum":
        raise InvalidInputError("a table that takes the largest entry cannot have a posterior")
    n = n_features(space)
    root = arguments.floats(
        posterior.root,
        "the posterior's root",
        (n, None),
        meaning=f"({n}, rank): one row for each feature of space '{space.name}'",
        finite=True,
    )
    misfit = arguments.number(posterior.misfit, "the posterior's misfit", 0)
    floor = arguments.number(posterior.floor, "the posterior's floor", 0)
    return Posterior(root, misfit, floor).narrowed()


def _require_squares(posterior: Posterior, table: CostTable) -> None:
    """Refuse standard deviations that cannot be squared: lookups would return infinities."""
    with np.errstate(over="ignore"):
        entries = np.abs(posterior.root).sum()
    if max(entries, posterior.misfit * table.bounds[1], posterior.floor) > _MOST_STD:
        raise InvalidInputError(
            f"by the posterior this {table.metric} table of '{table.device}' may be wrong by more "
            f"than {_MOST_STD:g} {table.unit}: choose a larger unit"
        )


@dataclass(frozen=True, eq=False, repr=False)
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
        costs = self._kernel.lookup(archs, resolve_threads(threads), out)
        if any(table._unseen is not None for table in self.tables):
            _refuse_unseen(self.tables, archs, costs)
        for column, table in zip(costs.T, self.tables, strict=True):
            if table.caution:
                column[:] += table.caution * table._std(archs, column, threads)
        return costs

    def __repr__(self) -> str:
        lines = [f"<CostStack of {len(self.tables)} for '{self.space.name}'"]
        for table, (low, high) in zip(self.tables[:_SHOWN_TABLES], self.bounds, strict=False):
            lines.append(f"{table.describe()[:60]}: {low:.4g} to {high:.4g}")
        if len(self.tables) > _SHOWN_TABLES:
            lines.append(f"and {len(self.tables) - _SHOWN_TABLES} more")
        return "\n ".join(lines) + ">"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kernel"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

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
    # What was never measured costs more than anything, so that a lookup finds out at no expense.
    entries = [
        table.entries if table._unseen is None else np.where(table._unseen, _UNSEEN, table.entries)
        for table in tables
    ]
    return _core.CostTables(
        np.stack(entries),
        np.stack([table.constants for table in tables]),
        [table.reduce == "max" for table in tables],
        _context_slot(space),
        list(space.n_codes),
    )


# What a code costs that a table was not fitted to; two hundred of them can be added up.
_UNSEEN = 1e300


def _refuse_unseen(tables: Sequence[CostTable], archs: Archs, costs: FloatArray) -> None:
    """Refuse architectures with a code that a table was not fitted to."""
    if not len(costs) or costs.max() < _UNSEEN / 2:
        return
    for table, column in zip(tables, costs.reshape(len(costs), -1).T, strict=True):
        if table.domain is not None and table._unseen is not None and column.max() >= _UNSEEN / 2:
            break
    else:  # a table of the user's that costs as much
        return
    row = int(np.argmax(column >= _UNSEEN / 2))
    slot = int(np.argmax(table._unseen[np.arange(archs.shape[1]), archs[row]]))
    raise InvalidInputError(
        f"row {row}: this {table.metric} table of '{table.device}' was fitted to networks of "
        f"'{table.domain.name}', in which "
        f"{hull.describe_code(table.space, slot, int(archs[row, slot]))} never occurs"
    )


def require_text(value: object, name: str) -> None:
    """Refuse what is no string."""
    if not isinstance(value, str):
        raise InvalidTypeError(f"{name} should be text, found {arguments.shown(value)}")


def _context_slot(space: SearchSpace) -> int:
    """Return the slot whose choice picks a set of entries, as the core takes it."""
    return -1 if space.resolution_slot is None else space.resolution_slot


def _code_exists(space: SearchSpace) -> BoolArray:
    codes = np.arange(max(space.n_codes))
    return codes[None, :] < np.array(space.n_codes)[:, None]
