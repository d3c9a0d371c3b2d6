"""Starting this interpreter again, for work that may crash or hang.

``python -m`` and ``python -c`` search the current folder before everything else, so that a
``numpy.py`` in a folder that somebody downloaded would run there. Children get the search path of
their parent instead, without the current folder. They end with their parent, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import site
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .errors import MeasurementError

# How often a child looks whether its parent still lives, where the system does not tell it.
_WATCH_SECONDS = 1.0
# A process that was killed is gone after this, unless the system holds it.
_DEATH_SECONDS = 2.0
_POLL_SECONDS = (0.0005, 0.02)

_PRELUDE = """\
import sys
sys.path[:] = {path}
from pnag_fast.children import end_with_parent
end_with_parent({parent}, {lifeline})
"""


def search_path() -> list[str]:
    """Return the folders in which a child looks for modules.

    These are those of this process in their order, without relative ones and without the current
    folder. An absolute entry of ``PYTHONPATH`` stays, whatever it names; an empty one, which means
    the current folder, does not.
    """
    try:
        here = os.path.realpath(os.getcwd())
    except OSError:  # the folder is gone
        here = ""
    wanted = {os.path.realpath(entry) for entry in _python_path()} | _installed()
    path = [
        entry
        for entry in sys.path
        if isinstance(entry, str)
        and os.path.isabs(entry)
        and (os.path.realpath(entry) != here or here in wanted)
    ]
    # Last, so that nothing beside this package is preferred to what is installed.
    home = str(Path(__file__).resolve().parent.parent)
    if home not in map(os.path.realpath, path):
        path.append(home)
    return path


def _python_path() -> list[str]:
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [entry for entry in entries if os.path.isabs(entry)]


def _installed() -> set[str]:
    """Folders of the interpreter, one of which a user may happen to stand in."""
    library = str(Path(os.__file__).parent)
    folders = [library, f"{library}/lib-dynload", *site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return {os.path.realpath(folder) for folder in folders}


class ChildProcess:
    """A program in this interpreter and a session of its own; any thread may call anything.

    Parameters
    ----------
    program : str
        Python code. It finds `arguments` in ``sys.argv[1:]``.
    output : file
        Where standard output and standard error go.

    Raises
    ------
    MeasurementError
        If the process cannot be started.
    """

    def __init__(
        self, program: str, *arguments: str, output: IO[bytes], pass_fds: Sequence[int] = ()
    ) -> None:
        self._lock = threading.Lock()
        theirs, self._lifeline = os.pipe()
        prelude = _PRELUDE.format(path=ascii(search_path()), parent=os.getpid(), lifeline=theirs)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_python_path())}
        if not environment["PYTHONPATH"]:
            del environment["PYTHONPATH"]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter
                [sys.executable, *_flags(), "-c", prelude + program, *arguments],
                pass_fds=[theirs, *pass_fds],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                # Ctrl-C is the parent's to handle.
                start_new_session=True,
            )
        except BaseException as error:
            os.close(self._lifeline)
            if isinstance(error, OSError):
                raise MeasurementError(
                    f"cannot start a process of {sys.executable or 'this interpreter'}: {error}"
                ) from error
            raise
        finally:
            os.close(theirs)

    @property
    def pid(self) -> int:
        """Number of the process, which is also that of its group."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the process runs."""
        with self._lock:
            return self._poll()

    def wait(self, seconds: float) -> int | None:
        """Wait for the end for so long, and return as `poll` does."""
        deadline = time.monotonic() + seconds
        pause, longest = _POLL_SECONDS
        while (code := self.poll()) is None and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(2 * pause, longest)
        return code

    def kill(self) -> None:
        """End the process, whatever it is doing, and everything that it started."""
        with self._lock:
            if self._poll() is None:
                self._kill_group()
        self.wait(_DEATH_SECONDS)

    def _poll(self) -> int | None:
        if self._process.returncode is None and self._process.poll() is not None:
            # What it started outlives it otherwise. Its number is not given to another process
            # while any of them lives.
            self._kill_group()
            os.close(self._lifeline)
        return self._process.returncode

    def _kill_group(self) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _flags() -> list[str]:
    """Options of this interpreter that a child should have too."""
    flags = []
    if sys.flags.ignore_environment:
        flags.append("-E")
    if sys.flags.no_user_site:
        flags.append("-s")
    return flags


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its exit code, None for a timeout, and what it said."""

    code: int | None
    output: str


def run(program: str, *, timeout_s: float) -> Ended:
    """Run a Python program in a child and return how it ended."""
    with tempfile.TemporaryFile() as output:
        child = ChildProcess(program, output=output)
        try:
            code = child.wait(timeout_s)
        finally:
            child.kill()
        output.seek(0)
        return Ended(code, output.read().decode(errors="replace"))


# --- in the child --------------------------------------------------------------------------------


def end_with_parent(parent: int, lifeline: int) -> None:
    """End this process, and what it starts, when its parent has ended.

    `lifeline` is the end of a pipe that nobody writes to: the system reports its closing by a
    signal, which ends this process even while a compiler keeps the interpreter from running. A
    thread looks too, for systems that report nothing, and for pipes that somebody inherited.
    """
    os.set_inheritable(lifeline, False)
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_NONBLOCK | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # closed before anybody listened
        _end()
    threading.Thread(target=_watch, args=[parent], daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    _end()


def _end() -> None:
    os.killpg(0, signal.SIGKILL)
    os._exit(1)
