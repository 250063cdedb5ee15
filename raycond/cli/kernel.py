"""Condenses images by kernel ridge regression with infinitely wide networks: learns images (KIP) or solves for labels
(Label Solve), and tests both the regression and students that are trained on the set. Leaves a run folder with the
condensed set, report.html, results.csv and quarantine.parquet. The same command again goes on where it was stopped.
"""

from __future__ import annotations

from typing import Any

from pydantic.dataclasses import dataclass

from raycond.cli.command import Command, LayerOptions
from raycond.core.options import STRICT, option
from raycond.pipelines.kernel.config import KernelConfig, load_kernel_config
from raycond.pipelines.loading import presets


@dataclass(frozen=True, kw_only=True, config=STRICT)
class KernelLayers(LayerOptions):
    """Where options come from, what the run is called, and where its files go."""

    preset: str | None = option(None, unset="none", choices=lambda: tuple(presets("kernel")))


def run(options: dict[str, Any]) -> int:
    """Condense the images, or say what that would take; 1 if a training failed."""
    preset, file, dry = options.pop("preset", None), options.pop("config", None), options.pop("dry_run", False)
    config = load_kernel_config(options, preset=preset, config=file)
    from raycond.pipelines.kernel import run, summary

    if dry:
        print(run.plan(config))
        return 0
    result = run.condense(config)
    print(summary.summary(result))
    return 1 if result.failures else 0


COMMAND = Command(
    run,
    (KernelLayers, KernelConfig),
    examples=(
        "raycond kernel --preset mnist --kernel fc1 --data /data/mnist --ipc 1 10",
        "raycond kernel --method ls --kernel convnet --preset cifar10 --data /data/cifar10 --ipc 10 --targets 5000",
    ),
    text=__doc__,
)
