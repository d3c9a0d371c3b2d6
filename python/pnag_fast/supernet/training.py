"""Training a supernet: one loop; a recipe says which networks learn at each step and from what."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that every torch user knows
from torch import Tensor

from pnag_fast import arguments, files
from pnag_fast.data import ImageData
from pnag_fast.errors import InvalidInputError, MemoryShortageError, TrainingError
from pnag_fast.progress import ProgressCallback, ignore_progress
from pnag_fast.runs import Checkpoint

from . import distributed
from .augmentation import Augmentation
from .evaluation import accuracy, check_data, recalibrate, resized
from .machine import helpful_threads, require_precision
from .model import Arch, Supernet, extremes
from .recipes import Phase, plan
from .resume import EpochRecord, Position, TrainingState
from .sorting import sort_channels
from .trained_on import remember

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

# Validation images that say whether a network has learned anything.
_JUDGED = 1000


# An epoch may take hours. Writing takes a second or two where a supernet is that large.
WRITE_EVERY_S = 120.0


@dataclass(frozen=True)
class TrainingLog:
    """A finished training.

    Attributes
    ----------
    recipe : str
        Its name, or "custom".
    epochs : tuple of EpochRecord
        All epochs, those before an interruption included.
    resumed_after : int
        Epochs that a checkpoint had already done; 0 for a run from the start.
    phases : tuple of Phase
        What was done.
    warnings : tuple of str
        What makes the result worthless: the largest network does no better than guessing.
    """

    recipe: str
    epochs: tuple[EpochRecord, ...]
    resumed_after: int
    phases: tuple[Phase, ...] = ()
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        loss = f", last loss {self.epochs[-1].loss:.4g}" if self.epochs else ""
        return f"<TrainingLog {self.recipe!r}: {len(self.epochs)} epochs{loss}>"


@dataclass(frozen=True)
class _Options:
    """What the weights depend on, besides phases, data and starting weights."""

    batch_size: int
    weight_decay: float
    label_smoothing: float
    gradient_clip: float
    distillation: float
    max_shift: int
    flip: bool
    min_area: float
    ema: float
    precision: str
    seed: int


def train(  # noqa: PLR0912, PLR0915 - one loop, read from top to bottom
    net: Supernet,
    data: ImageData,
    *,
    recipe: str | Sequence[Phase] = "sandwich",
    epochs: int = 24,
    batch_size: int = 64,
    learning_rate: float = 8e-3,
    weight_decay: float = 1e-2,
    warmup_epochs: float = 1.0,
    label_smoothing: float = 0.1,
    gradient_clip: float = 5.0,
    distillation: float = 1.0,
    n_random: int | None = None,
    max_shift: int = 1,
    flip: bool = False,
    min_area: float = 1.0,
    ema: float = 0.0,
    precision: str = "float32",
    seed: int = 0,
    threads: int | None = None,
    checkpoint: files.StrPath | None = None,
    checkpoint_every: int | None = None,
    progress: ProgressCallback = ignore_progress,
) -> TrainingLog:
    """Train the shared weights of a supernet on the training split.

    Every step trains several sub-networks on the same images and adds up their gradients. The
    optimiser is AdamW, new in each phase. With one machine, seed, torch release and thread count
    the weights are the same in every run; torch's global generator is neither read nor changed.

    Under ``torchrun`` every process calls this with the same arguments and takes an equal part of
    every batch; the weights are those of one process, within rounding.

    Parameters
    ----------
    net : Supernet
        Changed in place, and left in evaluation mode. It trains on the device it is on, and
        remembers in `trained_on` what it learned from.
    data : ImageData
    recipe : {"sandwich", "single-path", "progressive", "compound", "compound-elastic"} or phases
        See `pnag_fast.supernet.recipes`, whose `plan` spells a name out with `epochs`,
        `learning_rate`, `warmup_epochs` and `n_random`; a sequence of `Phase` needs none of them.
    epochs : int
        Passes over the training images, of each long phase.
    batch_size : int
        Images per step, over all processes. The last, incomplete batch of an epoch is left out.
    learning_rate, weight_decay : float
        Peak rate, reached after `warmup_epochs` and then lowered to 0 along a cosine, phase by
        phase; decay applies to convolution and linear weights only.
    label_smoothing : float
        Share of the target spread over all classes, 0 up to but not including 1.
    gradient_clip : float
        Largest norm of all gradients together, before it is scaled down.
    distillation : float
        Weight of the cross-entropy with the answers of a fixed teacher, besides the labels.
    n_random : int, optional
        Random networks a step; see `plan`.
    max_shift : int
        Images are moved by up to so many pixels each way, drawn for each image anew.
    flip : bool
        Mirror half of the images. Not for digits or letters.
    min_area : float
        Below 1, scale a random part of each image, of at least this share, to its full size.
    ema : float
        Above 0, each phase ends with the running average of its weights, of this decay (0.999).
    precision : {"float32", "bfloat16", "float16"}
        Of the layers' arithmetic; weights and sums stay float32. float16 is for GPUs.
    seed : int
        Of batches, augmentation and drawn architectures.
    threads : int, optional
        Of torch, meanwhile. Default: one where the largest network has less than 100 million
        multiply-adds, else all cores but one, which a second program would slow down for all.
    checkpoint : path, optional
        Written after each epoch, atomically. Where it exists the run goes on from it, and ends with
        the weights of a run that was never interrupted. It must come from the same space, data and
        options.
    checkpoint_every : int, optional
        Also write it after so many steps. Default: when two minutes have passed.
    progress : callable
        Called after each step.

    Returns
    -------
    TrainingLog

    Raises
    ------
    InvalidInputError
        If an option is out of range.
    OtherRunError
        If the checkpoint belongs to another run; says what differs, from what to what.
    DataError
        If images and supernet do not fit together.
    FileFormatError
        If the checkpoint is truncated or foreign.
    TrainingError
        If a loss or gradient is not finite. The checkpoint is then the last good one.
    MemoryShortageError
        If memory runs out; the checkpoint is then the last one as well.
    """
    check_data(net, data)
    device = next(net.parameters()).device
    rank, n_processes = distributed.world()
    options = _Options(
        batch_size=batch_size,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        gradient_clip=gradient_clip,
        distillation=distillation,
        max_shift=max_shift,
        flip=flip,
        min_area=min_area,
        ema=ema,
        precision=precision,
        seed=seed,
    )
    options = _checked_options(options, device, n_processes)
    if isinstance(recipe, str):
        _check_schedule(epochs, learning_rate, warmup_epochs, n_random)
        phases = plan(
            recipe,
            net.space,
            epochs=epochs,
            learning_rate=learning_rate,
            n_random=n_random,
            warmup_epochs=warmup_epochs,
        )
    else:
        phases = tuple(recipe)
        _check_phases(phases)
    if checkpoint_every is not None:
        arguments.integer(checkpoint_every, "checkpoint_every", 1)
    batch_size = min(batch_size, len(data.train) // n_processes * n_processes)
    steps = len(data.train) // batch_size
    mine = slice(rank * batch_size // n_processes, (rank + 1) * batch_size // n_processes)
    total = steps * sum(phase.epochs for phase in phases)
    augment = Augmentation(max_shift, flip, min_area, net.input_scale)
    dtype, mixed = PRECISIONS[precision], precision != "float32"

    state = TrainingState(net, options.weight_decay, averaged=ema > 0)
    if precision == "float16":
        state.scaler = torch.amp.GradScaler(device.type)
    saved = Checkpoint(
        checkpoint,
        {
            "space": net.space.definition,
            "options": asdict(options),
            "phases": [asdict(phase) for phase in phases],
            "data": data.fingerprint,
        },
        write_every_s=WRITE_EVERY_S if checkpoint_every is None else math.inf,
        writes=rank == 0,
    )
    before = saved.restore("training")
    if checkpoint is not None and before is not None:
        state.restore(before, checkpoint, [phase.epochs for phase in phases], steps)
    resumed_after = len(state.records)
    done = steps * resumed_after + state.position.step

    with contextlib.ExitStack() as context:
        largest = net.layers(extremes(net.space)[1])
        context.enter_context(helpful_threads(threads, largest, device))
        context.enter_context(_clear_memory_errors(batch_size))
        if n_processes > 1:
            if not distributed.agree(done, device):
                raise InvalidInputError(
                    f"the processes found different checkpoints at '{checkpoint}'; it must be on a "
                    "disk that all of them see"
                )
            distributed.share_state(net)
            context.enter_context(distributed.shared_statistics(net))
        # Before the first step: whoever interrupts the run has a supernet that saw these images.
        net.trained_on = remember(data)
        net.train()
        while state.position.phase < len(phases):
            phase, epoch = phases[state.position.phase], state.position.epoch
            if state.position.step == 0:
                if epoch == 0 and phase.sort_channels:
                    sort_channels(net, phase.sort_channels)
                state.losses = np.zeros(2)
                state.seconds = 0.0
            started = time.perf_counter() - state.seconds
            # Drawn anew from the seed and where the run is, so that resuming needs no random state.
            place = (options.seed, state.position.phase, epoch)
            order = np.random.default_rng(place).permutation(len(data.train))
            for step in range(state.position.step, steps):
                generator = torch.Generator().manual_seed(_derived_seed(*place, step))
                chosen = order[step * batch_size : (step + 1) * batch_size]
                pixels = torch.from_numpy(data.train.images[chosen]).permute(0, 3, 1, 2)
                batch = augment(pixels.to(device), generator)[mine]
                target = torch.from_numpy(data.train.labels[chosen]).to(device)[mine]
                archs = phase.draw(net.space, _derived_seed(*place, step))
                rate = _learning_rate(phase, epoch * steps + step, steps)
                for group in state.optimizer.param_groups:
                    group["lr"] = rate

                state.optimizer.zero_grad(set_to_none=True)
                answers: Tensor | None = None
                if phase.teacher == "largest" and state.teacher is not None:
                    with torch.no_grad(), torch.autocast(device.type, dtype, enabled=mixed):
                        answers = state.teacher(batch).float().softmax(dim=1)
                means: tuple[list[float], list[float]] = ([], [])
                for arch in archs:
                    net.set_active(arch)
                    with torch.autocast(device.type, dtype, enabled=mixed):
                        logits = net(resized(batch, net.space.resolution_of(arch)))
                    logits = logits.float()
                    loss = _loss(phase, logits, target, answers, options)
                    # By what they learn from: the labels alone, or a teacher.
                    means[answers is not None].append(_finite(loss, "loss", epoch, step, phase))
                    if phase.teacher == "first" and answers is None:
                        answers = logits.detach().softmax(dim=1)
                    state.scaled(loss).backward()  # type: ignore[no-untyped-call]
                state.losses += [sum(values) / max(len(values), 1) for values in means]
                if n_processes > 1:
                    distributed.average_gradients(net.parameters())
                norm = state.clip(options.gradient_clip)
                if state.scaler is None:  # which leaves out steps that overflow
                    _finite(norm, "gradient", epoch, step, phase)
                state.update(options.ema)
                done += 1
                progress("training the supernet", done, total)
                if step + 1 < steps:
                    state.seconds = time.perf_counter() - started
                    state.position = Position(state.position.phase, epoch, step + 1)
                    now = checkpoint_every is not None and done % checkpoint_every == 0
                    saved.keep(
                        "training", len(state.records), state.arrays, header=state.header, last=now
                    )

            state.record(phase, rate, steps, time.perf_counter() - started)
            state.position = Position(state.position.phase, epoch + 1, 0)
            if epoch + 1 == phase.epochs:
                state.end_phase()
                if any(later.teacher == "largest" for later in phases[state.position.phase :]):
                    state.keep_teacher(phases[0].allowed.largest(net.space)[0])
            saved.keep("training", len(state.records), state.arrays, header=state.header, last=True)
    net.set_active(extremes(net.space)[1])
    net.eval()
    name = recipe if isinstance(recipe, str) else "custom"
    doubts = _doubts(net, phases[0].allowed.largest(net.space)[0], data, threads)
    return TrainingLog(name, tuple(state.records), resumed_after, phases, doubts)


def _doubts(net: Supernet, largest: Arch, data: ImageData, threads: int | None) -> tuple[str, ...]:
    """Say whether the largest network guesses, by some of the validation images."""
    images, labels = data.validation.images[:_JUDGED], data.validation.labels[:_JUDGED]
    with _clear_memory_errors(len(images)):
        network = recalibrate(net.extract(largest), data, threads=threads)
        top1 = accuracy(network, images, labels, threads=threads)
    # What always answering with the most frequent class would reach.
    chance = float(np.bincount(labels).max()) / len(labels)
    limit = chance + 3 * math.sqrt(chance * (1 - chance) / len(labels))
    if top1 > limit:
        return ()
    return (
        f"After training the largest network guesses: top-1 {100 * top1:.1f} % on {len(labels)} "
        f"validation images, where always naming the most frequent class gives {100 * chance:.1f} "
        "%. Nothing that follows from this supernet means anything: train for more epochs, or with "
        "another learning rate, and look at the images and their labels.",
    )


def _loss(
    phase: Phase, logits: Tensor, target: Tensor, answers: Tensor | None, options: _Options
) -> Tensor:
    """Cross-entropy with the labels, with a teacher's soft answers, or both."""
    if answers is not None and phase.teacher == "first":
        return F.cross_entropy(logits, answers)
    loss = F.cross_entropy(logits, target, label_smoothing=options.label_smoothing)
    if answers is not None:
        loss = loss + options.distillation * F.cross_entropy(logits, answers)
    return loss


def _learning_rate(phase: Phase, step: int, steps_per_epoch: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    total = phase.epochs * steps_per_epoch
    warmup = min(phase.warmup_epochs * steps_per_epoch, total / 2)
    if step < warmup:
        return phase.learning_rate * (step + 1) / (warmup + 1)
    return phase.learning_rate * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


def _finite(value: Tensor, what: str, epoch: int, step: int, phase: Phase) -> float:
    if distributed.world()[1] > 1:
        value = distributed.mean_over_processes(value)
    number = float(value.detach())
    if not math.isfinite(number):
        raise TrainingError(
            f"the {what} became {number} in epoch {epoch + 1}, step {step + 1} of phase "
            f"'{phase.name}'; nothing was written since the last checkpoint: lower learning_rate, "
            "or check the images"
        )
    return number


def _derived_seed(*path: int) -> int:
    """Hash a seed and counters into an independent 64-bit seed."""
    return int(np.random.SeedSequence(path).generate_state(1, np.uint64)[0])


@contextlib.contextmanager
def _clear_memory_errors(batch_size: int) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On a CPU torch has no error type of its own for this.
        text = str(error)
        if not isinstance(error, MemoryError) and not (
            "out of memory" in text or "allocate memory" in text
        ):
            raise
        raise MemoryShortageError(
            f"memory ran out while training with batch_size={batch_size}; use smaller batches. "
            "A checkpoint, if there was one, is as it was"
        ) from error


# --- checks ---------------------------------------------------------------------------------------


def _check_schedule(
    epochs: int, learning_rate: float, warmup_epochs: float, n_random: int | None
) -> None:
    arguments.integer(epochs, "epochs", 1)
    arguments.number(learning_rate, "learning_rate", 0, above=True)
    arguments.number(warmup_epochs, "warmup_epochs", 0)
    if n_random is not None:
        arguments.integer(n_random, "n_random", 0)


def _check_phases(phases: Sequence[Phase]) -> None:
    if not phases or not all(isinstance(phase, Phase) for phase in phases):
        raise InvalidInputError(
            f"recipe should be a name or at least one pnag_fast.supernet.Phase, found {phases!r}"
        )
    for phase in phases:
        _check_schedule(phase.epochs, phase.learning_rate, phase.warmup_epochs, phase.networks)
        if not phase.networks and not phase.anchors:
            raise InvalidInputError(f"phase '{phase.name}' trains no network")
    if phases[0].teacher == "largest":
        raise InvalidInputError("the first phase has no teacher 'largest'; use 'labels' or 'first'")


def _checked_options(options: _Options, device: torch.device, n_processes: int) -> _Options:
    """Return the options as plain numbers, which a checkpoint can hold, or refuse one."""
    options = replace(
        options,
        batch_size=arguments.integer(options.batch_size, "batch_size", 2),
        max_shift=arguments.integer(options.max_shift, "max_shift", 0),
        seed=arguments.seed(options.seed),
        weight_decay=arguments.number(options.weight_decay, "weight_decay", 0),
        gradient_clip=arguments.number(options.gradient_clip, "gradient_clip", 0, above=True),
        distillation=arguments.number(options.distillation, "distillation", 0),
        label_smoothing=arguments.fraction(options.label_smoothing, "label_smoothing", below=True),
        ema=arguments.fraction(options.ema, "ema", below=True),
        min_area=arguments.fraction(options.min_area, "min_area", above=True),
    )
    if options.precision not in PRECISIONS:
        raise InvalidInputError(
            f"unknown precision {options.precision!r}; choose one of {', '.join(PRECISIONS)}"
        )
    require_precision(options.precision, device)
    if options.batch_size % n_processes:
        raise InvalidInputError(
            f"batch_size {options.batch_size} is no multiple of the {n_processes} processes, which "
            "take equal parts"
        )
    return options
