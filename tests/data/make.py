"""Small images and sources for the tests of this folder."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(seed: int = 0, width: int = 12, height: int = 10) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(seed: int = 0) -> bytes:
    return encoded(picture(seed))


def tree(root: Path, classes: dict[str, int], first: int = 0) -> Path:
    """root/<class>/<class>_<k>.png; trees with a `first` that is far from others share no image with them."""
    for seed, (class_id, count) in enumerate(classes.items()):
        folder = root / class_id
        folder.mkdir(parents=True)
        for k in range(count):
            (folder / f"{class_id}_{k}.png").write_bytes(png(first + 100 * seed + k))
    return root


def tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, errors="surrogateescape") as file:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def png_of(width: int, height: int, bits: int, color: int, rows: bytes) -> bytes:
    """A PNG from its raw rows, each with its filter byte."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(rows)) if rows else chunk(b"IDAT", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels + chunk(b"IEND", b"")


def many_scans(count: int, side: int = 16) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are `count`."""
    data = encoded(Image.new("RGB", (side, side), (90, 20, 200)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    have = data.count(b"\xff\xda")
    return data[:-2] + data[last:-2] * (count - have) + b"\xff\xd9"


def tiff12(values: np.ndarray) -> bytes:
    """A TIFF of 12 bits a sample, packed; the number of values in a row must be even."""
    packed = bytearray()
    for first, second in values.reshape(-1, 2).tolist():
        packed += bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255])
    height, width = values.shape
    tags = [(256, 3, width), (257, 3, height), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    tags += [(278, 3, height), (279, 4, len(packed))]
    entries = b"".join(
        struct.pack("<HHI", tag, kind, 1)
        + struct.pack("<HH" if kind == 3 else "<I", *([value, 0] if kind == 3 else [value]))
        for tag, kind, value in tags
    )
    return struct.pack("<2sHI", b"II", 42, 8 + len(packed)) + packed + struct.pack("<H", len(tags)) + entries + bytes(4)


def labelled_parquet(path: Path, labels: list[Any], pictures: list[Any] | None = None) -> Path:
    """Parquet with the columns image (struct of bytes and path) and label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [{"bytes": png(k), "path": None} for k in range(len(labels))] if pictures is None else pictures
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(pictures, kind), "label": pa.array(labels)}), path)
    return path
