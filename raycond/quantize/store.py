"""A class's codebook on disk: safetensors with counts, distortion and the medoids' image ids."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from safetensors import safe_open
from safetensors.torch import save

from raycond import files
from raycond.quantize.codebook import Codebook


@dataclass(frozen=True)
class StoredCodebook:
    """A codebook and what ties it to its class: medoid_ids are the ids of the medoids' real images, in order."""

    codebook: Codebook
    class_id: str
    label: int
    medoid_ids: tuple[str, ...]


def to_bytes(stored: StoredCodebook) -> bytes:
    book = stored.codebook
    tensors = {
        "centroids": book.centroids.contiguous(),
        "counts": book.counts,
        "distortion": torch.tensor(book.distortion, dtype=torch.float64),
        "medoids": book.medoids,
    }
    about = {"class_id": stored.class_id, "label": stored.label, "medoid_ids": stored.medoid_ids}
    return save(tensors, {"raycond": json.dumps(about, sort_keys=True)})


def read(uri: str) -> StoredCodebook:
    """Raises OSError if it is not there."""
    tensors, about = read_safetensors(uri)
    book = Codebook(tensors["centroids"], tensors["counts"], float(tensors["distortion"]), tensors["medoids"])
    return StoredCodebook(book, about["class_id"], about["label"], tuple(about["medoid_ids"]))


def read_safetensors(uri: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors and raycond's own metadata of a local or remote safetensors file."""
    if files.is_local(uri):
        with safe_open(files.absolute(uri), "pt") as file:
            about = json.loads((file.metadata() or {}).get("raycond", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118 - not a dict
    from safetensors.torch import load

    data = files.read_bytes(uri)
    head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return load(data), json.loads(head.get("__metadata__", {}).get("raycond", "{}"))
