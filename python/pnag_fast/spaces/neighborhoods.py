"""What lies within a few edits of architectures, and what their values come to together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from .. import _core, arguments
from ..threads import resolve_threads

Aggregate = Literal["mean", "median", "worst"]
AGGREGATES: tuple[Aggregate, ...] = ("mean", "median", "worst")


@dataclass(frozen=True, eq=False)
class Neighborhoods:
    """Neighbourhoods of some architectures, one after the other; from `SearchSpace.neighborhoods`.

    Attributes
    ----------
    archs : ndarray of uint8, shape (m, n_slots)
        Those of the first architecture, then those of the second, and so on.
    offsets : ndarray of int64, shape (n + 1,)
        ``archs[offsets[i]:offsets[i + 1]]`` are those of architecture i.
    """

    archs: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def aggregate(
        self,
        values: npt.ArrayLike,
        aggregate: Aggregate = "mean",
        *,
        direction: Literal["max", "min"] = "max",
        threads: int | None = None,
    ) -> npt.NDArray[np.float64]:
        """Combine a value of every member to one of every neighbourhood.

        Parameters
        ----------
        values : array of float, shape (m,)
            NaN, where there is none, is left out.
        aggregate : {"mean", "median", "worst"}
        direction : {"max", "min"}
            Whether larger or smaller values are better, which says what the worst is.
        threads : int, optional
            Default: all cores that the process may use. The result does not depend on it.

        Returns
        -------
        ndarray of float64, shape (n,)
            NaN for a neighbourhood without values.

        Examples
        --------
        >>> import pnag_fast as pf
        >>> space = pf.spaces.get("nasbench201")
        >>> around = space.neighborhoods(space.sample(3, seed=0))
        >>> around.aggregate(pf.costs.macs(space)(around.archs), "worst").shape
        (3,)
        """
        arguments.one_of(aggregate, "aggregate", AGGREGATES)
        arguments.one_of(direction, "direction", ("max", "min"))
        m = len(self.archs)
        checked = arguments.floats(values, "values", (m,), meaning=f"({m},): one a member")
        statistic = aggregate if aggregate != "worst" else "min" if direction == "max" else "max"
        return _core.reduce_segments(checked, self.offsets, statistic, resolve_threads(threads))
