"""`Run`: what every long work takes beside its own settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import arguments, disk, files
from ..errors import InvalidTypeError
from ..progress import ProgressCallback, ignore_progress, require_progress
from ..threads import resolve_threads
from .checkpoint import Checkpoint


@dataclass(frozen=True)
class Run:
    """Seed, threads, progress and checkpoint of one run.

    Attributes
    ----------
    seed : int
        Same seed, same result, whatever the threads.
    threads : int, optional
        Of the C++ core; None for every core that this process may use.
    progress : callable
        Told a description, the steps done and their total.
    checkpoint : path, optional
        Where the run keeps its state every few seconds: killed at any moment and started again with
        the same arguments, it goes on and ends with the same result. The file stays. A `Checkpoint`
        that is open already serves as a part of it.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Names what is out of range.
    """

    seed: int = 0
    threads: int | None = None
    progress: ProgressCallback = ignore_progress
    checkpoint: files.StrPath | Checkpoint | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", arguments.seed(self.seed))
        if self.threads is not None:
            resolve_threads(self.threads)
        require_progress(self.progress)
        if self.checkpoint is not None and not isinstance(self.checkpoint, Checkpoint):
            disk.require_path(self.checkpoint)

    def make_folder(self) -> Path | None:
        """Return `checkpoint`, made if absent, as the folder of a work that keeps several files."""
        if isinstance(self.checkpoint, Checkpoint):
            raise InvalidTypeError("checkpoint should be a folder, found an open Checkpoint")
        return None if self.checkpoint is None else files.make_folder(self.checkpoint)

    def open(self, identity: Callable[[], Mapping[str, Any]]) -> Checkpoint:
        """Return the checkpoint of a work.

        Parameters
        ----------
        identity : callable
            Returns what the result depends on, JSON values by the names that an error should use;
            called only where there is a file.
        """
        if isinstance(self.checkpoint, Checkpoint):
            return self.checkpoint
        return Checkpoint(self.checkpoint, {} if self.checkpoint is None else identity())
