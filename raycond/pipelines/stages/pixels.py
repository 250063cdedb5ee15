"""The stage that decodes a source's images once, one file of pixels per class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from raycond.core import files, records
from raycond.core.errors import BadImage, RaycondError
from raycond.data.class_arrays import npy
from raycond.data.images import load_many
from raycond.data.quarantine import BadRecord
from raycond.data.sources import Source
from raycond.pipelines.fit_projector.config import ProjectorConfig
from raycond.pipelines.layout import ProjectorLayout


@dataclass(frozen=True)
class PixelSpec:
    """All that decoding a class on any node needs; small and picklable."""

    config: ProjectorConfig
    source: Source
    layout: ProjectorLayout

    stage = "decode"

    def place(self, label: int) -> str:
        return self.layout.pixels_of(label)

    def expected(self, label: int, images: str) -> str:
        c = self.config
        return records.fingerprint(
            stage="pixels of a class",
            images=images,
            class_id=self.source.classes.ids[label],
            channels=c.channels,
            size=c.size,
            resize=c.resize,
            max_pixels=c.max_pixels,
        )

    @property
    def work(self) -> Callable[[Any], dict[str, Any]]:
        return decode_class


def decode_class(item: tuple[PixelSpec, int, str, str]) -> dict[str, Any]:
    """Decode one class (spec, label, fingerprint of its references, device) and record it; its facts.

    Raises RaycondError if not one of its images can be read.
    """
    spec, label, fingerprint, _ = item
    bad: list[BadRecord] = []
    digests: list[tuple[str, str]] = []
    images = list(_images(spec, label, bad, digests))
    if not images:
        class_id = spec.source.classes.ids[label]
        raise RaycondError(f"class {class_id}: not one of its {len(bad)} images can be read")
    pixels = np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))
    return records.finish(
        spec.place(label),
        spec.expected(label, fingerprint),
        npy(pixels),
        rows=len(pixels),
        shape=list(pixels.shape[1:]),
        images=len(pixels),
        content=files.digest(sorted(digests)),
        bad=[list(b) for b in bad],
    )


def _images(spec: PixelSpec, label: int, bad: list[BadRecord], digests: list[tuple[str, str]]) -> Iterator[np.ndarray]:
    c = spec.config
    for ref, image, sha in load_many(
        spec.source.refs(label),
        size=c.size,
        resize=c.resize,
        channels=c.channels,
        max_pixels=c.max_pixels,
        threads=c.decode_threads or c.cpus_per_worker + 1,
        prefetch=64,
    ):
        if isinstance(image, BadImage):
            bad.append(BadRecord.of(ref, spec.source.classes.ids[label], image.reason))
        else:
            digests.append((ref.id, sha))
            yield image
