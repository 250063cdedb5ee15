"""One decode and one resize for every source: image references to square uint8 arrays."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from raycond.core import files
from raycond.core.errors import BadImage, UserError, short
from raycond.core.retry import retrying
from raycond.data import arrays
from raycond.data.decode import MAX_PIXELS, Channels, Interpolation, Resize, check, decode, square
from raycond.data.refs import ImageRef

__all__ = [
    "MAX_PIXELS",
    "Channels",
    "Decoding",
    "Interpolation",
    "Resize",
    "content_digest",
    "decode",
    "load",
    "load_many",
]

_MAX_BYTES = 1 << 30  # of one encoded image


@dataclass(frozen=True)
class Decoding:
    """How every image of a run is decoded; see `decode`."""

    size: int
    """Pixels per side of the decoded image."""

    resize: Resize
    """`crop`: resize the shorter side and crop the center; `squash`: resize both sides."""

    channels: Channels
    """3 for color, 1 for gray."""

    max_pixels: int
    """An image with more pixels is refused as a decompression bomb."""

    max_value: int | None = None
    """The value that is white in gray images of more than 8 bits; None for the largest that the file can hold."""

    interpolation: Interpolation = "bicubic"
    """How pixels are interpolated where an image is resized; always antialiased."""

    @property
    def arguments(self) -> dict[str, Any]:
        """As keyword arguments of `load`, `load_many` and `decode`."""
        return dict(vars(self))

    @property
    def identity(self) -> dict[str, Any]:
        """What decoded pixels depend on, for fingerprints; fields that came later are in it only if they are given."""
        later = {"max_value": None, "interpolation": "bicubic"}
        return {name: value for name, value in vars(self).items() if name not in later or value != later[name]}


def load(
    ref: ImageRef,
    *,
    size: int,
    resize: Resize = "crop",
    channels: Channels = 3,
    max_pixels: int = MAX_PIXELS,
    max_value: int | None = None,
    interpolation: Interpolation = "bicubic",
) -> tuple[np.ndarray, str]:
    """Read and decode one image: (uint8 array of shape (size, size, channels), SHA-256 of its encoded bytes).

    For array files the digest is over the row's raw bytes. Passing read errors are tried again a few times.
    Raises BadImage with a short reason; see `decode`.
    """
    options = Decoding(size, resize, channels, max_pixels, max_value, interpolation)
    check(size, resize, channels, max_value)
    image, sha = _attempt(ref, options)
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
    max_value: int | None = None,
    interpolation: Interpolation = "bicubic",
    threads: int = 4,
    prefetch: int = 64,
) -> Iterator[tuple[ImageRef, np.ndarray | BadImage, str]]:
    """`load` for each reference, in order, decoded by `threads` threads ahead of the consumer.

    At most `prefetch` images are decoded or being decoded beyond the one handed out, so memory is bounded by
    prefetch · size² · channels plus `threads` images at their full size. A bad image comes out as its BadImage, with
    the digest of its bytes, or "" if they could not be read. The threads end when the iterator does: at the last
    image, at an error, or when it is closed or dropped early.
    """
    check(size, resize, channels, max_value)
    if threads < 1 or prefetch < 1:
        raise UserError(f"threads and prefetch must be at least 1, not {threads} and {prefetch}")
    options = Decoding(size, resize, channels, max_pixels, max_value, interpolation)
    return _ahead(iter(refs), options, threads, prefetch)


def _ahead(
    refs: Iterator[ImageRef], options: Decoding, threads: int, prefetch: int
) -> Iterator[tuple[ImageRef, np.ndarray | BadImage, str]]:
    pool = ThreadPoolExecutor(threads, thread_name_prefix="raycond-decode")
    waiting: deque[tuple[ImageRef, Future[tuple[np.ndarray | BadImage, str]]]] = deque()
    try:
        while True:
            while len(waiting) < prefetch and (ref := next(refs, None)) is not None:
                waiting.append((ref, pool.submit(_attempt, ref, options)))
            if not waiting:
                return
            ref, future = waiting.popleft()
            image, sha = future.result()
            del future  # its result would live on until the next one is asked for
            yield ref, image, sha
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def content_digest(ref: ImageRef) -> str | None:
    """The digest that `load` gives, without decoding; None if the image cannot be read."""
    try:
        return _content(ref)[1]
    except BadImage:
        return None


def _attempt(ref: ImageRef, options: Decoding) -> tuple[np.ndarray | BadImage, str]:
    sha = ""
    try:
        content, sha = _content(ref)
        if isinstance(content, np.ndarray):
            picture, how = Image.fromarray(content), options.interpolation
            return square(picture, options.size, options.resize, options.channels, interpolation=how), sha
        if len(content) < ref.length:
            raise BadImage(f"cut short: {len(content)} of {ref.length} bytes at offset {ref.offset}")
        return decode(content, **options.arguments), sha
    except BadImage as error:
        return error, sha


def _content(ref: ImageRef) -> tuple[np.ndarray | bytes, str]:
    """The row of an array, or the encoded bytes, and the digest of either. Raises BadImage."""
    if arrays.is_array(ref.uri):
        pixels: np.ndarray = _read(ref, lambda: arrays.row(ref.uri, ref.offset))
        return pixels, files.sha256(pixels.tobytes())
    if ref.length == 0:
        return b"", files.sha256(b"")
    data: bytes = _read(ref, lambda: files.read_bytes(ref.uri, ref.offset, ref.length, _MAX_BYTES))
    return data, files.sha256(data)


def _read(ref: ImageRef, action: Any) -> Any:
    try:
        return retrying(action)
    except FileNotFoundError as error:
        dangling = files.is_local(ref.uri) and os.path.islink(ref.uri)
        raise BadImage("dangling link" if dangling else "missing file") from error
    except PermissionError as error:
        raise BadImage("permission denied") from error
    except OSError as error:
        raise BadImage(f"cannot be read: {short(error)}") from error
    except Exception as error:
        # Object-store clients raise their own types; a bug of ours on local files should not look like a bad image.
        if files.is_local(ref.uri) or isinstance(error, (MemoryError, UserError)):
            raise
        raise BadImage(f"cannot be read: {short(error)}") from error
