"""IDC's differentiable augmentation (ICML 2022): several of DSA's operations on every image instead of one.

The operations and their ranges are those of `raycond.training.augment.dsa`; what differs is how they are combined.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.training.augment.dsa import dsa, dsa_operations

ALWAYS = ("flip", "color", "cutout")  # applied whenever they are named; flip has a coin of its own


def diffaug(images: Tensor, strategy: str, generator: torch.Generator, *, shared: bool = False) -> Tensor:
    """`DiffAug` of snu-mllab/Efficient-Dataset-Condensation on a batch of normalized images (n, channels, h, w).

    strategy: operations joined by `_`, such as color_crop_cutout. Flip and color, where named, come first and always;
    then one of crop, scale and rotate, picked for the call with equal chances; then cutout, where named. The
    parameters of each are drawn for each image or, with `shared` (IDC's `batch=True`), once for all of them, so that
    generators in the same state change two batches in the same way. The generator lives on the device of the images.
    Raises UserError for an unknown operation.
    """
    operations = diffaug_operations(strategy)
    for name in ("flip", "color"):
        if name in operations:
            images = dsa(images, name, generator, shared=shared)
    if one_of := [name for name in operations if name not in ALWAYS]:
        images = dsa(images, "_".join(one_of), generator, shared=shared)
    if "cutout" in operations:
        images = dsa(images, "cutout", generator, shared=shared)
    return images


def diffaug_operations(strategy: str) -> tuple[str, ...]:
    """The operations that a strategy names. Raises UserError for an unknown one."""
    operations = dsa_operations(strategy)
    if operations == ("dc",):
        raise UserError("idc augmentation: dc is an augmentation by itself: join operations such as color_crop_cutout")
    return operations
