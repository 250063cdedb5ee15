"""What all plots share: a look per method, bare axes, the legend, and an SVG in the page's colors."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any, NamedTuple

from raycond.evaluate.method_names import FULL, METHODS, UNIFORM, WEIGHTED, in_order, kind_of

INK, RULE = "#010203", "#010204"  # replaced by the page's own colors in the finished SVG
ALL = "all images"
MOST_INSIDE = 6  # entries of a legend inside the axes; a longer one goes below them
SMALL, LARGE = (4.4, 3.0), (5.0, 3.4)  # inches, of the axes with their labels


class Look(NamedTuple):
    """How one method is drawn in every plot of a page."""

    color: str
    marker: str
    width: float
    above: int  # drawing order


# mid-tone, told apart on white and on black, and by marker where color fails
_BASELINES = (("#8b919c", "o"), ("#2a9d8f", "s"), ("#a5793f", "v"), ("#8a9a2b", "P"), ("#5aa9bd", "X"))
_UNIFORM = (("#dd8a22", "^"), ("#c9a227", "<"), ("#c9525c", ">"))
_WEIGHTED = (("#4a80e6", "D"), ("#b65fc9", "d"), ("#3f9f5f", "p"), ("#e0699f", "h"), ("#7d6be0", "8"), ("#2b9fd0", "H"))
_OTHERS = (("#c9525c", "*"), ("#6b8e23", ">"), ("#b0673c", "<"))


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """A look for each method. Baselines always look the same; condensed sets take colors in table order."""
    of_kind = {UNIFORM: cycle(_UNIFORM), WEIGHTED: cycle(_WEIGHTED)}
    others = cycle(_OTHERS)
    result = {}
    for method in in_order(methods):
        if method == FULL:
            result[method] = Look(INK, "", 1.2, 1)
        elif method in METHODS:
            result[method] = Look(*_BASELINES[METHODS.index(method)], 1.2, 2)
        else:
            result[method] = Look(*next(of_kind.get(kind_of(method), others)), 1.7, 3)
    return result


def svg(
    draw: Callable[[Any], Sequence[str]],
    *,
    key: str,
    title: str,
    size: tuple[float, float] = LARGE,
    panels: int = 1,
) -> str:
    """An <svg> of what `draw` puts on the axes; it returns the legend's names for below them, if that is where.

    key: tells this figure's ids from others on the page. panels: axes side by side that share y.
    """
    with _settings(key):
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
        below = draw(axes if panels > 1 else axes[0])
        if below:
            _legend_below(figure, list(axes), below)
        out = io.StringIO()
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": None})
    return _for_html(out.getvalue(), key, title)


@contextmanager
def _settings(key: str) -> Iterator[None]:
    import matplotlib.style

    # names of methods come from folders: a $ in them is a dollar
    settings = {"svg.fonttype": "none", "svg.hashsalt": key, "font.size": 10, "text.parse_math": False}
    with matplotlib.style.context(["default", settings]):
        yield


def bare(axes: Any, *, x: str = "", y: str = "") -> None:
    """Axes of two lines with a faint horizontal grid."""
    axes.patch.set_alpha(0)
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.tick_params(which="both", colors=INK, length=3)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)


def logarithmic(axes: Any) -> None:
    """A logarithmic x axis with plain numbers: matplotlib's own are formulas, which `svg` leaves as text."""
    from matplotlib import ticker

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def categories(axes: Any, values: Sequence[int], margin: float = 0.4) -> None:
    """Evenly spaced places on x, one a value."""
    axes.set_xticks(range(len(values)), [f"{v:,}" for v in values], color=INK)
    axes.set_xlim(-margin, max(len(values), 1) - 1 + margin)


def aside(k: int, count: int, step: float = 0.035) -> float:
    """An offset on x, so that error bars stand side by side and not on top of each other."""
    return step * (k - (count - 1) / 2)


def points(look: Look, size: float = 5, line: bool = True) -> dict[str, Any]:
    """What `errorbar` takes to draw a method."""
    return {
        "color": look.color,
        "marker": look.marker,
        "markersize": size if look.above > 2 else 0.85 * size,
        "linewidth": look.width,
        "linestyle": "-" if line else "none",
        "elinewidth": 0.75 * look.width,
        "capsize": 2.5,
        "zorder": look.above,
    }


def reference(axes: Any, mean: float, std: float | None) -> None:
    """The whole data: a dashed line with a band of one standard deviation."""
    axes.axhline(mean, color=INK, linestyle=(0, (5, 3)), linewidth=1.2, label=ALL)
    if std:
        axes.axhspan(mean - std, mean + std, color=INK, alpha=0.08, linewidth=0)


def legend(axes: Any, where: str) -> Sequence[str]:
    """A short legend inside the axes; the names of a longer one, which is for below them."""
    handles, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda k: names[k] == ALL)  # stable: the whole data comes last
    if len(names) > MOST_INSIDE:
        return [names[k] for k in order]
    if names:
        axes.legend(
            [handles[k] for k in order],
            [names[k] for k in order],
            frameon=False,
            labelcolor=INK,
            loc=where,
            handlelength=2.4,
        )
    return []


def _legend_below(figure: Any, axes: Sequence[Any], names: Sequence[str]) -> None:
    """The figure grows by what the legend takes, so that the axes keep their size."""
    handles = {}
    for one in axes:
        handles.update(dict(zip(*reversed(one.get_legend_handles_labels()), strict=True)))
    width, height = figure.get_size_inches()
    longest = max(len(name) for name in names)
    columns = max(1, min(len(names), int(width / (0.075 * longest + 0.55))))
    figure.set_size_inches(width, height + 0.19 * -(-len(names) // columns) + 0.1)
    figure.legend(
        [handles[name] for name in names],
        list(names),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        labelcolor=INK,
        fontsize=9,
        handlelength=2.2,
        columnspacing=1.4,
    )


def _for_html(text: str, key: str, title: str) -> str:
    """Only the <svg> element, in the page's colors and font, with nothing that names an address."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = text.replace(INK, "currentColor").replace(RULE, "var(--rule)")
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    # ids are local to one figure but the page may hold several
    prefix = "f" + re.sub(r"[^a-z0-9]+", "-", key.lower()) + "-"
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'xlink:href="#', f'xlink:href="#{prefix}', text)
    text = text.replace("url(#", f"url(#{prefix}")
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)
