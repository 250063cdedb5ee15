from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raycond.data.classes import Classes
from raycond.sets.inspect import describe
from raycond.sets.verify import verify
from tests.sets.make import change_column, change_manifest, data_name, latents_name, relist, write
from tests.support.work import work


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "s")
    assert verify(str(tmp_path / "s")) == []
    return tmp_path / "s"


def name_of(folder: Path, what: str) -> str:
    return {"data": data_name, "latents": latents_name}.get(what, lambda _: what)(folder)


@pytest.mark.parametrize("what", ["data", "latents", "preview.png", "README.md"])
def test_a_flipped_bit(folder: Path, what: str) -> None:
    name = name_of(folder, what)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    assert verify(str(folder)) == [f"{name}: its SHA-256 is not the manifest's"]


@pytest.mark.parametrize("what", ["data", "latents", "preview.png", "README.md"])
def test_a_missing_and_a_cut_file(folder: Path, what: str) -> None:
    name = name_of(folder, what)
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1])
    assert verify(str(folder)) == [f"{name}: {len(data) - 1} bytes, the manifest says {len(data)}"]
    (folder / name).unlink()
    assert f"{name}: missing" in verify(str(folder))


@pytest.mark.parametrize("name", ["data/ipc4/train-00001-of-00002.parquet", "data/ipc9/train-00000-of-00001.parquet"])
def test_a_data_file_that_is_not_listed(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes((folder / data_name(folder)).read_bytes())
    assert verify(str(folder)) == [f"{name}: not in the manifest, but readers of the folder would take it"]


def test_wrong_counts(folder: Path) -> None:
    change_column(folder, "count", lambda counts: [counts[0] + 1, *counts[1:]])
    assert any("counts add up to" in problem for problem in verify(str(folder)))


@pytest.mark.parametrize(
    "change", [lambda w: [2 * x for x in w], lambda w: [*w[:8], *w[11:7:-1]], lambda w: [*w[:8], -w[8], *w[9:]]]
)
def test_wrong_weights(folder: Path, change: Callable[[list[float]], list[float]]) -> None:
    change_column(folder, "weight", change)
    assert "ipc4: class n03 has weights that are not sqrt of its counts" in verify(str(folder))


def test_weights_of_another_mode(folder: Path) -> None:
    change_manifest(folder, lambda m: m.update(weights="density"))
    assert [p for p in verify(str(folder)) if "not density of its counts" in p and p.startswith("ipc4")]


def test_another_class_order(folder: Path) -> None:
    change_manifest(folder, lambda m: m["classes"]["ids"].reverse())
    assert verify(str(folder)) == [f"ipc{ipc}: label 0 says class n01, which the class list does not" for ipc in (1, 4)]


def test_other_class_names(folder: Path) -> None:
    change_manifest(folder, lambda m: m["classes"]["names"].reverse())
    expected = [f"{data_name(folder, ipc)}: its class names are not the manifest's" for ipc in (1, 4)]
    assert verify(str(folder)) == expected


def test_labels_out_of_range(folder: Path) -> None:
    change_column(folder, "label", lambda labels: [*labels[:-1], 3])
    assert "ipc4: label 3 says class n03, which the class list does not" in verify(str(folder))


def test_missing_rows(folder: Path) -> None:
    name = data_name(folder)
    pq.write_table(pq.read_table(folder / name).slice(0, 11), folder / name)
    relist(folder, name)
    problems = verify(str(folder))
    assert "ipc4: 11 images, the manifest says 12, IPC × classes 12" in problems
    assert "ipc4: class n03 has 3 images" in problems
    assert "ipc4: latents and images are not in the same order" in problems


@pytest.mark.parametrize(("data", "message"), [(b"not an image", "does not decode"), (b"", "does not decode")])
def test_an_image_that_does_not_decode(folder: Path, data: bytes, message: str) -> None:
    change_column(folder, "image", lambda rows: [*rows[:5], rows[5] | {"bytes": data}, *rows[6:]])
    assert [p.split(": it is")[0] for p in verify(str(folder))] == [f"{data_name(folder)}: n02/00001.png: {message}"]


def test_an_image_that_is_cut_short(folder: Path) -> None:
    change_column(folder, "image", lambda rows: [rows[0] | {"bytes": rows[0]["bytes"][:-40]}, *rows[1:]])
    assert "n01/00000.png: does not decode" in verify(str(folder))[0]


def test_an_image_of_another_size(folder: Path) -> None:
    change_manifest(folder, lambda m: m.update(size=16))
    problems = verify(str(folder))
    assert len(problems) == 15
    assert problems[0].endswith("n01/00000.png: is (12, 12) RGB, not (16, 16) RGB")


def test_images_of_another_mode(folder: Path) -> None:
    change_manifest(folder, lambda m: m.update(channels=1))
    assert verify(str(folder))[0].endswith("is (12, 12) RGB, not (12, 12) L")


def test_an_image_that_stands_for_none(folder: Path) -> None:
    change_column(folder, "count", lambda counts: [0, counts[0] + counts[1], *counts[2:]])
    assert verify(str(folder)) == ["ipc4: class n01 has an image that stands for none"]


def test_latents_in_another_order(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    latents = latents_name(folder)
    save_file({name: tensor.flip(0) for name, tensor in load_file(folder / latents).items()}, folder / latents)
    relist(folder, latents)
    assert verify(str(folder)) == ["ipc4: latents and images are not in the same order"]


def test_a_manifest_cut_short(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text[:-20])
    problems = verify(str(folder))
    assert len(problems) == 1
    assert f"{folder}/manifest.json: damaged" in problems[0]


@pytest.mark.parametrize("key", ["files", "classes", "ipc", "cells", "size", "weights", "channels"])
def test_a_manifest_without_a_part(folder: Path, key: str) -> None:
    change_manifest(folder, lambda m: m.pop(key))
    assert verify(str(folder)) == [f"{folder}/manifest.json: damaged: missing or wrong '{key}'"]


@pytest.mark.parametrize("text", ["[]", "{}", "null", '"x"', "\x00"])
def test_a_manifest_that_is_something_else(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    assert "damaged" in verify(str(folder))[0]


def test_an_ipc_without_files(folder: Path) -> None:
    change_manifest(folder, lambda m: m["files"].pop(latents_name(folder)))
    assert "ipc4: the manifest lists no data or no latents" in verify(str(folder))


def test_no_set(tmp_path: Path) -> None:
    assert verify(str(tmp_path)) == [
        f"{tmp_path}: no manifest.json: not a condensed set, or one that was never finished (run its command again)"
    ]


def test_describe(folder: Path) -> None:
    text = describe(str(folder))
    for part in ("toy: DDOQ, weights sqrt", "3: tench, English springer, crête", "3 × 12 × 12 png by vae"):
        assert part in text
    assert "ipc4" in text
    assert "12 images for" in text
    assert "mean distortion 2.5" in text


def test_the_work_grows_with_the_images_not_with_their_square(tmp_path: Path) -> None:
    def checked(count: int) -> int:
        classes = Classes.of(f"c{k:03d}" for k in range(count))
        write(tmp_path / str(count), ipcs=[2], classes=classes)
        return work(lambda: verify(str(tmp_path / str(count))))

    checked(4)  # what is imported and set up once
    assert checked(160) < 5 * checked(40)
