"""Colour jitter and PCA noise, drawn for each image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from raycond.core.errors import UserError

GRAY = (0.2989, 0.587, 0.114)  # torchvision's; ITU-R BT.601
# Of the colours of ImageNet in [0, 1], red green blue: eigenvalues, and the eigenvectors as columns (AlexNet)
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


def jitter(images: Tensor, brightness: float, contrast: float, saturation: float, generator: torch.Generator) -> Tensor:
    """torchvision's ColorJitter for (n, 1 or 3, h, w) in [0, 1], always in the order brightness, contrast, saturation.

    Each image has its own factors, uniform in [max(0, 1 − value), 1 + value]; value 0 leaves that property alone.
    Clamped to [0, 1] after each; a grey image has no saturation. Raises UserError for another number of channels.
    """
    if images.shape[1] not in (1, 3):
        raise UserError(f"jitter changes images of 1 or 3 channels, not {images.shape[1]}")
    # all three are drawn always: switching one off must not change the others
    draws = torch.rand(3, len(images), 1, 1, 1, generator=generator, device=generator.device)
    for change, value, draw in zip(
        (brighten, contrasted, saturated), (brightness, contrast, saturation), draws, strict=True
    ):
        if value:
            low, high = max(0.0, 1 - value), 1 + value
            images = change(images, (low + (high - low) * draw).to(images.dtype))
    return images


def brighten(images: Tensor, factor: Tensor) -> Tensor:
    """factor · pixel; factor (n, 1, 1, 1)."""
    return (images * factor).clamp_(0, 1)


def contrasted(images: Tensor, factor: Tensor) -> Tensor:
    """Away from the mean grey of each image by factor (n, 1, 1, 1)."""
    mean = images.mean((2, 3), keepdim=True)
    if images.shape[1] == 3:
        mean = _sum_of_channels(mean, GRAY)
    return (images * factor).add_((1 - factor) * mean).clamp_(0, 1)


def saturated(images: Tensor, factor: Tensor) -> Tensor:
    """Away from the grey of each pixel by factor (n, 1, 1, 1); grey images as they are."""
    if images.shape[1] == 1:
        return images
    gray = _sum_of_channels(images, GRAY)
    return torch.lerp(gray, images, factor).clamp_(0, 1)


def lighting(images: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """Add one colour to each image, normal along ImageNet's colour axes (AlexNet, NeurIPS 2012, section 4.1).

    images (n, 3, h, w) in [0, 1] before; not clamped, as in the source. Raises UserError for other than 3 channels.
    """
    if images.shape[1] != 3:
        raise UserError(f"lighting has the colour axes of 3 channels and the images have {images.shape[1]}")
    draw = torch.randn(len(images), 3, 1, 1, generator=generator, device=generator.device).to(images.dtype) * std
    axes = [[direction * value for direction, value in zip(row, EIGENVALUES, strict=True)] for row in EIGENVECTORS]
    return images + torch.cat([_sum_of_channels(draw, row) for row in axes], 1)


def _sum_of_channels(images: Tensor, weights: Sequence[float]) -> Tensor:
    # Python numbers, as a tensor of constants would have to wait for the device
    first, second, third = images.split(1, dim=1)
    return (first * weights[0]).add_(second, alpha=weights[1]).add_(third, alpha=weights[2])
