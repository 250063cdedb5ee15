"""The diffusion generators by name: `KIND:WHERE` → a generator, opened."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

import torch

from raycond.core.errors import UserError
from raycond.data.classes import Classes
from raycond.models.codecs.base import Codec, parse_dtype
from raycond.models.generators.base import Description, Generator
from raycond.models.generators.diffusers_folder import PipelineFolder, opened
from raycond.models.generators.options import GeneratorOptions

KINDS = {
    "sd": "Stable Diffusion (1.x, 2.x, SDXL, 3) image-to-image from a hub name or a folder (sd:FOLDER)",
    "dit": "class-conditional DiT from noised centroids, from a hub name or a folder (dit:facebook/DiT-XL-2-256)",
}


def describe(spec: str, *, options: GeneratorOptions, classes: Classes, codec: Codec, size: int) -> Description:
    """What `open_generator` would open, with all its checks and without loading a model; reads the weights once.

    size: side of the images that the codec encodes. Raises UserError for what is missing or does not fit, and
    ClassMismatch if the model was trained on other classes.
    """
    from raycond.models.generators import dit, stable_diffusion

    with _opened(spec) as folder:
        kind = stable_diffusion if folder.kind == "sd" else dit
        return kind.describe(folder, options=options, classes=classes, codec=codec, size=size)


def open_generator(
    spec: str, *, options: GeneratorOptions, classes: Classes, codec: Codec, size: int, device: str, dtype: str = "auto"
) -> Generator:
    """The generator of `KIND:WHERE` on a device; the codec must be on the same. Raises as `describe` does."""
    from raycond.models.generators import dit, stable_diffusion

    target, precision = torch.device(device), parse_dtype(dtype, device)
    with _opened(spec) as folder:
        kind = stable_diffusion.StableDiffusion if folder.kind == "sd" else dit.Dit
        return kind(folder, options, classes, codec, size, device=target, dtype=precision)


def _opened(spec: str) -> AbstractContextManager[PipelineFolder]:
    kind, colon, where = spec.partition(":")
    if kind not in KINDS or not colon or not where:
        known = "\n".join(f"  {name:4} {text}" for name, text in KINDS.items())
        raise UserError(f"--generator {spec}: not a diffusion generator KIND:WHERE; known kinds:\n{known}")
    return opened(kind, os.path.expanduser(where))
