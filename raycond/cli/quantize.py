"""Encodes the images of each class, computes weighted centroids of their latents, and makes an image from each. Leaves
a run folder with the condensed set, report.html, results.csv and quarantine.parquet. The same command again goes on
where it was stopped; when an option is changed, only what depends on it is computed again.
"""

from __future__ import annotations

from typing import Any

from pydantic.dataclasses import dataclass

from raycond.cli.command import Command, LayerOptions
from raycond.core.options import STRICT, option
from raycond.pipelines.loading import presets
from raycond.pipelines.quantize.config import QuantizeConfig, load_config


@dataclass(frozen=True, kw_only=True, config=STRICT)
class QuantizeLayers(LayerOptions):
    """Where options come from, what the run is called, and where its files go."""

    preset: str | None = option(None, unset="none", choices=lambda: tuple(presets()))


def run(options: dict[str, Any]) -> int:
    """Condense the images, or say what would be done; 1 if a class or a training failed."""
    preset, file, dry = options.pop("preset", None), options.pop("config", None), options.pop("dry_run", False)
    config = load_config(options, preset=preset, config=file)
    from raycond.pipelines.quantize import run, summary

    if dry:
        print(run.plan(config))
        return 0
    result = run.quantize(config)
    print(summary.summary(result))
    return 1 if result.failures else 0


COMMAND = Command(
    run,
    (QuantizeLayers, QuantizeConfig),
    examples=(
        "raycond quantize --preset digits",
        "raycond quantize --data /data/imagenet/train --val /data/imagenet/val --size 256 --ipc 10 50",
    ),
    text=__doc__,
)
