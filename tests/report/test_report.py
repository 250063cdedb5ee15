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
from raycond.report import Picture, Quarantine, Report, Size, render, write_report
from raycond.report.numbers import human, share
from tests.report.page import HOSTILE, Page, require_self_contained


def png(side: int, value: int = 100) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(out, "PNG")
    return out.getvalue()


def report(classes: int = 3, images: int = 4, side: int = 8) -> Report:
    listed = Classes.of([f"n{k:04d}" for k in range(classes)], [f"{HOSTILE} {k}" for k in range(classes)])
    weights = [1 + 0.125 * (k - (images - 1) / 2) for k in range(images)]  # lightest first
    pictures = [Picture(png(side, k), weight, 10 + k) for k, weight in enumerate(weights)]
    rows = [
        Row(method, ipc, "convnet3", seed, top1 + seed, top1 + seed, 200, 0.5, 30, "quick")
        for method, ipc, top1 in (("random", 4, 70.0), ("ddoq", 4, 80.0), ("d4m", 4, 79.5), ("full", None, 97.0))
        for seed in range(3)
    ]
    values = {("d4m", "uniform"): 40.0, ("d4m", "voronoi"): 30.0, ("ours", "uniform"): 20.0, ("ours", "voronoi"): 19.0}
    return Report(
        title=f"run {HOSTILE}",
        classes=listed,
        config={"source": HOSTILE, "ipc": (4,), "nested": {"lr": 0.005}},
        galleries={4: dict.fromkeys(listed.ids, pictures)},
        distortion={4: [100.0 + k for k in range(classes)]},
        accuracy=rows,
        w2=[{"ipc": 4, "centroids": c, "weights": w, "w2": v, "ess": 0.5} for (c, w), v in values.items()],
        sizes=[Size("images", 2048, "PNG"), Size("label generator", None), Size("weights", 48, "float32")],
        source_bytes=4096 * 100,
        quarantine=Quarantine([BadRecord("a", 0, "n0000", f"/x/{HOSTILE}.jpg", "truncated")] * 5, 500),
        environment={"torch": "2.14"},
    )


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
    assert "+10.0 ± 2.8" in PAGE.text  # ddoq against random
    assert "+0.5 ± 2.8" in PAGE.text  # ddoq against d4m
    assert HTML.count('class="better">better') == 2  # ddoq and d4m against random, but not ddoq against d4m
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
