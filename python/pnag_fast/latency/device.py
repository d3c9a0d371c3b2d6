"""What the measuring code asks of a device, and how to get the one that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ..errors import MeasurementError
from ..progress import ProgressCallback
from .networks import Floats, Program
from .tiles import Machine

# Numbers and texts under which two measurements may be compared.
Conditions = Mapping[str, str | int | float]


class DeviceLostError(MeasurementError):
    """The device, or the process that held it, died or hung; what was loaded there is gone.

    `doing` is what it last said it was doing.
    """

    def __init__(self, message: str, doing: str = "") -> None:
        super().__init__(message)
        self.doing = doing


class DeviceClosedError(DeviceLostError):
    """Whoever owns the device has closed it, for good; it is not used again."""


class DeviceUnusableError(MeasurementError):
    """The device cannot do the work at all, and trying again will not help."""


class DeviceUnavailableError(MeasurementError):
    """No device of the wanted kind is to be had at present; it may be later."""


class Loaded(Protocol):
    """Programs that were compiled and are ready to run, each with an input of its own."""

    @property
    def failures(self) -> Mapping[str, str]:
        """Error text of each program that could not be compiled; the others run."""

    def seconds(self, name: str, number: int) -> float:
        """Run a program `number` times in a row and return the seconds that all took together.

        Raises
        ------
        MeasurementError
            If the program does not run.
        """

    def run(self, name: str, image: Floats) -> Floats:
        """Run a program on one image, shape ``(height, width, channels)``."""

    def unload(self) -> None:
        """Free the programs; they are not used again."""


class Device(Protocol):
    """Something that compiles programs and runs them."""

    @property
    def name(self) -> str:
        """Name for people, for example the model of the processor."""

    @property
    def conditions(self) -> Conditions:
        """Everything that measurements have to share before they may be mixed."""

    @property
    def machine(self) -> Machine:
        """What the rules for schedules have to know of it."""

    def compile(
        self,
        programs: Mapping[str, Program],
        parameters: Mapping[str, Mapping[str, Floats]],
        progress: ProgressCallback,
    ) -> Loaded:
        """Compile all `programs`, by name, with the values of their parameters.

        A program that does not compile is a recorded failure and not an exception.

        Raises
        ------
        DeviceLostError
            If the device does not survive it.
        DeviceUnavailableError
            If there is none at present.
        """

    def close(self) -> None:
        """Give the device back; it is not used again. Any thread may do this at any time."""
