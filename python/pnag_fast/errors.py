"""Everything this package raises on purpose.

Each error derives from `PnagError` and from the builtin that a caller would expect, so both
``except PnagError`` and ``except ValueError`` do what they say.
"""

from __future__ import annotations


class PnagError(Exception):
    """Base of every error that pnag_fast raises on purpose."""


class InvalidInputError(PnagError, ValueError):
    """A value that cannot be right: the message names it, what is allowed and the remedy."""


class InvalidTypeError(PnagError, TypeError):
    """An array of the wrong dtype, shape or memory layout, or an argument of the wrong type."""


class BudgetInfeasibleError(InvalidInputError):
    """A budget that no architecture of the space can meet."""


class UnsupportedSpaceError(InvalidInputError):
    """An operation that the given search space does not offer."""


class FileFormatError(PnagError, ValueError):
    """A file that is truncated, foreign, of a newer version, or made for something else."""


class OtherRunError(InvalidInputError, FileFormatError):
    """A checkpoint or journal of work with other inputs: says which, from what to what."""


class FileAccessError(PnagError, OSError):
    """A file or folder that cannot be read or written."""


class DataError(PnagError, ValueError):
    """Images or labels that cannot be trained on."""


class MeasurementError(PnagError, RuntimeError):
    """A device or compiler that did not deliver a measurement."""


class TrainingError(PnagError, RuntimeError):
    """Training that cannot go on, for example because the loss is not a number."""


class MemoryShortageError(PnagError, MemoryError):
    """Memory ran out; the message says what to make smaller."""


class MissingDependencyError(PnagError, ImportError):
    """An optional dependency that is not installed; the message names the extra to install."""

    def __init__(self, module: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs '{module}', which is not installed; "
            f"install it with: pip install 'pnag-fast[{extra}]'"
        )
        self.module = module
        self.extra = extra
        self.purpose = purpose

    def __reduce__(self) -> tuple[type[MissingDependencyError], tuple[str, str, str]]:
        return type(self), (self.module, self.extra, self.purpose)
