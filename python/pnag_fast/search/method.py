"""`Method`: one search algorithm, and the function that users call it by.

A method is a frozen dataclass of its settings in one file of `pnag_fast.search.methods`: how it
begins, and one step. Counting, limits, the archive, and going on after a kill are done here, once.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import hashlib
import inspect
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from .. import files
from ..accuracy import AccuracyModel
from ..accuracy.oracle import Oracle
from ..arguments import known_keys
from ..costs import CostTable
from ..errors import FileFormatError, InvalidInputError, InvalidTypeError
from ..progress import ProgressCallback, ignore_progress
from ..runs import Arrays, Checkpoint, Run, State
from ..runs.checkpoint import random_arrays, restore_random
from ..spaces import SearchSpace
from ..threads import one_thread
from .problem import Problem, require_problem
from .result import Front

# Questions to an oracle where the user names no number.
ORACLE_EVALUATIONS = 300

# Type and shape of every array that a method carries from step to step; None for any size.
Layout = Mapping[str, tuple[npt.DTypeLike, tuple[int | None, ...]]]


class Draws:
    """All randomness of one search: a generator, whose state is kept, and numbered seeds."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = np.random.default_rng(seed)

    def restart(self, stream: int) -> None:
        """Go on with a generator of its own for another part of the search."""
        self.rng = np.random.default_rng([self.seed, stream])

    def seed_of(self, stream: int) -> int:
        """Seed of an independent stream, for what draws by a seed."""
        return int(np.random.SeedSequence([self.seed, stream]).generate_state(1, np.uint64)[0])

    def next_seed(self) -> int:
        """Seed drawn from the generator."""
        return int(self.rng.integers(2**63))


@dataclasses.dataclass(frozen=True, eq=False)
class Method(abc.ABC):
    """A search algorithm with its settings, which are checked when it is made."""

    # What users call it by, what progress says, and questions to a model where the user names no
    # number; None where `default_evaluations` computes it.
    name: ClassVar[str]
    title: ClassVar[str]
    evaluations: ClassVar[int | None] = 20_000

    def __post_init__(self) -> None:
        for name, value in self.checked().items():
            object.__setattr__(self, name, value)

    def checked(self) -> Mapping[str, Any]:
        """Return settings as they are to be used; raises for those that are out of range."""
        return {}

    def default_evaluations(
        self, space: SearchSpace, model: AccuracyModel | Oracle, tables: Sequence[CostTable]
    ) -> int:
        """Questions at most where the user names no number; few of an oracle, which is dear."""
        del space, tables
        most = self.evaluations
        if isinstance(model, Oracle):
            return ORACLE_EVALUATIONS if most is None else min(most, ORACLE_EVALUATIONS)
        if most is None:
            raise NotImplementedError
        return most

    def layout(self, problem: Problem, names: Collection[str]) -> Layout:
        """Type and shape of what `begin` and `step` return, to check what a file has of it.

        Parameters
        ----------
        names : collection of str
            Of the arrays in the file, for a method whose phases carry different ones.
        """
        del problem, names
        return {}

    @abc.abstractmethod
    def begin(self, problem: Problem, draws: Draws) -> Arrays:
        """Ask first questions; return what the first step needs to know."""

    @abc.abstractmethod
    def step(self, problem: Problem, state: Arrays, draws: Draws) -> Arrays:
        """Ask further questions; return what the next step needs to know.

        Everything that is carried from step to step is in `state`, in `problem` and in `draws`:
        these are kept, and a search that goes on from them ends as it would have.
        """

    def front(self, problem: Problem, state: Arrays) -> Front:
        """Return what the search found, where it is not the best of what was asked."""
        del state
        return problem.front()

    def run(self, problem: Problem, run: Run) -> Front:
        """Search until nothing is left to ask.

        Parameters
        ----------
        problem : Problem
            New; it serves one search.
        run : Run

        Returns
        -------
        Front
            Of everything asked.
        """
        kept = run.open(
            lambda: {
                "method": self.name,
                "seed": run.seed,
                "settings": _plain(self),
                **problem.identity(),
            }
        )
        with one_thread():
            problem.start(run.progress, self.title)
            draws = Draws(run.seed)
            saved = kept.restore(self.name)
            state: Arrays = {}

            def everything() -> Arrays:
                own = {f"{_OWN}{name}": array for name, array in state.items()}
                return problem.state() | random_arrays(draws.rng) | own

            if saved is None:
                state = self.begin(problem, draws)
                kept.keep(self.name, problem.count, everything)
            else:
                problem.restore(saved)
                restore_random(draws.rng, saved)
                state = self._restored(problem, saved)
            idle = 0
            while problem.left > 0 and idle < _IDLE:
                before = problem.count
                state = self.step(problem, state, draws)
                idle = 0 if problem.count > before else idle + 1
                kept.keep(self.name, problem.count, everything)
            kept.keep(self.name, problem.count, everything, last=True)
            return self.front(problem, state)

    def _restored(self, problem: Problem, saved: State) -> Arrays:
        state = {}
        names = {name.removeprefix(_OWN) for name in saved.arrays if name.startswith(_OWN)}
        for name, (dtype, shape) in self.layout(problem, names).items():
            array = saved.take(f"{_OWN}{name}", dtype, shape)
            if len(array) and array.dtype == np.uint8 and shape[-1] == problem.space.n_slots:
                flat = np.ascontiguousarray(array.reshape(-1, problem.space.n_slots))
                try:
                    problem.space.validate(flat)
                except InvalidInputError as error:
                    raise FileFormatError(
                        f"{saved.where}: array '{name}' holds what is no architecture ({error}); "
                        "delete the file"
                    ) from error
            state[name] = np.array(array)
        return state


_OWN = "method."

# Steps in a row that ask nothing, after which a method will not ask any more.
_IDLE = 10_000


def _plain(method: Method) -> dict[str, Any]:
    """Return the settings as JSON values, of arrays and tables a digest."""
    plain = {}
    for field in dataclasses.fields(method):
        value = getattr(method, field.name)
        if isinstance(value, np.ndarray):
            value = hashlib.sha256(repr(value.shape).encode() + value.tobytes()).hexdigest()
        if isinstance(value, CostTable):
            value = hashlib.sha256(json.dumps(value.to_json(), sort_keys=True).encode()).hexdigest()
        plain[field.name] = value
    return plain


class SearchFunction(Protocol):
    """How every method is called."""

    def __call__(
        self,
        space: SearchSpace,
        model: AccuracyModel | Oracle,
        tables: Sequence[CostTable],
        *,
        seed: int = 0,
        evaluations: int | None = None,
        time_limit_s: float | None = None,
        threads: int | None = None,
        checkpoint: files.StrPath | Checkpoint | None = None,
        progress: ProgressCallback = ignore_progress,
        **settings: Any,
    ) -> Front:
        """Search; see the method."""
        ...


_COMMON = """
Parameters
----------
space : SearchSpace
model : AccuracyModel or Oracle
    Of the same space; what is asked.
tables : sequence of CostTable
    Of the same space: one or more costs.
seed : int
    Same seed, same front, whatever the threads.
evaluations : int, optional
    Questions at most; of an oracle, architectures that are new in this search, by default 300.
time_limit_s : float, optional
    Stop after this many seconds, whatever is left. With a limit the result depends on the speed of
    the machine; without, only on the seed.
threads : int, optional
    Of the C++ core; default: every core that this process may use.
checkpoint : path, optional
    Where the search keeps its state every few seconds: killed and called again with the same
    arguments, it goes on and ends with the same front.
progress : callable
    Told a description, the questions asked and how many there may be.
"""
_RETURNS = """
Returns
-------
Front
    Of everything asked.
"""
_SETTINGS = "\nParameters\n----------\n"


@functools.cache  # a function that can be pickled is the one that its module holds
def search_function(method: type[Method]) -> SearchFunction:
    """Return the function of a method: its common arguments, and its settings as keywords."""
    fields = dataclasses.fields(method)

    def search(
        space: SearchSpace,
        model: AccuracyModel | Oracle,
        tables: Sequence[CostTable],
        *,
        seed: int = 0,
        evaluations: int | None = None,
        time_limit_s: float | None = None,
        threads: int | None = None,
        checkpoint: files.StrPath | Checkpoint | None = None,
        progress: ProgressCallback = ignore_progress,
        **settings: Any,
    ) -> Front:
        try:
            known_keys(
                settings, [field.name for field in fields], f"pnag_fast.search.{method.name}()"
            )
        except InvalidInputError as error:
            raise InvalidTypeError(str(error)) from None
        run = Run(seed, threads, progress, checkpoint)
        chosen = method(**settings)
        require_problem(space, model, tables)
        if evaluations is None:
            evaluations = chosen.default_evaluations(space, model, tables)
        problem = Problem(
            space,
            model,
            tables,
            evaluations=evaluations,
            time_limit_s=time_limit_s,
            threads=threads,
        )
        return chosen.run(problem, run)

    search.__name__ = search.__qualname__ = method.name
    search.__module__ = "pnag_fast.search"
    text = f"{inspect.getdoc(method)}\n"
    if _SETTINGS not in text:
        text += _SETTINGS
    returns = "" if "\nReturns\n" in text else _RETURNS
    search.__doc__ = text.replace(_SETTINGS, _COMMON, 1) + returns
    common = inspect.signature(search).parameters
    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [
        inspect.Parameter(field.name, keyword, default=field.default, annotation=field.type)
        for field in fields
    ]
    shown = [
        p.replace(default=method.evaluations) if p.name == "evaluations" else p
        for p in common.values()
        if p.name != "settings"
    ]
    search.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*shown, *own], return_annotation=Front
    )
    return search
