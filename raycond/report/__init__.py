"""One self-contained HTML file about a run, or about an evaluation grid: tables, plots, pictures, what was left out."""

from raycond.report.grid import GridReport, render_grid, write_grid_report
from raycond.report.report import Picture, Quarantine, Report, Size, render, write_report

__all__ = [
    "GridReport",
    "Picture",
    "Quarantine",
    "Report",
    "Size",
    "render",
    "render_grid",
    "write_grid_report",
    "write_report",
]
