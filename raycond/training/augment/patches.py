"""RDED's patch shuffle."""

from __future__ import annotations

import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.training.augment.geometry import take


def shuffle(images: Tensor, factor: int, generator: torch.Generator) -> Tensor:
    """Cut each image into factor × factor patches and shuffle them, each image in its own way.

    As in RDED's code (CVPR 2024, validation/utils.py) the patch columns are permuted and then the patch rows, so that
    patches of one row stay in one row: (factor!)² arrangements. Patches have side // factor pixels; the last
    side % factor rows and columns stay where they are. Raises UserError for a factor below 1 or above a side.
    """
    n, _, height, width = images.shape
    if not 1 <= factor <= min(height, width):
        raise UserError(f"images of {height}x{width} pixels cannot be cut into {factor}x{factor} patches")
    if factor == 1:
        return images
    columns, rows = torch.rand(2, n, factor, generator=generator, device=generator.device).argsort(2)
    return take(images, _pixels(rows, height), _pixels(columns, width))


def _pixels(order: Tensor, side: int) -> Tensor:
    n, factor = order.shape
    patch = side // factor
    within = torch.arange(patch, device=order.device)
    moved = (order[:, :, None] * patch + within).view(n, factor * patch)
    rest = torch.arange(factor * patch, side, device=order.device)
    return torch.cat([moved, rest.expand(n, -1)], 1)
