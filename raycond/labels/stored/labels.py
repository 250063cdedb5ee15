"""Stored soft labels: the logits of numbered views of every image, in chunks, found by image and view number."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor

from raycond.core import files
from raycond.core.errors import RaycondError, UserError
from raycond.core.tensors import read_safetensors
from raycond.data.classes import Classes, require_same

FORMAT_VERSION = 1
NAME, IDS = "labels.json", "ids.safetensors"
CHUNK_BYTES = 64 * 2**20  # of a file, which has one view at least
NO_BASELINES = "; a grid's baselines have none: --baselines none"
_HELD = 2  # views kept in memory: a step may fall on the end of one epoch and the start of the next
_TYPES = {"F16": torch.float16, "I16": torch.int16, "I32": torch.int32}


@dataclass(frozen=True)
class Encoding:
    """How logits (n, C) are stored: all as fp16, or the `top_k` largest of each view as fp16 with their classes.

    Top-k is LPQLD's quantization (arXiv 2604.18135), which also keeps fewer views than a student has epochs. rest: what
    the classes left out get back. zero: probability 0, the softmax runs over the kept ones (its MR-k); minimum: the
    smallest logit kept (its MRS). Raises UserError for a top_k below 1.
    """

    top_k: int | None = None
    rest: Literal["zero", "minimum"] = "zero"

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top-k: must be at least 1, not {self.top_k}")
        if self.rest not in ("zero", "minimum"):
            raise UserError(f"rest: {self.rest!r} is neither zero nor minimum")

    def encode(self, logits: Tensor) -> dict[str, Tensor]:
        """Raises RaycondError for logits that fp16 cannot hold."""
        if self.top_k is None:
            return {"logits": _half(logits)}
        values, classes = logits.topk(min(self.top_k, logits.shape[-1]), dim=-1)
        return {"logits": _half(values), "classes": classes.to(index_type(logits.shape[-1]))}

    def decode(self, parts: dict[str, Tensor], count: int) -> Tensor:
        """(n, count) float32; −inf for what has probability 0."""
        values = parts["logits"].float()
        if "classes" not in parts:
            return values
        if self.rest == "zero":
            rest = values.new_full((len(values), count), float("-inf"))
        else:
            rest = values.amin(1, keepdim=True).repeat(1, count)
        return rest.scatter_(1, parts["classes"].long(), values)

    def bytes_per_view(self, count: int) -> int:
        """Of one view of one image with `count` classes."""
        if self.top_k is None:
            return 2 * count
        return min(self.top_k, count) * (2 + index_type(count).itemsize)


def index_type(count: int) -> torch.dtype:
    """The smallest signed type that holds `count` classes; fp16, as in FKD, is wrong from 2,049 classes on."""
    return torch.int16 if count <= 2**15 else torch.int32


def _half(values: Tensor) -> Tensor:
    half = values.half()
    if not bool(half.isfinite().all()):
        raise RaycondError("soft labels: a logit is NaN, infinite or above 65504, which float16 cannot hold")
    return half


def write_labels(
    folder: str,
    ids: Tensor,
    classes: Classes,
    *,
    views: int,
    label: Callable[[int], Tensor],
    encoding: Encoding | None = None,
    about: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Store `views` views of every image and return what labels.json, written last, then says.

    ids: (N,) int64, ascending. label: number of a view → logits (N, classes) in the order of the ids. about: whatever
    changes a logit, such as the teacher's digest, the seed and the augmentation. Chunks that are there and were made
    with the same `about` are kept, so that an interrupted run goes on and more views can be added. Raises RaycondError
    for logits that do not fit.
    """
    encoding, about = encoding or Encoding(), _plain(about or {})
    if views < 1:
        raise UserError(f"views: must be at least 1, not {views}")
    folder = files.absolute(folder)
    files.delete(files.join(folder, NAME))
    head = {
        "format_version": FORMAT_VERSION,
        "classes": classes.to_dict(),
        "images": len(ids),
        "encoding": {**asdict(encoding), "dtype": "float16", "values": "logits before any temperature"},
        "about": about,
    }
    data = save({"ids": ids.cpu()})
    fingerprint = files.digest([head, files.sha256(data)])
    files.write_bytes(files.join(folder, IDS), data)
    chunks = []
    step = max(1, CHUNK_BYTES // max(1, len(ids) * encoding.bytes_per_view(len(classes))))
    for first in range(0, views, step):
        numbers = range(first, min(first + step, views))
        chunks.append(_chunk(folder, numbers, fingerprint, encoding, (len(ids), len(classes)), label))
    index = {
        **head,
        "views": views,
        "ids": {"file": IDS, "sha256": files.sha256(data), "bytes": len(data)},
        "chunks": chunks,
        "bytes": sum(chunk["bytes"] for chunk in chunks) + len(data),
    }
    index["digest"] = files.digest([fingerprint, [chunk["sha256"] for chunk in chunks]])
    for entry in files.listdir(folder):
        if entry.name.startswith("views-") and entry.name not in {chunk["file"] for chunk in chunks}:
            files.delete(entry.uri)
    files.write_json(files.join(folder, NAME), index)
    return index


def _chunk(
    folder: str,
    numbers: range,
    fingerprint: str,
    encoding: Encoding,
    shape: tuple[int, int],
    label: Callable[[int], Tensor],
) -> dict[str, Any]:
    name = f"views-{numbers.start:05d}.safetensors"
    uri = files.join(folder, name)
    key = files.digest([fingerprint, numbers.start, len(numbers)])
    data = files.read_bytes(uri) if files.exists(uri) else b""
    if not data or _metadata(data) != key:
        parts: list[dict[str, Tensor]] = []
        for number in numbers:
            logits = label(number)
            if tuple(logits.shape) != shape:
                raise RaycondError(f"soft labels: view {number} has logits {tuple(logits.shape)}, expected {shape}")
            parts.append({what: tensor.cpu() for what, tensor in encoding.encode(logits).items()})
        data = save({what: torch.stack([part[what] for part in parts]) for what in parts[0]}, {"raycond": key})
        files.write_bytes(uri, data)
    return {
        "file": name,
        "first": numbers.start,
        "views": len(numbers),
        "sha256": files.sha256(data),
        "bytes": len(data),
    }


def _metadata(data: bytes) -> str:
    try:
        head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return str(head["__metadata__"]["raycond"])
    except (ValueError, KeyError, TypeError):
        return ""


def _plain(value: Any) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(value))


class StoredLabels:
    """The soft labels that `write_labels` stored; only the views in use are in memory.

    Raises UserError where `folder` has no finished labels, or those of other classes.
    """

    def __init__(self, folder: str, classes: Classes) -> None:
        self.folder, self.index = files.absolute(folder), _read_index(folder)
        require_same(classes, Classes.from_dict(self.index["classes"]), "the training set", f"the labels in {folder}")
        self.classes = len(classes)
        self.views, self.about = int(self.index["views"]), dict(self.index["about"])
        written = self.index["encoding"]
        self.encoding = Encoding(written["top_k"], written["rest"])
        uri = files.join(self.folder, IDS)
        try:
            self.ids = read_safetensors(uri)[0]["ids"]
        except (OSError, KeyError) as error:
            raise UserError(f"{uri}: cannot be read: {error}") from error
        self._heads: dict[str, tuple[int, dict[str, Any]]] = {}
        self._held: dict[tuple[int, torch.device], dict[str, Tensor]] = {}

    def __call__(self, images: Tensor) -> Tensor:
        raise UserError(f"{self.folder}: stored labels are of the views that they were made for, not of any image")

    @property
    def name(self) -> str:
        """For tables, without a place."""
        of = self.about.get("labeler", {}).get("name", "labels")
        kept = f", top {self.encoding.top_k}" if self.encoding.top_k else ""
        return f"{of}, {self.views} views{kept}"

    def of(self, ids: Tensor) -> StoredLabels:
        """The labels of the images with these ids: these. Raises UserError if one has none."""
        self.rows(ids)
        return self

    def rows(self, ids: Tensor) -> Tensor:
        """Where each of the images with these ids is: (n,) int64 on the CPU. Raises UserError if one has no labels."""
        ids = ids.cpu()
        rows = torch.searchsorted(self.ids, ids).clamp(max=len(self.ids) - 1)
        missing = int((self.ids[rows] != ids).sum())
        if missing:
            raise UserError(
                f"{self.folder}: {missing} of {len(ids)} images have no stored labels: they are of other images than "
                "these, or of the same ones at another size or in another encoding; store labels for this set"
                + NO_BASELINES
            )
        return rows

    def logits(self, view: int, rows: Tensor) -> Tensor:
        """Of view number `view` (any number: they repeat) of the images at `rows`, on their device: (n, C) float32."""
        parts = self._view(view % self.views, rows.device)
        return self.encoding.decode({what: tensor[rows] for what, tensor in parts.items()}, self.classes)

    def _view(self, number: int, device: torch.device) -> dict[str, Tensor]:
        key = number, device
        if key not in self._held:
            while len(self._held) >= _HELD:
                del self._held[next(iter(self._held))]
            self._held[key] = {what: tensor.to(device) for what, tensor in self._read(number).items()}
        return self._held[key]

    def _read(self, number: int) -> dict[str, Tensor]:
        chunk = next(c for c in self.index["chunks"] if c["first"] <= number < c["first"] + c["views"])
        uri = files.join(self.folder, chunk["file"])
        try:
            start, head = self._head(uri, chunk)
            return {what: _slice(uri, start, head[what], number - chunk["first"]) for what in head}
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise UserError(f"{uri}: damaged, cannot be read: {error}") from error

    def _head(self, uri: str, chunk: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Where a chunk's tensors begin and what they are."""
        if uri not in self._heads:
            if (size := files.entry(uri).size) != chunk["bytes"]:
                raise ValueError(f"{size} bytes, {NAME} says {chunk['bytes']}")
            length = int.from_bytes(files.read_bytes(uri, 0, 8), "little")
            head = json.loads(files.read_bytes(uri, 8, length))
            head.pop("__metadata__", None)
            self._heads[uri] = 8 + length, head
        return self._heads[uri]


def _slice(uri: str, start: int, described: dict[str, Any], row: int) -> Tensor:
    """Row `row` of a tensor of a safetensors file, without the rest: an object store sends only this."""
    count, *shape = described["shape"]
    low, high = described["data_offsets"]
    size = (high - low) // count
    data = bytearray(files.read_bytes(uri, start + low + row * size, size))
    return torch.frombuffer(data, dtype=_TYPES[described["dtype"]]).view(shape)


def _read_index(folder: str) -> dict[str, Any]:
    uri = files.join(files.absolute(folder), NAME)
    try:
        index = files.read_json(uri)
        version = index["format_version"]
    except FileNotFoundError as error:
        raise UserError(f"{folder}: no {NAME}: not a folder of stored labels, or one that was not finished") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{uri}: damaged: {error}") from error
    if version != FORMAT_VERSION:
        raise UserError(f"{folder}: stored labels of format version {version}; this raycond reads {FORMAT_VERSION}")
    return dict(index)


def verify_labels(folder: str) -> list[str]:
    """What is wrong with the labels in `folder`; nothing if every file has the digest that labels.json gives it."""
    try:
        index = _read_index(folder)
    except UserError as error:
        return [str(error)]
    problems = []
    for entry in (index["ids"], *index["chunks"]):
        uri = files.join(files.absolute(folder), entry["file"])
        if not files.exists(uri):
            problems.append(f"{entry['file']}: missing")
        elif files.sha256(files.read_bytes(uri)) != entry["sha256"]:
            problems.append(f"{entry['file']}: its SHA-256 is not the one in {NAME}")
    return problems
