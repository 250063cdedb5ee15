"""Accuracy against images per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raycond.evaluate.table import Summary, in_order
from raycond.report.plots import style

WIDE = (8.0, 3.9)  # inches


def is_wide(group: Sequence[Summary]) -> bool:
    """Whether the methods are too many for a plot that stands beside a table."""
    return len({s.method for s in group if s.ipc is not None}) > style.MOST_INSIDE


def accuracy_svg(group: Sequence[Summary], key: str, looks: Mapping[str, style.Look] | None = None) -> str:
    """One student's results: a line with error bars per method, the whole data as a dashed line."""
    title = "accuracy against images per class"
    known = looks or style.looks(s.method for s in group)
    size = WIDE if is_wide(group) else style.LARGE
    return style.svg(lambda axes: _draw(axes, group, known), key=key, title=title, size=size)


def _draw(axes: Any, group: Sequence[Summary], looks: Mapping[str, style.Look]) -> Sequence[str]:
    ipcs = sorted({s.ipc for s in group if s.ipc is not None})
    methods = in_order(s.method for s in group if s.ipc is not None)
    wide = is_wide(group)
    step = 0.7 / len(methods) if wide else 0.035
    for k, method in enumerate(methods):
        cells = [(s.ipc, s.mean, s.std or 0) for s in group if s.method == method and s.ipc is not None]
        axes.errorbar(
            [ipcs.index(ipc) + style.aside(k, len(methods), step) for ipc, _, _ in cells],
            [mean for _, mean, _ in cells],
            yerr=[std for _, _, std in cells],
            label=method,
            **style.points(looks[method], size=6 if wide else 5, line=not wide),  # lines this close hide each other
        )
    if wide:
        for k in range(1, len(ipcs)):
            axes.axvline(k - 0.5, color=style.RULE, linewidth=0.8)
    for s in group:
        if s.ipc is None:
            style.reference(axes, s.mean, s.std)
    style.bare(axes, x="images per class", y="top-1 accuracy, %")
    style.categories(axes, ipcs, 0.5 if wide else 0.3)
    return style.legend(axes, "lower right")  # accuracy rises with IPC, so this corner stays free
