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
CROP_TRIES = 10
CROP_DRAWS = 2 * CROP_TRIES + 2  # uniform numbers of one crop: an area and a ratio a try, and a place


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


def random_crop_scale(
    images: Tensor, scale: tuple[float, float], generator: torch.Generator, side: int | None = None
) -> Tensor:
    """Cut a random rectangle whose area is a share in `scale` of each image and resize it to `side` pixels a side.

    torchvision's RandomResizedCrop, with the distribution of its rectangles and its antialiased bilinear resizing.
    side: None for the size that the images have.
    """
    n, _, height, width = images.shape
    draws = torch.rand(n, CROP_DRAWS, generator=generator, device=generator.device)
    return resized_crop(images, crop_boxes(draws, height, width, scale), (side or height, side or width))


def crop_boxes(draws: Tensor, height: int, width: int, scale: tuple[float, float]) -> Tensor:
    """(n, 4) int64: top, left, height and width of the rectangles that RandomResizedCrop cuts from height x width.

    draws: (n, CROP_DRAWS) uniform in [0, 1). As in torchvision, area and aspect ratio are drawn up to ten times until
    the rectangle, rounded to whole pixels, lies within the image; where none of the ten does, it is the largest
    central one of an allowed aspect ratio.
    """
    draws = draws.double()
    shares, ratios = draws[:, 0 : 2 * CROP_TRIES : 2], draws[:, 1 : 2 * CROP_TRIES : 2]
    areas = height * width * (scale[0] + (scale[1] - scale[0]) * shares)
    ratios = torch.exp(math.log(RATIO[0]) + math.log(RATIO[1] / RATIO[0]) * ratios)
    widths, heights = (areas * ratios).sqrt().round(), (areas / ratios).sqrt().round()
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = fits.int().argmax(1, keepdim=True)
    room = torch.stack([heights.gather(1, first), widths.gather(1, first)], 2)[:, 0]
    middle = room.new_tensor(_central(height, width))
    places = draws[:, 2 * CROP_TRIES :]
    sides = room.new_tensor([height, width])
    corner = torch.minimum((places * (sides - room + 1)).floor(), sides - room)
    found = fits.any(1, keepdim=True)
    corner = torch.where(found, corner, ((sides - middle) / 2).floor())
    return torch.cat([corner, torch.where(found, room, middle)], 1).long()


def _central(height: int, width: int) -> tuple[int, int]:
    """Height and width of the largest rectangle whose aspect ratio is allowed."""
    if width / height < RATIO[0]:
        return round(width / RATIO[0]), width
    if width / height > RATIO[1]:
        return height, round(height * RATIO[1])
    return height, width


def resized_crop(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """A rectangle of each image, boxes (n, 4) as `crop_boxes` gives them, at `size` (height, width).

    Bilinear and antialiased, as torchvision's resize of a tensor: along each axis a pixel is a weighted mean of source
    pixels within the rectangle, so that two batched matrix products make all images.
    """
    n, channels, height, width = images.shape
    rows = _weights(boxes[:, 0], boxes[:, 2], height, size[0]).to(images.dtype)
    columns = _weights(boxes[:, 1], boxes[:, 3], width, size[1]).to(images.dtype)
    across = torch.bmm(images.reshape(n, channels * height, width), columns.transpose(1, 2))
    across = across.view(n, channels, height, size[1]).transpose(1, 2).reshape(n, height, channels * size[1])
    return torch.bmm(rows, across).view(n, size[0], channels, size[1]).transpose(1, 2)


def _weights(start: Tensor, length: Tensor, source: int, size: int) -> Tensor:
    """(n, size, source): how much of each source pixel is in each pixel of a resized interval."""
    start, length = start.float()[:, None, None], length.float()[:, None, None]
    step = length / size
    place = torch.arange(size, device=start.device)[None, :, None] + 0.5
    pixel = torch.arange(source, device=start.device)[None, None, :]
    away = (start + place * step - pixel - 0.5).abs() / step.clamp(min=1)
    inside = (pixel >= start) & (pixel < start + length)
    weights = (1 - away).clamp_(min=0) * inside
    return weights / weights.sum(2, keepdim=True)


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
