from __future__ import annotations

import os

import pytest
import torch

from raycond.models.codecs.autoencoder import build_autoencoder, factor_of
from raycond.models.codecs.options import AutoencoderConfig
from raycond.models.codecs.recommended import announcement, recommended, seconds_of_training, useful_threads


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("size", "cells"),
    [
        (1, 1),
        (7, 7),
        (8, 4),
        (28, 14),
        (32, 16),
        (45, 45),
        (50, 25),
        (64, 16),
        (96, 24),
        (100, 25),
        (224, 28),
        (256, 32),
    ],
)
def test_every_side_has_an_autoencoder(size: int, cells: int, channels: int) -> None:
    config = recommended(size, channels)  # type: ignore[arg-type]
    assert config.channels == channels
    assert size // factor_of(config) == cells
    if size <= 64:
        model = build_autoencoder(config, channels=channels, size=size, seed=0)
        with torch.inference_mode():
            latents = model.encode(torch.zeros(1, channels, size, size)).latent_dist.mean
            assert latents.shape == (1, config.latent_channels, cells, cells)
            assert model.decode(latents).sample.shape == (1, channels, size, size)


def test_small_images_are_trained_on_one_thread() -> None:
    assert useful_threads(recommended(8, 1), 8) == 1
    assert useful_threads(recommended(64, 3), 64) == min(4, os.cpu_count() or 1)


def test_time_is_measured_and_told() -> None:
    config = AutoencoderConfig(channels=1, widths=(8, 8), steps=100, batch=4)
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    threads = torch.get_num_threads()
    seconds = seconds_of_training(config, images, device="cpu", threads=1)
    assert 0 < seconds < 1000
    assert torch.get_num_threads() == threads
    assert announcement(config, 8, 90.0) == (
        "codec train: an autoencoder 8-8, 1×8×8 pixels to 4×4×4 latents, 100 steps of 4 images: about 1 min 30 s"
    )
