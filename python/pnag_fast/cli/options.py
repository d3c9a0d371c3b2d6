"""Options that several commands share, and what they are read as.

A decorator of several options hands them to the command as one value.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..terminal import say
from .keeping import State

if TYPE_CHECKING:
    from ..objective import Objective
    from ..spaces import SearchSpace

Command = Callable[..., Any]

EXISTING = click.Path(exists=True, path_type=Path)
ANY_PATH = click.Path(path_type=Path)


class FloatRange(click.FloatRange):
    """A number within limits; "nan", which click takes for one, is none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a number; refuses what click does, and "nan"."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number in the range {self._describe_range()}.", param, ctx)
        return number


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
seed = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of all randomness."
)
cautious = click.option(
    "--cautious",
    type=FloatRange(0),
    default=0.0,
    show_default=True,
    help="Predict the mean made worse by this many standard deviations, for searches.",
)
confidence = click.option(
    "--confidence",
    type=FloatRange(0.5, 1, max_open=True),
    help="Keep bounds with this probability, such as 0.95, by what tables know of their errors.",
)
torch_threads = click.option(
    "--threads",
    type=click.IntRange(1),
    help="Threads of torch [default: torch's own choice]. Small networks are best with 1.",
)
force = click.option(
    "--force", is_flag=True, help="Let --out replace a file of another kind; never an input."
)


def _objective(_context: click.Context, _option: click.Parameter, text: str) -> Objective:
    from ..errors import InvalidInputError
    from ..objective import Objective

    try:
        return Objective.parse(text)
    except InvalidInputError as error:
        raise click.BadParameter(str(error)) from error


objective = click.option(
    "--objective",
    default="top-1",
    show_default=True,
    metavar="NAME[,min][,unit=U][,low=L][,high=H]",
    callback=_objective,
    help="What the table measures, which names its column, such as perplexity,min,low=1; min: "
    "smaller is better.",
)


def out(help: str) -> Callable[[Command], Command]:  # noqa: A002 - as click calls it
    """Return the option that names what a command writes."""
    return click.option("--out", type=ANY_PATH, required=True, help=help)


column = click.option(
    "--column", help="Column of the measured values [default: METRIC_UNIT, such as latency_ms]."
)


def column_of(metric: str, unit: str) -> str:
    """Return the name of a column of measured costs, such as ``latency_ms``."""
    return f"{metric}_{unit}" if unit else metric


def require_resolutions(path: Path, measured: SearchSpace, space: SearchSpace) -> None:
    """Refuse measurements at other input resolutions than those of a space."""
    if measured != space:
        sizes = ", ".join(map(str, space.resolutions))
        raise click.UsageError(
            f"{path} has networks at other input resolutions than {sizes} px: leave them out"
        )


# --- images --------------------------------------------------------------------------------------

data = click.option(
    "--data",
    "images",
    default="digits",
    show_default=True,
    help="'digits', a folder of images by class or of shards, or an .npz of images and labels.",
)
own_data = click.option(
    "--data",
    "images",
    help="The images that the supernet was trained on, as for 'supernet train'; the digits are "
    "found without it.",
)
other_data = click.option(
    "--other-data", is_flag=True, help="Take images that the supernet was not trained on."
)


# --- search spaces -------------------------------------------------------------------------------


class Space(NamedTuple):
    """A search space as the command line names it."""

    name: str
    resolutions: tuple[int, ...]
    width: float | None
    classes: int | None

    def find(self) -> SearchSpace:
        """Return it; read it where it is a file."""
        from .. import spaces

        return spaces.find(
            self.name,
            resolutions=self.resolutions or None,
            width=self.width,
            classes=self.classes,
        )


def space(command: Command) -> Command:
    """Hand the options of a search space to `command` as ``space``, a `Space`."""

    @functools.wraps(command)
    def collected(
        *,
        space_name: str,
        resolutions: tuple[int, ...],
        width: float | None,
        classes: int | None,
        **others: Any,
    ) -> Any:
        return command(space=Space(space_name, resolutions, width, classes), **others)

    for option in (
        click.option("--classes", type=click.IntRange(2), help="Number of classes."),
        click.option("--width", type=FloatRange(0.1, 10), help="Channel multiplier."),
        click.option(
            "--resolution",
            "resolutions",
            type=click.IntRange(8, 4096),
            multiple=True,
            help="Input size in pixels; repeat it for an elastic resolution.",
        ),
        click.option(
            "--space",
            "space_name",
            default="mbv3-tiny",
            show_default=True,
            help="A built-in space, or the path of a space written as JSON.",
        ),
    ):
        collected = option(collected)
    return collected


def files(*names: str | None) -> list[Path]:
    """Those of `names` that are paths, not what is built in: a folder may be called 'digits'."""
    from .. import spaces
    from ..data import DIGITS

    built_in = {DIGITS, *spaces.names()}
    return [Path(name) for name in names if name is not None and name not in built_in]


# --- going on after a kill -----------------------------------------------------------------------


class Checkpoint(NamedTuple):
    """Where a command keeps its unfinished work, as the command line says.

    Attributes
    ----------
    path : Path, optional
        What the user named; it stays when the work is done.
    wanted : bool
        False where nothing is to be kept.
    holds : str
        What is in it, as a person would say it.
    """

    path: Path | None
    wanted: bool
    holds: str

    def beside(
        self, out: Path, ending: str = ".checkpoint", *, older: str | None = None, head: int = 0
    ) -> State | None:
        """Return the state: where the user said, else beside the output.

        Parameters
        ----------
        out : Path
            The output; a device has nothing beside it.
        older : str, optional
            The ending in earlier versions: what they left there is gone on from.
        head : int
            Lines at its start that hold nothing yet.
        """
        from .. import outputs

        if not self.wanted:
            return None
        if self.path is not None:
            return State(self.path, self.holds, temporary=False, head=head)
        path = outputs.beside(out, ending)
        if path is None:
            return None
        if older is not None and not path.exists():
            earlier = out.with_name(out.name + older)
            path = earlier if earlier.exists() else path
        return State(path, self.holds, head=head)


def checkpoint(
    holds: str,
    *,
    stays: str = "removed when done",
    older: str | None = None,
    older_flag: str | None = None,
) -> Callable[[Command], Command]:
    """Hand ``--checkpoint`` and ``--no-checkpoint`` to a command as ``checkpoint``.

    Parameters
    ----------
    holds : str
        What is kept, as a person would say it.
    stays : str
        What becomes of it where the user named no place.
    older, older_flag : str, optional
        What the two were called before. Deprecated: they work, and say on standard error what they
        are called now.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def collected(
            *,
            checkpoint: Path | None,
            no_checkpoint: bool,
            older_path: Path | None = None,
            older_none: bool = False,
            **others: Any,
        ) -> Any:
            for name, now, given in (
                (older, "--checkpoint", older_path),
                (older_flag, "--no-checkpoint", older_none),
            ):
                if given:
                    say(f"{name} is called {now} now, and will go", error=True)
            chosen = Checkpoint(checkpoint or older_path, not (no_checkpoint or older_none), holds)
            return command(checkpoint=chosen, **others)

        path_help = f"Where to keep {holds} [default: OUT.checkpoint, {stays}]."
        options = [
            click.option("--no-checkpoint", is_flag=True, help="Keep nothing of it."),
            click.option("--checkpoint", type=ANY_PATH, help=path_help),
        ]
        if older is not None:
            options.append(click.option(older, "older_path", type=ANY_PATH, hidden=True))
        if older_flag is not None:
            options.append(click.option(older_flag, "older_none", is_flag=True, hidden=True))
        for option in options:
            collected = option(collected)
        return collected

    return decorate
