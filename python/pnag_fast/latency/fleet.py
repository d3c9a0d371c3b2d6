"""Devices of one kind that share work, and what happens when some of them fail."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..errors import MeasurementError, PnagError
from ..progress import ProgressCallback, ignore_progress
from .device import (
    Device,
    DeviceClosedError,
    DeviceLostError,
    DeviceUnavailableError,
    DeviceUnusableError,
)

Job = TypeVar("Job")
Result = TypeVar("Result")

# How often a job is tried, each time on whichever device is free: a board that was unplugged says
# nothing about the kernel that it was running.
ATTEMPTS = 3
# Losses in a row, with nothing done in between, after which a device is left alone.
_LOSSES = 6
_POLL_SECONDS = 0.2
# How long whoever interrupts a run waits for its threads.
_LEAVE_SECONDS = 0.2


@dataclass(frozen=True)
class Failed:
    """What a job that failed every time said last."""

    error: str


@dataclass
class Shares:
    """Seconds that all devices together spent."""

    compiling: float = 0.0
    running: float = 0.0
    waiting: float = 0.0

    @property
    def total(self) -> float:
        """Seconds in all."""
        return self.compiling + self.running + self.waiting

    def __str__(self) -> str:
        total = self.total or 1.0
        return (
            f"compiling {self.compiling / total:.0%}, running {self.running / total:.0%}, "
            f"waiting {self.waiting / total:.0%}"
        )


class Slot:
    """One device of a fleet, and the clock that says what its time goes into."""

    def __init__(self, device: Device, fleet: Fleet, progress: ProgressCallback) -> None:
        self.device = device
        self.progress = progress
        self._fleet = fleet

    @contextlib.contextmanager
    def compiling(self) -> Iterator[Device]:
        """Compile on the device; others may do so at the same time."""
        with self._fleet.clocked("compiling"):
            yield self.device

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run on the device, alone where all devices of the fleet are the same machine."""
        with contextlib.ExitStack() as stack:
            with self._fleet.clocked("waiting"):
                stack.enter_context(self._fleet.quiet)
            with self._fleet.clocked("running"):
                yield


class Fleet:
    """Devices that take jobs as they become free.

    Parameters
    ----------
    devices
        At least one. The work is done by one thread for each.
    measure_alone : bool
        The devices are one machine: while one runs something, no other does, though others may
        compile.
    patience_s : float
        How long to wait for a device when none is left, before the work ends in an error.
    """

    def __init__(
        self, devices: Sequence[Device], *, measure_alone: bool = True, patience_s: float = 60.0
    ) -> None:
        self.devices = tuple(devices)
        self.quiet: contextlib.AbstractContextManager[object] = (
            threading.Lock() if measure_alone else contextlib.nullcontext()
        )
        # How many devices may take part in work that is mostly running.
        self.alone: int | None = 1 if measure_alone else None
        self.shares = Shares()
        self._clock = threading.Lock()
        self._patience_s = patience_s

    @contextlib.contextmanager
    def clocked(self, what: str) -> Iterator[None]:
        """Count the time inside as `what` of `Shares`."""
        start = time.monotonic()
        try:
            yield
        finally:
            with self._clock:
                spent = getattr(self.shares, what) + time.monotonic() - start
                setattr(self.shares, what, spent)

    def close(self) -> None:
        """Close all devices, for good."""
        for device in self.devices:
            device.close()

    def run(
        self,
        jobs: Sequence[Job],
        work: Callable[[Slot, Job], Result],
        *,
        devices: int | None = None,
        progress: ProgressCallback = ignore_progress,
    ) -> Generator[tuple[Job, Result | Failed], None, None]:
        """Do every job, in order as far as devices are free, and yield results as they come.

        `work` runs in a thread of the device. What it raises counts as one of `ATTEMPTS`. `devices`
        is how many take part, all by default. What `work` reports to the progress of its slot
        reaches `progress` in the caller's thread.

        Raises
        ------
        MeasurementError
            If every device was given up, or none could be had for `patience_s`; what was yielded
            before is done.
        """
        run = _Run(self.devices[:devices], jobs, work, self, self._patience_s, progress)
        try:
            yield from run.results()
        except BaseException:
            # Threads that wait for a device end when its process does. One that computes meanwhile
            # ends at its next use of the device; nobody waits for that.
            run.stop()
            self.close()
            run.join(_LEAVE_SECONDS)
            raise
        run.stop()
        run.join()


@dataclass
class _Task(Generic[Job]):
    job: Job
    attempts: int = 0


@dataclass(frozen=True)
class _Note:
    description: str
    done: int
    total: int


@dataclass
class _State:
    """What the threads of a run share, under `lock`."""

    lock: threading.Condition = field(default_factory=threading.Condition)
    last_seen: float = field(default_factory=time.monotonic)
    gone: list[str] = field(default_factory=list)
    stopped: bool = False


class _Run(Generic[Job, Result]):
    def __init__(
        self,
        devices: Sequence[Device],
        jobs: Sequence[Job],
        work: Callable[[Slot, Job], Result],
        fleet: Fleet,
        patience_s: float,
        progress: ProgressCallback,
    ) -> None:
        self._progress = progress
        self._waiting = deque(_Task(job) for job in jobs)
        self._left = len(jobs)
        self._work = work
        self._patience_s = patience_s
        self._done: queue.SimpleQueue[
            tuple[Job, Result | Failed] | _Note | BaseException | None
        ] = queue.SimpleQueue()
        self._state = _State()
        self._threads = [
            threading.Thread(
                target=self._serve, args=[Slot(device, fleet, self._note)], daemon=True
            )
            for device in devices[: len(jobs)]
        ]

    def results(self) -> Iterator[tuple[Job, Result | Failed]]:
        alive = len(self._threads)
        for thread in self._threads:
            thread.start()
        while self._left:
            try:
                # Bounded, since some systems do not interrupt a wait that is not.
                answer = self._done.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if isinstance(answer, BaseException):
                raise answer
            if isinstance(answer, _Note):
                self._progress(answer.description, answer.done, answer.total)
                continue
            if answer is None:
                alive -= 1
                if alive == 0:
                    raise MeasurementError(
                        f"no device is left, with {self._left} jobs to do: "
                        f"{'; '.join(dict.fromkeys(self._state.gone))}; what was measured is kept"
                    )
                continue
            self._left -= 1
            yield answer

    def _note(self, description: str, done: int, total: int) -> None:
        self._done.put(_Note(description, done, total))

    def stop(self) -> None:
        with self._state.lock:
            self._state.stopped = True
            self._state.lock.notify_all()

    def join(self, seconds: float | None = None) -> None:
        """Wait for the threads to end, all together for no longer than `seconds`."""
        deadline = None if seconds is None else time.monotonic() + seconds
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _next(self) -> _Task[Job] | None:
        """Wait for a task; a task of another device may still come back."""
        state = self._state
        with state.lock:
            while not self._waiting and not state.stopped and self._left:
                state.lock.wait(_POLL_SECONDS)
            if state.stopped or not self._waiting:
                return None
            return self._waiting.popleft()

    def _serve(self, slot: Slot) -> None:
        losses = 0
        try:
            while (task := self._next()) is not None:
                try:
                    result = self._work(slot, task.job)
                except DeviceUnavailableError as error:  # noqa: PERF203 - each job on its own
                    self._put_back(task)
                    if not self._wait_for_device(str(error)):
                        break
                except (DeviceClosedError, DeviceUnusableError) as error:
                    self._put_back(task)
                    self._state.gone.append(str(error))
                    break
                except PnagError as error:
                    task.attempts += 1
                    if task.attempts >= ATTEMPTS:
                        self._done.put((task.job, Failed(str(error))))
                    else:
                        self._put_back(task)
                    losses = losses + 1 if isinstance(error, DeviceLostError) else 0
                    if losses >= _LOSSES:
                        self._state.gone.append(f"given up after {losses} losses in a row: {error}")
                        break
                else:
                    losses = 0
                    self._seen()
                    self._done.put((task.job, result))
        except BaseException as error:
            self._done.put(error)
        else:
            self._done.put(None)

    def _put_back(self, task: _Task[Job]) -> None:
        with self._state.lock:
            self._waiting.appendleft(task)
            self._state.lock.notify()

    def _seen(self) -> None:
        with self._state.lock:
            self._state.last_seen = time.monotonic()

    def _wait_for_device(self, error: str) -> bool:
        """Wait a little; return whether there is still patience."""
        with self._state.lock:
            if time.monotonic() - self._state.last_seen > self._patience_s:
                self._state.gone.append(f"{error} (waited {self._patience_s:g} s)")
                return False
            self._state.lock.wait(min(1.0, self._patience_s / 4))
            return not self._state.stopped
