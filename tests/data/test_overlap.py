"""Images that two sources share, by content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from raycond.core.errors import UserError
from raycond.data import overlap as module
from raycond.data.overlap import Overlap, looks_alike, overlap, shared_digests
from raycond.data.rows import RowSource
from raycond.data.sources import open_source
from tests.data import make
from tests.data.make import labelled_parquet, png


def folders(root: Path, seeds: dict[str, list[int]]) -> RowSource:
    for class_id, numbers in seeds.items():
        (root / class_id).mkdir(parents=True)
        for k, seed in enumerate(numbers):
            (root / class_id / f"{root.name}-{k}.png").write_bytes(png(seed))
    return open_source(str(root), index_dir=str(root.parent / "index"))


def test_the_same_bytes_under_other_names_and_classes(tmp_path: Path) -> None:
    train = folders(tmp_path / "train", {"a": [0, 1, 2], "b": [3, 4]})
    val = folders(tmp_path / "val", {"a": [10, 3], "b": [11, 2]})
    found = overlap(val, train)
    assert (found.checked, found.shared, found.share) == (4, 2, 0.5)
    assert set(found.examples) == {("a/val-1.png", "b/train-0.png"), ("b/val-1.png", "a/train-2.png")}
    assert overlap(val, val).share == 1.0


def test_sources_of_different_kinds(tmp_path: Path) -> None:
    train = folders(tmp_path / "train", {"0": [0, 1], "1": [2, 3]})
    labelled_parquet(tmp_path / "p" / "val.parquet", [0, 0, 1, 1])  # images 0 to 3
    make.tar(tmp_path / "t" / "val.tar", {"a.jpg": png(2), "a.cls": b"0", "b.jpg": png(9), "b.cls": b"1"})
    for place, share in (("p", 1.0), ("t", 0.5)):
        val = open_source(str(tmp_path / place), split="val", index_dir=str(tmp_path / "index"))
        assert overlap(val, train).share == share


def test_digits_do_not_overlap_but_for_twins() -> None:
    train, val = (open_source("digits:", split=split, index_dir="x") for split in ("train", "val"))
    assert overlap(val, train).share < 0.01


def test_a_sample_is_drawn_and_only_images_of_its_sizes_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = folders(tmp_path / "train", {"a": list(range(20))})
    (tmp_path / "train" / "a" / "large.png").write_bytes(make.encoded(make.picture(5, 60, 60)))
    val = folders(tmp_path / "val", {"a": list(range(40))})
    assert len({(tmp_path / "val" / "a" / f"val-{k}.png").stat().st_size for k in range(40)}) == 1
    read: list[str] = []
    plain = module.content_digest
    monkeypatch.setattr(module, "content_digest", lambda ref: (read.append(ref.id), plain(ref))[1])
    found = overlap(val, train, sample=10, seed=1)
    assert found.checked == 10
    assert 0 < found.shared < 10
    assert len(read) == 30
    assert "a/large.png" not in read
    assert overlap(val, train, sample=10, seed=1) == found


def photo(seed: int) -> Image.Image:
    """Smooth enough to survive compression."""
    return make.picture(seed, 6, 5).resize((60, 50), Image.Resampling.BICUBIC)


def test_copies_in_another_format_size_and_quality_look_alike(tmp_path: Path) -> None:
    copies: list[tuple[dict[str, Any], int]] = [({"kind": "PNG"}, 60), ({"kind": "JPEG", "quality": 60}, 60)]
    copies += [({"kind": "WEBP", "quality": 80}, 60), ({"kind": "JPEG", "quality": 90}, 90)]
    for folder, first in (("train", 0), ("copies", 0), ("others", 100)):
        (tmp_path / folder / "a").mkdir(parents=True)
        for k in range(8):
            options, side = ({"kind": "JPEG", "quality": 95}, 60) if folder != "copies" else copies[k % 4]
            picture = photo(first + k).resize((side, side * 5 // 6))
            (tmp_path / folder / "a" / f"{folder}{k}.img").write_bytes(make.encoded(picture, **options))
    train, same, others = (open_source(str(tmp_path / name), index_dir="x") for name in ("train", "copies", "others"))
    assert overlap(same, train).shared == 0
    assert looks_alike(same, train) == (8, 8)
    assert looks_alike(others, train) == (8, 0)
    assert not Overlap(8, 0, compared=8, alike=0).notable
    assert Overlap(8, 0, compared=8, alike=8).notable
    assert "8 of 8 validation images look the same" in Overlap(8, 0, compared=8, alike=8).of_copies


def test_blank_pictures_are_not_compared(tmp_path: Path) -> None:
    for folder in ("train", "val"):
        (tmp_path / folder / "a").mkdir(parents=True)
        for k in range(3):
            blank = Image.new("RGB", (20, 20 + k), "white")
            (tmp_path / folder / "a" / f"{k}.png").write_bytes(make.encoded(blank))
    train, val = (open_source(str(tmp_path / name), index_dir="x") for name in ("train", "val"))
    assert looks_alike(val, train) == (0, 0)


def test_digits_are_not_copies_of_digits() -> None:
    train, val = (open_source("digits:", split=split, index_dir="x") for split in ("train", "val"))
    compared, alike = looks_alike(val, train)
    assert compared > 50
    assert not Overlap(0, 0, compared=compared, alike=alike).copies


def test_photographs_of_one_class_are_not_copies(real_data: Path) -> None:
    root = str(real_data / "imagenette")
    train, val = (open_source(root, split=split, index_dir="x") for split in ("train", "val"))
    compared, alike = looks_alike(val, train)
    assert compared > 100
    assert not Overlap(0, 0, compared=compared, alike=alike).copies


def test_images_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    train = folders(tmp_path / "train", {"a": [0, 1]})
    (tmp_path / "train" / "a" / "gone.png").symlink_to(tmp_path / "nowhere")
    assert overlap(train, train).share == 1.0


def test_too_much_is_an_error_that_names_the_way_out() -> None:
    found = shared_digests([("v1", "x"), ("v2", "y"), ("v3", "z")], {"y": "t9"})
    found.require_at_most(0.34, "validation images are training images", "--allow-overlap")
    with pytest.raises(UserError, match=r"1 of 3 validation images are training images, as v2 = t9: .*--allow-overlap"):
        found.require_at_most(0.33, "validation images are training images", "--allow-overlap")
    Overlap(0, 0).require_at_most(0.0, "x", "y")
