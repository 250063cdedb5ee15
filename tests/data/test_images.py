"""Decode and resize: every kind of picture to the right pixels, every kind of damage to a reason."""

from __future__ import annotations

import hashlib
import os
import struct
import warnings
import zlib
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image, ImageCms

from raycond.core import retry
from raycond.core.errors import BadImage, UserError
from raycond.data import decode, formats, images
from raycond.data.refs import ImageRef
from tests.data.make import encoded, picture


def flat(mode: str, value: object, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new(mode, size, value)  # type: ignore[arg-type]


def centre(data: bytes, channels: int = 3) -> list[int]:
    return images.decode(data, size=8, channels=channels)[4, 4].tolist()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "kind", "rgb"),
    [
        (flat("L", 77), "PNG", [77, 77, 77]),
        (flat("1", 1), "PNG", [255, 255, 255]),
        (flat("RGB", (10, 20, 30)), "PPM", [10, 20, 30]),
        (flat("CMYK", (255, 0, 0, 0)), "TIFF", [0, 255, 255]),
        (flat("CMYK", (255, 0, 0, 0)), "JPEG", [0, 255, 255]),  # Pillow writes Adobe's inverted CMYK
        (flat("LA", (0, 0)), "PNG", [255, 255, 255]),
        (flat("LA", (40, 255)), "PNG", [40, 40, 40]),
        (flat("RGBA", (255, 0, 0, 0)), "PNG", [255, 255, 255]),
        (flat("RGBA", (255, 0, 0, 51)), "WEBP", [255, 204, 204]),
        (flat("F", 0.5), "TIFF", [128, 128, 128]),
        (flat("F", 200.0), "TIFF", [200, 200, 200]),
        (flat("F", 65535.0), "TIFF", [255, 255, 255]),
        (flat("I", 257 * 99), "TIFF", [99, 99, 99]),
    ],
)
def test_modes_give_right_rgb(image: Image.Image, kind: str, rgb: list[int]) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    assert np.abs(np.subtract(centre(encoded(image, kind, **options)), rgb)).max() <= 1


def test_adobe_cmyk_is_stored_inverted() -> None:
    data = encoded(flat("CMYK", (255, 0, 0, 0)), "JPEG", quality=100)
    assert b"Adobe" in data  # the marker that makes the case real
    assert centre(data)[0] <= 1


def test_palette_with_transparency_lies_on_white() -> None:
    image = flat("P", 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((4, 4), 0)
    assert centre(encoded(image)) == [255, 0, 0]
    assert centre(encoded(image, transparency=0)) == [255, 255, 255]
    assert centre(encoded(image, "GIF", transparency=0)) == [255, 255, 255]
    assert centre(encoded(image, transparency=1)) == [255, 0, 0]


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257], [257 * 128, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        data = encoded(Image.fromarray(values), kind)
        assert images.decode(data, size=2, channels=1)[..., 0].tolist() == [[0, 1], [128, 255]]


@pytest.mark.parametrize(("value", "mode"), [(float("nan"), "F"), (-1.0, "F"), (1e9, "F"), (70000, "I")])
def test_values_without_a_scale_are_bad(value: float, mode: str) -> None:
    with pytest.raises(BadImage, match="no known scale"):
        centre(encoded(flat(mode, value), "TIFF"))


def test_lab_tiff_gets_the_colours_it_means() -> None:
    lab = encoded(flat("LAB", (138, 81, 70)), "TIFF")
    assert np.abs(np.subtract(centre(lab), ImageCms.profileToProfile(
        flat("LAB", (138, 81, 70)), ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    ).getpixel((4, 4)))).max() <= 1  # fmt: skip


def test_a_mode_pillow_cannot_convert_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(flat("CMYK", (1, 2, 3, 4)), "TIFF")

    def refuse(*_: object) -> None:
        raise ValueError("conversion not supported")

    monkeypatch.setattr(Image.Image, "convert", refuse)
    with pytest.raises(BadImage, match="color mode CMYK"):
        centre(data)


def test_one_channel_is_rec601_luminance() -> None:
    red, green, blue = (encoded(flat("RGB", c)) for c in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
    assert [centre(data, 1)[0] for data in (red, green, blue)] == [76, 150, 29]  # .299 .587 .114 of 255


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_turns_upright(orientation: int, kind: str) -> None:
    upright = Image.fromarray(np.array([[0, 255], [90, 170]], np.uint8)).resize((16, 16), Image.Resampling.NEAREST)
    turn = formats.UPRIGHT.get(orientation)
    back = {
        Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
        Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
    }
    stored = upright if turn is None else upright.transpose(back.get(turn, turn))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100} if kind == "JPEG" else {}
    got = images.decode(encoded(stored, kind, exif=exif, **options), size=16, channels=1)[..., 0]
    assert np.abs(got.astype(int) - np.asarray(upright)).max() <= 3


@pytest.mark.parametrize(("width", "height"), [(37, 90), (90, 37), (100, 101), (17, 16), (7, 11)])
def test_crop_is_resize_then_centre_crop(width: int, height: int) -> None:
    image, size = picture(1, width, height), 16
    short = min(width, height)
    across, down = int(size * width / short), int(size * height / short)
    whole = np.asarray(image.resize((across, down), Image.Resampling.BICUBIC)).astype(int)
    top, left = round((down - size) / 2), round((across - size) / 2)
    got = images.decode(encoded(image), size=size)
    assert got.shape == (16, 16, 3)
    assert np.abs(got - whole[top : top + size, left : left + size]).max() <= 1


def test_squash_keeps_the_whole_picture() -> None:
    image = picture(2, 40, 20)
    expected = np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(images.decode(encoded(image), size=16, resize="squash"), expected)


def test_matching_size_is_not_resampled() -> None:
    image = picture(3, 16, 16)
    assert np.array_equal(images.decode(encoded(image), size=16), np.asarray(image))


def test_a_long_strip_does_not_blow_up() -> None:
    assert images.decode(encoded(flat("L", 9, (1, 60_000))), size=224).max() == 9  # resized whole: 3 Gpixel


def loaded(data: bytes) -> Image.Image:
    return decode._loaded(data, 32, "crop", decode.MAX_PIXELS, None)[0]


@pytest.mark.parametrize(("side", "decoded"), [(127, 127), (128, 64), (256, 64), (500, 125), (1000, 125)])
def test_jpeg_is_decoded_small_only_above_twice_the_target(side: int, decoded: int) -> None:
    data = encoded(picture(4, side, side), "JPEG")
    assert loaded(data).size == (decoded, decoded)
    assert loaded(encoded(picture(4, side, 70), "JPEG")).size == (side, 70)


def damaged_png() -> bytes:
    data = bytearray(encoded(picture(5, 64, 64)))
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am a text file", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (encoded(picture(6, 64, 64), "JPEG")[:900], "truncated"),
        (encoded(picture(6, 64, 64))[:2000], "truncated"),
        (encoded(picture(6, 64, 64), "WEBP")[:900], "not an image|truncated"),
        (damaged_png(), "truncated or damaged"),
    ],
)
def test_damage_is_bad_with_a_short_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason) as caught:
        images.decode(data, size=8)
    assert len(caught.value.reason) < 250


def announced(width: int, height: int) -> bytes:
    """A PNG header that announces a size, and no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_bombs_are_refused_by_their_header() -> None:
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(BadImage, match="too large"):
        images.decode(announced(30_000, 20_000), size=8)
    with pytest.raises(BadImage, match="11 x 10 is more than 109"):
        images.decode(encoded(picture(0, 11, 10)), size=8, max_pixels=109)
    assert images.decode(encoded(picture(0, 11, 10)), size=8, max_pixels=110).shape == (8, 8, 3)
    assert before == Image.MAX_IMAGE_PIXELS


def test_there_is_one_limit_on_pixels_and_it_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's: a warning above it, an error above twice as many
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert images.decode(encoded(picture(0, 11, 10)), size=8).shape == (8, 8, 3)
        assert images.decode(encoded(picture(0, 40, 40)), size=8).shape == (8, 8, 3)
    with pytest.raises(BadImage, match="truncated"):  # so its pixels were asked for
        images.decode(announced(13_000, 13_000), size=8)
    with pytest.raises(BadImage, match="more than 178956970 pixels"):
        images.decode(announced(14_000, 14_000), size=8)
    with pytest.raises(BadImage, match="truncated"):
        images.decode(announced(14_000, 14_000), size=8, max_pixels=14_000**2)


def test_load_gives_pixels_and_digest_of_the_encoded_bytes(tmp_path: Path) -> None:
    data = encoded(picture(7))
    path = tmp_path / "pack.bin"
    path.write_bytes(b"xxxxx" + data + b"yy")
    image, sha = images.load(ImageRef("a", 0, str(path), 5, len(data)), size=8)
    assert np.array_equal(image, images.decode(data, size=8))
    assert sha == hashlib.sha256(data).hexdigest()
    with pytest.raises(BadImage, match=f"cut short: {len(data) + 2} of {len(data) + 9}"):
        images.load(ImageRef("a", 0, str(path), 5, len(data) + 9), size=8)
    with pytest.raises(BadImage, match="empty"):
        images.load(ImageRef("a", 0, str(path), 5, 0), size=8)


def test_unreadable_files_are_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadImage, match="missing file"):
        images.load(ImageRef("a", 0, str(tmp_path / "no.png")), size=8)
    os.symlink(tmp_path / "gone.png", tmp_path / "link.png")
    with pytest.raises(BadImage, match="dangling link"):
        images.load(ImageRef("a", 0, str(tmp_path / "link.png")), size=8)
    with pytest.raises(BadImage, match="cannot be read"):
        images.load(ImageRef("a", 0, str(tmp_path)), size=8)

    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("raycond.core.files.read_bytes", refuse)
    with pytest.raises(BadImage, match="permission denied"):
        images.load(ImageRef("a", 0, "x.png"), size=8)


class Flaky:
    """Fails `failures` times, then gives the bytes."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self, *_: object) -> bytes:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return encoded(picture(8))


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), TimeoutError(), RuntimeError("503 slow down")])
def test_passing_errors_are_tried_again(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(retry.time, "sleep", lambda _: None)
    flaky = Flaky(2, error)
    monkeypatch.setattr("raycond.core.files.read_bytes", flaky)
    assert images.load(ImageRef("a", 0, "s3://b/x.png"), size=8)[0].shape == (8, 8, 3)
    assert flaky.calls == 3
    monkeypatch.setattr("raycond.core.files.read_bytes", Flaky(99, error))
    with pytest.raises(BadImage, match="cannot be read"):
        images.load(ImageRef("a", 0, "s3://b/x.png"), size=8)


def test_load_from_a_remote_filesystem() -> None:
    data = encoded(picture(9))
    fsspec.filesystem("memory").pipe_file("/test-images/a.bin", b"abc" + data)
    image, _ = images.load(ImageRef("a", 0, "memory://test-images/a.bin", 3, len(data)), size=8)
    assert np.array_equal(image, images.decode(data, size=8))


@pytest.mark.parametrize("options", [{"size": 0}, {"size": 8, "resize": "fit"}, {"size": 8, "channels": 4}])
def test_nonsense_options_are_user_errors(options: dict) -> None:
    with pytest.raises(UserError):
        images.decode(encoded(picture()), **options)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("exif", [b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b"Exif\x00\x00garbagegarbage"])
def test_damaged_exif_does_not_lose_the_picture(exif: bytes) -> None:
    assert images.decode(encoded(picture(1, 8, 8), "JPEG", exif=exif), size=8).shape == (8, 8, 3)
