"""Devices behind a TVM RPC tracker: compiled here, loaded and timed there."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tvm import rpc

from ...progress import ProgressCallback
from ..device import Conditions, DeviceLostError, DeviceUnavailableError, DeviceUnusableError
from ..networks import Floats, Program
from ..tiles import Machine
from .compiling import compile_programs, error_text
from .local import CUDA_CLOCK, versions
from .programs import DevicePrograms
from .targets import resolve_target
from .tracker import Tracker

_POLL_SECONDS = 0.5


class RpcDevice:
    """A device that a tracker knows under a key; meant for a child process that may be killed.

    A session with the device is opened by the first `compile` and kept until `close`. Whatever goes
    wrong in one is a `DeviceLostError`: what was loaded there is gone. The process that holds this
    object should have a deadline of its own: a device that hangs does not answer at all.

    Parameters
    ----------
    target : str
        Target of the device, which has to name its processor.
    host, port, key
        The tracker, and the key of the device.
    patience_s : float
        How long to wait for a first device under the key.
    """

    def __init__(
        self, target: str, *, threads: int, host: str, port: int, key: str, patience_s: float
    ) -> None:
        self._target = resolve_target(target, threads=threads, remote=True)
        self._threads = threads
        self._address = (host, port)
        self._key = key
        self._session: Any = None
        self._numbers = itertools.count()
        deadline = time.monotonic() + patience_s
        while True:
            servers = self._servers()
            self.count = len(servers)
            if self.count:
                break
            if time.monotonic() > deadline:
                raise self._no_device("registered")
            time.sleep(_POLL_SECONDS)

    @property
    def name(self) -> str:
        """The key, and the threads used."""
        return f"{self._key}, {self._threads} thread{'s' * (self._threads > 1)}"

    @property
    def machine(self) -> Machine:
        """What the rules for schedules have to know."""
        return self._target.machine

    @property
    def conditions(self) -> Conditions:
        """Target, key, versions and clock. The tracker's address says nothing about the device."""
        return {
            "target": self._target.text,
            "runner": f"rpc/{self._key}",
            "processor": self._key,
            "threads": self._threads,
            "governor": "unknown",
            "clock": CUDA_CLOCK if self._target.device_kind == "cuda" else "wall",
            **versions(),
        }

    def compile(
        self,
        programs: Mapping[str, Program],
        parameters: Mapping[str, Mapping[str, Floats]],
        progress: ProgressCallback,
    ) -> DevicePrograms:
        """Compile here, then upload and load there."""
        executables: list[tuple[Mapping[str, Program], Any]] = []
        failures = compile_programs(
            programs, self._target, progress, lambda *pair: executables.append(pair)
        )
        progress("uploading", 0, 1)
        session = self._connected()
        loaded = DevicePrograms(session.device(self._target.device_kind), _lost)
        loaded.failures = failures
        with _lost("uploading"), tempfile.TemporaryDirectory() as folder:
            for compiled, executable in executables:
                # Objects in a tar are linked on the device, with its own tools. A name is used
                # once: the device keeps what it loaded by name.
                path = Path(folder, f"programs-{os.getpid()}-{next(self._numbers)}.tar")
                executable.export_library(str(path))
                session.upload(str(path))
                loaded.add(compiled, session.load_module(path.name), parameters)
                session.remove(path.name)
        progress("uploading", 1, 1)
        return loaded

    def close(self) -> None:
        """Give the device back to the tracker."""
        self._session = None

    def _servers(self) -> list[str]:
        """List the addresses of the servers under the key, busy or not."""
        with contextlib.closing(Tracker(*self._address)) as tracker:
            return [address for address, key in tracker.servers() if key == self._key]

    def _connected(self) -> Any:
        """Return the session with a device, or open one with a device that is free now."""
        if self._session is None:
            with contextlib.closing(Tracker(*self._address)) as tracker:
                if tracker.free(self._key) < 1:
                    raise self._no_device("free")
                server = tracker.request(self._key)
            try:
                session = rpc.connect(*server)
                session.get_function("runtime.config_threadpool")(0, self._threads)
            except (OSError, RuntimeError, ValueError, AttributeError) as error:
                raise DeviceUnavailableError(
                    f"device '{self._key}' could not be had: {error_text(error)}"
                ) from error
            kind = self._target.device_kind
            if kind != "cpu" and not session.device(kind).exist:
                raise DeviceUnusableError(f"'{self._key}' has no {kind} device that TVM can use")
            self._session = session
        return self._session

    def _no_device(self, state: str) -> DeviceUnavailableError:
        with contextlib.closing(Tracker(*self._address)) as tracker:
            keys = sorted({key for _, key in tracker.servers()})
        return DeviceUnavailableError(
            f"no device '{self._key}' is {state} at the tracker {self._where()}; keys it knows: "
            f"{', '.join(keys) or 'none'}; start one with: python -m tvm.exec.rpc_server --tracker "
            f"{self._where()} --key {self._key}"
        )

    def _where(self) -> str:
        return f"{self._address[0]}:{self._address[1]}"


@contextlib.contextmanager
def _lost(doing: str) -> Iterator[None]:
    """Whatever TVM raises for a session, the session is of no more use."""
    try:
        yield
    except DeviceLostError:
        raise
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        raise DeviceLostError(
            f"the device failed at '{doing}': {error_text(error)}", doing
        ) from error
