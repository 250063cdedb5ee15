"""Multi-formation (IDC, arXiv 2205.14959, section 4): one stored image holds several training images as tiles.

Images are (n, channels, h, w) floats. Everything here is differentiable with respect to them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Decoder = Literal["single", "multi", "bound"]


@dataclass(frozen=True)
class Formation:
    """How stored images become training images.

    factor: tiles per side; 1 leaves images as they are. decoder: `single` cuts every image into factor² tiles;
    `multi` returns the tiles of every factor from 1 to `factor`; `bound` cuts as many images as it can by the largest
    factor and the others by smaller ones, so that `bound` training images per class are not exceeded.
    fill: the value added right and below where `factor` does not divide the side.
    """

    factor: int = 1
    decoder: Decoder = "single"
    bound: int = 128
    fill: float = 0.5

    def decode(self, images: Tensor) -> Tensor:
        """The training images (m, channels, h, w) of the stored images of one class.

        The tiles of one position come together: with `single`, training image t·n + i is tile t of image i, tiles
        counted along the rows.
        """
        if self.factor == 1:
            return images
        if self.decoder == "single":
            return tiles(images, self.factor, self.fill)
        if self.decoder == "multi":
            return torch.cat([tiles(images, factor, self.fill) for factor in range(1, self.factor + 1)])
        shares = self._bounded(len(images))
        parts = images.split([count for _, count in shares])
        return torch.cat([tiles(part, factor, self.fill) for (factor, _), part in zip(shares, parts, strict=True)])

    def count(self, stored: int) -> int:
        """How many training images `stored` images decode to."""
        if self.factor == 1:
            return stored
        if self.decoder == "single":
            return stored * self.factor**2
        if self.decoder == "multi":
            return stored * sum(factor**2 for factor in range(1, self.factor + 1))
        return sum(count * factor**2 for factor, count in self._bounded(stored))

    def _bounded(self, stored: int) -> list[tuple[int, int]]:
        """(factor, number of images cut by it), largest factor first; IDC's `decode_zoom_bound`."""
        shares, rest, room = [], stored, self.bound - stored
        for factor in range(self.factor, 0, -1):
            count = min(max(0, room // factor**2), rest) if factor > 1 else rest
            if count:
                shares.append((factor, count))
            rest -= count
            room = self.bound - sum(f**2 * n for f, n in shares) - rest
            if rest == 0:
                break
        return shares


def tiles(images: Tensor, factor: int, fill: float) -> Tensor:
    """The factor² tiles of each image, each enlarged to the full size (bilinear), tile by tile."""
    height, width = images.shape[2:]
    rows, columns = math.ceil(height / factor), math.ceil(width / factor)
    if (rows * factor, columns * factor) != (height, width):
        images = F.pad(images, (0, columns * factor - width, 0, rows * factor - height), value=fill)
    parts = [
        images[:, :, i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
        for i in range(factor)
        for j in range(factor)
    ]
    return F.interpolate(torch.cat(parts), (height, width), mode="bilinear", align_corners=False)


def compose(images: Tensor, factor: int) -> Tensor:
    """Stored images from factor² real ones each: (factor²·n, channels, h, w) to (n, channels, h, w).

    Tile t of stored image i is real image t·n + i, shrunk by taking the nearest pixels (IDC's start `mix`). Where
    `factor` does not divide the side, the first tiles are one pixel larger, as in IDC's code.
    """
    if factor == 1:
        return images
    height, width = images.shape[2:]
    rows, columns = _sides(height, factor), _sides(width, factor)
    parts = images.chunk(factor**2)
    lines = [
        torch.cat([F.interpolate(parts[i * factor + j], (rows[i], columns[j])) for j in range(factor)], 3)
        for i in range(factor)
    ]
    return torch.cat(lines, 2)


def _sides(side: int, factor: int) -> list[int]:
    return [side // factor + (k < side % factor) for k in range(factor)]
