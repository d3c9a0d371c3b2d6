"""What an architecture is good for: the name, unit, direction and limits of its quality."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

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
    >>> perplexity.merit(np.array([12.0, 9.0])).argmax()
    1
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

    def merit(self, values: FloatArray) -> FloatArray:
        """Values with the sign that makes larger better; the same array where they have it."""
        return values if self.direction == "max" else -values

    def clip(self, values: FloatArray) -> FloatArray:
        """Cut values to the limits."""
        return values.clip(self.low, self.high)

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
