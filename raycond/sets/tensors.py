"""Float tensors beside the 8-bit images of a condensed set, in safetensors files.

What an optimization gives is stored twice: as 8-bit images that every tool reads, and as it is, without limits and
rounding. A file holds `images` (n, C, H, W) float32 in the space of the set's normalization, `labels` (n,) int32 and,
where a method learns more for each image, further float32 tensors (n, …) under names of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from raycond.core import files
from raycond.core.errors import UserError, parsing
from raycond.core.text import shown
from raycond.sets.stored_files import read_stored

IMAGES, LABELS = "images", "labels"
LEARNED = "learned_labels"
"""Name of the labels (n, classes) that a method has learned for the images, centered: they add up to about 0."""
LEARNED_KIND = "learned"
"""What the manifest of a set says of its labels, where it has such."""


def to_bytes(parts: Sequence[Mapping[str, Tensor]], labels: Tensor) -> bytes:
    """The file of some classes: the tensors of each, which have the same names, one class after the other."""
    tensors = {name: torch.cat([part[name] for part in parts]).float().contiguous() for name in parts[0]}
    return save({**tensors, LABELS: labels.int()})


def read_tensors(
    folder: str, name: str, expected: Mapping[str, Any], *, shape: Sequence[int], checked: bool = False
) -> tuple[dict[str, Tensor], Tensor]:
    """The float32 tensors of one file of the manifest, by name, and the label (n,) int64 of each row.

    shape: (C, H, W) that the images must have. Raises UserError, naming the file, where it is missing, damaged or holds
    something else, numbers that are not finite among it.
    """
    data = read_stored(folder, name, expected, checked=checked)
    where = shown(files.join(folder, name))
    with parsing(where, "the tensors of a condensed set"):
        tensors = load(data)
        labels = tensors.pop(LABELS)
        images = tensors[IMAGES]
    if labels.dtype != torch.int32 or labels.ndim != 1 or tuple(images.shape) != (len(labels), *shape):
        raise UserError(
            f"{where}: damaged: images are {images.dtype} {tuple(images.shape)} and their labels {labels.dtype} "
            f"{tuple(labels.shape)}; expected images of {tuple(shape)}"
        )
    for key, tensor in tensors.items():
        if tensor.dtype != torch.float32 or tensor.shape[:1] != labels.shape or not bool(tensor.isfinite().all()):
            raise UserError(
                f"{where}: damaged: {shown(key, 80)} is {tensor.dtype} {tuple(tensor.shape)}; expected finite float32 "
                f"numbers, a row for each of {len(labels)} images"
            )
    return tensors, labels.long()
