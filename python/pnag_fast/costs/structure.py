"""What costs of networks are like before anything was measured: which codes resemble each other.

A prior of a table's weights is a sum of independent parts, the components of variance of the
statistics of breeding (Searle, Casella and McCulloch, Variance Components, 1992): each says along
which directions weights vary together, and `pnag_fast.costs.evidence` finds how much.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import numpy as np

from ..spaces import SearchSpace
from ..spaces.space import Slot
from ..typing import FloatArray


@dataclass(frozen=True, eq=False)
class Component:
    """Part of a prior: weights drawn from a Gaussian with covariance ``s**2 * root @ root.T``.

    Attributes
    ----------
    root : ndarray of float64, shape (n_features, rank)
        One row per column of `pnag_fast.costs.features.features`; its scale ``s`` is estimated.
    name : str
    """

    root: FloatArray
    name: str


def of_space(space: SearchSpace) -> list[Component]:
    """Return components for the regularity of a space.

    A choice costs something for being there, something that is linear in each of its factors
    (kernel size, expand ratio) and in their products, and something of its own; and each of these
    is partly the same in all slots with the same choices, in those of a stage, and the slot's own.
    Where the space has several input resolutions, the same once more for what grows with
    them.
    """
    plain = [Component(np.eye(1 + _n_codes(space), 1), "constant")]
    for level, groups in _groups(space).items():
        for term in _TERMS:
            columns = list(_columns(space, groups, term))
            if columns:
                plain.append(Component(np.stack(columns, axis=1), f"{term} by {level}"))
    if space.resolution_slot is None:
        return plain
    return [
        Component(np.kron(part[:, None], component.root), component.name + suffix)
        for part, suffix in ((np.array([1.0, 0.0]), ""), (np.array([0.0, 1.0]), " by size"))
        for component in plain
    ]


_TERMS = ("presence", "factors", "products", "code")


def _groups(space: SearchSpace) -> dict[str, list[list[int]]]:
    """Slots that share what a component draws, by the level at which they do."""
    levels: dict[str, dict[Hashable, list[int]]] = {"choices": {}, "stage": {}, "slot": {}}
    for stage, slot in _slots(space):
        choices = space.slots[slot].factors
        for level, key in (("choices", choices), ("stage", (stage, choices)), ("slot", slot)):
            levels[level].setdefault(key, []).append(slot)
    return {level: list(groups.values()) for level, groups in levels.items()}


def _slots(space: SearchSpace) -> Iterator[tuple[int, int]]:
    """Stage and slot of every slot that is no input resolution."""
    slot = 0
    for index, stage in enumerate(space.stages):
        for _ in stage.slots:
            if slot != space.resolution_slot:
                yield index, slot
            slot += 1


def _n_codes(space: SearchSpace) -> int:
    return sum(space.slots[slot].n_choices for _, slot in _slots(space))


def _columns(space: SearchSpace, groups: list[list[int]], term: str) -> Iterator[FloatArray]:
    """Directions of the plain weights, one for each group and each pattern over its codes."""
    n = [space.slots[slot].n_choices for _, slot in _slots(space)]
    firsts = dict(zip((s for _, s in _slots(space)), np.cumsum([1, *n]).tolist(), strict=False))
    for group in groups:
        for pattern in _patterns(space.slots[group[0]], term):
            column = np.zeros(1 + sum(n))
            for slot in group:
                column[firsts[slot] : firsts[slot] + len(pattern)] = pattern
            yield column


def _patterns(slot: Slot, term: str) -> list[FloatArray]:
    """Return what a term gives each of a slot's choices."""
    if term == "presence":
        return [np.ones(slot.n_choices)]
    if term == "code":
        return list(np.eye(slot.n_choices))
    sizes = [
        _standardised([choice[factor] for choice in slot.choices])
        for factor, (_, values) in enumerate(slot.factors)
        if len(values) > 1 and all(type(value) in (int, float) for value in values)
    ]
    if term == "factors":
        return sizes
    return [a * b for a, b in itertools.combinations(sizes, 2)]


def _standardised(values: list[float]) -> FloatArray:
    numbers = np.array(values, dtype=np.float64)
    # Their squares may be too large, or too small, for a number.
    numbers = np.ldexp(numbers, -np.frexp(np.abs(numbers).max())[1])
    return np.asarray((numbers - numbers.mean()) / numbers.std())
