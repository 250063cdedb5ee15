"""Augmentation of each image on its own: crops, moves and mirror images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raycond.training import augment


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
