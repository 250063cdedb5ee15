"""Tensors in safetensors files: local ones mapped, remote ones read once into memory of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import IO, Any

import torch
from safetensors import safe_open
from torch import Tensor

from raycond.core import files, stream
from raycond.core.errors import parsing

_HEADER_BYTES = 100 << 20  # safetensors' own limit
_CHUNK_BYTES = 16 << 20
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def read_safetensors(uri: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and raycond's own metadata (the JSON object under the key "raycond") of a safetensors file.

    The tensors of a local file are mapped: a page is read when it is first touched, and processes share it. Writing to
    them changes this process's memory, never the file. Raises OSError, or UserError if the file is damaged.
    """
    if files.is_local(uri):
        path = files.absolute(uri)
        files.open_local(path).close()  # the file's own errors, which safetensors hides
        with parsing(uri, "safetensors"), safe_open(path, "pt") as file:
            about = _about(file.metadata() or {})
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118 - not a dict
    with stream.reader(uri) as file, parsing(uri, "safetensors"):
        return _read(file, files.entry(uri).size)


def _about(metadata: Mapping[str, str]) -> dict[str, Any]:
    about = files.parse_json(metadata.get("raycond", "{}").encode())
    if not isinstance(about, dict):
        raise ValueError("its metadata is not an object")
    return about


def _read(file: IO[bytes], size: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read from the start of a stream of `size` bytes, each tensor straight into its own memory."""
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(_HEADER_BYTES, size - 8):
        raise ValueError(f"its header announces {length} bytes")
    head = files.parse_json(file.read(length))
    about = _about(head.pop("__metadata__", None) or {})
    tensors, position = {}, 0
    for name, entry in sorted(head.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        dtype, shape = _DTYPES[entry["dtype"]], [int(n) for n in entry["shape"]]
        if first != position or last - first != dtype.itemsize * math.prod(shape) or 8 + length + last > size:
            raise ValueError(f"tensor {name} does not fit into the file")
        tensors[name], position = torch.empty(shape, dtype=dtype), last
        _fill(file, tensors[name])
    return tensors, about


def _fill(file: IO[bytes], tensor: Tensor) -> None:
    """Read the tensor's bytes from the stream, without a second copy of them."""
    if not tensor.nbytes:
        return
    target = memoryview(tensor.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
    while len(target):
        data = file.read(min(len(target), _CHUNK_BYTES))
        if not data:
            raise EOFError("cut short")
        target[: len(data)] = data
        target = target[len(data) :]
