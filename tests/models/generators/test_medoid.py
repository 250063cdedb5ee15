from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raycond.core.errors import RaycondError
from raycond.data.images import load
from raycond.data.refs import ImageRef
from raycond.models.codecs.registry import open_codec
from raycond.models.generators.base import Wanted
from raycond.models.generators.medoid import real_images
from raycond.models.generators.options import GeneratorOptions
from raycond.models.generators.registry import open_generator
from tests.data import make
from tests.models.generators import tiny

DECODING: dict[str, Any] = {"size": 6, "resize": "squash", "channels": 3, "max_pixels": 10_000}


def test_the_nearest_images_of_each_class_are_read() -> None:
    asked: list[tuple[int, Sequence[str]]] = []

    def read(label: int, ids: Sequence[str]) -> np.ndarray:
        asked.append((label, ids))
        return np.stack([np.full((2, 2, 3), int(i), np.uint8) for i in ids])

    generator = open_generator(
        "medoid",
        options=GeneratorOptions(),
        classes=tiny.ANIMALS,
        codec=open_codec("pixels"),
        size=4,
        device="cpu",
        read=read,
    )
    images = generator(Wanted(torch.zeros(3, 1), torch.tensor([0, 0, 2]), (0, 1, 2), ("51", "0", "255")))
    assert asked == [(0, ["51", "0"]), (2, ["255"])]
    assert images.shape == (3, 3, 2, 2)
    assert images[:, 0, 0, 0].tolist() == pytest.approx([0.2, 0, 1])


def test_real_images_are_those_of_the_source(tmp_path: Path) -> None:
    make.tree(tmp_path, {"a": 4})
    refs = {f.name: ImageRef(f.name, 0, str(f)) for f in sorted((tmp_path / "a").iterdir())}
    chosen = ("a_2.png", "a_0.png")
    images = real_images(refs, chosen, "a", **DECODING)
    assert images.shape == (2, 6, 6, 3)
    for image, name in zip(images, chosen, strict=True):
        assert np.array_equal(image, load(refs[name], **DECODING)[0])


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    refs = {"x": ImageRef("x", 0, str(tmp_path / "gone.png"))}
    with pytest.raises(RaycondError, match=r"class n02102040: .*gone.png"):
        real_images(refs, ["x"], "n02102040", **DECODING)
