"""What was measured of architectures on disk, as programs and spreadsheets write it: CSV."""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import arguments, files
from .errors import FileFormatError
from .spaces import Archs, SearchSpace
from .typing import FloatArray

_SEPARATORS = (",", ";", "\t")
# The column of input resolutions in pixels, where the notation leaves them out.
RESOLUTION = "resolution"
# What programs write for "this text is UTF-16"; spreadsheets offer it as "Unicode text".
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Sheet:
    """The wanted columns of a CSV file, each a text per row.

    Attributes
    ----------
    path : path
    separator : str
    columns : dict of str to list of str
        By the names that were wanted; of those that may be missing, what is there.
    """

    path: files.StrPath
    separator: str
    columns: dict[str, list[str]]

    @classmethod
    def read(
        cls, path: files.StrPath, wanted: Sequence[str], *, optional: Sequence[str] = ()
    ) -> Sheet:
        """Read a file in UTF-8, separated by commas, semicolons or tabs.

        Of columns that are `optional` those that are there are read. Capital letters and blanks in
        the header, a byte-order mark, and other columns do not matter.

        Raises
        ------
        FileFormatError
            If a wanted column is missing or there twice, or a row has other cells than the header:
            the message names the row.
        """
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
                f"'{path}' should be a CSV file with columns {names}; it has no rows below the "
                "header"
            )
        columns = {}
        for name in (*wanted, *optional):
            places = [i for i, found in enumerate(header) if found == name] or [
                i for i, found in enumerate(header) if found.casefold() == name.casefold()
            ]
            if not places and name in optional:
                continue
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
                        f"'{path}': row {i} has {len(row)} cells, the header {len(header)}; texts "
                        f"that hold the separator {separator!r} need quotes"
                    )
            columns[name] = [row[column].strip() for row in rows[1:]]
        return cls(path, separator, columns)

    def archs(self, space: SearchSpace) -> Archs:
        """Read the column ``arch`` in the notation of `space`.

        Where the input resolution is a choice, the notation ends in it, or a column
        ``resolution`` has it.

        Raises
        ------
        FileFormatError
            If an architecture is foreign: the message names the row.
        """
        rows = self.columns["arch"]
        if RESOLUTION in self.columns and space.resolution_slot is not None:
            sizes = self.columns[RESOLUTION]
            with_size = len(space.to_strings(space.sample(1))[0].split(":"))
            rows = [
                row if len(row.split(":")) >= with_size else f"{row}:{size}"
                for row, size in zip(rows, sizes, strict=True)
            ]
        try:
            return space.from_strings(rows)
        except (ValueError, OverflowError) as error:  # integers of any length
            raise FileFormatError(f"'{self.path}': {arguments.shown_error(error)}") from error

    def numbers(self, name: str) -> FloatArray:
        """Read a column of finite numbers, with decimal commas where those separate no cells.

        Raises
        ------
        FileFormatError
            If a cell is none: the message names the row.
        """
        return np.array(
            [_number(text, self, f"{name} of row {i}") for i, text in enumerate(self.columns[name])]
        )


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


def _number(text: str, sheet: Sheet, what: str) -> float:
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
