"""A trained autoencoder for images of any size: which one, on how many threads, and how long it will take."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from raycond.core.device import torch_threads
from raycond.core.progress import clock
from raycond.models.codecs.autoencoder import AutoencoderTraining, factor_of
from raycond.models.codecs.options import AutoencoderConfig

# up to this side: channels at each resolution, steps, batch, learning rate
_BY_SIDE: tuple[tuple[int, tuple[int, ...], int, int, float], ...] = (
    (16, (16, 32), 300, 32, 6e-3),
    (48, (16, 32), 600, 32, 3e-3),
    (96, (16, 32, 64), 1000, 32, 2e-3),
    (10_000, (32, 64, 128, 128), 3000, 16, 1e-3),
)
_SHARED_FROM = 2**19  # values of the largest map of a batch; threads of a smaller one wait longer than they compute
_MOST_THREADS = 4
_TIMED_STEPS = 2


def recommended(size: int, channels: Literal[1, 3]) -> AutoencoderConfig:
    """The autoencoder of `--codec train` for images of this side, where the configuration describes none.

    Up to 48 pixels the latents have half the image's side, up to 96 a quarter, beyond an eighth; less where that does
    not divide the side. The values are raycond's own: they gave photographs of 32 and 64 pixels, and digits of 8, in
    minutes on a CPU. Larger images want a GPU, or a public VAE.
    """
    widths, steps, batch, lr = next(row[1:] for row in _BY_SIDE if size <= row[0] or row is _BY_SIDE[-1])
    while size % 2 ** (len(widths) - 1):
        widths = widths[1:]
    return AutoencoderConfig(channels=channels, widths=widths, steps=steps, batch=batch, lr=lr, shift=0.0)


def useful_threads(config: AutoencoderConfig, size: int) -> int:
    """Threads of torch that make a step on CPUs faster: 1 for small images, else the CPUs there are, up to 4.

    float32 sums, and so the bytes of the codec, depend on it.
    """
    largest = config.batch * config.widths[0] * size * size
    return 1 if largest < _SHARED_FROM else min(_MOST_THREADS, os.cpu_count() or 1)


def seconds_of_training(
    config: AutoencoderConfig, images: Tensor, *, device: str | torch.device, threads: int
) -> float:
    """What the training on these images (N, C, H, W) uint8 will take here, from the time of two steps of it."""
    training = _EachStep(replace(config, steps=1 + _TIMED_STEPS), images, seed=0, device=device)
    with torch_threads(threads):
        steps = training.run()
        next(steps)  # in the first step the kernels are chosen
        started = time.perf_counter()
        for _ in steps:
            pass
    return (time.perf_counter() - started) / _TIMED_STEPS * config.steps


class _EachStep(AutoencoderTraining):
    """Looks at the loss, and so waits for the device, after every step."""

    def due(self) -> bool:
        return True


def announcement(config: AutoencoderConfig, size: int, seconds: float) -> str:
    """What is trained, in one line for people, before it starts."""
    cells = size // factor_of(config)
    widths = "-".join(map(str, config.widths))
    return (
        f"codec train: an autoencoder {widths}, {config.channels}×{size}×{size} pixels to "
        f"{config.latent_channels}×{cells}×{cells} latents, {config.steps} steps of {config.batch} images: about "
        f"{clock(seconds)}"
    )
