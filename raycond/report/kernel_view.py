"""The section of a report about supports: images before and after, label matrices."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

from raycond.core.text import shown
from raycond.report.contents import LearnedSupport, Report

MOST_CLASSES, MOST_IMAGES = 20, 5
MOST_ROWS = 200  # of a label matrix
CELL, SHOWN = 12, 320  # pixels: of a cell of a small matrix, and the height that a large one is brought to
LOW, HIGH = (179, 57, 47), (47, 102, 207)  # colors of the lowest and the highest label; 0 is white


def kernel_section(report: Report) -> dict[str, Any] | None:
    """What the template shows; None where a run has no supports."""
    if not report.supports:
        return None
    return {
        "galleries": [_gallery(report, support) for support in report.supports if support.before != support.after],
        "labels": [_labels(support) for support in report.supports if support.labels],
    }


def _gallery(report: Report, support: LearnedSupport) -> dict[str, Any]:
    classes = []
    for k, name in enumerate(report.classes.names[:MOST_CLASSES]):
        rows = range(k * support.ipc, k * support.ipc + min(support.ipc, MOST_IMAGES))
        pairs = [{"before": _uri(support.before[row]), "after": _uri(support.after[row])} for row in rows]
        classes.append({"name": shown(name), "pairs": pairs})
    return {"ipc": support.ipc, "classes": classes}


def _labels(support: LearnedSupport) -> dict[str, Any]:
    rows = support.labels[:MOST_ROWS]
    values = [value for row in rows for value in row]
    picture, (width, height) = _heat_map(rows)
    cell = min(CELL, max(1, SHOWN // height))
    return {
        "ipc": support.ipc,
        "uri": picture,
        "width": width * cell,
        "height": height * cell,
        "lowest": f"{min(values):.3g}",
        "highest": f"{max(values):.3g}",
        "shown": f" the first {MOST_ROWS} of {len(support.labels)}" if len(support.labels) > MOST_ROWS else "",
    }


def _heat_map(rows: Sequence[Sequence[float]]) -> tuple[str, tuple[int, int]]:
    """A picture with a pixel for each label: white at 0, blue above, red below."""
    from PIL import Image

    most = max((abs(value) for row in rows for value in row), default=0.0) or 1.0
    image = Image.new("RGB", (len(rows[0]), len(rows)))
    image.putdata([_color(value / most) for row in rows for value in row])
    out = io.BytesIO()
    image.save(out, "png")
    return _uri(out.getvalue()), image.size


def _color(share: float) -> tuple[int, int, int]:
    end = HIGH if share > 0 else LOW
    red, green, blue = (round(255 + abs(share) * (value - 255)) for value in end)
    return red, green, blue


def _uri(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"
