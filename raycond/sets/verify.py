"""Check a condensed set against its own manifest."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from raycond import files
from raycond.errors import UserError
from raycond.quantize.store import read_safetensors
from raycond.sets.manifest import Manifest, read_manifest

_WEIGHT_TOLERANCE = 1e-4


def verify(path: str) -> list[str]:
    """Everything that is wrong with the set at `path`; an empty list means that it is whole.

    Checked: digest and size of every file, no unlisted data file, rows and class order, positive weights of mean 1 per
    class, counts that add up to the source images, images that decode to the stated size, latents beside images.
    """
    path = files.absolute(path)
    try:
        manifest = read_manifest(path)
        return list(_problems(path, manifest))
    except UserError as error:
        return [str(error)]
    except (KeyError, TypeError) as error:
        return [f"manifest.json: damaged: missing or wrong {error}"]


def _problems(path: str, manifest: Manifest) -> Iterator[str]:
    damaged = set()
    for name, expected in manifest.files.items():
        problem = _file(files.join(path, name), expected)
        if problem:
            damaged.add(name)
            yield f"{name}: {problem}"
    for ipc in manifest.ipcs:
        if not manifest.data_files(ipc) or not manifest.latent_files(ipc):
            yield f"ipc{ipc}: the manifest lists no data or no latents"
        listed = {name.rsplit("/", 1)[-1] for name in manifest.data_files(ipc)}
        folder = files.join(path, "data", f"ipc{ipc}")
        present = {e.name for e in files.listdir(folder)} if files.exists(folder) else set()
        for name in sorted(present - listed):
            yield f"data/ipc{ipc}/{name}: not in the manifest, but readers of the folder would take it"
        if not damaged & {*manifest.data_files(ipc), *manifest.latent_files(ipc)}:
            yield from _cell(path, manifest, ipc)


def _file(uri: str, expected: dict[str, Any]) -> str:
    if not files.exists(uri):
        return "missing"
    data = files.read_bytes(uri)
    if len(data) != expected["bytes"]:
        return f"{len(data)} bytes, the manifest says {expected['bytes']}"
    return "" if files.sha256(data) == expected["sha256"] else "its SHA-256 is not the manifest's"


def _cell(path: str, manifest: Manifest, ipc: int) -> Iterator[str]:
    classes = manifest.classes
    expected = manifest.content["cells"][f"ipc{ipc}"]
    rows: list[dict[str, Any]] = []
    for name in manifest.data_files(ipc):
        table = pq.read_table(io.BytesIO(files.read_bytes(files.join(path, name))))
        for row in table.to_pylist():
            problem = _image(row["image"]["bytes"], manifest.content["size"])
            if problem:
                yield f"{name}: {row['image']['path']}: {problem}"
            rows.append({k: row[k] for k in ("label", "weight", "count", "class_id")})
    what = f"ipc{ipc}"
    if len(rows) != expected["images"] or len(rows) != ipc * len(classes):
        yield f"{what}: {len(rows)} images, the manifest says {expected['images']}, IPC × classes {ipc * len(classes)}"
    if sum(r["count"] for r in rows) != expected["source_images"]:
        yield f"{what}: counts add up to {sum(r['count'] for r in rows)}, not {expected['source_images']}"
    for row in rows:
        if not 0 <= row["label"] < len(classes) or classes.ids[row["label"]] != row["class_id"]:
            yield f"{what}: label {row['label']} says class {row['class_id']}, which the class list does not"
            return
    for label, class_id in enumerate(classes.ids):
        weights = [r["weight"] for r in rows if r["label"] == label]
        if len(weights) != ipc:
            yield f"{what}: class {class_id} has {len(weights)} images"
        elif min(weights) <= 0 or abs(sum(weights) / ipc - 1) > _WEIGHT_TOLERANCE:
            mean = sum(weights) / ipc
            yield f"{what}: class {class_id}: weights must be positive with mean 1, their mean is {mean:g}"
    latents = [read_safetensors(files.join(path, n))[0] for n in manifest.latent_files(ipc)]
    labels = [label for t in latents for label in t["labels"].tolist()]
    if labels != [r["label"] for r in rows]:
        yield f"{what}: latents and images are not in the same order"


def _image(data: bytes, size: int) -> str:
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except Exception as error:
        return f"does not decode: {error}"
    return "" if picture.size == (size, size) else f"is {picture.size}, not {size} × {size}"
