"""Random changes to training images that do not change what they show."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every torch user knows
from torch import Tensor

from .model import PLAIN_INPUT, InputScale


@dataclass(frozen=True)
class Augmentation:
    """What may happen to an image, drawn for each anew.

    Attributes
    ----------
    max_shift : int
        Moved by up to so many pixels each way.
    flip : bool
        Mirrored, every other one.
    min_area : float
        Below 1: a random part of at least this share of the area, of aspect 3:4 to 4:3, is scaled
        to the full size.
    input_scale : InputScale
        What the network takes.
    """

    max_shift: int
    flip: bool
    min_area: float
    input_scale: InputScale = PLAIN_INPUT

    def __call__(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Normalise uint8 images ``(b, c, h, w)`` and change each at random; channels last."""
        n, _, height, width = batch.shape
        # The same operations as `pnag_fast.data.normalize`, to the last bit.
        x = batch.to(torch.float32).div_(127.5).sub_(1)
        if self.max_shift or self.flip:
            shift = self.max_shift
            dy, dx = torch.randint(-shift, shift + 1, (2, n, 1), generator=generator)
            # Pixels beyond an edge repeat it, so a shift leaves no frame behind.
            rows = (torch.arange(height) + dy).clamp(0, height - 1)
            columns = (torch.arange(width) + dx).clamp(0, width - 1)
            if self.flip:
                mirrored = torch.rand((n, 1), generator=generator) < 0.5
                columns = torch.where(mirrored, width - 1 - columns, columns)
            rows, columns = rows.to(x.device), columns.to(x.device)
            image = torch.arange(n, device=x.device)[:, None, None]
            x = x.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]]
            x = x.permute(0, 3, 1, 2)
        if self.min_area < 1:
            x = _cropped(x, self.min_area, generator)
        if self.input_scale != PLAIN_INPUT:
            mean, std = (
                torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in astuple(self.input_scale)
            )
            x = ((x + 1) / 2 - mean) / std
        return x.contiguous(memory_format=torch.channels_last)


def _cropped(x: Tensor, min_area: float, generator: torch.Generator) -> Tensor:
    n = len(x)
    area, aspect, left, top = torch.rand((4, n), generator=generator)
    area = min_area + (1 - min_area) * area
    aspect = torch.exp((2 * aspect - 1) * math.log(4 / 3))
    wide, high = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    # In the coordinates of grid_sample an image spans -1 to 1.
    theta = torch.zeros((n, 2, 3))
    theta[:, 0, 0], theta[:, 1, 1] = wide, high
    theta[:, 0, 2], theta[:, 1, 2] = (1 - wide) * (2 * left - 1), (1 - high) * (2 * top - 1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False).to(x.device)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)
