"""Small fits: two classes of generated images, a CLIP, teachers and a projector of a few steps each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from raycond.pipelines.fit_projector.config import ProjectorConfig, load_projector_config
from tests.data.make import encoded
from tests.labels.images import halves

CLASSES = ("ant", "bee")
OPTIONS: dict[str, Any] = {
    "clip": "train",
    "size": 8,
    "runner": "local",
    "checkpoint_every": 2,
    "holdout": 2,
    "conv_rank": 2,
    "ipc": 3,
    "clip_training": {
        "tower": "vit",
        "image_size": 8,
        "patch": 4,
        "width": 16,
        "head_width": 8,
        "embed": 12,
        "text_width": 16,
        "text_layers": 1,
        "epochs": 2,
        "batch": 4,
        "log_every": 2,
    },
    "teacher": {"network": "convnet3-w8", "keep": (1, 2), "batch": 4, "log_every": 2},
    "epochs": 3,
    "batch": 4,
    "lr": 0.02,
    "log_every": 2,
    "checks": 3,
}


def data(root: Path, count: int = 10) -> Path:
    """Two classes that can be told apart: else the delta that is kept would be the one before the first step."""
    for class_id, images in zip(CLASSES, halves((count, count), channels=3), strict=True):
        (root / "train" / class_id).mkdir(parents=True)
        for k, image in enumerate(images):
            (root / "train" / class_id / f"{class_id}_{k}.png").write_bytes(
                encoded(Image.fromarray(image.transpose(1, 2, 0)))
            )
    return root


def config(root: Path, out: Path | str, **options: Any) -> ProjectorConfig:
    return load_projector_config({**OPTIONS, "data": str(root), "out": str(out), **options})


def projector_files(out: Path) -> dict[str, bytes]:
    """The projector's folder without `work/`."""
    found = {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}
    return {name: content for name, content in found.items() if not name.startswith(("work/", "raycond.log"))}
