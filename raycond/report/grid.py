"""What the report of an evaluation grid holds, and the HTML file made of it."""

from __future__ import annotations

from raycond.core import files
from raycond.report.contents import GridReport
from raycond.report.template import fill


def render_grid(report: GridReport) -> str:
    """The report as HTML that needs no other file; the same report gives the same text."""
    from raycond.report import grid_view

    return fill("grid.html.j2", grid_view.context(report))


def write_grid_report(uri: str, report: GridReport) -> None:
    """Write the HTML at a local path or a remote address, all or nothing."""
    files.write_bytes(uri, render_grid(report).encode())
