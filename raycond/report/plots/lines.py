"""Curves of an optimization: values against iterations or seconds, a line for each part of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from raycond.report.plots import style

MOST_POINTS = 400  # of a line; a longer one is thinned out
COLORS = ("#4a80e6", "#dd8a22", "#3f9f5f", "#b65fc9", "#c9525c", "#2b9fd0")


def lines_svg(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], key: str, *, title: str, x: str, y: str
) -> str:
    """lines: name → places and values, in rising places."""

    def draw(axes: Any) -> Sequence[str]:
        for (name, (places, values)), color in zip(lines.items(), cycle(COLORS), strict=False):
            every = -(-len(places) // MOST_POINTS)
            marker = "o" if len(places) <= 25 else ""
            axes.plot(
                places[::every], values[::every], label=name, color=color, linewidth=1.2, marker=marker, markersize=3
            )
        style.bare(axes, x=x, y=y)
        return style.legend(axes, "best") if len(lines) > 1 else []

    return style.svg(draw, key=key, title=title, size=style.SMALL)
