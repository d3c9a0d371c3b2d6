"""What a training run consists of between two steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pnag_fast import files
from pnag_fast.errors import FileFormatError, InvalidInputError
from pnag_fast.runs import Arrays, State

from .checkpoint import check_arrays, set_weights, weight_arrays
from .model import Arch, StaticNetwork, Supernet
from .recipes import Phase

# What `TrainingState.header` returns.
_STATE_KEYS = ("position", "losses", "seconds", "updates", "scaler", "teacher", "epochs")


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch did.

    Attributes
    ----------
    epoch : int
        Counted from 1, over all phases.
    loss : float
        Mean loss on the labels: of the first network of each step where the others learn from it,
        else of all; 0 where all learn from a fixed teacher.
    distillation_loss : float
        Mean loss of the networks that learn from another one's answers; from a fixed teacher, that
        on the labels included.
    learning_rate : float
        At the last step.
    seconds : float
        Wall time.
    phase : str
    """

    epoch: int
    loss: float
    distillation_loss: float
    learning_rate: float
    seconds: float
    phase: str = ""


@dataclass(frozen=True)
class Position:
    """The step that comes next."""

    phase: int = 0
    epoch: int = 0
    step: int = 0


class TrainingState:
    """Everything that changes while a supernet trains."""

    def __init__(self, net: Supernet, weight_decay: float, *, averaged: bool) -> None:
        self.net = net
        self.position = Position()
        self.records: list[EpochRecord] = []
        self.losses = np.zeros(2)
        self.seconds = 0.0
        self.scaler: torch.amp.GradScaler | None = None
        self.teacher: StaticNetwork | None = None
        self.teacher_arch: Arch | None = None
        self.averaged = averaged
        self._weight_decay = weight_decay
        self._start_phase()

    def _start_phase(self) -> None:
        self.optimizer = _optimizer(self.net, self._weight_decay)
        self.updates = 0
        self.average: dict[str, Tensor] = {}
        if self.averaged:
            self.average = {name: t.detach().clone() for name, t in _learned(self.net).items()}

    def scaled(self, loss: Tensor) -> Tensor:
        """Scale a loss so that its gradients do not vanish in float16."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def clip(self, limit: float) -> Tensor:
        """Limit the norm of all gradients together; returns what it was."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        return torch.nn.utils.clip_grad_norm_(self.net.parameters(), limit)

    def update(self, decay: float) -> None:
        """Take a step, and move the average of the weights towards them."""
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.updates += 1
        if self.averaged:
            # A young average forgets faster, or it would keep what the weights started from.
            decay = min(decay, (1 + self.updates) / (10 + self.updates))
            learned = _learned(self.net)
            with torch.no_grad():
                for name, average in self.average.items():
                    average.lerp_(learned[name].detach(), 1 - decay)

    def record(self, phase: Phase, learning_rate: float, steps: int, seconds: float) -> None:
        """Add an epoch to the records."""
        loss, distillation = (self.losses / steps).tolist()
        number = len(self.records) + 1
        self.records.append(
            EpochRecord(number, loss, distillation, learning_rate, seconds, phase.name)
        )

    def end_phase(self) -> None:
        """Let the average, if there is one, take the place of the weights; start afresh."""
        with torch.no_grad():
            for name, tensor in _learned(self.net).items():
                if name in self.average:
                    tensor.copy_(self.average[name])
        self.position = Position(self.position.phase + 1, 0, 0)
        self._start_phase()

    def keep_teacher(self, arch: Arch) -> None:
        """Set the network aside that all others learn from, unless there is one."""
        if self.teacher is None:
            self.teacher_arch = arch
            self.teacher = self.net.extract(arch)

    def arrays(self) -> Arrays:
        """Return the state as arrays."""
        arrays: Arrays = {f"net.{name}": a for name, a in weight_arrays(self.net).items()}
        for name, parameter in self.net.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                arrays[f"optimizer.{key}.{name}"] = value.detach().cpu().numpy()
        for name, average in self.average.items():
            arrays[f"average.{name}"] = average.cpu().numpy()
        if self.teacher is not None:
            for name, tensor in _learned(self.teacher).items():
                arrays[f"teacher.{name}"] = tensor.detach().cpu().numpy()
        return arrays

    def header(self) -> dict[str, Any]:
        """Return the rest of the state, for JSON."""
        return {
            "position": asdict(self.position),
            "losses": self.losses.tolist(),
            "seconds": self.seconds,
            "updates": self.updates,
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "teacher": None if self.teacher_arch is None else self.teacher_arch.tolist(),
            "epochs": [asdict(record) for record in self.records],
        }

    def restore(self, saved: State, path: files.StrPath, epochs: Sequence[int], steps: int) -> None:
        """Put what `arrays` and `header` returned back, once all of it is checked.

        Parameters
        ----------
        saved : State
            Its steps are epochs.
        path : path
            Where it comes from, for errors.
        epochs : sequence of int
            Of each phase.
        steps : int
            Of an epoch.
        """
        header = saved.header
        files.check_keys(header, _STATE_KEYS, path)
        position, records = _position(header, path), _records(header, path)
        losses = np.array(
            [
                files.number(loss, f"'{path}': field 'losses[{i}]'")
                for i, loss in enumerate(
                    files.require_each(header, "losses", (int, float), path, length=2)
                )
            ],
            dtype=np.float64,
        )
        updates = files.integer(header.get("updates"), f"'{path}': field 'updates'", low=0)
        seconds = files.number(header.get("seconds"), f"'{path}': field 'seconds'", low=0)
        teacher_arch = _teacher(header, self.net, path)
        scaler = _scaler(header, path)
        done = sum(epochs[: position.phase]) + position.epoch
        if (
            position.phase > len(epochs)
            or position.epoch > (epochs[position.phase] if position.phase < len(epochs) else 0)
            or not len(records) == saved.step == done
            or not 0 <= position.step < steps
        ):
            raise FileFormatError(
                f"'{path}' lists {len(records)} epochs and is at step {position.step} of epoch "
                f"{done + 1}"
            )
        teacher = None
        if teacher_arch is not None:
            teacher = StaticNetwork(self.net.layers(teacher_arch))
        parts = {"net": {}, "optimizer": {}, "average": {}, "teacher": {}}  # type: dict[str, Arrays]
        for name, array in saved.arrays.items():
            part, _, rest = name.partition(".")
            parts.get(part, parts["net"])[rest if part in parts else name] = array
        self._check(parts, teacher, path)
        set_weights(self.net, parts["net"], path)
        device = next(self.net.parameters()).device
        tensors = {
            part: {n: torch.from_numpy(np.array(a)).to(device) for n, a in members.items()}
            for part, members in parts.items()
            if part != "net"
        }
        self.position, self.records, self.losses = position, records, losses
        self.updates, self.seconds = updates, seconds
        self.optimizer = _optimizer(self.net, self._weight_decay)
        for name, parameter in self.net.named_parameters():
            if f"step.{name}" in tensors["optimizer"]:
                self.optimizer.state[parameter] = {
                    # The step is a scalar on the CPU; safetensors stores it with one axis.
                    "step": tensors["optimizer"][f"step.{name}"].cpu().reshape(()),
                    "exp_avg": tensors["optimizer"][f"exp_avg.{name}"],
                    "exp_avg_sq": tensors["optimizer"][f"exp_avg_sq.{name}"],
                }
        self.average = tensors["average"]
        if teacher is not None:
            counters = {
                name: torch.zeros((), dtype=torch.long)
                for name in teacher.state_dict()
                if name.endswith("num_batches_tracked")
            }
            teacher.load_state_dict({**tensors["teacher"], **counters}, assign=True)
            self.teacher, self.teacher_arch = teacher.eval().to(device), teacher_arch
        if self.scaler is not None and scaler:
            self.scaler.load_state_dict(scaler)

    def _check(
        self, parts: Mapping[str, Arrays], teacher: StaticNetwork | None, path: files.StrPath
    ) -> None:
        moments: dict[str, tuple[int, ...]] = {}
        for name, parameter in self.net.named_parameters():
            # A weight that no network has used yet has no state.
            if f"step.{name}" in parts["optimizer"]:
                moments[f"step.{name}"] = (1,)
                moments |= {
                    f"{k}.{name}": tuple(parameter.shape) for k in ("exp_avg", "exp_avg_sq")
                }
        check_arrays(parts["optimizer"], moments, path, "a training checkpoint")
        shapes = {name: tuple(t.shape) for name, t in self.average.items()}
        check_arrays(parts["average"], shapes, path, "a training checkpoint with an average")
        shapes = (
            {} if teacher is None else {n: tuple(t.shape) for n, t in _learned(teacher).items()}
        )
        check_arrays(parts["teacher"], shapes, path, "a training checkpoint with a teacher")


def _position(header: Mapping[str, Any], path: files.StrPath) -> Position:
    found = files.require(header, "position", dict, path)
    keys = [field.name for field in fields(Position)]
    files.check_keys(found, keys, path, within="position")
    return Position(
        *(files.integer(found.get(k), f"'{path}': field 'position.{k}'", low=0) for k in keys)
    )


def _records(header: Mapping[str, Any], path: files.StrPath) -> list[EpochRecord]:
    records = []
    for i, found in enumerate(files.require_each(header, "epochs", dict, path)):
        within = f"epochs[{i}]"
        files.check_keys(found, [f.name for f in fields(EpochRecord)], path, within=within)
        numbers = {
            key: files.number(found.get(key), f"'{path}': field '{within}.{key}'")
            for key in ("loss", "distillation_loss", "learning_rate", "seconds")
        }
        epoch = files.integer(found.get("epoch"), f"'{path}': field '{within}.epoch'", low=1)
        phase = files.require({"phase": "", **found}, "phase", str, path, within=within)
        records.append(EpochRecord(epoch=epoch, **numbers, phase=phase))
    return records


def _teacher(header: Mapping[str, Any], net: Supernet, path: files.StrPath) -> Arch | None:
    if header.get("teacher") is None:
        return None
    codes = files.require_each(header, "teacher", int, path, length=net.space.n_slots)
    for i, code in enumerate(codes):
        files.integer(code, f"'{path}': field 'teacher[{i}]'", low=0, high=255)
    arch = np.array(codes, dtype=np.uint8)
    try:
        net.space.validate(arch[np.newaxis])
    except InvalidInputError as error:
        raise FileFormatError(f"'{path}': field 'teacher' is no architecture: {error}") from error
    return arch


def _scaler(header: Mapping[str, Any], path: files.StrPath) -> dict[str, Any] | None:
    if not header.get("scaler"):
        return None
    found: dict[str, Any] = files.require(header, "scaler", dict, path)
    known = torch.amp.GradScaler("cpu").state_dict()
    files.check_keys(found, known, path, within="scaler")
    for key, value in known.items():
        what = f"'{path}': field 'scaler.{key}'"
        if isinstance(value, int):
            files.integer(found.get(key), what, low=0)
        else:
            # A scale of 0 or less would make all gradients nothing, or turn them.
            files.number(found.get(key), what, low=5e-324)
    return found


def _optimizer(net: Supernet, weight_decay: float) -> torch.optim.AdamW:
    # Decay pulls towards zero: right for filters, wrong for scales, shifts and kernel transforms,
    # which start as identities.
    decayed: list[torch.nn.Parameter] = []
    free: list[torch.nn.Parameter] = []
    for name, parameter in net.named_parameters():
        filters = parameter.ndim in (2, 4) and "transforms" not in name
        (decayed if filters else free).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups)


def _learned(net: torch.nn.Module) -> dict[str, Tensor]:
    """Weights and statistics; with a fixed momentum the number of batches seen plays no part."""
    state = net.state_dict()
    return {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}
