"""What a command keeps of unfinished work, and what it may say about it when it is stopped.

Every call of ``pnag`` waits for what is imported here: no data classes, which take as long to make
as a command takes to be read.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .. import __version__
from ..errors import FileAccessError
from ..progress import ProgressCallback
from ..terminal import showing_progress

if TYPE_CHECKING:
    from ..accuracy import AccuracyModel
    from ..objective import Objective
    from ..spaces import Archs, SearchSpace


class State(NamedTuple):
    """A file or folder that unfinished work goes on from.

    Attributes
    ----------
    holds : str
        What is in it, as a person would say it.
    temporary : bool
        It goes when the work is done; what a user named stays.
    head : int
        Lines at its start that hold nothing yet.
    """

    path: Path
    holds: str
    temporary: bool = True
    head: int = 0

    def there(self) -> bool:
        """Tell whether there is anything in it."""
        try:
            if self.path.is_dir():
                return any(self.path.iterdir())
            if self.head:
                with self.path.open("rb") as stream:
                    return sum(1 for _ in itertools.islice(stream, self.head + 1)) > self.head
            return self.path.stat().st_size > 0
        except OSError:
            return False


class Keeper:
    """Knows the states of the command that runs."""

    def __init__(self) -> None:
        self.states: list[State] = []
        # What a path held when the work began: what a failure left alone may be somebody else's.
        self._before: dict[Path, tuple[int, int] | None] = {}

    @contextlib.contextmanager
    def keeping(self, *states: State | None) -> Iterator[None]:
        """Do work that keeps `states`; when it is done, remove the temporary ones.

        A work that fails or is interrupted leaves them, and `summary` tells of them.
        """
        mine = [state for state in states if state is not None]
        self.states += mine
        self._before.update((state.path, _stamp(state.path)) for state in mine)
        yield
        for state in mine:
            self.states.remove(state)
            if state.temporary:
                _remove(state.path)

    def kept(self, *, changed: bool = False) -> list[State]:
        """Return the states that are there; with `changed` only those that this work wrote."""
        return [
            state
            for state in self.states
            if state.there() and not (changed and self._before[state.path] == _stamp(state.path))
        ]

    def summary(self, *, changed: bool = False) -> str:
        """Say what is kept, and how to go on from it; only what is there counts."""
        kept = self.kept(changed=changed)
        if not kept:
            return "nothing of it was kept; run the same command again to start anew"
        places = " and ".join(f"{state.holds} in '{state.path}'" for state in kept)
        return f"kept: {places}; run the same command again to go on"


@contextlib.contextmanager
def working(*states: State | None, quiet: bool) -> Iterator[ProgressCallback]:
    """Do the work of the command that runs: keep `states` and show progress."""
    keeper = click.get_current_context().ensure_object(Keeper)
    with keeper.keeping(*states), showing_progress(quiet=quiet) as progress:
        yield progress


def kept_fits(
    state: State | None,
    fit: Callable[..., AccuracyModel],
    objective: Objective,
    identity: Sequence[Any],
) -> Callable[..., AccuracyModel]:
    """Keep every model that `fit` returns in the folder `state`, and fit none twice."""
    if state is None:
        return fit
    import hashlib

    from .. import accuracy, files
    from ..objective import TOP1

    if objective != TOP1:  # which was all there was, and is not named in folders of that time
        identity = [*identity, objective]
    folder = state.path

    def kept(space: SearchSpace, archs: Archs, top1: Any) -> AccuracyModel:
        digest = hashlib.sha256(repr([__version__, space.fingerprint, *identity]).encode())
        digest.update(archs.tobytes() + top1.tobytes())
        path = files.make_folder(folder) / f"{digest.hexdigest()[:32]}.safetensors"
        if path.exists():
            return accuracy.load(path, space)
        model = fit(space, archs, top1)
        model.save(path)
        return model

    return kept


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes with a file's contents, or with the names in a folder."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _remove(path: Path) -> None:
    """Remove a file, or a folder of files with what it holds."""
    try:
        if path.is_dir() and not path.is_symlink():
            for entry in path.iterdir():
                _remove(entry)
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise FileAccessError(f"cannot remove '{path}': {error.strerror or error}") from error
