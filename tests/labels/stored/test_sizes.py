"""Bytes of labels, against the numbers of SRe2L, LPLD and HeLlO."""

from __future__ import annotations

import pytest
import torch

from raycond.data.classes import Classes
from raycond.labels.stored.labels import Encoding, write_labels
from raycond.labels.stored.sizes import (
    Projector,
    delta_bytes,
    full_labels,
    markdown,
    one_label,
    paper_ratio,
    readable,
    table,
    top_k_labels,
)

MIB, GIB = 2**20, 2**30
DELTA = 816_856  # parameters of HeLlO's projector for ImageNet-1K


@pytest.mark.parametrize(
    ("classes", "ipc", "expected"),
    [
        (1000, 1, 572.2 * MIB),
        (1000, 10, 5.588 * GIB),
        (1000, 50, 28_610 * MIB),
        (1000, 200, 111.76 * GIB),
        (100, 50, 286.1 * MIB),
        (365, 50, 3.72 * GIB),
        (200, 10, 228.9 * MIB),
        (10_450, 10, 610.2 * GIB),
    ],
)
def test_full_labels(classes: int, ipc: int, expected: float) -> None:
    assert full_labels(ipc * classes, classes) == 600 * ipc * classes**2
    assert full_labels(ipc * classes, classes) == pytest.approx(expected, rel=1e-3)


def test_smaller_kinds() -> None:
    assert one_label(10_000, 1000) == 20_000_000
    # LPQLD's 40x, 80x and 200x at IPC 10: 30 epochs of the top 100, 50 and 10
    sizes = [top_k_labels(10_000, 1000, 30, k) for k in (100, 50, 10)]
    assert [round(size / 1e6) for size in sizes] == [120, 60, 12]
    assert top_k_labels(1, 40_000, 1, 10) == 10 * (2 + 4) + 8  # int16 has no class 40,000


def test_projector_in_the_papers_way_and_in_bytes() -> None:
    full = full_labels(50_000, 1000)
    assert [delta_bytes(DELTA, d) for d in ("float32", "float16", "int8")] == [3_267_424, 1_633_712, 816_856]  # type: ignore[arg-type]
    assert paper_ratio(DELTA, 50_000, 1000) == pytest.approx((DELTA / MIB) / (full / MIB))
    assert paper_ratio(DELTA, 50_000, 1000) == pytest.approx(2.72e-5, rel=2e-3)  # "about 0.003 %"
    assert paper_ratio(DELTA, 1000, 1000) == pytest.approx(1.36e-3, rel=2e-3)
    assert paper_ratio(629_720, 100, 100) == pytest.approx(0.105, rel=2e-3)  # ImageNet-100, IPC 1
    shares = {a.what: a.share for a in table(50_000, 1000, projector=Projector(DELTA))}
    assert shares["projector delta, float32"] == pytest.approx(1.1e-4, rel=0.02)
    assert shares["projector delta, float16"] == pytest.approx(5.4e-5, rel=0.02)
    assert shares["projector delta, int8"] == paper_ratio(DELTA, 50_000, 1000)


def test_table_has_every_kind_and_the_base_apart() -> None:
    projector = Projector(DELTA, "float16", stored=1_650_000, base="RN50:openai", base_bytes=244_000_000)
    rows = {a.what: a for a in table(10_000, 1000, image_bytes=150, top_k=(10,), kept=0.1, projector=projector)}
    assert list(rows) == [
        "images",
        "full labels",
        "top-10 labels",
        "one label per image",
        *(f"projector delta, {d}" for d in ("float32", "float16", "int8")),
        "base model RN50:openai",
    ]
    assert rows["full labels"].share == 1
    assert rows["top-10 labels"].bytes == top_k_labels(10_000, 1000, 30, 10)
    assert rows["projector delta, float16"].bytes == 1_650_000
    assert rows["projector delta, int8"].bytes == DELTA
    assert [rows[what].share for what in ("images", "base model RN50:openai")] == [None, None]
    page = markdown(list(rows.values()), paper=2.72e-5)
    assert "| full labels | 5.59 GiB | 100 % | 300 epochs x 10000 images x 1000 classes, float16 |" in page
    assert page.endswith("0.0027 %\n")


def test_readable() -> None:
    assert [readable(n) for n in (0, 1023, 1024, 1_633_712, 1000 * MIB, 28_610 * MIB, 5000 * GIB)] == [
        "0 B",
        "1023 B",
        "1 KiB",
        "1.56 MiB",
        "1000 MiB",
        "27.9 GiB",
        "4.88 TiB",
    ]


@pytest.mark.parametrize("top_k", [None, 3])
def test_what_is_counted_is_what_is_written(tmp_path: object, top_k: int | None) -> None:
    images, classes, views = 50, 40, 6
    index = write_labels(
        str(tmp_path),
        torch.arange(images),
        Classes.of([f"c{k}" for k in range(classes)]),
        views=views,
        encoding=Encoding(top_k),
        label=lambda _: torch.rand(images, classes),
    )
    counted = full_labels(images, classes, views) + 8 * images if top_k is None else top_k_labels(images, classes, 6, 3)
    headers = 8 + 8 + 400 * (len(index["chunks"]) + 1)
    assert counted < index["bytes"] < counted + headers
