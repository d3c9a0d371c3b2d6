"""Tables of measured accuracies on disk, as programs and spreadsheets write them."""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import arguments, files
from ..errors import FileFormatError, InvalidInputError
from ..objective import TOP1, Objective
from ..spaces import Archs, SearchSpace
from ..spaces.space import require_space
from ..typing import FloatArray
from .measured import require_objective
from .table import TableModel, table

_SEPARATORS = (",", ";", "\t")
# What programs write for "this text is UTF-16"; spreadsheets offer it as "Unicode text".
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


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
    sheet = _read_csv(path, ("arch", objective.column))
    return _archs(sheet, space), _column(sheet, objective.column)


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
    sheet = _read_csv(path, ("arch", dataset))
    archs, percent = _archs(sheet, space), _column(sheet, dataset)
    try:
        return table(space, archs, percent / 100, source=f"NAS-Bench-201, {dataset}")
    except InvalidInputError as error:
        raise FileFormatError(f"'{path}', column '{dataset}': {error}") from error


@dataclass(frozen=True)
class _Sheet:
    """The wanted columns of a CSV file, each a text per row."""

    path: files.StrPath
    separator: str
    columns: dict[str, list[str]]


def _read_csv(path: files.StrPath, wanted: Sequence[str]) -> _Sheet:
    text = _text(path)
    first = text.partition("\n")[0].rstrip("\r")
    if first[:4].lower() == "sep=":  # a spreadsheet's note to itself
        text = text.partition("\n")[2]
        separator = first[4:5] or ","
    else:
        separator = max(_SEPARATORS, key=first.count)
    try:
        # Rows that a spreadsheet's grid adds below the last have no value in any column.
        rows = [
            row
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator)
            if any(cell.strip() for cell in row)
        ]
    except (csv.Error, TypeError, ValueError) as error:
        raise FileFormatError(f"'{path}' is not a CSV file: {error}") from error
    header = [name.strip() for name in rows[0]] if rows else []
    names = " and ".join(repr(name) for name in wanted)
    if len(rows) < 2:
        raise FileFormatError(
            f"'{path}' should be a CSV file with columns {names}; it has no rows below the header"
        )
    columns = {}
    for name in wanted:
        places = [i for i, found in enumerate(header) if found == name] or [
            i for i, found in enumerate(header) if found.casefold() == name.casefold()
        ]
        if len(places) != 1:
            found = arguments.shown(header)
            raise FileFormatError(
                f"'{path}' should be a CSV file with columns {names}; "
                + (f"'{name}' is there {len(places)} times" if places else f"found {found}")
            )
        column = places[0]
        for i, row in enumerate(rows[1:]):
            # A trailing separator makes a cell without a text.
            if len(row) <= column or any(cell.strip() for cell in row[len(header) :]):
                raise FileFormatError(
                    f"'{path}': row {i} has {len(row)} cells, the header {len(header)}; texts that "
                    f"hold the separator {separator!r} need quotes"
                )
        columns[name] = [row[column].strip() for row in rows[1:]]
    return _Sheet(path, separator, columns)


def _text(path: files.StrPath) -> str:
    raw = files.read_bytes(path)
    if raw.startswith(_UTF16) or (raw[:64].count(0) * 3 > len(raw[:64])):
        raise FileFormatError(
            f"'{path}' is UTF-16, not UTF-8; save it as 'CSV UTF-8', or convert it with: "
            "iconv -f UTF-16 -t UTF-8"
        )
    if b"\0" in raw:
        raise FileFormatError(f"'{path}' is not a CSV file: it holds NUL bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError(
            f"'{path}' is not a CSV file in UTF-8 (byte {error.start}); save it as 'CSV UTF-8'"
        ) from error


def _archs(sheet: _Sheet, space: SearchSpace) -> Archs:
    try:
        return space.from_strings(sheet.columns["arch"])
    except (ValueError, OverflowError) as error:  # integers of any length
        raise FileFormatError(f"'{sheet.path}': {arguments.shown_error(error)}") from error


def _column(sheet: _Sheet, name: str) -> FloatArray:
    return np.array(
        [_number(text, sheet, f"{name} of row {i}") for i, text in enumerate(sheet.columns[name])]
    )


def _number(text: str, sheet: _Sheet, what: str) -> float:
    plain = text
    if sheet.separator != "," and text.count(",") == 1 and "." not in text:
        plain = text.replace(",", ".")
    try:
        value = float(plain)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in plain:
        raise FileFormatError(
            f"'{sheet.path}': {what} should be a number, found {arguments.shown(text)}"
        )
    return value
