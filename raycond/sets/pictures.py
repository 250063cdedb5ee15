"""The encoded images of a set, opened as strictly as they were written."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from raycond.core.text import shown

FORMATS = ("PNG", "JPEG", "WEBP")  # no other reader of Pillow sees bytes of a set


def open_picture(data: bytes, size: int, channels: int) -> Image.Image:
    """The decoded image in mode L or RGB. Raises ValueError that says why it is none of `size` × `size` pixels.

    The size is read from the header, before any pixel: a small file that claims a huge picture costs nothing.
    """
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        mode = "L" if channels == 1 and picture.format != "WEBP" else "RGB"  # WebP stores gray as color
        if (picture.size, picture.mode) != ((size, size), mode):
            raise ValueError(f"is {picture.size} {picture.mode}, not ({size}, {size}) {mode}")
        picture.load()
    except UnidentifiedImageError as error:
        raise ValueError("does not decode: it is no PNG, JPEG or WebP image") from error
    except ValueError:
        raise
    except Exception as error:  # Pillow's readers raise many types on damaged files
        raise ValueError(f"does not decode: {shown(error)}") from error
    return picture.convert("L" if channels == 1 else "RGB")
