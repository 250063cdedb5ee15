"""Writes one version of the set with its weights, class names and a README that says how the other tool takes them."""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic.dataclasses import dataclass

from raycond.cli.command import Command
from raycond.core.options import STRICT, Configuration, option
from raycond.pipelines.loading import load


def export_kinds() -> tuple[str, ...]:
    from raycond.sets.export import KINDS

    return tuple(KINDS)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ExportOptions(Configuration):
    """What is written, and in whose layout."""

    GROUP = "set"

    path: str = option(metavar="PATH", positional=True)
    """Folder of a condensed set."""

    out: str = option(metavar="OUT", positional=True)
    """Folder to write, which does not exist yet or is empty."""

    kind: str = option(name="to", choices=export_kinds)
    """The layout: tensors and numbered class folders for the package ddranking, numbered class folders for the command
    rethinkdc, or class folders named by class id, which most readers take."""

    ipc: int | None = option(None, ge=1, unset="the largest of the set")
    """Images per class: which version of the set is written."""

    labeler: str | None = option(None, metavar="KIND:WHERE", unset="none")
    """With --to ddranking: what gives one soft label for each image, such as teacher:NAME@FILE."""


def run(options: dict[str, Any]) -> int:
    """Write the set, and print what was written."""
    config = load(ExportOptions, options)
    from raycond.sets.export import export

    about = export(config.path, config.out, kind=config.kind, ipc=config.ipc, labeler=config.labeler)
    print(json.dumps(about, indent=2))
    if about.get("agreement", {}).get("warning"):
        print(
            f"WARNING    {about['labeler']} {about['agreement']['text']}: {about['agreement']['warning']}",
            file=sys.stderr,
        )
    return 0


COMMAND = Command(
    run,
    (ExportOptions,),
    examples=(
        "raycond export runs/digits/set digits-folder --to folder --ipc 10",
        "raycond export runs/A/set A-ddranking --to ddranking --labeler teacher:resnet18@teacher.pt",
    ),
    text=__doc__,
)
