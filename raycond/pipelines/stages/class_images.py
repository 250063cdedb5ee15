"""The decoded images of one class, with what every stage keeps of them: digests of the good, records of the bad."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from raycond.core import files
from raycond.core.errors import BadImage
from raycond.data.images import Decoding, load_many
from raycond.data.quarantine import BadRecord
from raycond.data.refs import ImageRef


@dataclass
class ClassImages:
    """Decodes the images of one class in the order of their references. Iterate once; then read `bad` and `content`."""

    refs: Sequence[ImageRef]
    class_id: str
    decoding: Decoding
    threads: int
    """Threads that decode ahead of the caller."""

    prefetch: int = 64
    """Images decoded ahead at most."""

    bad: list[BadRecord] = field(default_factory=list)
    """The images that cannot be used, with the reason."""

    kept: list[ImageRef] = field(default_factory=list)
    """The references of the good images so far."""

    _digests: list[tuple[str, str]] = field(default_factory=list)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Good images (size, size, channels) uint8."""
        options = self.decoding.arguments
        for ref, image, sha in load_many(self.refs, **options, threads=self.threads, prefetch=self.prefetch):
            if isinstance(image, BadImage):
                self.bad.append(BadRecord.of(ref, self.class_id, image.reason))
                continue
            self._digests.append((ref.id, sha))
            self.kept.append(ref)
            yield image

    def batches(self, size: int) -> Iterator[tuple[Tensor, list[ImageRef]]]:
        """Good images (n, channels, size, size) uint8 with their references, n at most `size`."""
        images: list[np.ndarray] = []

        def stacked() -> tuple[Tensor, list[ImageRef]]:
            pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
            return pixels, self.kept[-len(images) :]

        for image in self:
            images.append(image)
            if len(images) == size:
                yield stacked()
                images.clear()
        if images:
            yield stacked()

    @property
    def content(self) -> str:
        """Digest of the good images' encoded bytes."""
        return files.digest(sorted(self._digests))
