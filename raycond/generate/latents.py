"""Latents of a whole source, cached by class, and read again for training."""

from __future__ import annotations

import torch
from torch import Tensor

from raycond.data.class_arrays import ClassArrays, npy


def to_bytes(latents: Tensor) -> bytes:
    """(n, C, h, w) as .npy in half precision: its rounding is far below the least noise of training."""
    return npy(latents.to(torch.float16).cpu().numpy())


class Latents(ClassArrays):
    """All latents with their labels, kept as float16."""

    IN_MEMORY, ITEMSIZE = 4 << 30, 2

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (n, C, h, w) float32 and labels (n,) int64 of some rows, on the device."""
        latents, labels = self.raw(rows)
        return latents.float(), labels
