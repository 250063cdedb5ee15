"""Tensors in safetensors files."""

from __future__ import annotations

import json

import torch
from safetensors import safe_open

from raycond.core import files


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
