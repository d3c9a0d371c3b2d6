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
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from ..errors import MeasurementError, PnagError
from ..progress import ProgressCallback, ignore_progress
from .device import Conditions, DeviceLostError, Loaded
from .networks import Floats, Program
from .tiles import Machine

# Seconds that a child may take to start: loading TVM from a slow disk for the first time.
_START_SECONDS = 120.0
# How often a child looks whether its parent still lives.
_WATCH_SECONDS = 1.0
# What a child that dies has to say is at the end of its standard error.
_LAST_WORDS = 400


@dataclass(frozen=True)
class DeviceSpec:
    """How a child makes its device: ``factory`` is ``"module:name"``, called with ``options``."""

    factory: str
    options: Mapping[str, Any] = field(default_factory=dict)


class WorkerDevice:
    """A `Device` whose work is done by a child process.

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
        self._child: _Child | None = None
        # Rises with each child, so that what was loaded in an earlier one is known to be gone.
        self._generation = 0
        with self._started() as child:
            self.name: str = child.call(self.timeout_s, "get", "name")
            self.conditions: Conditions = child.call(self.timeout_s, "get", "conditions")
            self.machine: Machine = child.call(self.timeout_s, "get", "machine")
            self.count: int = child.call(self.timeout_s, "get", "count")

    def twin(self) -> WorkerDevice:
        """Return another worker for a device of the same kind; its child starts when used."""
        twin = object.__new__(WorkerDevice)
        twin.__dict__ = {**self.__dict__, "_child": None, "_generation": 0}
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
        """End the child. Using the device again starts another."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    @contextlib.contextmanager
    def _started(self) -> Any:
        if self._child is None:
            self._child = _Child(self._spec)
            self._generation += 1
        try:
            yield self._child
        except DeviceLostError:
            self.close()
            raise
        except BaseException as error:
            # An interrupted conversation cannot be continued; an answered error was the answer.
            if not isinstance(error, PnagError):
                self.close()
            raise

    def call(self, generation: int, method: str, *arguments: Any) -> Any:
        """Call a method on what child number `generation` loaded."""
        if self._child is None or self._generation != generation:
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
    """The process and the connection to it."""

    def __init__(self, spec: DeviceSpec) -> None:
        ours, theirs = socket.socketpair()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, this module
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                env=environment,
                # Ctrl-C is the parent's to handle.
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise MeasurementError(f"cannot start a measuring process: {error}") from error
        finally:
            theirs.close()
        self._connection = Connection(ours.detach())
        try:
            self.call(_START_SECONDS, "open", spec)
        except BaseException:
            self.kill()
            raise

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
        PnagError
            What the method raised there.
        """
        doing = method
        try:
            self._connection.send((method, arguments))
            while True:
                if not self._connection.poll(timeout_s):
                    self.kill()
                    raise DeviceLostError(f"no answer for {timeout_s:g} s while '{doing}'", doing)
                kind, *content = self._connection.recv()
                if kind == "progress":
                    progress(*content)
                    doing = content[0]
                elif kind == "done":
                    return content[0]
                else:
                    raise content[0]
        except (EOFError, OSError):  # OSError: another thread has ended the child
            raise DeviceLostError(self._obituary(doing), doing) from None

    def _obituary(self, doing: str) -> str:
        """Say how the process ended, with its last words."""
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
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
        words: list[str] = []
        with contextlib.suppress(ValueError):  # closed by another thread
            self._said.seek(0, os.SEEK_END)
            self._said.seek(max(0, self._said.tell() - _LAST_WORDS))
            words = self._said.read().decode(errors="replace").strip().splitlines()
        return f"{how} while '{doing}'" + (f": {words[-1]}" if words else "")

    def kill(self) -> None:
        """End the process, whatever it is doing, and everything that it started."""
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
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


def _end_with(parent: int) -> None:
    """End this process soon after its parent, which may be killed while a device hangs here."""
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


def main() -> None:
    """Serve the parent over the file descriptor that the command line names."""
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    # tvm_ffi imports torch where it can, which takes seconds, and nothing here needs it.
    sys.modules["torch"] = None  # type: ignore[assignment]
    _Server(Connection(int(sys.argv[1]))).serve()


if __name__ == "__main__":
    main()
