"""Whole networks timed on the scale of a table, whatever else the machine does meanwhile."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import files
from ..costs import CostTable
from ..errors import FileFormatError
from ..spaces import Archs
from ..typing import FloatArray
from .networks import Weights, random_weights

if TYPE_CHECKING:
    from .measuring import NetworkTimes

# Networks of an architecture: one mapping per block of ``space.layers(arch)``.
WeightsOf = Callable[[Archs], Sequence[Weights]]
# Measures architectures, with the weights of each where there are any, and a folder to go on from.
Networks = Callable[..., "NetworkTimes"]

# What a network takes at least: others are divided by it.
_LEAST_MS = 1e-9
# The folder of a session that is not over, and of those that are.
_OPEN, _DONE = "measuring", "session-{}"


class Timer:
    """Times whole networks in the unit and on the scale of a table; made by `timer`.

    In every session some networks that the table was made from are timed beside those asked for,
    and all times are divided by how much slower these are than when the table was made.

    Attributes
    ----------
    slowdown : float
        Of the last session.
    sessions : int
        How many each call takes.
    """

    def __init__(
        self,
        table: CostTable,
        networks: Networks,
        *,
        weights: WeightsOf | None,
        n_anchors: int,
        sessions: int,
        folder: Path | None,
    ) -> None:
        self._space, self._networks, self._weights = table.space, networks, weights
        self._anchors, self._anchors_ms = _anchors(table, n_anchors)
        self._reference_ms = _reference_ms(table)
        self._folder = folder
        self.sessions = sessions
        self.slowdown = 1.0

    def __call__(self, archs: Archs) -> FloatArray:
        """Time architectures, shape (n, n_slots); milliseconds, shape (n, sessions)."""
        return np.stack([self._session(archs) for _ in range(self.sessions)], axis=1)

    def _session(self, archs: Archs) -> FloatArray:
        weights = None
        if self._weights is not None:
            weights = [self._weights(arch) for arch in archs]
            weights += [random_weights(self._space.layers(arch), 0) for arch in self._anchors]
        folder = None if self._folder is None else self._folder / _OPEN
        times = self._networks(
            np.concatenate([archs, self._anchors]), weights=weights, checkpoint=folder
        )
        if len(self._anchors):
            self.slowdown = float(np.median(times.ms[len(archs) :] / self._anchors_ms))
        elif self._reference_ms is not None:
            self.slowdown = times.reference_ms / self._reference_ms
        if folder is not None and self._folder is not None:
            # The next session measures anew; what this one measured stays for whoever wants it.
            done = [path.name for path in self._folder.glob(_DONE.format("*"))]
            number = next(n for n in itertools.count() if _DONE.format(n) not in done)
            shutil.move(folder, self._folder / _DONE.format(number))
        return np.asarray(times.ms[: len(archs)] / self.slowdown)


def _anchors(table: CostTable, n: int) -> tuple[Archs, FloatArray]:
    """Choose networks that a table was made from, from the fastest to the slowest."""
    listed = table.provenance.get("networks")
    none = np.empty((0, table.space.n_slots), dtype=np.uint8), np.empty(0)
    if not isinstance(listed, list) or not listed or n == 0:
        return none
    try:
        archs = table.space.from_strings([network["arch"] for network in listed])
        ms = np.array([files.number(network["ms"], "'ms'", low=_LEAST_MS) for network in listed])
    except (TypeError, KeyError, ValueError) as error:
        raise FileFormatError(
            f"the table of '{table.device}' does not list its networks as it should: {error}"
        ) from error
    order = np.argsort(ms)[np.unique(np.linspace(0, len(ms) - 1, n).round().astype(int))]
    return archs[order], ms[order]


def _reference_ms(table: CostTable) -> float | None:
    value = table.provenance.get("reference_ms")
    return float(value) if isinstance(value, (int, float)) and value > 0 else None
