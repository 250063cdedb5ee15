"""Colour jitter and PCA noise, drawn for each image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from raycond.core.errors import UserError

GRAY = (0.299, 0.587, 0.114)  # ITU-R BT.601
# Of the colours of ImageNet in [0, 1], red green blue: eigenvalues, and the eigenvectors as columns (AlexNet)
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


def jitter(images: Tensor, brightness: float, contrast: float, saturation: float, generator: torch.Generator) -> Tensor:
    """IDC's ColorJitter (ICML 2022, misc/augment.py), which minimax-hard uses, for (n, 1 or 3, h, w) in [0, 1].

    Each image has its own factors, uniform in [max(0, 1 − value), 1 + value], and the three changes come in a random
    order of its own, as torchvision's do; unlike torchvision's they do not clamp, so pixels may leave [0, 1]. Value 0
    leaves a property alone. Raises UserError for another number of channels.
    """
    if images.shape[1] not in (1, 3):
        raise UserError(f"jitter changes images of 1 or 3 channels, not {images.shape[1]}")
    # all of them are drawn always: switching one off must not change the others
    draws = torch.rand(len(images), 6, generator=generator, device=generator.device)
    return jittered(images, (brightness, contrast, saturation), draws)


def jittered(images: Tensor, values: Sequence[float], draws: Tensor) -> Tensor:
    """The change of `jitter` from (n, 6) uniform numbers: three factors, and three whose order is that of changes."""
    if not any(values):
        return images
    factors = torch.stack([max(0.0, 1 - v) + (1 + v - max(0.0, 1 - v)) * draws[:, k] for k, v in enumerate(values)], 1)
    order = draws[:, 3:].argsort(1)
    for step in order.unbind(1):
        factor = factors.gather(1, step[:, None])[..., None, None].to(images.dtype)
        gray = _gray(images)
        about = torch.where((step == 1)[:, None, None, None], gray.mean((2, 3), keepdim=True), gray)
        # brightness is about black; a grey image has no saturation
        about = torch.where((step == 0)[:, None, None, None], torch.zeros_like(about), about)
        images = torch.lerp(about, images, factor)
    return images


def _gray(images: Tensor) -> Tensor:
    return images if images.shape[1] == 1 else _sum_of_channels(images, GRAY)


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
