"""Encodes the images once, trains a latent diffusion transformer (DiT) on them, and leaves a DiTPipeline folder of
diffusers, which `raycond quantize --generator dit:FOLDER` takes. The same command again goes on from the last
checkpoint.
"""

from __future__ import annotations

from typing import Any

from pydantic.dataclasses import dataclass

from raycond.cli.command import Command, LayerOptions
from raycond.core.options import STRICT, option
from raycond.pipelines.loading import presets
from raycond.pipelines.train_generator.config import GeneratorTrainingConfig, load_generator_config


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GeneratorLayers(LayerOptions):
    """Where options come from, what the run is called, and where its files go."""

    preset: str | None = option(None, unset="none", choices=lambda: tuple(presets("generators")))


def run(options: dict[str, Any]) -> int:
    """Train the generator, or say what would be done."""
    preset, file, dry = options.pop("preset", None), options.pop("config", None), options.pop("dry_run", False)
    config = load_generator_config(options, preset=preset, config=file)
    from raycond.pipelines.train_generator import run, summary

    if dry:
        print(summary.plan(config))
        return 0
    print(summary.summary(run.train_generator(config)))
    return 0


COMMAND = Command(
    run,
    (GeneratorLayers, GeneratorTrainingConfig),
    examples=(
        "raycond train-generator --preset digits --out runs/digits-dit",
        "raycond train-generator --data /data/birds --codec kl:stabilityai/sd-vae-ft-mse --size 128 --steps 40000",
    ),
    text=__doc__,
)
