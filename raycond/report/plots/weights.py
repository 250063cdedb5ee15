"""What the weights of a codebook bring: accuracy against the same images with uniform weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raycond.evaluate.method_names import condensed, in_order, uniform_twin
from raycond.evaluate.table import Comparison
from raycond.report.plots import style


def weights_svg(comparisons: Sequence[Comparison], key: str, looks: Mapping[str, style.Look]) -> str:
    """One student's differences to uniform weights with two standard deviations, one panel per generator.

    Only comparisons with a uniform twin count; an empty text where there is none.
    """
    compared = [c for c in comparisons if c.other == uniform_twin(c.method)]
    panels: dict[str, list[Comparison]] = {}
    for method in in_order(c.method for c in compared):
        panels.setdefault(_generator(method), []).extend(c for c in compared if c.method == method)
    if not panels:
        return ""
    size = (max(style.LARGE[0], 2.7 * len(panels) + 0.5), style.SMALL[1])

    def draw(axes: Any) -> Sequence[str]:
        every = [axes] if len(panels) == 1 else list(axes)
        for k, (panel, name) in enumerate(zip(every, panels, strict=True)):
            _draw(panel, panels[name], looks, "points against uniform weights" if k == 0 else "")
            panel.set_title(name, color=style.INK, fontsize=10)
        return in_order(c.method for c in compared)

    return style.svg(draw, key=key, title="accuracy difference to uniform weights", size=size, panels=len(panels))


def _generator(method: str) -> str:
    parts = condensed(method)
    assert parts is not None
    label = f"[{parts.label}]" if parts.label else ""
    return " ".join(part for part in (parts.generator, label) if part)


def _draw(axes: Any, compared: Sequence[Comparison], looks: Mapping[str, style.Look], y: str) -> None:
    ipcs = sorted({c.ipc for c in compared})
    methods = in_order(c.method for c in compared)
    axes.axhline(0, color=style.INK, linewidth=1)
    for k, method in enumerate(methods):
        of_method = [c for c in compared if c.method == method]
        axes.errorbar(
            [ipcs.index(c.ipc) + style.aside(k, len(methods), 0.16) for c in of_method],
            [c.difference for c in of_method],
            yerr=[2 * (c.spread or 0) for c in of_method],
            label=method,
            **style.points(looks[method], size=6, line=False),
        )
    style.bare(axes, x="images per class", y=y)
    style.categories(axes, ipcs)
