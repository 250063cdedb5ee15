"""Bounds on what one image may cost, values of more than 8 bits, and metadata that is kept away from the decoder."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raycond.core.errors import BadImage, UserError
from raycond.data import decode as module
from raycond.data import jpeg
from raycond.data.decode import decode
from tests.data import make
from tests.data.make import encoded, picture

TURNED = Image.Exif()
TURNED[0x0112] = 6


@pytest.mark.parametrize(
    ("mode", "kind", "options", "most"),
    [
        ("L", "PNG", {}, 100),
        ("RGB", "PNG", {}, 100),
        ("RGB", "PNG", {"exif": TURNED}, 62),
        ("RGBA", "PNG", {}, 62),
        ("F", "TIFF", {}, 83),
        ("I;16", "PNG", {}, 100),
        ("CMYK", "TIFF", {}, 62),
        ("RGB", "WEBP", {}, 25),
        ("RGB", "JPEG", {"progressive": True}, 45),
    ],
)
def test_memory_is_bounded_in_bytes_whatever_the_mode(
    mode: str, kind: str, options: dict[str, Any], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PIXELS", 100)  # the budget is five bytes for each
    good, bad = (encoded(Image.new(mode, (width, 1)), kind, **options) for width in (most, most + 1))
    assert decode(good, size=2, max_pixels=100).shape == (2, 2, 3)
    with pytest.raises(BadImage, match="too large: "):
        decode(bad, size=2, max_pixels=100)


def test_squashing_a_strip_is_bounded_too() -> None:
    data = encoded(Image.new("L", (1, 2_000_000)))
    assert decode(data, size=64).shape == (64, 64, 3)
    with pytest.raises(BadImage, match="too large: 1 x 2000000"):
        decode(data, size=224, resize="squash")  # 1.8 GB between the two steps of resampling


def test_strips_give_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (13, 11), dtype=np.uint16)
    clear = picture(1, 11, 13).convert("RGBA")
    clear.putalpha(Image.fromarray((values >> 8).astype(np.uint8)))
    files = [
        encoded(clear),
        encoded(Image.fromarray(values)),
        encoded(Image.fromarray(values / np.float32(65535)), "TIFF"),
    ]
    at_once = [decode(data, size=11) for data in files]
    monkeypatch.setattr(module, "_STRIP_PIXELS", 23)
    for data, expected in zip(files, at_once, strict=True):
        assert np.array_equal(decode(data, size=11), expected)


def test_scans_of_a_jpeg_are_counted_before_it_is_decoded() -> None:
    assert decode(make.many_scans(100), size=8).shape == (8, 8, 3)
    with pytest.raises(BadImage, match="a JPEG of 16 x 16 pixels in 101 scans, which takes too long"):
        decode(make.many_scans(101), size=8)
    large = make.many_scans(20, 100)
    assert decode(large, size=8, max_pixels=20 * 100 * 100 // 16).shape == (8, 8, 3)
    with pytest.raises(BadImage, match="20 scans"):
        decode(large, size=8, max_pixels=20 * 100 * 100 // 16 - 1)


def test_markers_that_are_no_scans_are_not_counted() -> None:
    data = encoded(picture(), "JPEG")
    hidden = data[:2] + b"\xff\xfe" + (2 + 400).to_bytes(2) + b"\xff\xda" * 200 + data[2:]  # in a comment
    after = data + b"\xff\xda" * 200  # after the end of the image
    inside = data[:-2] + b"\xff\xec" + (2 + 400).to_bytes(2) + b"\xff\xda" * 200 + b"\xff\xd9"  # between scans
    for odd in (hidden, after, inside):
        assert jpeg.take_apart(odd).scans(10) == 1
        assert np.array_equal(decode(odd, size=8), decode(data, size=8))
    ended = make.many_scans(150)
    disguised = ended[:-2].replace(b"\xff\xda", b"\xff\xec\0\x04\xff\xd9\xff\xda", 40) + b"\xff\xd9"
    assert jpeg.take_apart(disguised).scans(10) == 150  # the end of the image in a segment is none


def test_metadata_does_not_reach_the_decoder() -> None:
    plain = encoded(picture(3, 16, 16), "JPEG")
    exif = encoded(picture(3, 16, 16), "JPEG", exif=TURNED, comment=b"x" * 9000, icc_profile=b"y" * 9000)
    parts = jpeg.take_apart(exif)
    assert len(parts.pixels) <= len(plain)
    assert (parts.exif or b"").startswith(b"Exif\0\0")
    assert np.array_equal(decode(exif, size=16), np.rot90(decode(plain, size=16), 3))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientation_from_xmp_where_exif_has_none(kind: str) -> None:
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="3"/></x:xmpmeta>'
    image = picture(2, 8, 8)
    options: dict[str, Any] = {"xmp": packet} | ({"lossless": True} if kind == "WEBP" else {})
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        options = {"pnginfo": info}
    straight = decode(encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {})), size=8)
    assert np.array_equal(decode(encoded(image, kind, **options), size=8), np.rot90(straight, 2))


NOISY = """
import io, struct, sys
from PIL import Image
from raycond.core.errors import BadImage
from raycond.data.decode import decode
entries = b"".join(struct.pack("<HHII", 40000 + k, 2, 9999, 10**8) for k in range(3000))
exif = b"Exif\\0\\0II*\\0\\x08\\0\\0\\0" + struct.pack("<H", 3000) + entries + bytes(4)
tiff = io.BytesIO()
Image.new("RGB", (8, 8)).save(tiff, "TIFF")
data = tiff.getvalue()
at = int.from_bytes(data[4:8], "little")
count = int.from_bytes(data[at : at + 2], "little")
old = data[at + 2 : at + 2 + 12 * count]
moved = data[:4] + struct.pack("<I", len(data)) + data[8:] + struct.pack("<H", count + 3000) + old + entries + bytes(4)
for kind in ("JPEG", "PNG", "WEBP"):
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind, exif=exif)
    assert decode(file.getvalue(), size=8).shape == (8, 8, 3)
assert decode(moved, size=8).shape == (8, 8, 3)
for compression in ("tiff_lzw", "jpeg", "tiff_adobe_deflate"):
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "TIFF", compression=compression)
    damaged = bytearray(file.getvalue())
    damaged[8:40] = b"\\xff" * 32
    try:
        decode(bytes(damaged), size=8)
    except BadImage:
        pass
"""


def test_damaged_metadata_does_not_flood_the_screen() -> None:
    done = subprocess.run([sys.executable, "-c", NOISY], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def twelve(kind: str) -> bytes:
    values = np.array([[0, 1000], [2048, 4095]], np.uint16)
    return make.tiff12(values) if kind == "TIFF12" else encoded(Image.fromarray(values), kind)


def test_twelve_bits_in_sixteen_need_the_option() -> None:
    expected = [[0, 62], [128, 255]]
    for kind in ("PNG", "TIFF"):
        assert decode(twelve(kind), size=2, channels=1).max() <= 16
        assert decode(twelve(kind), size=2, channels=1, max_value=4095)[..., 0].tolist() == expected
        with pytest.raises(BadImage, match="pixel values up to 4095 are above the largest, 4000"):
            decode(twelve(kind), size=2, max_value=4000)
    eight = encoded(Image.fromarray(np.array([[0, 255]] * 2, np.uint16)))
    assert decode(eight, size=2, channels=1, max_value=255)[..., 0].tolist() == [[0, 255]] * 2


def test_a_file_that_says_how_many_bits_it_has_needs_none() -> None:
    assert decode(twelve("TIFF12"), size=2, channels=1)[..., 0].tolist() == [[0, 62], [128, 255]]
    pgm = b"P5 2 2 4095\n" + np.array([0, 1000, 2048, 4095], ">u2").tobytes()
    for value in (None, 4095):
        assert decode(pgm, size=2, channels=1, max_value=value)[..., 0].tolist() == [[0, 62], [128, 255]]


def test_max_value_leaves_other_pictures_alone_or_refuses_them() -> None:
    image = encoded(picture(4, 8, 8))
    assert np.array_equal(decode(image, size=8, max_value=4095), decode(image, size=8))
    rgb16 = make.png_of(2, 2, 16, 2, (b"\0" + bytes(12)) * 2)
    assert decode(rgb16, size=2).shape == (2, 2, 3)
    with pytest.raises(BadImage, match="16-bit color"):
        decode(rgb16, size=2, max_value=4095)
    for value in (0, 65536):
        with pytest.raises(UserError, match="max_value"):
            decode(image, size=8, max_value=value)


def test_too_many_pixels_for_a_slow_decoder() -> None:
    with pytest.raises(BadImage, match="read slowly; save it as PNG"):
        decode(b"P5 8192 8192 254\n" + bytes(100), size=8)
    assert decode(b"P5 2 2 254\n" + bytes(4), size=2).shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\0\0\0\x1cftypheic" + bytes(20), "HEIC"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"<!DOCTYPE html><html><body>404", "HTML page"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "SVG"),
        (b"PK\x03\x04" + bytes(30), "an archive"),
        (b"\xff\x0a" + bytes(30), "JPEG XL"),
    ],
)
def test_what_a_file_is_instead_of_an_image(data: bytes, what: str) -> None:
    with pytest.raises(BadImage, match=f"not an image in a known format: .*{what}"):
        decode(data, size=8)


def test_avif_is_read_where_pillow_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from raycond.data import formats

    if formats.AvifImagePlugin is not None and formats.AvifImagePlugin.SUPPORTED:
        data = encoded(Image.new("RGB", (8, 8), (250, 0, 0)), "AVIF")
        assert np.abs(decode(data, size=8)[4, 4].astype(int) - (250, 0, 0)).max() < 12
    monkeypatch.setattr(formats, "AvifImagePlugin", None)
    with pytest.raises(BadImage, match="AVIF, which this Pillow cannot read"):
        decode(b"\0\0\0\x1cftypavif" + bytes(20), size=8)


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (33, 47)], ids=str)
def test_bilinear_is_the_resize_and_crop_that_recipes_test_with(shape: tuple[int, int]) -> None:
    from torchvision import transforms

    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    theirs = transforms.Compose([transforms.Resize(24), transforms.CenterCrop(24)])(Image.fromarray(pixels))
    ours = decode(png.getvalue(), size=24, interpolation="bilinear")
    # the source resizes the whole picture and then cuts, which rounds once more
    assert np.abs(ours.astype(int) - np.asarray(theirs).astype(int)).max() <= 2
    assert np.abs(decode(png.getvalue(), size=24).astype(int) - np.asarray(theirs).astype(int)).max() > 10
