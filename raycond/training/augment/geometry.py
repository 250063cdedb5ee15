"""Shift, flip and random resized crop; every image of a batch gets its own draw.

Images are (n, channels, height, width) floats; the generator lives on their device. The same generator state
gives the same bits. What comes from outside an image repeats its edge: a fixed value would draw a frame that
no real image has.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

RATIO = (3 / 4, 4 / 3)  # width : height of a crop, as in torchvision's RandomResizedCrop


def shift(images: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    """Move each image by a whole number of pixels, up to `fraction` of each side: none if that rounds to 0."""
    n, _, height, width = images.shape
    if round(fraction * max(height, width)) == 0:
        return images
    rows = _moved(n, height, fraction, generator)
    columns = _moved(n, width, fraction, generator)
    return take(images, rows, columns)


def _moved(n: int, side: int, fraction: float, generator: torch.Generator) -> Tensor:
    most = round(fraction * side)
    by = torch.randint(-most, most + 1, (n, 1), generator=generator, device=generator.device)
    return (torch.arange(side, device=generator.device) + by).clamp_(0, side - 1)


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability one half."""
    return mirror(images, torch.rand(len(images), generator=generator, device=generator.device) < 0.5)


def random_crop_scale(images: Tensor, scale: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Cut a random rectangle whose area is a share in `scale` of the image; resize it back (bilinear).

    torchvision's RandomResizedCrop as one `grid_sample`, so crops lie between pixels; a side that would leave
    the image is cut to it instead of drawn again.
    """
    n = len(images)
    area, ratio, x, y = torch.rand(4, n, generator=generator, device=generator.device)
    area = scale[0] + (scale[1] - scale[0]) * area
    ratio = torch.exp(math.log(RATIO[0]) + math.log(RATIO[1] / RATIO[0]) * ratio)
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    theta = images.new_zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = width, (1 - width) * (2 * x - 1)
    theta[:, 1, 1], theta[:, 1, 2] = height, (1 - height) * (2 * y - 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def take(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixel (y, x) of image i becomes pixel (rows[i, y], columns[i, x]) of it; one row of indices serves all images."""
    n, channels, height, width = images.shape
    index = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)[:, None]
    # several times faster than indexing by three tensors
    moved = images.reshape(n, channels, height * width).gather(2, index.expand(n, channels, -1))
    return moved.view(n, channels, rows.shape[1], columns.shape[1])


def mirror(images: Tensor, chosen: Tensor) -> Tensor:
    """The images where `chosen` (n,) or (1,) is true, left to right."""
    column = torch.arange(images.shape[3], device=images.device)
    columns = torch.where(chosen[:, None], column.flip(0), column)
    return images.gather(3, columns[:, None, None, :].expand(images.shape))


def warp(images: Tensor, x: tuple[Tensor, Tensor, Tensor], y: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Bilinear, 0 outside: pixel (u, v) comes from (x₀u + x₁v + x₂, y₀u + y₁v + y₂), all in [−1, 1] across the image.

    The six coefficients are (n,), or (1,) for the same map of all images.
    """
    n, _, height, width = images.shape
    u = _centres(width, images)[None, None, :]
    v = _centres(height, images)[None, :, None]
    grid = images.new_empty(len(x[0]), height, width, 2)
    for axis, (a, b, c) in enumerate((x, y)):
        torch.add(a[:, None, None] * u, b[:, None, None] * v + c[:, None, None], out=grid[..., axis])
    grid = grid.expand(n, -1, -1, -1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _centres(side: int, images: Tensor) -> Tensor:
    return (2 * torch.arange(side, dtype=images.dtype, device=images.device) + 1) / side - 1
