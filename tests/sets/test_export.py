from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

import raycond
from raycond.core.errors import UserError
from raycond.data.classes import Classes
from raycond.data.sources import open_source
from raycond.labels.teacher import open_teacher
from raycond.models import students
from raycond.sets.export import export
from tests.sets.make import CLASSES, change_column, images, relist, write

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def expected(ipc: int = 4, channels: int = 3) -> torch.Tensor:
    every = np.concatenate([images(ipc, label, channels=channels) for label in range(3)])
    return torch.from_numpy(every).permute(0, 3, 1, 2).float() / 255


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def teacher(folder: Path) -> str:
    torch.manual_seed(0)
    torch.save(students.build("convnet3-w8", classes=3, size=12, channels=3).state_dict(), folder / "w.pt")
    return f"convnet3-w8@{folder}/w.pt,mean=0.5,std=0.5"


def test_ddranking_tensors(tmp_path: Path) -> None:
    write(tmp_path / "s", ipcs=(1, 4))
    out = tmp_path / "out"
    about = export(str(tmp_path / "s"), str(out), kind="ddranking", labeler=f"once:{teacher(tmp_path)}")
    found = torch.load(out / "images.pt", weights_only=True)
    assert (found.shape, found.dtype) == ((12, 3, 12, 12), torch.float32)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in IMAGENET)
    torch.testing.assert_close(found, (expected() - mean) / std)
    labels = torch.load(out / "soft_labels.pt", weights_only=True)
    assert (labels.shape, labels.dtype) == ((12, 3), torch.float32)
    torch.testing.assert_close(labels, open_teacher(teacher(tmp_path), classes=CLASSES, device="cpu")(expected()))
    hard = raycond.open(str(tmp_path / "s")).labels
    agreed = int((labels.argmax(1) == hard.sort().values).sum())
    assert about["agreement"]["agreed"] == agreed
    assert about["agreement"]["text"] == f"agrees with the hard labels of {agreed / 0.12:.1f} % of 12 images of the set"
    weights = torch.load(out / "weights.pt", weights_only=True)
    assert torch.equal(weights, raycond.open(str(tmp_path / "s")).weights)
    assert about == json.loads((out / "export.json").read_text())
    assert (about["ipc"], about["images"], about["labeler"]) == (4, 12, "once:convnet3-w8")
    page = (out / "README.md").read_text()
    assert "compute_metrics(image_tensor=images, soft_labels=soft_labels)" in page
    assert str(tmp_path) not in page + (out / "export.json").read_text()


def test_ddranking_folders_are_the_same_images(tmp_path: Path) -> None:
    """As `datasets.ImageFolder(root=image_path, transform=...)` in ddranking reads them."""
    from torchvision import transforms

    write(tmp_path / "s")
    export(str(tmp_path / "s"), str(tmp_path / "out"), kind="ddranking", ipc=4)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*IMAGENET)])
    folder = ImageFolder(str(tmp_path / "out" / "images"), transform=transform)
    assert folder.classes == ["00000", "00001", "00002"]
    assert folder.targets == [0] * 4 + [1] * 4 + [2] * 4
    stacked = torch.stack([folder[k][0] for k in range(12)])
    torch.testing.assert_close(stacked, torch.load(tmp_path / "out" / "images.pt", weights_only=True))
    assert "compute_metrics(image_tensor=images)" in (tmp_path / "out" / "README.md").read_text()
    assert not (tmp_path / "out" / "soft_labels.pt").exists()


def test_ddranking_of_grey_images_with_other_constants(tmp_path: Path) -> None:
    write(tmp_path / "s", channels=1)
    about = export(str(tmp_path / "s"), str(tmp_path / "out"), kind="ddranking", mean=[0.1307], std=[0.3081])
    found = torch.load(tmp_path / "out" / "images.pt", weights_only=True)
    torch.testing.assert_close(found, ((expected(channels=1) - 0.1307) / 0.3081).expand(-1, 3, -1, -1))
    assert (about["mean"], about["std"]) == ([0.1307] * 3, [0.3081] * 3)


def first_files(root: Path, ipc: int) -> list[tuple[Path, int]]:
    """rethinkdc's own reading (imagenet_ipc.py): folders sorted, the first `ipc` file names sorted; it also lists the
    first entry of the root as a class."""
    assert all(entry.is_dir() for entry in root.iterdir())
    found = []
    for label, folder in enumerate(sorted(root.iterdir())):
        names = sorted(p.name for p in folder.iterdir())[:ipc]
        found += [(folder / name, label) for name in names]
    return found


@pytest.mark.parametrize(("image_format", "end"), [("png", "png"), ("jpeg", "jpg"), ("webp", "png")])
def test_rethinkdc(tmp_path: Path, image_format: str, end: str) -> None:
    write(tmp_path / "s", image_format=image_format)
    export(str(tmp_path / "s"), str(tmp_path / "out"), kind="rethinkdc")
    opened = raycond.open(str(tmp_path / "s"))
    found = first_files(tmp_path / "out" / "train", 4)
    assert [label for _, label in found] == opened.labels.tolist()
    assert {path.suffix for path, _ in found} == {f".{end}"}
    for k, (path, _) in enumerate(found):
        if image_format != "webp":
            assert path.read_bytes() == opened.images[k]
        assert np.array_equal(pixels(str(path)), pixels(io.BytesIO(opened.images[k])))  # type: ignore[arg-type]
    assert "rethinkdc train --soft --ipc 4" in (tmp_path / "out" / "README.md").read_text()


def test_many_images_keep_their_order(tmp_path: Path) -> None:
    write(tmp_path / "s", ipcs=(12,))
    export(str(tmp_path / "s"), str(tmp_path / "out"), kind="rethinkdc")
    found = ImageFolder(str(tmp_path / "out" / "train"))
    assert [Path(p).name for p, _ in found.samples[:12]] == [f"{k:05d}.png" for k in range(12)]
    assert np.array_equal(pixels(found.samples[12 + 11][0]), images(12, 1)[11])


@pytest.mark.parametrize("kind", ["ddranking", "rethinkdc", "folder"])
def test_weights_stand_in_the_order_of_the_images_whatever_the_order_of_the_rows(tmp_path: Path, kind: str) -> None:
    """The rows of a data file are turned around: every image must still meet its own weight, count and class."""
    write(tmp_path / "s", ipcs=(4,))
    opened = raycond.open(str(tmp_path / "s"))
    (name,) = opened.manifest.data_files(4)
    table = pq.read_table(tmp_path / "s" / name)
    pq.write_table(table.take(list(range(11, -1, -1))), tmp_path / "s" / name)
    relist(tmp_path / "s", name)
    turned = raycond.open(str(tmp_path / "s"))
    assert turned.labels.tolist() == opened.labels.tolist()[::-1]
    by_image = {data: k for k, data in enumerate(opened.images)}
    export(str(tmp_path / "s"), str(tmp_path / "out"), kind=kind)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "weights.csv").read_text())))
    order = [by_image[(tmp_path / "out" / row["file"]).read_bytes()] for row in rows]
    assert sorted(order) == list(range(12))
    assert opened.labels[order].tolist() == sorted(opened.labels.tolist())
    exported = torch.load(tmp_path / "out" / "weights.pt", weights_only=True)
    assert torch.equal(exported, opened.weights[order])
    assert exported.unique().numel() > 6
    assert [float(row["weight"]) for row in rows] == exported.tolist()
    assert [int(row["count"]) for row in rows] == opened.counts[order].tolist()
    assert [int(row["label"]) for row in rows] == opened.labels[order].tolist()
    if kind == "ddranking":
        images = torch.load(tmp_path / "out" / "images.pt", weights_only=True)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in IMAGENET)
        torch.testing.assert_close(images, (torch.stack([opened[k][0] for k in order]) - mean) / std)


def test_folder_is_a_source(tmp_path: Path) -> None:
    write(tmp_path / "s")
    export(str(tmp_path / "s"), str(tmp_path / "out"), kind="folder", ipc=4)
    source = open_source(str(tmp_path / "out"), index_dir=str(tmp_path / "index"))
    assert source.classes.ids == CLASSES.ids
    assert [len(source.refs(label)) for label in range(3)] == [4, 4, 4]
    assert np.array_equal(pixels(source.refs(1)[2].uri), images(4, 1)[2])
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "weights.csv").read_text())))
    assert [r["file"] for r in rows[3:5]] == ["n01/00003.png", "n02/00000.png"]
    assert [(r["label"], r["class_id"]) for r in rows[3:5]] == [("0", "n01"), ("1", "n02")]
    opened = raycond.open(str(tmp_path / "s"))
    assert torch.equal(torch.tensor([float(r["weight"]) for r in rows]), opened.weights)
    assert [int(r["count"]) for r in rows] == opened.counts.tolist()
    assert torch.equal(torch.load(tmp_path / "out" / "weights.pt", weights_only=True), opened.weights)


def test_folder_of_ids_in_another_order(tmp_path: Path) -> None:
    classes = Classes(("9", "10", "8"), ("nine", "ten", "eight"))
    write(tmp_path / "s", classes=classes)
    export(str(tmp_path / "s"), str(tmp_path / "out"), kind="folder")
    assert "is NOT label order" in (tmp_path / "out" / "README.md").read_text()
    assert json.loads((tmp_path / "out" / "classes.json").read_text()) == classes.to_dict()
    assert np.array_equal(pixels(str(tmp_path / "out" / "9" / "00003.png")), images(4, 0)[3])
    bad = Classes(("a/b", "c", "d"), ("x", "y", "z"))
    write(tmp_path / "bad", classes=bad)
    with pytest.raises(UserError, match="class id 'a/b' cannot name a folder; use --to rethinkdc"):
        export(str(tmp_path / "bad"), str(tmp_path / "no"), kind="folder")
    export(str(tmp_path / "bad"), str(tmp_path / "numbers"), kind="rethinkdc")


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "s")
    path, out = str(tmp_path / "s"), str(tmp_path / "out")
    with pytest.raises(UserError, match=r"--to zip: expected one of\n  ddranking"):
        export(path, out, kind="zip")
    with pytest.raises(UserError, match="--labeler: goes with kind ddranking, not folder"):
        export(path, out, kind="folder", labeler="once:resnet18")
    with pytest.raises(UserError, match="--mean: goes with kind ddranking, not rethinkdc"):
        export(path, out, kind="rethinkdc", mean=[0.5], std=[0.5])
    with pytest.raises(UserError, match="--mean and --std: give both or none"):
        export(path, out, kind="ddranking", mean=[0.5])
    with pytest.raises(UserError, match=r"--std 0: expected one number or three, above 0"):
        export(path, out, kind="ddranking", mean=[0.5], std=[0])
    with pytest.raises(UserError, match="--labeler hard: has no soft labels"):
        export(path, out, kind="ddranking", labeler="hard")
    with pytest.raises(UserError, match="has no IPC 7; it has 1, 4"):
        export(path, out, kind="ddranking", ipc=7)
    assert not Path(out).exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "s")
    out = tmp_path / "out"
    out.mkdir()
    export(str(tmp_path / "s"), str(out), kind="folder")
    before = sorted(p.name for p in out.rglob("*"))
    for kind in ("folder", "ddranking", "rethinkdc"):
        with pytest.raises(UserError, match="out: is not an empty folder; give a new one"):
            export(str(tmp_path / "s"), str(out), kind=kind)
    assert sorted(p.name for p in out.rglob("*")) == before


def test_the_same_set_gives_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "s")
    for name in ("a", "b"):
        export(str(tmp_path / "s"), str(tmp_path / name), kind="ddranking")
    files = [p.relative_to(tmp_path / "a") for p in sorted((tmp_path / "a").rglob("*")) if p.is_file()]
    assert len(files) == 12 + 6
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (("weights.csv", "b", "c"), "class id 'weights.csv' would be the same folder as a file of the export"),
        (("a", "Export.JSON", "c"), "class id 'Export.JSON' would be the same folder as a file of the export"),
        (("a", "README.md", "c"), "would be the same folder"),
        (("a", "A", "c"), "class id 'A' would be the same folder as a"),
        (("é", "e\u0301", "c"), "class id 'e\u0301' would be the same folder as é"),
        (("..", "b", "c"), "cannot name a folder"),
        ((".git", "b", "c"), "cannot name a folder"),
        (("a\x1b[31m", "b", "c"), r"class id 'a\\x1b\[31m' cannot name a folder"),
        (("a\nb", "b", "c"), r"class id 'a\\nb' cannot name a folder"),
        (("x" * 256, "b", "c"), "cannot name a folder"),
        (("", "b", "c"), "cannot name a folder"),
    ],
)
def test_class_ids_that_cannot_be_folders_of_an_export(tmp_path: Path, ids: tuple[str, ...], message: str) -> None:
    write(tmp_path / "s", classes=Classes(ids, ("x", "y", "z")))
    with pytest.raises(UserError, match=f"{message}; use --to rethinkdc|{message}.*; use --to rethinkdc"):
        export(str(tmp_path / "s"), str(tmp_path / "out"), kind="folder")
    assert not (tmp_path / "out").exists()
    export(str(tmp_path / "s"), str(tmp_path / "numbers"), kind="rethinkdc")
    assert len(ImageFolder(str(tmp_path / "numbers" / "train"))) == 12


def test_ids_that_a_spreadsheet_would_run(tmp_path: Path) -> None:
    classes = Classes(("=cmd|' !A0", "-x", "-5"), ("x", "y", "z"))
    write(tmp_path / "s", classes=classes)
    export(str(tmp_path / "s"), str(tmp_path / "out"), kind="folder")
    rows = list(csv.reader(io.StringIO((tmp_path / "out" / "weights.csv").read_text())))[1:]
    assert [row[2] for row in rows[::4]] == ["'=cmd|' !A0", "'-x", "-5"]
    assert all(row[0][0] == "'" for row in rows)
    assert json.loads((tmp_path / "out" / "classes.json").read_text()) == classes.to_dict()


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "s")
    change_column(tmp_path / "s", "image", lambda rows: [*rows[:7], rows[7] | {"bytes": b"damaged"}, *rows[8:]])
    for kind in ("folder", "rethinkdc", "ddranking"):
        with pytest.raises(UserError, match="image 7 does not decode"):
            export(str(tmp_path / "s"), str(tmp_path / "exports" / "out"), kind=kind)
        assert list((tmp_path / "exports").iterdir()) == []


def test_names_in_the_page_of_an_export_are_text(tmp_path: Path) -> None:
    write(tmp_path / "s", name="<script>`\x1b[31m")
    export(str(tmp_path / "s"), str(tmp_path / "out"), kind="folder")
    assert (tmp_path / "out" / "README.md").read_text().startswith("# &lt;script>&#96;\\x1b[31m, condensed by DDOQ\n")
