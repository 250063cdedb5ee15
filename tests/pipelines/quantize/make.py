"""Small runs: four classes of generated images, the pixels codec, no Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raycond.pipelines.quantize.config import QuantizeConfig, load_config
from tests.data.make import tree

CLASSES = ("ant", "bee", "cat", "dog")
# more than the resume tests need of a set: weights that differ, two IPCs, several batches
OPTIONS: dict[str, Any] = {
    "codec": "pixels",
    "size": 8,
    "ipc": (1, 3),
    "runner": "local",
    "batch": 5,
    "restarts": 2,
    "w2_classes": 1,
    "evaluate": False,
    "students": ("convnet3-w8",),
    "seeds": (0,),
    "methods": ("random", "medoid", "uniform", "weighted", "full"),
}


def data(root: Path, train: int = 12, val: int = 4) -> Path:
    tree(root / "train", dict.fromkeys(CLASSES, train))
    tree(root / "val", dict.fromkeys(CLASSES, val), first=50_000)
    return root


def config(root: Path, out: Path | str, **options: Any) -> QuantizeConfig:
    return load_config({**OPTIONS, "data": str(root), "out": str(out), **options})


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, hidden ones too, with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def stamps(folder: Path) -> dict[str, int]:
    """When each file was written: an atomic write gives a new inode and a new time."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in sorted(folder.rglob("*")) if p.is_file()}


def rewritten(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {name for name, stamp in after.items() if before.get(name) != stamp}
