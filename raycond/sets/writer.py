"""Write a condensed set: Parquet shards, latents, preview, card, and the manifest last."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save

from raycond import files
from raycond.data.classes import Classes
from raycond.quantize.codebook import Codebook
from raycond.sets.card import card
from raycond.sets.manifest import FORMAT_VERSION, NAME
from raycond.sets.preview import preview

SHARD_BYTES = 256 * 2**20


@dataclass(frozen=True)
class ClassPart:
    """One class at one IPC, ready to be stored: encoded images in codebook order."""

    label: int
    images: list[bytes]
    codebook: Codebook
    medoid_ids: tuple[str, ...]


class SetWriter:
    """Builds a set in `folder`, one class in memory at a time; the manifest makes it valid, so it is written last.

    load: (ipc, label) → ClassPart. about: what goes into the manifest beside what the writer finds itself.
    """

    def __init__(
        self,
        folder: str,
        classes: Classes,
        ipcs: Sequence[int],
        weights: str,
        image_format: str,
        load: Callable[[int, int], ClassPart],
    ) -> None:
        self.folder, self.classes, self.ipcs = folder, classes, sorted(ipcs)
        self.weights, self.image_format, self._load = weights, image_format, load
        self._files: dict[str, dict[str, Any]] = {}
        self._storage = {"images": 0, "weights": 0, "labels": 0, "latents": 0}
        self._cells: dict[str, Any] = {}

    def write(self, about: dict[str, Any]) -> dict[str, Any]:
        """Write everything and return the manifest. An older set in the folder is replaced; unlisted files go."""
        files.delete(files.join(self.folder, NAME))
        for ipc in self.ipcs:
            self._write_ipc(ipc)
        self._put(
            "preview.png", preview([self._load(self.ipcs[-1], label) for label in range(min(len(self.classes), 20))])
        )
        manifest = {
            "format_version": FORMAT_VERSION,
            "classes": self.classes.to_dict(),
            "ipc": self.ipcs,
            "weights": self.weights,
            "labels": "hard",
            "image_format": self.image_format,
            "cells": self._cells,
            "storage_bytes": {**self._storage, "label_generator": 0},
            **about,
        }
        self._put("README.md", card(manifest).encode())
        manifest["files"] = dict(sorted(self._files.items()))
        self._sweep()
        files.write_json(files.join(self.folder, NAME), manifest)
        return manifest

    def _write_ipc(self, ipc: int) -> None:
        shards = list(self._shards(ipc))
        counted: dict[str, Any] = {"images": 0, "source_images": 0, "distortion": []}
        for number, labels in enumerate(shards):
            parts = [self._load(ipc, label) for label in labels]
            data = self._table_bytes(parts)
            self._put(f"data/ipc{ipc}/train-{number:05d}-of-{len(shards):05d}.parquet", data)
            name = f"latents/ipc{ipc}.safetensors"
            if len(shards) > 1:
                name = f"latents/ipc{ipc}-{number:05d}-of-{len(shards):05d}.safetensors"
            self._storage["latents"] += self._put(name, _latents(parts))
            self._count(data)
            for part in parts:
                counted["images"] += len(part.images)
                counted["source_images"] += int(part.codebook.counts.sum())
                counted["distortion"].append(part.codebook.distortion)
        self._cells[f"ipc{ipc}"] = counted

    def _shards(self, ipc: int) -> Iterator[list[int]]:
        """Labels of each shard; sizes are measured on class 0, for classes are alike."""
        first = self._load(ipc, 0)
        size = sum(map(len, first.images)) + first.codebook.centroids.nbytes
        step = max(1, SHARD_BYTES // max(1, size))
        for start in range(0, len(self.classes), step):
            yield list(range(start, min(start + step, len(self.classes))))

    def _table_bytes(self, parts: Sequence[ClassPart]) -> bytes:
        schema = _schema(self.classes)
        rows: dict[str, list[Any]] = {name: [] for name in schema.names}
        for part in parts:
            class_id = self.classes.ids[part.label]
            weights = part.codebook.weights(self.weights).tolist()
            for k, image in enumerate(part.images):
                rows["image"].append({"bytes": image, "path": f"{class_id}/{k:05d}.{self.image_format}"})
                rows["label"].append(part.label)
                rows["weight"].append(weights[k])
                rows["count"].append(int(part.codebook.counts[k]))
                rows["class_id"].append(class_id)
                rows["source_id"].append(part.medoid_ids[k])
        buffer = io.BytesIO()
        # encoded images do not shrink; dictionary pages would only copy them
        table = pa.table(rows, schema=schema)
        pq.write_table(table, buffer, compression="zstd", row_group_size=1000, use_dictionary=["class_id"])
        return buffer.getvalue()

    def _count(self, data: bytes) -> None:
        meta = pq.read_metadata(io.BytesIO(data))
        place = {"image.bytes": "images", "weight": "weights", "label": "labels"}
        for group in range(meta.num_row_groups):
            for c in range(meta.num_columns):
                column = meta.row_group(group).column(c)
                if column.path_in_schema in place:
                    self._storage[place[column.path_in_schema]] += column.total_compressed_size

    def _put(self, name: str, data: bytes) -> int:
        files.write_bytes(files.join(self.folder, name), data)
        self._files[name] = {"sha256": files.sha256(data), "bytes": len(data)}
        return len(data)

    def _sweep(self) -> None:
        """Remove what an older set left behind in our folders: readers glob them."""
        for folder in ("data", "latents"):
            if files.exists(files.join(self.folder, folder)):
                self._sweep_folder(folder)

    def _sweep_folder(self, folder: str) -> None:
        for entry in files.listdir(files.join(self.folder, folder)):
            name = f"{folder}/{entry.name}"
            if entry.is_dir:
                self._sweep_folder(name)
            elif name not in self._files:
                files.delete(entry.uri)


def _schema(classes: Classes) -> pa.Schema:
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(classes.names), "_type": "ClassLabel"},
        "weight": {"dtype": "float32", "_type": "Value"},
        "count": {"dtype": "int64", "_type": "Value"},
        "class_id": {"dtype": "string", "_type": "Value"},
        "source_id": {"dtype": "string", "_type": "Value"},
    }
    return pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),
            ("weight", pa.float32()),
            ("count", pa.int64()),
            ("class_id", pa.string()),
            ("source_id", pa.string()),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )


def _latents(parts: Sequence[ClassPart]) -> bytes:
    """Rows in the order of the images: latents (N, *latent) float32, labels and counts (N,) int64."""
    tensors = {
        "latents": torch.cat([p.codebook.centroids for p in parts]),
        "labels": torch.cat([torch.full((len(p.images),), p.label) for p in parts]),
        "counts": torch.cat([p.codebook.counts for p in parts]),
    }
    return save(tensors)
