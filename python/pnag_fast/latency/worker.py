"""A device in a child process, so that what crashes or hangs costs one child and not the run.

A tuned kernel may use an instruction that the processor lacks, a board may lose its power, a driver
may wait for ever. Each shows here as a `DeviceLostError` within a stated time; the child is
replaced when the device is used again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from ..children import ChildProcess
from ..errors import MeasurementError, PnagError
from ..progress import ProgressCallback, ignore_progress
from .device import Conditions, DeviceClosedError, DeviceLostError, Loaded
from .networks import Floats, Program
from .tiles import Machine

# Seconds that a child may take to start: loading TVM from a slow disk for the first time.
_START_SECONDS = 120.0
_STEP_SECONDS = 0.2
# Seconds between the end of a connection and that of the process behind it.
_LAST_SECONDS = 5.0
# What a child that dies has to say is at the end of its standard error.
_LAST_WORDS = 400

_PROGRAM = f"""
from {__name__} import main
main(int(sys.argv[1]))
"""


@dataclass(frozen=True)
class DeviceSpec:
    """How a child makes its device: ``factory`` is ``"module:name"``, called with ``options``."""

    factory: str
    options: Mapping[str, Any] = field(default_factory=dict)


class WorkerDevice:
    """A `Device` whose work is done by a child process.

    One thread uses it; any other may close it meanwhile.

    Parameters
    ----------
    spec
        The device to open in the child.
    timeout_s : float
        Longest silence of the child, in seconds; then it is killed and the device is lost.
    """

    def __init__(self, spec: DeviceSpec, *, timeout_s: float) -> None:
        self._spec = spec
        self.timeout_s = timeout_s
        self._reset()
        with self._started() as child:
            self.name: str = child.call(self.timeout_s, "get", "name")
            self.conditions: Conditions = child.call(self.timeout_s, "get", "conditions")
            self.machine: Machine = child.call(self.timeout_s, "get", "machine")
            self.count: int = child.call(self.timeout_s, "get", "count")

    def _reset(self) -> None:
        # Guards what follows: which child there is, and whether there may be another.
        self._lock = threading.Lock()
        self._child: _Child | None = None
        # Rises with each child, so that what was loaded in an earlier one is known to be gone.
        self._generation = 0
        self._closed = False

    def twin(self) -> WorkerDevice:
        """Return another worker for a device of the same kind; its child starts when used."""
        twin = object.__new__(WorkerDevice)
        twin.__dict__.update(self.__dict__)
        twin._reset()
        return twin

    def compile(
        self,
        programs: Mapping[str, Program],
        parameters: Mapping[str, Mapping[str, Floats]],
        progress: ProgressCallback,
    ) -> Loaded:
        """Compile in the child; what earlier calls loaded there stays loaded."""
        with self._started() as child:
            handle, failures = child.call(
                self.timeout_s, "compile", dict(programs), dict(parameters), progress=progress
            )
            return _WorkerPrograms(self, self._generation, handle, failures)

    def close(self) -> None:
        """End the child, for good; whoever waits for it gets a `DeviceClosedError`."""
        with self._lock:
            self._closed = True
            child, self._child = self._child, None
        if child is not None:
            child.end()

    @contextlib.contextmanager
    def _started(self) -> Iterator[_Child]:
        child = self._running()
        try:
            if not child.opened:
                child.open()
            yield child
        except BaseException as error:
            # An answered error was the answer. A conversation that was interrupted, by whatever
            # error, and one with a device that did not open, cannot be continued.
            if isinstance(error, DeviceLostError) or not (child.answered and child.opened):
                self._drop(child)
            raise

    def _running(self) -> _Child:
        with self._lock:
            if self._closed:
                raise DeviceClosedError("the device was closed")
            if self._child is None:
                self._child = _Child(self._spec)
                self._generation += 1
            return self._child

    def _drop(self, child: _Child) -> None:
        with self._lock:
            if self._child is child:
                self._child = None
        child.end()

    def call(self, generation: int, method: str, *arguments: Any) -> Any:
        """Call a method on what child number `generation` loaded."""
        with self._lock:
            known = self._child is not None and self._generation == generation
            closed = self._closed
        if closed:
            raise DeviceClosedError(f"{self.name} was closed")
        if not known:
            raise DeviceLostError(f"{self.name} was restarted since its programs were loaded")
        with self._started() as child:
            return child.call(self.timeout_s, method, *arguments)


class _WorkerPrograms:
    """Programs loaded in a child."""

    def __init__(
        self, device: WorkerDevice, generation: int, handle: int, failures: Mapping[str, str]
    ) -> None:
        self._device = device
        self._generation = generation
        self._handle = handle
        self.failures = failures

    def seconds(self, name: str, number: int) -> float:
        result = self._device.call(self._generation, "seconds", self._handle, name, number)
        return float(result)

    def run(self, name: str, image: Floats) -> Floats:
        result: Floats = self._device.call(self._generation, "run", self._handle, name, image)
        return result

    def unload(self) -> None:
        """Free what was loaded, where the child still lives."""
        with contextlib.suppress(DeviceLostError):
            self._device.call(self._generation, "unload", self._handle)


class _Child:
    """The process and the connection to it.

    One thread talks; the connection and what the process said belong to it while it does. Another
    may `end` the process at any time. The handles are closed by the last of them, so that neither
    uses one that is closed, or that belongs to somebody else by then.
    """

    def __init__(self, spec: DeviceSpec) -> None:
        self._spec = spec
        self.opened = False
        # Whether it owes no answer: else the next call would take that of the one before for its.
        self.answered = True
        self._lock = threading.Lock()
        self._talking = False
        self._ended = False
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            undo.callback(theirs.close)
            self._said = undo.enter_context(tempfile.TemporaryFile())
            self._process = ChildProcess(
                _PROGRAM, str(theirs.fileno()), output=self._said, pass_fds=[theirs.fileno()]
            )
            theirs.close()
            undo.pop_all()
        self._connection = Connection(ours.detach())

    def open(self) -> None:
        """Have the child make its device."""
        self.call(_START_SECONDS, "open", self._spec)
        self.opened = True

    def call(
        self,
        timeout_s: float,
        method: str,
        *arguments: Any,
        progress: ProgressCallback = ignore_progress,
    ) -> Any:
        """Call a method in the child and return its result.

        Raises
        ------
        DeviceLostError
            If the child dies, or says nothing for `timeout_s`.
        DeviceClosedError
            If another thread ended it.
        PnagError
            What the method raised there.
        """
        with self._lock:
            if self._ended:
                raise DeviceClosedError("the measuring process was ended")
            self._talking = True
        try:
            return self._converse(timeout_s, method, arguments, progress)
        finally:
            with self._lock:
                self._talking = False
                self._release()

    def _converse(
        self, timeout_s: float, method: str, arguments: Sequence[Any], progress: ProgressCallback
    ) -> Any:
        doing = method
        try:
            self.answered = False
            self._connection.send((method, arguments))
            while True:
                if not self._speaks(timeout_s):
                    self._process.kill()
                    raise DeviceLostError(f"no answer for {timeout_s:g} s while '{doing}'", doing)
                kind, *content = self._connection.recv()
                if kind != "progress":
                    self.answered = True
                    break
                progress(*content)
                doing = content[0]
        except (EOFError, OSError):
            with self._lock:
                ended = self._ended
            if ended:
                raise DeviceClosedError(f"the device was closed while '{doing}'") from None
            raise DeviceLostError(self._obituary(doing), doing) from None
        if kind == "raise":
            raise content[0]
        return content[0]

    def _speaks(self, timeout_s: float) -> bool:
        """Wait for the child to say something; return whether it did."""
        deadline = time.monotonic() + timeout_s
        # In steps, since some systems give a signal to any thread and let this one wait.
        while (left := deadline - time.monotonic()) > 0:
            if self._connection.poll(min(left, _STEP_SECONDS)):
                return True
        return False

    def _obituary(self, doing: str) -> str:
        """Say how the process ended, with its last words."""
        code = self._process.wait(_LAST_SECONDS)
        if code is None:
            return f"the connection to the measuring process broke while '{doing}'"
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            cause = _CAUSES.get(name, "")
            how = f"the measuring process died of {name}{cause}"
        else:
            how = f"the measuring process ended with exit code {code}"
        self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, self._said.tell() - _LAST_WORDS))
        words = self._said.read().decode(errors="replace").strip().splitlines()
        return f"{how} while '{doing}'" + (f": {words[-1]}" if words else "")

    def end(self) -> None:
        """End the process, whatever it is doing, and everything that it started."""
        with self._lock:
            self._ended = True
        self._process.kill()
        with self._lock:
            self._release()

    def _release(self) -> None:
        if self._ended and not self._talking and not self._said.closed:
            self._connection.close()
            self._said.close()


_CAUSES = {
    "SIGILL": " (the target has instructions that this processor lacks)",
    "SIGKILL": " (killed from outside, perhaps because memory ran out)",
}


# --- the child ---------------------------------------------------------------------------------


class _Server:
    """Answers the parent's calls, one after another."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._device: Any = None
        self._loaded: dict[int, Any] = {}
        self._next = 0

    def serve(self) -> None:
        """Answer until the parent is gone."""
        while True:
            try:
                method, arguments = self._connection.recv()
            except EOFError:
                return
            try:
                answer = ("done", getattr(self, f"do_{method}")(*arguments))
            except PnagError as error:
                answer = ("raise", error)
            except MemoryError:
                answer = ("raise", MeasurementError("out of memory"))
            except Exception as error:
                answer = ("raise", MeasurementError(f"{type(error).__name__}: {error}"))
            self._connection.send(answer)

    def do_open(self, spec: DeviceSpec) -> None:
        module, _, name = spec.factory.partition(":")
        self._device = getattr(import_module(module), name)(**spec.options)

    def do_get(self, name: str) -> Any:
        return getattr(self._device, name)

    def do_compile(
        self, programs: dict[str, Program], parameters: dict[str, Mapping[str, Floats]]
    ) -> tuple[int, dict[str, str]]:
        loaded = self._device.compile(programs, parameters, self._progress)
        self._next += 1
        self._loaded[self._next] = loaded
        return self._next, dict(loaded.failures)

    def do_unload(self, handle: int) -> None:
        self._loaded.pop(handle, None)

    def do_seconds(self, handle: int, name: str, number: int) -> float:
        return float(self._loaded[handle].seconds(name, number))

    def do_run(self, handle: int, name: str, image: Floats) -> Floats:
        result: Floats = self._loaded[handle].run(name, image)
        return result

    def _progress(self, description: str, done: int, total: int) -> None:
        self._connection.send(("progress", description, done, total))


def main(descriptor: int) -> None:
    """Serve the parent over a file descriptor."""
    # tvm_ffi imports torch where it can, which takes seconds, and nothing here needs it.
    sys.modules["torch"] = None  # type: ignore[assignment]
    _Server(Connection(descriptor)).serve()
