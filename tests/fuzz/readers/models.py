"""Readers of weights that somebody gives: state dicts of torch, and safetensors files."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path
from random import Random

import torch
from safetensors.torch import save

from raycond.models import checkpoint
from tests.fuzz.reader import Reader


def _weights() -> dict[str, torch.Tensor]:
    return {"conv.weight": torch.arange(8.0).view(2, 4), "conv.bias": torch.ones(2), "steps": torch.tensor(3)}


@cache
def _torch_files() -> list[bytes]:
    found = []
    for value, options in (
        (_weights(), {}),
        ({"state_dict": {f"module.{name}": tensor for name, tensor in _weights().items()}, "epoch": 7}, {}),
        (_weights(), {"_use_new_zipfile_serialization": False}),
    ):
        buffer = io.BytesIO()
        torch.save(value, buffer, **options)
        found.append(buffer.getvalue())
    return found


def _repair_zip(data: bytes, random: Random) -> bytes:
    """A zip archive whose pickle is damaged and whose checksums fit."""
    whole = _torch_files()[random.randrange(2)]
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            content = bytearray(source.read(name))
            if name.endswith(".pkl"):
                for _ in range(random.randint(1, 6)):
                    content[random.randrange(len(content))] = random.randrange(256)
            target.writestr(name, bytes(content))
    return out.getvalue()


def _read_torch(data: bytes, folder: Path) -> None:
    (folder / "x.pth").write_bytes(data)
    checkpoint.read(str(folder / "x.pth"))


def _read_safetensors(data: bytes, folder: Path) -> None:
    (folder / "x.safetensors").write_bytes(data)
    checkpoint.read(str(folder / "x.safetensors"))


READERS = [
    Reader("checkpoint", _torch_files, _read_torch, 400, _repair_zip),
    Reader("checkpoint-safetensors", lambda: [save(_weights())], _read_safetensors, 300),
]
