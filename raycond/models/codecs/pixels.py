"""The codec without a model: latents are pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.models.codecs.base import Codec


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
