"""One decode and one resize for every source: image bytes to a square uint8 array."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from raycond.core import files
from raycond.core.errors import BadImage, UserError
from raycond.core.retry import retrying
from raycond.data import arrays
from raycond.data.refs import ImageRef

Resize = Literal["crop", "squash"]
Channels = Literal[1, 3]

# Pillow's own threshold for a decompression bomb. Pillow refuses twice this number whatever is asked for.
MAX_PIXELS = 89_478_485

# Content decides the format, not the file's name. Formats that run other programs (EPS) stay out. Importing them
# here keeps Pillow from loading all its plugins in the middle of a decode thread.
_FORMATS = [
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
        TiffImagePlugin.TiffImageFile,
        PpmImagePlugin.PpmImageFile,
    )
]

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load(
    ref: ImageRef,
    *,
    size: int,
    resize: Resize = "crop",
    channels: Channels = 3,
    max_pixels: int = MAX_PIXELS,
) -> tuple[np.ndarray, str]:
    """Read and decode one image: (uint8 array of shape (size, size, channels), SHA-256 of its encoded bytes).

    For array files the digest is over the row's raw bytes. Passing read errors are tried again a few times.
    Raises BadImage with a short reason; see `decode`.
    """
    _check(size, resize, channels)
    image, sha = _attempt(ref, size=size, resize=resize, channels=channels, max_pixels=max_pixels)
    if isinstance(image, BadImage):
        raise image
    return image, sha


def load_many(
    refs: Iterable[ImageRef],
    *,
    size: int,
    resize: Resize = "crop",
    channels: Channels = 3,
    max_pixels: int = MAX_PIXELS,
    threads: int = 4,
    prefetch: int = 64,
) -> Iterator[tuple[ImageRef, np.ndarray | BadImage, str]]:
    """`load` for each reference, in order, decoded by `threads` threads ahead of the consumer.

    At most `prefetch` images are decoded or being decoded beyond the one handed out, so memory is bounded by
    prefetch · size² · channels plus `threads` images at their full size. A bad image comes out as its BadImage, with
    the digest of its bytes, or "" if they could not be read. The threads end when the iterator does: at the last
    image, at an error, or when it is closed or dropped early.
    """
    _check(size, resize, channels)
    if threads < 1 or prefetch < 1:
        raise UserError(f"threads and prefetch must be at least 1, not {threads} and {prefetch}")
    options = {"size": size, "resize": resize, "channels": channels, "max_pixels": max_pixels}
    return _ahead(iter(refs), options, threads, prefetch)


def _ahead(
    refs: Iterator[ImageRef], options: dict[str, Any], threads: int, prefetch: int
) -> Iterator[tuple[ImageRef, np.ndarray | BadImage, str]]:
    pool = ThreadPoolExecutor(threads, thread_name_prefix="raycond-decode")
    waiting: deque[tuple[ImageRef, Future[tuple[np.ndarray | BadImage, str]]]] = deque()
    try:
        while True:
            while len(waiting) < prefetch and (ref := next(refs, None)) is not None:
                waiting.append((ref, pool.submit(_attempt, ref, **options)))
            if not waiting:
                return
            ref, future = waiting.popleft()
            image, sha = future.result()
            del future  # its result would live on until the next one is asked for
            yield ref, image, sha
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def decode(
    data: bytes,
    *,
    size: int,
    resize: Resize = "crop",
    channels: Channels = 3,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Encoded image to a uint8 array of shape (size, size, channels).

    The picture is turned upright (EXIF), transparency lies on white, colour profiles are ignored, and an animation
    gives its first frame. 16-bit greys are divided by 257. Floats in [0, 1] are multiplied by 255, else taken as
    they are in [0, 255] and divided by 257 in [0, 65535]. One channel is the luminance of ITU-R BT.601.
    "crop": the shorter side becomes `size` (bicubic, antialiased) and the centre is kept, as torchvision's Resize
    and CenterCrop do; "squash": both sides become `size`. An image that is `size` by `size` is not resampled.
    A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size where both sides stay at least twice `size`.

    Raises BadImage: empty, not an image, truncated, damaged, or more than `max_pixels` pixels, which is read from
    the header before any pixel is. Pillow's own limit of 178,956,970 pixels holds as well.
    """
    _check(size, resize, channels)
    return _finish(_open(data, size, max_pixels), size, resize, channels)


def _check(size: int, resize: str, channels: int) -> None:
    if size < 1:
        raise UserError(f"image size: must be at least 1, not {size}")
    if resize not in ("crop", "squash"):
        raise UserError(f"resize: {resize!r} is neither 'crop' nor 'squash'")
    if channels not in (1, 3):
        raise UserError(f"channels: {channels} is neither 1 (grey) nor 3 (colour)")


def _attempt(
    ref: ImageRef, *, size: int, resize: Resize, channels: Channels, max_pixels: int
) -> tuple[np.ndarray | BadImage, str]:
    sha = ""
    try:
        if arrays.is_array(ref.uri):
            pixels = _read(ref, lambda: arrays.row(ref.uri, ref.offset))
            sha = files.sha256(pixels.tobytes())
            return _finish(Image.fromarray(pixels), size, resize, channels), sha
        data = b"" if ref.length == 0 else _read(ref, lambda: files.read_bytes(ref.uri, ref.offset, ref.length))
        sha = files.sha256(data)
        if len(data) < ref.length:
            raise BadImage(f"cut short: {len(data)} of {ref.length} bytes at offset {ref.offset}")
        return decode(data, size=size, resize=resize, channels=channels, max_pixels=max_pixels), sha
    except BadImage as error:
        return error, sha


def _read(ref: ImageRef, action: Any) -> Any:
    try:
        return retrying(action)
    except FileNotFoundError as error:
        dangling = files.is_local(ref.uri) and os.path.islink(ref.uri)
        raise BadImage("dangling link" if dangling else "missing file") from error
    except PermissionError as error:
        raise BadImage("permission denied") from error
    except OSError as error:
        raise BadImage(f"cannot be read: {_short(error)}") from error
    except Exception as error:
        # Object-store clients raise their own types; a bug of ours on local files should not look like a bad image.
        if files.is_local(ref.uri) or isinstance(error, (MemoryError, UserError)):
            raise
        raise BadImage(f"cannot be read: {_short(error)}") from error


def _short(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error).splitlines()[:1] or [""]
    text = text if isinstance(text, str) else text[0]
    return (text or type(error).__name__)[:200]


def _open(data: bytes, size: int, max_pixels: int) -> Image.Image:
    """The decoded picture, upright, in the mode it is stored in."""
    if not data:
        raise BadImage("empty (0 bytes)")
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
        width, height = image.size
        if width * height > max_pixels:
            raise BadImage(f"too large: {width} x {height} is more than {max_pixels} pixels")
        image.draft(None, (2 * size, 2 * size))
        image.load()
    except (BadImage, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        raise BadImage("not an image in a known format") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage("too large: more pixels than Pillow decodes") from error
    except Exception as error:  # Pillow's readers raise many types on damaged files
        raise BadImage(f"truncated or damaged: {_short(error)}") from error
    try:
        turn = _UPRIGHT.get(image.getexif().get(0x0112, 1))
    except Exception:  # damaged EXIF around sound pixels: show them as they lie
        turn = None
    return image if turn is None else image.transpose(turn)


def _finish(image: Image.Image, size: int, resize: Resize, channels: Channels) -> np.ndarray:
    image = _resized(_plain(image, channels), size, resize)
    if channels == 3 and image.mode == "L":
        image = image.convert("RGB")
    return np.array(image, dtype=np.uint8).reshape(size, size, channels)


def _plain(image: Image.Image, channels: Channels) -> Image.Image:
    """Mode L or RGB (L only if the source is grey or one channel is asked for), without transparency."""
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        over = Image.new("RGBA", image.size, "white")
        over.alpha_composite(image.convert("RGBA"))
        image = over.convert("RGB")
    target = "L" if channels == 1 or image.mode in ("1", "L") else "RGB"
    if image.mode == target:
        return image
    try:
        # CIELAB and the like have no direct way to grey.
        return image.convert(target if image.mode in ("1", "L", "RGB") else "RGB").convert(target)
    except ValueError as error:
        raise BadImage(f"colour mode {image.mode} is not supported") from error


def _eight_bits(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())  # NaN comes through both
    if not 0 <= low <= high <= 65535:
        raise BadImage(f"pixel values from {low:g} to {high:g} have no known scale")
    small = values.dtype.kind == "f" and high <= 255
    scale = (255.0 if high <= 1 else 1.0) if small else 1 / 257
    return np.rint(values.astype(np.float64) * scale).astype(np.uint8)


def _resized(image: Image.Image, size: int, resize: Resize) -> Image.Image:
    width, height = image.size
    if (width, height) == (size, size):
        return image
    if resize == "squash":
        return image.resize((size, size), Image.Resampling.BICUBIC)
    short = min(width, height)
    new_width, new_height = int(size * width / short), int(size * height / short)
    left, top = round((new_width - size) / 2), round((new_height - size) / 2)
    # Cropping through the box gives resize-then-crop without its intermediate, which for a 1 x 50,000 strip is huge.
    across, down = width / new_width, height / new_height
    right, bottom = min(width, (left + size) * across), min(height, (top + size) * down)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=(left * across, top * down, right, bottom))


@dataclass(frozen=True)
class Decoding:
    """How every image of a run is decoded."""

    size: int
    """Pixels per side of the decoded image."""

    resize: Resize
    """`crop`: resize the shorter side and crop the center; `squash`: resize both sides."""

    channels: Channels
    """3 for color, 1 for gray."""

    max_pixels: int
    """An image with more pixels is refused as a decompression bomb."""
