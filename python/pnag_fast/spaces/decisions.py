"""Architectures as sequences of decisions, the form in which a policy takes them.

Per stage: its depth, then the decisions on its slots; a stage that lists its rows is one decision.
A slot is one decision, or one for each of its factors (kernel size, expand ratio, ...). What is
decided for absent slots does not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .. import arguments
from ..typing import BoolArray, IntArray
from .space import Archs, SearchSpace

Options = npt.NDArray[np.int64]

MASKED = -1

# Rows of logits looked at together: they stay in the cache.
_BLOCK = 1024


@dataclass(frozen=True)
class Decision:
    """One decision: which kind it is, among how many options, and where it belongs.

    ``slot`` is -1 for a decision on a whole stage (its depth or its row). Decisions of the same
    kind choose among the same values, so a policy may treat them alike.
    """

    kind: str
    n_options: int
    stage: int
    slot: int


class Decisions:
    """Translates rows of codes into decisions and back.

    Parameters
    ----------
    space : SearchSpace
    by : {"factor", "slot"}
        Decisions on a slot: one for each of its factors, the last factor first, as PNAG decides the
        expand ratio before the kernel (section 3.2); or one for its choice. By slot, what has one
        option only is no decision.

    Attributes
    ----------
    decisions : tuple of Decision
        In the order in which they are taken; the order is a part of files that hold policies.
    kinds : dict
        Number of options by kind, in the order in which the kinds first occur.
    starts : ndarray of intp, shape (len(self) + 1,)
        Where the logits of each decision start if those of all decisions lie side by side.

    Examples
    --------
    >>> import pnag_fast as pf
    >>> decisions = Decisions(pf.spaces.get("mbv3-tiny"))
    >>> [decision.kind for decision in decisions.decisions[:3]]
    ['depth:1-3', 'expand:1,2,4', 'kernel:3,5,7']
    >>> archs = decisions.space.sample(4, seed=0)
    >>> (decisions.decode(decisions.encode(archs)) == archs).all()
    np.True_
    """

    def __init__(self, space: SearchSpace, by: Literal["factor", "slot"] = "factor") -> None:
        arguments.one_of(by, "by", ("factor", "slot"))
        self.space, self.by = space, by
        # Beside each decision the weight of its option in the index of the slot's choice.
        listed: list[tuple[Decision, int]] = []
        # Of stages that list their rows: the column of the decision, the slots, the rows.
        self._listing: list[tuple[int, slice, Archs]] = []
        first = 0
        for index, stage in enumerate(space.stages):
            slots = slice(first, first + len(stage.slots))
            first = slots.stop
            if stage.rows is not None:
                rows = np.array(stage.rows, dtype=np.uint8)
                self._listing.append((len(listed) if len(rows) > 1 else -1, slots, rows))
                if len(rows) > 1:
                    listed.append((Decision(f"row:{stage.name}", len(rows), index, -1), 0))
                continue
            if stage.min_depth < len(stage.slots):
                kind = f"depth:{stage.min_depth}-{len(stage.slots)}"
                n_depths = len(stage.slots) - stage.min_depth + 1
                listed.append((Decision(kind, n_depths, index, -1), 0))
            for position, slot in enumerate(stage.slots, slots.start):
                kinds = [f"{name}:{','.join(map(str, values))}" for name, values in slot.factors]
                if by == "slot":
                    if slot.n_choices > 1:
                        kind = " ".join(kinds)
                        listed.append((Decision(kind, slot.n_choices, index, position), 1))
                    continue
                stride = 1
                for kind, (_, values) in zip(kinds[::-1], slot.factors[::-1], strict=True):
                    listed.append((Decision(kind, len(values), index, position), stride))
                    stride *= len(values)
        self.decisions = tuple(decision for decision, _ in listed)
        self.kinds = {decision.kind: decision.n_options for decision in self.decisions}
        self.starts: IntArray = np.cumsum([0, *(d.n_options for d in self.decisions)])
        slots_of = np.array([decision.slot for decision in self.decisions], dtype=np.intp)
        stage_of = np.array([decision.stage for decision in self.decisions], dtype=np.intp)
        # Decisions on slots, and where those on the next slot start.
        self._columns = np.flatnonzero(slots_of >= 0)
        self._slots = slots_of[self._columns]
        self._strides = np.array([stride for _, stride in listed], dtype=np.int64)[self._columns]
        choices = np.arange(max(space.n_codes)) - 1
        n_options = np.diff(self.starts)[self._columns, None]
        # By decision and code.
        self._option_of = np.where(
            choices >= 0, choices // self._strides[:, None] % n_options, MASKED
        )
        self._groups = np.flatnonzero(np.diff(self._slots, prepend=-1))
        # Depths are those of `_lengths` unless a decision says how many more than `_shallowest`.
        lengths = [len(stage.slots) for stage in space.stages]
        self._lengths = np.array(lengths)
        self._firsts = np.cumsum([0, *lengths[:-1]])
        listing = [stage.rows is not None for stage in space.stages]
        self._deep = np.flatnonzero((slots_of < 0) & ~np.array(listing)[stage_of])
        self._deep_stages = stage_of[self._deep]
        self._shallowest = np.array([stage.min_depth for stage in space.stages])[self._deep_stages]
        # Place within its stage of every decision, -1 for those on the stage, and of every slot.
        self._stage_of = stage_of
        self._places = np.where(slots_of >= 0, slots_of - self._firsts[stage_of], -1)
        self._slot_stages = np.repeat(np.arange(len(lengths)), lengths)
        self._slot_places = np.arange(space.n_slots) - self._firsts[self._slot_stages]

    def __len__(self) -> int:
        return len(self.decisions)

    def __repr__(self) -> str:
        return f"<Decisions of '{self.space.name}' by {self.by}: {len(self)}>"

    def __reduce__(self) -> tuple[type[Decisions], tuple[SearchSpace, str]]:
        return Decisions, (self.space, self.by)

    def encode(self, archs: Archs) -> Options:
        """Translate rows into decisions.

        Parameters
        ----------
        archs : ndarray of uint8, shape (n, n_slots)
            Architectures of the space.

        Returns
        -------
        ndarray of int64, shape (n, len(self))
            The option of every decision; `MASKED` where the slot is absent. Cost: O(n) for each,
            O(n log rows) for stages that list their rows.
        """
        options = np.full((len(archs), len(self)), MASKED, dtype=np.int64)
        if len(self._deep):
            depths = np.add.reduceat(archs != 0, self._firsts, axis=1, dtype=np.int64)
            options[:, self._deep] = depths[:, self._deep_stages] - self._shallowest
        which = np.arange(len(self._columns))
        options[:, self._columns] = self._option_of[which, archs[:, self._slots]]
        for column, slots, rows in self._listing:
            if column >= 0:
                known = _packed(rows)
                order = np.argsort(known)
                found = np.searchsorted(known, _packed(archs[:, slots]), sorter=order)
                options[:, column] = order[found.clip(max=len(rows) - 1)]
        return options

    def decode(self, options: Options) -> Archs:
        """Translate decisions into rows; what is decided for absent slots is ignored.

        Parameters
        ----------
        options : ndarray of int64, shape (n, len(self))

        Returns
        -------
        ndarray of uint8, shape (n, n_slots)
            An architecture of the space for any options there are.
        """
        archs = np.ones((len(options), self.space.n_slots), dtype=np.uint8)
        if len(self._columns):
            choices = np.maximum(options[:, self._columns], 0) * self._strides
            if self.by == "factor":
                choices = np.add.reduceat(choices, self._groups, axis=1)
            archs[:, self._slots[self._groups]] += choices.astype(np.uint8)
        if len(self._deep):
            archs *= self._depths(options)[:, self._slot_stages] > self._slot_places
        for column, slots, rows in self._listing:
            archs[:, slots] = rows[options[:, column]] if column >= 0 else rows[0]
        return archs

    def present(self, options: Options) -> BoolArray:
        """Whether each decision counts, given those on depths; shape (n, len(self))."""
        return np.asarray(self._depths(options)[:, self._stage_of] > self._places)

    def largest(self, logits: npt.NDArray[Any]) -> Options:
        """Option with the largest logit of every decision; the first of equal ones.

        Parameters
        ----------
        logits : ndarray of float, shape (n, starts[-1])
            Those of all decisions side by side.

        Returns
        -------
        ndarray of int64, shape (n, len(self))
        """
        options = np.empty((len(logits), len(self)), dtype=np.int64)
        for start in range(0, len(logits), _BLOCK):
            rows = slice(start, start + _BLOCK)
            for columns, places in self._alike:
                # Along the first axis: numpy takes twice as long where a maximum is over few.
                values = logits[rows].T[places]
                largest = values == values.max(axis=0)
                options[rows, columns] = largest.argmax(axis=0).T
        return options

    @cached_property
    def _alike(self) -> list[tuple[IntArray, IntArray]]:
        """Decisions with equally many options, (k,), and the places of their logits, (n, k)."""
        sizes = np.diff(self.starts)
        groups = [(n, np.flatnonzero(sizes == n)) for n in np.unique(sizes)]
        return [(columns, self.starts[columns] + np.arange(n)[:, None]) for n, columns in groups]

    def _depths(self, options: Options) -> Options:
        """Depth of every stage, shape (n, n_stages); the whole stage where nothing is decided."""
        depths = np.tile(self._lengths, (len(options), 1))
        depths[:, self._deep_stages] = options[:, self._deep] + self._shallowest
        return depths


def _packed(rows: Archs) -> npt.NDArray[np.void]:
    """Each row as one value that can be sorted and searched for."""
    plain = np.ascontiguousarray(rows)
    return plain.view(np.dtype((np.void, plain.shape[1])))[:, 0]
