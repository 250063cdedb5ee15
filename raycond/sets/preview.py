"""A picture of a condensed set: one row per class, heaviest image first."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

COLUMNS = 10
SIDE = 96


def preview(parts: Sequence[Any]) -> bytes:
    """PNG of up to 10 images for each class part (anything with `images`, encoded)."""
    width = min(COLUMNS, max(len(p.images) for p in parts))
    sheet = Image.new("RGB", (width * SIDE, len(parts) * SIDE), "white")
    for row, part in enumerate(parts):
        for column, data in enumerate(part.images[:width]):
            picture = Image.open(io.BytesIO(data)).convert("RGB")
            # small images are pixel art: enlarge them without blur
            kind = Image.Resampling.NEAREST if picture.width < SIDE else Image.Resampling.LANCZOS
            sheet.paste(picture.resize((SIDE - 2, SIDE - 2), kind), (column * SIDE + 1, row * SIDE + 1))
    buffer = io.BytesIO()
    sheet.save(buffer, "png")
    return buffer.getvalue()
