from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from raycond.evaluate import preset
from raycond.report import GridReport, render_grid, write_grid_report
from tests.report.make import grid_report, rows
from tests.report.page import HOSTILE, Page, require_self_contained
from tests.support.methods import SQRT, UNIFORM

HTML = render_grid(grid_report())
PAGE = Page(HTML)
TEXT = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", HTML))


def section(anchor: str, html: str = HTML) -> str:
    start = html.index(f'<h2 id="{anchor}"')
    end = html.find("<h2", start + 1)
    return html[start : end if end > 0 else None]


def test_text_from_outside_is_escaped_and_elements_are_balanced() -> None:
    assert "script" not in PAGE.tags
    assert HOSTILE in PAGE.text
    assert PAGE.open == []


def test_nothing_comes_from_outside_the_file() -> None:
    require_self_contained(HTML)


def test_same_report_same_bytes(tmp_path: Path) -> None:
    write_grid_report(str(tmp_path / "a.html"), grid_report())
    assert (tmp_path / "a.html").read_bytes() == HTML.encode()


def test_tiles() -> None:
    assert "5 methods" in TEXT
    assert "1 · 10 images per class" in TEXT
    assert f"83.0 % top-1 accuracy, {SQRT}, 10 images per class; all images 98.0 %" in TEXT
    assert "66 trainings, 3 seeds, 1 h 6 min, at most 3.0 MiB of memory" in TEXT
    assert "1 failed and are missing below" in TEXT


def test_accuracy_is_the_own_variant_of_each_labeler_and_student() -> None:
    html = section("accuracy")
    assert html.count("<h3>") == 1
    assert "convnet3, protocol quick, labels teacher:&lt;script&gt;" in html
    before, details = html.split("<details>")
    assert "83.0 ± 1.0 <small>n=3" in before
    assert "83.5 ± 1.0" in details
    assert f'"part"><th>{UNIFORM}' in before
    assert "+10.0 <small>± 2.8" in html  # sqrt against uniform
    assert "+1.0 <small>± 2.8" in html  # density against uniform
    assert "random</th><td>" not in html  # nothing is compared with itself


def test_every_plot_is_there() -> None:
    assert HTML.count("<svg") == 4
    for anchor, label in (
        ("accuracy", "accuracy against images per class"),
        ("weights", "accuracy difference to uniform weights"),
        ("distortion", "accuracy against distortion"),
        ("training", "accuracy against epoch"),
    ):
        assert section(anchor).count(f'aria-label="{label}"') == 1
    assert "IPC 10</figcaption>" in section("training")
    assert "30.25" in section("distortion")


def test_curves_are_against_steps_where_the_protocol_counts_them() -> None:
    page = render_grid(replace(grid_report(), protocol={"name": "quick", "steps": 300}))
    assert 'aria-label="accuracy against step"' in section("training", page)
    flat = [replace(row, curve=row.curve[-1:]) for row in rows()]
    assert 'id="training"' not in render_grid(replace(grid_report(), rows=flat))


def test_scores_are_plain_rows() -> None:
    html = section("scores")
    assert re.findall(r"<th[^>]*>([^<]*)</th>", html) == ["method", "IPC", "HLR", "LRS", "ARS"]
    assert html.count('<th class="n">') == 4
    assert '<td class="n">30.1 ± 0.4</td><td class="n">19.12</td><td class="n"></td>' in html
    assert f'<td>{UNIFORM}</td><td class="n">10</td><td class="n"></td><td class="n"></td><td class="n">27</td>' in html


def test_sizes_are_by_set_and_part_in_both_units() -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", section("sizes")))
    assert "set images labels label generator sum" in text
    assert "2.0 KiB 2,048, PNG 100 B 100, int64 unknown 2.1 KiB 2,148 known" in text
    assert "b 1.0 KiB 1,024, PNG 1.0 KiB 1,024" in text


def test_protocol_marks_what_is_assumed_and_what_was_changed() -> None:
    html = section("protocol")
    assert "RDED (CVPR 2024" in html
    lines = dict(re.findall(r"<tr><th>(\w+)</th><td>(.*?)</td></tr>", html))
    assert '<span class="assumed">assumed</span>' in lines["shuffle"]
    assert "the source shuffles 2x2 patches" in lines["shuffle"]
    assert lines["lr"].startswith('0.001</td><td><span class="changed">changed</span>')
    assert "assumed" not in lines["batch"]  # the user's value is nobody's assumption
    assert lines["scale"].startswith("0.5, 1<")
    assert lines["flip"].startswith("yes<")
    assert lines["dsa"].startswith("–<")
    assert set(preset("rded").to_dict()) - set(lines) == {"name", "source", "reported", "assumed"}
    assert "<td>IPC 2 to 10, classes from 100</td><td>batch 100</td>" in html
    assert "<td>classes 9, students vgg*</td><td>lr 0.0005, flip no</td>" in html


def test_a_setting_changed_under_its_former_name_is_marked() -> None:
    html = section("protocol", render_grid(replace(grid_report(), changed=["smoothing"])))
    assert re.search(r"<tr><th>cosine_smoothing</th><td>2</td><td><span class=.changed.>changed", html)


def test_class_incremental_has_a_plot_per_ipc_over_the_tasks() -> None:
    page = render_grid(replace(grid_report(), incremental=True))
    html = section("tasks", page)
    assert html.count('aria-label="accuracy against task"') == 2
    assert "IPC 1</figcaption>" in html
    assert "all images" in html
    assert 'id="training"' not in page
    assert "after the last task" in section("accuracy", page)
    assert "<summary>Mean over the tasks</summary>" in page


def test_what_is_not_given_is_not_shown() -> None:
    page = render_grid(GridReport("nothing yet", []))
    assert "<h2" not in page
    assert "<svg" not in page
    assert Page(page).open == []
    assert "<nav>\n</nav>" in page


@pytest.mark.parametrize("method", ["full", "random"])
def test_one_method_is_enough(method: str) -> None:
    page = render_grid(GridReport("one", [row for row in rows() if row.method == method]))
    assert page.count("<svg") == (0 if method == "full" else 2)
    assert "Differences" not in page


def test_one_seed_gives_numbers_without_deviations() -> None:
    page = render_grid(replace(grid_report(), rows=[row for row in rows() if row.seed == 0]))
    assert "80.0 <small>n=1" in page
    assert "fewer than 3 equal seeds" in page
    assert page.count("<svg") == 4


def test_the_compression_of_each_set() -> None:
    assert "compression" not in section("sizes")
    page = render_grid(replace(grid_report(), source_bytes=2**20))
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", section("sizes", page)))
    assert "2,148 known 488×" in text
    assert "b 1.0 KiB 1,024, PNG 1.0 KiB 1,024 1,024×" in text
    assert "bytes of the source images (1.0 MiB, as they are stored) divided by those of the set" in text


def test_methods_are_explained_once() -> None:
    html = section("accuracy")
    assert html.count("real images drawn at random") == 1
    assert "images decoded from the centroids" in html
    assert "by the square root of the number" in html
    assert "images per class" in html
