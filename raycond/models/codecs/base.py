"""Codecs: image ⇄ latent, opened by `KIND[:WHERE]`."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from raycond.core.errors import UserError


class Codec(ABC):
    """Image ⇄ latent on one device in one precision.

    Images are (N, C, H, W) with values in [0, 1]; latents (N, *latent_shape) float32, scaled as the codec's
    diffusion models expect them. `digest` is the SHA-256 of the weights, so that work made by another codec is never
    taken for this one's.
    """

    kind: str
    where: str
    channels: int
    factor: int  # pixels per latent cell, along each side
    latent_channels: int
    digest: str
    device: torch.device
    dtype: torch.dtype

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.where}" if self.where else self.kind

    def latent_shape(self, size: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of size × size images. Raises UserError if the size does not fit."""
        if size % self.factor:
            raise UserError(f"--size {size}: codec {self.name} needs a multiple of {self.factor}")
        return (self.latent_channels, size // self.factor, size // self.factor)

    @torch.inference_mode()
    def encode(self, images: Tensor, noise: Sequence[int] | None = None) -> Tensor:
        """uint8 or float images → latents. noise: one seed per image to sample the posterior; None for its mean."""
        x = images.to(self.device, non_blocking=True)
        x = x.float().div_(255) if x.dtype == torch.uint8 else x.float()
        x = x.to(self.dtype).contiguous(memory_format=torch.channels_last)
        return self._encode(x, noise).float()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents → images (N, C, H, W) float32 in [0, 1]."""
        z = latents.to(self.device, self.dtype).contiguous(memory_format=torch.channels_last)
        return self._decode(z).float().clamp(0, 1)

    @abstractmethod
    def _encode(self, images: Tensor, noise: Sequence[int] | None) -> Tensor: ...

    @abstractmethod
    def _decode(self, latents: Tensor) -> Tensor: ...


def weights_digest(*modules: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of all weights."""
    sha = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def parse_dtype(name: str, device: str) -> torch.dtype:
    """`auto` is bfloat16 on a GPU and float32 elsewhere."""
    if name == "auto":
        return torch.bfloat16 if device.startswith("cuda") else torch.float32
    found = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}.get(name)
    if found is None:
        raise UserError(f"--dtype {name}: expected auto, float32, bfloat16 or float16")
    return found
