from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raycond.data.classes import Classes
from raycond.data.quarantine import BadRecord
from raycond.evaluate import Row
from raycond.report import Curve, LearnedSupport, Picture, Quarantine, Report, Sheet, Size, render, write_report
from raycond.report.numbers import human, share
from tests.report.make import png, report
from tests.report.page import HOSTILE, Page, require_self_contained
from tests.support.methods import SQRT, UNIFORM

HTML = render(report())
PAGE = Page(HTML)


def test_text_from_outside_is_escaped_and_elements_are_balanced() -> None:
    assert "script" not in PAGE.tags
    assert HOSTILE in PAGE.text
    assert PAGE.open == []


def test_nothing_comes_from_outside_the_file() -> None:
    require_self_contained(HTML)


def test_same_report_same_bytes(tmp_path: Path) -> None:
    write_report(str(tmp_path / "a.html"), report())
    assert (tmp_path / "a.html").read_bytes() == render(report()).encode() == HTML.encode()


def test_accuracy_and_differences() -> None:
    assert "81.0 ± 1.0 n=3" in PAGE.text
    assert "98.0 ± 1.0 n=3" in PAGE.text
    assert "+10.0 ± 2.8" in PAGE.text  # sqrt against random
    assert "+0.5 ± 2.8" in PAGE.text  # sqrt against uniform
    assert HTML.count('class="better">better</span> <small>p &lt; 0.001, 3 seeds</small>') == 1
    assert HTML.count('class="better">better') == 2  # both against random
    assert HTML.count('class="soft">not clear') == 1
    assert HTML.count("<svg") == 1
    assert "images per class" in PAGE.text


def test_the_best_of_checks_is_apart_and_only_where_it_differs() -> None:
    assert "Best of all checks" not in HTML
    base = report()
    rows = [replace(row, best=row.top1 + 0.5) for row in base.accuracy]
    page = render(replace(base, accuracy=[*rows, *(replace(row, variant="hard", top1=1.0) for row in rows)]))
    before, details = page.split("<details><summary>Best of all checks</summary>")
    assert "81.0 ± 1.0" in before
    assert "81.5 ± 1.0" in details
    assert "1.0 ± 0.0" not in page  # other variants are for scores


def test_w2_shows_what_weights_and_centroids_bring() -> None:
    text = re.sub(r"\s+", " ", PAGE.text)
    assert "−25.0 %" in text  # 30 against 40
    assert "−5.0 %" in text  # 19 against 20
    assert "−52.5 %" in text  # 19 against 40


def test_sizes_in_both_units_and_as_a_share() -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", HTML))
    assert "images 2.0 KiB 2,048 0.50 % PNG" in text
    assert "label generator unknown" in text
    assert "sum of what is known 2.0 KiB 2,096" in text


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_258_291, "1.2 MiB"),
        (150 << 30, "150 GiB"),
        (9 << 50, "9216 TiB"),
    ],
)
def test_human_bytes(count: int, expected: str) -> None:
    assert human(count) == expected


def test_share_keeps_two_digits_of_small_shares() -> None:
    assert [share(1, 2), share(0, 5), share(1, 40), share(1, 30_000)] == ["50 %", "0 %", "2.5 %", "0.0033 %"]


def test_pictures_come_heaviest_first_and_small_ones_stay_crisp() -> None:
    weights = re.findall(r"<figcaption><b>([\d.]+)</b> · (\d+)", HTML)
    assert weights[:4] == [("1.19", "13"), ("1.06", "12"), ("0.94", "11"), ("0.81", "10")]
    assert HTML.count('class="crisp"') == 12
    assert base64.b64encode(png(8, 3)).decode() in HTML
    assert 'width="64" height="64"' in HTML


def test_many_classes_and_images_are_cut_and_said() -> None:
    page = render(report(classes=25, images=12))
    assert page.count("<img") == 20 * 10
    assert "the first 20 of 25 classes and the 10 heaviest of 12 images of each class" in page
    assert "<details>" in page
    assert ">median<" in page
    assert ">112.0<" in page  # the median of 100..124


def test_large_pictures_become_thumbnails() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG")
    base = report()
    page = render(replace(base, galleries={1: {"n0000": [Picture(out.getvalue(), 1.0, 5)]}}))
    data = re.search(r"data:image/jpeg;base64,([^\"]+)", page)
    assert data
    assert Image.open(io.BytesIO(base64.b64decode(data[1]))).size == (192, 192)
    assert len(page) < 150_000
    assert 'class="crisp"' not in page


def test_missing_parts_say_why() -> None:
    why = {"accuracy": "Evaluation was off.", "w2": "W2 was <not> asked for.", "images": "No pictures."}
    empty = Report(title="t", classes=Classes.of(["a"]), config={}, missing=why)
    page = render(empty)
    assert "Evaluation was off." in page
    assert "W2 was &lt;not&gt; asked for." in page
    assert "No pictures." in page
    assert page.count("Not part of this run.") == 5  # distortion, sizes, quarantine, environment, configuration
    assert "<svg" not in page
    assert "<img" not in page


def test_an_empty_quarantine_is_good_news() -> None:
    page = render(replace(report(), quarantine=Quarantine([], 1437)))
    assert "None of 1,437 images had to be left out." in page


def test_quarantine_counts_by_reason_with_first_examples() -> None:
    records = [BadRecord(str(k), 0, "a", f"/x/{k}.jpg", "empty" if k % 3 else "truncated") for k in range(9)]
    page = Page(render(replace(report(), quarantine=Quarantine(records, 900))))
    text = re.sub(r"\s+", " ", page.text)
    assert "9 of 900 images (1.0 %)" in text
    assert re.search(r"empty ?6 ?/x/1.jpg ?/x/2.jpg ?/x/4.jpg ?truncated ?3", text)
    assert "/x/5.jpg" not in text


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pictures_of_every_stored_format_and_their_nearest_real_image(kind: str) -> None:
    out = io.BytesIO()
    Image.new("L", (32, 32), 90).save(out, kind)
    near = png(32, 7)
    base = report()
    pictures = {"n0000": [Picture(out.getvalue(), 1.0, 5, near)]}
    page = render(replace(base, galleries={4: pictures}))
    assert f"data:image/{kind.lower()};base64,{base64.b64encode(out.getvalue()).decode()}" in page
    assert base64.b64encode(near).decode() in page
    assert "the real image nearest to its latent" in page
    assert "the real image nearest to its latent" not in HTML


def test_words_are_explained_where_they_are_first_used() -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", HTML)).replace("&#39;", "'")
    assert text.index("IPC is the number of images per class") < text.index("IPC 4")
    assert "random real images drawn at random" in text
    assert (
        f"{UNIFORM} images decoded from the centroids of each class's latents (its codebook), all of the same" in text
    )
    assert f"{SQRT} images decoded from the centroids" in text
    assert "full all training images" in text
    assert "W2 is the Wasserstein-2 distance" in text
    assert "effective sample size" in text


def test_the_compression_ratio_is_in_the_tile_and_in_the_table() -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", HTML))
    assert "2.0 KiB condensed set, 195× smaller than the source&#39;s 400 KiB" in text
    expected = (
        "compression ratio 195× bytes of the source images divided by those of the set; by those of its images alone"
    )
    assert f"{expected} 200×" in text
    assert "2.0× larger than the source&#39;s 1.0 KiB" in " ".join(render(replace(report(), source_bytes=1024)).split())
    unknown = render(replace(report(), source_bytes=None))
    assert "compression" not in unknown
    assert "smaller than" not in unknown
    assert "compression" not in render(replace(report(), sizes=[Size("images", None)]))


def test_why_centroids_of_a_small_codec_look_woven() -> None:
    assert "woven" not in HTML
    page = render(replace(report(), trained_codec=True))
    assert "Decoded centroids look woven: the codec is a small one" in page
    assert "woven" not in render(replace(report(), trained_codec=True, galleries={}))


@pytest.mark.parametrize(
    ("seeds", "words"), [(1, "fewer than 3 equal seeds"), (2, "fewer than 3 equal seeds"), (3, "better")]
)
def test_better_is_said_from_three_seeds_on(seeds: int, words: str) -> None:
    rows = [row for row in report().accuracy if row.seed < seeds]
    page = render(replace(report(), accuracy=rows))
    assert (">better<" in page) == (words == "better")
    assert f">{words}<" in page


def test_odd_class_names_are_shown_on_one_line() -> None:
    classes = Classes(("a", "b", "c"), ("x\u202ey", "\x1b[31m", "p\nq"))
    page = render(replace(report(), classes=classes, galleries={4: {"a": [Picture(png(8), 1.0, 1)]}}))
    assert "x\\u202ey" in page
    assert "\x1b" not in page
    assert "p\\nq" in page


def test_supports_show_images_before_and_after_and_labels() -> None:
    before, after = [png(8, k) for k in range(6)], [png(8, 100 + k) for k in range(6)]
    labels = [[0.5, -0.25, 0.0]] * 6
    learned = LearnedSupport(2, before, after, labels)
    fixed = LearnedSupport(2, before, before)
    page = render(replace(report(), supports=[learned], distortion={}, w2=[]))
    require_self_contained(page)
    assert Page(page).open == []
    assert "Labels of IPC 2" in page
    assert "blue above (0.5 at most), red below (-0.25 at least)" in page
    for picture in (*before, *after):
        assert base64.b64encode(picture).decode() in page
    assert 'href="#kernel"' in page
    assert 'href="#w2"' not in page
    without = render(replace(report(), supports=[fixed]))
    assert "before and after" not in without
    assert "Labels of IPC" not in without
    assert 'href="#kernel"' not in HTML


def test_label_matrices_are_pictures_of_a_pixel_for_each_label() -> None:
    support = LearnedSupport(1, [png(8)] * 3, [png(8)] * 3, [[0.9, -0.1], [-0.9, 0.0], [0.45, 0.9]])
    page = render(replace(report(), supports=[support]))
    (uri,) = re.findall(r'src="data:image/png;base64,([^"]+)" width="24" height="36"', page)
    picture = Image.open(io.BytesIO(base64.b64decode(uri)))
    assert picture.size == (2, 3)
    assert picture.getpixel((1, 1)) == (255, 255, 255)
    assert picture.getpixel((0, 0)) == picture.getpixel((1, 2)) == (47, 102, 207)
    assert picture.getpixel((0, 1)) == (179, 57, 47)


def test_the_first_accuracy_is_of_what_the_run_made() -> None:
    rows = [
        Row(method, ipc, "convnet3", 0, top1, top1, 200, 0.5, 30, "quick")
        for method, ipc, top1 in (("random", 4, 70.0), ("kip", 4, 81.5), ("full", None, 97.0))
    ]
    text = Page(render(replace(report(), accuracy=rows))).text
    assert "81.5 %top-1 accuracy, kip, 4 images per class; all images 97.0 %" in text.replace("\n", "")


def test_curves_and_sheets_of_an_optimization() -> None:
    lines = {HOSTILE: (list(range(1000)), [1.0 / (k + 1) for k in range(1000)]), "ipc2": ([0, 5], [1.0, 2.0])}
    curve = Curve("Loss on the way", "iterations", "loss", lines)
    found = render(replace(report(), curves=[curve], sheets=[Sheet(f"after {HOSTILE}", png(8))]))
    page = Page(found)
    assert "Loss on the way" in page.text
    assert f"after {HOSTILE}" in page.text
    assert "script" not in page.tags
    assert page.open == []
    require_self_contained(found)
    assert 'href="#optimization"' in found
    assert 'href="#optimization"' not in HTML
    assert 'id="w2"' not in found
    assert 'id="w2"' in HTML
    assert found.count("<svg") == HTML.count("<svg") + 1
    assert len(found) < len(HTML) + 60_000  # a thousand points are thinned out
