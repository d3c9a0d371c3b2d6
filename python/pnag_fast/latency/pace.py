"""How long a long step will take on this machine, told from its first seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..progress import ProgressCallback, duration

# What takes less is not worth a line.
LONG_SECONDS = 30.0
# The pace of fewer steps, or of a shorter time, says little.
_FIRST_SECONDS = 5.0
_FIRST_STEPS = 3


class Pace:
    """Watches the steps of some work, and says once how long all of them will take.

    Parameters
    ----------
    what : str
        The work, for people.
    progress : callable
        Gets one notice, and none where the work is short.
    clock : callable
        Returns seconds.
    """

    def __init__(
        self,
        what: str,
        progress: ProgressCallback,
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._what = what
        self._progress = progress
        self._clock = time.monotonic if clock is None else clock
        self._start = self._clock()
        self._first = 0
        self._silent = False

    def begin(self, done: int) -> None:
        """Count from here: what was done before, or had to be prepared, says nothing."""
        self._start = self._clock()
        self._first = done

    def step(self, done: int, total: int) -> None:
        """Take note that `done` of `total` steps are finished."""
        steps, seconds = done - self._first, self._clock() - self._start
        if self._silent or steps < _FIRST_STEPS or seconds < _FIRST_SECONDS:
            return
        self._silent = True
        left = seconds / steps * (total - done)
        if left >= LONG_SECONDS:
            self._progress(
                f"{self._what}: about {duration(left)} to go on this machine, by the first "
                f"{steps} of {total - self._first}",
                0,
                0,
            )
