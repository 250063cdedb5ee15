"""Readers of sources: images, tars, Parquet, idx files, class lists, and the index that is made of them."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import struct
import tarfile
import tempfile
import warnings
import zlib
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from raycond.core import files
from raycond.core.errors import RaycondError
from raycond.data import arrays, class_list, images, parquet, quarantine, tar
from raycond.data.decode import decode
from raycond.data.index import Input
from raycond.data.labelled import pixels, write_pixels
from raycond.data.refs import ImageRef
from raycond.data.sources import open_source
from tests.fuzz.reader import Reader


def _picture(mode: str = "RGB", size: tuple[int, int] = (24, 20)) -> Image.Image:
    values = np.random.default_rng(len(mode)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@cache
def _images() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a text"
    deep = Image.fromarray(np.arange(480, dtype=np.uint16).reshape(20, 24) * 130)
    clear, frames = _picture("RGBA"), [_picture("P"), _picture("L")]
    found = [
        _encoded(_picture(), "JPEG", exif=exif, comment=b"x"),
        _encoded(_picture(), "JPEG", progressive=True),
        _encoded(_picture("L"), "JPEG", restart_marker_blocks=2),
        _encoded(_picture("CMYK"), "JPEG"),
        *(_encoded(_picture(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        _encoded(deep, "PNG"),
        _encoded(_picture("P"), "PNG", transparency=3),
        _encoded(_picture(), "PNG", exif=exif),
        _encoded(_picture("P"), "PNG", save_all=True, append_images=frames),
        _encoded(_picture("P"), "GIF", save_all=True, append_images=frames),
        _encoded(_picture("L"), "GIF", transparency=1, interlace=1),
        *(_encoded(clear, "WEBP", lossless=lossless) for lossless in (True, False)),
        _encoded(_picture(), "WEBP", save_all=True, append_images=[_picture()], exif=exif),
        *(_encoded(_picture(mode), "BMP") for mode in ("1", "P", "RGB", "RGBA")),
        *(_encoded(_picture(mode), "TIFF", compression=c) for mode in ("1", "L", "RGB") for c in (None, "tiff_lzw")),
        *(_encoded(_picture(), "TIFF", compression=c) for c in ("tiff_adobe_deflate", "jpeg", "packbits")),
        _encoded(_picture("LAB"), "TIFF", exif=exif),
        _encoded(deep, "TIFF"),
        _encoded(_picture("F"), "TIFF"),
        _encoded(_picture(), "TIFF", save_all=True, append_images=[_picture()], tiffinfo={322: 16, 323: 16}),
        _encoded(_picture(), "PPM"),
        b"P2 2 2 4095\n0 9 4095 7\n",
        b"P6 2 2 300\n" + bytes(24),
        b"P1 # x\n2 2\n0101",
    ]
    with contextlib.suppress(KeyError, OSError):  # a Pillow that does not write it
        found.append(_encoded(clear, "AVIF"))
    return found


def _read_image(data: bytes, _: Path) -> None:
    channels = 1 if len(data) % 2 else 3
    image = decode(data, size=16, resize="squash" if len(data) % 3 else "crop", channels=channels)  # type: ignore[arg-type]
    assert image.shape == (16, 16, channels)
    assert image.dtype == np.uint8


def _repair_png(data: bytes, random: Random) -> bytes:
    """Checksums of PNG chunks that fit."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    out, place = bytearray(data), 8
    while place + 12 <= len(out):
        end = place + 8 + int.from_bytes(out[place : place + 4])
        if end + 4 > len(out):
            break
        out[end : end + 4] = struct.pack(">I", zlib.crc32(out[place + 4 : end]))
        place = end + 4
    return bytes(out)


@cache
def _tars() -> list[bytes]:
    found = []
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=kind) as file:
            long = "d/" * 60 + "é" if kind != tarfile.USTAR_FORMAT else "d/x"
            members = {
                "a.jpg": b"\xff\xd8\xff",
                "a.cls": b"1",
                f"{long}.png": b"x" * 700,
                f"{long}.json": b'{"label": "c"}',
            }
            for name, data in {**members, "b": b"GIF89a", "b.cls": b"0"}.items():
                info = tarfile.TarInfo(name)
                info.size, info.mtime = len(data), 1.5 if kind == tarfile.PAX_FORMAT else 1
                file.addfile(info, io.BytesIO(data))
        data = buffer.getvalue().rstrip(b"\0")
        found.append(data.ljust(-(-len(data) // 512) * 512, b"\0") + bytes(1024))
    return found


def _repair_tar(data: bytes, random: Random) -> bytes:
    """Checksums of all blocks that look like headers."""
    out = bytearray(data)
    for place in range(0, len(out) - 511, 512):
        if out[place + 257 : place + 262] == b"ustar":
            out[place + 148 : place + 156] = b" " * 8
            out[place + 148 : place + 156] = b"%06o\0 " % (sum(out[place : place + 512]) % 8**6)
    return bytes(out)


def _read_tar(data: bytes, folder: Path) -> None:
    path = folder / "x.tar"
    path.write_bytes(data)
    entry = files.entry(str(path))
    for record in tar.scan(Input("x.tar", entry, "packs/x", str(folder / "pack"))):
        assert record.reason or 0 <= record.offset <= record.offset + record.length <= len(data)
        record.id.encode()
    tar.is_dataset(str(path))


@cache
def _parquets() -> list[bytes]:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pictures = [
        {"bytes": b"\x89PNG", "path": "a"},
        {"bytes": None, "path": "x.png"},
        None,
        {"bytes": b"", "path": None},
    ] * 3
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["a", "b", "c"]}}
    meta = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    found = []
    for labels, options in (
        ([0, 1, 2, None] * 3, {"compression": "none"}),
        (["a", "b", "c", "d"] * 3, {"compression": "snappy", "use_dictionary": False}),
        ([True, False] * 6, {"compression": "zstd", "row_group_size": 5, "data_page_version": "2.0"}),
    ):
        table = pa.table({"image": pa.array(pictures, kind), "label": labels}).replace_schema_metadata(meta)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, **options)
        found.append(buffer.getvalue())
    return found


def _read_parquet(data: bytes, folder: Path) -> None:
    path = folder / "x.parquet"
    path.write_bytes(data)
    parquet.is_dataset(str(path))
    parquet.has_paths(str(path))
    image, label = parquet._columns(str(path), parquet._schema(str(path)), None, None)
    source = Input("x.parquet", files.entry(str(path)), "packs/x", str(folder / "pack"))
    names = parquet._label_names(parquet._schema(str(path)), label)
    for record in parquet.copy(source, image, label, names, [str(folder)]):
        assert record.uri in ("packs/x", str(path)) or record.uri.startswith(str(folder))


@cache
def _idx_files() -> list[bytes]:
    pixels = struct.pack(">4I", 0x803, 3, 4, 5) + bytes(60)
    labels = struct.pack(">2I", 0x801, 9) + bytes(9)
    return [pixels, gzip.compress(pixels, mtime=0), labels, gzip.compress(labels, mtime=0)]


def _read_idx(data: bytes, folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(data)
    for dimensions in (1, 3):
        try:
            arrays._idx.__wrapped__(str(path), "", dimensions)
        except RaycondError:
            continue
    try:
        images.load(ImageRef("x", 0, str(path), 2, 0), size=4)
    except RaycondError:  # BadImage among them
        pass
    finally:
        arrays._idx.cache_clear()


def _read_class_list(data: bytes, folder: Path) -> None:
    for name in ("classes.json", "classes.txt", "classes"):
        (folder / name).write_bytes(data)
        try:
            classes = class_list.load_class_list(str(folder / name)).classes
        except RaycondError:
            continue
        assert len({class_id.encode() for class_id in classes.ids}) == len(classes) > 0


def _class_lists() -> list[bytes]:
    return [
        b'["a", "b", 3]',
        b'{"a": "x", "b": "y"}',
        b'{"ids": ["a", "b"], "names": ["A", "B"]}',
        b'{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}',
        b'{"a": 0, "b": 1}',
        b"n01440764 tench, Tinca tinca\nn01443537 goldfish\n",
        "café\nça\n".encode(),
    ]


@cache
def _bad_records() -> list[bytes]:
    records = [quarantine.BadRecord(f"x/{k}", k % 3 - 1, "c", "/x", "cut short") for k in range(9)]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([r._asdict() for r in records], schema=quarantine.SCHEMA), buffer)
    return [buffer.getvalue()]


def _read_bad_records(data: bytes, folder: Path) -> None:
    (folder / "bad.parquet").write_bytes(data)
    quarantine.read(str(folder / "bad.parquet"))


_TREE = {"a/1.png": b"\x89PNG", "b/2.png": b"\x89PNG"}


def _read_manifest(data: bytes, folder: Path) -> None:
    """The manifest of a folder that may be a condensed set, beside sound class folders."""
    for name, content in _TREE.items():
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "source" / name).write_bytes(content)
    (folder / "source" / "data" / "ipc10").mkdir(parents=True, exist_ok=True)
    (folder / "source" / "data" / "ipc10" / "x.parquet").write_bytes(_parquets()[0])
    (folder / "source" / "manifest.json").write_bytes(data)
    open_source(str(folder / "source"), index_dir=str(folder / "index"))


def _splits() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        write_pixels(f"{folder}/split", np.zeros((3, 4, 4, 3), np.uint8), [0, 1, 1])
        return [Path(f"{folder}/split").read_bytes()]


def _read_split(data: bytes, folder: Path) -> None:
    (folder / "split.safetensors").write_bytes(data)
    pixels.__wrapped__(str(folder / "split.safetensors"), 2)


_MANIFEST = json.dumps({"format_version": 1, "ipc": [1, 10], "files": {"data/ipc10/x.parquet": {}}}).encode()

READERS = [
    Reader("images", _images, _read_image, 2500, _repair_png),
    Reader("tar", _tars, _read_tar, 1500, _repair_tar),
    Reader("parquet", _parquets, _read_parquet, 400),
    Reader("idx", _idx_files, _read_idx, 1500),
    Reader("class-list", _class_lists, _read_class_list, 500),
    Reader("quarantine", _bad_records, _read_bad_records, 500),
    Reader("source-manifest", lambda: [_MANIFEST], _read_manifest, 60),
    Reader("decoded-split", cache(_splits), _read_split, 500),
]

warnings.filterwarnings("ignore", module=r"PIL\.")
