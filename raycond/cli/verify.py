"""Reads every file and prints what is missing, damaged, or does not agree with the manifest. The exit code is 0 only if
nothing is.
"""

from __future__ import annotations

from typing import Any

from pydantic.dataclasses import dataclass

from raycond.cli.command import Command
from raycond.core.options import STRICT, Configuration, option
from raycond.pipelines.loading import load


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VerifyOptions(Configuration):
    """What is checked."""

    GROUP = "set"

    path: str = option(metavar="PATH", positional=True)
    """Folder of a condensed set, or of labels that `raycond store-labels` left."""


def run(options: dict[str, Any]) -> int:
    """Print every problem; 1 if there is one."""
    config = load(VerifyOptions, options)
    from raycond.labels.stored.verify import holds_labels, verify_set_labels
    from raycond.sets.verify import verify

    problems = verify_set_labels(config.path) if holds_labels(config.path) else verify(config.path)
    for problem in problems:
        print(problem)
    count = "whole" if not problems else "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    print(f"{config.path}: {count}")
    return 1 if problems else 0


COMMAND = Command(
    run,
    (VerifyOptions,),
    examples=("raycond verify runs/digits/set", "raycond verify runs/digits-labels"),
    text=__doc__,
)
