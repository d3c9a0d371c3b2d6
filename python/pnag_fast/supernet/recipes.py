"""Recipes: which networks of a supernet learn at each step, and from what.

A recipe is data, a tuple of `Phase`, so it can be printed, changed with `dataclasses.replace` and
recorded with the weights that it made. Sources:

- ``sandwich``: Yu et al., BigNAS (ECCV 2020), section 3.1.
- ``single-path``: Guo et al., Single Path One-Shot (ECCV 2020).
- ``progressive``: Cai et al., Once-for-All (ICLR 2020), section 3.3, progressive shrinking.
- ``compound``: Sahni et al., CompOFA (ICLR 2021), sections 3 and 4.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, cast

import numpy as np

from pnag_fast.errors import InvalidInputError, UnsupportedSpaceError
from pnag_fast.spaces import Archs, MobileNetV3, SearchSpace
from pnag_fast.spaces.mobilenetv3 import COMPOUND_KERNELS

from .model import extremes

Teacher = Literal["labels", "first", "largest"]
Compound = Literal["fixed", "elastic"]


@dataclass(frozen=True)
class Allowed:
    """A part of a space: the decisions that are open. None leaves all of them.

    Attributes
    ----------
    depths, kernels, expand_ratios : tuple of int, optional
    compound : {None, "fixed", "elastic"}
        Tie the expand ratio of a stage to its depth: the shallowest is the narrowest, the deepest
        the widest. Kernels are then fixed per stage to those of MobileNetV3, or free per layer.
    """

    depths: tuple[int, ...] | None = None
    kernels: tuple[int, ...] | None = None
    expand_ratios: tuple[int, ...] | None = None
    compound: Compound | None = None

    def draw(self, space: SearchSpace, n: int, seed: int) -> Archs:
        """Draw architectures, every open decision uniform; shape ``(n, n_slots)``."""
        if self == Allowed():
            # Decisions, not architectures: almost all architectures are of full depth.
            return space.sample(n, seed=seed, distribution="decisions", threads=1)
        rng = np.random.default_rng(seed)
        stages = self._stages(space)
        archs = np.zeros((n, space.n_slots), dtype=np.uint8)
        for arch in archs:
            slot = 0
            for shapes in stages:
                kernels, ratios, depth = shapes[rng.integers(len(shapes))]
                for layer in range(depth):
                    kernel = kernels[rng.integers(len(kernels))]
                    ratio = ratios[rng.integers(len(ratios))]
                    arch[slot + layer] = _network(space).code(kernel, ratio)
                slot += _network(space).max_depth
            if space.resolution_slot is not None:
                arch[space.resolution_slot] = 1 + rng.integers(len(space.resolutions))
        return archs

    def largest(self, space: SearchSpace) -> Archs:
        """Return the largest architecture, shape ``(1, n_slots)``."""
        arch = extremes(space)[1:].copy()
        if self != Allowed():
            network = _network(space)
            for stage, shapes in enumerate(self._stages(space)):
                kernels, ratios, depth = shapes[-1]
                first = stage * network.max_depth
                arch[0, first : first + network.max_depth] = 0
                arch[0, first : first + depth] = network.code(max(kernels), max(ratios))
        return cast(Archs, arch)

    def _stages(
        self, space: SearchSpace
    ) -> list[list[tuple[tuple[int, ...], tuple[int, ...], int]]]:
        """By stage: the open kernels and expand ratios of each open depth, and the depth."""
        network = _network(space)
        if any(stage.rows is not None for stage in space.stages):
            raise UnsupportedSpaceError(
                f"space '{space.name}' already ties its decisions together; train it with recipe "
                "'sandwich', or a space of free decisions with this recipe"
            )
        kernels = _chosen(self.kernels, network.kernels, "kernels", space)
        ratios = _chosen(self.expand_ratios, network.expand_ratios, "expand_ratios", space)
        stages = []
        for index in range(network.n_stages):
            lowest = space.stages[index].min_depth
            open_depths = tuple(range(lowest, network.max_depth + 1))
            depths = _chosen(self.depths, open_depths, "depths", space)
            here = kernels
            if self.compound == "fixed":
                wanted = COMPOUND_KERNELS[index % len(COMPOUND_KERNELS)]
                here = (min(kernels, key=lambda k: (abs(k - wanted), k)),)
            stages.append(
                [
                    (here, (_coupled(depth, depths, ratios),) if self.compound else ratios, depth)
                    for depth in depths
                ]
            )
        return stages


@dataclass(frozen=True)
class Phase:
    """One stage of a training, with a learning-rate schedule of its own.

    Attributes
    ----------
    name : str
    epochs : int
    learning_rate : float
        Peak.
    networks : int
        Drawn at random at each step, besides `anchors`.
    allowed : Allowed
        What they are drawn from.
    anchors : {(), ("largest",), ("largest", "smallest")}
        Networks that learn at every step.
    teacher : {"labels", "first", "largest"}
        ``labels``: every network learns from the labels. ``first``: the first network learns from
        the labels, the others its soft answers (in-place distillation). ``largest``: all learn
        from the labels and from the soft answers of the largest network as the first phase left it.
    warmup_epochs : float
    sort_channels : tuple of int
        Before the phase, sort channels by importance, so that narrow layers keep the best; of
        layers that could so far be as wide as these expand ratios say. Empty: do not.
    """

    name: str
    epochs: int
    learning_rate: float
    networks: int
    allowed: Allowed = Allowed()
    anchors: tuple[str, ...] = ()
    teacher: Teacher = "labels"
    warmup_epochs: float = 1.0
    sort_channels: tuple[int, ...] = ()

    def draw(self, space: SearchSpace, seed: int) -> Archs:
        """Draw the architectures of one step, those of `anchors` first."""
        anchors = {"smallest": extremes(space)[:1], "largest": self.allowed.largest(space)}
        chosen = [anchors[name] for name in self.anchors]
        if self.networks:
            chosen.append(self.allowed.draw(space, self.networks, seed))
        return np.concatenate(chosen)

    def describe(self) -> str:
        """Say in one line what happens."""
        limits = [
            f"{field.name.replace('_', ' ')} {','.join(map(str, value))}"
            for field in fields(Allowed)
            if isinstance(value := getattr(self.allowed, field.name), tuple)
        ]
        if self.allowed.compound:
            limits.append(f"depth and width tied, {self.allowed.compound} kernels")
        networks = [f"the {name}" for name in self.anchors]
        if self.networks:
            networks.append(f"{self.networks} random" + f" ({'; '.join(limits)})" * bool(limits))
        teacher = {
            "labels": "the labels",
            "first": "the first network",
            "largest": "the labels and the first phase's largest network",
        }
        return (
            f"{self.name}: {self.epochs} epochs, rate {self.learning_rate:g}, "
            f"{' + '.join(networks)} a step, from {teacher[self.teacher]}"
            + (", channels sorted before" if self.sort_channels else "")
        )


RECIPES = ("sandwich", "single-path", "progressive", "compound", "compound-elastic")

# Once-for-All trains its largest network for 180 epochs and its phases for 120, the first of two
# over the same decision for 25. Rates fall less than theirs (0.37, 0.03, 0.09 of the first), which
# are for SGD on ImageNet.
_TEACHER_EPOCHS = 1.5
_SHORT_EPOCHS = 0.2
_RATES = {"kernel": 0.4, "short": 0.15, "long": 0.3}


def plan(
    recipe: str,
    space: SearchSpace,
    *,
    epochs: int,
    learning_rate: float,
    n_random: int | None = None,
    warmup_epochs: float = 1.0,
) -> tuple[Phase, ...]:
    """Spell a recipe out for a space.

    Parameters
    ----------
    recipe : {"sandwich", "single-path", "progressive", "compound", "compound-elastic"}
    space : SearchSpace
    epochs : int
        Of each long phase. Where a largest network is trained first, it gets half as many more;
        the first of two phases over one decision gets a fifth.
    learning_rate : float
        Peak of the first phase.
    n_random : int, optional
        Random networks a step: by default 2 for ``sandwich``, 4 for ``compound``, and 1, 2 and 4
        for the kernel, depth and width phases of ``progressive``, as published.
    warmup_epochs : float

    Returns
    -------
    tuple of Phase

    Examples
    --------
    >>> import pnag_fast as pf
    >>> space = pf.spaces.get("mbv3-cifar")
    >>> for phase in plan("progressive", space, epochs=10, learning_rate=0.01):
    ...     print(phase.name, phase.epochs, phase.networks)
    largest 15 0
    kernel 10 1
    depth 3,4 2 2
    depth 2,3,4 10 2
    expand 4,6 2 4
    expand 3,4,6 10 4
    """
    if recipe not in RECIPES:
        raise InvalidInputError(f"unknown recipe {recipe!r}; choose one of {', '.join(RECIPES)}")
    full = Allowed()
    if recipe == "single-path":
        return (Phase(recipe, epochs, learning_rate, 1, warmup_epochs=warmup_epochs),)
    if recipe == "sandwich":
        anchors, random = ("largest", "smallest"), 2 if n_random is None else n_random
        phase = Phase(recipe, epochs, learning_rate, random, full, anchors, "first", warmup_epochs)
        return (phase,)
    first_epochs = round(_TEACHER_EPOCHS * epochs)
    if recipe == "progressive":
        return _progressive(space, epochs, first_epochs, learning_rate, n_random, warmup_epochs)
    tied = Allowed(compound="fixed" if recipe == "compound" else "elastic")
    tied.largest(space)  # refuses spaces that are tied already
    n = 4 if n_random is None else n_random
    rate = _RATES["long"] * learning_rate
    return (
        Phase(
            "largest", first_epochs, learning_rate, 0, tied, ("largest",), "labels", warmup_epochs
        ),
        Phase("compound", epochs, rate, n, tied, (), "largest", warmup_epochs),
    )


def _progressive(
    space: SearchSpace,
    epochs: int,
    first_epochs: int,
    learning_rate: float,
    n_random: int | None,
    warmup_epochs: float,
) -> tuple[Phase, ...]:
    network = _network(space)
    ratios = tuple(sorted(network.expand_ratios))
    depths = tuple(range(space.stages[0].min_depth, network.max_depth + 1))
    widest, deepest = ratios[-1:], depths[-1:]
    largest = Allowed(deepest, (max(network.kernels),), widest)
    largest.largest(space)
    phases = [
        Phase(
            "largest",
            first_epochs,
            learning_rate,
            0,
            largest,
            ("largest",),
            "labels",
            warmup_epochs,
        )
    ]

    def add(
        name: str, allowed: Allowed, networks: int, size: str, sort: tuple[int, ...] = ()
    ) -> None:
        short = size == "short"
        phases.append(
            Phase(
                name,
                max(1, round(_SHORT_EPOCHS * epochs)) if short else epochs,
                _RATES[size] * learning_rate,
                networks if n_random is None else n_random,
                allowed,
                teacher="largest",
                warmup_epochs=0.0 if short else warmup_epochs,
                sort_channels=sort,
            )
        )

    add("kernel", Allowed(deepest, None, widest), 1, "kernel")
    for first in range(len(depths) - 2, -1, -1):
        chosen = depths[first:]
        allowed = Allowed(chosen, None, widest)
        add(f"depth {_join(chosen)}", allowed, 2, "short" if first else "long")
    for first in range(len(ratios) - 2, -1, -1):
        chosen = ratios[first:]
        allowed = Allowed(None, None, chosen)
        add(
            f"expand {_join(chosen)}", allowed, 4, "short" if first else "long", ratios[first + 1 :]
        )
    return tuple(phases)


def compound_architectures(space: SearchSpace, kernel: Compound = "fixed") -> Archs:
    """List the coupled architectures of a space of free decisions, as CompOFA does.

    Parameters
    ----------
    space : SearchSpace
        With one resolution.
    kernel : {"fixed", "elastic"}
        ``elastic`` lists those with one kernel size per stage.

    Returns
    -------
    ndarray of uint8, shape (n, n_slots)
        243 of a space with five stages of depth 2 to 4 and fixed kernels.

    Examples
    --------
    >>> import pnag_fast as pf
    >>> compound_architectures(pf.spaces.get("mbv3-cifar")).shape
    (243, 20)
    """
    network = _network(space)
    by_stage = []
    for shapes in Allowed(compound=kernel)._stages(space):
        rows = []
        for kernels, ratios, depth in shapes:
            for size in kernels:
                code = network.code(size, ratios[0])
                rows.append([code] * depth + [0] * (network.max_depth - depth))
        by_stage.append(rows)
    archs = [list(itertools.chain(*rows)) for rows in itertools.product(*by_stage)]
    if space.resolution_slot is not None:
        raise InvalidInputError(f"space '{space.name}' has several resolutions; take one of them")
    return np.array(archs, dtype=np.uint8)


def _coupled(depth: int, depths: Sequence[int], ratios: Sequence[int]) -> int:
    """Return the expand ratio that goes with a depth; for 2, 3, 4 and 3, 4, 6 as published."""
    ratios = sorted(ratios)
    steps = max(len(depths) - 1, 1)
    return ratios[round(depths.index(depth) * (len(ratios) - 1) / steps)]


def _chosen(
    wanted: tuple[int, ...] | None, known: Sequence[int], name: str, space: SearchSpace
) -> tuple[int, ...]:
    if wanted is None:
        return tuple(known)
    strangers = [value for value in wanted if value not in known]
    if strangers or not wanted:
        raise InvalidInputError(
            f"{name} {wanted!r} of a phase are not all in space '{space.name}', which has "
            f"{tuple(known)}"
        )
    return tuple(sorted(wanted))


def _join(values: Sequence[int]) -> str:
    return ",".join(map(str, values))


def _network(space: SearchSpace) -> MobileNetV3:
    network = space.network
    if not isinstance(network, MobileNetV3):
        raise UnsupportedSpaceError(
            f"space '{space.name}' has no kernels, depths and widths to open one after another; "
            "train it with recipe 'sandwich' or 'single-path'"
        )
    return network
