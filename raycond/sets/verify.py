"""Check a condensed set against its own manifest."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from raycond.core import files
from raycond.core.errors import UserError
from raycond.core.tensors import read_safetensors
from raycond.methods.quantize.codebook import weights as weights_of
from raycond.sets.manifest import Manifest, read_manifest

_WEIGHT_TOLERANCE = 1e-4


def verify(path: str) -> list[str]:
    """Everything that is wrong with the set at `path`; an empty list means that it is whole.

    Checked: digest and size of every file, no unlisted data file, rows, class order and names, weights that follow from
    the counts, counts that add up to the source images, images that decode to the stated size, latents beside images,
    classes, digest and bytes of a projector.
    """
    path = files.absolute(path)
    try:
        manifest = read_manifest(path)
        return list(_problems(path, manifest))
    except UserError as error:
        return [str(error)]
    except (KeyError, TypeError, AttributeError) as error:
        return [f"manifest.json: damaged: missing or wrong {error}"]


def _problems(path: str, manifest: Manifest) -> Iterator[str]:
    damaged = set()
    for name, expected in manifest.files.items():
        problem = _file(files.join(path, name), expected)
        if problem:
            damaged.add(name)
            yield f"{name}: {problem}"
    for name in sorted(_present(path, "data") - set(manifest.files)):
        yield f"{name}: not in the manifest, but readers of the folder would take it"
    for ipc in manifest.ipcs:
        if not manifest.data_files(ipc) or not manifest.latent_files(ipc):
            yield f"ipc{ipc}: the manifest lists no data or no latents"
        elif not damaged & {*manifest.data_files(ipc), *manifest.latent_files(ipc)}:
            yield from _cell(path, manifest, ipc)
    if "label_generator" in manifest.content:
        from raycond.sets.attach import projector_problems

        yield from projector_problems(path, manifest)


def _present(path: str, folder: str) -> set[str]:
    if not files.exists(files.join(path, folder)):
        return set()
    found: set[str] = set()
    for entry in files.listdir(files.join(path, folder)):
        name = f"{folder}/{entry.name}"
        found |= _present(path, name) if entry.is_dir else {name}
    return found


def _file(uri: str, expected: dict[str, Any]) -> str:
    if not files.exists(uri):
        return "missing"
    data = files.read_bytes(uri)
    if len(data) != expected["bytes"]:
        return f"{len(data)} bytes, the manifest says {expected['bytes']}"
    return "" if files.sha256(data) == expected["sha256"] else "its SHA-256 is not the manifest's"


def _cell(path: str, manifest: Manifest, ipc: int) -> Iterator[str]:
    classes, what = manifest.classes, f"ipc{ipc}"
    expected = manifest.content["cells"][what]
    rows: list[dict[str, Any]] = []
    for name in manifest.data_files(ipc):
        table = pq.read_table(io.BytesIO(files.read_bytes(files.join(path, name))))
        if _names(table.schema) != list(classes.names):
            yield f"{name}: its class names are not the manifest's"
        for row in table.to_pylist():
            problem = _image(row["image"]["bytes"], manifest.content["size"], manifest.content["channels"])
            if problem:
                yield f"{name}: {row['image']['path']}: {problem}"
            rows.append({k: row[k] for k in ("label", "weight", "count", "class_id")})
    if len(rows) != expected["images"] or len(rows) != ipc * len(classes):
        yield f"{what}: {len(rows)} images, the manifest says {expected['images']}, IPC × classes {ipc * len(classes)}"
    if sum(r["count"] for r in rows) != expected["source_images"]:
        yield f"{what}: counts add up to {sum(r['count'] for r in rows)}, not {expected['source_images']}"
    for row in rows:
        if not 0 <= row["label"] < len(classes) or classes.ids[row["label"]] != row["class_id"]:
            yield f"{what}: label {row['label']} says class {row['class_id']}, which the class list does not"
            return
    for label, class_id in enumerate(classes.ids):
        problem = _class([r for r in rows if r["label"] == label], ipc, manifest.content["weights"])
        if problem:
            yield f"{what}: class {class_id} {problem}"
    latents = [read_safetensors(files.join(path, n))[0] for n in manifest.latent_files(ipc)]
    if [k for t in latents for k in t["labels"].tolist()] != [r["label"] for r in rows]:
        yield f"{what}: latents and images are not in the same order"


def _names(schema: pa.Schema) -> list[str]:
    """Class names as `datasets` reads them."""
    names: list[str] = json.loads(schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    return names


def _class(rows: list[dict[str, Any]], ipc: int, mode: str) -> str:
    if len(rows) != ipc:
        return f"has {len(rows)} images"
    counts = torch.tensor([r["count"] for r in rows])
    if int(counts.min()) < 1:
        return "has an image that stands for none"
    expected = weights_of(counts, mode)
    found = torch.tensor([r["weight"] for r in rows])
    return (
        "" if torch.allclose(found, expected, _WEIGHT_TOLERANCE) else f"has weights that are not {mode} of its counts"
    )


def _image(data: bytes, size: int, channels: int) -> str:
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except Exception as error:
        return f"does not decode: {error}"
    mode = "L" if channels == 1 and picture.format != "WEBP" else "RGB"  # WebP stores grey as colour
    if (picture.size, picture.mode) == ((size, size), mode):
        return ""
    return f"is {picture.size} {picture.mode}, not ({size}, {size}) {mode}"
