"""How long work reports on itself, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable

# Called with a description, the number of finished steps, and their total. A total of 0 makes the
# description a notice, which should stay readable. What follows NEWS in a description changes while
# the work stays the same.
NEWS = " · "

ProgressCallback = Callable[[str, int, int], None]


def ignore_progress(description: str, done: int, total: int) -> None:
    """Report to nobody."""
