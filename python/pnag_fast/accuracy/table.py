"""Measured accuracies: tables on disk, and tables that are accuracy models themselves."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .. import files
from ..errors import FileFormatError, InvalidInputError, UnsupportedSpaceError
from ..spaces import Archs, SearchSpace
from .model import AccuracyModel, FloatArray, Tensors

# Measured again, an architecture differs by a tenth of a point; more than this is a mistake.
_CONTRADICTION = 0.01
# A table has one cell for every row of codes, whether an architecture or not: 80 MB at most.
_CELL_LIMIT = 10_000_000


@dataclass(frozen=True, eq=False, kw_only=True)
class TableModel(AccuracyModel):
    """Accuracies of a small space, looked up; what the table lacks is refused by name.

    Attributes
    ----------
    cells : ndarray of float64, shape (product of codes per slot,)
        Top-1 by mixed-radix index of the codes, first slot slowest; NaN where there is none.
    deviations : ndarray of float64, shape as `cells`, optional
        Standard deviation of each cell, all of it: 0 where top-1 was measured. Without it every
        cell is exact.
    """

    cells: FloatArray
    deviations: FloatArray | None = None

    kind: ClassVar[str] = "table"

    def _moments(self, archs: Archs, with_variance: bool) -> tuple[FloatArray, FloatArray | None]:
        index = cell_index(self.space, archs)
        top1 = self.cells[index]
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

    def _unexplained(self, archs: Archs) -> FloatArray:
        # `noise` is of predicted cells, whose deviations hold it.
        return super()._unexplained(archs) if self.deviations is None else np.zeros(len(archs))

    def _content(self, prefix: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        tensors = {f"{prefix}cells": self.cells}
        if self.deviations is not None:
            tensors[f"{prefix}deviations"] = self.deviations
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
        cells = _cells_of_file(tensors, f"{prefix}cells", common["space"], path)
        if not (np.isnan(cells) | ((cells >= 0) & (cells <= 1))).all():
            raise FileFormatError(f"'{path}': array '{prefix}cells' has values outside 0 to 1")
        deviations = None
        if f"{prefix}deviations" in tensors:
            deviations = _cells_of_file(tensors, f"{prefix}deviations", common["space"], path)
            known = deviations[~np.isnan(cells)]
            if not (np.isfinite(known) & (known >= 0)).all():
                raise FileFormatError(
                    f"'{path}': array '{prefix}deviations' has negative or infinite values"
                )
        return cls(cells=cells, deviations=deviations, **common)


def table(
    space: SearchSpace, archs: Archs, top1: npt.ArrayLike, *, source: str = "measured"
) -> TableModel:
    """Make an exact accuracy model of measured architectures of a small space.

    Parameters
    ----------
    archs : ndarray of uint8, shape (n, n_slots)
    top1 : array of float, shape (n,)
        Measured accuracy as a fraction.

    Returns
    -------
    TableModel
        With standard deviation 0. A lookup is one index per row; an architecture that is not among
        `archs` is refused.

    Raises
    ------
    UnsupportedSpaceError
        If the space has too many codes for a table.
    InvalidInputError
        For values outside [0, 1] (percent?), or one architecture with two accuracies.
    """
    size = n_cells(space)
    if size > _CELL_LIMIT:
        raise UnsupportedSpaceError(
            f"space '{space.name}' is too large for a table of every architecture; "
            "fit a model to the measured ones with pf.accuracy.fit"
        )
    values = check_measured(space, archs, top1, tolerance=0.0)
    cells = np.full(size, np.nan)
    cells[cell_index(space, archs)] = values
    rows = len(np.unique(archs, axis=0))
    return TableModel(
        space=space,
        source=f"{source}: {rows} of {space.n_architectures} architectures, looked up",
        report={"rows": rows},
        cells=cells,
    )


def check_measured(
    space: SearchSpace, archs: Archs, top1: npt.ArrayLike, tolerance: float = _CONTRADICTION
) -> FloatArray:
    """Return `top1` as an array after checking it against `archs`: one clear message each."""
    space.validate(archs)
    try:
        values = np.asarray(top1, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"top1 should be numbers: {error}") from None
    if values.shape != (len(archs),):
        raise InvalidInputError(
            f"top1 should have shape ({len(archs)},), one value per architecture, found "
            f"{values.shape}"
        )
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(bad):
        value = values[bad[0]]
        hint = "; divide percentages by 100" if 1 < value <= 100 else ""
        raise InvalidInputError(
            f"top1 of row {bad[0]} is {value}, which is not a fraction from 0 to 1{hint}"
        )
    order = np.lexsort((values, *archs.T))
    same = (archs[order[1:]] == archs[order[:-1]]).all(axis=1)
    apart = np.where(same, np.diff(values[order]), 0.0)
    if (apart > tolerance).any():
        worst = int(apart.argmax())
        a, b = sorted(order[worst : worst + 2].tolist())
        raise InvalidInputError(
            f"rows {a} and {b} are the same architecture, "
            f"{space.to_strings(np.ascontiguousarray(archs[a : a + 1]))[0]}, with top-1 "
            f"{values[a]} and {values[b]}; keep the one that is right"
        )
    return values


def _cells_of_file(
    tensors: Tensors, name: str, space: SearchSpace, path: files.StrPath
) -> FloatArray:
    cells = tensors.get(name)
    size = n_cells(space)
    if cells is None or cells.dtype != np.float64 or cells.shape != (size,):
        found = "none" if cells is None else f"{cells.dtype} of shape {cells.shape}"
        raise FileFormatError(
            f"'{path}': array '{name}' should be float64 of shape ({size},), found {found}"
        )
    return cells


def n_cells(space: SearchSpace) -> int:
    """Cells of a table: one for every row of codes, whether an architecture or not."""
    return math.prod(space.n_codes)


def cell_index(space: SearchSpace, archs: Archs) -> npt.NDArray[np.int64]:
    """Position of each row in a table, first slot slowest."""
    radix = np.append(np.cumprod(space.n_codes[:0:-1])[::-1], 1)
    index: npt.NDArray[np.int64] = archs.astype(np.int64) @ radix.astype(np.int64)
    return index


# --- files ---------------------------------------------------------------------------------------


def save_table(path: files.StrPath, space: SearchSpace, archs: Archs, top1: npt.ArrayLike) -> None:
    """Write measured accuracies as CSV: a column ``arch`` in the space's notation, and ``top1``."""
    values = np.asarray(top1, dtype=np.float64)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arch", "top1"])
    for arch, value in zip(space.to_strings(archs), values.tolist(), strict=True):
        writer.writerow([arch, repr(value)])
    files.write_text(path, text.getvalue())


def load_table(path: files.StrPath, space: SearchSpace) -> tuple[Archs, FloatArray]:
    """Read measured accuracies: architectures, shape (n, n_slots), and top-1, shape (n,).

    Raises
    ------
    FileFormatError
        If the columns ``arch`` and ``top1`` are missing, a row is short, or an architecture is
        foreign: the message names the row.
    """
    rows = _read_csv(path, ("arch", "top1"))
    return _archs(rows, space, path), _column(rows, "top1", path)


def load_nasbench201(path: files.StrPath, dataset: str = "cifar10-test") -> TableModel:
    """Read a table of NAS-Bench-201 as an exact accuracy model.

    Parameters
    ----------
    path : path
        CSV with a column ``arch`` in the benchmark's notation and columns of top-1 in percent.
    dataset : str
        Which column: ``cifar10-test``, ``cifar10-val``, ``cifar100-test``, ``imagenet-test``, ...

    Raises
    ------
    FileFormatError
        If there is no such column: names those there are.
    """
    from ..spaces import get

    space = get("nasbench201")
    rows = _read_csv(path, ("arch", dataset))
    archs, percent = _archs(rows, space, path), _column(rows, dataset, path)
    try:
        return table(space, archs, percent / 100, source=f"NAS-Bench-201, {dataset}")
    except InvalidInputError as error:
        raise FileFormatError(f"'{path}', column '{dataset}': {error}") from error


def _read_csv(path: files.StrPath, columns: Sequence[str]) -> Sequence[dict[str, Any]]:
    try:
        text = files.read_bytes(path).decode("utf-8")
        rows: Sequence[dict[str, Any]] = list(csv.DictReader(io.StringIO(text)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"'{path}' is not a CSV file: {error}") from error
    if not rows or not set(columns) <= set(rows[0]):
        wanted = " and ".join(repr(column) for column in columns)
        found = f"; found {[c for c in rows[0] if c]}" if rows else "; it has no rows"
        raise FileFormatError(f"'{path}' should be a CSV file with columns {wanted}{found}")
    return rows


def _archs(rows: Sequence[dict[str, Any]], space: SearchSpace, path: files.StrPath) -> Archs:
    try:
        return space.from_strings([str(row["arch"]) for row in rows])
    except InvalidInputError as error:
        raise FileFormatError(f"'{path}': {error}") from error


def _column(rows: Sequence[dict[str, Any]], name: str, path: files.StrPath) -> FloatArray:
    return np.array(
        [_number(row[name], f"'{path}': {name} of row {i}") for i, row in enumerate(rows)]
    )


def _number(text: object, what: str) -> float:
    try:
        return float(str(text))
    except ValueError:
        raise FileFormatError(f"{what} should be a number, found {text!r}") from None
