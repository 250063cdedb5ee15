"""Trains every student on every set and on baselines of real images, from scratch and with every seed, and tests on the
real validation images. Leaves summary.txt, report.html, results.csv and results.parquet. The same command again trains
only what is missing.
"""

from __future__ import annotations

from typing import Any

from pydantic.dataclasses import dataclass

from raycond.cli.command import Command
from raycond.core.errors import OptionError
from raycond.core.options import STRICT, Configuration, option
from raycond.pipelines.evaluate.config import GridConfig, load_grid_config


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ResumeOptions(Configuration):
    """Whether an earlier grid goes on."""

    GROUP = "run"

    resume: bool = option(False)
    """Go on with the grid in --out, with the options that it was started with. They need not be given again; one that
    is given and differs is an error, save for those of the machine."""


def run(options: dict[str, Any]) -> int:
    """Train and compare; 1 if a training failed."""
    from raycond.evaluate.protocol import parse_settings

    if "set" in options:
        options["changes"] = parse_settings(options.pop("set"))
    from raycond.pipelines.evaluate.prepare import resumed
    from raycond.pipelines.evaluate.run import evaluate_grid
    from raycond.pipelines.evaluate.summary import summary

    if options.pop("resume", False):
        if "out" not in options:
            raise OptionError("--resume: give the grid's folder with --out")
        config = resumed(options["out"], options)
    else:
        config = load_grid_config(options)
    result = evaluate_grid(config)
    print(summary(result), end="")
    return 1 if result.failures else 0


COMMAND = Command(
    run,
    (ResumeOptions, GridConfig),
    examples=(
        "raycond evaluate --sets runs/digits/set",
        "raycond evaluate --sets runs/A/set runs/B/set --students resnet18 convnet4 --ipc 10 50 --protocol rded "
        "--labeler teacher:resnet18",
    ),
    text=__doc__,
)
