"""Measurements of whole networks on disk, as programs and spreadsheets write them."""

from __future__ import annotations

import csv
import io

import numpy as np
import numpy.typing as npt

from .. import arguments, files
from ..errors import FileFormatError
from ..sheets import RESOLUTION, Sheet
from ..spaces import Archs, SearchSpace
from ..spaces.space import require_space
from ..typing import FloatArray
from .table import require_text


def save_measured(
    path: files.StrPath,
    space: SearchSpace,
    archs: Archs,
    values: npt.ArrayLike | None = None,
    *,
    column: str,
) -> None:
    """Write networks as CSV: ``arch`` in the space's notation, and one column of what they cost.

    Parameters
    ----------
    values : array of float, shape (n,), optional
        Default: the column is empty, for somebody to fill in.
    """
    require_space(space)
    require_text(column, "column")
    names = space.to_strings(archs)
    cells = [""] * len(names)
    if values is not None:
        numbers = arguments.floats(values, column, (len(names),), meaning="one number per network")
        cells = [repr(value) for value in numbers.tolist()]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arch", column])
    writer.writerows(zip(names, cells, strict=True))
    files.write_text(path, text.getvalue())


def load_measured(
    path: files.StrPath, space: SearchSpace, *, column: str
) -> tuple[SearchSpace, Archs, FloatArray]:
    """Read measurements of whole networks.

    CSV as `pnag_fast.accuracy.load_table` reads it, with the columns ``arch`` and `column`.
    Input resolutions may stand in a column ``resolution``.

    Parameters
    ----------
    space : SearchSpace
        Whose networks they are, at its input resolutions or at others.

    Returns
    -------
    space : SearchSpace
        The given one; where networks were measured at other resolutions, one of all of them, for
        a fit from which `CostTable.at` takes the wanted ones.
    archs : ndarray of uint8, shape (n, n_slots)
        Of that space.
    values : ndarray of float64, shape (n,)
        In the unit of the file.

    Raises
    ------
    FileFormatError
        If a column is missing, a row is short, a value is no number, or an architecture is foreign:
        the message names the row.
    """
    require_space(space)
    require_text(column, "column")
    sheet = Sheet.read(path, ("arch", column), optional=(RESOLUTION,))
    values = sheet.numbers(column)
    if RESOLUTION in sheet.columns and space.resolutions:
        sizes = sheet.numbers(RESOLUTION)
        wrong = np.flatnonzero(sizes != np.round(sizes))
        if len(wrong):
            raise FileFormatError(
                f"'{path}': {RESOLUTION} of row {wrong[0]} should be a number of pixels, found "
                f"{sizes[wrong[0]]:g}"
            )
        everywhere = {*space.resolutions, *map(int, sizes.tolist())}
        if everywhere != set(space.resolutions):
            try:
                space = space.with_resolutions(sorted(everywhere))
            except ValueError as error:
                raise FileFormatError(f"'{path}': {error}") from error
    return space, sheet.archs(space), values
