"""Diffusion generators: centroids and classes to images, opened by `KIND:WHERE`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raycond.core import files
from raycond.core.errors import UserError
from raycond.models.codecs.base import Codec
from raycond.models.generators.diffusers_folder import PipelineFolder
from raycond.models.generators.options import GeneratorOptions


@dataclass(frozen=True)
class Wanted:
    """Images to make. latents: (n, *latent) scaled as the codec gives them; labels: (n,) int64; seeds: one an image.

    An image depends on its own latent, label and seed, not on what else is wanted.
    """

    latents: Tensor
    labels: Tensor
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.latents) == len(self.labels) == len(self.seeds) > 0:
            raise ValueError(f"{len(self.latents)} latents, {len(self.labels)} labels and {len(self.seeds)} seeds")

    def __len__(self) -> int:
        return len(self.seeds)

    def rows(self, rows: Sequence[int]) -> Wanted:
        index = torch.as_tensor(rows, dtype=torch.long)
        return Wanted(self.latents[index], self.labels[index], tuple(self.seeds[i] for i in rows))

    def reseeded(self, by: int) -> Wanted:
        return replace(self, seeds=tuple(seed + by for seed in self.seeds))


@dataclass(frozen=True)
class Description:
    """What a generator is. name: without folders of this machine. digest: of its weights and all options but batch.

    conditions: what it makes each class from (a prompt, the model's class), in label order. `of` a label is the
    identity of that class's images, given their latents and seeds: another class's prompt does not change it.
    """

    name: str
    digest: str
    conditions: tuple[str, ...]

    def of(self, label: int) -> str:
        return files.digest([self.digest, self.conditions[label]])


class Generator(ABC):
    """Centroids → images on one device in one precision, through the codec that encoded them.

    Raises UserError for latents of another shape than it was opened for.
    """

    def __init__(self, description: Description, options: GeneratorOptions, codec: Codec, size: int) -> None:
        self.description, self.options, self.codec = description, options, codec
        self.name, self.digest = description.name, description.digest
        self.latent_shape = codec.latent_shape(size)

    @torch.inference_mode()
    def __call__(self, wanted: Wanted) -> Tensor:
        """(n, C, H, W) float32 in [0, 1] on the CPU; NaN where the model gave NaN."""
        if tuple(wanted.latents.shape[1:]) != self.latent_shape:
            raise UserError(f"{self.name}: opened for latents {self.latent_shape}, not {(*wanted.latents.shape[1:],)}")
        parts = []
        for start in range(0, len(wanted), self.options.batch):
            part = wanted.rows(range(start, min(start + self.options.batch, len(wanted))))
            parts.append(self.codec.decode(self._latents(part)).cpu())
        return torch.cat(parts)

    @abstractmethod
    def _latents(self, wanted: Wanted) -> Tensor:
        """Clean latents (n, *latent) float32 on the device, of one batch."""


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
