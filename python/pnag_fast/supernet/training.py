"""Training a supernet: one loop, and recipes that say which networks learn at each step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name that every torch user knows
from torch import Tensor

from pnag_fast import files
from pnag_fast.data import ImageData
from pnag_fast.errors import FileFormatError, InvalidInputError, TrainingError
from pnag_fast.progress import ProgressCallback, ignore_progress
from pnag_fast.spaces import Archs, SearchSpace

from .checkpoint import check_arrays, set_weights, weight_arrays
from .evaluation import check_data, resized
from .model import Supernet, extremes

TRAINING_FORMAT = "pnag-training"
TRAINING_VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """Which networks learn at each step, and from what.

    Attributes
    ----------
    name : str
    draw : callable
        ``draw(space, n_random, seed)`` returns the architectures of one step, shape
        ``(n, n_slots)``. The first learns from the labels, the others from the soft answers of the
        first (in-place distillation).
    """

    name: str
    draw: Callable[[SearchSpace, int, int], Archs]


def _draw_sandwich(space: SearchSpace, n_random: int, seed: int) -> Archs:
    smallest, largest = extremes(space)
    # Decisions, not architectures: almost all architectures are of full depth.
    random = space.sample(n_random, seed=seed, distribution="decisions", threads=1)
    return np.concatenate([largest[np.newaxis], smallest[np.newaxis], random])


def _draw_one(space: SearchSpace, _: int, seed: int) -> Archs:
    return space.sample(1, seed=seed, distribution="decisions", threads=1)


RECIPES: dict[str, Recipe] = {
    # Yu et al., BigNAS (ECCV 2020), section 3.1: sandwich rule and in-place distillation.
    "sandwich": Recipe("sandwich", _draw_sandwich),
    # Guo et al., Single Path One-Shot (ECCV 2020): one random network a step, from the labels.
    "single-path": Recipe("single-path", _draw_one),
}

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch did.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    loss : float
        Mean loss of the first network of each step (of ``sandwich``: the largest) on the labels.
    distillation_loss : float
        Mean cross-entropy of the other networks with the answers of the first.
    learning_rate : float
        At the last step.
    seconds : float
        Wall time.
    """

    epoch: int
    loss: float
    distillation_loss: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class TrainingLog:
    """A finished training.

    Attributes
    ----------
    recipe : str
    epochs : tuple of EpochRecord
        All epochs, those before an interruption included.
    resumed_after : int
        Epochs that a checkpoint had already done; 0 for a run from the start.
    """

    recipe: str
    epochs: tuple[EpochRecord, ...]
    resumed_after: int


@dataclass(frozen=True)
class _Options:
    """Everything that the weights depend on, besides data and starting weights."""

    recipe: str
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_epochs: float
    label_smoothing: float
    gradient_clip: float
    n_random: int
    max_shift: int
    flip: bool
    precision: str
    seed: int

    def learning_rate_at(self, step: int, steps_per_epoch: int) -> float:
        """Linear warm-up, then half a cosine down to zero."""
        total = self.epochs * steps_per_epoch
        warmup = min(self.warmup_epochs * steps_per_epoch, total / 2)
        if step < warmup:
            return self.learning_rate * (step + 1) / (warmup + 1)
        return self.learning_rate * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


def train(  # noqa: PLR0915 - one loop, read from top to bottom
    net: Supernet,
    data: ImageData,
    *,
    recipe: str = "sandwich",
    epochs: int = 24,
    batch_size: int = 64,
    learning_rate: float = 8e-3,
    weight_decay: float = 1e-2,
    warmup_epochs: float = 1.0,
    label_smoothing: float = 0.1,
    gradient_clip: float = 5.0,
    n_random: int = 2,
    max_shift: int = 1,
    flip: bool = False,
    precision: str = "float32",
    seed: int = 0,
    checkpoint: files.StrPath | None = None,
    progress: ProgressCallback = ignore_progress,
) -> TrainingLog:
    """Train the shared weights of a supernet on the training split.

    Every step trains several sub-networks on the same images and adds up their gradients. The
    optimiser is AdamW. With one machine, seed, torch release and thread count the weights are the
    same in every run; torch's global generator is neither read nor changed.

    Parameters
    ----------
    net : Supernet
        Changed in place, and left in evaluation mode.
    data : ImageData
    recipe : {"sandwich", "single-path"}
        ``sandwich``: the largest and the smallest network and `n_random` others at each step; all
        but the largest learn its soft answers. ``single-path``: one random network a step.
    epochs : int
        Passes over the training images.
    batch_size : int
        Images per step. The last, incomplete batch of an epoch is left out.
    learning_rate, weight_decay : float
        Peak rate, reached after `warmup_epochs` and then lowered to 0 along a cosine; decay applies
        to convolution and linear weights only.
    label_smoothing : float
        Share of the target spread over all classes, 0 up to but not including 1.
    gradient_clip : float
        Largest norm of all gradients together, before it is scaled down.
    max_shift : int
        Images are moved by up to so many pixels each way, drawn for each image anew.
    flip : bool
        Mirror half of the images. Not for digits or letters.
    precision : {"float32", "bfloat16"}
        Of the layers' arithmetic; weights and sums stay float32.
    seed : int
        Of batches, augmentation and drawn architectures.
    checkpoint : path, optional
        Written after each epoch, atomically. Where it exists the run goes on from it, and ends with
        the weights of a run that was never interrupted. It must come from the same space, data and
        options.
    progress : callable
        Called after each step.

    Returns
    -------
    TrainingLog

    Raises
    ------
    InvalidInputError
        If an option is out of range, or a checkpoint belongs to another run.
    DataError
        If images and supernet do not fit together.
    FileFormatError
        If the checkpoint is truncated or foreign.
    TrainingError
        If a loss or gradient is not finite. The checkpoint then holds the last good epoch.
    """
    options = _checked_options(
        _Options(
            recipe=recipe,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            warmup_epochs=warmup_epochs,
            label_smoothing=label_smoothing,
            gradient_clip=gradient_clip,
            n_random=n_random,
            max_shift=max_shift,
            flip=flip,
            precision=precision,
            seed=seed,
        )
    )
    check_data(net, data)
    batch_size = min(batch_size, len(data.train))
    steps = len(data.train) // batch_size
    device = next(net.parameters()).device
    images = torch.from_numpy(data.train.images.transpose(0, 3, 1, 2).copy()).to(device)
    labels = torch.from_numpy(data.train.labels.copy()).to(device)
    optimizer = _optimizer(net, options)
    records: list[EpochRecord] = []
    saved = None if checkpoint is None else _Checkpoint(checkpoint, net, optimizer)
    identity = {
        "space": net.space.definition,
        "options": asdict(options),
        "data": data.fingerprint,
    }
    if saved is not None:
        records = saved.read(identity, options.epochs)
    resumed_after = len(records)

    mixed = precision != "float32"
    net.train()
    for epoch in range(len(records), options.epochs):
        started = time.perf_counter()
        losses = np.zeros(2)
        # Drawn anew from (seed, epoch), so that a resumed run needs no random state.
        generator = torch.Generator().manual_seed(_derived_seed(options.seed, epoch))
        order = torch.randperm(len(labels), generator=generator)
        for step in range(steps):
            chosen = order[step * batch_size : (step + 1) * batch_size].to(device)
            batch = _augmented(images[chosen], options, generator)
            target = labels[chosen]
            archs = RECIPES[recipe].draw(
                net.space, options.n_random, _derived_seed(options.seed, epoch, step)
            )
            rate = options.learning_rate_at(epoch * steps + step, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate

            optimizer.zero_grad(set_to_none=True)
            teacher: Tensor | None = None
            for arch in archs:
                net.set_active(arch)
                with torch.autocast(device.type, PRECISIONS[precision], enabled=mixed):
                    logits = net(resized(batch, net.space.resolution_of(arch)))
                logits = logits.float()
                if teacher is None:
                    loss = F.cross_entropy(logits, target, label_smoothing=options.label_smoothing)
                    teacher = logits.detach().softmax(dim=1)
                    losses[0] += _finite(loss, "loss", epoch, step)
                else:
                    loss = F.cross_entropy(logits, teacher)
                    losses[1] += _finite(loss, "loss", epoch, step) / (len(archs) - 1)
                loss.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(net.parameters(), options.gradient_clip)
            _finite(norm, "gradient", epoch, step)
            optimizer.step()
            progress("training the supernet", epoch * steps + step + 1, options.epochs * steps)

        seconds = time.perf_counter() - started
        mean = (losses / steps).tolist()
        records.append(EpochRecord(epoch + 1, mean[0], mean[1], rate, seconds))
        if saved is not None:
            saved.write(identity, records)
    net.set_active(extremes(net.space)[1])
    net.eval()
    return TrainingLog(options.recipe, tuple(records), resumed_after)


def _optimizer(net: Supernet, options: _Options) -> torch.optim.AdamW:
    # Decay pulls towards zero: right for filters, wrong for scales, shifts and kernel transforms,
    # which start as identities.
    decayed: list[torch.nn.Parameter] = []
    free: list[torch.nn.Parameter] = []
    for name, parameter in net.named_parameters():
        filters = parameter.ndim in (2, 4) and "transforms" not in name
        (decayed if filters else free).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": options.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.learning_rate)


def _augmented(batch: Tensor, options: _Options, generator: torch.Generator) -> Tensor:
    """Normalise uint8 images ``(b, c, h, w)``, move each at random and mirror some."""
    n, _, height, width = batch.shape
    # The same operations as `pnag_fast.data.normalize`, to the last bit.
    x = batch.to(torch.float32).div_(127.5).sub_(1)
    if options.max_shift or options.flip:
        shift = options.max_shift
        dy, dx = torch.randint(-shift, shift + 1, (2, n, 1), generator=generator)
        # Pixels beyond an edge repeat it, so a shift leaves no frame behind.
        rows = (torch.arange(height) + dy).clamp(0, height - 1)
        columns = (torch.arange(width) + dx).clamp(0, width - 1)
        if options.flip:
            mirrored = torch.rand((n, 1), generator=generator) < 0.5
            columns = torch.where(mirrored, width - 1 - columns, columns)
        rows, columns = rows.to(x.device), columns.to(x.device)
        image = torch.arange(n, device=x.device)[:, None, None]
        x = x.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return x.contiguous(memory_format=torch.channels_last)


def _finite(value: Tensor, what: str, epoch: int, step: int) -> float:
    number = float(value.detach())
    if not math.isfinite(number):
        raise TrainingError(
            f"the {what} became {number} in epoch {epoch + 1}, step {step + 1}; nothing was "
            "written for this epoch: lower learning_rate, or check the images"
        )
    return number


def _derived_seed(*path: int) -> int:
    """Hash a seed and counters into an independent 64-bit seed."""
    return int(np.random.SeedSequence(path).generate_state(1, np.uint64)[0])


# --- checkpoints ----------------------------------------------------------------------------------


class _Checkpoint:
    """A file from which a run goes on, and the checks that it is this run's."""

    def __init__(
        self, path: files.StrPath, net: Supernet, optimizer: torch.optim.Optimizer
    ) -> None:
        self._path = path
        self._net = net
        self._optimizer = optimizer

    def write(self, identity: Mapping[str, Any], records: Sequence[EpochRecord]) -> None:
        """Write weights, optimiser state and records, atomically."""
        tensors: dict[str, npt.NDArray[Any]] = {
            f"net.{name}": array for name, array in weight_arrays(self._net).items()
        }
        for name, parameter in self._net.named_parameters():
            for key, value in self._optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value.detach().cpu().numpy()
        body = {**identity, "epochs": [asdict(record) for record in records]}
        files.write_safetensors(self._path, TRAINING_FORMAT, TRAINING_VERSION, tensors, body)

    def read(self, identity: Mapping[str, Any], epochs: int) -> list[EpochRecord]:
        """Put a checkpoint, if there is one, into network and optimiser, once all is checked."""
        if not Path(self._path).exists():
            return []
        arrays, header = files.read_safetensors(self._path, TRAINING_FORMAT, TRAINING_VERSION)
        for key, value in identity.items():
            if header.get(key) != value:
                raise InvalidInputError(
                    f"checkpoint '{self._path}' belongs to a run with other {key}"
                    + _difference(header.get(key), value)
                    + "; use what that run used, another checkpoint path, or delete the file"
                )
        try:
            records = [EpochRecord(**record) for record in header["epochs"]]
        except (KeyError, TypeError) as error:
            raise FileFormatError(
                f"'{self._path}' has no valid list of epochs ({error!r})"
            ) from error
        if not 1 <= len(records) <= epochs:
            raise FileFormatError(f"'{self._path}' lists {len(records)} epochs of {epochs}")
        state = self._checked_state(arrays)
        weights = {n.removeprefix("net."): a for n, a in arrays.items() if n.startswith("net.")}
        set_weights(self._net, weights, self._path)
        for name, parameter in self._net.named_parameters():
            if f"optimizer.step.{name}" in state:
                self._optimizer.state[parameter] = {
                    # The step is a scalar; safetensors stores it with one axis.
                    "step": torch.tensor(float(state[f"optimizer.step.{name}"][0])),
                    "exp_avg": _copied(state[f"optimizer.exp_avg.{name}"], parameter),
                    "exp_avg_sq": _copied(state[f"optimizer.exp_avg_sq.{name}"], parameter),
                }
        return records

    def _checked_state(self, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
        expected: dict[str, tuple[int, ...]] = {}
        for name, parameter in self._net.named_parameters():
            # A weight that no network has used yet has no state.
            if f"optimizer.step.{name}" in arrays:
                shape = tuple(parameter.shape)
                expected[f"optimizer.step.{name}"] = (1,)
                expected |= {f"optimizer.{k}.{name}": shape for k in ("exp_avg", "exp_avg_sq")}
        state = {name: array for name, array in arrays.items() if not name.startswith("net.")}
        check_arrays(state, expected, self._path, "a training checkpoint")
        return state


def _copied(array: npt.NDArray[Any], parameter: Tensor) -> Tensor:
    return torch.from_numpy(array.copy()).to(parameter.device)


def _difference(found: object, expected: object) -> str:
    if not isinstance(found, dict) or not isinstance(expected, dict):
        return ""
    changed = [key for key in expected if found.get(key) != expected[key]]
    return "".join(f" ({key} {found.get(key)!r}, now {expected[key]!r})" for key in changed[:1])


# --- checks ---------------------------------------------------------------------------------------


def _checked_options(options: _Options) -> _Options:
    if options.recipe not in RECIPES:
        raise InvalidInputError(
            f"unknown recipe {options.recipe!r}; this release has {', '.join(RECIPES)}"
        )
    if options.precision not in PRECISIONS:
        raise InvalidInputError(
            f"unknown precision {options.precision!r}; choose one of {', '.join(PRECISIONS)}"
        )
    for name, lowest in (
        ("epochs", 1),
        ("batch_size", 2),
        ("n_random", 0),
        ("max_shift", 0),
        ("seed", 0),
    ):
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            raise InvalidInputError(
                f"{name} should be an integer of at least {lowest}, found {value!r}"
            )
    for name in ("learning_rate", "weight_decay", "warmup_epochs", "gradient_clip"):
        value = getattr(options, name)
        positive = name in ("learning_rate", "gradient_clip")
        if not math.isfinite(value) or value < 0 or (positive and value == 0):
            raise InvalidInputError(
                f"{name} should be a finite number {'above' if positive else 'of at least'} 0, "
                f"found {value!r}"
            )
    if not 0 <= options.label_smoothing < 1:
        raise InvalidInputError(
            f"label_smoothing should be from 0 to below 1, found {options.label_smoothing!r}"
        )
    return options
