"""Neighbourhoods: any accuracy model, judging an architecture by what lies around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from .. import arguments, files
from ..errors import FileFormatError, InvalidInputError, InvalidTypeError
from ..spaces import Archs, SearchSpace
from ..spaces.neighborhoods import AGGREGATES, Aggregate
from ..typing import BoolArray, FloatArray
from .model import AccuracyModel, Tensors
from .oracle import Oracle

# Neighbours that are predicted together.
_ROWS = 65_536

Self = TypeVar("Self", bound="Neighborhood")


@dataclass(init=False, frozen=True, eq=False, repr=False)
class Neighborhood(AccuracyModel):
    """Another model's prediction of an architecture and of what lies around it, in one number.

    As Wang et al., "Neighborhood-aware neural architecture search" (BMVC 2021), search: not for the
    best architecture but for the one whose neighbourhood, itself included, is best on average, at
    the median, or at its worst. What a model errs by is not the same for all neighbours, so a
    search gains less from one that it overrates by chance; and what changes little under edits was
    seen to generalise better. It is an accuracy model, for any search and generator.

    What it predicts is the neighbourhood's value and not the architecture's own, which is what
    `model` predicts of it.

    Parameters
    ----------
    model : AccuracyModel
        Of its neighbours those are left out whose codes it does not know.
    radius : int
        Edits at most, as in `SearchSpace.neighborhoods`: what is near is asked of the space that is
        searched.
    aggregate : {"mean", "median", "worst"}
        The worst is the largest where smaller is better.
    samples : int, optional
        Neighbours of each architecture at most, the same ones whenever it is asked. Default: all,
        some 170 in ``ofa-mbv3`` at radius 1, each of which is asked.
    seed : int
        Of the choice of samples.

    Notes
    -----
    The standard deviation is the mean of the neighbours': their errors are taken to have one cause.
    Were they independent, that of a mean would be smaller by the root of their number. There is no
    `sensitivity`. A model that is cautious already has bounds averaged.

    Examples
    --------
    >>> import pnag_fast as pf
    >>> space = pf.spaces.get("nasbench201")
    >>> archs = space.enumerate()
    >>> model = pf.accuracy.table(space, archs, (archs == 4).mean(axis=1))
    >>> around = pf.accuracy.Neighborhood(model, aggregate="worst")
    >>> bool(around.predict(archs).max() < model.predict(archs).max())
    True
    """

    model: AccuracyModel
    radius: int
    aggregate: Aggregate
    samples: int | None
    seed: int

    kind: ClassVar[str] = "neighborhood"

    def __init__(
        self,
        model: AccuracyModel,
        radius: int = 1,
        aggregate: Aggregate = "mean",
        samples: int | None = None,
        seed: int = 0,
        **common: Any,  # the fields of every model, from `dataclasses.replace` and from files
    ) -> None:
        given: object = model
        if isinstance(given, Oracle):
            raise InvalidTypeError(
                f"a neighbourhood is of an accuracy model, found an oracle ({given.source}), of "
                "which every architecture would be hundreds of questions; "
                "pf.search.neighborhood(space, oracle, tables) asks those that are worth it"
            )
        if not isinstance(model, AccuracyModel):
            raise InvalidTypeError(
                f"a neighbourhood is of an accuracy model, found {arguments.shown(model)}; "
                "pf.accuracy.load reads one, pf.accuracy.fit makes one"
            )
        radius = arguments.integer(radius, "radius", 1, 64)
        arguments.one_of(aggregate, "aggregate", AGGREGATES)
        if samples is not None:
            samples = arguments.integer(samples, "samples", 1, 2**62)
        edits = "1 edit" if radius == 1 else f"{radius} edits"
        warnings = model.report.get("warnings")
        super().__init__(
            **{
                "space": model.space,
                "source": f"{aggregate} within {edits} of {model.source}",
                "report": {"warnings": warnings} if warnings else {},
                "seen": model.seen,
                "objective": model.objective,
                **common,
            }
        )
        own = (model, radius, aggregate, samples, arguments.seed(seed))
        for name, value in zip(_OWN, own, strict=True):
            object.__setattr__(self, name, value)

    def over(self: Self, space: SearchSpace) -> Self:
        """Return the same for another space over the same slots: neighbours are those in it."""
        found = super().over(space)
        if found is not self:
            object.__setattr__(found, "model", self.model.over(space))
        return found

    def require_determined(self, space: SearchSpace) -> None:
        """Refuse what the model does not know."""
        self.model.require_determined(space)

    def knows(self, archs: Archs) -> BoolArray:
        """Say of which rows the model knows every code; shape (n,)."""
        return self.model.knows(archs)

    def identity(self) -> Any:
        """Return what predictions depend on, JSON values."""
        settings = [self.radius, self.aggregate, self.samples, self.seed, self.caution]
        return ["neighborhood", settings, self.model.identity()]

    def _moments(self, archs: Archs, with_variance: bool) -> tuple[FloatArray, FloatArray | None]:
        values, std = np.empty((2, len(archs)))
        for rows in self._blocks(archs):
            around = self.space.neighborhoods(
                np.ascontiguousarray(archs[rows]),
                self.radius,
                samples=self.samples,
                seed=self.seed,
                threads=1,
            )
            known = self.model.knows(around.archs)
            asked = around.archs if known.all() else np.ascontiguousarray(around.archs[known])
            of_value, of_std = np.full((2, len(around.archs)), np.nan)
            if with_variance:
                answer = self.model.predict(asked, return_std=True)
                # A model without any has no second.
                of_value[known], of_std[known] = (
                    answer if isinstance(answer, tuple) else (answer, 0)
                )
            else:
                of_value[known] = self.model.predict(asked)
            direction = self.objective.direction
            values[rows] = around.aggregate(
                of_value, self.aggregate, direction=direction, threads=1
            )
            if with_variance:
                std[rows] = around.aggregate(of_std, threads=1)
        return values, std**2 if with_variance else None

    def _blocks(self, archs: Archs) -> Iterator[slice]:
        """Rows whose neighbourhoods are predicted together."""
        if len(archs) == 0:
            return
        each = self.space.core.neighborhood_offsets(
            np.ascontiguousarray(archs[:1]),
            self.radius,
            -1 if self.samples is None else self.samples,
            True,
            1,
        )[1]
        step = max(1, _ROWS // int(each))
        for start in range(0, len(archs), step):
            yield slice(start, start + step)

    def _content(self, prefix: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        if not self.model.kind:
            raise InvalidInputError(
                f"a neighbourhood of a {type(self.model).__name__} cannot be saved"
            )
        tensors, body = self.model.to_tensors(f"{prefix}base.")
        return tensors, {"base": body} | {name: getattr(self, name) for name in _OWN[1:]}

    @classmethod
    def _read(
        cls,
        tensors: Tensors,
        body: Mapping[str, Any],
        path: files.StrPath,
        prefix: str,
        common: dict[str, Any],
    ) -> Neighborhood:
        base = AccuracyModel.from_tensors(
            tensors, files.require(body, "base", dict, path), path, f"{prefix}base."
        )
        # With another space the codes of rows would be read wrongly; rows of the same slots fit.
        if (
            base.space.fingerprint != common["space"].fingerprint
            or base.objective != common["objective"]
        ):
            raise FileFormatError(f"'{path}': an accuracy model and its base do not fit")
        try:
            return cls(base, **{name: body.get(name) for name in _OWN[1:]}, **common)  # type: ignore[arg-type]
        except InvalidInputError as error:
            raise FileFormatError(f"'{path}': {error}") from None


_OWN = ("model", "radius", "aggregate", "samples", "seed")
