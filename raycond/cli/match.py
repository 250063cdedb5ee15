"""Optimizes images so that they train a network as the real ones do: by the gradients that a network has on both (dc,
dsa, idc) or by its mean features (dm), with random or representative real images (dream). Leaves a run folder with the
condensed set, report.html, results.csv, curve.csv and quarantine.parquet. The same command again goes on from the last
checkpoint.
"""

from __future__ import annotations

from typing import Any

from pydantic.dataclasses import dataclass

from raycond.cli.command import Command, LayerOptions
from raycond.core.options import STRICT, option
from raycond.pipelines.loading import presets
from raycond.pipelines.match.config import MatchingConfig, load_matching_config


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MatchingLayers(LayerOptions):
    """Where options come from, what the run is called, and where its files go."""

    preset: str | None = option(None, unset="none", choices=lambda: tuple(presets("match")))


def run(options: dict[str, Any]) -> int:
    """Match, or say what would be done; 1 if a phase or a training failed."""
    from raycond.evaluate.protocol import parse_settings

    if "set" in options:
        options["changes"] = parse_settings(options.pop("set"))
    preset, file, dry = options.pop("preset", None), options.pop("config", None), options.pop("dry_run", False)
    config = load_matching_config(options, preset=preset, config=file)
    from raycond.pipelines.match import plan, run, summary

    if dry:
        print(plan.plan(config))
        return 0
    result = run.match(config)
    print(summary.summary(result))
    return 1 if result.failures else 0


COMMAND = Command(
    run,
    (MatchingLayers, MatchingConfig),
    examples=(
        "raycond match --preset mnist --data /data/mnist --method dc --ipc 1",
        "raycond match --preset cifar10 --data /data/cifar10 --method idc --sampling dream --factor 2 --ipc 10",
    ),
    text=__doc__,
)
