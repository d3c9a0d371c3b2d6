"""Judging networks: top-1 accuracy, after batch norm has seen images through them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import astuple
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name that every torch user knows
from torch import Tensor, nn

from pnag_fast import arguments, files
from pnag_fast.data import ImageData, Images, Split, normalize
from pnag_fast.errors import DataError, InvalidInputError, InvalidTypeError, MemoryShortageError
from pnag_fast.progress import ProgressCallback, ignore_progress
from pnag_fast.spaces import Archs

from .checkpoint import weight_arrays
from .judged import JudgedJournal
from .judging import Judge
from .machine import helpful_threads, require_precision
from .model import PLAIN_INPUT, InputScale, StaticNetwork, Supernet, extremes

# What a forward pass of more images computes falls out of the cache: 15 % slower at 128 and more.
_CPU_BATCH = 64

# Architectures whose results are written to a journal together; neighbours among them share layers.
_KEPT_TOGETHER = 64

SplitName = Literal["validation", "test", "train"]
Precision = Literal["float32", "bfloat16"]


def evaluate(
    net: Supernet,
    archs: Archs,
    data: ImageData,
    *,
    split: SplitName = "validation",
    recalibration_images: int = 256,
    batch_size: int = 256,
    precision: Precision = "float32",
    checkpoint: files.StrPath | None = None,
    other_data: bool = False,
    threads: int | None = None,
    progress: ProgressCallback = ignore_progress,
    journal: files.StrPath | None = None,
) -> npt.NDArray[np.float64]:
    """Judge architectures with the weights of a supernet.

    Each sub-network first gets batch-norm statistics of its own, from training images, as in
    Once-for-All. What architectures that begin with the same layers have in common is computed
    once; the result is that of judging each alone, to the last bit. The supernet is left as it was:
    weights, statistics, mode and active network.

    In a program started by ``torchrun``, once ``torch.distributed`` is initialised, every process
    calls this with the same arguments, judges its share, and returns the whole.

    Parameters
    ----------
    net : Supernet
    archs : ndarray of uint8, shape (n, n_slots)
        May be empty. In a space of several resolutions images are scaled to each architecture's.
    data : ImageData
        Those the supernet was trained on, in the same split: in another one training images are
        among those that are held out.
    split : {"validation", "test", "train"}
        Which images to judge on.
    recalibration_images : int
        Training images for the statistics; all, where there are fewer.
    batch_size : int
        Images per forward pass.
    precision : {"float32", "bfloat16"}
        In which the judged images are computed. Statistics are measured in float32 either way.
    checkpoint : path, optional
        A journal: what is judged is kept here as it becomes known. Where the file exists, what it
        holds is not judged again; it must come from the same weights, images and options. Every
        process after the first adds its number to the name.
    other_data : bool
        Judge on images that the supernet was not trained on, or in another split.
    threads : int, optional
        Of torch, meanwhile. Default: as for `train`.
    progress : callable
        Told how many architectures are done.
    journal : path, optional
        Former name of `checkpoint`.

    Returns
    -------
    ndarray of float64, shape (n,)
        Top-1 accuracy, 0 to 1.

    Raises
    ------
    InvalidInputError
        If a row is no architecture of the space, or an option is out of range.
    DataError
        If images and supernet do not fit together, or it was trained on others; the message says in
        what they differ.
    FileFormatError
        If `checkpoint` is no journal.
    OtherRunError
        If it is one of other weights, images or options; says which, from what to what.
    MemoryShortageError
        If memory runs out; what was judged is kept.
    """
    checkpoint = arguments.renamed(checkpoint, "checkpoint", journal, "journal")
    check_data(net, data)
    if net.trained_on is not None and not other_data:
        net.trained_on.require_same(data)
    net.space.validate(archs)
    judged = _split(data, split)
    statistics = _recalibration_images(data, recalibration_images)
    batch_size = arguments.integer(batch_size, "batch_size", 1)
    if precision not in ("float32", "bfloat16"):
        raise InvalidInputError(f"unknown precision {precision!r}; choose 'float32' or 'bfloat16'")
    device = next(net.parameters()).device
    require_precision(precision, device)
    images = to_input(judged.images, device, net.input_scale)
    labels = torch.from_numpy(np.array(judged.labels)).to(device)
    calibration = to_input(statistics, device, net.input_scale)
    resolutions = np.array([net.space.resolution_of(arch) for arch in archs], dtype=np.int64)
    # Neighbours share layers, so every process takes a run of neighbours.
    order = np.lexsort((*archs.T[::-1], resolutions))
    rank, n_ranks = _rank()
    own = np.array_split(order, n_ranks)[rank]
    kept = None
    if checkpoint is not None:
        identity = {
            "space": net.space.definition,
            "weights": _fingerprint(net),
            "images": data.fingerprint,
            "split": split,
            "recalibration_images": len(statistics),
            "batch_size": batch_size,
            "precision": precision,
        }
        path = f"{os.fspath(checkpoint)}.{rank}" if rank else checkpoint
        kept = JudgedJournal(path, identity, len(labels))
        for notice in kept.notices:
            warnings.warn(notice, stacklevel=2)
    names = net.space.to_strings(archs)
    correct = np.zeros(len(archs), dtype=np.int64)
    unknown = []
    for i in own:
        if kept is not None and names[i] in kept.correct:
            correct[i] = kept.correct[names[i]]
        else:
            unknown.append(i)
    rest = np.array(unknown, dtype=np.intp)
    classified = (len(own) - len(rest)) * len(labels)

    def report(images_classified: int) -> None:
        nonlocal classified
        classified += images_classified
        progress("judging architectures", classified // len(labels), len(own))

    largest = net.layers(extremes(net.space)[1])
    with kept or contextlib.nullcontext(), helpful_threads(threads, largest, device):
        for resolution in np.unique(resolutions[rest]).tolist():
            same_size = rest[resolutions[rest] == resolution]
            with _memory_shortage():
                judge = Judge(
                    net,
                    _batches(resized(calibration, resolution), batch_size),
                    resized(images, resolution),
                    labels,
                    min(batch_size, _CPU_BATCH) if device.type == "cpu" else batch_size,
                    torch.float32 if precision == "float32" else torch.bfloat16,
                )
            for start in range(0, len(same_size), _KEPT_TOGETHER):
                part = same_size[start : start + _KEPT_TOGETHER]
                with _memory_shortage():
                    correct[part] = judge.count_correct(archs[part], report)
                if kept is not None:
                    kept.add({names[i]: int(correct[i]) for i in part})
    return _sum_over_ranks(correct, n_ranks, device) / len(labels)


def _fingerprint(net: Supernet) -> str:
    digest = hashlib.sha256()
    for name, array in weight_arrays(net).items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _rank() -> tuple[int, int]:
    """Return which of how many processes this is, by `torch.distributed`."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _sum_over_ranks(
    counts: npt.NDArray[np.int64], n_ranks: int, device: torch.device
) -> npt.NDArray[np.int64]:
    if n_ranks == 1:
        return counts
    total = torch.from_numpy(counts).to(device)
    torch.distributed.all_reduce(total)
    return total.cpu().numpy()


@contextlib.contextmanager
def _memory_shortage() -> Iterator[None]:
    """Turn what torch raises when memory runs out into one clear error."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        if not isinstance(error, MemoryError) and not (
            "out of memory" in text or "allocate memory" in text
        ):
            raise
        raise MemoryShortageError(
            "memory ran out while judging architectures; judge on fewer images, use a smaller "
            "batch_size or fewer recalibration_images"
        ) from error


def recalibrate(
    network: StaticNetwork,
    data: ImageData | Images | None = None,
    *,
    recalibration_images: int = 256,
    batch_size: int = 256,
    other_data: bool = False,
    threads: int | None = None,
) -> StaticNetwork:
    """Give an extracted network batch-norm statistics of its own.

    Parameters
    ----------
    network : StaticNetwork
        Changed in place, and left in evaluation mode.
    data : ImageData, or ndarray of uint8, shape (n, h, w, 3), optional
        Training images; of an `ImageData` its training split. With the same images, number and
        batch size, the network is the one that `evaluate` judges. Default: the first training
        images, which a trained supernet carries; where the images are small that is the same.
    recalibration_images : int
        How many of them, at most.
    batch_size : int
        Images per forward pass.
    other_data : bool
        Take an `ImageData` that the supernet was not trained on.
    threads : int, optional
        Of torch, meanwhile. Default: as for `train`.

    Returns
    -------
    StaticNetwork
        The same object.

    Raises
    ------
    DataError
        If the supernet was trained on other images, or carries none and `data` is not given.
    InvalidInputError
        If an option is out of range.
    """
    batch_size = arguments.integer(batch_size, "batch_size", 1)
    known = network.trained_on
    if data is None:
        if known is None or known.calibration is None:
            raise DataError(
                "this network carries no training images to measure batch-norm statistics on"
                + (f", as it was trained on '{known.name}' elsewhere" if known else "")
                + "; pass images of the kind it was trained on"
            )
        data = known.calibration
    elif isinstance(data, ImageData) and known is not None and not other_data:
        known.require_same(data)
    images = _recalibration_images(data, recalibration_images)
    device = next(network.parameters()).device
    with helpful_threads(threads, network.blocks, device):
        inputs = to_input(images, device, network.input_scale)
        resolution = network.blocks[0].resolution
        _set_statistics(network, resized(inputs, resolution), batch_size)
    return network


def accuracy(
    network: nn.Module,
    images: Images,
    labels: npt.NDArray[np.int64],
    *,
    threads: int | None = None,
) -> float:
    """Top-1 accuracy of a network as it is, 0 to 1.

    Parameters
    ----------
    network : nn.Module
        Maps ``(b, 3, h, w)`` to logits; for instance what `recalibrate` returned. Judged in
        evaluation mode; its mode is restored.
    images : ndarray of uint8, shape (n, h, w, 3)
        At least one.
    labels : ndarray of int64, shape (n,)
    threads : int, optional
        Of torch; default: as many as help a network of this package, others as torch is set.
    """
    if len(images) == 0 or len(images) != len(labels):
        raise InvalidInputError(
            f"expected as many labels as images and at least one, found {len(images)} images and "
            f"{len(labels)} labels"
        )
    device = next(network.parameters()).device
    if isinstance(network, StaticNetwork):
        inputs = to_input(images, device, network.input_scale)
        inputs = resized(inputs, network.blocks[0].resolution)
    else:
        inputs = to_input(images, device)
    target = torch.from_numpy(np.array(labels, dtype=np.int64)).to(device)
    was_training = network.training
    network.eval()
    blocks = network.blocks if isinstance(network, StaticNetwork) else ()
    try:
        # Of a network of somebody else's nothing is known, and torch stays as it is set.
        known = threads is not None or len(blocks) > 0
        with helpful_threads(threads, blocks, device) if known else contextlib.nullcontext():
            return _accuracy(network, inputs, target, batch_size=256)
    finally:
        network.train(was_training)


def to_input(images: Images, device: torch.device, scale: InputScale = PLAIN_INPUT) -> Tensor:
    """Normalise images and lay them out as is fastest: channels last, on `device`."""
    # Channels last more than doubles the speed of depthwise convolutions on a CPU; every layer
    # keeps the layout of its input.
    inputs = torch.from_numpy(normalize(images)).to(device)
    if scale != PLAIN_INPUT:
        # From -1 to 1; (x + 1) / 2 is pixel / 255.
        mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in astuple(scale))
        inputs = ((inputs + 1) / 2 - mean) / std
    return inputs.contiguous(memory_format=torch.channels_last)


def resized(inputs: Tensor, resolution: int) -> Tensor:
    """Scale ``(b, c, h, w)`` to another resolution; the tensor itself where it has it already."""
    if inputs.shape[-2:] == (resolution, resolution):
        return inputs
    size = (resolution, resolution)
    scaled = F.interpolate(inputs, size, mode="bilinear", align_corners=False, antialias=True)
    return scaled.contiguous(memory_format=torch.channels_last)


def check_data(net: Supernet, data: ImageData) -> None:
    """Refuse images of other classes or of another size than the networks take."""
    for given, kind, remedy in (
        (net, Supernet, "build, load or load_ofa make one"),
        (data, ImageData, "pnag_fast.data loads images and splits them"),
    ):
        if not isinstance(given, kind):
            raise InvalidTypeError(
                f"expected {kind.__name__}, found {type(given).__name__}: {remedy}"
            )
    if any(parameter.is_meta for parameter in net.parameters()):
        raise InvalidInputError(
            "the supernet has no weights yet; build, load and load_ofa make one that has"
        )
    classes = net.head.block.classes
    if len(data.classes) != classes:
        raise DataError(
            f"'{data.name}' has {len(data.classes)} classes, but the networks of space "
            f"'{net.space.name}' tell {classes} apart; get the space with "
            f"classes={len(data.classes)}"
        )
    if data.resolution != max(net.space.resolutions):
        raise DataError(
            f"'{data.name}' has images of {data.resolution} px, but space '{net.space.name}' takes "
            f"{max(net.space.resolutions)} px; load them with that resolution"
        )


def _set_statistics(network: nn.Module, images: Tensor, batch_size: int) -> None:
    """Replace batch-norm statistics by the averages over all of `images`."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with _momentum(norms, None), torch.inference_mode():
        for norm in norms:
            norm.reset_running_stats()
        network.train()
        for batch in _batches(images, batch_size):
            network(batch)
    network.eval()


def _batches(images: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """Split into equal batches, so that an average over batches weighs all images alike."""
    return images.tensor_split(-(-len(images) // batch_size))


@contextlib.contextmanager
def _momentum(norms: list[nn.BatchNorm2d], momentum: float | None) -> Iterator[None]:
    before = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = momentum  # None: the plain average over batches
        yield
    finally:
        for norm, value in zip(norms, before, strict=True):
            norm.momentum = value


def _accuracy(network: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> float:
    if images.device.type == "cpu":
        batch_size = min(batch_size, _CPU_BATCH)
    correct = 0
    with torch.inference_mode():
        for first in range(0, len(labels), batch_size):
            chosen = slice(first, first + batch_size)
            correct += int((network(images[chosen]).argmax(dim=1) == labels[chosen]).sum())
    return correct / len(labels)


def _split(data: ImageData, name: str) -> Split:
    if name not in ("train", "validation", "test"):
        raise InvalidInputError(f"unknown split {name!r}; choose 'train', 'validation' or 'test'")
    return cast(Split, getattr(data, name))


def _recalibration_images(data: ImageData | Images, n: int) -> Images:
    n = arguments.integer(n, "recalibration_images", 1)
    images = data.train.images if isinstance(data, ImageData) else data
    # Splits are shuffled, so the first images are as good a sample as any.
    if len(images) == 0:
        raise InvalidInputError("recalibration needs at least one image, found none")
    return images[:n]
