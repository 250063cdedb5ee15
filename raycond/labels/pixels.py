"""The decoded images of a source, one file of each class, as trainings of teachers and projectors take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raycond import augment
from raycond.data.class_arrays import ClassArrays
from raycond.errors import UserError
from raycond.resumable import seed_of


class Pixels(ClassArrays):
    """All images with their labels, uint8."""

    IN_MEMORY, ITEMSIZE = 8 << 30, 1

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Images (n, C, h, w) in [0, 1] and labels (n,) int64 of some rows, on the device."""
        images, labels = self.raw(rows)
        return images.float() / 255, labels

    def statistics(self, rows: Tensor, most: int = 50_000) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation per channel, in [0, 1], over at most `most` evenly spaced rows; integer sums, so neither
        chunks nor device change a digit."""
        chosen = rows[:: -(-len(rows) // most)]
        total = torch.zeros(self.shape[0], dtype=torch.int64)
        square = torch.zeros_like(total)
        for part in chosen.split(1024):
            values = self.raw(part)[0].to(torch.int64)
            total += values.sum((0, 2, 3)).cpu()
            square += values.square().sum((0, 2, 3)).cpu()
        count = len(chosen) * self.shape[1] * self.shape[2]
        mean = total.double() / count
        deviation = (square.double() / count - mean.square()).clamp(min=1).sqrt()
        return tuple(round(m, 6) for m in (mean / 255).tolist()), tuple(round(d, 6) for d in (deviation / 255).tolist())


def split(counts: Sequence[int], held_out: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to learn from and rows held out: of each class `held_out`, at most a fifth of it, drawn by `seed`.

    Raises UserError if nothing would be held out.
    """
    learn, held, start = [], [], 0
    for label, count in enumerate(counts):
        random = torch.Generator().manual_seed(seed_of(seed, "held out", label))
        order = start + torch.randperm(count, generator=random)
        most = min(held_out, count // 5)
        held.append(order[:most].sort().values)
        learn.append(order[most:].sort().values)
        start += count
    if not sum(len(part) for part in held):
        raise UserError(
            f"--holdout {held_out}: no class has the five images it takes to hold one out, or the number is 0"
        )
    return torch.cat(learn), torch.cat(held)


@dataclass(frozen=True)
class Augmentation:
    """Each image on its own: crops whose area is a share in `scale`, moves of up to `shift` of a side, mirroring."""

    scale: tuple[float, float] | None = None
    shift: float = 0.0
    flip: bool = False

    def __call__(self, images: Tensor, random: torch.Generator) -> Tensor:
        """(n, C, h, w) in [0, 1]; the generator lives on their device."""
        if self.scale is not None:
            images = augment.random_crop_scale(images, self.scale, random)
        if self.shift:
            images = augment.shift(images, self.shift, random)
        if self.flip:
            images = augment.flip(images, random)
        return images
