"""One self-contained HTML file about a run: accuracy, pictures, distortion, W2, bytes, what was left out."""

from raycond.report.report import Picture, Quarantine, Report, Size, render, write_report

__all__ = ["Picture", "Quarantine", "Report", "Size", "render", "write_report"]
