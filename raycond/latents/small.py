"""Codecs without diffusers: plain pixels, and TAEF2 from its two state-dict files."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from raycond.errors import UserError
from raycond.latents import taef2
from raycond.latents.codec import Codec, weights_digest


class Pixels(Codec):
    """Latents are the pixels in [0, 1]; `where` is the number of channels (default 3)."""

    kind = "pixels"
    factor = 1
    digest = "pixels"

    def __init__(self, where: str, device: torch.device, dtype: torch.dtype) -> None:
        if where not in ("", "1", "3"):
            raise UserError(f"--codec pixels:{where}: expected pixels, pixels:1 or pixels:3")
        self.where, self.device = where, device
        self.dtype = torch.float32  # halving the precision of the data itself would gain nothing
        self.channels = self.latent_channels = int(where or 3)

    def _encode(self, images: Tensor, noise: Sequence[int] | None) -> Tensor:
        return images.contiguous()

    def _decode(self, latents: Tensor) -> Tensor:
        return latents.contiguous()


class Taef2(Codec):
    """TAEF2 (madebyollin/taesd): factor 8, 32 latent channels; `where` is the folder with its two files."""

    kind = "taef2"
    channels = 3
    factor = taef2.FACTOR
    latent_channels = taef2.LATENT_CHANNELS

    def __init__(self, where: str, device: torch.device, dtype: torch.dtype) -> None:
        self.where, self.device, self.dtype = where, device, dtype
        self._encoder = self._load(taef2.encoder(), "taef2_encoder.pth")
        self._decoder = self._load(taef2.decoder(), "taef2_decoder.pth")
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
