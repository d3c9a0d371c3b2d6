"""What costs of some architectures say of others, where a cost is a sum over slots.

Such a cost is linear in indicators, one for each code of each slot. What is known of some
architectures determines exactly the costs in the affine hull of their indicators. Stages are
independent, so the hull of a space is that of its stages side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..typing import FloatArray
from .space import Archs, SearchSpace, Stage

Codes = npt.NDArray[np.uint8]

# Indicators are 0 and 1: what is outside of a hull is far outside.
_TOLERANCE = 1e-6
# Rows that are turned into a basis at once.
_BLOCK = 2048


@dataclass(frozen=True)
class Spanning:
    """Architectures whose costs determine those of a whole space, and what each is there for.

    Attributes
    ----------
    archs : ndarray of uint8, shape (n, n_slots)
    changes : tuple of (slot, code)
        What each architecture has that those before it do not.
    """

    archs: Archs
    changes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Undetermined:
    """A code of a slot whose cost the architectures of another space do not determine."""

    slot: int
    code: int
    reason: str


def spanning(space: SearchSpace) -> Spanning:
    """Return architectures of `space` in whose affine hull all others lie, the input size aside."""
    bases = [next(_rows(stage))[0] for stage in space.stages]
    archs = [np.concatenate(bases)]
    changes = [(0, int(archs[0][0]))]
    first = 0
    for stage, base in zip(space.stages, bases, strict=True):
        for row, slot, code in _rows(stage):
            if first != space.resolution_slot and not np.array_equal(row, base):
                arch = archs[0].copy()
                arch[first : first + len(base)] = row
                archs.append(arch)
                changes.append((first + slot, code))
        first += len(base)
    return Spanning(np.ascontiguousarray(np.stack(archs), dtype=np.uint8), tuple(changes))


def first_undetermined(known: SearchSpace, wanted: SearchSpace) -> Undetermined | None:
    """Return the first code of `wanted` whose cost those of `known` leave open, or None.

    Both spaces have the same slots. The input resolution is no part of the sum and is left out.
    """
    if known.stages == wanted.stages:
        return None
    for first, ours, theirs in _blocks(known, wanted):
        if first == wanted.resolution_slot:
            continue
        found = _compare(ours, theirs)
        if found is not None:
            slot, code = first + found.slot, found.code
            return Undetermined(slot, code, _reason(wanted, first, found))
    return None


def describe_code(space: SearchSpace, slot: int, code: int) -> str:
    """Write a code with what it stands for: ``code 2 (kernel 3) of slot 7 ('stage 2 layer 4')``."""
    found = space.slots[slot]
    meaning = "absent"
    if code:
        values = zip((name for name, _ in found.factors), found.choices[code - 1], strict=True)
        meaning = ", ".join(f"{name} {value}" for name, value in values)
    return f"code {code} ({meaning}) of slot {slot} ('{found.name}')"


def companion(rows: Codes, slot: int, code: int) -> tuple[int, int] | None:
    """Return the slot and code that a code always comes with in `rows`, and they with it."""
    there = rows[:, slot] == code
    for other in range(rows.shape[1]):
        for found in np.unique(rows[there, other]).tolist():
            if other != slot and np.array_equal(rows[:, other] == found, there):
                return other, found
    return None


def _rows(stage: Stage) -> Iterator[tuple[Codes, int, int]]:
    """Rows of a stage that span its hull, the plainest first, each with what is new in it."""
    n = len(stage.slots)
    if stage.rows is not None:
        base = np.array(stage.rows[0], dtype=np.uint8)
        for listed in stage.rows:
            row = np.array(listed, dtype=np.uint8)
            slot = int(np.argmax(row != base))
            yield row, slot, int(row[slot])
        return
    base = np.zeros(n, dtype=np.uint8)
    base[: stage.min_depth] = 1
    yield base, 0, int(base[0]) if n else 0
    for slot in range(n):
        deeper = base.copy()
        deeper[: slot + 1] = 1
        # An optional layer costs something against its absence, others against another choice.
        for code in range(1 + (slot < stage.min_depth), stage.slots[slot].n_choices + 1):
            row = deeper.copy()
            row[slot] = code
            yield row, slot, code


def _blocks(a: SearchSpace, b: SearchSpace) -> Iterator[tuple[int, list[Stage], list[Stage]]]:
    """Split both spaces where stages of both end: the first slot, and the stages of each."""
    ends_a, ends_b = (np.cumsum([len(stage.slots) for stage in s.stages]).tolist() for s in (a, b))
    first = 0
    for end in sorted(set(ends_a) & set(ends_b)):
        yield (
            first,
            [s for s, stop in zip(a.stages, ends_a, strict=True) if first < stop <= end],
            [s for s, stop in zip(b.stages, ends_b, strict=True) if first < stop <= end],
        )
        first = end


@dataclass(frozen=True)
class _Open:
    """A code that is open in a block: whether it was seen, and what it always came with."""

    slot: int
    code: int
    seen: bool = False
    companion: tuple[int, int] | None = None


def _reason(space: SearchSpace, first: int, found: _Open) -> str:
    if not found.seen:
        return "never occurs there" if found.code else "does not occur there"
    if found.companion is None:
        return "occurs there only in combinations that leave its cost open"
    other, code = first + found.companion[0], found.companion[1]
    return f"occurs there only together with {describe_code(space, other, code)}"


def _compare(known: list[Stage], wanted: list[Stage]) -> _Open | None:
    if len(known) == len(wanted) == 1 and known[0].rows is None:
        return _compare_depths(known[0], wanted[0])
    rows = np.stack([row for row, _, _ in _block_rows(known)])
    wanted_rows, slots, codes = zip(*_block_rows(wanted), strict=True)
    others = np.stack(wanted_rows)
    unseen = np.stack(
        [~np.isin(others[:, s], np.unique(rows[:, s])) for s in range(rows.shape[1])], axis=1
    )
    basis = _basis(_indicators(rows, rows))
    indicators = _indicators(rows, others)
    outside = np.abs(indicators - (indicators @ basis.T) @ basis).max(axis=1) > _TOLERANCE
    bad = np.flatnonzero(unseen.any(axis=1) | outside)
    if not len(bad):
        return None
    row = int(bad[0])
    if unseen[row].any():
        slot = int(np.argmax(unseen[row]))
        return _Open(slot, int(others[row, slot]))
    slot, code = slots[row], codes[row]
    # Only of a listed stage are these all rows that there are.
    listed = len(known) == 1
    return _Open(slot, code, True, companion(rows, slot, code) if listed else None)


def _compare_depths(known: Stage, wanted: Stage) -> _Open | None:
    """Compare with a stage in which every choice is free: all but its depth is determined."""
    if wanted.rows is None:
        least = wanted.min_depth
    else:
        least = min(sum(code > 0 for code in row) for row in wanted.rows)
    return _Open(least, 0) if least < known.min_depth else None


def _block_rows(stages: list[Stage]) -> Iterator[tuple[Codes, int, int]]:
    bases = [next(_rows(stage))[0] for stage in stages]
    base = np.concatenate(bases)
    first = 0
    for stage, part in zip(stages, bases, strict=True):
        for row, slot, code in _rows(stage):
            whole = base.copy()
            whole[first : first + len(part)] = row
            yield whole, first + slot, code
        first += len(part)


def _indicators(known: Codes, rows: Codes) -> FloatArray:
    """One column for each code that occurs in `known`, and a constant."""
    columns = [np.ones(len(rows))]
    for slot in range(known.shape[1]):
        columns += [
            (rows[:, slot] == code).astype(np.float64)
            for code in np.unique(known[:, slot]).tolist()
            if code
        ]
    return np.stack(columns, axis=1)


def _basis(rows: FloatArray) -> FloatArray:
    """Orthonormal rows that span the given ones."""
    basis = np.empty((0, rows.shape[1]))
    for start in range(0, len(rows), _BLOCK):
        _, size, directions = np.linalg.svd(
            np.concatenate([basis, rows[start : start + _BLOCK]]), full_matrices=False
        )
        basis = directions[size > _TOLERANCE * max(size[0], 1.0)]
    return basis
