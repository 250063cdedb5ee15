"""Open a condensed set as a torch Dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset

from raycond.core.errors import UserError
from raycond.core.text import shown
from raycond.data.classes import Classes
from raycond.methods.quantize.codebook import WEIGHT_MODES
from raycond.methods.quantize.codebook import weights as weights_of
from raycond.sets.class_rows import class_rows
from raycond.sets.latents import read_latents
from raycond.sets.manifest import Manifest, read_manifest
from raycond.sets.normalization import Normalization
from raycond.sets.pictures import open_picture
from raycond.sets.place import set_folder
from raycond.sets.tables import read_table
from raycond.sets.tensors import IMAGES, LEARNED, LEARNED_KIND, read_tensors

REPLACED_AT_MOST = 5  # times that a set may be replaced by its writer while it is being opened


class CondensedSet(Dataset[tuple[Any, int, Tensor]]):
    """(image, label, weight) of one IPC, held in memory as encoded images.

    image: float32 (C, H, W) in [0, 1], or what `transform` makes of the PIL image. label: an int. weight: a float32
    scalar tensor, so that the loss of a batch stays float32.
    """

    path: str
    """The folder of the set."""

    manifest: Manifest
    """What the set says of itself."""

    ipc: int
    """Images per class."""

    images: list[bytes]
    """The encoded images."""

    labels: Tensor
    """(N,) int64."""

    weights: Tensor
    """(N,) float32, mean 1 in each class."""

    counts: Tensor
    """(N,) int64, how many source images each image stands for."""

    source_ids: list[str]
    """The id of the real image nearest to each image's latent, within the source; without latents of as many real
    images that stand for the class."""

    def __init__(
        self, path: str, manifest: Manifest, ipc: int, weights: str | None, transform: Callable[[Any], Any] | None
    ) -> None:
        self.path, self.manifest, self.ipc, self.transform = path, manifest, ipc, transform
        tables = [read_table(path, name, manifest.files[name]) for name in manifest.data_files(ipc)]
        if not tables:
            raise UserError(f"{shown(path)}: the manifest lists no data of IPC {ipc}")
        table = pa.concat_tables(tables)
        # chunk by chunk: one Arrow array holds at most 2 GB of bytes
        self.images = [data for chunk in table.column("image").chunks for data in chunk.field("bytes").to_pylist()]
        self.labels = torch.from_numpy(table.column("label").to_numpy().copy())
        self.counts = torch.from_numpy(table.column("count").to_numpy().copy())
        self.source_ids = table.column("source_id").to_pylist()
        self.weights = torch.from_numpy(table.column("weight").to_numpy().copy())
        self._require_fit()
        if weights is not None and weights != manifest.content["weights"]:
            for rows in class_rows(self.labels, len(manifest.classes)):
                if len(rows):
                    self.weights[rows] = weights_of(self.counts[rows], weights)

    def _require_fit(self) -> None:
        """That labels, counts and weights can be trained with; `verify` looks at all the rest."""
        expected = self.manifest.content["cells"][f"ipc{self.ipc}"]["images"]
        problem = ""
        if len(self.labels) != expected or not expected:
            problem = f"{len(self.labels)} images, the manifest says {expected}"
        elif int(self.labels.min()) < 0 or int(self.labels.max()) >= len(self.classes):
            problem = f"labels from {int(self.labels.min())} to {int(self.labels.max())}, {len(self.classes)} classes"
        elif int(self.counts.min()) < 1:
            problem = "an image that stands for no source image"
        elif not bool(torch.isfinite(self.weights).all()) or float(self.weights.min()) < 0:
            problem = "weights that are negative or not finite"
        if problem:
            raise UserError(f"{shown(self.path)}: ipc{self.ipc} is damaged: {problem}")

    @property
    def classes(self) -> Classes:
        """The class list in label order."""
        return self.manifest.classes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int, Tensor]:
        content = self.manifest.content
        try:
            picture = open_picture(self.images[index], content["size"], content["channels"])
        except ValueError as error:
            raise UserError(f"{shown(self.path)}: ipc{self.ipc}, image {index} {error}") from error
        image: Any
        if self.transform is not None:
            image = self.transform(picture)
        else:
            array = np.asarray(picture)
            image = torch.from_numpy(array.reshape(*array.shape[:2], -1).copy()).permute(2, 0, 1).float() / 255
        return image, int(self.labels[index]), self.weights[index].clone()

    def latents(self) -> Tensor:
        """The centroids (N, *latent) float32, in the order of the images."""
        names = self.manifest.latent_files(self.ipc)
        if not names:
            raise UserError(f"{shown(self.path)}: the manifest lists no latents of IPC {self.ipc}")
        return torch.cat([read_latents(self.path, name, self.manifest.files[name])[0] for name in names])

    def tensors(self) -> dict[str, Tensor]:
        """The float tensors in the order of the images, by name: `images` (N, C, H, W) float32 in the space of
        `normalization`, and what else the method learned. Raises UserError where the set has none."""
        names = self.manifest.tensor_files(self.ipc)
        if not names:
            raise UserError(f"{shown(self.path)}: the manifest lists no float tensors of IPC {self.ipc}")
        shape = self.manifest.image_shape
        parts = [read_tensors(self.path, name, self.manifest.files[name], shape=shape) for name in names]
        if not torch.equal(torch.cat([labels for _, labels in parts]), self.labels):
            raise UserError(f"{shown(self.path)}: ipc{self.ipc} is damaged: tensors and images are in another order")
        keys = parts[0][0].keys()
        if any(tensors.keys() != keys for tensors, _ in parts):
            raise UserError(f"{shown(self.path)}: ipc{self.ipc} is damaged: its files have different tensors")
        return {key: torch.cat([tensors[key] for tensors, _ in parts]) for key in keys}

    def float_pixels(self) -> Tensor | None:
        """The images as they were optimized, (N, C, H, W) float32 on the scale of [0, 1] and not clamped; None where
        the set has no float tensors, or they are in a space that does not lead back to pixels."""
        normalization = self.normalization
        if normalization is None or not normalization.keeps_pixels or not self.manifest.tensor_files(self.ipc):
            return None
        return normalization.open(self.manifest.image_shape).invert(self.tensors()[IMAGES]).float()

    def learned_labels(self) -> Tensor | None:
        """(N, classes) float32, labels that a method has learned for the images; None where it has not.

        Raises UserError where the file does not hold what the manifest says.
        """
        if LEARNED_KIND not in self.manifest.content["labels"]:
            return None
        found = self.tensors().get(LEARNED)
        if found is None or found.shape != (len(self), len(self.classes)):
            raise UserError(f"{shown(self.path)}: ipc{self.ipc} is damaged: no learned labels for each image and class")
        return found

    @property
    def normalization(self) -> Normalization | None:
        """By the constants of the real images that the set was made from, where it has them."""
        return Normalization.of(self.path, self.manifest.content)


def open_set(
    path: str,
    ipc: int | None = None,
    *,
    weights: str | None = None,
    transform: Callable[[Any], Any] | None = None,
) -> CondensedSet:
    """Open the set at `path` (local or remote; also the folder of its run) at one IPC (default: the largest it has).

    weights: recompute the weights in another mode (uniform, sqrt, density) than the set was written with. transform:
    applied to the PIL image instead of the conversion to a tensor. Every file that is read must have the digest that
    the manifest gives it. A set that is replaced meanwhile is read anew. Raises UserError if there is no such set or
    IPC, and for a file that is missing or damaged.
    """
    if weights is not None and weights not in WEIGHT_MODES:
        raise UserError(f"weights: '{shown(weights)}' is not one of {', '.join(WEIGHT_MODES)}")
    folder = set_folder(path)
    for _ in range(REPLACED_AT_MOST):
        manifest = read_manifest(folder)
        if ipc is not None and ipc not in manifest.ipcs:
            raise UserError(f"{shown(folder)}: has no IPC {ipc}; it has {', '.join(map(str, manifest.ipcs))}")
        try:
            return CondensedSet(folder, manifest, manifest.ipcs[-1] if ipc is None else ipc, weights, transform)
        except UserError as error:
            if read_manifest(folder) == manifest:  # not replaced: the set itself is damaged
                raise
            problem = error
    raise UserError(f"{shown(folder)}: is being replaced again and again: {problem}")
