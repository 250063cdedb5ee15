"""What tells that an image has changed: size and time of its file, or with `by_content` its bytes."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raycond.data import arrays
from raycond.data.holdout import hold_out
from raycond.data.rows import RowSource
from raycond.data.sources import open_source
from tests.data import make
from tests.data.make import picture


def bitmap(seed: int) -> bytes:
    """All of one size."""
    return make.encoded(picture(seed), "BMP")


def folder(root: Path, first: int) -> Path:
    for k in range(6):
        path = root / "ab"[k % 2] / f"{k}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bitmap(first if k == 0 else k))
    return root / "a" / "0.bmp"


def tar(root: Path, first: int) -> Path:
    members: dict[str, bytes] = {}
    for k in range(6):
        members |= {f"{k}.bmp": bitmap(first if k == 0 else k), f"{k}.cls": str(k % 2).encode()}
    return make.tar(root / "x.tar", members)


def parquet(root: Path, first: int) -> Path:
    pictures = [{"bytes": bitmap(first if k == 0 else k), "path": None} for k in range(6)]
    return make.labelled_parquet(root / "x.parquet", [k % 2 for k in range(6)], pictures)


def idx(root: Path, first: int) -> Path:
    arrays._idx.cache_clear()  # it goes by times, within one process
    pixels = np.arange(6, dtype=np.uint8).repeat(4).reshape(6, 2, 2)
    pixels[0] = first
    root.mkdir(exist_ok=True)
    for name, array in (("images-idx3", pixels), ("labels-idx1", np.arange(6, dtype=np.uint8) % 2)):
        head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
        (root / f"train-{name}-ubyte").write_bytes(head + array.tobytes())
    return root / "train-images-idx3-ubyte"


KINDS = pytest.mark.parametrize("write", [folder, tar, parquet, idx])
Write = Callable[[Path, int], Path]


def fingerprints(root: Path, by_content: bool, change: Any = lambda source: source) -> list[str]:
    source: RowSource = change(open_source(str(root), index_dir=f"{root}-index", by_content=by_content))
    return [source.fingerprint(label) for label in range(2)]


def dated(root: Path, time: int) -> None:
    for path in root.rglob("*"):
        os.utime(path, ns=(time, time))


@KINDS
@pytest.mark.parametrize("by_content", [False, True])
def test_replaced_by_another_of_the_same_size_and_time(tmp_path: Path, write: Write, by_content: bool) -> None:
    found, sizes = [], []
    for first in (100, 101):
        sizes.append(write(tmp_path / "data", first).stat().st_size)
        dated(tmp_path / "data", 1)
        found.append(fingerprints(tmp_path / "data", by_content))
    assert sizes[0] == sizes[1]
    assert [a == b for a, b in zip(*found, strict=True)] == [not by_content, True]


@KINDS
@pytest.mark.parametrize("by_content", [False, True])
def test_copied_without_its_time(tmp_path: Path, write: Write, by_content: bool) -> None:
    write(tmp_path / "data", 100)
    before = fingerprints(tmp_path / "data", by_content)
    dated(tmp_path / "data", 1)
    assert (fingerprints(tmp_path / "data", by_content) == before) == by_content


@pytest.mark.parametrize("part", [0, 1])
def test_a_part_of_a_source_goes_by_content_too(tmp_path: Path, part: int) -> None:
    folder(tmp_path / "data", 100)

    def parted(source: RowSource) -> RowSource:
        return hold_out(source, 0.5, 0)[part]

    before = fingerprints(tmp_path / "data", True, parted)
    dated(tmp_path / "data", 1)
    assert fingerprints(tmp_path / "data", True, parted) == before
    for path in (tmp_path / "data").rglob("*.bmp"):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert fingerprints(tmp_path / "data", True, parted) != before


def test_what_cannot_be_read_is_no_error_of_the_listing(tmp_path: Path) -> None:
    folder(tmp_path / "data", 100)
    os.symlink("nowhere", tmp_path / "data" / "a" / "gone.bmp")
    os.mkfifo(tmp_path / "data" / "a" / "pipe.bmp")
    assert open_source(str(tmp_path / "data"), index_dir="x", by_content=True).listing(0).images == 5
