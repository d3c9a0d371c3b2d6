"""Compiled programs in TVM's virtual machines, on whichever device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import tvm
from tvm import relax

from ...errors import MeasurementError
from ..networks import Floats, Program
from .compiling import symbol


class Programs:
    """Loaded programs, each with an image and its parameters on `device`."""

    def __init__(self, device: Any) -> None:
        self.failures: Mapping[str, str] = {}
        self.device = device
        self._machines: dict[str, tuple[Any, str, list[Any]]] = {}
        # Programs that are timed one after another may share arrays; a dozen networks would
        # otherwise hold a dozen sets of weights.
        self._arrays: dict[int, Any] = {}

    def add(
        self,
        programs: Mapping[str, Program],
        executable: Any,
        parameters: Mapping[str, Mapping[str, Floats]],
    ) -> None:
        """Load an executable, and give each of its programs an image and its parameters."""
        machine = relax.VirtualMachine(executable, self.device)
        rng = np.random.default_rng(0)
        for index, (name, program) in enumerate(programs.items()):
            image = rng.standard_normal(program.input_shape, dtype=np.float32)
            values = parameters.get(name, {})
            arguments = [self._array(values[key]) for key in program.parameters]
            machine.set_input(symbol(index), tvm.runtime.tensor(image, self.device), *arguments)
            self._machines[name] = (machine, symbol(index), arguments)

    def machine(self, name: str) -> tuple[Any, str]:
        """Return the virtual machine of a program, and its name there."""
        if name not in self._machines:
            raise MeasurementError(f"program '{name}' was not compiled")
        machine, function, _ = self._machines[name]
        return machine, function

    def run(self, name: str, image: Floats) -> Floats:
        """Run a program on one image."""
        machine, function = self.machine(name)
        arguments = self._machines[name][2]
        output = machine[function](tvm.runtime.tensor(image, self.device), *arguments)
        result: Floats = output.numpy()
        return result

    def unload(self) -> None:
        """Free the programs."""
        self._machines.clear()
        self._arrays.clear()

    def _array(self, value: Floats) -> Any:
        if id(value) not in self._arrays:
            # The source is kept with its copy, so that its id stays taken.
            self._arrays[id(value)] = (value, tvm.runtime.tensor(value, self.device))
        return self._arrays[id(value)][1]


class DevicePrograms(Programs):
    """Programs that are timed by the clock of their device.

    `lost` is entered, with what is being done, around everything that may lose the device.
    """

    def __init__(self, device: Any, lost: Callable[[str], AbstractContextManager[None]]) -> None:
        super().__init__(device)
        self._lost = lost

    def add(
        self,
        programs: Mapping[str, Program],
        executable: Any,
        parameters: Mapping[str, Mapping[str, Floats]],
    ) -> None:
        """Load an executable; TVM compiles CUDA source here at the latest."""
        with self._lost("loading"):
            super().add(programs, executable, parameters)

    def seconds(self, name: str, number: int) -> float:
        """Run a program `number` times, and once before, and return the seconds of these."""
        machine, function = self.machine(name)
        with self._lost(name):
            timer = machine.time_evaluator("invoke_stateful", self.device, number=number, repeat=1)
            return float(timer(function).results[0]) * number

    def run(self, name: str, image: Floats) -> Floats:
        """Run a program on one image."""
        with self._lost(name):
            return super().run(name, image)
