"""Images of a generator to the images of a set: their side, and 8 bits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def resized(images: Tensor, size: int) -> Tensor:
    """Images (n, C, H, W) in [0, 1] with this side: bicubic, antialiased, as the resize that D4M uses (PIL's)."""
    if tuple(images.shape[2:]) == (size, size):
        return images
    return functional.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(0, 1)


def to_uint8(images: Tensor) -> np.ndarray:
    """(n, H, W, C) uint8 of images (n, C, H, W) in [0, 1]."""
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
