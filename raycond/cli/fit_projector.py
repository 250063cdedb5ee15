"""Fits a low-rank delta on a frozen CLIP to the logits of weak teachers, so that CLIP and a megabyte of numbers give a
soft label for any view of an image (HeLlO, arXiv 2408.08201). Leaves a folder that `raycond evaluate --labeler
projector:FOLDER` and `raycond attach` take. The same command again goes on from the last checkpoint.
"""

from __future__ import annotations

from typing import Any

from pydantic.dataclasses import dataclass

from raycond.cli.command import Command, LayerOptions
from raycond.core.options import STRICT, option
from raycond.pipelines.fit_projector.config import ProjectorConfig, load_projector_config
from raycond.pipelines.loading import presets


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ProjectorLayers(LayerOptions):
    """Where options come from, what the run is called, and where its files go."""

    preset: str | None = option(None, unset="none", choices=lambda: tuple(presets("projectors")))


def run(options: dict[str, Any]) -> int:
    """Fit the projector, or say what would be done."""
    preset, file, dry = options.pop("preset", None), options.pop("config", None), options.pop("dry_run", False)
    config = load_projector_config(options, preset=preset, config=file)
    from raycond.pipelines.fit_projector import run, summary

    if dry:
        print(summary.plan(config))
        return 0
    print(summary.summary(config, run.fit_projector(config)))
    return 0


COMMAND = Command(
    run,
    (ProjectorLayers, ProjectorConfig),
    examples=(
        "raycond fit-projector --preset digits --out runs/digits-projector",
        "raycond fit-projector --data /data/imagenet --clip RN50:openai --teachers resnet18@teacher.pt --epochs 10",
    ),
    text=__doc__,
)
