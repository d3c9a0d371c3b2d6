"""Oracles: what gives an architecture's true quality and is dear to ask.

A supernet's judge, a training run, a table of a benchmark: any function of some architectures. What
was asked is remembered, in a journal where one is named, so that repeats are free and a killed
search asks nothing twice. A question that fails is an answer too. Where answers to the same
question differ, every one of them is kept, and the value is their mean.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import arguments, files
from ..errors import InvalidInputError, InvalidTypeError, MeasurementError
from ..objective import TOP1, Objective
from ..runs import journal
from ..spaces import Archs, SearchSpace
from ..spaces.space import require_space
from ..typing import FloatArray, Int64Array

ASKED_FORMAT = "pnag-asked"
ASKED_VERSION = 1

_ASKED = frozenset({"arch", "value", "error"})
_OTHERWISE = "ask what it was made for, give another path, or delete the file"

# Questions handed to an executor and not yet answered; more would only fill its queue.
_IN_FLIGHT = 256
# Seconds between two looks at the time limit while nothing is answered.
_POLL_S = 0.2
_LONGEST_ERROR = 500

# Architectures (n, n_slots) to the values of the objective, n numbers; NaN where there is none.
OracleFunction = Callable[[Archs], npt.ArrayLike]
Answer = tuple[float, str]


class Oracle:
    """Asks a function about architectures, each once unless told otherwise; made by `oracle`.

    Attributes
    ----------
    space : SearchSpace
    objective : Objective
    source : str
        Where the values come from.
    repeats : int
        Answers that a search may ask for about one architecture.
    noise : float, optional
        Standard deviation between answers about one architecture, if it is known.
    n_known : int
        Architectures whose answer is remembered.
    notices : list of str
        What a user should know about the journal: lines that were damaged or torn.
    """

    def __init__(
        self,
        space: SearchSpace,
        function: OracleFunction,
        objective: Objective,
        source: str,
        batch: int,
        executor: Executor | None,
        checkpoint: files.StrPath | None,
        *,
        retry_failed: bool,
        repeats: int,
        noise: float | None,
    ) -> None:
        self.space, self.objective, self.source = space, objective, source
        self.repeats, self.noise = repeats, noise
        self.notices: list[str] = []
        self._function, self._batch = function, batch
        self._executor, self._path = executor, checkpoint
        self._retry = retry_failed
        # Of each architecture, in the order in which they came; and how many of these the journal,
        # which is read anew whenever something is asked, has been found to hold.
        self._answers: dict[str, list[Answer]] = {}
        self._read: dict[str, int] = {}
        self._journal: journal.Journal | None = None
        with self._remembering():
            pass

    @property
    def n_known(self) -> int:
        """Architectures whose answer is remembered."""
        return len(self._answers)

    def __repr__(self) -> str:
        return f"<Oracle of space '{self.space.name}': {self.source}; {self.n_known} known>"

    def __getstate__(self) -> dict[str, Any]:
        # A pool of processes stays where it is.
        return {**self.__dict__, "_executor": None}

    def for_space(self, space: SearchSpace) -> Oracle:
        """Return this oracle, if it is for that space.

        Raises
        ------
        InvalidInputError
            If it is for another one.
        """
        require_space(space)
        if space.fingerprint != self.space.fingerprint:
            raise InvalidInputError(
                f"this oracle is for space '{self.space.name}' ({self.space.fingerprint}), not for "
                f"'{space.name}' ({space.fingerprint})"
            )
        return self

    def identity(self) -> Any:
        """Return what answers depend on as far as it is known, JSON values."""
        return {"oracle": self.source, "objective": self.objective.to_json()}

    def __call__(self, archs: Archs) -> FloatArray:
        """Return the value of each row, shape (n,); NaN where the question failed.

        Of an architecture that was asked repeatedly, the mean.
        """
        self.ask(archs)
        return self.remembered(archs)[0]

    def remembered(self, archs: Archs) -> tuple[FloatArray, FloatArray, Int64Array]:
        """Return what is known of architectures without asking.

        Parameters
        ----------
        archs : ndarray of uint8, shape (n, n_slots)

        Returns
        -------
        value : ndarray of float64, shape (n,)
            Mean of all answers about a row; NaN where there is none.
        std : ndarray of float64, shape (n,)
            Standard deviation between them; NaN where there are fewer than two.
        count : ndarray of int64, shape (n,)
        """
        self.space.validate(archs)
        value, std = np.full((2, len(archs)), np.nan)
        count = np.zeros(len(archs), dtype=np.int64)
        for row, name in enumerate(self.space.to_strings(archs)):
            answers = np.array([v for v, error in self._answers.get(name, ()) if not error])
            count[row] = len(answers)
            if len(answers) > 0:
                # A mean of equal values may differ from them in the last bit.
                value[row] = answers[0] + (answers - answers[0]).mean()
            if len(answers) > 1:
                std[row] = answers.std(ddof=1)
        return value, std, count

    def ask(
        self,
        archs: Archs,
        turns: Int64Array | None = None,
        *,
        until: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[FloatArray, list[str]]:
        """Ask about architectures; those that are known, and repeats, cost nothing.

        Parameters
        ----------
        archs : ndarray of uint8, shape (n, n_slots)
        turns : ndarray of int64, shape (n,), optional
            Which answer about each: 0 for the first, which is the default. As many are asked for
            as are missing.
        until : float, optional
            By `time.monotonic`: what is not answered then is left out, and so are the rows after
            it. What was answered out of order is remembered.
        progress : callable, optional
            Told after every answer how many there are.

        Returns
        -------
        values : ndarray of float64, shape (n,), or shorter
            NaN where the question failed.
        errors : list of str
            Why it failed, for each row; empty where it did not.

        Raises
        ------
        InvalidInputError
            If a row is no architecture, or the function returns something else than one number for
            each row, within the limits of the objective.
        MeasurementError
            If the executor fails, not the question: its workers ended, the function cannot travel.
        """
        self.space.validate(archs)
        names = self.space.to_strings(archs)
        wanted = [0] * len(names) if turns is None else np.asarray(turns).tolist()

        def is_known(row: int) -> bool:
            return len(self._answers.get(names[row], ())) > wanted[row]

        if not all(map(is_known, range(len(names)))):
            with self._remembering():
                coming: dict[str, int] = {}
                missing: list[int] = []
                for row, name in enumerate(names):
                    have = coming.get(name, len(self._answers.get(name, ())))
                    missing += [row] * (wanted[row] + 1 - have)
                    coming[name] = max(have, wanted[row] + 1)
                self._ask(archs, names, missing, until, progress or _ignore)
        known = next((i for i in range(len(names)) if not is_known(i)), len(names))
        answers = [self._answers[names[i]][wanted[i]] for i in range(known)]
        return np.array([value for value, _ in answers]), [error for _, error in answers]

    def _ask(
        self,
        archs: Archs,
        names: Sequence[str],
        missing: Sequence[int],
        until: float | None,
        progress: Callable[[int], None],
    ) -> None:
        chunks = [missing[i : i + self._batch] for i in range(0, len(missing), self._batch)]
        answered = 0

        def late() -> bool:
            return until is not None and time.monotonic() >= until

        def take(chunk: Sequence[int], answers: Sequence[Answer]) -> None:
            nonlocal answered
            self._remember([names[row] for row in chunk], answers)
            answered += len(chunk)
            progress(answered)

        if self._executor is None:
            for chunk in chunks:
                if late():
                    return
                rows = np.ascontiguousarray(archs[chunk])
                take(chunk, self._checked(_call(self._function, rows), len(chunk)))
            return
        waiting: dict[Future[Any], Sequence[int]] = {}
        rest = iter(chunks)
        try:
            while True:
                # As many as there is room for, whoever answers first: the slowest holds nobody up.
                while len(waiting) < _IN_FLIGHT and not late():
                    following = next(rest, None)
                    if following is None:
                        break
                    rows = np.ascontiguousarray(archs[following])
                    future = self._through_executor(
                        self._executor.submit, _call, self._function, rows
                    )
                    waiting[future] = following
                if not waiting or late():
                    return
                for future in wait(
                    waiting, None if until is None else _POLL_S, FIRST_COMPLETED
                ).done:
                    chunk = waiting.pop(future)
                    answers = self._through_executor(future.result)
                    take(chunk, self._checked(answers, len(chunk)))
        finally:
            for future in waiting:
                future.cancel()

    def _through_executor(self, call: Callable[..., Any], *arguments_: Any) -> Any:
        try:
            return call(*arguments_)
        except Exception as error:  # of the executor: those of the function are answers
            raise MeasurementError(
                f"the executor could not ask the oracle ({self.source}): "
                f"{type(error).__name__}: {arguments.shown_error(error)}; what was answered is "
                "remembered, so ask again with a working executor, and with a function that can be "
                "pickled where it has processes"
            ) from error

    def _checked(self, found: Any, n: int) -> list[Answer]:
        """Answers to a question of `n` rows: values, or why there are none."""
        if isinstance(found, _Raised):
            together = f" (one of {n} asked together)" if n > 1 else ""
            return [(np.nan, found.text + together)] * n
        values = arguments.floats(
            found, f"what the oracle ({self.source}) returns", (n,), meaning=f"({n},): one a row"
        )
        answers = []
        for value in values.tolist():
            if not np.isfinite(value):
                answers.append((np.nan, f"the oracle returned {value}"))
            elif not self.objective.low <= value <= self.objective.high:
                raise InvalidInputError(
                    f"the oracle ({self.source}) returned {value:g} for {self.objective.name}, "
                    f"which lies in [{self.objective.low:g}, {self.objective.high:g}]; return it "
                    "in that unit, or name another objective="
                )
            else:
                answers.append((value, ""))
        return answers

    def _remember(self, names: Sequence[str], answers: Sequence[Answer]) -> None:
        for name, answer in zip(names, answers, strict=True):
            self._read[name] = self._take(name, answer)
        if self._journal is not None:
            self._journal.append(
                *(
                    {"arch": name, "value": None if error else value, "error": error}
                    for name, (value, error) in zip(names, answers, strict=True)
                )
            )

    def _take(self, name: str, answer: Answer) -> int:
        """Keep one more answer; return how many there are."""
        known = self._answers.setdefault(name, [])
        if self._replaces(known, answer):
            known.clear()
        known.append(answer)
        return len(known)

    def _replaces(self, known: Sequence[Answer], answer: Answer) -> bool:
        """Say whether a value replaces failures; where repeats differ, a failure is one of them."""
        return self.repeats == 1 and not answer[1] and all(error for _, error in known)

    @contextlib.contextmanager
    def _remembering(self) -> Iterator[None]:
        """Hold the journal, if there is one; what others have added to it meanwhile is read."""
        if self._path is None:
            yield
            return
        self._read = {}
        with journal.Journal(
            self._path,
            ASKED_FORMAT,
            ASKED_VERSION,
            shapes=(_ASKED,),
            accept=self._accept,
            conditions={"space": self.space.definition, **self.identity()},
            otherwise=_OTHERWISE,
            sync=True,
        ) as held:
            self._journal = held
            self.notices += held.notices
            try:
                yield
            finally:
                self._journal = None

    def _accept(self, record: journal.Record) -> None:
        name = files.require(record, "arch", str, "a record")
        error = files.require(record, "error", str, "a record")
        value = np.nan
        if not error:
            value = files.number(record["value"], "'value'")
            if not self.objective.low <= value <= self.objective.high:
                raise ValueError(f"a value of {value:g}")
        if self._journal is not None or (error and self._retry):
            return  # what is being written is known, and what failed is asked again
        known, read = self._answers.get(name, []), self._read.get(name, 0)
        new = self._replaces(known, (value, error)) or read == len(known)
        self._read[name] = self._take(name, (value, error)) if new else read + 1


class _Raised:
    """What a function raised, as a text: not every exception can travel between processes."""

    def __init__(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {arguments.shown_error(error)}"
        self.text = text[:_LONGEST_ERROR]


def _call(function: OracleFunction, archs: Archs) -> Any:
    """Ask once, in whatever process this is."""
    try:
        return function(archs)
    except Exception as error:  # a question that fails is an answer
        return _Raised(error)


def _ignore(answered: int) -> None:
    """Tell nobody."""


def oracle(
    space: SearchSpace,
    function: OracleFunction,
    *,
    objective: Objective = TOP1,
    source: str | None = None,
    batch: int = 1,
    executor: Executor | None = None,
    checkpoint: files.StrPath | None = None,
    retry_failed: bool = False,
    repeats: int = 1,
    noise: float | None = None,
) -> Oracle:
    """Make a function of architectures what a search may ask: `pf.search.random(space, oracle, …)`.

    Parameters
    ----------
    space : SearchSpace
    function : callable
        Given architectures, shape (n, n_slots) of uint8, returns n values of the objective; NaN
        where there is none. What it raises counts as the failure of these n. With an executor of
        processes it must be picklable: a function of a module, or a `functools.partial` of one.
    objective : Objective
        What its values are; default: top-1, a fraction.
    source : str, optional
        Where the values come from, for fronts and for the journal; default: the function's name.
    batch : int
        Architectures asked together at most.
    executor : concurrent.futures.Executor, optional
        Asks many at once, in any order: a pool of processes here, Dask's or MPI's on a cluster.
        Searches do not depend on the order in which answers come. It stays open.
    checkpoint : path, optional
        Journal of everything asked, each answer on disk before the next question: what it holds is
        not asked again, by this process or a later one. Held while something is asked.
    retry_failed : bool
        Whether questions that the journal knows as failed are asked again.
    repeats : int
        Answers at most that a search may ask for about one architecture, if they differ: trainings
        with other initial weights, evaluations on other images. `pnag_fast.search.active` asks
        again where it is in doubt what belongs to the front. Default: each is asked once.
    noise : float, optional
        Standard deviation between answers about one architecture, in units of the objective; 0
        where they are always the same. Default: learnt from repeats, and 0 where there are none.

    Returns
    -------
    Oracle

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Names what is out of range.
    FileFormatError
        If `checkpoint` is no such journal.

    Examples
    --------
    >>> import pnag_fast as pf
    >>> space = pf.spaces.get("nasbench201")
    >>> convolutions = pf.accuracy.oracle(space, lambda archs: (archs == 4).mean(axis=1))
    >>> front = pf.search.random(space, convolutions, [pf.costs.macs(space)], evaluations=50)
    >>> front.evaluations, convolutions.n_known
    (50, 50)
    """
    require_space(space)
    if not callable(function):
        raise InvalidTypeError(
            "function should take a batch of architectures and return their values, found "
            f"{arguments.shown(function)}"
        )
    if not isinstance(objective, Objective):
        raise InvalidTypeError(
            "objective should be a pnag_fast.accuracy.Objective, found "
            f"{arguments.shown(objective)}"
        )
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise InvalidTypeError(
            "executor should be a concurrent.futures.Executor, or have its submit, found "
            f"{arguments.shown(executor)}"
        )
    if source is None:
        named = getattr(function, "func", function)  # a functools.partial names what it calls
        source = f"function {getattr(named, '__qualname__', type(named).__name__)}"
    elif not isinstance(source, str):
        raise InvalidTypeError(f"source should be a text, found {arguments.shown(source)}")
    return Oracle(
        space,
        function,
        objective,
        source,
        arguments.integer(batch, "batch", 1),
        executor,
        checkpoint,
        retry_failed=bool(retry_failed),
        repeats=arguments.integer(repeats, "repeats", 1),
        noise=None if noise is None else arguments.number(noise, "noise", 0),
    )
