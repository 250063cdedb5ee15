"""The plots of the reports: each function gives an inline SVG that follows the page's colors."""

from raycond.report.plots.accuracy import accuracy_svg, is_wide
from raycond.report.plots.distortion import distortion_svg
from raycond.report.plots.progress import Line, progress_svg
from raycond.report.plots.style import Look, looks
from raycond.report.plots.weights import weights_svg

__all__ = ["Line", "Look", "accuracy_svg", "distortion_svg", "is_wide", "looks", "progress_svg", "weights_svg"]
