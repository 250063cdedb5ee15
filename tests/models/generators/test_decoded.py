from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from raycond.core import files
from raycond.core.errors import RaycondError
from raycond.data.encoded import decode_image, encode_image, pack, unpack
from raycond.data.images import load
from raycond.data.refs import ImageRef
from raycond.methods.quantize.codebook import Codebook
from raycond.methods.quantize.codebook_file import StoredCodebook
from raycond.models.codecs.registry import open_codec
from raycond.models.generators.decoded import decode_centroids, to_uint8
from raycond.models.generators.medoid import medoid_images
from tests.data import make


def stored(centroids: torch.Tensor, medoid_ids: tuple[str, ...] = ()) -> StoredCodebook:
    count = len(centroids)
    book = Codebook(centroids, torch.ones(count, dtype=torch.int64), 0.0, torch.arange(count))
    return StoredCodebook(book, "n02102040", 1, medoid_ids)


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_centroids_are_decoded_in_order(batch: int) -> None:
    latents = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    images = to_uint8(decode_centroids(stored(latents), open_codec("pixels"), batch=batch))
    assert images.dtype == np.uint8
    expected = (latents * 255).round().permute(0, 2, 3, 1).numpy()
    assert np.array_equal(images, expected)


def test_values_are_rounded_and_clipped() -> None:
    latents = torch.tensor([-0.5, 0.1 / 255, 0.6 / 255, 1.5]).view(1, 1, 2, 2)
    images = to_uint8(decode_centroids(stored(latents), open_codec("pixels:1"), batch=1))
    assert images.flatten().tolist() == [0, 0, 1, 255]


def test_nan_names_the_class_and_the_codec() -> None:
    latents = torch.zeros(2, 3, 4, 4)
    latents[1, 0, 0, 0] = float("nan")
    with pytest.raises(RaycondError, match=r"class n02102040: the codec pixels decoded NaN; try --dtype float32"):
        decode_centroids(stored(latents), open_codec("pixels"), batch=1)


def test_medoids_are_the_real_images(tmp_path: Path) -> None:
    make.tree(tmp_path, {"a": 4})
    refs = {f.name: ImageRef(f.name, 0, str(f)) for f in sorted((tmp_path / "a").iterdir())}
    chosen = ("a_2.png", "a_0.png")
    options = {"size": 6, "resize": "squash", "channels": 3, "max_pixels": 10_000}
    images = medoid_images(stored(torch.zeros(2, 1), chosen), refs, **options)  # type: ignore[arg-type]
    assert images.shape == (2, 6, 6, 3)
    for image, name in zip(images, chosen, strict=True):
        assert np.array_equal(image, load(refs[name], **options)[0])  # type: ignore[arg-type]


def test_a_medoid_that_is_gone_is_named(tmp_path: Path) -> None:
    refs = {"x": ImageRef("x", 0, str(tmp_path / "gone.png"))}
    with pytest.raises(RaycondError, match=r"class n02102040: .*gone.png"):
        medoid_images(stored(torch.zeros(1, 1), ("x",)), refs, size=6, resize="crop", channels=3, max_pixels=100)


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
