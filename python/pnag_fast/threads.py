"""How many threads a kernel uses, and how many numerical libraries may."""

from __future__ import annotations

import contextlib
import operator
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pnag_fast import arguments
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
    except Exception:  # whatever somebody's __index__ raises
        raise InvalidTypeError(
            f"threads is a {type(threads).__name__}; pass an integer of at least 1, or None"
        ) from None
    if not 1 <= count <= 1024:
        raise InvalidInputError(
            f"threads is {arguments.shown(count)}; it must be 1 to 1024, or None for all usable "
            "cores"
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
    count = resolve_threads(threads)
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _OneThread:
    """Holds numerical libraries to one thread while anybody wants it.

    The setting belongs to the process, so those who want it are counted: the first sets it, the
    last puts back what was there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._blas: Any = None
        self._torch: int | None = None
        # Finding the libraries takes milliseconds, setting their threads microseconds.
        self._found: tuple[tuple[bool, ...], Any] | None = None

    def enter(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._blas = self._controller().limit(limits=1, user_api="blas")
            torch: Any = sys.modules.get("torch")
            # Another thread may be importing it right now.
            if self._torch is None and hasattr(torch, "set_num_threads"):
                self._torch = int(torch.get_num_threads())
                torch.set_num_threads(1)
            self._holders += 1

    def leave(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders:
                return
            # This may be another thread than the one that set it.
            _let_any_thread_set_blas()
            self._blas.restore_original_limits()
            _let_any_thread_set_blas()
            if self._torch is not None:
                sys.modules["torch"].set_num_threads(self._torch)
                self._torch = None

    def _controller(self) -> Any:
        # Each of these brings a library of its own.
        loaded = tuple(name in sys.modules for name in ("numpy", "scipy", "sklearn", "torch"))
        if self._found is None or self._found[0] != loaded:
            from threadpoolctl import ThreadpoolController

            self._found = loaded, ThreadpoolController()
        return self._found[1]


def _let_any_thread_set_blas() -> None:
    """Newer releases of threadpoolctl ignore all threads but the one that set OpenBLAS first."""
    import threadpoolctl

    openblas = getattr(threadpoolctl, "OpenBLASController", None)
    clear = getattr(openblas, "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)


_ONE_THREAD = _OneThread()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let numpy and torch use one thread inside a ``with`` block.

    Products of matrices as small as those of accuracy models and policies gain little from a
    second thread, and where other programs use the same cores its threads wait for each other at
    every product: five times the CPU and three times as long. Blocks may be nested, and entered by
    several threads; entering takes microseconds.
    """
    _ONE_THREAD.enter()
    try:
        yield
    finally:
        _ONE_THREAD.leave()


def in_pieces(work: Callable[[slice], None], n: int, size: int) -> None:
    """Do `work` on slices of `size` of ``range(n)``, on all cores where there are many slices.

    Pieces that numpy works on for milliseconds, each on one thread, share the cores better than the
    threads of its products do: nobody waits for a thread whose core another program has.
    """
    pieces = [slice(start, start + size) for start in range(0, n, size)]
    workers = min(resolve_threads(None), len(pieces) // 8)
    if workers < 2:
        for piece in pieces:
            work(piece)
        return
    with one_thread(), ThreadPoolExecutor(workers) as pool:
        # The results are None; asking for them raises what a piece raised.
        for _ in pool.map(work, pieces):
            pass
