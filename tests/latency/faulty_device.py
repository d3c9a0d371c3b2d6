"""A device for child processes that fails as it is told to."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from pnag_fast.errors import FileAccessError, MeasurementError
from pnag_fast.latency.device import DeviceUnavailableError
from pnag_fast.latency.tiles import Machine


class FaultyDevice:
    """Every program takes 10 microseconds, unless `faults` names another fate for it.

    A fault is the name of a signal, "hang", "memory", "abort", "raise", "file", or a number of
    seconds to report. `once` is a file: where given, faults happen until it exists. The fault of
    "compile" befalls who compiles a program whose name contains `killer`.
    """

    name = "faulty"
    machine = Machine(lanes=16, accumulators=24, threads=1)

    def __init__(self, faults=None, once=None, available=None, count=1, killer="killer"):
        self.faults = faults or {}
        self.once = once
        self.available = available
        self.count = count
        self.killer = killer
        self.conditions = {"target": "faulty"}
        self.failures = {}

    def compile(self, programs, parameters, progress):
        progress("compiling", 0, len(programs))
        if self.available is not None and not Path(self.available).exists():
            raise DeviceUnavailableError("the device is elsewhere")
        if any(self.killer in name for name in programs):
            self._befall(self.faults.get("compile"))
        return self

    def seconds(self, name, number):
        time = self._befall(self.faults.get(name, 1e-5))
        return time * number

    def run(self, name, image):
        return image

    def unload(self):
        pass

    def close(self):
        pass

    def _befall(self, fault):
        if isinstance(fault, float | int):
            return fault
        if fault is None:
            return 1e-5
        if self.once is not None:
            if Path(self.once).exists():
                return 1e-5
            Path(self.once).touch()
        if fault == "hang":
            time.sleep(600)
        if fault == "memory":
            raise MemoryError
        if fault == "raise":
            raise MeasurementError("no such kernel")
        if fault == "file":
            raise FileAccessError("no room")
        if fault == "abort":
            print("LLVM ERROR: cannot select", file=sys.stderr, flush=True)
            os.abort()
        os.kill(os.getpid(), getattr(signal, fault))
        time.sleep(600)
        return 0.0


def slow_to_open():
    """Take as long to open as a machine that loads TVM from a broken disk."""
    time.sleep(600)
