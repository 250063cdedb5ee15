"""Small runs with kernels: four classes of generated gray images, FC1 or a pooled network, no Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raycond.pipelines.kernel.config import KernelConfig, load_kernel_config
from tests.data.make import tree

CLASSES = ("ant", "bee", "cat", "dog")
OPTIONS: dict[str, Any] = {
    "kernel": "fc1",
    "size": 6,
    "channels": 1,
    "ipc": (1, 3),
    "runner": "local",
    "steps": 6,
    "batch": 24,
    "checks": 2,
    "checkpoint_every": 2,
    "block": 5,
    "dtype": "float64",
    "evaluate": False,
    "students": ("kipnet1-w8",),
    "seeds": (0,),
}
SOLVE = {"method": "ls", **dict.fromkeys(("steps", "batch", "checks"))}


def data(root: Path, train: int = 12, val: int = 5) -> Path:
    tree(root / "train", dict.fromkeys(CLASSES, train))
    tree(root / "val", dict.fromkeys(CLASSES, val), first=50_000)
    return root


def config(root: Path, out: Path | str, **options: Any) -> KernelConfig:
    """Options that are None are left out."""
    given = {**OPTIONS, "data": str(root), "out": str(out), **options}
    return load_kernel_config({name: value for name, value in given.items() if value is not None})


def results(out: Path) -> dict[str, bytes]:
    """What a run is for: the set, the table and the list of bad images."""
    found = {str(p.relative_to(out)): p.read_bytes() for p in sorted((out / "set").rglob("*")) if p.is_file()}
    return found | {name: (out / name).read_bytes() for name in ("results.csv", "quarantine.parquet")}
