"""Generators and images for the tests of augmentation."""

from __future__ import annotations

import torch


def generator(seed: int = 0, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def images(n: int = 16, channels: int = 3, height: int = 12, width: int | None = None) -> torch.Tensor:
    """Uniform in [0, 1]."""
    return torch.rand(n, channels, height, width or height, generator=generator(9))
