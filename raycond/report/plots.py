"""Accuracy against images per class as an inline SVG that follows the page's colours."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

from raycond.evaluate.table import METHODS, Summary, in_order

# mid-tone, told apart on white and on black, and by marker where colour fails
COLOURS = {"random": "#8b919c", "medoid": "#2a9d8f", "d4m": "#dd8a22", "ddoq": "#4a80e6"}
MARKERS = {"random": "o", "medoid": "s", "d4m": "^", "ddoq": "D"}
MORE = (("#b65fc9", "v"), ("#c9525c", "P"), ("#6b8e23", "X"))
ALL = "all images"
INK, RULE = "#010203", "#010204"  # replaced by the page's own colours in the finished SVG


def accuracy_svg(group: Sequence[Summary], label: str) -> str:
    """An <svg> of one student's results: a line with error bars per method, the whole data as a dashed line."""
    import matplotlib.style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: dict[str, Any] = {"svg.fonttype": "none", "svg.hashsalt": label, "font.size": 10}
    with matplotlib.style.context(["default", settings]):
        figure = Figure(figsize=(5.0, 3.4), layout="tight")
        _draw(figure, group)
        out = io.StringIO()
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": None})
    return _for_html(out.getvalue(), label)


def _draw(figure: Any, group: Sequence[Summary]) -> None:
    axes = figure.subplots()
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    ipcs = sorted({s.ipc for s in group if s.ipc is not None})
    methods = in_order(s.method for s in group if s.ipc is not None)
    for k, method in enumerate(methods):
        extra = MORE[k % len(MORE)]
        points = [(s.ipc, s.mean, s.std or 0) for s in group if s.method == method and s.ipc is not None]
        aside = 0.035 * (k - (len(methods) - 1) / 2)  # error bars side by side, not on top of each other
        axes.errorbar(
            [ipcs.index(ipc) + aside for ipc, _, _ in points],
            [mean for _, mean, _ in points],
            yerr=[std for _, _, std in points],
            label=method,
            color=COLOURS.get(method, extra[0]),
            marker=MARKERS.get(method, extra[1]),
            markersize=5,
            linewidth=1.6,
            elinewidth=1.2,
            capsize=3,
            zorder=3 if method in METHODS[-2:] else 2,
        )
    for s in group:
        if s.ipc is None:
            axes.axhline(s.mean, color=INK, linestyle=(0, (5, 3)), linewidth=1.2, label=ALL)
            if s.std:
                axes.axhspan(s.mean - s.std, s.mean + s.std, color=INK, alpha=0.08, linewidth=0)
    axes.set_xticks(range(len(ipcs)), [str(i) for i in ipcs], color=INK)
    axes.set_xlim(-0.3, max(len(ipcs), 1) - 0.7)
    axes.set_xlabel("images per class", color=INK)
    axes.set_ylabel("top-1 accuracy, %", color=INK)
    axes.tick_params(colors=INK, length=3)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    if methods:
        handles, labels = axes.get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda k: labels[k] == ALL)  # stable: the line comes last
        axes.legend(
            [handles[k] for k in order],
            [labels[k] for k in order],
            frameon=False,
            labelcolor=INK,
            loc="lower right",  # accuracy rises with IPC, so this corner stays free
            handlelength=2.4,
        )


def _for_html(svg: str, label: str) -> str:
    """Only the <svg> element, in the page's colours and font, with nothing that names an address."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    svg = svg.replace(INK, "currentColor").replace(RULE, "var(--rule)")
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    # ids are local to one figure but the page may hold several
    prefix = "f" + re.sub(r"[^a-z0-9]+", "-", label.lower()) + "-"
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'xlink:href="#', f'xlink:href="#{prefix}', svg)
    svg = svg.replace("url(#", f"url(#{prefix}")
    return svg.replace("<svg", '<svg role="img" aria-label="accuracy against images per class"', 1)
