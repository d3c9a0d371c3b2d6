"""How long work reports on itself, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable

# Called with a description, the number of finished steps, and their total.
ProgressCallback = Callable[[str, int, int], None]


def ignore_progress(description: str, done: int, total: int) -> None:
    """Report to nobody."""
