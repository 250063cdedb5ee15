"""Readers of condensed sets: the manifest, the tables of images, the latents."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import raycond
from raycond.sets.manifest import read_manifest
from raycond.sets.verify import verify
from tests.fuzz.reader import Reader
from tests.sets.make import data_name, latents_name, relist, whitening, write, write_optimized


@cache
def _sound() -> dict[str, bytes]:
    """The files of a small set, by name."""
    with tempfile.TemporaryDirectory() as folder:
        write(f"{folder}/set")
        root = Path(folder) / "set"
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def _set(folder: Path) -> Path:
    """A sound set in the folder."""
    root = folder / "set"
    if not root.exists():
        for name, data in _sound().items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
    (root / "manifest.json").write_bytes(_sound()["manifest.json"])
    return root


def _read_manifest(data: bytes, folder: Path) -> None:
    root = _set(folder)
    (root / "manifest.json").write_bytes(data)
    read_manifest(str(root))


def _read_table(data: bytes, folder: Path) -> None:
    _read_listed(data, folder, "data")


def _read_latents(data: bytes, folder: Path) -> None:
    _read_listed(data, folder, "latents")


def _read_listed(data: bytes, folder: Path, what: str) -> None:
    """Read a set in which one file is replaced, with its digest in the manifest."""
    root = _set(folder)
    name = (data_name if what == "data" else latents_name)(root)
    try:
        (root / name).write_bytes(data)
        relist(root, name)
        verify(str(root))
        opened = raycond.open(str(root), 4)
        for k in range(len(opened)):
            opened[k]
        opened.latents()
    finally:
        (root / name).write_bytes(_sound()[name])


@cache
def _optimized() -> dict[str, bytes]:
    """The files of a small set with float tensors in a whitened space, by name."""
    with tempfile.TemporaryDirectory() as folder:
        write_optimized(f"{folder}/set", whitening())
        root = Path(folder) / "set"
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def _read_tensors(data: bytes, folder: Path) -> None:
    _read_optimized(data, folder, "tensors/ipc4")


def _read_normalization(data: bytes, folder: Path) -> None:
    _read_optimized(data, folder, "tensors/normalization")


def _read_optimized(data: bytes, folder: Path, beginning: str) -> None:
    """Read a set of float tensors in which one file is replaced, with its digest in the manifest."""
    root = folder / "optimized"
    for name, content in _optimized().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    name = next(name for name in _optimized() if name.startswith(beginning))
    (root / name).write_bytes(data)
    relist(root, name)
    verify(str(root))
    opened = raycond.open(str(root), 4)
    assert opened.normalization is not None
    opened.normalization.open(opened.manifest.image_shape)
    opened.tensors()


def _optimized_file(beginning: str) -> list[bytes]:
    return [data for name, data in _optimized().items() if name.startswith(beginning)]


def _file(beginning: str) -> list[bytes]:
    return [data for name, data in _sound().items() if name.startswith(beginning)]


READERS = [
    Reader("set-manifest", lambda: _file("manifest.json"), _read_manifest, 300),
    Reader("set-table", lambda: _file("data/ipc4"), _read_table, 60),
    Reader("set-latents", lambda: _file("latents/ipc4"), _read_latents, 60),
    Reader("set-tensors", lambda: _optimized_file("tensors/ipc4"), _read_tensors, 40),
    Reader("set-normalization", lambda: _optimized_file("tensors/normalization"), _read_normalization, 20),
]
