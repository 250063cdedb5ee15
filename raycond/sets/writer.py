"""Write a condensed set: Parquet shards, latents, preview, card, and the manifest last."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from raycond.core import files, stream
from raycond.data.classes import Classes
from raycond.methods.quantize.codebook import Codebook
from raycond.sets.card import card
from raycond.sets.manifest import FORMAT_VERSION, NAME
from raycond.sets.preview import preview

PREVIEW_CLASSES = 20
SHARD_BYTES = 256 * 2**20
GROUP_ROWS, GROUP_BYTES = 1000, 8 * 2**20  # of a Parquet row group, all that is held in memory at once


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
        shown = [self._load(self.ipcs[-1], label) for label in range(min(len(self.classes), PREVIEW_CLASSES))]
        self._put("preview.png", preview(shown))
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
        first = self._load(ipc, 0)
        step = max(1, SHARD_BYTES // (sum(map(len, first.images)) + first.codebook.centroids.nbytes))
        shards = [range(k, min(k + step, len(self.classes))) for k in range(0, len(self.classes), step)]
        latent = tuple(first.codebook.centroids.shape[1:])
        counted: dict[str, Any] = {"images": 0, "source_images": 0, "distortion": []}
        for number, labels in enumerate(shards):
            suffix = f"-{number:05d}-of-{len(shards):05d}"
            name = f"latents/ipc{ipc}{suffix if len(shards) > 1 else ''}.safetensors"
            with (
                self._stream(f"data/ipc{ipc}/train{suffix}.parquet") as table,
                self._stream(name) as tensors,
                _Rows(table, self.classes) as rows,
            ):
                counts = []
                tensors.write(_header(ipc * len(labels), latent))
                for label in labels:
                    part = self._load(ipc, label)
                    rows.add(self._rows(part))
                    tensors.write(part.codebook.centroids.contiguous().numpy().tobytes())
                    counts.append(part.codebook.counts)
                    counted["images"] += len(part.images)
                    counted["source_images"] += int(part.codebook.counts.sum())
                    counted["distortion"].append(part.codebook.distortion)
                tensors.write(torch.tensor(labels).repeat_interleave(ipc).int().numpy().tobytes())
                tensors.write(torch.cat(counts).int().numpy().tobytes())
            self._storage["latents"] += self._files[name]["bytes"]
            for column, size in rows.sizes().items():
                self._storage[column] += size
        self._cells[f"ipc{ipc}"] = counted

    def _rows(self, part: ClassPart) -> dict[str, list[Any]]:
        class_id, count = self.classes.ids[part.label], len(part.images)
        paths = [f"{class_id}/{k:05d}.{self.image_format}" for k in range(count)]
        return {
            "image": [{"bytes": data, "path": path} for data, path in zip(part.images, paths, strict=True)],
            "label": [part.label] * count,
            "weight": part.codebook.weights(self.weights).tolist(),
            "count": part.codebook.counts.tolist(),
            "class_id": [class_id] * count,
            "source_id": list(part.medoid_ids),
        }

    @contextmanager
    def _stream(self, name: str) -> Iterator[_Hashed]:
        with stream.writer(files.join(self.folder, name)) as file:
            hashed = _Hashed(file)
            yield hashed
        self._files[name] = {"sha256": hashed.sha256.hexdigest(), "bytes": hashed.bytes}

    def _put(self, name: str, data: bytes) -> int:
        files.write_bytes(files.join(self.folder, name), data)
        self._files[name] = {"sha256": files.sha256(data), "bytes": len(data)}
        return len(data)

    def _sweep(self) -> None:
        """Remove what an older set left behind in our folders: readers glob them."""
        for folder in ("data", "latents", "labels"):
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


class _Hashed(io.RawIOBase):
    """A stream that keeps the digest and the number of the bytes that pass through it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sha256, self.bytes = file, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        self.bytes += len(data)
        self.file.write(data)
        return len(data)


class _Rows:
    """Rows of a shard into Parquet row groups, each closed at `GROUP_ROWS` rows or `GROUP_BYTES` of images."""

    def __init__(self, sink: _Hashed, classes: Classes) -> None:
        self._schema = _schema(classes)
        self._waiting: list[pa.Table] = []
        self._meta: list[Any] = []
        # encoded images do not shrink, and dictionary pages would only copy them
        options: dict[str, Any] = {"compression": "zstd", "use_dictionary": ["class_id"]}
        self._writer = pq.ParquetWriter(sink, self._schema, metadata_collector=self._meta, **options)

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
        self._writer.close()

    def add(self, rows: dict[str, list[Any]]) -> None:
        self._waiting.append(pa.table(rows, schema=self._schema))
        if sum(t.num_rows for t in self._waiting) >= GROUP_ROWS or sum(t.nbytes for t in self._waiting) >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting)
            self._writer.write_table(table, row_group_size=table.num_rows)
            self._waiting = []

    def sizes(self) -> dict[str, int]:
        """Stored bytes of images, weights and labels, once closed."""
        place = {"image.bytes": "images", "weight": "weights", "label": "labels"}
        found = dict.fromkeys(place.values(), 0)
        for group in (meta.row_group(g) for meta in self._meta for g in range(meta.num_row_groups)):
            for column in (group.column(c) for c in range(group.num_columns)):
                if column.path_in_schema in place:
                    found[place[column.path_in_schema]] += column.total_compressed_size
        return found


def _header(rows: int, latent: tuple[int, ...]) -> bytes:
    """Start of a safetensors file of latents (rows, *latent) float32, labels and counts (rows,) int32.

    Written by hand because safetensors' own writer wants all tensors in memory. All three have four-byte numbers, so
    each is aligned whatever the one before it is.
    """
    described, start = {}, 0
    for name, dtype, shape in (
        ("latents", "F32", (rows, *latent)),
        ("labels", "I32", (rows,)),
        ("counts", "I32", (rows,)),
    ):
        end = start + 4 * math.prod(shape)
        described[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(described).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
