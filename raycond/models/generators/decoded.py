"""The generator `vae`: decoded centroids."""

from __future__ import annotations

import torch
from torch import Tensor

from raycond.models.generators.base import Generator, Wanted


class Decoded(Generator):
    """Each centroid through the codec's decoder, `Context.batch` at a time."""

    name = "vae"

    def __call__(self, wanted: Wanted) -> Tensor:
        codec = self.context.codec
        return torch.cat([codec.decode(latents).float().cpu() for latents in wanted.latents.split(self.context.batch)])
