"""What every generator is: centroids and classes in, images out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from raycond.core import files
from raycond.data.classes import Classes
from raycond.models.codecs.base import Codec
from raycond.models.generators.options import GeneratorOptions


@dataclass(frozen=True)
class Wanted:
    """Images to make, n of them. An image depends on its own entries here, not on what else is wanted."""

    latents: Tensor
    """(n, *latent) float32: the centroids, scaled as the codec gives them."""

    labels: Tensor
    """(n,) int64."""

    seeds: tuple[int, ...]
    """One for each image."""

    ids: tuple[str, ...] = ()
    """The id of the real image nearest to each centroid; empty where no generator asks for it."""

    def __post_init__(self) -> None:
        if not len(self.latents) == len(self.labels) == len(self.seeds) > 0:
            raise ValueError(f"{len(self.latents)} latents, {len(self.labels)} labels and {len(self.seeds)} seeds")
        if self.ids and len(self.ids) != len(self.seeds):
            raise ValueError(f"{len(self.seeds)} images and {len(self.ids)} ids")

    def __len__(self) -> int:
        return len(self.seeds)

    def rows(self, rows: Sequence[int]) -> Wanted:
        index = torch.as_tensor(rows, dtype=torch.long)
        ids = tuple(self.ids[i] for i in rows) if self.ids else ()
        return Wanted(self.latents[index], self.labels[index], tuple(self.seeds[i] for i in rows), ids)

    def reseeded(self, by: int) -> Wanted:
        return replace(self, seeds=tuple(seed + by for seed in self.seeds))


@dataclass(frozen=True)
class Description:
    """What a generator with weights of its own is."""

    name: str
    """Without folders of this machine."""

    digest: str
    """Of its weights and of all options but the batch."""

    conditions: tuple[str, ...]
    """What each class's images are made from (a prompt, the model's class), in label order."""

    def of_class(self, label: int) -> str:
        """The identity of a class's images, given their latents and seeds: other classes' prompts do not change it."""
        return files.digest([self.digest, self.conditions[label]])


@dataclass(frozen=True)
class Context:
    """What every generator is opened with; each takes of it what it needs."""

    options: GeneratorOptions
    classes: Classes
    codec: Codec
    """The codec that encoded the centroids, on the generator's device."""

    size: int
    """Side of the images that the codec encodes."""

    batch: int = 32
    """Latents that are decoded at once."""

    read: Callable[[int, Sequence[str]], np.ndarray] | None = None
    """(label, image ids) → (n, H, W, C) uint8: real images of a class, of the side that the condensed images have."""


class Generator(ABC):
    """Centroids → images on one device in one precision."""

    seeded = False
    """Whether another seed gives another image. A failed image is then made again."""

    description: Description | None = None
    """None where images depend on nothing but the codebook, the codec and the generator's name."""

    name: str

    @classmethod
    def describe(cls, where: str, context: Context) -> Description | None:  # noqa: ARG003, for those with weights
        """The `description` of what would be opened, after all checks and without loading a model.

        Raises UserError for what is missing or does not fit, and ClassMismatch if it is for other classes.
        """
        return None

    def __init__(self, where: str, context: Context, device: torch.device, dtype: torch.dtype) -> None:
        """Raises as `describe` does. where: what follows the colon of `KIND:WHERE`."""
        self.context, self.device, self.dtype = context, device, dtype

    @abstractmethod
    def __call__(self, wanted: Wanted) -> Tensor:
        """(n, C, H, W) float32 in [0, 1] on the CPU; NaN where a model gave NaN. Raises RaycondError, UserError."""
