"""Training that may be killed at any moment and goes on where it was.

A run is a sequence of named phases. One file holds the last state of every phase: a step and named
arrays. A phase that asks for its state at the start and keeps everything that it carries from step
to step ends with the same result whether it was interrupted or not. Of its randomness it keeps the
generator's state (`random_arrays`), or nothing, where step i draws from ``[seed, i]`` alone.

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

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import files
from .accuracy import AccuracyModel
from .costs import CostTable
from .errors import FileFormatError, InvalidInputError

if TYPE_CHECKING:
    from torch.optim import Optimizer

Arrays = dict[str, npt.NDArray[Any]]

CHECKPOINT_FORMAT = "pnag-generator-checkpoint"
CHECKPOINT_VERSION = 1

# Writing a few MB and syncing them takes tens of milliseconds; more often would cost percents.
WRITE_EVERY_S = 5.0


@dataclass(frozen=True)
class State:
    """Where a phase was: `step` steps are done, `arrays` is what it carried."""

    step: int
    arrays: Arrays


class Checkpoint:
    """The last state of every phase of one run, in a file or nowhere.

    Parameters
    ----------
    path : path, optional
        None keeps nothing.
    identity : dict
        What the result depends on, JSON values by the names that an error should use.

    Raises
    ------
    InvalidInputError
        If the file belongs to a run with another identity: names what differs.
    FileFormatError
        If the file is truncated, foreign, or from a newer version.
    """

    def __init__(
        self,
        path: files.StrPath | None,
        identity: Mapping[str, Any],
        *,
        write_every_s: float = WRITE_EVERY_S,
    ) -> None:
        self._path, self._every = path, write_every_s
        self._identity = json.loads(json.dumps(dict(identity)))
        self._states: dict[str, State] = {}
        self._written = time.monotonic()
        if path is not None and Path(path).exists():
            self._read(path)

    def restore(self, phase: str) -> State | None:
        """Return the last state of a phase, or None where it has not begun."""
        return self._states.get(phase)

    def keep(
        self, phase: str, step: int, arrays: Callable[[], Arrays], *, last: bool = False
    ) -> None:
        """Write the state of a phase after `step` steps, if the last write was long ago.

        Parameters
        ----------
        arrays : callable
            Returns what the phase carries; called only when it is written.
        last : bool
            The phase is over: write now.
        """
        if self._path is None or not (last or time.monotonic() - self._written >= self._every):
            return
        self._states[phase] = State(step, arrays())
        tensors = {
            f"{name}/{key}": array
            for name, state in self._states.items()
            for key, array in state.arrays.items()
        }
        body = {
            "identity": self._identity,
            "steps": {name: state.step for name, state in self._states.items()},
        }
        files.write_safetensors(self._path, CHECKPOINT_FORMAT, CHECKPOINT_VERSION, tensors, body)
        self._written = time.monotonic()

    def forget(self, phase: str) -> None:
        """Leave a phase out of what is written from now on."""
        self._states.pop(phase, None)

    def _read(self, path: files.StrPath) -> None:
        tensors, body = files.read_safetensors(path, CHECKPOINT_FORMAT, CHECKPOINT_VERSION)
        found = files.require(body, "identity", dict, path)
        changed = sorted(
            key for key in {*self._identity, *found} if found.get(key) != self._identity.get(key)
        )
        if changed:
            raise InvalidInputError(
                f"checkpoint '{path}' belongs to a run with other {', '.join(changed)}; use what "
                "that run used, choose another checkpoint path, or delete the file"
            )
        for phase, step in files.require(body, "steps", dict, path).items():
            if isinstance(step, bool) or not isinstance(step, int) or step < 0:
                raise FileFormatError(f"'{path}': phase '{phase}' has step {step!r}")
            self._states[phase] = State(step, {})
        for name, array in tensors.items():
            phase, _, key = name.partition("/")
            if phase not in self._states:
                raise FileFormatError(f"'{path}': array '{name}' belongs to no phase")
            self._states[phase].arrays[key] = array


def identity(
    method: str,
    seed: int,
    settings: Mapping[str, Any],
    model: AccuracyModel,
    tables: tuple[CostTable, ...],
) -> dict[str, Any]:
    """Return what a generator depends on, each by the name an error should use."""
    tensors, body = model.to_tensors()
    weights = hashlib.sha256()
    for name, array in sorted(tensors.items()):
        weights.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return {
        "method": method,
        "seed": seed,
        "settings": dict(settings),
        "space": tables[0].space.definition,
        "accuracy model": [weights.hexdigest(), body],
        "cost tables": [_digest(table.to_json()) for table in tables],
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def random_arrays(rng: np.random.Generator, prefix: str = "random") -> Arrays:
    """Return the state of a random generator as an array of bytes."""
    state = json.dumps(rng.bit_generator.state)
    return {prefix: np.frombuffer(state.encode(), dtype=np.uint8)}


def restore_random(rng: np.random.Generator, arrays: Arrays, prefix: str = "random") -> None:
    """Put back what `random_arrays` returned."""
    rng.bit_generator.state = json.loads(arrays[prefix].tobytes())


def optimiser_arrays(optimiser: Optimizer, prefix: str = "optimiser.") -> Arrays:
    """Return the moments and step counts of Adam as arrays; its rates are not kept."""
    return {
        f"{prefix}{index}.{name}": value.numpy().copy()
        for index, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_optimiser(optimiser: Optimizer, arrays: Arrays, prefix: str = "optimiser.") -> None:
    """Put back what `optimiser_arrays` returned."""
    import torch

    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, array in arrays.items():
        if name.startswith(prefix):
            index, _, key = name[len(prefix) :].partition(".")
            state.setdefault(int(index), {})[key] = torch.from_numpy(np.array(array))
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
