"""Measured accuracies that are accuracy models themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .. import arguments, files
from ..errors import FileFormatError, InvalidInputError
from ..objective import TOP1, Objective
from ..spaces import Archs, SearchSpace
from ..typing import BoolArray, FloatArray, Int64Array
from .codes import row_words
from .measured import Measured
from .model import AccuracyModel, Tensors

# A table of a small space has one cell for every row of codes, whether an architecture or not, and
# finds it by arithmetic. Any other has one for each architecture that it knows: 8 MB of cells may
# be empty, or as many as three of four.
_FREE_CELLS = 1_000_000
_SPARSEST = 4
# Missing architectures are looked for one by one in spaces up to this size.
_LOOKED_THROUGH = 1_000_000


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class TableModel(AccuracyModel):
    """Accuracies that are looked up; what the table lacks is refused by name.

    Attributes
    ----------
    cells : ndarray of float64, shape (product of codes per slot,) or (n,)
        Top-1 by mixed-radix index of the codes, first slot slowest; NaN where there is none. With
        `rows`, one for each of those.
    deviations : ndarray of float64, shape as `cells`, optional
        Standard deviation of each cell, all of it. Without it every cell is exact.
    rows : ndarray of uint8, shape (n, n_slots), optional
        The architectures of `cells`, distinct and in lexicographic order, where the space has too
        many rows of codes to keep a cell for each.
    """

    cells: FloatArray
    deviations: FloatArray | None = None
    rows: Archs | None = None

    kind: ClassVar[str] = "table"

    def _moments(self, archs: Archs, with_variance: bool) -> tuple[FloatArray, FloatArray | None]:
        index = self.index(archs)
        top1 = np.where(index < 0, np.nan, self.cells[index])
        unknown = np.flatnonzero(np.isnan(top1))
        if len(unknown):
            name = self.space.to_strings(archs[unknown[:1]])[0]
            raise InvalidInputError(
                f"row {unknown[0]}, architecture {name}, is not in the accuracy table "
                f"({self.source}); measure it, or fit a model to the table with pf.accuracy.fit"
            )
        if not with_variance:
            return top1, None
        return top1, np.zeros(len(archs)) if self.deviations is None else self.deviations[
            index
        ] ** 2

    def index(self, archs: Archs) -> Int64Array:
        """Cell of every row; -1 where there is none."""
        if self._levels is None:
            return cell_index(self.space, archs)
        index: Int64Array = np.zeros(len(archs), dtype=np.int64)
        known = np.ones(len(archs), dtype=np.bool_)
        for word, (values, pairs) in zip(row_words(self.space, archs), self._levels, strict=True):
            place = _find(values, word, known)
            index = _find(pairs, index * len(values) + place, known)
        index[~known] = -1
        return index

    @cached_property
    def _levels(self) -> list[tuple[Int64Array, Int64Array]] | None:
        """Distinct words of `rows`, and distinct pairs of where the words before and this one are.

        A row of codes does not fit into one integer; its place among the rows does.
        """
        if self.rows is None:
            return None
        levels = []
        index: Int64Array = np.zeros(len(self.rows), dtype=np.int64)
        for word in row_words(self.space, self.rows):
            values, place = np.unique(word, return_inverse=True)
            pairs, index = np.unique(index * len(values) + place, return_inverse=True)
            levels.append((values, pairs))
        return levels

    def require_determined(self, space: SearchSpace) -> None:
        """Refuse a space of which the table lacks architectures, naming the first it finds."""
        super().require_determined(space)
        known = np.count_nonzero(~np.isnan(self.cells))
        if space.n_architectures <= _LOOKED_THROUGH:
            asked = space.enumerate()
        elif known < space.n_architectures:
            asked = space.sample(4096)
        else:
            return
        index = self.index(asked)
        missing = np.flatnonzero((index < 0) | np.isnan(self.cells[index]))
        if len(missing) == 0 and len(asked) == space.n_architectures:
            return
        example = ""
        if len(missing):
            first = np.ascontiguousarray(asked[missing[:1]])
            example = f", for example {space.to_strings(first)[0]}"
        raise InvalidInputError(
            f"the accuracy table ({self.source}) lacks architectures of space '{space.name}'"
            f"{example}; measure them, search a space that the table has all of, or fit a model to "
            "the table with pf.accuracy.fit"
        )

    def _unexplained(self, archs: Archs) -> FloatArray:
        # `noise` is of predicted cells, whose deviations hold it.
        return super()._unexplained(archs) if self.deviations is None else np.zeros(len(archs))

    def _content(self, prefix: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        tensors: dict[str, npt.NDArray[Any]] = {f"{prefix}cells": self.cells}
        for name in ("deviations", "rows"):
            array = getattr(self, name)
            if array is not None:
                tensors[f"{prefix}{name}"] = array
        return tensors, {}

    @classmethod
    def _read(
        cls,
        tensors: Tensors,
        body: Mapping[str, Any],
        path: files.StrPath,
        prefix: str,
        common: dict[str, Any],
    ) -> TableModel:
        del body
        rows = None
        size = n_cells(common["space"])
        if f"{prefix}rows" in tensors:
            rows = _rows_of_file(tensors[f"{prefix}rows"], common["space"], path)
            size = len(rows)
        cells = _cells_of_file(tensors, f"{prefix}cells", size, path)
        objective = common["objective"]
        if not (np.isnan(cells) | ((cells >= objective.low) & (cells <= objective.high))).all():
            raise FileFormatError(
                f"'{path}': array '{prefix}cells' has values outside {objective.low:g} to "
                f"{objective.high:g}"
            )
        deviations = None
        if f"{prefix}deviations" in tensors:
            deviations = _cells_of_file(tensors, f"{prefix}deviations", size, path)
            known = deviations[~np.isnan(cells)]
            if not (np.isfinite(known) & (known >= 0)).all():
                raise FileFormatError(
                    f"'{path}': array '{prefix}deviations' has negative or infinite values"
                )
        return cls(cells=cells, deviations=deviations, rows=rows, **common)


def _find(values: Int64Array, wanted: Int64Array, known: BoolArray) -> Int64Array:
    """Places of numbers among sorted ones; those that are not there are marked as not known."""
    place = np.searchsorted(values, wanted).clip(max=len(values) - 1)
    known &= values[place] == wanted
    return place.astype(np.int64)


def table(
    space: SearchSpace,
    archs: Archs,
    top1: npt.ArrayLike,
    *,
    source: str = "measured",
    objective: Objective = TOP1,
) -> TableModel:
    """Make an accuracy model of measured architectures that looks them up.

    Parameters
    ----------
    archs : ndarray of uint8, shape (n, n_slots)
        Architectures that come more than once have the mean of what was measured.
    top1 : array of float, shape (n,)
        Measured accuracy as a fraction, or what the objective says instead.
    objective : Objective

    Returns
    -------
    TableModel
        With standard deviation 0; where architectures were measured repeatedly, the noise of one
        measurement, pooled over these, over the root of how often it was measured. A lookup is
        an index or a few binary searches per row; an architecture that is not among `archs` is
        refused, and so is the search of a space that has others.

    Raises
    ------
    InvalidInputError
        For values beyond the limits of the objective (percent?), or one architecture with
        accuracies that contradict each other.
    """
    if not isinstance(source, str):
        raise InvalidInputError(f"source should be a text, found {arguments.shown(source)}")
    measured = Measured.of(space, archs, top1, objective)
    deviations = None
    if measured.noise:
        deviations = measured.noise / np.sqrt(measured.count)
    rows = len(measured)
    return TableModel(
        space=space,
        source=f"{source}: {rows} of {space.n_architectures} architectures, looked up",
        report={**measured.facts(), "warnings": measured.doubts()},
        objective=objective,
        **arranged(space, measured.archs, measured.top1, deviations),
    )


def arranged(
    space: SearchSpace, archs: Archs, top1: FloatArray, deviations: FloatArray | None
) -> dict[str, Any]:
    """Arrange values of distinct architectures as fields of a `TableModel`."""
    size = n_cells(space)
    if size <= max(_FREE_CELLS, _SPARSEST * len(archs)):
        index = cell_index(space, archs)
        arrays = {"cells": np.full(size, np.nan)}
        arrays["cells"][index] = top1
        if deviations is not None:
            arrays["deviations"] = np.full(size, np.nan)
            arrays["deviations"][index] = deviations
        return arrays
    order = np.lexsort(row_words(space, archs)[::-1])
    fields = {"cells": top1[order], "rows": np.ascontiguousarray(archs[order])}
    if deviations is not None:
        fields["deviations"] = deviations[order]
    return fields


def _rows_of_file(array: npt.NDArray[Any], space: SearchSpace, path: files.StrPath) -> Archs:
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != space.n_slots:
        raise FileFormatError(
            f"'{path}': array 'rows' should be uint8 of shape (any, {space.n_slots}), found "
            f"{array.dtype} of shape {array.shape}"
        )
    rows: Archs = np.ascontiguousarray(array)
    try:
        space.validate(rows)
    except InvalidInputError as error:
        raise FileFormatError(f"'{path}', array 'rows': {error}") from error
    words = row_words(space, rows)
    order = np.lexsort(words[::-1])
    same = np.all([word[1:] == word[:-1] for word in words], axis=0)
    if len(rows) == 0 or (order != np.arange(len(rows))).any() or same.any():
        raise FileFormatError(f"'{path}': array 'rows' should be distinct rows in order")
    return rows


def _cells_of_file(tensors: Tensors, name: str, size: int, path: files.StrPath) -> FloatArray:
    cells = tensors.get(name)
    if cells is None or cells.dtype != np.float64 or cells.shape != (size,):
        found = "none" if cells is None else f"{cells.dtype} of shape {cells.shape}"
        raise FileFormatError(
            f"'{path}': array '{name}' should be float64 of shape ({size},), found {found}"
        )
    return cells


def n_cells(space: SearchSpace) -> int:
    """Cells of a table: one for every row of codes, whether an architecture or not."""
    return math.prod(space.n_codes)


def cell_index(space: SearchSpace, archs: Archs) -> Int64Array:
    """Position of each row in a table, first slot slowest."""
    radix = np.append(np.cumprod(space.n_codes[:0:-1])[::-1], 1)
    index: Int64Array = archs.astype(np.int64) @ radix.astype(np.int64)
    return index
