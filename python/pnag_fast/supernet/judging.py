"""Judging many architectures at once: what several of them have in common is computed once.

A sub-network's batch-norm statistics at a layer depend on the layers before it only. So two
architectures that begin with the same layers agree on statistics and activations up to where they
part, and all architectures together are a tree whose every edge is computed once. Sorted by their
layers, architectures that share are neighbours.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name that every torch user knows
from torch import Tensor, nn

from pnag_fast.errors import InvalidInputError
from pnag_fast.spaces import Archs, SearchSpace
from pnag_fast.spaces.blocks import Activation, Block, MBConv, Pointwise, Stem

from .model import Supernet, elastic_stages, require_elastic
from .modules import ElasticMBConv, MBConvLayer

Counts = npt.NDArray[np.int64]

# Steps of a path besides the slots of the space, in the order in which they run.
_STEM, _FIRST = -2, -1

# Activations of judged images that may wait, at all forks of a path together, for the other
# architectures that need them.
_WAITING_BYTES = 2 << 30


class Judge:
    """Judges architectures of one resolution on given images.

    Parameters
    ----------
    net : Supernet
        Read only.
    calibration : sequence of Tensor
        Batches that batch-norm statistics are averaged over.
    images : Tensor
        To judge on, ``(n, 3, h, w)``.
    labels : Tensor
        Shape ``(n,)``.
    batch_size : int
        Images per forward pass.
    dtype : torch.dtype
        In which judged images are computed; statistics are always in float32.
    """

    def __init__(
        self,
        net: Supernet,
        calibration: Sequence[Tensor],
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        dtype: torch.dtype,
    ) -> None:
        self._net = net
        self._calibration = list(calibration)
        self._images = images
        self._labels = labels
        self._batch_size = batch_size
        self._dtype = dtype
        self._correct: Counts = np.zeros(0, dtype=np.int64)
        self._paths: list[list[tuple[int, int]]] = []
        self._blocks: list[list[Block]] = []
        self._judged: Callable[[int], None] = _ignore

    def count_correct(self, archs: Archs, judged: Callable[[int], None]) -> Counts:
        """Count the images that each architecture classifies as labelled, shape ``(n,)``.

        `judged` is called with numbers of images that were classified. The counts do not depend on
        which architectures are judged together.
        """
        n_slots = len(self._net.slots)
        self._correct = np.zeros(len(archs), dtype=np.int64)
        self._judged = judged
        self._blocks = [self._net.layers(arch) for arch in archs]
        fixed = [(_STEM, 0)] if self._net.first is None else [(_STEM, 0), (_FIRST, 0)]
        self._paths = [
            fixed + [(s, c) for s, c in enumerate(arch[:n_slots].tolist()) if c] for arch in archs
        ]
        order = sorted(range(len(archs)), key=self._paths.__getitem__)
        waiting = self._waiting_bytes(order, 0)
        n = len(self._images)
        # Whole batches, so that where a block ends changes no batch.
        size = self._batch_size
        block = n if waiting == 0 else max(1, _WAITING_BYTES // waiting // size) * size
        with torch.inference_mode():
            for start in range(0, n, block):
                rows = slice(start, min(start + block, n))
                images = [
                    self._images[i : min(i + size, rows.stop)].to(self._dtype)
                    for i in range(rows.start, rows.stop, size)
                ]
                self._walk(order, 0, self._calibration, images, self._labels[rows])
        return self._correct

    def _fork(self, order: list[int], depth: int) -> int:
        """Return how long a path all of `order` share; sorted, so the ends tell."""
        first, last = self._paths[order[0]], self._paths[order[-1]]
        while depth < min(len(first), len(last)) and first[depth] == last[depth]:
            depth += 1
        return depth

    def _branches(self, order: list[int], depth: int) -> list[list[int]]:
        """Split by the step at `depth`; architectures that end there form the first branch."""
        branches: dict[tuple[tuple[int, int], ...], list[int]] = {}
        for i in order:
            branches.setdefault(tuple(self._paths[i][depth : depth + 1]), []).append(i)
        return list(branches.values())

    def _waiting_bytes(self, order: list[int], depth: int) -> int:
        """Bytes per image that wait at the forks of the worst path."""
        end = self._fork(order, depth)
        branches = self._branches(order, end)
        if len(branches) == 1:
            return 0
        below = max(self._waiting_bytes(branch, end) for branch in branches)
        block = cast(Stem | MBConv | Pointwise, self._blocks[order[0]][end - 1])
        return below + block.out_channels * block.out_resolution**2 * self._dtype.itemsize

    def _walk(
        self,
        order: list[int],
        depth: int,
        calibration: list[Tensor],
        images: list[Tensor],
        labels: Tensor,
    ) -> None:
        """Judge architectures whose common first `depth` layers the inputs have passed."""
        end = self._fork(order, depth)
        layers = []
        for (slot, _), block in zip(
            self._paths[order[0]][depth:end], self._blocks[order[0]][depth:end], strict=True
        ):
            layer, calibration = self._calibrated(slot, block, calibration)
            layers.append(layer)
        branches = self._branches(order, end)
        if len(branches) == 1:
            # Equal architectures: on to the logits, one batch after another.
            head = _calibrated_head(self._net, calibration, self._dtype)
            right = torch.zeros((), dtype=torch.int64, device=labels.device)
            start = 0
            for batch in images:
                x = batch
                for layer in layers:
                    x = layer(x)
                right += (head(x).argmax(dim=1) == labels[start : start + len(batch)]).sum()
                start += len(batch)
            self._correct[order] += int(right)
            self._judged(len(order) * len(labels))
            return
        passed = []
        for batch in images:
            x = batch
            for layer in layers:
                x = layer(x)
            passed.append(x)
        for branch in branches:
            self._walk(branch, end, calibration, passed, labels)

    def _calibrated(
        self, slot: int, block: Block, calibration: list[Tensor]
    ) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
        """Give one layer its statistics; return it folded, and what it makes of its inputs."""
        if isinstance(block, Pointwise):
            pointwise = cast(ElasticMBConv, self._net.slots[slot]).pointwise
            weight, stride = pointwise.conv.weight, block.stride
            outputs = [F.conv2d(x, weight, None, stride) for x in calibration]
            outputs, folded = _normalised(outputs, weight, pointwise.bn, self._dtype)
            return lambda x: F.conv2d(x, *folded, stride), outputs
        if isinstance(block, Stem):
            stem = self._net.stem
            weight = stem.conv.weight
            stride, padding = block.stride, block.kernel // 2
            outputs = [F.conv2d(x, weight, None, stride, padding) for x in calibration]
            outputs, folded = _normalised(outputs, weight, stem.bn, self._dtype)
            return (
                lambda x: _activate(F.conv2d(x, *folded, stride, padding), block.activation),
                [_activate(y, block.activation) for y in outputs],
            )
        layer = self._net.first if slot == _FIRST else self._net.slots[slot]
        return _calibrated_mbconv(
            cast(MBConvLayer | ElasticMBConv, layer), cast(MBConv, block), calibration, self._dtype
        )


def sample_related(
    space: SearchSpace,
    n: int,
    *,
    seed: int = 0,
    together: Sequence[int] = (60, 12, 6, 2, 1),
) -> Archs:
    """Sample architectures that share their first stages, which makes judging them fast.

    Each one by itself is a uniform sample of the space; it is only that neighbours resemble each
    other. A table of them says less of the first stages than one of independent samples.

    Parameters
    ----------
    space : SearchSpace
        One that can be a supernet.
    n : int
    seed : int
    together : sequence of int
        How many architectures in a row share each stage, counted from the last stage, which the
        last number is for; earlier stages than numbers share as the first number says. Each is a
        multiple of the next.

    Returns
    -------
    ndarray of uint8, shape (n, n_slots)
        Repeats are rare, but possible.
    """
    require_elastic(space)
    shared = [int(count) for count in together]
    if not shared or min(shared) < 1 or any(a % b for a, b in itertools.pairwise(shared)):
        raise InvalidInputError(
            "'together' should be counts of which each is a multiple of the next, "
            f"found {together!r}"
        )
    archs = space.sample(n, seed=seed)
    related: Archs = archs.copy()
    stages = elastic_stages(space)
    counts = [shared[0]] * (len(stages) - len(shared)) + shared[-len(stages) :]
    first = 0
    for stage, count in zip(stages, counts, strict=True):
        slots = slice(first, first + len(stage.slots))
        first = slots.stop
        related[:, slots] = archs[np.arange(n) // count * count, slots]
    if space.resolution_slot is not None:
        related[:, space.resolution_slot] = archs[
            np.arange(n) // counts[0] * counts[0], space.resolution_slot
        ]
    return related


Folded = tuple[Tensor, Tensor]


def _calibrated_mbconv(
    layer: MBConvLayer | ElasticMBConv,
    block: MBConv,
    calibration: list[Tensor],
    dtype: torch.dtype,
) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
    mid, s = block.mid_channels, block.squeeze_channels
    stride, padding, activation = block.stride, block.kernel // 2, block.activation
    outputs = calibration
    expand: Folded | None = None
    if block.expand:
        weight = layer.expand.weight[:mid]
        outputs, expand = _normalised(
            [F.conv2d(x, weight) for x in outputs], weight, layer.expand_bn, dtype
        )
        outputs = [_activate(y, activation) for y in outputs]
    if isinstance(layer, ElasticMBConv):
        weight = layer.depthwise.filters(mid, block.kernel)
    else:
        weight = layer.depthwise.weight
    outputs, depthwise = _normalised(
        [F.conv2d(x, weight, None, stride, padding, 1, mid) for x in outputs],
        weight,
        layer.depthwise_bn,
        dtype,
    )
    outputs = [_activate(y, activation) for y in outputs]
    squeeze: tuple[Tensor, ...] = ()
    if block.squeeze_excite:
        reduce, excite = layer.squeeze.reduce, layer.squeeze.expand
        squeeze = (
            reduce.weight[:s, :mid],
            cast(Tensor, reduce.bias)[:s],
            excite.weight[:mid, :s],
            cast(Tensor, excite.bias)[:mid],
        )
        outputs = [_squeezed(y, *squeeze) for y in outputs]
        squeeze = tuple(t.to(dtype) for t in squeeze)
    weight = layer.project.weight[:, :mid]
    outputs, project = _normalised(
        [F.conv2d(x, weight) for x in outputs], weight, layer.project_bn, dtype
    )
    if block.residual:
        outputs = [y.add_(x) for x, y in zip(calibration, outputs, strict=True)]

    def run(x: Tensor) -> Tensor:
        y = x if expand is None else _activate(F.conv2d(x, *expand), activation)
        y = _activate(F.conv2d(y, *depthwise, stride, padding, 1, mid), activation)
        if squeeze:
            y = _squeezed(y, *squeeze)
        y = F.conv2d(y, *project)
        return y.add_(x) if block.residual else y

    return run, outputs


def _calibrated_head(
    net: Supernet, calibration: list[Tensor], dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    head = net.head
    activation = head.block.activation
    weight = head.expand.weight
    _, expand = _normalised(
        [F.conv2d(x, weight) for x in calibration], weight, head.expand_bn, dtype
    )
    feature = head.feature.weight.to(dtype) if head.block.feature_channels else None
    classifier, bias = head.classifier.weight.to(dtype), head.classifier.bias.to(dtype)

    def run(x: Tensor) -> Tensor:
        x = _activate(F.conv2d(x, *expand), activation).mean((2, 3), keepdim=True)
        if feature is not None:
            x = _activate(F.conv2d(x, feature), activation)
        return F.linear(x.flatten(1), classifier, bias)

    return run


def _normalised(
    outputs: list[Tensor], weight: Tensor, norm: nn.BatchNorm2d, dtype: torch.dtype
) -> tuple[list[Tensor], Folded]:
    """Normalise the outputs of a convolution batch by batch, as batch norm in training does.

    Returns also the convolution's weight and bias with the average statistics folded in.
    """
    c = outputs[0].shape[1]
    gain, shift = norm.weight[:c], norm.bias[:c]
    mean, variance = torch.zeros_like(gain), torch.ones_like(gain)
    # With these momenta the running statistics are the plain average over batches.
    normalised = [
        F.batch_norm(y, mean, variance, gain, shift, True, 1 / (i + 1), norm.eps)
        for i, y in enumerate(outputs)
    ]
    # In double precision, so that folding rounds once.
    scale = gain.double() / torch.sqrt(variance.double() + norm.eps)
    folded = weight.double() * scale.view(-1, 1, 1, 1)
    bias = shift.double() - mean.double() * scale
    return normalised, (folded.to(dtype), bias.to(dtype))


def _ignore(_: int) -> None:
    """Report to nobody."""


def _activate(x: Tensor, activation: Activation) -> Tensor:
    """As `modules.activate`, in place: nothing else reads what a convolution has just written."""
    return F.relu_(x) if activation == "relu" else F.hardswish(x, inplace=True)


def _squeezed(
    x: Tensor, reduce: Tensor, reduce_bias: Tensor, excite: Tensor, excite_bias: Tensor
) -> Tensor:
    means = x.mean((2, 3), keepdim=True)
    means = F.relu_(F.conv2d(means, reduce, reduce_bias))
    return x.mul_(F.hardsigmoid(F.conv2d(means, excite, excite_bias), inplace=True))
