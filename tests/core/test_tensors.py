"""Safetensors: mapped locally, read once remotely, damage named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from raycond.core import files
from raycond.core.errors import UserError
from raycond.core.tensors import read_safetensors

TENSORS = {
    "a": torch.arange(24, dtype=torch.float32).view(2, 3, 4),
    "b": torch.arange(5, dtype=torch.int64),
    "c": torch.ones(3, dtype=torch.bfloat16),
    "d": torch.zeros(0, 4, dtype=torch.uint8),
    "e": torch.tensor(True),
}


@pytest.fixture(params=["local", "remote"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else f"memory://test-tensors{tmp_path}"


def test_round_trip(place: str) -> None:
    uri = files.join(place, "x.safetensors")
    files.write_bytes(uri, save(TENSORS, {"raycond": json.dumps({"n": 1})}))
    tensors, about = read_safetensors(uri)
    assert about == {"n": 1}
    assert tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value)


def test_writing_to_a_tensor_does_not_reach_the_file(place: str) -> None:
    uri = files.join(place, "x.safetensors")
    files.write_bytes(uri, save(TENSORS))
    read_safetensors(uri)[0]["a"].zero_()
    assert torch.equal(read_safetensors(uri)[0]["a"], TENSORS["a"])


def file_of(head: dict[str, Any] | bytes, body: bytes = bytes(40)) -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + body


ENTRY = {"dtype": "F32", "shape": [10], "data_offsets": [0, 40]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"short",
        (1 << 62).to_bytes(8, "little") + b"{}",
        file_of(b"[" * 5000),
        file_of(b"not json"),
        file_of([1]),  # type: ignore[arg-type]
        file_of({"x": ENTRY}, bytes(39)),
        file_of({"x": {**ENTRY, "shape": [11]}}),
        file_of({"x": {**ENTRY, "shape": [-10]}}),
        file_of({"x": {**ENTRY, "shape": [1 << 40]}}),
        file_of({"x": {**ENTRY, "dtype": "F31"}}),
        file_of({"x": {"dtype": "F32"}}),
        file_of({"x": ENTRY, "y": ENTRY}),
        file_of({"x": ENTRY, "__metadata__": {"raycond": "["}}),
        file_of({"x": ENTRY, "__metadata__": {"raycond": "[]"}}),
    ],
)
def test_damage_is_named(place: str, data: bytes) -> None:
    uri = files.join(place, "x.safetensors")
    files.write_bytes(uri, data)
    with pytest.raises(UserError, match=r"x.safetensors: cannot be read as safetensors"):
        read_safetensors(uri)


def test_a_missing_file(place: str) -> None:
    with pytest.raises(FileNotFoundError):
        read_safetensors(files.join(place, "none"))
