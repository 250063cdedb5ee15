"""Optimized images as people look at them: 8-bit images of the set, and sheets of snapshots."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from raycond.data.encoded import encode_image
from raycond.models.generators.images import to_uint8
from raycond.sets.preview import preview

MOST_CLASSES = 20  # rows of a sheet


@dataclass(frozen=True)
class _Row:
    images: list[bytes]


def encoded(images: Tensor, image_format: str) -> list[bytes]:
    """Images (n, C, H, W) on the scale of [0, 1], beyond which they are cut off, as 8-bit files."""
    return [encode_image(image, image_format) for image in to_uint8(images.detach().cpu().clamp(0, 1))]


def sheet(images: Tensor) -> bytes:
    """A PNG of images (classes, ipc, C, H, W): a row of up to ten for each of the first 20 classes."""
    return preview([_Row(encoded(of_class[:10], "png")) for of_class in images[:MOST_CLASSES]])
