"""The images a student is tested on, read from where they lie, one batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from raycond.data.labelled import LabelledImages

REDUCED_AT_ONCE = 256  # images converted to floats together when a test set is averaged down


@dataclass(frozen=True)
class EvaluationImages:
    """A selection of a decoded split. Nothing is copied until a batch is asked for.

    The images may be a read-only memory map of a file: a batch is all that is ever converted to floats, so the host
    memory of a test does not depend on the size of the split.
    """

    images: Tensor
    """(N, channels, height, width) uint8, all of the split."""

    labels: Tensor
    """(n,) int64 on the host, the label of each selected image."""

    classes: int
    """How many classes the labels count."""

    rows: Tensor | None = None
    """(n,) int64 on the host, which images of the split are selected; None for all of them in order."""

    crop: int | None = None
    """Side in pixels of the central part of each image that is tested; None for the whole image."""

    @classmethod
    def of(cls, split: LabelledImages, crop: int | None = None) -> EvaluationImages:
        """All images of a split, or their central `crop` pixels."""
        return cls(split.images, split.labels.cpu(), split.classes, crop=crop)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images as they come out of `batches`."""
        channels, height, width = self.images.shape[1:]
        return (channels, self.crop or height, self.crop or width)

    def of_classes(self, seen: Sequence[int]) -> EvaluationImages:
        """Only the images of the classes `seen` (ascending), labelled 0..len(seen) - 1, in the same order."""
        new = torch.full((self.classes,), -1)
        new[list(seen)] = torch.arange(len(seen))
        labels = new[self.labels]
        kept = (labels >= 0).nonzero().flatten()
        rows = kept if self.rows is None else self.rows[kept]
        return replace(self, labels=labels[kept], classes=len(seen), rows=rows)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (at most `size`, channels, height, width) uint8 where the split is, and their labels, in order."""
        for start in range(0, len(self), size):
            here = slice(start, start + size)
            images = self.images[here] if self.rows is None else self.images[self.rows[here].to(self.images.device)]
            yield self._cropped(images), self.labels[here]

    def spread(self, count: int) -> Tensor:
        """At most `count` images, evenly spread over the selection: splits are sorted by class."""
        places = torch.linspace(0, len(self) - 1, min(count, len(self))).long()
        rows = places if self.rows is None else self.rows[places]
        return self._cropped(self.images[rows.to(self.images.device)])

    def _cropped(self, images: Tensor) -> Tensor:
        if self.crop is None:
            return images
        top, left = ((side - self.crop) // 2 for side in images.shape[2:])
        return images[:, :, top : top + self.crop, left : left + self.crop]

    def at_most(self, side: int | None) -> EvaluationImages:
        """The same selection with images averaged down to `side` pixels, in memory; itself if they are not larger.

        The bits are those of `LabelledImages.at_most`: each image is averaged over areas and rounded by itself.
        """
        if side is None or self.shape[-1] <= side:
            return self
        reduced = torch.empty(len(self), self.shape[0], side, side, dtype=torch.uint8, device=self.images.device)
        done = 0
        for images, _ in self.batches(REDUCED_AT_ONCE):
            part = F.interpolate(images.float(), (side, side), mode="area").round().to(torch.uint8)
            reduced[done : done + len(part)] = part
            done += len(part)
        return EvaluationImages(reduced, self.labels, self.classes)
