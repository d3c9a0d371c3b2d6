r"""The one place that prints: what a file or a device says never commands the terminal.

Names, notations and error texts come from files and devices that somebody else may have made. A
control character among them (ESC starts a command, carriage return overwrites what was said, a
right-to-left mark turns it round) is shown as an escape such as ``\x1b`` instead of being sent.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from .errors import FileAccessError
from .progress import NEWS, ProgressCallback, duration, ignore_progress

# Without a terminal a line of progress is printed at most this often.
_LINE_SECONDS = 10.0

# A first piece shorter than this says little about the rest, which is worth a line if it is longer.
# The first piece warms everything up; the next few say how long one takes.
_PIECE_SECONDS = 3.0
_PIECES = 3
_LONG_SECONDS = 15.0

# Cc: control characters. Cf: marks that turn or hide text. Cs: halves of characters, which no
# encoding can write. Zl, Zp: line ends that a terminal may or may not know.
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


class ClosedOutputError(FileAccessError):
    """Standard output that takes nothing more; `pipe` where its reader has just had enough."""

    def __init__(self, message: str, *, pipe: bool = False) -> None:
        super().__init__(message)
        self.pipe = pipe


def printable(text: object, *, lines: bool = False) -> str:
    r"""Return `text` with everything escaped that a terminal would obey instead of showing.

    Parameters
    ----------
    lines : bool
        Keep line ends, for text that is laid out in lines.

    Examples
    --------
    >>> printable("cpu\x1b]0;owned\x07")
    'cpu\\x1b]0;owned\\x07'
    """
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    import unicodedata

    return "".join(
        _escape(c) if unicodedata.category(c) in _ESCAPED and not (lines and c == "\n") else c
        for c in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def say(text: object = "", *, error: bool = False, lines: bool = False) -> None:
    """Print one line on standard output, or on standard error.

    Raises
    ------
    ClosedOutputError
        If standard output is closed or full. What standard error does not take is lost.
    """
    _write(printable(text, lines=lines) + "\n", error=error)


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Lay out a table in lines; its last `left` columns are flush left and may be long."""
    cells = [[printable(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        line = [
            cell.rjust(width) if i < len(head) - left else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(line).rstrip())
    return lines


def say_json(document: Any) -> None:
    """Print one JSON document, in ASCII; numbers that JSON cannot say become null."""
    import json

    if sys.stdout is None:
        raise ClosedOutputError("cannot print the answer: standard output is closed")
    _write(json.dumps(_plain(document), indent=1, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _write(text: str, *, error: bool = False) -> None:
    stream: TextIO | None = sys.stderr if error else sys.stdout
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        stream.write(text)
        # At once: at the end of the program nobody would learn that it was lost.
        stream.flush()
    except (OSError, ValueError) as problem:
        _silence(stream, error=error)
        if error:
            return
        pipe = isinstance(problem, OSError) and problem.errno == errno.EPIPE
        reason = getattr(problem, "strerror", None) or problem
        raise ClosedOutputError(
            f"cannot print the answer on standard output: {reason}", pipe=pipe
        ) from problem


def finish() -> None:
    """Have standard output written; `ClosedOutputError` if it takes no more."""
    _write("")


def _silence(stream: TextIO, *, error: bool) -> None:
    """Send what is still to come, the stream's own buffer included, to nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return
    if error:
        sys.stderr = None
    else:
        sys.stdout = None


# --- progress ----------------------------------------------------------------------------------


class Estimates:
    """Says how long work will take on this machine, when its first pieces after one are done.

    Parameters
    ----------
    tell : callable
        Called with one line, once for each kind of work that will be long.
    """

    def __init__(
        self, tell: Callable[[str], None], clock: Callable[[], float] | None = None
    ) -> None:
        self._tell, self._clock = tell, clock or time.monotonic
        self._found: dict[str, int] = {}
        self._started: dict[str, tuple[float, int]] = {}
        self._told: set[str] = set()

    def update(self, work: str, done: int, total: int) -> None:
        """Look at a report of progress."""
        now = self._clock()
        begun_again = work in self._started and done <= self._found[work]
        if done >= total or begun_again:
            # Another step may do work of the same name, long after the first.
            self._found.pop(work, None)
            self._started.pop(work, None)
        if done >= total:
            return
        if work not in self._started:
            # What was done before a resumed run, and the first piece of this one, do not count.
            if done > self._found.setdefault(work, done):
                self._started[work] = now, done
            return
        if work in self._told:
            return
        started, first = self._started[work]
        if done - first >= _PIECES and now - started >= _PIECE_SECONDS:
            self._told.add(work)
            left = (now - started) / (done - first) * (total - done)
            if left >= _LONG_SECONDS:
                self._tell(f"{work}: about {duration(left)} on this machine ({done} of {total})")


@contextlib.contextmanager
def showing_progress(*, quiet: bool) -> Iterator[ProgressCallback]:
    """Show progress on standard error: a bar on a terminal, a line now and then elsewhere."""
    if quiet:
        yield ignore_progress
        return
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    with _bars(console) as update:
        yield update


def _lines() -> ProgressCallback:
    last = [time.monotonic()]
    estimates = Estimates(lambda line: say(f"  {line}", error=True))

    def update(description: str, done: int, total: int) -> None:
        if total == 0:
            say(f"  {description}", error=True)
            return
        estimates.update(description.partition(NEWS)[0], done, total)
        if time.monotonic() - last[0] >= _LINE_SECONDS:
            last[0] = time.monotonic()
            say(f"  {description}: {done} of {total}", error=True)

    return update


@contextlib.contextmanager
def _bars(console: Any) -> Iterator[ProgressCallback]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    # Without markup: a name in brackets is a name.
    columns = (
        TextColumn("  {task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bars: dict[str, Any] = {}
    with Progress(*columns, console=console, transient=True) as display:

        def tell(line: str) -> None:
            display.console.print(f"  {printable(line)}", highlight=False, markup=False)

        estimates = Estimates(tell)

        def update(description: str, done: int, total: int) -> None:
            if total == 0:
                tell(description)
                return
            description = printable(description)
            work = description.partition(NEWS)[0]
            estimates.update(work, done, total)
            if work not in bars:
                bars[work] = display.add_task(description, total=total)
            display.update(bars[work], description=description, completed=done, total=total)
            if done >= total:
                display.remove_task(bars.pop(work))

        yield update
