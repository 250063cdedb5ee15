"""Whatever is in the files of a set, its readers say so in an error of their own that names the file."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import raycond
from raycond.core.errors import UserError
from raycond.sets import tables
from raycond.sets.attach import attach_projector
from raycond.sets.export import export
from raycond.sets.inspect import describe
from raycond.sets.manifest import read_manifest
from raycond.sets.tables import schema
from raycond.sets.verify import verify
from tests.sets.make import CLASSES, change_manifest, data_name, latents_name, relist, write

NAMES = {"data": data_name, "latents": latents_name}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "s")
    return tmp_path / "s"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(size=0), "'size'"),
        (lambda m: m.update(size=10**6), "'size'"),
        (lambda m: m.update(size=True), "'size'"),
        (lambda m: m.update(channels=2), "'channels'"),
        (lambda m: m.update(weights="cubic"), "'weights': cubic"),
        (lambda m: m.update(image_format="gif"), "'image_format'"),
        (lambda m: m.update(ipc=[]), "'ipc'"),
        (lambda m: m.update(ipc=[4, 1]), "'ipc' does not ascend"),
        (lambda m: m.update(ipc=[1, 2]), "'cells.ipc2'"),
        (lambda m: m["cells"]["ipc1"].update(distortion=[1.0]), "has 1 values for 3 classes"),
        (lambda m: m["cells"]["ipc1"].update(distortion=[float("nan")] * 3), "distortion.0'"),
        (lambda m: m["classes"].update(ids=["a", "a", "b"]), "a class id is there twice"),
        (lambda m: m["classes"].update(names=["a"]), "3 class ids, but 1 names"),
        (lambda m: m["classes"].update(ids=["\ud800", "a", "b"]), "'classes.ids.0'"),
        (lambda m: m["files"].update({"../../etc/passwd": m["files"]["README.md"]}), "is no path inside a set"),
        (lambda m: m["files"].update({"/etc/passwd.json": m["files"]["README.md"]}), "is no path inside a set"),
        (lambda m: m["files"].update({"data/../../x.json": m["files"]["README.md"]}), "is no path inside a set"),
        (lambda m: m["files"].update({"http://a.b/c.json": m["files"]["README.md"]}), "is no path inside a set"),
        (lambda m: m["files"].update({"a\\b.json": m["files"]["README.md"]}), "is no path inside a set"),
        (lambda m: m["files"].update({"a\n.json": m["files"]["README.md"]}), "is no path inside a set"),
        (lambda m: m["files"].update({"labels/clip/model.bin": m["files"]["README.md"]}), "may run code"),
        (lambda m: m["files"].update({"labels/teacher.pt": m["files"]["README.md"]}), "may run code"),
        (lambda m: m["files"].update({"set.py": m["files"]["README.md"]}), "may run code"),
        (lambda m: m["files"]["README.md"].update(bytes="5"), "README.md.bytes'"),
        (lambda m: m["source"].pop("uri"), "'source.uri'"),
        (lambda m: m.update(label_generator={"base": 5}), "label_generator|'name'"),
        (lambda m: m.update(diffusion=[]), "valid dictionary"),
    ],
)
def test_what_is_wrong_in_a_manifest_is_named(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    change_manifest(folder, change)
    with pytest.raises(UserError, match=message) as error:
        read_manifest(str(folder))
    assert str(error.value).startswith(f"{folder}/manifest.json: damaged: ")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, "9" * 5000, '"\\ud800"', "\x00", "[1] 2", "\xff"])
def test_a_manifest_that_is_no_json(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"manifest\.json: damaged"):
        read_manifest(str(folder))


@pytest.mark.parametrize("name", ["manifest.json", "data", "latents"])
def test_what_is_no_regular_file_is_not_waited_for(folder: Path, name: str) -> None:
    path = folder / (NAMES[name](folder) if name in NAMES else name)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="regular file"):
        raycond.open(str(folder)).latents()
    assert "regular file" in " ".join(verify(str(folder)))
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "regular file" in " ".join(verify(str(folder)))
    path.unlink()
    path.mkdir()
    assert verify(str(folder))


def test_a_manifest_too_large_to_be_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raycond.sets.manifest.MOST_BYTES", 100)
    with pytest.raises(UserError, match="cannot be read: more than 100 bytes"):
        read_manifest(str(folder))


def test_a_table_of_few_bytes_that_stand_for_many_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One image of a megabyte again and again, in a file of a few kilobytes."""
    monkeypatch.setattr(tables, "GROWTH_BYTES", 2**20)
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 4)
    name, count = data_name(folder), 40
    images = pa.DictionaryArray.from_arrays(pa.array([0] * count), pa.array([b"\0" * 2**20]))
    columns = {
        "image": pa.StructArray.from_arrays([images.cast(pa.binary()), pa.array([""] * count)], ["bytes", "path"]),
        "label": pa.array([0] * count, pa.int64()),
        "weight": pa.array([1.0] * count, pa.float32()),
        "count": pa.array([1] * count, pa.int64()),
        "class_id": pa.array(["n01"] * count),
        "source_id": pa.array([""] * count),
    }
    table = pa.table(columns, schema=schema(CLASSES))
    pq.write_table(table, folder / name, compression="zstd", use_dictionary=True)
    del table, columns, images
    assert (folder / name).stat().st_size < 2**17
    relist(folder, name)
    with pytest.raises(UserError, match=r"take more than .* bytes of memory"):
        raycond.open(str(folder))
    assert "take more than" in " ".join(verify(str(folder)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["count"]), "expected one column count, there are 0"),
        (lambda t: t.append_column("label", t["label"]), "expected one column label, there are 2"),
        (lambda t: t.set_column(1, "label", t["label"].cast(pa.int32())), "column label is int32, not int64"),
        (lambda t: t.set_column(2, "weight", pa.array(["x"] * 12)), "column weight is string, not float"),
        (lambda t: t.set_column(3, "count", pa.array([None] * 12, pa.int64())), "column count has gaps"),
        (lambda t: t.set_column(0, "image", pa.array([{"bytes": None}] * 12, t.schema.types[0])), "has gaps"),
        (lambda t: t.slice(0, 0), "0 images, the manifest says 12"),
        (lambda t: t.slice(0, 5), "5 images, the manifest says 12"),
        (lambda t: t.set_column(1, "label", pa.array([-1] + [0] * 11)), "labels from -1 to 0"),
        (lambda t: t.set_column(1, "label", pa.array([3] * 12)), "labels from 3 to 3, 3 classes"),
        (lambda t: t.set_column(3, "count", pa.array([0] * 12)), "stands for no source image"),
        (lambda t: t.set_column(2, "weight", pa.array([float("nan")] * 12, pa.float32())), "negative or not finite"),
        (lambda t: t.set_column(2, "weight", pa.array([-1.0] * 12, pa.float32())), "negative or not finite"),
    ],
)  # fmt: skip
def test_a_table_of_other_rows_does_not_open(
    folder: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    name = data_name(folder)
    pq.write_table(change(pq.read_table(folder / name)), folder / name)
    relist(folder, name)
    with pytest.raises(UserError, match=message):
        raycond.open(str(folder))
    assert verify(str(folder))


def test_text_that_is_not_utf8_in_a_table(folder: Path) -> None:
    name = data_name(folder)
    table = pq.read_table(folder / name)
    bad = pa.array([b"caf\xe9"] * 12, pa.binary()).view(pa.string())
    pq.write_table(table.set_column(5, "source_id", bad), folder / name)
    relist(folder, name)
    with pytest.raises(UserError, match=r"cannot be read as the Parquet of a condensed set .*UTF8"):
        raycond.open(str(folder))
    assert "UTF8" in " ".join(verify(str(folder)))


@pytest.mark.parametrize(
    "tensors",
    [
        {"latents": torch.zeros(12, 2)},
        {"latents": torch.zeros(12, 2), "labels": torch.zeros(11, dtype=torch.int32)},
        {"latents": torch.zeros(12, 2), "labels": torch.zeros(12)},
        {"latents": torch.zeros(12, 2, dtype=torch.int32), "labels": torch.zeros(12, dtype=torch.int32)},
        {"latents": torch.zeros(()), "labels": torch.zeros((), dtype=torch.int32)},
    ],
)
def test_latents_that_are_something_else(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    name = latents_name(folder)
    save_file(tensors, folder / name)
    relist(folder, name)
    with pytest.raises(UserError, match=r"safetensors: (damaged|cannot be read)"):
        raycond.open(str(folder)).latents()
    assert f"{name}: " in " ".join(verify(str(folder)))


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_an_image_in_another_format_is_not_opened(folder: Path, kind: str) -> None:
    """Readers of other formats are no part of what a set may ask for."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((12, 12, 3), np.uint8)).save(buffer, kind)
    name = data_name(folder)
    table = pq.read_table(folder / name)
    images = pa.array([{"bytes": buffer.getvalue(), "path": "x"}] * 12, table.schema.types[0])
    pq.write_table(table.set_column(0, "image", images), folder / name)
    relist(folder, name)
    with pytest.raises(UserError, match="image 3 does not decode"):
        raycond.open(str(folder))[3]
    assert verify(str(folder))[0].endswith("does not decode: it is no PNG, JPEG or WebP image")


def test_a_small_file_that_claims_a_huge_picture_is_not_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4000, 4000)).save(buffer, "png")
    name = data_name(folder)
    table = pq.read_table(folder / name)
    images = pa.array([{"bytes": buffer.getvalue(), "path": "x"}] * 12, table.schema.types[0])
    pq.write_table(table.set_column(0, "image", images), folder / name)
    relist(folder, name)
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"image 0 is \(4000, 4000\) RGB, not \(12, 12\) RGB"):
        raycond.open(str(folder))[0]


def test_files_that_may_run_code_are_a_problem_wherever_they_lie(folder: Path) -> None:
    for name in ("set.py", "labels/projector/delta.pt", "weights.pkl", "data/ipc4/x.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    problems = verify(str(folder))
    assert sorted(p.split(":")[0] for p in problems) == [
        "data/ipc4/x.bin", "labels/projector/delta.pt", "set.py", "weights.pkl"
    ]  # fmt: skip
    assert sum("may run it" in p for p in problems) == 3


def test_a_link_that_leads_back_to_itself_ends(folder: Path) -> None:
    (folder / "data" / "loop").symlink_to(folder)
    assert verify(str(folder))


@pytest.mark.parametrize("path", ["", "/proc/self/mem", "/dev/null"])
def test_places_that_are_no_set(path: str, tmp_path: Path) -> None:
    for action in (raycond.open, describe, lambda p: export(p, str(tmp_path / "o"), kind="folder")):
        with pytest.raises(UserError):
            action(path)
    assert verify(path)
    with pytest.raises(UserError):
        attach_projector(path, str(tmp_path))
