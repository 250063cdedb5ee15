"""Splits that are decoded once: what is left out, what makes them stale, and that no process keeps an old one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from raycond.core.errors import UserError
from raycond.data.labelled import pixels
from raycond.data.sources import Source, open_source
from raycond.pipelines.stages import splits
from raycond.pipelines.stages.splits import decode_split
from tests.data.make import png
from tests.pipelines.evaluate.trial import IMAGES
from tests.pipelines.quantize.make import data, stamps


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return data(tmp_path / "data", train=3, val=2)


def source(root: Path) -> Source:
    return open_source(str(root), index_dir=str(root.parent / "index"))


def test_every_image_in_label_order_once(root: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out" / "train.safetensors")
    found = decode_split("train", source(root), "one", IMAGES, out)
    assert (found.images, found.bad) == (12, [])
    split = pixels(out, 4)
    assert (tuple(split.images.shape), split.images.dtype) == ((12, 3, 8, 8), torch.uint8)
    assert split.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    before = stamps(tmp_path / "out")
    assert decode_split("train", source(root), "one", IMAGES, out) == found
    assert stamps(tmp_path / "out") == before


@pytest.mark.parametrize("change", ["digest", "size", "resize", "damage"])
def test_stale_or_damaged_is_made_again(root: Path, tmp_path: Path, change: str) -> None:
    out = tmp_path / "train.safetensors"
    decode_split("train", source(root), "one", IMAGES, str(out))
    good = out.read_bytes()
    digest, options = "one", IMAGES
    if change == "digest":
        digest = "two"
    elif change == "damage":
        out.write_bytes(good[:-1])
    else:
        options = replace(IMAGES, **({"size": 6} if change == "size" else {"resize": "squash"}))  # type: ignore[arg-type]
    stamp = out.stat().st_mtime_ns
    decode_split("train", source(root), digest, options, str(out))
    assert out.stat().st_mtime_ns != stamp
    assert (out.read_bytes() == good) == (change in ("digest", "damage"))


def test_a_process_that_has_read_a_split_reads_the_new_one(root: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "train.safetensors")
    decode_split("train", source(root), "one", IMAGES, out)
    before = pixels(out, 4)
    assert pixels(out, 4) is before  # trainings share it
    (root / "train" / "ant" / "ant_0.png").write_bytes(png(999))
    decode_split("train", source(root), "two", IMAGES, out)
    after = pixels(out, 4)
    assert not torch.equal(after.images[0], before.images[0])
    assert torch.equal(after.images[1:], before.images[1:])


def test_bad_images_are_left_out_and_told_also_from_the_record(root: Path, tmp_path: Path) -> None:
    (root / "train" / "bee" / "bee_1.png").write_bytes(b"no image")
    (root / "train" / "dog" / "dog_0.png").write_bytes(png(0)[:50])
    out = str(tmp_path / "train.safetensors")
    for _ in range(2):
        found = decode_split("train", source(root), "one", IMAGES, out)
        assert found.images == 10
        assert [(bad.class_id, Path(bad.uri).name) for bad in found.bad] == [("bee", "bee_1.png"), ("dog", "dog_0.png")]
        assert all(bad.reason for bad in found.bad)
    assert pixels(out, 4).labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]


def test_too_large_a_split_is_refused_with_what_to_do(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))

    monkeypatch.setattr(splits, "MAX_SPLIT_BYTES", 0)  # of remote places only: a local split is read from its file
    disk(12 * 3 * 64)
    assert decode_split("train", source(root), "one", IMAGES, str(tmp_path / "fits.safetensors")).images == 12
    disk(12 * 3 * 64 - 1)
    out = tmp_path / "deep" / "out.safetensors"
    message = r"the 12 images of the train split take .* at 8 pixels, more than is free in .*; leave full out"
    with pytest.raises(UserError, match=message):
        decode_split("train", source(root), "one", IMAGES, str(out), "leave full out")
    assert not out.exists()
    disk(10**9)
    with pytest.raises(UserError, match="more than the 0 GiB of one that does not lie on a local disk"):
        decode_split("train", source(root), "one", IMAGES, "memory://splits/train.safetensors")


def test_not_one_good_image(root: Path, tmp_path: Path) -> None:
    for path in (root / "train").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="data: not one image of the train split can be read"):
        decode_split("train", source(root), "one", IMAGES, str(tmp_path / "out.safetensors"))
    assert not (tmp_path / "out.safetensors").exists()


def test_one_channel(root: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "train.safetensors")
    decode_split("train", source(root), "one", replace(IMAGES, channels=1), out)
    assert tuple(pixels(out, 4).images.shape) == (12, 1, 8, 8)
