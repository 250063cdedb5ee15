"""Reads the manifest alone and prints what the set was made from and how, its classes, its versions and its size."""

from __future__ import annotations

from typing import Any

from pydantic.dataclasses import dataclass

from raycond.cli.command import Command
from raycond.core.options import STRICT, Configuration, option
from raycond.pipelines.loading import load


@dataclass(frozen=True, kw_only=True, config=STRICT)
class InspectOptions(Configuration):
    """What is looked at."""

    GROUP = "set"

    path: str = option(metavar="PATH", positional=True)
    """Folder of a condensed set."""


def run(options: dict[str, Any]) -> int:
    """Print what the set is."""
    config = load(InspectOptions, options)
    from raycond.sets.inspect import describe

    print(describe(config.path))
    return 0


COMMAND = Command(
    run,
    (InspectOptions,),
    examples=("raycond inspect runs/digits/set", "raycond inspect s3://bucket/run/set"),
    text=__doc__,
)
