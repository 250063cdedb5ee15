"""Tiny projectors whose delta is not zero, in memory and in folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from raycond.labels.projector.delta import save_projector
from raycond.labels.projector.network import Projector, ProjectorOptions
from raycond.models.clip import open_clip_model
from tests.labels.clips import THREE, saved


def shaken(projector: Projector, seed: int = 1, by: float = 0.05) -> Projector:
    """The projector with random numbers added to its delta."""
    draw = torch.Generator().manual_seed(seed)
    projector.load_delta({k: v + by * torch.randn(v.shape, generator=draw) for k, v in projector.delta().items()})
    return projector


def written(folder: Path, dtype: Any = "float32", clip: str | None = None, **options: Any) -> Projector:
    """A projector with its CLIP in the folder, unless another is given."""
    where = clip or saved(folder / "clip")
    projector = shaken(Projector(open_clip_model(where, device="cpu"), THREE, ProjectorOptions(**options)))
    save_projector(str(folder), projector, dtype, {"name": "toy"})
    return projector
