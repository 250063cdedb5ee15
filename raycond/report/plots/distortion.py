"""Accuracy against the distortion of the condensed latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from raycond.evaluate.table import Summary, in_order
from raycond.report.plots import style

WIDE = 8  # a larger ratio of distortions is shown on a logarithmic axis


class _Point(NamedTuple):
    ipc: int
    distortion: float
    mean: float
    std: float


def distortion_svg(
    group: Sequence[Summary],
    distortion: Mapping[str, Mapping[int, float]],
    key: str,
    looks: Mapping[str, style.Look],
) -> str:
    """One student's accuracies, a mark per method and IPC (the larger, the more images), joined within a method.

    An empty text where no method has both.
    """
    marks: dict[str, list[_Point]] = {}
    for s in group:
        value = None if s.ipc is None else distortion.get(s.method, {}).get(s.ipc)
        if s.ipc is not None and value is not None:
            marks.setdefault(s.method, []).append(_Point(s.ipc, value, s.mean, s.std or 0))
    if not marks:
        return ""
    title = "accuracy against distortion"
    return style.svg(lambda axes: _draw(axes, marks, looks), key=key, title=title)


def _draw(axes: Any, marks: Mapping[str, Sequence[_Point]], looks: Mapping[str, style.Look]) -> Sequence[str]:
    every = [p for places in marks.values() for p in places]
    ipcs = sorted({p.ipc for p in every})
    for method in in_order(marks):
        look, places = looks[method], sorted(marks[method])
        axes.plot(
            [p.distortion for p in places],
            [p.mean for p in places],
            color=look.color,
            linewidth=0.7,
            alpha=0.55,
            zorder=1,
        )
        for k, p in enumerate(places):
            axes.errorbar(
                [p.distortion],
                [p.mean],
                yerr=[p.std],
                label=method if k == len(places) - 1 else None,
                **style.points(look, size=4 + 3.5 * ipcs.index(p.ipc) / max(len(ipcs) - 1, 1), line=False),
            )
    style.bare(axes, x="distortion", y="top-1 accuracy, %")
    low, high = min(p.distortion for p in every), max(p.distortion for p in every)
    if low > 0 and high > WIDE * low:
        style.logarithmic(axes)
    return style.legend(axes, "best")
