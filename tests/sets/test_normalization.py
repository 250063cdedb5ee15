"""The constants of the real images that travel with a set."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import raycond
from raycond.core.errors import UserError
from raycond.sets.inspect import describe
from raycond.sets.normalization import Normalization
from raycond.sets.verify import verify
from tests.sets.make import relist, whitening, write_optimized

SHAPE = (3, 12, 12)


def whitened(folder: Path) -> str:
    """A set in a whitened space, and the name of its whitening's file."""
    manifest = write_optimized(folder, whitening())
    return str(manifest["normalization"]["file"])


def test_channels() -> None:
    about = {"normalization": {"kind": "channels", "mean": [0.5, 0.25, 0.0], "std": [0.5, 1, 2]}}
    found = Normalization.of("/anywhere", about)
    assert found == Normalization((0.5, 0.25, 0.0), (0.5, 1.0, 2.0))
    assert found.keeps_pixels
    images = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    expected = (images - torch.tensor([0.5, 0.25, 0.0]).view(3, 1, 1)) / torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)
    torch.testing.assert_close(found.open(SHAPE).apply(images), expected)
    assert found.identity == {"mean": [0.5, 0.25, 0.0], "std": [0.5, 1.0, 2.0]}


def test_none() -> None:
    assert Normalization.of("/anywhere", {}) is None


def test_a_whitening_is_read_back(tmp_path: Path) -> None:
    name = whitened(tmp_path / "s")
    assert verify(str(tmp_path / "s")) == []
    opened = raycond.open(str(tmp_path / "s"), 4)
    found = opened.normalization
    assert found is not None
    assert (found.kind, found.keeps_pixels, opened.float_pixels()) == ("whitening", False, None)
    assert len(pickle.dumps(found)) < 1000
    images = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found.open(SHAPE).apply(images), whitening().apply(images))
    assert f"normalized  whitening, {name}" in describe(str(tmp_path / "s"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("whitening", torch.eye(4, dtype=torch.float64)),
        ("whitening", torch.full((432, 432), torch.inf, dtype=torch.float64)),
        ("mean", torch.zeros(3)),
        ("std", torch.zeros(3, 1, 1, dtype=torch.float64)),
        ("norm", torch.tensor(0.0, dtype=torch.float64)),
    ],
)
def test_a_damaged_whitening(tmp_path: Path, key: str, value: torch.Tensor) -> None:
    folder = tmp_path / "s"
    name = whitened(folder)
    save_file({**load_file(folder / name), key: value}, folder / name)
    relist(folder, name)
    (problem,) = verify(str(folder))
    assert f"{name}: damaged" in problem
    found = raycond.open(str(folder), 4).normalization
    assert found is not None
    with pytest.raises(UserError, match="damaged"):
        found.open(SHAPE)


def test_no_safetensors_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    name = whitened(folder)
    (folder / name).write_bytes(b"x" * 100)
    relist(folder, name)
    assert "cannot be read as the normalization" in verify(str(folder))[0]
