"""The latents of a condensed set, in safetensors files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor

from raycond.core import files
from raycond.core.errors import UserError, parsing
from raycond.core.text import shown
from raycond.sets.stored_files import read_stored


def read_latents(
    folder: str, name: str, expected: Mapping[str, Any], *, checked: bool = False
) -> tuple[Tensor, Tensor]:
    """Latents (n, *latent) float32 and the label (n,) int64 of each, of one file of the manifest.

    Raises UserError, naming the file, where it is missing, damaged or holds something else.
    """
    data = read_stored(folder, name, expected, checked=checked)
    where = shown(files.join(folder, name))
    with parsing(where, "the latents of a condensed set"):
        tensors = load(data)
        latents, labels = tensors["latents"], tensors["labels"]
    kinds = (latents.dtype, labels.dtype, labels.ndim)
    if kinds != (torch.float32, torch.int32, 1) or labels.shape != latents.shape[:1]:
        raise UserError(
            f"{where}: damaged: latents are {latents.dtype} {tuple(latents.shape)} and their labels {labels.dtype} "
            f"{tuple(labels.shape)}"
        )
    return latents, labels.long()


def header(rows: int, latent: tuple[int, ...]) -> bytes:
    """Start of a safetensors file of latents (rows, *latent) float32, labels and counts (rows,) int32.

    Written by hand because safetensors' own writer wants all tensors in memory. All three have four-byte numbers, so
    each is aligned whatever the one before it is.
    """
    described, start = {}, 0
    for name, dtype, shape in (
        ("latents", "F32", (rows, *latent)),
        ("labels", "I32", (rows,)),
        ("counts", "I32", (rows,)),
    ):
        end = start + 4 * math.prod(shape)
        described[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(described).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
