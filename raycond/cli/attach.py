"""Copies the projector into the set and notes it in the manifest and the card, so that the set carries its own labels:
`--labeler projector:PATH`. A projector that the set had before is replaced.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic.dataclasses import dataclass

from raycond.cli.command import Command
from raycond.core.options import STRICT, Configuration, option
from raycond.pipelines.loading import load


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AttachOptions(Configuration):
    """What is put where."""

    GROUP = "set"

    path: str = option(metavar="PATH", positional=True)
    """Folder of a condensed set."""

    projector: str = option(metavar="PROJECTOR", positional=True)
    """Folder of a projector that `raycond fit-projector` left, for the same classes."""


def run(options: dict[str, Any]) -> int:
    """Attach the projector, and print what the set's labels weigh now."""
    config = load(AttachOptions, options)
    from raycond.sets.attach import attach_projector, bytes_table

    manifest = attach_projector(config.path, config.projector)
    print(json.dumps({name: manifest[name] for name in ("label_generator", "storage_bytes")}, indent=2))
    base = manifest["label_generator"]["base"]
    elsewhere = "" if base["carried"] or ":" in base["name"] else ",clip=FOLDER"
    print(f"\n{bytes_table(manifest)}use       --labeler projector:{config.path}{elsewhere}")
    return 0


COMMAND = Command(
    run,
    (AttachOptions,),
    examples=(
        "raycond attach runs/digits/set runs/digits-projector",
        "raycond attach s3://bucket/run/set s3://bucket/projector",
    ),
    text=__doc__,
)
