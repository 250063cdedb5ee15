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
from torch import Tensor

from raycond.core import files
from raycond.core.errors import UserError
from raycond.core.tensors import read_safetensors
from raycond.methods.quantize.codebook import weights as weights_of
from raycond.sets.class_rows import class_rows
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
    tables = []
    for name in manifest.data_files(ipc):
        table = pq.read_table(io.BytesIO(files.read_bytes(files.join(path, name))))
        if _names(table.schema) != list(classes.names):
            yield f"{name}: its class names are not the manifest's"
        for image in table.column("image").to_pylist():
            problem = _image(image["bytes"], manifest.content["size"], manifest.content["channels"])
            if problem:
                yield f"{name}: {image['path']}: {problem}"
        tables.append(table.select(["label", "weight", "count", "class_id"]))
    rows = pa.concat_tables(tables)
    if len(rows) != expected["images"] or len(rows) != ipc * len(classes):
        yield f"{what}: {len(rows)} images, the manifest says {expected['images']}, IPC × classes {ipc * len(classes)}"
    labels, weights, counts = (torch.from_numpy(rows[c].to_numpy().copy()) for c in ("label", "weight", "count"))
    if (total := int(counts.sum())) != expected["source_images"]:
        yield f"{what}: counts add up to {total}, not {expected['source_images']}"
    for label, class_id in zip(labels.tolist(), rows["class_id"].to_pylist(), strict=True):
        if not 0 <= label < len(classes) or classes.ids[label] != class_id:
            yield f"{what}: label {label} says class {class_id}, which the class list does not"
            return
    for class_id, own in zip(classes.ids, class_rows(labels, len(classes)), strict=True):
        problem = _class(weights[own], counts[own], ipc, manifest.content["weights"])
        if problem:
            yield f"{what}: class {class_id} {problem}"
    latents = [read_safetensors(files.join(path, n))[0] for n in manifest.latent_files(ipc)]
    if not torch.equal(torch.cat([t["labels"] for t in latents]).long(), labels):
        yield f"{what}: latents and images are not in the same order"


def _names(schema: pa.Schema) -> list[str]:
    """Class names as `datasets` reads them."""
    names: list[str] = json.loads(schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    return names


def _class(weights: Tensor, counts: Tensor, ipc: int, mode: str) -> str:
    """What is wrong with the weights and counts of one class's images, or nothing."""
    if len(counts) != ipc:
        return f"has {len(counts)} images"
    if int(counts.min()) < 1:
        return "has an image that stands for none"
    right = torch.allclose(weights, weights_of(counts, mode), _WEIGHT_TOLERANCE)
    return "" if right else f"has weights that are not {mode} of its counts"


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
