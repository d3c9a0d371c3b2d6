"""How much memory this process may use, asked before a large request is made.

Linux grants almost any request and ends the process later, when the pages are written to: a number
with a few zeros too many has to be refused before.
"""

from __future__ import annotations

import os
from pathlib import Path

from .errors import MemoryShortageError

# Whoever has no room for this is ended by something else first; below it nothing is asked.
_SMALL = 2**28


def require_memory(n_bytes: int, what: str, remedy: str) -> None:
    """Refuse a request that does not fit into the memory of this process.

    Raises
    ------
    MemoryShortageError
        Says what takes how much, how much there is, and the remedy.

    Examples
    --------
    >>> require_memory(1000, "a table", "leave out rows")
    """
    if n_bytes < _SMALL:
        return
    available = available_memory()
    if available is None or n_bytes <= available:
        return
    raise MemoryShortageError(
        f"{what} would take {_size(n_bytes)} of memory, and {_size(available)} are free; {remedy}"
    )


def available_memory() -> int | None:
    """Bytes that this process may still take: of the machine, and of its control group.

    None where the system does not say.
    """
    found = [size for size in (_of_machine(), _of_group()) if size is not None]
    return min(found, default=None)


def _of_machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return machine_memory()


def machine_memory() -> int | None:
    """Bytes of memory that the machine has, used or not; None where the system does not say."""
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
    return pages * size if pages > 0 and size > 0 else None


def _of_group() -> int | None:
    """Limit of the control group that a container shows as its topmost."""
    limits = [
        _limit("/sys/fs/cgroup/memory.max"),
        _limit("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ]
    return min((limit for limit in limits if limit is not None), default=None)


def _limit(path: str) -> int | None:
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such group, or "max"
        return None


def _size(n_bytes: int) -> str:
    if n_bytes >= 10**18:
        return f"2^{n_bytes.bit_length() - 1} bytes"
    return f"{n_bytes / 1e12:,.1f} TB" if n_bytes >= 10**13 else f"{n_bytes / 1e9:,.1f} GB"
