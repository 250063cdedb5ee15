"""Write a condensed set: Parquet shards, latents or tensors, preview, card, and the manifest last."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from raycond.core import files
from raycond.core.text import storable
from raycond.data.classes import Classes
from raycond.methods.kernels.whitening import Preprocessing
from raycond.methods.quantize.codebook import Codebook
from raycond.methods.quantize.codebook import weights as weights_of
from raycond.sets import normalization as constants
from raycond.sets import tensors as float_tensors
from raycond.sets.card import card
from raycond.sets.class_names import require_storable
from raycond.sets.latents import header
from raycond.sets.manifest import FORMAT_VERSION
from raycond.sets.preview import preview
from raycond.sets.publication import Publication, StagedFile
from raycond.sets.tables import COLUMNS, schema

PREVIEW_CLASSES = 20
SHARD_BYTES = 256 * 2**20
GROUP_ROWS, GROUP_BYTES = 1000, 8 * 2**20  # of a Parquet row group, all that is held in memory at once


@dataclass(frozen=True)
class ClassPart:
    """One class at one IPC, ready to be stored."""

    label: int
    """The class's position in the class list."""

    images: list[bytes]
    """Encoded images, in the order of the codebook where there is one."""

    codebook: Codebook | None
    """Latents, counts and distortion; None for images that no quantization made."""

    medoid_ids: tuple[str, ...]
    """For each image the id of the real image nearest to its latent; without latents the ids of as many real images
    that stand for the class."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """`images` (K, C, H, W) float32, unrounded and in the space of the set's normalization, and what else a method has
    learned for each image, under other names; empty where the encoded images are all there is."""

    real_images: int = 0
    """Without a codebook: the real images of the class, of which each image stands for an equal share."""

    @property
    def counts(self) -> Tensor:
        """(K,) int64, source images that each image stands for; every one at least 1."""
        if self.codebook is not None:
            return self.codebook.counts
        share, rest = divmod(self.real_images, len(self.images))
        return torch.tensor([max(1, share + (k < rest)) for k in range(len(self.images))])

    @property
    def stored_bytes(self) -> int:
        """Of the images, the latents and the tensors."""
        latents = 0 if self.codebook is None else self.codebook.centroids.nbytes
        return sum(map(len, self.images)) + latents + sum(tensor.nbytes for tensor in self.tensors.values())


class SetWriter:
    """Builds a set in `folder`, one class in memory at a time, and of float tensors one shard.

    A set that is there already stays as it is until the new one is complete; then it is replaced by one switch, as
    `raycond.sets.publication` describes. The work per class does not depend on how many classes there are.
    """

    def __init__(
        self,
        folder: str,
        classes: Classes,
        ipcs: Sequence[int],
        weights: str,
        image_format: str,
        load: Callable[[int, int], ClassPart],
        normalization: Preprocessing | None = None,
    ) -> None:
        """load: (ipc, label) → the class's part; all parts have a codebook or none has, and likewise tensors.
        normalization: of pixels in [0, 1], by the constants of the real images; needed where there are tensors. Raises
        UserError for class names that readers of a set cannot hold.
        """
        require_storable(classes)
        self.folder, self.classes, self.ipcs = folder, classes, sorted(ipcs)
        self.weights, self.image_format, self._load = weights, image_format, load
        self.normalization = normalization
        self._storage = {"images": 0, "weights": 0, "labels": 0, "latents": 0}
        self._cells: dict[str, Any] = {}

    @property
    def identity(self) -> dict[str, Any]:
        """What the set depends on beside its parts and what is said about it: the normalization, if it has one."""
        if self.normalization is None:
            return {}
        return {"normalization": constants.identity(self.normalization)}

    def write(self, about: dict[str, Any]) -> dict[str, Any]:
        """Write everything and return the manifest.

        about: what goes into the manifest beside what the writer finds itself. A file of an earlier set that the new
        one does not have is removed from data/, latents/, tensors/ and labels/.
        """
        with Publication(self.folder) as new:
            for ipc in self.ipcs:
                self._write_ipc(new, ipc)
            normalization = self._write_normalization(new)
            content = files.digest(sorted((name, facts["sha256"]) for name, facts in new.files.items()))
            parts = [self._load(self.ipcs[-1], label) for label in range(min(len(self.classes), PREVIEW_CLASSES))]
            new.put("preview.png", preview(parts))
            manifest = {
                "format_version": FORMAT_VERSION,
                "classes": self.classes.to_dict(),
                "ipc": self.ipcs,
                "weights": self.weights,
                "labels": "hard",
                "image_format": self.image_format,
                "cells": self._cells,
                "storage_bytes": {**self._storage, "label_generator": 0},
                "content_sha256": content,
                **normalization,
                **_storable(about),
                "files": new.files,
            }
            new.put("README.md", card(manifest).encode())
            manifest["files"] = dict(sorted(new.files.items()))
            new.switch(manifest)
        return manifest

    def _write_ipc(self, new: Publication, ipc: int) -> None:
        first = self._load(ipc, 0)
        step = max(1, SHARD_BYTES // max(1, first.stored_bytes))
        shards = [range(k, min(k + step, len(self.classes))) for k in range(0, len(self.classes), step)]
        counted: dict[str, Any] = {"images": 0, "source_images": 0}
        if first.codebook is not None:
            counted["distortion"] = []
        for number, labels in enumerate(shards):
            shard = f"-{number:05d}-of-{len(shards):05d}"
            beside = f"ipc{ipc}{shard if len(shards) > 1 else ''}"
            kept = []
            with (
                new.stream(f"data/ipc{ipc}/train{shard}", ".parquet") as table,
                _Latents(new, beside, ipc * len(labels), first.codebook) as latents,
                _Rows(table, self.classes) as rows,
            ):
                for label in labels:
                    part = self._load(ipc, label)
                    rows.add(self._rows(part))
                    latents.add(part)
                    kept.append(part.tensors)
                    counted["images"] += len(part.images)
                    counted["source_images"] += int(part.counts.sum())
                    if part.codebook is not None:
                        counted["distortion"].append(part.codebook.distortion)
            self._storage["latents"] += latents.size
            if kept[0]:
                self._write_tensors(new, f"tensors/{beside}", kept, torch.tensor(labels).repeat_interleave(ipc))
            for column, size in rows.sizes().items():
                self._storage[column] += size
        self._cells[f"ipc{ipc}"] = counted

    def _write_tensors(
        self, new: Publication, stem: str, parts: Sequence[Mapping[str, Tensor]], labels: Tensor
    ) -> None:
        assert self.normalization is not None, "tensors are in the space of a normalization"
        with new.stream(stem, ".safetensors") as file:
            file.write(float_tensors.to_bytes(parts, labels))
        self._storage["tensors"] = self._storage.get("tensors", 0) + file.size

    def _write_normalization(self, new: Publication) -> dict[str, Any]:
        """The manifest's entry; a whitening gets a file of its own."""
        if self.normalization is None:
            return {}
        data, name = constants.stored(self.normalization), ""
        if data is not None:
            with new.stream("tensors/normalization", ".safetensors") as file:
                file.write(data)
            name = file.name
        return {"normalization": constants.described(self.normalization, name)}

    def _rows(self, part: ClassPart) -> dict[str, list[Any]]:
        class_id, count = self.classes.ids[part.label], len(part.images)
        paths = [f"{class_id}/{k:05d}.{self.image_format}" for k in range(count)]
        return {
            "image": [{"bytes": data, "path": path} for data, path in zip(part.images, paths, strict=True)],
            "label": [part.label] * count,
            "weight": weights_of(part.counts, self.weights).tolist(),
            "count": part.counts.tolist(),
            "class_id": [class_id] * count,
            "source_id": [storable(image_id) for image_id in part.medoid_ids],
        }


def _storable(value: Any) -> Any:
    """Plain data whose texts UTF-8 can hold: a folder's name may hold bytes that it cannot."""
    if isinstance(value, dict):
        return {_storable(key): _storable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_storable(inner) for inner in value]
    return storable(value) if isinstance(value, str) else value


class _Latents:
    """The file of a shard's latents, labels and counts, class after class; no file without a codebook."""

    def __init__(self, new: Publication, name: str, rows: int, first: Codebook | None) -> None:
        self._labels: list[int] = []
        self._counts: list[Tensor] = []
        self._file: StagedFile | None = None
        self._stream = contextlib.ExitStack()
        if first is not None:
            self._file = self._stream.enter_context(new.stream(f"latents/{name}", ".safetensors"))
            self._file.write(header(rows, tuple(first.centroids.shape[1:])))

    @property
    def size(self) -> int:
        return 0 if self._file is None else self._file.size

    def __enter__(self) -> _Latents:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is None and self._file is not None:
            self._file.write(torch.tensor(self._labels, dtype=torch.int32).numpy().tobytes())
            self._file.write(torch.cat(self._counts).int().numpy().tobytes())
        self._stream.__exit__(kind, error, traceback)

    def add(self, part: ClassPart) -> None:
        if self._file is not None and part.codebook is not None:
            self._file.write(part.codebook.centroids.contiguous().numpy().tobytes())
            self._labels += [part.label] * len(part.codebook)
            self._counts.append(part.codebook.counts)


class _Rows:
    """Rows of a shard into Parquet row groups, each closed at `GROUP_ROWS` rows or `GROUP_BYTES`."""

    def __init__(self, sink: StagedFile, classes: Classes) -> None:
        self._schema = schema(classes)
        self._waiting: list[pa.Table] = []
        self._rows = self._bytes = 0  # of the tables that wait
        self._groups: list[Any] = []
        # encoded images do not shrink, and dictionary pages would only copy them
        options: dict[str, Any] = {"compression": "zstd", "use_dictionary": ["class_id"]}
        self._writer = pq.ParquetWriter(sink, self._schema, metadata_collector=self._groups, **options)

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
                self._writer.close()
        finally:
            self._writer.is_open = False  # after an error it would write again, when it is collected

    def add(self, rows: dict[str, list[Any]]) -> None:
        table = pa.table(rows, schema=COLUMNS)
        self._waiting.append(table)
        self._rows += table.num_rows
        self._bytes += table.nbytes
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting).cast(self._schema)
            self._writer.write_table(table, row_group_size=table.num_rows)
            self._waiting, self._rows, self._bytes = [], 0, 0

    def sizes(self) -> dict[str, int]:
        """Stored bytes of images, weights and labels, once closed."""
        place = {"image.bytes": "images", "weight": "weights", "label": "labels"}
        result = dict.fromkeys(place.values(), 0)
        for group in (meta.row_group(g) for meta in self._groups for g in range(meta.num_row_groups)):
            for column in (group.column(c) for c in range(group.num_columns)):
                if column.path_in_schema in place:
                    result[place[column.path_in_schema]] += column.total_compressed_size
        return result
