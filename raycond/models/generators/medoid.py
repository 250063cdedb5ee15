"""The generator `medoid`: the real images nearest to the centroids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raycond.core.errors import BadImage, RaycondError
from raycond.data.images import load
from raycond.data.refs import ImageRef
from raycond.models.generators.base import Generator, Wanted


class Medoid(Generator):
    """Real images, read again from the source and decoded as for encoding."""

    name = "medoid"

    def __call__(self, wanted: Wanted) -> Tensor:
        assert self.context.read is not None
        parts = []
        pairs = zip(wanted.labels.tolist(), wanted.ids, strict=True)
        for label, of_class in groupby(pairs, key=lambda pair: pair[0]):
            parts.append(torch.from_numpy(self.context.read(label, [image_id for _, image_id in of_class])))
        return torch.cat(parts).permute(0, 3, 1, 2) / 255


def real_images(refs: Mapping[str, ImageRef], ids: Sequence[str], class_id: str, **decoding: Any) -> np.ndarray:
    """(n, H, W, C) uint8: the images with these ids. decoding: the options of `data.images.load`.

    Raises RaycondError, naming class and image, if one cannot be read any more.
    """
    images = []
    for ref in (refs[i] for i in ids):
        try:
            image, _ = load(ref, **decoding)
        except BadImage as error:
            raise RaycondError(f"class {class_id}: {ref.uri}, {ref.id}: {error.reason}") from error
        images.append(image)
    return np.stack(images)
