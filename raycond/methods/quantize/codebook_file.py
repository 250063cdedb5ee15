"""A class's codebook on disk: safetensors with counts, distortion and the medoids' image ids."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from safetensors.torch import save

from raycond.core.tensors import read_safetensors
from raycond.methods.quantize.codebook import Codebook


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
