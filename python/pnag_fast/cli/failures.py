"""How a command fails: one line for a person, one JSON document for a program, one exit code."""

from __future__ import annotations

import os
import re
import signal
import sys
from dataclasses import asdict, dataclass

import click

from ..errors import (
    BudgetInfeasibleError,
    DataError,
    FileAccessError,
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    MeasurementError,
    MemoryShortageError,
    MissingDependencyError,
    PnagError,
    TrainingError,
)
from ..terminal import ClosedOutputError, say, say_json
from .keeping import Keeper

__all__ = ["FAILED", "INTERRUPTED", "MISUSED", "Failure", "of", "tell"]

FAILED, MISUSED, INTERRUPTED = 1, 2, 128 + signal.SIGINT

# Set to anything, it shows where in the program an error came from.
DEBUG_VARIABLE = "PNAG_DEBUG"

# Modules that are not always installed, and the extra that brings each.
_EXTRAS = {
    "torch": "train",
    "sklearn": "train",
    "PIL": "train",
    "tvm": "tvm",
    "tvm_ffi": "tvm",
    "yaml": "ofa",
    "matplotlib": "report",
    "onnx": "export",
}

# What helps where the text itself says no more than what is wrong.
_REMEDIES: tuple[tuple[type[BaseException], str], ...] = (
    (BudgetInfeasibleError, "ask for a larger budget"),
    (FileFormatError, "give a file of the kind that is asked for, or make this one again"),
    (FileAccessError, "check the path, its permissions and the space on the disk"),
    (DataError, "mend the images or their labels"),
    (MeasurementError, "run 'pnag doctor', and the same command again"),
    (TrainingError, "lower the learning rate, or check the data"),
    (MemoryShortageError, "use fewer architectures, images or threads, or smaller batches"),
    (InvalidTypeError, "give a value of the type that is named"),
    (InvalidInputError, "give a value that the message allows; --help lists the options"),
)


@dataclass(frozen=True)
class Failure:
    """Why a command failed.

    Attributes
    ----------
    error : str
        Its type: a class of `pnag_fast.errors`, ``"UsageError"``, ``"Interrupted"`` or
        ``"InternalError"``.
    message : str
        What is wrong, where, and what is allowed.
    remedy : str
        What to do.
    code : int
        Exit code.
    """

    error: str
    message: str
    remedy: str
    code: int = FAILED


def of(error: BaseException, keeper: Keeper) -> Failure:
    """Describe whatever ended a command."""
    if isinstance(error, (KeyboardInterrupt, click.exceptions.Abort)):
        return Failure("Interrupted", "interrupted", keeper.summary(), INTERRUPTED)
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "pnag"
        return Failure(
            "UsageError", error.format_message(), f"'{path} --help' lists the options", MISUSED
        )
    if isinstance(error, ModuleNotFoundError) and not isinstance(error, PnagError):
        module = (error.name or "").partition(".")[0]
        if module in _EXTRAS:
            error = MissingDependencyError(module, _EXTRAS[module], "this command")
    if isinstance(error, MemoryError) and not isinstance(error, PnagError):
        error = MemoryShortageError("out of memory")
    if isinstance(error, OSError) and not isinstance(error, PnagError):
        where = f"'{error.filename}': " if error.filename else ""
        error = FileAccessError(f"{where}{error.strerror or error}")
    if isinstance(error, PnagError):
        message = str(error)
        name = "FileAccessError" if isinstance(error, ClosedOutputError) else type(error).__name__
        return Failure(name, message, _remedy(error, message))
    return Failure(
        "InternalError",
        f"{type(error).__name__}: {error}",
        f"this is a fault of pnag-fast: set {DEBUG_VARIABLE}=1 to see where it happened, and "
        "report it with the command",
    )


def _remedy(error: BaseException, message: str) -> str:
    """Return what the message says to do, after its last semicolon, or what helps in general."""
    if isinstance(error, MissingDependencyError):
        return f"pip install 'pnag-fast[{error.extra}]'"
    clause = re.search(r".*; (.+)$", message, re.DOTALL)
    if clause:
        return clause[1]
    return next((text for kind, text in _REMEDIES if isinstance(error, kind)), "see --help")


def tell(error: BaseException, keeper: Keeper, *, as_json: bool) -> int:
    """Print why a command failed and return its exit code."""
    if isinstance(error, ClosedOutputError) and error.pipe:
        return FAILED  # whoever read our output has seen enough
    failure = of(error, keeper)
    if os.environ.get(DEBUG_VARIABLE):
        import traceback

        say("".join(traceback.format_exception(error)).rstrip(), error=True, lines=True)
    stopped = failure.error == "Interrupted"
    # After an error, what stands there unchanged may be what was wrong.
    kept = [str(state.path) for state in keeper.kept(changed=not stopped)]
    if as_json and not isinstance(error, ClosedOutputError):
        document = asdict(failure)
        del document["code"]
        try:
            say_json({**document, "kept": kept})
        except ClosedOutputError as closed:
            say(f"{failure.message}; {closed}", error=True)
        return failure.code
    if stopped:
        say(f"interrupted; {failure.remedy}", error=True)
    elif isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        if context is not None:
            say(context.get_usage(), error=True, lines=True)
            say(f"Try '{context.command_path} --help' for help.\n", error=True, lines=True)
        say(f"Error: {failure.message}", error=True)
    elif failure.error == "InternalError":
        say(f"unexpected {failure.message}; {failure.remedy}", error=True)
    else:
        more = "" if failure.message.endswith(failure.remedy) else f"; {failure.remedy}"
        more = "" if "; " in failure.message or "pip install" in failure.message else more
        say(f"{failure.error}: {failure.message}{more}", error=True)
    if kept and not stopped:
        say(keeper.summary(changed=True), error=True)
    return failure.code


def defer_interrupts() -> None:
    """Let a second Ctrl-C end the program at once, without a word, while it says its last."""
    if sys.platform != "win32":
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        except ValueError:  # not in the main thread, where no Ctrl-C arrives either
            return
