from __future__ import annotations

from typing import Any

import pytest
import torch

from raycond.core.errors import RaycondError
from raycond.models.codecs.registry import open_codec
from raycond.models.generators.base import Generator, Wanted
from raycond.models.generators.checked import make_images
from raycond.models.generators.options import GeneratorOptions
from raycond.models.generators.registry import open_generator
from tests.models.generators import tiny


def opened(codec: str, **other: Any) -> Generator:
    common = {"options": GeneratorOptions(), "classes": tiny.ANIMALS, "codec": open_codec(codec), "size": 4}
    return open_generator("vae", device="cpu", **common, **other)


def wanted(latents: torch.Tensor) -> Wanted:
    return Wanted(latents, torch.ones(len(latents), dtype=torch.long), tuple(range(len(latents))))


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_centroids_are_decoded_in_order(batch: int) -> None:
    latents = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(opened("pixels", batch=batch)(wanted(latents)), latents)


def test_values_are_clipped() -> None:
    latents = torch.tensor([-0.5, 0.25, 0.5, 1.5]).view(1, 1, 2, 2)
    assert opened("pixels:1")(wanted(latents)).flatten().tolist() == [0, 0.25, 0.5, 1]


def test_a_black_centroid_is_an_image_and_nan_names_the_class() -> None:
    latents = torch.zeros(2, 3, 4, 4)
    assert torch.equal(make_images(opened("pixels"), wanted(latents), tiny.ANIMALS).images, latents)
    latents[1, 0, 0, 0] = float("nan")
    with pytest.raises(RaycondError, match=r"class n02102040: vae made image 1 NaN; try --dtype float32"):
        make_images(opened("pixels"), wanted(latents), tiny.ANIMALS)
