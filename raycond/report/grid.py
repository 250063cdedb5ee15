"""What the report of an evaluation grid holds, and the HTML file made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raycond import files
from raycond.evaluate.table import Row
from raycond.report.report import Size, fill


@dataclass(frozen=True)
class GridReport:
    """Everything the report of an evaluation shows; an empty part is left out.

    rows: of all variants; tables and plots show the protocol's own. protocol: `Protocol.to_dict()`, with `rules` of
    its recipe where they differ between cells. changed: the settings that the user fixed.
    """

    title: str
    rows: Sequence[Row]
    subtitle: str = ""
    distortion: Mapping[str, Mapping[int, float]] = field(default_factory=dict)  # method, IPC
    scores: Sequence[Mapping[str, Any]] = ()  # a line of text and numbers each; columns as they first appear
    failures: Sequence[str] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)
    changed: Sequence[str] = ()
    sizes: Mapping[str, Sequence[Size]] = field(default_factory=dict)  # set to images, labels, label generator ...
    environment: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    incremental: bool = False  # the curve of a row holds one check after each task


def render_grid(report: GridReport) -> str:
    """The report as HTML that needs no other file; the same report gives the same text."""
    from raycond.report import grid_view

    return fill("grid.html.j2", grid_view.context(report))


def write_grid_report(uri: str, report: GridReport) -> None:
    """Write the HTML at a local path or a remote address, all or nothing."""
    files.write_bytes(uri, render_grid(report).encode())
