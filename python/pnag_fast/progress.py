"""How long work reports on itself, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable

from .errors import InvalidTypeError

# Called with a description, the number of finished steps, and their total. A total of 0 makes the
# description a notice, which should stay readable. What follows NEWS in a description changes while
# the work stays the same.
NEWS = " · "

ProgressCallback = Callable[[str, int, int], None]


def ignore_progress(description: str, done: int, total: int) -> None:
    """Report to nobody."""


def require_progress(progress: object) -> None:
    """Refuse what cannot be called with a report of progress.

    Raises
    ------
    InvalidTypeError
    """
    if not callable(progress):
        raise InvalidTypeError(
            "progress should be a function of a description, the finished steps and their total, "
            f"found {type(progress).__name__}"
        )


def duration(seconds: float) -> str:
    """Say a time as roughly as an estimate is.

    Examples
    --------
    >>> duration(42.3), duration(150), duration(9000)
    ('40 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} s"
    if seconds < 90 * 60:
        return f"{int(seconds / 60 + 0.5)} min"
    return f"{seconds / 3600:.1f} h"
