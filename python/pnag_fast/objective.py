"""What an architecture is good for: the name, unit, direction and limits of its quality."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from . import arguments, files
from .errors import FileFormatError, InvalidInputError
from .typing import FloatArray

Direction = Literal["max", "min"]


@dataclass(frozen=True)
class Objective:
    """A quality: what is predicted, searched for and reported beside the costs.

    Attributes
    ----------
    name : str
        As a report should say it: ``"top-1"``, ``"perplexity"``.
    unit : str
        Of its values; empty where they have none.
    direction : {"max", "min"}
        Whether larger or smaller values are better.
    low, high : float
        Limits that no value can exceed; predictions are cut to them.

    Examples
    --------
    >>> perplexity = Objective("perplexity", direction="min", low=1.0)
    >>> perplexity.merit(np.array([12.0, 9.0])).tolist()
    [-12.0, -9.0]
    """

    name: str
    unit: str = ""
    direction: Direction = "max"
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        for name in ("name", "unit"):
            if not isinstance(getattr(self, name), str):
                raise InvalidInputError(
                    f"the {name} of an objective should be a text, found "
                    f"{arguments.shown(getattr(self, name))}"
                )
        if not self.name.strip():
            raise InvalidInputError("an objective should have a name, found ''")
        arguments.one_of(self.direction, "direction", ("max", "min"))
        for name in ("low", "high"):
            value = arguments.number(getattr(self, name), name, finite=False)
            object.__setattr__(self, name, value)
        if not self.low < self.high:
            raise InvalidInputError(
                f"the limits of an objective should ascend, found low={self.low:g}, "
                f"high={self.high:g}"
            )

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read an objective as the command line names it.

        Parameters
        ----------
        text : str
            The name, then what differs from the default, separated by commas: ``min``,
            ``unit=...``, ``low=...``, ``high=...``; ``top-1`` alone is what it is everywhere.

        Examples
        --------
        >>> Objective.parse("perplexity,min,low=1")
        Objective(name='perplexity', unit='', direction='min', low=1.0, high=inf)
        """
        name, *parts = (part.strip() for part in text.split(","))
        if [name, *parts] == [TOP1.name]:
            return TOP1
        settings: dict[str, Any] = {}
        for part in parts:
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if part in ("min", "max"):
                settings["direction"] = part
            elif equals and key == "unit":
                settings["unit"] = value
            elif equals and key in ("low", "high"):
                try:
                    settings[key] = float(value)
                except ValueError:
                    raise InvalidInputError(
                        f"{key} of an objective should be a number, found {arguments.shown(value)}"
                    ) from None
            else:
                raise InvalidInputError(
                    "an objective is written NAME[,min][,unit=...][,low=...][,high=...], found "
                    f"{arguments.shown(text)}"
                )
        return cls(name, **settings)

    def merit(self, values: FloatArray) -> FloatArray:
        """Values with the sign that makes larger better; the same array where they have it."""
        return values if self.direction == "max" else -values

    def clip(self, values: FloatArray) -> FloatArray:
        """Cut values to the limits."""
        return values.clip(self.low, self.high)

    def check(self, values: FloatArray, what: str) -> None:
        """Refuse values beyond the limits, naming the first row.

        Raises
        ------
        InvalidInputError
        """
        bad = np.flatnonzero(~((values >= self.low) & (values <= self.high) & np.isfinite(values)))
        if len(bad) == 0:
            return
        value = values[bad[0]]
        if self.is_fraction:
            hint = "; divide percentages by 100" if 1 < value <= 100 else ""
            limits = f"a fraction from 0 to 1{hint}"
        else:
            limits = f"a value of {self.name}, from {self.low:g} to {self.high:g}"
        raise InvalidInputError(f"{what} of row {bad[0]} is {value}, which is not {limits}")

    # --- as texts say it ---------------------------------------------------------------------

    @property
    def is_fraction(self) -> bool:
        """Whether it is shown in percent: without a unit, from 0 to 1."""
        return not self.unit and (self.low, self.high) == (0.0, 1.0)

    @property
    def label(self) -> str:
        """Name and unit for an axis or a column, as ``top-1 (%)``."""
        unit = "%" if self.is_fraction else self.unit
        return f"{self.name} ({unit})" if unit else self.name

    @property
    def better(self) -> str:
        """Which way is better, where that is not the usual."""
        return ", smaller is better" if self.direction == "min" else ""

    @property
    def title(self) -> str:
        """Name, unit and direction for a sentence, as ``error (mm), smaller is better``."""
        return f"{self.name} ({self.unit}){self.better}" if self.unit else self.name + self.better

    @property
    def column(self) -> str:
        """Name of a column of a file: ``top1``, ``perplexity``, ``error_mm``."""
        named = self.name.replace("-", "") + (f"_{self.unit}" if self.unit else "")
        return re.sub(r"\W+", "_", named).strip("_") or "value"

    def shown(self, values: FloatArray) -> FloatArray:
        """Values as axes show them: fractions in percent."""
        return 100 * values if self.is_fraction else values

    def number(self, value: float, digits: int = 1) -> str:
        """Write a value without its unit: fractions in percent with so many decimals."""
        return f"{100 * value:.{digits}f}" if self.is_fraction else f"{value:.{digits + 3}g}"

    def with_std(self, value: float, std: float) -> str:
        """Write a value and its standard deviation, without unit."""
        return f"{self.number(value)} ± {self.number(std)}"

    def difference(self, value: float, digits: int = 2) -> str:
        """Write a difference with its sign: fractions in points."""
        if self.is_fraction:
            return f"{100 * value:+.{digits}f} points"
        return f"{value:+.{digits + 1}g} {self.unit}".rstrip()

    def size(self, value: float, digits: int = 2) -> str:
        """Write how large an error or a spread is: fractions in points."""
        return self.difference(abs(value), digits).removeprefix("+")

    def text(self, value: float, digits: int = 1) -> str:
        """Write a value with its unit."""
        unit = "%" if self.is_fraction else self.unit
        return f"{self.number(value, digits)} {unit}".rstrip()

    def span(self, values: FloatArray) -> str:
        """Write name and range of some values, as ``top-1 70.1 to 76.5 %``."""
        return f"{self.name} {self.number(values.min())} to {self.text(values.max())}"

    # --- files -------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Return the JSON values that `from_json` reads; limits that are none are left out."""
        return {name: value for name, value in asdict(self).items() if value not in _OPEN}

    @classmethod
    def from_json(cls, found: Mapping[str, Any], path: files.StrPath) -> Objective:
        """Read what `to_json` returned, checked."""
        files.check_keys(found, tuple(cls.__dataclass_fields__), path, within="objective")
        files.require(found, "name", str, path, within="objective")
        try:
            return cls(**found)
        except InvalidInputError as error:
            raise FileFormatError(f"'{path}': objective: {error}") from error


_OPEN = (-math.inf, math.inf)

TOP1 = Objective("top-1", low=0.0, high=1.0)
