"""TAEF2, the tiny autoencoder of FLUX.2's latent space, from its two state-dict files.

The architecture is read off the keys and shapes of the files (madebyollin/taesd, MIT): factor 8, 32 latent
channels, 64 wide; three blocks of the encoder and of the decoder carry a second residual branch
(1×1, GroupNorm(4), ReLU, 1×1). Latents are used as they come: no scaling factor.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from raycond.core.errors import UserError
from raycond.models.codecs.base import Codec, weights_digest

WIDTH = 64
LATENT_CHANNELS = 32
FACTOR = 8
CLAMP = 3.0  # the decoder squashes its input softly into (−3, 3)


class _Block(nn.Module):
    """Three 3×3 convolutions with a skip; `pool` adds the normalised 1×1 branch before them."""

    def __init__(self, pool: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
        )
        if pool:
            self.pool = nn.Sequential(
                nn.Conv2d(WIDTH, 4 * WIDTH, 1, bias=False),
                nn.GroupNorm(4, 4 * WIDTH),
                nn.ReLU(),
                nn.Conv2d(4 * WIDTH, WIDTH, 1, bias=False),
            )

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "pool"):
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


class _SoftClamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / CLAMP) * CLAMP


def _down() -> nn.Conv2d:
    return nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1, bias=False)


def _up() -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)]


def encoder(channels: int = 3) -> nn.Sequential:
    """Images (N, channels, H, W) in [0, 1] → latents (N, 32, H/8, W/8)."""
    return nn.Sequential(
        nn.Conv2d(channels, WIDTH, 3, padding=1),
        _Block(),
        *(_down(), _Block(), _Block(), _Block()),
        *(_down(), _Block(), _Block(), _Block()),
        *(_down(), _Block(pool=True), _Block(pool=True), _Block(pool=True)),
        nn.Conv2d(WIDTH, LATENT_CHANNELS, 3, padding=1),
    )


def decoder(channels: int = 3) -> nn.Sequential:
    """Latents (N, 32, h, w) → images (N, channels, 8h, 8w), about in [0, 1]."""
    return nn.Sequential(
        _SoftClamp(),
        nn.Conv2d(LATENT_CHANNELS, WIDTH, 3, padding=1),
        nn.ReLU(),
        *(_Block(pool=True), _Block(pool=True), _Block(pool=True), *_up()),
        *(_Block(), _Block(), _Block(), *_up()),
        *(_Block(), _Block(), _Block(), *_up()),
        _Block(),
        nn.Conv2d(WIDTH, channels, 3, padding=1),
    )


class Taef2(Codec):
    """TAEF2 (madebyollin/taesd): factor 8, 32 latent channels; `where` is the folder with its two files."""

    kind = "taef2"
    channels = 3
    factor = FACTOR
    latent_channels = LATENT_CHANNELS

    def __init__(self, where: str, device: torch.device, dtype: torch.dtype) -> None:
        self.where, self.device, self.dtype = where, device, dtype
        self._encoder = self._load(encoder(), "taef2_encoder.pth")
        self._decoder = self._load(decoder(), "taef2_decoder.pth")
        self.digest = weights_digest(self._encoder, self._decoder)
        for module in (self._encoder, self._decoder):
            module.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _load(self, module: nn.Module, name: str) -> nn.Module:
        path = os.path.join(os.path.expanduser(self.where or "."), name)
        if not os.path.isfile(path):
            raise UserError(
                f"--codec {self.name}: {path} is not there; get taef2_encoder.pth and taef2_decoder.pth "
                "(madebyollin/taesd) into one folder and give taef2:FOLDER"
            )
        try:
            module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:
            raise UserError(f"--codec {self.name}: {path} does not hold TAEF2's weights: {error}") from error
        return module.eval().requires_grad_(False)

    def _encode(self, images: Tensor, noise: Sequence[int] | None) -> Tensor:
        if noise is not None:
            raise UserError("--posterior sample: TAEF2 has no posterior to sample; use mean")
        return self._encoder(images)

    def _decode(self, latents: Tensor) -> Tensor:
        return self._decoder(latents)
