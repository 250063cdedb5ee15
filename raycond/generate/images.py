"""Codebook to images: decoded centroids, or the real images nearest to them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from raycond import files
from raycond.data.images import load
from raycond.data.refs import ImageRef
from raycond.errors import BadImage, RaycondError
from raycond.latents.codec import Codec
from raycond.quantize.store import StoredCodebook

_QUALITY: dict[str, dict[str, Any]] = {
    "jpeg": {"quality": 95, "subsampling": 0},
    "webp": {"lossless": True},
    "png": {"optimize": False},
}


def decode_centroids(stored: StoredCodebook, codec: Codec, *, batch: int) -> Tensor:
    """(K, C, H, W) float32 in [0, 1] on the CPU: decoded centroids. Raises RaycondError if the codec gives NaN."""
    parts = []
    for latents in stored.codebook.centroids.split(batch):
        images = codec.decode(latents)
        if images.isnan().any():
            raise RaycondError(f"class {stored.class_id}: the codec {codec.name} decoded NaN; try --dtype float32")
        parts.append(images.float().cpu())
    return torch.cat(parts)


def resized(images: Tensor, size: int) -> Tensor:
    """Images (n, C, H, W) in [0, 1] with this side: bicubic, antialiased, as the resize that D4M uses (PIL's)."""
    if tuple(images.shape[2:]) == (size, size):
        return images
    return functional.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(0, 1)


def to_uint8(images: Tensor) -> np.ndarray:
    """(n, H, W, C) uint8 of images (n, C, H, W) in [0, 1]."""
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


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


def encode_image(image: np.ndarray, image_format: str) -> bytes:
    """One (H, W, C) uint8 image as png, jpeg (quality 95, full colour) or lossless webp."""
    buffer = io.BytesIO()
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.save(buffer, image_format, **_QUALITY[image_format])
    return buffer.getvalue()


def decode_image(data: bytes, channels: int) -> np.ndarray:
    """(H, W, C) uint8 of an image that `encode_image` made."""
    picture = Image.open(io.BytesIO(data)).convert("RGB" if channels == 3 else "L")
    array = np.asarray(picture)
    return array if channels == 3 else array[..., None]


def pack(images: Sequence[bytes]) -> bytes:
    """Encoded images of one class in order, as a one-column Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": pa.array(images, pa.binary())}), buffer, compression="none")
    return buffer.getvalue()


def unpack(uri: str) -> list[bytes]:
    return pq.read_table(io.BytesIO(files.read_bytes(uri))).column("image").to_pylist()
