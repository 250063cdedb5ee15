"""Images as encoded bytes, and the Parquet file that keeps those of one class."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from raycond.core import files
from raycond.core.errors import parsing
from raycond.core.tables import parquet_table
from raycond.data.decode import Channels, decode_unscaled

_QUALITY: dict[str, dict[str, Any]] = {
    "jpeg": {"quality": 95, "subsampling": 0},
    "webp": {"lossless": True},
    "png": {"optimize": False},
}


def encode_image(image: np.ndarray, image_format: str) -> bytes:
    """One (H, W, C) uint8 image as png, jpeg (quality 95, full colour) or lossless webp."""
    buffer = io.BytesIO()
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.save(buffer, image_format, **_QUALITY[image_format])
    return buffer.getvalue()


def decode_image(data: bytes, channels: Channels) -> np.ndarray:
    """(H, W, C) uint8 of an image that `encode_image` has written. Raises BadImage if it is damaged or too large."""
    return decode_unscaled(data, channels)


def pack(images: Sequence[bytes]) -> bytes:
    """Encoded images of one class in order, as a one-column Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": pa.array(images, pa.binary())}), buffer, compression="none")
    return buffer.getvalue()


def unpack(uri: str) -> list[bytes]:
    """The images that `pack` was given. Raises OSError, or UserError if the file is damaged."""
    data = files.read_bytes(uri)
    with parsing(uri, "Parquet", "delete it, and it will be made again"):
        return parquet_table(data).column("image").to_pylist()
