"""Work with steps that may be killed at any moment and goes on where it was.

A run is a sequence of named phases. One file holds the last state of every phase: a step, named
arrays, and a header of JSON values. A phase that asks for its state at the start and keeps all that
it carries from step to step ends with the same result whether it was interrupted or not. Of its
randomness it keeps the generator's state (`random_arrays`), or nothing, where step i draws from
``[seed, i]`` alone.

Examples
--------
>>> checkpoint = Checkpoint(None, {})  # no file: nothing is kept, nothing restored
>>> state = checkpoint.restore("policy")
>>> weights = np.zeros(3) if state is None else state.arrays["weights"]
>>> for step in range(0 if state is None else state.step, 5):
...     weights = weights + np.random.default_rng([0, step]).normal(size=3)
...     checkpoint.keep("policy", step + 1, lambda: {"weights": weights}, last=step == 4)
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import files, strict_json
from ..errors import FileFormatError, InvalidInputError, OtherRunError
from ..spaces import Archs, SearchSpace
from ..strict_json import shorten
from .identity import differences

if TYPE_CHECKING:
    from torch.optim import Optimizer

Arrays = dict[str, npt.NDArray[Any]]

CHECKPOINT_FORMAT = "pnag-checkpoint"
CHECKPOINT_VERSION = 1

# What releases before wrote, and until which version: searches and generators, and supernets.
_GENERATORS, _SUPERNETS = "pnag-generator-checkpoint", "pnag-training"
_FORMER = {_GENERATORS: 1, _SUPERNETS: 2}

_MOST_STEPS = 1 << 53

# Writing a few MB and syncing them takes tens of milliseconds; more often would cost percents.
WRITE_EVERY_S = 5.0


@dataclass(frozen=True)
class State:
    """Where a phase was: `step` steps are done, `arrays` and `header` are what it carried.

    What comes from a file is whatever somebody wrote: a phase takes its arrays through `take`.
    """

    step: int
    arrays: Arrays
    where: str = "the state"
    header: dict[str, Any] = field(default_factory=dict)

    def take(
        self, name: str, dtype: npt.DTypeLike, shape: tuple[int | None, ...]
    ) -> npt.NDArray[Any]:
        """Return an array, checked for its type, its shape (None: any length) and being finite.

        Raises
        ------
        FileFormatError
            If it is another, or not there.
        """
        array = self.arrays.get(name)
        if array is None:
            raise FileFormatError(f"{self.where} lacks the array '{name}'; delete the file")
        fits = array.ndim == len(shape) and all(
            n is None or n == m for n, m in zip(shape, array.shape, strict=True)
        )
        if not fits or array.dtype != dtype:
            wanted = tuple("any" if n is None else n for n in shape)
            raise FileFormatError(
                f"{self.where}: array '{name}' should be {np.dtype(dtype)} of shape {wanted}, "
                f"found {array.dtype} of shape {array.shape}; delete the file"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FileFormatError(
                f"{self.where}: array '{name}' has values that are not finite; delete the file"
            )
        return array

    def take_archs(self, name: str, space: SearchSpace, n: int | None = None) -> Archs:
        """Return architectures of a space, at least one."""
        archs: Archs = self.take(name, np.uint8, (n, space.n_slots))
        try:
            if len(archs) == 0:
                raise InvalidInputError("there is none")
            space.validate(archs)
        except InvalidInputError as error:
            raise FileFormatError(
                f"{self.where}: array '{name}' is no architectures of '{space.name}' ({error}); "
                "delete the file"
            ) from error
        return archs

    def check_step(self, last: int) -> int:
        """Return how many steps are done, checked to be at most `last`."""
        if self.step > last:
            raise FileFormatError(f"{self.where} is at step {self.step} of {last}; delete the file")
        return self.step


class Checkpoint:
    """The last state of every phase of one run, in a file or nowhere.

    Parameters
    ----------
    path : path, optional
        None keeps nothing.
    identity : dict
        What the result depends on, JSON values by the names that an error should use.
    write_every_s : float
        How long `keep` waits after it has written; ``inf`` for writing by `last` alone.
    writes : bool
        Of several processes that do the same all read the file, and one writes it.

    Raises
    ------
    OtherRunError
        If the file belongs to a run with another identity: says what differs.
    FileFormatError
        If the file is truncated, foreign, or from a newer version.
    """

    def __init__(
        self,
        path: files.StrPath | None,
        identity: Mapping[str, Any],
        *,
        write_every_s: float = WRITE_EVERY_S,
        writes: bool = True,
    ) -> None:
        self._path, self._every, self._writes = path, write_every_s, writes
        self._identity = json.loads(json.dumps(dict(identity)))
        self._states: dict[str, State] = {}
        self._written = time.monotonic()
        if path is not None and Path(path).exists():
            self._read(path)

    def restore(self, phase: str) -> State | None:
        """Return the last state of a phase, or None where it has not begun."""
        return self._states.get(phase)

    def keep(
        self,
        phase: str,
        step: int,
        arrays: Callable[[], Arrays],
        *,
        header: Callable[[], Mapping[str, Any]] = dict,
        last: bool = False,
    ) -> None:
        """Write the state of a phase after `step` steps, if the last write was long ago.

        Parameters
        ----------
        arrays : callable
            Returns what the phase carries; called only when it is written.
        header : callable
            Returns the rest of it, JSON values by name; called as `arrays` is.
        last : bool
            The phase is over, or at a place that should not be lost: write now.
        """
        if self._path is None or not self._writes:
            return
        if not (last or time.monotonic() - self._written >= self._every):
            return
        self._states[phase] = State(step, arrays(), header=dict(header()))
        tensors = {
            f"{name}/{key}": array
            for name, state in self._states.items()
            for key, array in state.arrays.items()
        }
        body = {
            "identity": self._identity,
            "phases": {
                name: {"step": state.step, "header": state.header}
                for name, state in self._states.items()
            },
        }
        files.write_safetensors(self._path, CHECKPOINT_FORMAT, CHECKPOINT_VERSION, tensors, body)
        self._written = time.monotonic()

    def _read(self, path: files.StrPath) -> None:
        tensors, body = files.read_safetensors(
            path, CHECKPOINT_FORMAT, CHECKPOINT_VERSION, former=_FORMER
        )
        if body["format"] == _GENERATORS:
            body = _of_generators(body, path)
        elif body["format"] == _SUPERNETS:
            tensors, body = _of_supernets(tensors, body, path)
        files.check_keys(body, ("identity", "phases"), path)
        found = files.require(body, "identity", dict, path)
        if differing := differences(found, self._identity):
            raise OtherRunError(
                f"checkpoint '{path}' belongs to a run with other {differing}; use what that run "
                "used, choose another checkpoint path, or delete the file"
            )
        phases = files.require(body, "phases", dict, path)
        for phase in phases:
            within, where = f"phases.{shorten(phase)}", f"'{path}': phase {shorten(phase)}"
            state = files.require(phases, phase, dict, path, within="phases")
            files.check_keys(state, ("step", "header"), path, within=within)
            step = files.integer(state.get("step"), f"{where}: the step", low=0, high=_MOST_STEPS)
            header = files.require(state, "header", dict, path, within=within)
            self._states[phase] = State(step, {}, where, header)
        for name, array in tensors.items():
            phase, _, key = name.partition("/")
            if phase not in self._states:
                raise FileFormatError(f"'{path}': array {shorten(name)} belongs to no phase")
            self._states[phase].arrays[key] = array


def _of_generators(body: Mapping[str, Any], path: files.StrPath) -> dict[str, Any]:
    files.check_keys(body, ("identity", "steps"), path)
    steps = files.require(body, "steps", dict, path)
    return {
        "identity": files.require(body, "identity", dict, path),
        "phases": {phase: {"step": step, "header": {}} for phase, step in steps.items()},
    }


def _of_supernets(
    tensors: Arrays, body: Mapping[str, Any], path: files.StrPath
) -> tuple[Arrays, dict[str, Any]]:
    """Sort what was one level: the identity of the run, and the header of its one phase."""
    known = ("space", "options", "phases", "data")
    header = {k: v for k, v in body.items() if k not in (*known, *files.HEADER_KEYS)}
    epochs = files.require(body, "epochs", list, path)
    return {f"training/{name}": array for name, array in tensors.items()}, {
        "identity": {key: body[key] for key in known if key in body},
        "phases": {"training": {"step": len(epochs), "header": header}},
    }


def random_arrays(rng: np.random.Generator, prefix: str = "random") -> Arrays:
    """Return the state of a random generator as an array of bytes."""
    state = json.dumps(rng.bit_generator.state)
    return {prefix: np.frombuffer(state.encode(), dtype=np.uint8)}


def restore_random(rng: np.random.Generator, state: State, prefix: str = "random") -> None:
    """Put back what `random_arrays` returned."""
    raw = state.take(prefix, np.uint8, (None,)).tobytes()
    try:
        rng.bit_generator.state = strict_json.parse(raw)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FileFormatError(
            f"{state.where}: array '{prefix}' is no state of {type(rng.bit_generator).__name__} "
            f"({error}); delete the file"
        ) from error


def optimiser_arrays(optimiser: Optimizer, prefix: str = "optimiser.") -> Arrays:
    """Return the moments and step counts of Adam as arrays; its rates are not kept."""
    return {
        f"{prefix}{index}.{name}": value.numpy().copy()
        for index, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_optimiser(optimiser: Optimizer, state: State, prefix: str = "optimiser.") -> None:
    """Put back what `optimiser_arrays` returned."""
    import torch

    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    known = {name for name in state.arrays if name.startswith(prefix)}
    restored: dict[int, dict[str, torch.Tensor]] = {}
    for index, weight in enumerate(weights):
        # A weight that nothing has used yet has no moments.
        if not any(name.startswith(f"{prefix}{index}.") for name in known):
            continue
        moments = {}
        for key in ("exp_avg", "exp_avg_sq"):
            moments[key] = state.take(f"{prefix}{index}.{key}", np.float32, tuple(weight.shape))
        if (moments["exp_avg_sq"] < 0).any():
            raise FileFormatError(f"{state.where}: a square is negative; delete the file")
        # A number becomes an array of one axis in a file.
        axes = (None,) * state.arrays.get(f"{prefix}{index}.step", np.zeros(())).ndim
        moments["step"] = state.take(f"{prefix}{index}.step", np.float32, axes)
        if moments["step"].size != 1 or not (moments["step"] >= 1).all():
            raise FileFormatError(f"{state.where}: the optimiser's step is none; delete the file")
        known -= {f"{prefix}{index}.{key}" for key in moments}
        restored[index] = {k: torch.from_numpy(np.array(array)) for k, array in moments.items()}
    if known:
        raise FileFormatError(
            f"{state.where}: array {shorten(min(known))} is none of the optimiser; delete the file"
        )
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": restored, "param_groups": groups})
