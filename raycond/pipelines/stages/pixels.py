"""The stage that decodes a source's images once, one file of pixels per class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from raycond.core import files, records
from raycond.core.errors import RaycondError
from raycond.data.class_arrays import npy
from raycond.data.images import Decoding
from raycond.data.sources import Source
from raycond.pipelines.stages.class_images import ClassImages
from raycond.runtime.resources import Resources


@dataclass(frozen=True)
class PixelSpec:
    """All that decoding a class on any node needs; small and picklable."""

    source: Source
    folder: str
    """Where the files of the classes lie."""

    decoding: Decoding
    threads: int
    """Threads that decode."""

    resources: Resources
    """Of one class; decoding needs no GPU."""

    stage = "decode"

    def place(self, label: int) -> str:
        return files.join(self.folder, f"{label:05d}.npy")

    def expected(self, label: int, images: str) -> str:
        options = self.decoding
        return records.fingerprint(
            stage="pixels of a class",
            images=images,
            class_id=self.source.classes.ids[label],
            **options.identity,
        )

    @property
    def work(self) -> Callable[[Any], dict[str, Any]]:
        return decode_class


def decode_class(item: tuple[PixelSpec, int, str, str]) -> dict[str, Any]:
    """Decode one class (spec, label, fingerprint of its references, device), write its file, return its facts.

    Raises RaycondError if not one of its images can be read.
    """
    spec, label, fingerprint, _ = item
    class_id = spec.source.classes.ids[label]
    images = ClassImages(spec.source.refs(label), class_id, spec.decoding, spec.threads)
    decoded = list(images)
    if not decoded:
        raise RaycondError(f"class {class_id}: not one of its {len(images.bad)} images can be read")
    pixels = np.ascontiguousarray(np.stack(decoded).transpose(0, 3, 1, 2))
    return records.finish(
        spec.place(label),
        spec.expected(label, fingerprint),
        npy(pixels),
        rows=len(pixels),
        shape=list(pixels.shape[1:]),
        images=len(pixels),
        content=images.content,
        bad=[list(record) for record in images.bad],
    )
