"""Encoded image bytes to a square uint8 array, within bounds on memory and time that hold for hostile files too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from PIL import Image, ImageFile

from raycond.core.errors import BadImage, UserError, short
from raycond.data import formats
from raycond.data.jpeg import take_apart

Resize = Literal["crop", "squash"]
Interpolation = Literal["bicubic", "bilinear"]
Channels = Literal[1, 3]

MAX_PIXELS = 178_956_970
"""Pixels of one image, unless an option says otherwise: the only limit on them, and what the next one follows from."""

# All copies of an image that exist while it is decoded take at most this many bytes for each of `max_pixels`, or of
# MAX_PIXELS where that is more: 895 MB by default. A picture in RGB takes four (Pillow pads it) and one for its grey
# copy, one that is turned or laid on white eight, a WebP about twenty.
_BUDGET = 5

# Each scan of a progressive JPEG is a pass over all its coefficients. Real files have up to 14.
_MAX_SCANS = 100
_SCANNED = 16  # scans · pixels of one image are at most this many times max_pixels

_LARGEST_SIDE = 1 << 16  # no JPEG is larger, so that none is decoded at a part of its size

_PYTHON_PIXELS = 1 << 24  # of PPM files that Pillow decodes in Python, a value at a time
_MAX_TILES = 1 << 20  # of TIFF files, each of which is decoded by a call of its own
_STRIP_PIXELS = 1 << 20  # converted at once


def decode(
    data: bytes,
    *,
    size: int,
    resize: Resize = "crop",
    channels: Channels = 3,
    max_pixels: int = MAX_PIXELS,
    max_value: int | None = None,
    interpolation: Interpolation = "bicubic",
) -> np.ndarray:
    """Encoded image to a uint8 array of shape (size, size, channels).

    The content decides the format (JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, and AVIF where Pillow reads it). The picture
    is turned upright (EXIF, XMP), transparency lies on white, color profiles are ignored, and an animation gives its
    first frame. One channel is the luminance of ITU-R BT.601. "crop": the shorter side becomes `size` (bicubic
    or bilinear, antialiased) and the center is kept, as torchvision's Resize and CenterCrop do; "squash": both sides
    become `size`.
    An image that is `size` by `size` is not resampled. A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size where
    both sides stay at least twice `size`.

    Greys of more than 8 bits are multiplied by 255 / `max_value`. Its default is the largest value the file can hold:
    65535, or less for a TIFF of 9 to 15 bits a sample and for a PGM that gives its largest value. Give it for files
    that keep, say, 12-bit values in 16 bits. Floats in [0, 1] are multiplied by 255, else taken as they are in
    [0, 255] and divided by 257 in [0, 65535].

    Raises BadImage: empty, in no known format, truncated or damaged; more than `max_pixels` pixels, which is read from
    the header before any pixel is; copies that would take more than 5 bytes for each of `max_pixels` (or of the
    default where that is more); a JPEG with too many scans; values above `max_value`.
    """
    check(size, resize, channels, max_value)
    image, white = _loaded(data, size, resize, max_pixels, max_value)
    return square(image, size, resize, channels, white, interpolation)


def decode_unscaled(data: bytes, channels: Channels, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """As `decode`, at the size that the image has: uint8 of shape (height, width, channels)."""
    image, white = _loaded(data, _LARGEST_SIDE, "crop", max_pixels, None)
    image = _plain(image, channels, white).convert("RGB" if channels == 3 else "L")
    return np.array(image, dtype=np.uint8).reshape(image.height, image.width, channels)


def check(size: int, resize: str, channels: int, max_value: int | None = None) -> None:
    """Raises UserError for options that make no sense."""
    if size < 1:
        raise UserError(f"image size: must be at least 1, not {size}")
    if resize not in ("crop", "squash"):
        raise UserError(f"resize: {resize!r} is neither 'crop' nor 'squash'")
    if channels not in (1, 3):
        raise UserError(f"channels: {channels} is neither 1 (grey) nor 3 (color)")
    if max_value is not None and not 1 <= max_value <= 65535:
        raise UserError(f"max_value: {max_value} is not between 1 and 65535")


def square(
    image: Image.Image,
    size: int,
    resize: Resize,
    channels: Channels,
    max_value: int = 65535,
    interpolation: Interpolation = "bicubic",
) -> np.ndarray:
    """A picture of any mode as a uint8 array of shape (size, size, channels). Raises BadImage."""
    image = _resized(_plain(image, channels, max_value), size, resize, interpolation)
    if channels == 3 and image.mode == "L":
        image = image.convert("RGB")
    return np.array(image, dtype=np.uint8).reshape(size, size, channels)


# ---- reading within the bounds


def _loaded(data: bytes, size: int, resize: Resize, max_pixels: int, max_value: int | None) -> tuple[Image.Image, int]:
    """The decoded picture, upright, in the mode it is stored in, and the value that is its white where it has more
    than 8 bits. Raises BadImage."""
    try:
        return _read(data, size, resize, max_pixels, max_value)
    except BadImage:
        raise
    except MemoryError as error:
        raise BadImage("there is not enough memory to decode it") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage("too large: a part of it has more pixels than Pillow decodes") from error
    except Exception as error:  # Pillow's readers raise many types on damaged files
        raise BadImage(f"truncated or damaged: {short(error)}") from error


def _read(data: bytes, size: int, resize: Resize, max_pixels: int, max_value: int | None) -> tuple[Image.Image, int]:
    if not data:
        raise BadImage("empty (0 bytes)")
    coefficients = 0.0
    if formats.kind_of(data) == "JPEG":
        jpeg = take_apart(data)
        image = formats.open_image(jpeg.pixels)
        image.info |= {"exif": jpeg.exif, "xmp": jpeg.xmp}
        _require_pixels(image, max_pixels)
        scans = jpeg.scans(_SCANNED)
        if scans > _MAX_SCANS or scans * _pixels(image) > _SCANNED * max_pixels:
            raise BadImage(f"a JPEG of {image.width} x {image.height} pixels in {scans} scans, which takes too long")
        coefficients = 2.0 * len(image.getbands()) * _pixels(image) if jpeg.progressive or scans > 1 else 0.0
        image.draft(None, (2 * size, 2 * size))
    else:
        image = formats.open_image(data)
        _require_pixels(image, max_pixels)
    _require_time(image, max_pixels)
    white = _white(image, max_value)
    turn = formats.turn(image)
    _require_memory(image, coefficients, turn is not None, size if resize == "squash" else 0, max_pixels)
    image.load()
    turn = formats.turn(image)  # Pillow turns TIFF files by itself
    return (image if turn is None else image.transpose(turn)), white


def _pixels(image: Image.Image) -> int:
    return image.width * image.height


def _require_pixels(image: Image.Image, max_pixels: int) -> None:
    if _pixels(image) < 1:
        raise BadImage(f"truncated or damaged: {image.width} x {image.height} pixels")
    if _pixels(image) > max_pixels:
        raise BadImage(f"too large: {image.width} x {image.height} is more than {max_pixels} pixels")


def _require_time(image: ImageFile.ImageFile, max_pixels: int) -> None:
    decoders = {tile[0] for tile in image.tile[:1]}
    if decoders & {"ppm", "ppm_plain"} and _pixels(image) > _PYTHON_PIXELS:
        raise BadImage(f"a PPM of {image.width} x {image.height} pixels in a form that is read slowly; save it as PNG")
    if len(image.tile) > _MAX_TILES:
        raise BadImage(f"a TIFF in {len(image.tile)} tiles, which takes too long")
    tags = getattr(image, "tag_v2", {})
    width, height = tags.get(322, 0), tags.get(323, 0)
    if isinstance(width, int) and isinstance(height, int) and width * height > max(max_pixels, MAX_PIXELS):
        raise BadImage(f"too large: tiles of {width} x {height} pixels")


def _require_memory(image: Image.Image, coefficients: float, turned: bool, squashed: int, max_pixels: int) -> None:
    stored = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    if image.mode in ("I", "F") or stored == 2:
        working = 2  # the greys in 8 bits, as an array and as a picture
    elif image.has_transparency_data or image.mode not in ("1", "L", "RGB"):
        working = 4  # the picture in RGB
    else:
        working = 1
    extra = 16 if image.format in ("WEBP", "AVIF") else 0  # canvases of the decoder, and what it hands over
    per_pixel = stored + max(working, extra, stored if turned else 0)
    # resampling widens all rows before it shortens the columns
    need = coefficients + per_pixel * _pixels(image) + 4 * squashed * image.height
    most = _BUDGET * max(max_pixels, MAX_PIXELS)
    if need > most:
        raise BadImage(
            f"too large: {image.width} x {image.height} ({image.mode}) takes {need / 1e6:.0f} MB to decode, more than "
            f"{most / 1e6:.0f} MB"
        )


def _white(image: ImageFile.ImageFile, max_value: int | None) -> int:
    """The value that becomes 255 in a picture of 16-bit integers. Raises BadImage for what `max_value` cannot scale."""
    raw = str(image.tile[0][-1]) if image.tile else ""
    if max_value is not None and image.mode in ("RGB", "RGBA", "LA", "RGBX", "CMYK") and ";16" in raw:
        raise BadImage("16-bit color, of which only the high bytes are read: max_value is for grey images")
    if image.format == "PPM":  # scaled by the largest value that the file gives
        return 65535
    if max_value is not None:
        return max_value
    bits = getattr(image, "tag_v2", {}).get(258, (16,))
    first = bits[0] if isinstance(bits, tuple) and bits else 16
    return (1 << first) - 1 if image.mode.startswith("I;16") and 8 < first < 16 else 65535


# ---- modes


def _plain(image: Image.Image, channels: Channels, white: int) -> Image.Image:
    """Mode L or RGB (L only if the source is grey or one channel is asked for), without transparency."""
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(image, white))
    if image.has_transparency_data:
        image = _on_white(image)
    target = "L" if channels == 1 or image.mode in ("1", "L") else "RGB"
    if image.mode == target:
        return image
    try:
        # CIELAB and the like have no direct way to grey.
        return image.convert(target if image.mode in ("1", "L", "RGB") else "RGB").convert(target)
    except ValueError as error:
        raise BadImage(f"color mode {image.mode} is not supported") from error


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The picture from top to bottom in parts of bounded size, each with its first row."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _on_white(image: Image.Image) -> Image.Image:
    result = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        over = Image.new("RGBA", strip.size, "white")
        over.alpha_composite(strip.convert("RGBA"))
        result.paste(over.convert("RGB"), (0, top))
    return result


def _eight_bits(image: Image.Image, white: int) -> np.ndarray:
    spans = [(values.min(), values.max()) for _, strip in _strips(image) for values in [np.asarray(strip)]]
    low, high = (float(edge) for edge in (np.min(spans), np.max(spans)))  # NaN comes through both
    if not 0 <= low <= high <= 65535:
        raise BadImage(f"pixel values from {low:g} to {high:g} have no known scale")
    if image.mode == "F":
        scale = 255.0 if high <= 1 else 1.0 if high <= 255 else 1 / 257
    elif high > white:
        raise BadImage(f"pixel values up to {high:g} are above the largest, {white}")
    else:
        scale = 1 / 257 if white == 65535 else 255 / white
    result = np.empty((image.height, image.width), np.uint8)
    for top, strip in _strips(image):
        result[top : top + strip.height] = np.rint(np.asarray(strip).astype(np.float64) * scale)
    return result


def _resized(image: Image.Image, size: int, resize: Resize, interpolation: Interpolation) -> Image.Image:
    width, height = image.size
    method = Image.Resampling.BILINEAR if interpolation == "bilinear" else Image.Resampling.BICUBIC
    if (width, height) == (size, size):
        return image
    if resize == "squash":
        return image.resize((size, size), method)
    short_side = min(width, height)
    new_width, new_height = int(size * width / short_side), int(size * height / short_side)
    left, top = round((new_width - size) / 2), round((new_height - size) / 2)
    # Cropping through the box gives resize-then-crop without its intermediate, which for a 1 x 50,000 strip is huge.
    across, down = width / new_width, height / new_height
    right, bottom = min(width, (left + size) * across), min(height, (top + size) * down)
    return image.resize((size, size), method, box=(left * across, top * down, right, bottom))
