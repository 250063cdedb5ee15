"""A labelled, possibly weighted image set in memory, and what training needs to know of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raycond.core import stream
from raycond.core.errors import UserError


@dataclass(frozen=True)
class LabelledImages:
    """A set in memory: images (n, channels, size, size) uint8, labels (n,) int64, weights (n,) float32 or None.

    Raises UserError where the parts do not fit together.
    """

    images: Tensor
    labels: Tensor
    classes: int
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise UserError(f"images must be uint8 NCHW, not {self.images.dtype} {tuple(self.images.shape)}")
        n, _, height, width = self.images.shape
        if n == 0:
            raise UserError("a set to train or test on must have at least one image")
        if height != width:
            raise UserError(f"images must be square, not {width}x{height}: give the source a size")
        if self.labels.dtype != torch.int64 or self.labels.shape != (n,):
            raise UserError(f"labels must be int64 of shape ({n},), one an image")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= self.classes:
            raise UserError(f"labels go from {low} to {high}, but there are {self.classes} classes")
        if self.weights is not None:
            if self.weights.shape != (n,):
                raise UserError(f"weights must have shape ({n},), one an image")
            if not bool(torch.isfinite(self.weights).all()) or float(self.weights.min()) < 0:
                raise UserError("weights must be finite and not negative")

    def __len__(self) -> int:
        return len(self.images)

    def at_most(self, side: int | None) -> LabelledImages:
        """The same set with images of at most `side` pixels, averaged over areas; itself if they already are."""
        if side is None or self.images.shape[-1] <= side:
            return self
        parts = [
            F.interpolate(part.float(), (side, side), mode="area").round().to(torch.uint8)
            for part in self.images.split(256)
        ]
        return replace(self, images=torch.cat(parts))

    def centre(self, side: int) -> LabelledImages:
        """The same set with the central `side` pixels of each image; itself if they have that size."""
        edge = self.images.shape[-1] - side
        if edge == 0:
            return self
        if edge < 0:
            raise UserError(f"images of {self.images.shape[-1]} pixels have no centre of {side}")
        low = edge // 2
        return replace(self, images=self.images[:, :, low : low + side, low : low + side].contiguous())


def pixel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, in 0..255, of (n, channels, h, w) uint8 images.

    Sums are integers, so neither chunking nor device changes a bit. A constant channel gets deviation 1.
    """
    total = torch.zeros(images.shape[1], dtype=torch.int64)
    square = torch.zeros_like(total)
    for part in images.split(1024):
        values = part.to(torch.int64)
        total += values.sum((0, 2, 3)).cpu()
        square += values.square().sum((0, 2, 3)).cpu()
    count = images.numel() // images.shape[1]
    mean = total.double() / count
    variance = (square.double() / count - mean.square()).clamp(min=0)
    return mean.float(), torch.where(variance > 1e-6, variance, 1.0).sqrt().float()


def class_mean_one(weights: Tensor, labels: Tensor) -> Tensor:
    """Weights (n,) scaled to mean 1 within each class; equal weights become exactly 1."""
    exact = weights.double()
    present = labels.unique()
    total = torch.zeros(int(present.max()) + 1, dtype=torch.float64).index_add_(0, labels, exact)
    mean = total / torch.bincount(labels, minlength=len(total))
    if bool((mean[present] == 0).any()):
        first = int(present[mean[present] == 0][0])
        raise UserError(f"class {first}: every weight is 0, so nothing of it would be learnt")
    return (exact / mean[labels]).float()


def labelled(images: np.ndarray, labels: Sequence[int], classes: int, weights: torch.Tensor | None) -> LabelledImages:
    """From (N, H, W, C) uint8."""
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return LabelledImages(tensor, torch.tensor(labels), classes, weights)


def write_pixels(uri: str, images: np.ndarray, labels: np.ndarray) -> None:
    """A decoded split, images (N, H, W, C) uint8 and labels (N,), as an uncompressed npz."""
    with stream.writer(uri) as file:
        np.savez(file, images=images, labels=labels)


@lru_cache(maxsize=2)
def pixels(uri: str, classes: int) -> LabelledImages:
    """A decoded split, read once per process and shared by all its trainings."""
    with stream.reader(uri) as file, np.load(file, allow_pickle=False) as arrays:
        return labelled(arrays["images"], arrays["labels"].tolist(), classes, None)
