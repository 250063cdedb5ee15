from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

import raycond
from raycond.core import files
from raycond.data.classes import Classes
from raycond.methods.quantize.codebook import weights
from raycond.sets import writer
from raycond.sets.verify import verify
from tests.sets.make import CLASSES, codebook, data_name, images, latents_name, part, write
from tests.support.work import work


def everything(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_files_and_manifest(tmp_path: Path) -> None:
    manifest = write(tmp_path / "s", ipcs=(4, 1))
    assert manifest == json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert manifest["ipc"] == [1, 4]
    assert manifest["classes"] == CLASSES.to_dict()
    assert (manifest["weights"], manifest["labels"], manifest["image_format"]) == ("sqrt", "hard", "png")
    assert set(everything(tmp_path / "s")) == {*manifest["files"], "manifest.json"}
    for name, facts in manifest["files"].items():
        data = (tmp_path / "s" / name).read_bytes()
        assert facts == {"sha256": files.sha256(data), "bytes": len(data)}
    digest = {name: facts["sha256"][:12] for name, facts in manifest["files"].items()}
    latents = {k: latents_name(tmp_path / "s", k) for k in (1, 4)}
    assert latents == {k: f"latents/ipc{k}-{digest[latents[k]]}.safetensors" for k in (1, 4)}
    data_files = {k: data_name(tmp_path / "s", k) for k in (1, 4)}
    assert data_files == {k: f"data/ipc{k}/train-00000-of-00001-{digest[data_files[k]]}.parquet" for k in (1, 4)}
    assert set(manifest["files"]) == {*latents.values(), *data_files.values(), "preview.png", "README.md"}
    for ipc in (1, 4):
        counted = sum(int(codebook(ipc, label).counts.sum()) for label in range(3))
        cell = {"images": 3 * ipc, "source_images": counted, "distortion": [1.5, 2.5, 3.5]}
        assert manifest["cells"][f"ipc{ipc}"] == cell
    assert manifest["storage_bytes"]["latents"] == sum(manifest["files"][n]["bytes"] for n in latents.values())
    assert manifest["storage_bytes"]["label_generator"] == 0
    assert manifest["storage_bytes"]["images"] >= sum(
        len(i) for k in (1, 4) for c in range(3) for i in part(k, c).images
    )
    assert 0 < manifest["storage_bytes"]["weights"] < 500
    assert verify(str(tmp_path / "s")) == []


def test_written_twice_the_bytes_are_the_same(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert everything(tmp_path / "a") == everything(tmp_path / "b")
    write(tmp_path / "a")
    assert everything(tmp_path / "a") == everything(tmp_path / "b")


def test_pandas_and_pyarrow_read_it(tmp_path: Path) -> None:
    write(tmp_path / "s")
    frame = pd.read_parquet(tmp_path / "s" / "data" / "ipc4")
    assert list(frame) == ["image", "label", "weight", "count", "class_id", "source_id"]
    assert frame.label.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert frame.class_id.tolist() == [CLASSES.ids[label] for label in frame.label]
    assert frame.source_id.tolist() == [f"{c}/{k}.jpg" for c in range(3) for k in range(4)]
    for label, rows in frame.groupby("label"):
        counts = codebook(4, label).counts
        assert rows["count"].tolist() == counts.tolist()
        assert np.array_equal(rows.weight, weights(counts, "sqrt").numpy())
    for row, expected in zip(frame.image, [i for c in range(3) for i in images(4, c)], strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(row["bytes"]))), expected)
    assert frame.image[5]["path"] == "n02/00001.png"
    table = pq.read_table(tmp_path / "s" / data_name(tmp_path / "s", 1))
    assert table.num_rows == 3
    assert [str(t) for t in table.schema.types[1:]] == ["int64", "float", "int64", "string", "string"]


@pytest.mark.parametrize("name", [None, "ipc1", "ipc4"])
def test_hugging_face_datasets_read_it(tmp_path: Path, name: str | None) -> None:
    import datasets

    write(tmp_path / "s")
    found = datasets.load_dataset(str(tmp_path / "s"), name, cache_dir=str(tmp_path / "cache"))
    assert list(found) == ["train"]
    rows = found["train"]
    ipc = 1 if name == "ipc1" else 4
    assert rows.num_rows == 3 * ipc
    assert isinstance(rows.features["image"], datasets.Image)
    assert rows.features["label"] == datasets.ClassLabel(names=list(CLASSES.names))
    assert rows[ipc]["label"] == 1
    assert np.array_equal(np.asarray(rows[ipc]["image"]), images(ipc, 1)[0])
    assert rows["weight"][:] == pd.read_parquet(tmp_path / "s" / "data" / f"ipc{ipc}").weight.tolist()


def test_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    size = sum(map(len, part(4, 0).images)) + codebook(4, 0).centroids.nbytes
    monkeypatch.setattr(writer, "SHARD_BYTES", 2 * size)
    manifest = write(tmp_path / "s")
    shards = [n for n in manifest["files"] if n.startswith("data/ipc4")]
    assert [name.rpartition("-")[0] for name in shards] == [f"data/ipc4/train-0000{k}-of-00002" for k in range(2)]
    latents = [name.rpartition("-")[0] for name in manifest["files"] if name.startswith("latents/")]
    assert latents == ["latents/ipc1", "latents/ipc4-00000-of-00002", "latents/ipc4-00001-of-00002"]
    assert manifest["cells"]["ipc4"]["images"] == 12
    assert verify(str(tmp_path / "s")) == []
    opened = raycond.open(str(tmp_path / "s"), 4)
    assert opened.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert torch.equal(opened.latents(), torch.cat([codebook(4, c).centroids for c in range(3)]))
    assert len(opened.images) == 12
    assert torch.equal((opened[9][0] * 255).round().permute(1, 2, 0), torch.from_numpy(images(4, 2)[1]).float())
    found = datasets.load_dataset(str(tmp_path / "s"), cache_dir=str(tmp_path / "cache"))["train"]
    assert found["label"][:] == opened.labels.tolist()
    monkeypatch.undo()
    write(tmp_path / "s")
    assert len(list((tmp_path / "s" / "data" / "ipc4").iterdir())) == 1
    assert sorted(f.name[:5] for f in (tmp_path / "s" / "latents").iterdir()) == ["ipc1-", "ipc4-"]


def test_a_class_larger_than_a_shard_gets_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SHARD_BYTES", 1)
    manifest = write(tmp_path / "s", ipcs=[2])
    assert len([n for n in manifest["files"] if n.startswith("data/")]) == 3
    assert verify(str(tmp_path / "s")) == []


def test_fewer_ipcs_leave_nothing_behind(tmp_path: Path) -> None:
    write(tmp_path / "s", ipcs=(1, 2, 4))
    write(tmp_path / "s", ipcs=(2,))
    write(tmp_path / "fresh", ipcs=(2,))
    assert everything(tmp_path / "s") == everything(tmp_path / "fresh")
    assert verify(str(tmp_path / "s")) == []


def test_card(tmp_path: Path) -> None:
    names = Classes(("0", "1"), ("yes", "n: o"))
    write(tmp_path / "s", ipcs=(1, 3), classes=names, name="a: b # c")
    _, front, page = (tmp_path / "s" / "README.md").read_text().split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["pretty_name"] == "a: b # c, condensed"
    assert facts["size_categories"] == ["n<1K"]
    assert [(c["config_name"], c.get("default", False)) for c in facts["configs"]] == [("ipc1", False), ("ipc3", True)]
    for config in facts["configs"]:
        assert [f["split"] for f in config["data_files"]] == ["train"]
        assert all((tmp_path / "s" / name).is_file() for f in config["data_files"] for name in f["path"])
    assert '"ipc3"' in page
    assert "2 classes" in page
    assert str(tmp_path) not in front + page
    assert "that are nearest to its latent" in page
    assert "Soft labels" not in page


def test_preview(tmp_path: Path) -> None:
    write(tmp_path / "s", ipcs=(1, 12))
    sheet = Image.open(tmp_path / "s" / "preview.png")
    assert (sheet.format, sheet.mode, sheet.size) == ("PNG", "RGB", (960, 3 * 96))
    first = sheet.crop((1, 97, 95, 191)).resize((12, 12), Image.Resampling.BOX)
    assert np.abs(np.asarray(first, dtype=float) - images(12, 1)[0]).mean() < 8


def test_remote_places(tmp_path: Path) -> None:
    folder = f"memory://test-sets{tmp_path}/s"
    write(folder, ipcs=(1, 2, 4))
    write(folder)
    write(tmp_path / "local")
    assert verify(folder) == []
    assert sorted(e.name[:5] for e in files.listdir(f"{folder}/latents")) == ["ipc1-", "ipc4-"]
    for name, data in everything(tmp_path / "local").items():
        assert files.read_bytes(f"{folder}/{name}") == data
    opened = raycond.open(folder)
    assert (len(opened), opened.ipc) == (12, 4)
    assert torch.equal(opened.latents(), raycond.open(str(tmp_path / "local")).latents())
    files.write_bytes(f"{folder}/preview.png", b"x")
    assert "preview.png: 1 bytes" in verify(folder)[0]


def test_the_work_per_class_does_not_grow_with_the_classes(tmp_path: Path) -> None:
    def counted(count: int) -> int:
        classes = Classes.of(f"c{k:03d}" for k in range(count))
        parts = {(2, label): part(2, label) for label in range(count)}
        return work(lambda: write(tmp_path / str(count), ipcs=[2], classes=classes, load=lambda *key: parts[key]))

    counted(4)  # what is imported and set up once
    assert counted(160) < 4.5 * counted(40)
