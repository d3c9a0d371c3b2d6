"""Several processes that train one supernet: each takes a part of every batch.

`torch.nn.parallel.DistributedDataParallel` expects one forward pass per step and every weight in
it. A step here has several, each through another network, so gradients are averaged by hand once a
step has run all its backward passes: fewer messages, and the sums are those of one process.
"""

from __future__ import annotations

import contextlib
import os
import types
from collections.abc import Iterable, Iterator
from typing import cast

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 - the name that every torch user knows
from torch import Tensor, nn


@contextlib.contextmanager
def joined() -> Iterator[str | None]:
    """Join the processes that torchrun started; yields the device to use, None for the CPU."""
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    device = None
    if torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    if n_processes == 1 or dist.is_initialized():
        yield device
        return
    dist.init_process_group("gloo" if device is None else "nccl")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def world() -> tuple[int, int]:
    """Return the rank of this process and the number of processes; (0, 1) without torchrun."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients of all processes; parameters that no network used stay without."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    means = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))


def share_state(module: nn.Module) -> None:
    """Give every process the weights and statistics of the first."""
    for tensor in module.state_dict().values():
        dist.broadcast(tensor, 0)


def agree(value: int, device: torch.device) -> bool:
    """Tell whether all processes have the same integer."""
    extremes = torch.tensor([value, -value], device=device)
    dist.all_reduce(extremes, dist.ReduceOp.MAX)
    return int(extremes[0]) == value and int(extremes[1]) == -value


def mean_over_processes(value: Tensor) -> Tensor:
    """Average a number over all processes."""
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


@contextlib.contextmanager
def shared_statistics(net: nn.Module) -> Iterator[None]:
    """Let batch norms see the images of all processes, as one process with the whole batch would.

    Like `torch.nn.SyncBatchNorm`, which works on GPUs only.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.forward = types.MethodType(_shared_batch_norm, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: object, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: object, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _shared_batch_norm(self: nn.BatchNorm2d, x: Tensor) -> Tensor:
    c = x.shape[1]
    mean_so_far = cast(Tensor, self.running_mean)[:c]
    variance_so_far = cast(Tensor, self.running_var)[:c]
    weight, bias = self.weight[:c], self.bias[:c]
    if not self.training:
        return F.batch_norm(x, mean_so_far, variance_so_far, weight, bias, False, 0.0, self.eps)
    # Two sums, one after the other: the sum of squares alone loses the digits of a small variance.
    wide = x.float()
    count = x.numel() // c * dist.get_world_size()
    mean = cast(Tensor, _Sum.apply(wide.sum((0, 2, 3)))) / count  # type: ignore[no-untyped-call]
    centred = wide - mean[:, None, None]
    squares = _Sum.apply(centred.square().sum((0, 2, 3)))  # type: ignore[no-untyped-call]
    variance = cast(Tensor, squares) / count
    with torch.no_grad():
        momentum = self.momentum or 0.0
        mean_so_far.lerp_(mean, momentum)
        variance_so_far.lerp_(variance * (count / max(count - 1, 1)), momentum)
    scale = weight * torch.rsqrt(variance + self.eps)
    return (centred * scale[:, None, None] + bias[:, None, None]).to(x.dtype)
