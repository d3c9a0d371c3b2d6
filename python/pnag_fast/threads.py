"""How many threads a kernel uses."""

from __future__ import annotations

import contextlib
import operator
import os
from collections.abc import Iterator

from pnag_fast.errors import InvalidInputError, InvalidTypeError


def resolve_threads(threads: int | None) -> int:
    """Return the number of threads to use.

    Results never depend on it; it only bounds how many cores work at once.

    Parameters
    ----------
    threads : int or None
        At least 1, or None for every core that this process may use.

    Returns
    -------
    int
        `threads`, or the number of usable cores.

    Raises
    ------
    InvalidInputError
        If `threads` is below 1 or above 1024.
    InvalidTypeError
        If `threads` is not an integer.

    Examples
    --------
    >>> from pnag_fast.threads import resolve_threads
    >>> resolve_threads(2)
    2
    >>> resolve_threads(None) >= 1
    True
    """
    if threads is None:
        # The cores of this process, not of the machine: containers and taskset allow fewer.
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    if isinstance(threads, bool):
        raise InvalidTypeError("threads is a bool; pass an integer of at least 1, or None")
    try:
        count = operator.index(threads)
    except TypeError:
        raise InvalidTypeError(
            f"threads is a {type(threads).__name__}; pass an integer of at least 1, or None"
        ) from None
    if not 1 <= count <= 1024:
        raise InvalidInputError(
            f"threads is {count}; it must be 1 to 1024, or None for all usable cores"
        )
    return count


@contextlib.contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Let torch use so many threads inside a ``with`` block; None leaves it as it is.

    Networks of a few million multiply-adds gain little from a second thread, and where other
    programs use the same cores its threads wait for each other at every operation.
    """
    if threads is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
