"""Codebook to images: decoded centroids, or the real images nearest to them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from raycond.core.errors import RaycondError
from raycond.methods.quantize.codebook_file import StoredCodebook
from raycond.models.codecs.base import Codec


def decode_centroids(stored: StoredCodebook, codec: Codec, *, batch: int) -> Tensor:
    """(K, C, H, W) float32 in [0, 1] on the CPU: decoded centroids. Raises RaycondError if the codec gives NaN."""
    parts = []
    for latents in stored.codebook.centroids.split(batch):
        images = codec.decode(latents)
        if images.isnan().any():
            raise RaycondError(f"class {stored.class_id}: the codec {codec.name} decoded NaN; try --dtype float32")
        parts.append(images.float().cpu())
    return torch.cat(parts)


def resized(images: Tensor, size: int) -> Tensor:
    """Images (n, C, H, W) in [0, 1] with this side: bicubic, antialiased, as the resize that D4M uses (PIL's)."""
    if tuple(images.shape[2:]) == (size, size):
        return images
    return functional.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(0, 1)


def to_uint8(images: Tensor) -> np.ndarray:
    """(n, H, W, C) uint8 of images (n, C, H, W) in [0, 1]."""
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
