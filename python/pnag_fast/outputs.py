"""What may be written where, found out before the work that the output is made of.

Hours of work should neither end in a folder that does not exist nor replace the measurements that
they started from. A file of the same kind may be replaced, and an empty one; anything else only
with ``force``; what the same command reads, and a folder, never. Devices and pipes take anything.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import FileAccessError, InvalidInputError

__all__ = ["Kind", "beside", "check", "is_device", "kind_of"]

# Enough to see what a file is. A safetensors header may be long, but ours comes first in it.
_LOOKED_AT = 1 << 16

# What is written to find out whether the disk takes anything at all.
_TRIED_BYTES = 1 << 16


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    name : str
        As ``kind_of`` tells it, for example ``"pnag-cost-table"``.
    words : str
        As an error says it, with its article.
    """

    name: str
    words: str


COST_TABLE = Kind("pnag-cost-table", "a cost table")
# Never recognised, and so never replaced without --force: somebody may have filled it in.
TO_MEASURE = Kind("networks to measure", "networks to measure")
SUPERNET = Kind("pnag-supernet", "a supernet")
ACCURACY_TABLE = Kind("accuracy table", "an accuracy table")
ACCURACY_MODEL = Kind("pnag-accuracy-model", "an accuracy model")
GENERATOR = Kind("pnag-generator", "a generator")
ONNX = Kind("ONNX", "an ONNX file")
PAGE = Kind("page", "a page")
VERDICTS = Kind("pnag-confirmation", "a list of verdicts")

_FORMAT = rb'\\?"format\\?"\s*:\s*\\?"([A-Za-z0-9 _.-]+)\\?"'


def kind_of(path: Path) -> str | None:
    """Say what a file is, from its first bytes: a format's name; None for what we do not write."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_LOOKED_AT)
    except OSError as error:
        raise FileAccessError(f"cannot read '{path}': {error.strerror or error}") from error
    text = start.lstrip()
    # JSON that names its format first, or the header of a safetensors file, which holds such JSON.
    if text[:1] == b"{" or (start[8:9] == b"{" and b'"__metadata__"' in start):
        found = re.search(_FORMAT, start)
        return found[1].decode("ascii") if found else None
    if text.startswith(b"<!doctype html>") and b"<title>pnag_fast: " in start:
        return PAGE.name
    header = text.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].lower()
    columns = {name.strip(b' "\r\t') for name in re.split(rb"[,;\t]", header)}
    if {b"arch", b"top1"} <= columns:
        return ACCURACY_TABLE.name
    # A model: its version of the format, and then who made it.
    if start[:1] == b"\x08" and start[2:3] == b"\x12" and b"pnag_fast" in start[:16]:
        return ONNX.name
    return None


def is_device(path: Path) -> bool:
    """Tell whether a path is no file of a disk: a device, a pipe, or a standard stream."""
    if re.match(r"/dev/(stdout|stderr|fd/\d+)$|/proc/(self|\d+)/fd/\d+$", str(path)):
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def beside(out: Path, suffix: str) -> Path | None:
    """Return where work keeps its state beside its output; None where that is a device."""
    return None if is_device(out) else out.with_name(out.name + suffix)


def check(
    path: Path,
    kind: Kind,
    *,
    inputs: Iterable[str | Path | None] = (),
    force: bool = False,
    what: str = "--out",
) -> None:
    """Refuse an output that cannot or should not be written; nothing is changed.

    Parameters
    ----------
    path : Path
    kind : Kind
        Of what will be written.
    inputs : iterable of paths
        What the same command reads; those that do not exist are passed over.
    force : bool
        Allow to replace a file of any kind that is no input.
    what : str
        The option, for errors.

    Raises
    ------
    InvalidInputError
        If it is or lies in an input, is a folder, or is a file of another kind.
    FileAccessError
        If there is no such folder, or it cannot be written to.
    """
    for source in inputs:
        if source is not None:
            _keep_apart(path, Path(source), what)
    if is_device(path):
        return
    if path.is_dir():
        raise InvalidInputError(
            f"{what} '{path}' is a folder; name the file to write, for example "
            f"'{path}/{_name(kind)}'"
        )
    if path.exists():
        _check_replaced(path, kind, force, what)
    _try_folder(path)


def check_folder(path: Path, *, inputs: Iterable[str | Path | None] = (), what: str) -> None:
    """Refuse a folder to be made or filled that lies in an input, or cannot be written to."""
    for source in inputs:
        if source is not None:
            _keep_apart(path, Path(source), what)
    if path.is_dir():
        _try_folder(path / "x")
        return
    if path.exists():
        raise InvalidInputError(f"{what} '{path}' is a file, and should be a folder")
    above = path.absolute().parent
    while not above.exists():
        above = above.parent
    _try_folder(above / "x")


def _name(kind: Kind) -> str:
    ending = {
        COST_TABLE: ".json",
        VERDICTS: ".json",
        ACCURACY_TABLE: ".csv",
        TO_MEASURE: ".csv",
        ONNX: ".onnx",
    }
    return kind.words.split()[-1] + ending.get(kind, ".safetensors")


def _keep_apart(path: Path, source: Path, what: str) -> None:
    if not source.exists():
        return
    if path.exists() and os.path.samefile(path, source) and not is_device(path):
        raise InvalidInputError(
            f"{what} '{path}' is what this command reads; it would be lost: choose another output"
        )
    if source.is_dir() and source.resolve() in path.resolve().parents:
        raise InvalidInputError(
            f"{what} '{path}' lies in '{source}', which this command reads, and would become a "
            "part of it: choose an output elsewhere"
        )


def _check_replaced(path: Path, kind: Kind, force: bool, what: str) -> None:
    try:
        if path.stat().st_size == 0:
            return
        found = None if force else kind_of(path)
    except OSError as error:
        raise FileAccessError(f"cannot read '{path}': {error.strerror or error}") from error
    if not os.access(path, os.W_OK):
        raise FileAccessError(
            f"{what} '{path}' is write-protected; choose another output, or allow writing to it"
        )
    if force or found == kind.name:
        return
    about = f"a file of another kind ({found})" if found else "a file that pnag did not write"
    raise InvalidInputError(
        f"{what} '{path}' is {about}, and would be replaced by {kind.words}; choose another "
        "output, or say --force"
    )


def _try_folder(path: Path) -> None:
    """Write a little into the folder of `path`, and take it away again."""
    import tempfile  # here, since it imports all that shutil can unpack

    # A link is written through: what counts is the folder that it points into.
    real = Path(os.path.realpath(path))
    if real.is_symlink():
        raise FileAccessError(
            f"cannot write '{path}': it is a link that leads in a circle; name a file"
        )
    folder = real.parent
    if not folder.is_dir():
        raise FileAccessError(
            f"cannot write '{path}': there is no folder '{folder}'; make it, or choose another "
            "output"
        )
    try:
        # It has no name where the system can do that, so that nothing stays behind after a kill.
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b"\0" * _TRIED_BYTES)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise FileAccessError(
            f"cannot write '{path}': {error.strerror or error} (folder '{folder}'); choose another "
            "output"
        ) from error
