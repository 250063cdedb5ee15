"""Options of the small autoencoder that a run may train for itself."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from raycond.core.options import STRICT, Configuration, option


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AutoencoderConfig(Configuration):
    """The small AutoencoderKL of `--codec train`: its layers, and its training on the source's images with L1 + kl · KL
    by AdamW under a one-cycle schedule. No paper sets these values; they are chosen for images of 8 to 64 pixels."""

    GROUP = "autoencoder"

    channels: Literal[1, 3] = option(3)
    """Channels of the images: 1 for gray ones, 3 for color."""

    images: int = option(20_000, ge=1)
    """Number of images to train on, at most, the same number from every class. All are held in memory."""

    latent_channels: int = option(4)
    """Channels of the latents."""

    widths: tuple[int, ...] = option((16, 32))
    """Channels of the network at each resolution; every one after the first halves the sides of the image, so that two
    give latents of half the size."""

    layers: int = option(1)
    """Residual blocks at each resolution."""

    steps: int = option(600)
    """Steps of the training."""

    batch: int = option(64)
    """Images in each step."""

    lr: float = option(2e-3)
    """Peak learning rate of the one-cycle schedule."""

    kl: float = option(1e-5)
    """Weight of the KL term beside the L1 error of the reconstruction."""

    shift: float = option(0.1)
    """Largest random shift of the images while training, as a share of their side. 0 for none."""
