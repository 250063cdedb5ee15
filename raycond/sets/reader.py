"""Open a condensed set as a torch Dataset."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from raycond.core import files
from raycond.core.errors import UserError
from raycond.core.tensors import read_safetensors
from raycond.data.classes import Classes
from raycond.methods.quantize.codebook import weights as weights_of
from raycond.sets.class_rows import class_rows
from raycond.sets.manifest import Manifest, read_manifest


class CondensedSet(Dataset[tuple[Any, int, float]]):
    """(image, label, weight) of one IPC: image float32 (C, H, W) in [0, 1], or what `transform` makes of the PIL image.

    labels, weights and counts are also whole tensors (N,), source_ids the ids of the medoids' real images; `classes` is
    the class list in label order.
    """

    def __init__(
        self, path: str, manifest: Manifest, ipc: int, weights: str | None, transform: Callable[[Any], Any] | None
    ) -> None:
        self.path, self.manifest, self.ipc, self.transform = path, manifest, ipc, transform
        tables = [pq.read_table(io.BytesIO(files.read_bytes(files.join(path, n)))) for n in manifest.data_files(ipc)]
        table = pa.concat_tables(tables)
        # chunk by chunk: one Arrow array holds at most 2 GB of bytes
        self.images: list[bytes] = [b for c in table.column("image").chunks for b in c.field("bytes").to_pylist()]
        self.labels = torch.from_numpy(table.column("label").to_numpy().copy())
        self.counts = torch.from_numpy(table.column("count").to_numpy().copy())
        self.source_ids: list[str] = table.column("source_id").to_pylist()
        self.weights = torch.from_numpy(table.column("weight").to_numpy().copy())
        if weights is not None and weights != manifest.content["weights"]:
            for rows in class_rows(self.labels, len(manifest.classes)):
                if len(rows):
                    self.weights[rows] = weights_of(self.counts[rows], weights)

    @property
    def classes(self) -> Classes:
        return self.manifest.classes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int, float]:
        mode = "L" if self.manifest.content["channels"] == 1 else "RGB"  # WebP stores grey as colour
        picture = Image.open(io.BytesIO(self.images[index])).convert(mode)
        image: Any
        if self.transform is not None:
            image = self.transform(picture)
        else:
            array = np.asarray(picture)
            image = torch.from_numpy(array.reshape(*array.shape[:2], -1).copy()).permute(2, 0, 1).float() / 255
        return image, int(self.labels[index]), float(self.weights[index])

    def latents(self) -> Tensor:
        """The centroids (N, *latent) float32, in the order of the images."""
        parts = [read_safetensors(files.join(self.path, n))[0]["latents"] for n in self.manifest.latent_files(self.ipc)]
        return torch.cat(parts)


def open_set(
    path: str,
    ipc: int | None = None,
    *,
    weights: str | None = None,
    transform: Callable[[Any], Any] | None = None,
) -> CondensedSet:
    """Open the set at `path` (local or remote) at one IPC (default: the largest it has).

    weights: recompute the weights in another mode (uniform, sqrt, density) than the set was written with. transform:
    applied to the PIL image instead of the conversion to a tensor. Raises UserError if there is no such set or IPC.
    """
    path = files.absolute(path)
    manifest = read_manifest(path)
    if ipc is not None and ipc not in manifest.ipcs:
        raise UserError(f"{path}: has no IPC {ipc}; it has {', '.join(map(str, manifest.ipcs))}")
    return CondensedSet(path, manifest, ipc if ipc is not None else manifest.ipcs[-1], weights, transform)
