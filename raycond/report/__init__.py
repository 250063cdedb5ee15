"""One self-contained HTML file about a run, or about an evaluation grid: tables, plots, pictures, what was left out."""

from raycond.report.contents import Curve, GridReport, LearnedSupport, Picture, Quarantine, Report, Sheet, Size
from raycond.report.grid import render_grid, write_grid_report
from raycond.report.report import render, write_report

__all__ = [
    "Curve",
    "GridReport",
    "LearnedSupport",
    "Picture",
    "Quarantine",
    "Report",
    "Sheet",
    "Size",
    "render",
    "render_grid",
    "write_grid_report",
    "write_report",
]
