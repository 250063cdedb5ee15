"""A labelled, possibly weighted image set, and the file that keeps a decoded split for all trainings of a run."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import IO

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raycond.core import files, stream
from raycond.core.errors import UserError
from raycond.core.tensors import read_safetensors

_HEADER_BYTES = 1024  # of a decoded split, its length field included


@dataclass(frozen=True)
class LabelledImages:
    """A set of labelled images.

    The images may be mapped from a file, so that most of them are on no page of memory yet: read them batch by batch,
    as `images[rows]` or `images.split(n)`, and move the batch.

    Raises UserError where the parts do not fit together.
    """

    images: Tensor
    """(n, channels, size, size) uint8, or float32 on the scale of [0, 1], beyond which optimized images may go."""
    labels: Tensor
    """(n,) int64."""
    classes: int
    """Number of classes; labels are below it."""
    weights: Tensor | None = None
    """(n,) float32, one weight an image; None where all count the same."""
    normalized: bool = False
    """Whether the images, float32, are not pixels but what the student sees: in the space of a normalization."""
    values: Tensor | None = None
    """(n, classes) float32, labels that a method has learned for the images; None where it has not."""

    def __post_init__(self) -> None:
        kinds = (torch.float32,) if self.normalized else (torch.uint8, torch.float32)
        if self.images.dtype not in kinds or self.images.ndim != 4:
            raise UserError(
                f"images must be {'' if self.normalized else 'uint8 or '}float32 NCHW, not {self.images.dtype} "
                f"{tuple(self.images.shape)}"
            )
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
        if self.values is not None and self.values.shape != (n, self.classes):
            raise UserError(f"learned labels must have shape ({n}, {self.classes}), a row an image")
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
        small = self.images.new_empty((*self.images.shape[:2], side, side))
        for part, source in zip(small.split(256), self.images.split(256), strict=True):
            averaged = F.interpolate(source.float(), (side, side), mode="area")
            part.copy_(averaged.round() if part.dtype == torch.uint8 else averaged)
        return replace(self, images=small)

    def centre(self, side: int) -> LabelledImages:
        """The same set with the central `side` pixels of each image, as a view: nothing is copied."""
        edge = self.images.shape[-1] - side
        if edge == 0:
            return self
        if edge < 0:
            raise UserError(f"images of {self.images.shape[-1]} pixels have no centre of {side}")
        low = edge // 2
        return replace(self, images=self.images[:, :, low : low + side, low : low + side])


def in_unit(images: Tensor) -> Tensor:
    """Stored images as float32 on the scale of [0, 1]: bytes are divided by 255, floats are on it already."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def pixel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, in 0..255, of (n, channels, h, w) images, uint8 or in [0, 1].

    Sums of bytes are integers, so neither chunking nor device changes a bit. A constant channel gets deviation 1.
    """
    exact = images.dtype == torch.uint8
    total = torch.zeros(images.shape[1], dtype=torch.int64 if exact else torch.float64)
    square = torch.zeros_like(total)
    for part in images.split(1024):
        values = part.to(torch.int64) if exact else part.double() * 255
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


def labelled(
    images: np.ndarray | Sequence[np.ndarray], labels: Sequence[int], classes: int, weights: Tensor | None
) -> LabelledImages:
    """From (N, H, W, C) uint8, as one array or as a sequence of (H, W, C); copied once."""
    height, width, channels = images[0].shape
    tensor = torch.empty((len(images), channels, height, width), dtype=torch.uint8)
    for target, image in zip(tensor.numpy(), images, strict=True):
        target[...] = image.transpose(2, 0, 1)
    return LabelledImages(tensor, torch.tensor(labels), classes, weights)


class PixelWriter:
    """Writes a decoded split image by image, so that it need not fit into memory. Made by `pixel_writer`.

    The file is safetensors: `labels` (capacity,) int64, of which the unused rest is -1, then `images` (n, C, H, W)
    uint8. The header has a fixed length, because the number of images is known only at the end.
    """

    def __init__(self, file: IO[bytes], capacity: int, shape: tuple[int, int, int]) -> None:
        self._file, self._shape = file, shape
        self._labels = np.full(capacity, -1, "<i8")
        self.count = 0
        file.seek(_HEADER_BYTES + self._labels.nbytes)

    def add(self, image: np.ndarray, label: int) -> None:
        """One image, (H, W, C) uint8."""
        pixels = np.ascontiguousarray(image.transpose(2, 0, 1))
        if pixels.shape != self._shape or pixels.dtype != np.uint8:
            raise ValueError(f"an image of {pixels.dtype} {pixels.shape} among images of uint8 {self._shape}")
        self._file.write(pixels.data)
        self._labels[self.count] = label
        self.count += 1

    def finish(self) -> None:
        start = self._labels.nbytes
        shape = [self.count, *self._shape]
        head = {
            "labels": {"dtype": "I64", "shape": list(self._labels.shape), "data_offsets": [0, start]},
            "images": {"dtype": "U8", "shape": shape, "data_offsets": [start, start + int(np.prod(shape))]},
        }
        text = json.dumps(head).encode().ljust(_HEADER_BYTES - 8)
        self._file.seek(0)
        self._file.write(len(text).to_bytes(8, "little") + text)
        self._file.write(self._labels.tobytes())


@contextmanager
def pixel_writer(uri: str, capacity: int, shape: tuple[int, int, int]) -> Iterator[PixelWriter]:
    """A writer of at most `capacity` decoded images (C, H, W); the file is there if the block ends without an error.

    For an object store the file is first put together on a local disk. Raises OSError.
    """
    if files.is_local(uri):
        with files.replacing(files.absolute(uri)) as file:
            writer = PixelWriter(file, capacity, shape)
            yield writer
            writer.finish()
        return
    with tempfile.TemporaryFile() as spool:
        writer = PixelWriter(spool, capacity, shape)
        yield writer
        writer.finish()
        spool.seek(0)
        with stream.writer(uri) as file:
            shutil.copyfileobj(spool, file, 1 << 20)


def write_pixels(uri: str, images: np.ndarray, labels: Sequence[int] | np.ndarray) -> None:
    """A decoded split that is in memory: images (N, H, W, C) uint8 and labels (N,)."""
    height, width, channels = images.shape[1:]
    with pixel_writer(uri, len(images), (channels, height, width)) as writer:
        for image, label in zip(images, labels, strict=True):
            writer.add(image, int(label))


@lru_cache(maxsize=2)
def pixels(uri: str, classes: int) -> LabelledImages:
    """A decoded split. A local file is mapped, so that all trainings on a machine share one copy of it, in the system's
    page cache; a remote one is read once per process.

    Raises OSError, or UserError if the file is not of a decoded split.
    """
    tensors, _ = read_safetensors(uri)
    if tensors.keys() != {"images", "labels"}:
        raise UserError(f"{uri}: not a decoded split; delete it, and it will be made again")
    return LabelledImages(tensors["images"], tensors["labels"][: len(tensors["images"])].clone(), classes)
