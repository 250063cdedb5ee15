"""Readers of the files that runs leave: records, tensors, locks, and states of trainings."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save

from raycond.core import files, lock, records
from raycond.core.tensors import read_safetensors
from tests.fuzz.reader import Reader


def _records() -> list[bytes]:
    facts = {"bytes": 3, "sha256": files.sha256(b"abc"), "bad": [["a", 0, "b", "c", "d"]], "images": 7}
    return [json.dumps({"fingerprint": "x", "facts": facts}, indent=2).encode(), b'{"fingerprint": "x", "facts": {}}']


def _read_record(data: bytes, folder: Path) -> None:
    (folder / "out").write_bytes(b"abc")
    (folder / "out.done.json").write_bytes(data)
    found = records.find(str(folder / "out"), "x")
    assert found is None or isinstance(found, dict)


@cache
def _tensors() -> list[bytes]:
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.arange(4), "c": torch.zeros(0, dtype=torch.uint8)}
    return [save(tensors, {"raycond": json.dumps({"k": 1})}), save({"x": torch.ones(3, dtype=torch.bfloat16)})]


def _read_tensors(data: bytes, folder: Path) -> None:
    (folder / "x.safetensors").write_bytes(data)
    for tensor in read_safetensors(str(folder / "x.safetensors"))[0].values():
        tensor.sum()


def _read_remote_tensors(data: bytes, folder: Path) -> None:
    uri = f"memory://fuzz{folder}/x.safetensors"
    files.write_bytes(uri, data)
    read_safetensors(uri)


def _read_lock(data: bytes, folder: Path) -> None:
    (folder / lock.NAME).write_bytes(data)
    owner = lock._Local(str(folder)).read()
    if owner is not None:
        lock._occupied(str(folder), owner)
        assert isinstance(owner.is_here and owner.is_running, bool)


def _locks() -> list[bytes]:
    return [lock._content(lock.current("raycond quantize"))]


READERS = [
    Reader("record", _records, _read_record, 800),
    Reader("safetensors", _tensors, _read_tensors, 800),
    Reader("safetensors-remote", _tensors, _read_remote_tensors, 800),
    Reader("lock", cache(_locks), _read_lock, 500),
]
