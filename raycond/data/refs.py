"""Image references: enough to read one image's bytes, and no pixels."""

from __future__ import annotations

from typing import NamedTuple


class ImageRef(NamedTuple):
    """Where one image is.

    `id` is unique within its source and stable across machines. `uri` with `offset` and `length`
    (bytes; length -1: the whole file) locate the encoded image inside a file, a tar or a pack. For array files
    (`digits:`, idx) `offset` is the row and `length` is 0.
    """

    id: str
    label: int
    uri: str
    offset: int = 0
    length: int = -1
