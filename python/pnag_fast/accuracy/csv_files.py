"""Tables of measured accuracies on disk, as programs and spreadsheets write them."""

from __future__ import annotations

import csv
import io

import numpy.typing as npt

from .. import arguments, files
from ..errors import FileFormatError, InvalidInputError
from ..objective import TOP1, Objective
from ..sheets import Sheet
from ..spaces import Archs, SearchSpace
from ..spaces.space import require_space
from ..typing import FloatArray
from .measured import require_objective
from .table import TableModel, table


def save_table(
    path: files.StrPath,
    space: SearchSpace,
    archs: Archs,
    top1: npt.ArrayLike,
    *,
    objective: Objective = TOP1,
) -> None:
    """Write what was measured as CSV: ``arch`` in the space's notation, and the objective's column.

    That is ``top1``, unless the objective is another; see `Objective.column`.
    """
    require_space(space)
    require_objective(objective)
    names = space.to_strings(archs)
    column = objective.column
    values = arguments.floats(top1, column, (len(names),), meaning="one number per architecture")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arch", column])
    for arch, value in zip(names, values.tolist(), strict=True):
        writer.writerow([arch, repr(value)])
    files.write_text(path, text.getvalue())


def load_table(
    path: files.StrPath, space: SearchSpace, *, objective: Objective = TOP1
) -> tuple[Archs, FloatArray]:
    """Read what was measured: architectures, shape (n, n_slots), and top-1, shape (n,).

    Of another objective its own column, see `Objective.column`.

    CSV in UTF-8, as programs write it and spreadsheets export it: separated by commas, semicolons
    or tabs, where the last two allow decimal commas; capital letters and blanks in the header, a
    byte-order mark, and other columns do not matter.

    Raises
    ------
    FileFormatError
        If the columns ``arch`` and ``top1`` are missing, a row is short, or an architecture is
        foreign: the message names the row.
    """
    require_space(space)
    require_objective(objective)
    sheet = Sheet.read(path, ("arch", objective.column))
    return sheet.archs(space), sheet.numbers(objective.column)


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

    if not isinstance(dataset, str):
        raise InvalidInputError(f"dataset should be a text, found {arguments.shown(dataset)}")
    space = get("nasbench201")
    sheet = Sheet.read(path, ("arch", dataset))
    archs, percent = sheet.archs(space), sheet.numbers(dataset)
    try:
        return table(space, archs, percent / 100, source=f"NAS-Bench-201, {dataset}")
    except InvalidInputError as error:
        raise FileFormatError(f"'{path}', column '{dataset}': {error}") from error
