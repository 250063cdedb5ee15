"""Small runs: three classes of generated images, a tiny network for a few steps, no Ray."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from raycond.pipelines.match.config import MatchingConfig, load_matching_config
from tests.data.make import tree

CLASSES = ("ant", "bee", "cat")
OPTIONS: dict[str, Any] = {
    "size": 8,
    "network": "convnet3-w8",
    "ipc": (1, 2),
    "iterations": 2,
    "seeds": (0,),
    "snapshots": 2,
    "runner": "local",
    "evaluate": False,
    "checkpoint_every": 1,
    "changes": {"batch": 8, "precision": "float32"},
}
IDC = {
    "method": "idc",
    "factor": 2,
    "changes": {**OPTIONS["changes"], "steps": 3, "training.images": 8, "training.batch": 4},
}
"""Options of IDC with networks of three steps."""


def data(root: Path, train: int = 12, val: int = 4) -> Path:
    tree(root / "train", dict.fromkeys(CLASSES, train))
    tree(root / "val", dict.fromkeys(CLASSES, val), first=50_000)
    return root


def config(root: Path, out: Path | str, **options: Any) -> MatchingConfig:
    return load_matching_config({**OPTIONS, "data": str(root), "out": str(out), **options})


def protocol(folder: Path, steps: int = 3, normalize: str = "real") -> str:
    """A protocol of a few steps, as a file."""
    place = folder / "few.yaml"
    place.write_text(f"base: quick\nname: few\nsteps: {steps}\nchecks: 1\nnormalize: {normalize}\n")
    return str(place)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def stamps(folder: Path) -> dict[str, int]:
    """When each file was written."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in sorted(folder.rglob("*")) if p.is_file()}


def lines(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open() as file:
        return list(csv.DictReader(file))
