"""Which device and how many threads torch works with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch

from pnag_fast import arguments
from pnag_fast.errors import InvalidInputError
from pnag_fast.spaces.blocks import Block
from pnag_fast.threads import one_thread, resolve_threads, torch_threads

# Multiply-adds of a network whose layers take long enough to be worth waking a second thread.
_WORTH_THREADS = 100_000_000


def devices() -> list[str]:
    """List the devices that this torch can compute on here."""
    found = ["cpu"]
    found += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if hasattr(torch, "xpu"):
        found += [f"xpu:{i}" for i in range(torch.xpu.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps:0")
    return found


def device(name: str | torch.device) -> torch.device:
    """Return a device of torch that can be computed on.

    Parameters
    ----------
    name : str
        For instance ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises
    ------
    InvalidInputError
        If torch does not know it, was built without it, or the machine has no such device; the
        message says which there are.

    Examples
    --------
    >>> device("cpu")
    device(type='cpu')
    """
    available = devices()
    there = f"; there are: {', '.join(available)}"
    try:
        found = torch.device(name)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InvalidInputError(f"torch knows no device {arguments.shown(name)}{there}") from error
    if f"{found.type}:{found.index or 0}" not in (*available, "cpu:0"):
        why = ""
        if found.type == "cuda" and not torch.cuda.is_available():
            built = torch.version.cuda or torch.version.hip
            why = " (no GPU is found)" if built else " (this torch is built without CUDA)"
        raise InvalidInputError(f"there is no device {str(found)!r} here{why}{there}")
    try:
        torch.empty(1, device=found)
    except Exception as error:  # whatever the driver says
        raise InvalidInputError(
            f"device {str(found)!r} cannot be used: {arguments.shown_error(error)}{there}"
        ) from error
    return found


def require_precision(precision: str, on: torch.device) -> None:
    """Refuse a precision that a device does not compute in."""
    if precision == "float16" and on.type == "cpu":
        raise InvalidInputError("precision 'float16' is for GPUs; use 'bfloat16' on a CPU")
    if precision == "bfloat16" and on.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise InvalidInputError(
            f"the GPU {on} does not compute in bfloat16; use precision 'float32' or 'float16'"
        )


@contextlib.contextmanager
def helpful_threads(
    threads: int | None, blocks: Iterable[Block], on: torch.device
) -> Iterator[None]:
    """Let torch use as many threads as help with a network inside a ``with`` block.

    Layers of small networks are done before a second thread has been woken; and where another
    program has a core, threads wait for the one that shares it, at every layer. So small networks
    get one, and larger ones leave a core to others.

    Parameters
    ----------
    threads : int, optional
        Exactly so many.
    blocks : iterable of Block
        Of the largest network that is computed.
    on : torch.device
    """
    if threads is not None:
        with torch_threads(threads):
            yield
    elif on.type != "cpu":
        yield
    elif sum(block.macs for block in blocks) < _WORTH_THREADS:
        with one_thread():
            yield
    else:
        cores = resolve_threads(None) - 1
        with torch_threads(max(1, min(torch.get_num_threads(), cores))):
            yield
