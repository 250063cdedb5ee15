from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raycond.core import files
from raycond.data.encoded import decode_image, encode_image, pack, unpack
from tests.data import make


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_formats(image_format: str, channels: int) -> None:
    ramp = np.linspace(0, 255, 16).round().astype(np.uint8)
    image = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], ramp[:, None] // 2), -1)[..., :channels]
    data = encode_image(np.ascontiguousarray(image), image_format)
    assert Image.open(io.BytesIO(data)).format == image_format.upper()
    found = decode_image(data, channels)
    assert (found.shape, found.dtype) == (image.shape, np.uint8)
    error = np.abs(found.astype(int) - image)
    assert int(error.max()) <= (12 if image_format == "jpeg" else 0)
    assert encode_image(np.ascontiguousarray(image), image_format) == data


def test_jpeg_keeps_colour_at_full_resolution() -> None:
    """Red and blue columns, one pixel wide: halved colour would mix them."""
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, ::2, 0] = 255
    image[:, 1::2, 2] = 255
    found = decode_image(encode_image(image, "jpeg"), 3)
    assert int(np.abs(found.astype(int) - image).max()) < 60


@pytest.mark.parametrize("remote", [False, True])
def test_pack_and_unpack(tmp_path: Path, remote: bool) -> None:
    uri = f"memory://test-generate{tmp_path}/x" if remote else str(tmp_path / "x")
    images = [make.png(k) for k in range(3)]
    files.write_bytes(uri, pack(images))
    assert unpack(uri) == images
    assert pack(images) == pack(images)
