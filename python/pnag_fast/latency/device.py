"""What the measuring code asks of a device, and how to get the one that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ..errors import InvalidInputError, MeasurementError, MissingDependencyError
from ..progress import ProgressCallback
from .networks import Floats, Program

# Numbers and texts under which two measurements may be compared.
Conditions = Mapping[str, str | int | float]


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


class Device(Protocol):
    """Something that compiles programs and runs them."""

    @property
    def name(self) -> str:
        """Name for people, for example the model of the processor."""

    @property
    def conditions(self) -> Conditions:
        """Everything that measurements have to share before they may be mixed."""

    def compile(
        self,
        programs: Mapping[str, Program],
        parameters: Mapping[str, Mapping[str, Floats]],
        progress: ProgressCallback,
    ) -> Loaded:
        """Compile all `programs`, by name, with the values of their parameters.

        A program that does not compile is a recorded failure and not an exception.
        """


def open_device(target: str, *, runner: str = "local", threads: int = 1) -> Device:
    """Return the device behind a target and a runner; loads TVM.

    Raises
    ------
    MissingDependencyError
        If TVM is not installed.
    InvalidInputError
        For a target or runner that is not supported.
    """
    if runner != "local":
        raise InvalidInputError(
            f"runner {runner!r} is not supported; supported is 'local', this machine"
        )
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024:
        raise InvalidInputError(f"threads should be an integer from 1 to 1024, found {threads!r}")
    try:
        from .tvm_adapter import LocalDevice
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("tvm", "tvm_ffi"):
            raise MissingDependencyError("tvm", "tvm", "measuring latency") from None
        raise
    except (ImportError, OSError, AttributeError) as error:
        raise MeasurementError(
            f"TVM is installed but does not load ({error}); 'pnag doctor' says which versions are "
            "tested, and pip install 'pnag-fast[tvm]' installs them"
        ) from error
    return LocalDevice(target, threads=threads)
