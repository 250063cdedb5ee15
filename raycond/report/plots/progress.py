"""Accuracy over a training: after each check, or after each task of a class-incremental protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from raycond.evaluate.method_names import FULL, in_order
from raycond.report.plots import style


class Line(NamedTuple):
    """Means over seeds at rising places, and their standard deviations (0 where unknown)."""

    x: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def progress_svg(
    lines: Mapping[str, Line], key: str, looks: Mapping[str, style.Look], *, what: str, whole: bool = False
) -> str:
    """A line per method. what: the x axis. whole: x counts something few, so it has ticks at whole numbers only, and
    each place has marks with error bars.
    """

    def draw(axes: Any) -> Sequence[str]:
        for k, method in enumerate(in_order(lines)):
            _draw(axes, lines[method], method, looks, style.aside(k, len(lines)) if whole else 0, whole)
        style.bare(axes, x=what, y="top-1 accuracy, %")
        if whole:
            places = sorted({x for line in lines.values() for x in line.x})
            axes.set_xticks(places, [f"{x:g}" for x in places], color=style.INK)
        return style.legend(axes, "best")

    return style.svg(draw, key=key, title=f"accuracy against {what}", size=style.SMALL)


def _draw(axes: Any, line: Line, method: str, looks: Mapping[str, style.Look], offset: float, bars: bool) -> None:
    look = looks[method]
    name, settings = method, style.points(look, size=4.5) | {"linewidth": 0.75 * look.width}
    if method == FULL:
        name, settings = style.ALL, settings | {"linestyle": (0, (5, 3))}
    if not bars and len(line.x) > 12:
        settings["markevery"] = -(-len(line.x) // 6)
    deviations = line.std if bars else None
    axes.errorbar([x + offset for x in line.x], line.mean, yerr=deviations, label=name, **settings)
