"""Two classes that a small network tells apart at once: bright left halves and bright right halves, with noise."""

from __future__ import annotations

import numpy as np
import torch

from raycond.data.class_arrays import Pixels
from raycond.data.classes import Classes

CLASSES = Classes.of(("left", "right"))


def halves(counts: tuple[int, ...] = (24, 21), size: int = 8, channels: int = 1, seed: int = 0) -> list[np.ndarray]:
    """(n, C, h, w) uint8 of each class."""
    draw = np.random.default_rng(seed)
    parts = []
    for label, count in enumerate(counts):
        images = draw.integers(0, 120, (count, channels, size, size))
        side = slice(0, size // 2) if label == 0 else slice(size // 2, size)
        images[..., side] += 120
        parts.append(images.astype(np.uint8))
    return parts


def pixels(counts: tuple[int, ...] = (24, 21), **options: int) -> Pixels:
    return Pixels(halves(counts, **options), "cpu")


def rows(found: Pixels) -> torch.Tensor:
    return torch.arange(len(found))
