"""The real images nearest to the centroids of a codebook."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from raycond.core.errors import BadImage, RaycondError
from raycond.data.images import load
from raycond.data.refs import ImageRef
from raycond.methods.quantize.codebook_file import StoredCodebook


def medoid_images(
    stored: StoredCodebook, refs: Mapping[str, ImageRef], *, size: int, resize: str, channels: int, max_pixels: int
) -> np.ndarray:
    """(K, H, W, C) uint8: the real image nearest to each centroid, decoded as for encoding.

    Raises RaycondError, naming the image, if it cannot be read any more.
    """
    chosen = []
    for ref in (refs[i] for i in stored.medoid_ids):
        try:
            image, _ = load(ref, size=size, resize=resize, channels=channels, max_pixels=max_pixels)  # type: ignore[arg-type]
        except BadImage as error:
            raise RaycondError(f"class {stored.class_id}: {ref.uri}, {ref.id}: {error.reason}") from error
        chosen.append(image)
    return np.stack(chosen)
