"""The generators by name: `KIND[:WHERE]` → a generator, opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raycond.core.registry import Entry, Registry
from raycond.models.generators.options import GeneratorOptions

if TYPE_CHECKING:
    import numpy as np

    from raycond.data.classes import Classes
    from raycond.models.codecs.base import Codec
    from raycond.models.generators.base import Description, Generator

_HERE = "raycond.models.generators"
_DIFFUSION = ("guidance", "steps", "scheduler", "mode_guidance", "mode_stop", "batch")


@dataclass(frozen=True)
class GeneratorEntry(Entry):
    """A kind of generator; its target is a subclass of `base.Generator`."""

    options: tuple[str, ...] = ("batch",)
    """The fields of `GeneratorOptions` that have a meaning for it."""

    own_codec: bool = False
    """Whether WHERE holds the autoencoder of its latents, which is then the codec unless another is named."""


GENERATORS = Registry(
    "--generator",
    [
        GeneratorEntry("vae", "the decoded centroids", f"{_HERE}.decoded:Decoded"),
        GeneratorEntry("medoid", "the real images nearest to the centroids", f"{_HERE}.medoid:Medoid"),
        GeneratorEntry(
            "sd",
            "Stable Diffusion (1.x, 2.x, SDXL, 3) image-to-image, from the hub or a folder",
            f"{_HERE}.stable_diffusion:StableDiffusion",
            "NAME|FOLDER",
            (*_DIFFUSION, "strength", "prompt", "negative_prompt"),
            own_codec=True,
        ),
        GeneratorEntry(
            "dit",
            "class-conditional DiT from noised centroids, from the hub or a folder (dit:facebook/DiT-XL-2-256)",
            f"{_HERE}.dit:Dit",
            "NAME|FOLDER",
            (*_DIFFUSION, "noise", "class_map", "recipe", "guidance_channels"),
            own_codec=True,
        ),
    ],
)


def describe(spec: str, *, options: GeneratorOptions, classes: Classes, codec: Codec, size: int) -> Description | None:
    """What `open_generator` would open, with all its checks and without loading a model; reads the weights once.

    size: side of the images that the codec encodes. None for a generator without weights of its own. Raises UserError
    for what is missing or does not fit, and ClassMismatch if the model was trained on other classes.
    """
    from raycond.models.generators.base import Context

    entry, where = GENERATORS.parse(spec)
    described: Description | None = entry.load().describe(where, Context(options, classes, codec, size))
    return described


def open_generator(
    spec: str,
    *,
    options: GeneratorOptions,
    classes: Classes,
    codec: Codec,
    size: int,
    device: str,
    dtype: str = "auto",
    batch: int = 32,
    read: Callable[[int, Sequence[str]], np.ndarray] | None = None,
) -> Generator:
    """The generator of `KIND[:WHERE]` on a device; the codec must be on the same. Raises as `describe` does.

    batch: latents that `vae` decodes at once. read: what `medoid` reads real images with, see `base.Context`.
    """
    import torch

    from raycond.models.codecs.base import parse_dtype
    from raycond.models.generators.base import Context

    entry, where = GENERATORS.parse(spec)
    context = Context(options, classes, codec, size, batch, read)
    generator: Generator = entry.load()(where, context, torch.device(device), parse_dtype(dtype, device))
    return generator
