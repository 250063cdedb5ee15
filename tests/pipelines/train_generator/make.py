"""Small trainings: two classes of generated images, an autoencoder of two steps, six steps of a tiny DiT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raycond.pipelines.train_generator.config import GeneratorTrainingConfig, load_generator_config
from tests.data.make import tree

CLASSES = ("ant", "bee")
OPTIONS: dict[str, Any] = {
    "codec": "train",
    "autoencoder": {"steps": 2, "widths": (8, 8), "channels": 3, "latent_channels": 2, "batch": 4},
    "size": 8,
    "runner": "local",
    "batch_encode": 5,
    "checkpoint_every": 2,
    "width": 16,
    "layers": 1,
    "heads": 2,
    "steps": 6,
    "batch": 4,
    "lr": 1e-2,
    "log_every": 2,
    "ema": 0.9,
}


def data(root: Path, count: int = 7) -> Path:
    tree(root / "train", dict.fromkeys(CLASSES, count))
    return root


def config(root: Path, out: Path | str, **options: Any) -> GeneratorTrainingConfig:
    return load_generator_config({**OPTIONS, "data": str(root), "out": str(out), **options})


def pipeline_files(out: Path) -> dict[str, bytes]:
    """The DiTPipeline folder without `work/`."""
    found = {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}
    return {name: content for name, content in found.items() if not name.startswith(("work/", "raycond.log"))}
