"""Generators that are latent diffusion models in a pipeline folder of diffusers."""

from __future__ import annotations

import os
from abc import abstractmethod

import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.models.codecs.base import Codec
from raycond.models.generators.base import Context, Description, Generator, Wanted
from raycond.models.generators.diffusers_folder import PipelineFolder, opened


class LatentDiffusion(Generator):
    """Noised centroids → clean latents → images, through the codec that encoded the centroids."""

    seeded = True
    kind: str
    description: Description

    def __init__(self, where: str, context: Context, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(where, context, device, dtype)
        self.codec, self.options = context.codec, context.options
        self.latent_shape = self.codec.latent_shape(context.size)
        with opened(self.kind, os.path.expanduser(where)) as folder:
            self.description = self.describe_folder(folder, context)
            self._load(folder)
        self.name, self.digest = self.description.name, self.description.digest

    @classmethod
    def describe(cls, where: str, context: Context) -> Description:
        with opened(cls.kind, os.path.expanduser(where)) as folder:
            return cls.describe_folder(folder, context)

    @classmethod
    @abstractmethod
    def describe_folder(cls, folder: PipelineFolder, context: Context) -> Description:
        """Reads the weights once, for their digest. Raises as `describe` does."""

    @abstractmethod
    def _load(self, folder: PipelineFolder) -> None:
        """Bring the folder's models to the device; the folder may be gone afterwards."""

    @abstractmethod
    def _latents(self, wanted: Wanted) -> Tensor:
        """Clean latents (n, *latent) float32 on the device, of one batch."""

    @torch.inference_mode()
    def __call__(self, wanted: Wanted) -> Tensor:
        """See `Generator`. Raises UserError for latents of another shape than it was opened for."""
        if tuple(wanted.latents.shape[1:]) != self.latent_shape:
            raise UserError(f"{self.name}: opened for latents {self.latent_shape}, not {(*wanted.latents.shape[1:],)}")
        parts = []
        for start in range(0, len(wanted), self.options.batch):
            part = wanted.rows(range(start, min(start + self.options.batch, len(wanted))))
            parts.append(self.codec.decode(self._latents(part)).cpu())
        return torch.cat(parts)


def require_codec(folder: PipelineFolder, codec: Codec, channels: int) -> None:
    """Raise UserError unless the codec's latents are those that the pipeline's model was trained on.

    Compared are the channels and the scale and shift of the pipeline's own VAE. Tiny autoencoders are made for the
    scaled latents of the VAE that they stand for, and have no scale of their own.
    """
    if codec.latent_channels != channels:
        raise UserError(
            f"{folder}: works on latents of {channels} channels, and codec {codec.name} gives "
            f"{codec.latent_channels}; encode with its own: --codec kl:{folder.where}"
        )
    vae = folder.config("vae")
    if vae.get("latents_mean") is not None or vae.get("latents_std") is not None:
        raise UserError(f"{folder}: its VAE normalises every channel by itself, which codecs here do not do")
    if codec.kind == "tiny":
        return
    own = (float(vae.get("scaling_factor") or 0.18215), float(vae.get("shift_factor") or 0.0))
    given = (getattr(codec, "scale", None), getattr(codec, "shift", None))
    if None in given or any(abs(a - b) > 1e-4 * abs(a) for a, b in zip(own, given, strict=True) if b is not None):
        raise UserError(
            f"{folder}: made for latents with scale {own[0]:g} and shift {own[1]:g}, and codec {codec.name} has "
            f"{given[0]} and {given[1]}; encode with its own: --codec kl:{folder.where}"
        )
