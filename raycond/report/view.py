"""From a report's data to what the template prints: text, bars and pictures."""

from __future__ import annotations

import base64
import io
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from raycond.core.text import shown
from raycond.report import accuracy
from raycond.report.contents import Curve, Picture, Quarantine, Report, Size, compression
from raycond.report.kernel_view import kernel_section
from raycond.report.numbers import digits, human, plain_yaml, share, signed, times
from raycond.report.plots.lines import lines_svg

MOST_CLASSES, MOST_IMAGES, MOST_EXAMPLES = 20, 10, 3
LARGE = 192  # pixels; larger pictures go into the page as thumbnails of this side
SHOWN = 64  # pixels; smaller pictures are enlarged by a whole factor up to this side

SECTIONS = {
    "accuracy": "Accuracy",
    "optimization": "Optimization",
    "images": "Images",
    "kernel": "Kernel regression",
    "w2": "Distance (W2)",
    "distortion": "Distortion",
    "sizes": "Sizes",
    "quarantine": "Quarantine",
    "environment": "Environment",
    "configuration": "Configuration",
}
_CENTROIDS = {"d4m": "D4M centroids", "ours": "our centroids"}
_WEIGHTS = {"uniform": "uniform weights", "voronoi": "Voronoi weights"}


def context(report: Report) -> dict[str, Any]:
    kernel = kernel_section(report)
    optimized = bool(report.curves or report.sheets)
    quantized = kernel is None and not optimized
    absent = [*([] if kernel else ["kernel"]), *([] if optimized else ["optimization"])]  # sections of other runs
    absent += [] if quantized else ["w2", "distortion"]
    return {
        "report": report,
        "navigation": {anchor: name for anchor, name in SECTIONS.items() if anchor not in absent},
        "curves": _curves(report.curves),
        "sheets": [
            (sheet.name, f"data:image/png;base64,{base64.b64encode(sheet.image).decode()}") for sheet in report.sheets
        ],
        "kernel": kernel,
        "quantized": quantized,
        "tiles": _tiles(report),
        "students": accuracy.students(report.accuracy),
        "meanings": accuracy.meanings(report.accuracy),
        "galleries": [_gallery(report, ipc) for ipc in sorted(report.galleries)],
        "w2": _w2(report.w2),
        "distortion": _distortion(report),
        "sizes": _sizes(report.sizes, report.source_bytes),
        "quarantine": None if report.quarantine is None else _quarantine(report.quarantine),
        "config": plain_yaml(report.config),
    }


def _tiles(report: Report) -> list[dict[str, str]]:
    tiles = [{"value": f"{len(report.classes):,}", "label": "classes"}]
    ipcs = sorted(set(report.galleries) | set(report.distortion))
    if ipcs:
        tiles.append({"value": " · ".join(f"{i:,}" for i in ipcs), "label": "images per class"})
    if top1 := accuracy.tile(report.accuracy):
        tiles.append(top1)
    known = [s.bytes for s in report.sizes if s.bytes is not None]
    if known:
        total = sum(known)
        ratio = compression(report.source_bytes, total)
        size = f"{times(ratio)} smaller" if ratio and ratio >= 1 else f"{times(1 / ratio)} larger" if ratio else ""
        than = f", {size} than the source's {human(report.source_bytes or 0)}" if size else ""
        tiles.append({"value": human(total), "label": f"condensed set{than}"})
    if report.quarantine:
        tiles.append({"value": f"{len(report.quarantine.records):,}", "label": "images in quarantine"})
    return tiles


def _curves(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    found = []
    for k, curve in enumerate(curves):
        plot = lines_svg(curve.lines, f"curve{k}", title=curve.title, x=curve.x, y=curve.y)
        found.append({"title": curve.title, "plot": Markup(plot)})
    return found


def _gallery(report: Report, ipc: int) -> dict[str, Any]:
    by_class = report.galleries[ipc]
    filled = [k for k, class_id in enumerate(report.classes.ids) if by_class.get(class_id)]
    blocks: list[dict[str, Any]] = []
    top = max((p.weight for pictures in by_class.values() for p in pictures), default=0.0) or 1.0
    for k in filled[:MOST_CLASSES]:
        pictures = sorted(by_class[report.classes.ids[k]], key=lambda p: -p.weight)
        name, class_id = report.classes.names[k], report.classes.ids[k]
        blocks.append(
            {
                "name": shown(name),
                "id": shown(class_id) if class_id != name else "",
                "pictures": [_picture(p, top) for p in pictures[:MOST_IMAGES]],
            }
        )
    most = max((len(v) for v in by_class.values()), default=0)
    beside = {what: any(p[what] for block in blocks for p in block["pictures"]) for what in ("decoded", "nearest")}
    return {"ipc": ipc, "blocks": blocks, "shown": _left_out(len(filled), most), **beside}


def _left_out(classes: int, images: int) -> str:
    parts = []
    if classes > MOST_CLASSES:
        parts.append(f"the first {MOST_CLASSES} of {classes:,} classes")
    if images > MOST_IMAGES:
        parts.append(f"the {MOST_IMAGES} heaviest of {images:,} images of each class")
    return f"Shown: {' and '.join(parts)}." if parts else ""


def _picture(picture: Picture, top: float) -> dict[str, Any]:
    uri, side = _embedded(picture.image)
    small = side < SHOWN
    return {
        "uri": uri,
        "nearest": _embedded(picture.nearest)[0] if picture.nearest is not None else "",
        "decoded": _embedded(picture.decoded)[0] if picture.decoded is not None else "",
        "side": side * max(1, SHOWN // max(side, 1)) if small else round(SHOWN * 1.5),
        "crisp": small,
        "weight": f"{picture.weight:.2f}",
        "bar": round(100 * picture.weight / top, 1),
        "count": f"{picture.count:,}",
    }


def _embedded(encoded: bytes) -> tuple[str, int]:
    """A data URI and the picture's true side: small pictures as they are, for they are enlarged crisply."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        side, mime = image.width, Image.MIME[image.format or "PNG"]
        if side >= SHOWN:
            if side > LARGE:
                image.thumbnail((LARGE, LARGE), Image.Resampling.LANCZOS)
            out = io.BytesIO()
            image.convert("RGB").save(out, "JPEG", quality=88)
            mime, encoded = "image/jpeg", out.getvalue()
    return f"data:{mime};base64,{base64.b64encode(encoded).decode()}", side


def _w2(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One block per IPC; changes are against its first row (D4M as shipped) and against the uniform weights."""
    blocks = []
    for ipc in sorted({int(row["ipc"]) for row in rows}):
        group = [row for row in rows if int(row["ipc"]) == ipc]
        uniform = {row["centroids"]: row["w2"] for row in group if row["weights"] == "uniform"}
        lines = []
        for row in group:
            base = uniform.get(row["centroids"]) if row["weights"] != "uniform" else None
            lines.append(
                {
                    "centroids": _CENTROIDS.get(row["centroids"], row["centroids"]),
                    "weights": _WEIGHTS.get(row["weights"], row["weights"]),
                    "w2": digits(row["w2"]),
                    "ess": f"{row['ess']:.2f}",
                    "by_weights": _change(row["w2"], base),
                    "against_first": _change(row["w2"], group[0]["w2"]) if row is not group[0] else "",
                }
            )
        blocks.append({"ipc": ipc, "lines": lines})
    return blocks


def _change(value: float, base: float | None) -> str:
    return "" if not base else signed(100 * (value / base - 1), " %")


def _distortion(report: Report) -> dict[str, Any] | None:
    if not report.distortion:
        return None
    ipcs = sorted(report.distortion)
    columns = {ipc: list(report.distortion[ipc]) for ipc in ipcs}
    return {
        "ipcs": ipcs,
        "long": len(report.classes) > MOST_CLASSES,
        "lines": [
            (shown(name), [digits(columns[i][k]) if k < len(columns[i]) else "" for i in ipcs])
            for k, name in enumerate(report.classes.names)
        ],
        "summary": [
            (what, [digits(rule(columns[i])) if columns[i] else "" for i in ipcs])
            for what, rule in (("lowest", min), ("median", statistics.median), ("highest", max))
        ],
    }


def _sizes(sizes: Sequence[Size], source: int | None) -> list[dict[str, str]]:
    lines = [_size(s.name, s.bytes, s.note, source) for s in sizes]
    known = [s.bytes for s in sizes if s.bytes is not None]
    if len(known) > 1:
        what = "sum" if len(known) == len(sizes) else "sum of what is known"
        lines.append({**_size(what, sum(known), "", source), "total": "yes"})
    if source is not None and sizes:
        lines.append({**_size("source images", source, "as they are stored", None), "total": ""})
    if (ratio := compression(source, sum(known))) is not None:
        note = "bytes of the source images divided by those of the set"
        images = next((s.bytes for s in sizes if s.name == "images"), None)
        if (alone := compression(source, images)) is not None and len(known) > 1:
            note += f"; by those of its images alone {times(alone)}"
        lines.append({**_size("compression ratio", None, note, None), "human": times(ratio)})
    return lines


def _size(name: str, count: int | None, note: str, source: int | None) -> dict[str, str]:
    return {
        "name": name,
        "human": "unknown" if count is None else human(count),
        "exact": "" if count is None else f"{count:,}",
        "share": "" if count is None or not source else share(count, source),
        "note": note,
        "total": "",
    }


def _quarantine(quarantine: Quarantine) -> dict[str, Any]:
    by_reason: dict[str, list[str]] = {}
    for record in quarantine.records:
        by_reason.setdefault(record.reason, []).append(record.uri)
    counts = Counter({reason: len(uris) for reason, uris in by_reason.items()})
    return {
        "count": f"{len(quarantine.records):,}",
        "total": f"{quarantine.total:,}",
        "share": share(len(quarantine.records), quarantine.total),
        "lines": [
            (reason, f"{count:,}", sorted(by_reason[reason])[:MOST_EXAMPLES])
            for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ],
    }
