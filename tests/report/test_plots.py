from __future__ import annotations

import re
import warnings

import pytest

from raycond.evaluate import Row
from raycond.evaluate.table import compare, summarize
from raycond.report import plots
from raycond.report.plots import Line
from tests.support.methods import DENSITY, MEDOIDS_SQRT, MEDOIDS_UNIFORM, SQRT, UNIFORM

NAMES = (
    "random", "medoid", "herding", "k-center", "el2n", MEDOIDS_UNIFORM, MEDOIDS_SQRT, UNIFORM, SQRT, DENSITY
)  # fmt: skip


def rows(names: tuple[str, ...], ipcs: tuple[int, ...] = (1, 10)) -> list[Row]:
    return [
        Row(name, ipc, "mlp", seed, 50.0 + 3 * k + seed, 60.0, 9, 1.0, 4, "quick")
        for k, name in enumerate(names)
        for ipc in ipcs
        for seed in range(2)
    ]


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_ten_methods_look_different_and_baselines_always_the_same() -> None:
    looks = plots.looks(NAMES)
    assert len({look.color for look in looks.values()}) == len(NAMES)
    assert len({look.marker for look in looks.values()}) == len(NAMES)
    assert plots.looks(NAMES[3:4])["k-center"] == looks["k-center"]
    assert plots.looks(reversed(NAMES)) == looks


@pytest.mark.parametrize("count", [1, 6, 7, 10])
def test_accuracy_names_every_method_once(count: int) -> None:
    group = summarize(rows(NAMES[:count]))
    svg = plots.accuracy_svg(group, "k")
    assert [t for t in texts(svg) if t in NAMES] == list(NAMES[:count])
    assert plots.is_wide(group) == (count > 6)
    assert svg == plots.accuracy_svg(group, "k")


def test_a_long_legend_makes_the_figure_higher() -> None:
    def height(count: int) -> float:
        line = Line((1.0, 2.0), (3.0, 4.0), (0.0, 0.0))
        svg = plots.progress_svg(dict.fromkeys(NAMES[:count], line), "k", plots.looks(NAMES), what="step")
        match = re.search(r'height="([\d.]+)pt"', svg)
        assert match
        return float(match[1])

    assert height(2) == height(6) < height(7) < height(10)


def test_names_with_dollars_and_angles_are_text() -> None:
    name = "decoded centroids (vae, sqrt) [$a_b$ <i> $]"
    svg = plots.accuracy_svg(summarize(rows(("random", name))), 'a "key" <b>')
    assert "decoded centroids (vae, sqrt) [$a_b$ &lt;i&gt; $]" in texts(svg)
    assert "<b>" not in svg


def test_weights_need_a_uniform_twin() -> None:
    looks = plots.looks(NAMES)
    assert plots.weights_svg(compare(summarize(rows(("random", SQRT)))), "k", looks) == ""
    svg = plots.weights_svg(compare(summarize(rows(NAMES))), "k", looks)
    found = texts(svg)
    assert {"vae", "medoid", MEDOIDS_SQRT, SQRT, DENSITY} < set(found)
    assert UNIFORM not in found
    assert "random" not in found


def test_weights_of_generators_stand_side_by_side() -> None:
    names = (UNIFORM, SQRT, f"{MEDOIDS_UNIFORM} [b]", f"{MEDOIDS_SQRT} [b]", "ddoq (sd, uniform)", "ddoq (sd, sqrt)")
    svg = plots.weights_svg(compare(summarize(rows(names))), "k", plots.looks(names))
    assert [t for t in texts(svg) if t in ("vae", "medoid [b]", "sd")] == ["medoid [b]", "sd", "vae"]


def test_distortion_shows_what_has_both() -> None:
    looks, group = plots.looks(NAMES), summarize(rows(NAMES))
    assert plots.distortion_svg(group, {}, "k", looks) == ""
    assert plots.distortion_svg(group, {"other": {1: 2.0}, "random": {50: 1.0}}, "k", looks) == ""
    svg = plots.distortion_svg(group, {"random": {1: 2000.0, 10: 3.0}, UNIFORM: {1: 1.0}}, "k", looks)
    assert {"random", UNIFORM} < set(texts(svg))
    assert "medoid" not in texts(svg)
    assert {"1", "10", "100", "1000"} < set(texts(svg))  # distortions so far apart are on a logarithmic axis
    assert not any("$" in text for text in texts(svg))


def test_tasks_have_whole_numbers_and_the_whole_data() -> None:
    line = Line((1.0, 2.0, 3.0), (9.0, 8.0, 7.0), (0.5, 0.5, 0.5))
    lines = {"random": line, "full": line}
    svg = plots.progress_svg(lines, "k", plots.looks(lines), what="task", whole=True)
    assert texts(svg)[:3] == ["1", "2", "3"]
    assert "all images" in texts(svg)
    assert "full" not in texts(svg)


def test_drawing_warns_of_nothing() -> None:
    group, looks = summarize(rows(NAMES[:1], (1,))), plots.looks(NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.accuracy_svg(group, "k")
        plots.distortion_svg(group, {"random": {1: 0.0}}, "k", looks)
        plots.progress_svg({"random": Line((1.0,), (2.0,), (0.0,))}, "k", looks, what="task", whole=True)
