from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from raycond.models.generators.images import resized, to_uint8


def test_values_are_rounded() -> None:
    images = torch.tensor([0.0, 0.1, 0.6, 255.0]).view(1, 1, 2, 2) / 255
    assert to_uint8(images).flatten().tolist() == [0, 0, 1, 255]


def test_eight_bits_come_back_from_shares() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert np.array_equal(to_uint8(levels / 255), levels.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("size", [7, 16, 40])
def test_resizing_is_that_of_pil(size: int) -> None:
    """To one level, in the middle of the range: PIL rounds and clips between its two passes."""
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).mul(100).add(70).round() / 255
    picture = Image.fromarray(image[0].permute(1, 2, 0).mul(255).to(torch.uint8).numpy())
    expected = torch.from_numpy(np.array(picture.resize((size, size), Image.Resampling.BICUBIC)))
    found = resized(image, size)[0].permute(1, 2, 0).mul(255).round()
    assert int((found - expected).abs().max()) <= 1
    assert resized(image, image.shape[-1]) is image
