"""Tiny random autoencoders of diffusers, saved as users have them."""

from __future__ import annotations

from typing import Any

import torch

from raycond.models.codecs.autoencoder import AutoencoderConfig, train_autoencoder


def kl(seed: int = 0, **options: Any) -> Any:
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    depth = len(options.setdefault("block_out_channels", (8, 8)))
    options.setdefault("norm_num_groups", 4)
    model: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * depth, up_block_types=("UpDecoderBlock2D",) * depth, **options
    )
    return model.eval()


def tiny(seed: int = 0, **options: Any) -> Any:
    from diffusers import AutoencoderTiny

    torch.manual_seed(seed)
    model: Any = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        upsampling_scaling_factor=2,
        **options,
    )
    return model.eval()


def photos(count: int = 3, size: int = 16, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """(count, channels, size, size) uint8."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, size, size), generator=random, dtype=torch.uint8)


SMALL = AutoencoderConfig(channels=1, widths=(16, 16), steps=150, lr=5e-3, batch=32)


def digits() -> torch.Tensor:
    from sklearn.datasets import load_digits

    return torch.from_numpy(load_digits().images[:400] * 15.9375).to(torch.uint8)[:, None]


def train(config: AutoencoderConfig, images: torch.Tensor | None = None, seed: int = 0, **options: Any) -> Any:
    images = digits() if images is None else images
    return train_autoencoder(images, config, seed=seed, device="cpu", threads=1, **options)
