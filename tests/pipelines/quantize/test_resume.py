"""A run that was killed, damaged, moved or told something else computes what is missing or stale, and nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from raycond.pipelines.quantize.run import quantize
from raycond.sets.verify import verify
from tests.data.make import png
from tests.pipelines.quantize.make import CLASSES, config, contents, data, rewritten, stamps
from tests.support.killed import killed_at_rename


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def whole(source: Path) -> Path:
    """An undisturbed run."""
    out = source / "whole"
    run = quantize(config(source, out))
    assert not run.failures
    assert verify(str(out / "set")) == []
    return out


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))  # copytree keeps times


def units(folder: Path, *parts: str) -> set[str]:
    """Outputs of units, without their records."""
    return {n for n in stamps(folder) if n.startswith("/".join(("work", *parts))) and not n.endswith(".json")}


def finished_classes(out: Path) -> int:
    """Classes of which every record of a codebook and of its images is there."""
    records = [n for n in stamps(out) if n.endswith(".done.json") and n.startswith(("work/codebooks", "work/images"))]
    by_class = [sum(Path(n).name.startswith(f"{label:05d}.") for n in records) for label in range(len(CLASSES))]
    return sum(count == 6 for count in by_class)


# A class takes 12 renames, the configuration 1, the set comes after 50.
@pytest.mark.parametrize("renames", [pytest.param(7, marks=pytest.mark.slow), 32, 52])
def test_killed_run_resumes_to_the_same_bytes(source: Path, whole: Path, tmp_path: Path, renames: int) -> None:
    out = tmp_path / "out"
    assert killed_at_rename(renames, quantize, config(source, out))
    assert not (out / "set" / "manifest.json").exists()
    before, finished = stamps(out), finished_classes(out)
    assert finished == ((renames - 2) // 12 if renames < 50 else 4)

    run = quantize(config(source, out))
    assert run.computed["condense"] == len(CLASSES) - finished
    done = {n for n in before if f"{n}.done.json" in before}
    assert not done & rewritten(before, stamps(out))
    assert contents(out / "set") == contents(whole / "set")


def test_rerun_does_nothing(source: Path, copy: Path) -> None:
    before = stamps(copy)
    run = quantize(config(source, copy))
    assert run.computed == {"condense": 0, "write": 0}
    assert rewritten(before, stamps(copy)) == {"config.json", "quarantine.parquet", "raycond.log", "report.html"}


@pytest.mark.parametrize(
    ("options", "redone"),
    [
        ({"weights": "density"}, ()),
        ({"generator": "medoid"}, ()),  # medoids are made beside every other generator, for the report
        ({"image_format": "webp"}, ("images",)),
        ({"ipc": (1, 2, 3)}, ("codebooks/ipc2", "images/vae/ipc2", "images/medoid/ipc2")),
        ({"ipc": (3,)}, ()),
        ({"size": 6}, ("codebooks", "images")),
        ({"seed": 1}, ("codebooks", "images")),
        ({"codec": "pixels:1"}, ("codebooks", "images")),
        ({"quantizer": "clvq"}, ("codebooks", "images")),
    ],
    ids=str,
)
def test_changed_option_redoes_what_depends_on_it(
    source: Path, copy: Path, tmp_path: Path, options: dict[str, Any], redone: tuple[str, ...]
) -> None:
    before = stamps(copy)
    run = quantize(config(source, copy, **options))
    changed = rewritten(before, stamps(copy))
    expected = set().union(*(units(copy, part) for part in redone)) if redone else set()
    assert {n for n in changed if n in units(copy, "codebooks") | units(copy, "images")} == expected
    assert run.computed == {"condense": len(CLASSES) if redone else 0, "write": 1}
    fresh = tmp_path / "fresh"
    quantize(config(source, fresh, **options))
    assert contents(copy / "set") == contents(fresh / "set")


@pytest.mark.parametrize(
    "options", [{"actors": 3}, {"max_bad": "50%"}, {"evaluate": True}, {"classes_at_once": 2}, {"decode_threads": 3}]
)
def test_option_that_changes_no_byte_redoes_no_class(source: Path, copy: Path, options: dict[str, Any]) -> None:
    run = quantize(config(source, copy, **options, methods=("uniform",)))
    assert run.computed == {"condense": 0, "write": 0}


def test_classes_at_once_gives_the_same_bytes(source: Path, whole: Path, tmp_path: Path) -> None:
    quantize(config(source, tmp_path / "out", classes_at_once=3))
    assert contents(tmp_path / "out" / "set") == contents(whole / "set")


def test_trained_codec_is_kept_with_the_run_folder_and_made_again_if_damaged(source: Path, tmp_path: Path) -> None:
    small = {"steps": 3, "widths": (8,), "channels": 1}
    options = {"codec": "train", "autoencoder": small, "ipc": (1,), "w2_classes": 0}
    first = tmp_path / "first"
    quantize(config(source, first, **options))
    moved = Path(shutil.move(first, tmp_path / "moved"))
    run = quantize(config(source, moved, **options))
    assert run.computed == {"condense": 0, "write": 0}

    (weights,) = moved.glob("work/codec/*/diffusion_pytorch_model.safetensors")
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    run = quantize(config(source, moved, **options))
    assert weights.read_bytes() == good
    assert run.computed == {"condense": 0, "write": 0}


def _touch(image: Path) -> None:
    image.write_bytes(png(999))


def _add(image: Path) -> None:
    image.with_name("new.png").write_bytes(png(999))


@pytest.mark.parametrize("change", [_touch, _add, os.unlink])
def test_changed_image_redoes_its_class_alone(tmp_path: Path, change: Any) -> None:
    root = data(tmp_path / "own")
    quantize(config(root, tmp_path / "out"))
    change(root / "train" / "bee" / "bee_3.png")
    before = stamps(tmp_path / "out")
    run = quantize(config(root, tmp_path / "out"))
    assert run.computed == {"condense": 1, "write": 1}
    changed = rewritten(before, stamps(tmp_path / "out"))
    assert {Path(n).name for n in changed if n.startswith(("work/codebooks", "work/images"))} == {
        f"00001.{kind}{end}" for kind in ("safetensors", "parquet") for end in ("", ".done.json")
    }


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path: Path) -> None:
    path.write_bytes(b"\xff\x00" + path.read_bytes()[2:])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_cut, _flip, _empty, os.unlink])
@pytest.mark.parametrize(
    "name",
    [
        "work/codebooks/ipc3/00002.safetensors",
        "work/codebooks/ipc3/00002.safetensors.done.json",
        "work/images/vae/ipc1/00002.parquet",
        "work/images/vae/ipc1/00002.parquet.done.json",
        "work/set.done.json",
        "set/manifest.json",
        "set/data/ipc3/train-*.parquet",
        "set/latents/ipc1-*.safetensors",
    ],
)
def test_damaged_file_is_made_again(source: Path, whole: Path, copy: Path, name: str, damage: Any) -> None:
    (path,) = copy.glob(name)
    damage(path)
    run = quantize(config(source, copy))
    assert run.computed["condense"] == (1 if name.startswith(("work/codebooks", "work/images")) else 0)
    for folder in ("set", "work"):
        assert contents(copy / folder) == contents(whole / folder)


@pytest.mark.slow
def test_evaluation_resumes_cell_by_cell(source: Path, copy: Path) -> None:
    options = {"evaluate": True, "methods": ("random", "weighted"), "ipc": (1, 3)}
    first = quantize(config(source, copy, **options))
    assert len(first.rows) == 4

    def cells(run_options: dict[str, Any]) -> set[str]:
        before = stamps(copy / "work" / "cells")
        assert not quantize(config(source, copy, **run_options)).failures
        written = rewritten(before, stamps(copy / "work" / "cells"))
        return {name.removesuffix(".done.json").rpartition("-")[0] for name in written}  # without the digest

    assert cells(options) == set()
    assert cells({**options, "seeds": (0, 1)}) == {f"{m}-convnet3-w8-seed1" for m in _names("random", "weighted")}
    assert cells({**options, "students": ("convnet3-w8", "mlp-w4")}) == {
        f"{m}-mlp-w4-seed0" for m in _names("random", "weighted")
    }
    # weights are of ddoq alone, and random images of nobody
    density = {name.replace("sqrt", "density") for name in _names("weighted")}
    assert cells({**options, "weights": "density"}) == {f"{name}-convnet3-w8-seed0" for name in density}
    # the full data, which this protocol would add to a grid, is decoded only for a row that was asked for
    assert not (copy / "work" / "pixels" / "train.npz").exists()


def _names(*methods: str) -> list[str]:
    full = {"weighted": "ddoq-vae-sqrt"}
    return [f"{full.get(method, method)}-ipc{ipc}" for method in methods for ipc in (1, 3)]
