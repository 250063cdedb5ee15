"""What a report holds, and the HTML file made of it."""

from __future__ import annotations

from raycond.core import files
from raycond.report.contents import Report
from raycond.report.template import fill


def render(report: Report) -> str:
    """The report as HTML that needs no other file; the same report gives the same text."""
    from raycond.report import view

    return fill("report.html.j2", view.context(report))


def write_report(uri: str, report: Report) -> None:
    """Write the HTML at a local path or a remote address, all or nothing."""
    files.write_bytes(uri, render(report).encode())
