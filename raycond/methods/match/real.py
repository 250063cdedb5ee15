"""The real images of all classes, kept once on the device as bytes, and the pixel spaces that matching works in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.core.seeds import seed_of
from raycond.data.class_arrays import Pixels


class RealImages:
    """Decoded images of a source by class, and the constants that normalize them.

    pixels: uint8, in label order. mean, std: per channel in [0, 1], such as those of `published.DATASETS` or of
    `Pixels.statistics`. Raises UserError if they do not fit the images' channels, or a class has no image.
    """

    def __init__(self, pixels: Pixels, mean: Sequence[float], std: Sequence[float]) -> None:
        channels = pixels.shape[0]
        if len(mean) != channels or len(std) != channels or min(std) <= 0:
            raise UserError(f"normalization: expected {channels} means and {channels} positive deviations")
        self.pixels, self.device = pixels, pixels.device
        self.counts: tuple[int, ...] = tuple(pixels.starts.diff().tolist())
        if 0 in self.counts:
            raise UserError(f"class {self.counts.index(0)}: has no image to match")
        self.mean, self.std = (torch.tensor(value, device=self.device).view(1, -1, 1, 1) for value in (mean, std))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.pixels.shape

    @property
    def classes(self) -> int:
        return len(self.counts)

    def raw(self, label: int, rows: Tensor) -> Tensor:
        """Images (n, channels, h, w) in [0, 1]; rows: positions within the class, on the CPU."""
        return self.pixels.raw(int(self.pixels.starts[label]) + rows)[0].float().div_(255)

    def seen(self, label: int, rows: Tensor) -> Tensor:
        """The same images as a network sees them: normalized."""
        return self.normalize(self.raw(label, rows))

    def of_all(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Normalized images and labels, on the device; rows: positions among the images of all classes, on the CPU."""
        images, labels = self.pixels.raw(rows)
        return self.normalize(images.float().div_(255)), labels

    def normalize(self, images: Tensor) -> Tensor:
        """From [0, 1] to zero mean and unit deviation per channel."""
        return (images - self.mean) / self.std

    def denormalize(self, images: Tensor) -> Tensor:
        return images * self.std + self.mean


def endless(count: int, start: int, size: int, seed: int, *stream: str | int) -> Tensor:
    """Positions start … start + size − 1 of an endless sequence of shuffles of 0 … count − 1: (size,) int64, CPU.

    It depends on nothing but its arguments, so a run that goes on at any place reads on there.
    """
    parts = []
    while size:
        epoch, offset = divmod(start, count)
        part = _shuffle(count, seed_of(seed, *stream, "epoch", epoch))[offset : offset + size]
        parts.append(part)
        start, size = start + len(part), size - len(part)
    return torch.cat(parts)


@lru_cache(maxsize=256)
def _shuffle(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))
