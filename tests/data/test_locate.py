"""The kind of a source and the part of a split, found by looking at all of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from raycond.core.errors import NoSplit, UserError
from raycond.data.rows import RowSource
from raycond.data.sources import open_source
from tests.data import make
from tests.data.make import labelled_parquet, png, tree


def opened(root: Path, **options: object) -> RowSource:
    return open_source(str(root), index_dir=str(root.parent / "index"), **options)  # type: ignore[arg-type]


def counts(source: RowSource) -> dict[str, int]:
    return {class_id: len(source.refs(k)) for k, class_id in enumerate(source.classes.ids)}


# ---- splits


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("Train", "Test"),
        ("TRAIN", "VAL"),
        ("training", "testing"),
        ("Training", "Validation"),
        ("train", "valid"),
        ("train", "dev"),
        ("training_set", "test_set"),
        ("seg_train", "seg_test"),
        ("train2017", "val2017"),
        ("imagenet-train", "imagenet-eval"),
    ],
)
def test_split_folders(tmp_path: Path, train: str, val: str) -> None:
    tree(tmp_path / "d" / train, {"a": 3, "b": 1})
    tree(tmp_path / "d" / val, {"a": 2, "b": 1})
    assert counts(opened(tmp_path / "d")) == {"a": 3, "b": 1}
    source = opened(tmp_path / "d", split="val", require_split=True)
    assert (counts(source), source.split) == ({"a": 2, "b": 1}, val)


def test_test_images_serve_only_where_there_are_no_others(tmp_path: Path) -> None:
    for count, name in ((1, "train"), (2, "Test"), (3, "Valid")):
        tree(tmp_path / "d" / name, {"a": count})
    assert counts(opened(tmp_path / "d", split="val")) == {"a": 3}
    shutil.rmtree(tmp_path / "d" / "Valid")
    assert counts(opened(tmp_path / "d", split="val")) == {"a": 2}


def test_two_folders_of_one_split_are_an_error(tmp_path: Path) -> None:
    for name in ("train", "val", "dev"):
        tree(tmp_path / "d" / name, {"a": 1})
    with pytest.raises(UserError, match="several folders of the val split: dev, val"):
        opened(tmp_path / "d", split="val")


@pytest.mark.parametrize(
    "names", [("Train-0", "Test-0"), ("x_training_0", "x_testing_0"), ("train0", "VALID0"), ("a-train", "a-dev")]
)
@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_split_files(tmp_path: Path, names: tuple[str, str], kind: str) -> None:
    for count, name in zip((3, 2), names, strict=True):
        path = tmp_path / "d" / f"{name}.{kind}"
        if kind == "tar":
            make.tar(
                path, {f"{k}.{end}": png(k) if end == "jpg" else b"0" for k in range(count) for end in ("jpg", "cls")}
            )
        else:
            labelled_parquet(path, [0] * count)
    assert counts(opened(tmp_path / "d")) == {"0": 3}
    assert counts(opened(tmp_path / "d", split="val", require_split=True)) == {"0": 2}
    pattern = tmp_path / "d" / f"*.{kind}"  # a pattern over both takes one split as well
    assert counts(opened(pattern)) == {"0": 3}
    assert counts(opened(pattern, split="val", require_split=True)) == {"0": 2}


def test_data_without_splits_says_so(tmp_path: Path) -> None:
    tree(tmp_path / "d", {"a": 2, "b": 2})
    labelled_parquet(tmp_path / "p" / "data.parquet", [0, 1])
    labelled_parquet(tmp_path / "t" / "x-train-0.parquet", [0, 1])
    for place in (tmp_path / "d", tmp_path / "p", tmp_path / "p" / "data.parquet", tmp_path / "t" / "*.parquet"):
        assert opened(place).classes.ids
        with pytest.raises(NoSplit, match="names no val split"):
            opened(place, split="val", require_split=True)
    assert opened(tmp_path / "d", split="val").split is None  # named as validation images by the user: taken as it is
    with pytest.raises(NoSplit, match="no file of the val split"):
        opened(tmp_path / "t", split="val")


def test_digits_and_idx_files_name_theirs(tmp_path: Path) -> None:
    assert opened(Path("digits:"), split="val", require_split=True).split == "val"


def test_splits_inside_the_class_folders_are_not_taken_as_one(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        tree(tmp_path / "d" / name, {"train": 2, "test": 2})
    with pytest.raises(
        UserError, match=r"splits inside the class folders \(cat/test\); expected <split>/<class>/<image>"
    ):
        opened(tmp_path / "d")


# ---- folders that are no classes


@pytest.mark.parametrize(
    "junk", ["__MACOSX/a", "@eaDir/x.jpg", "$RECYCLE.BIN", "thumbnails", "System Volume Information", "lost+found"]
)
def test_system_folders_are_no_classes_and_that_is_said(tmp_path: Path, junk: str) -> None:
    tree(tmp_path / "d", {"a": 2, "b": 2})
    for root in (tmp_path / "d", tmp_path / "d" / "a"):
        (root / junk).mkdir(parents=True)
        (root / junk / "x.png").write_bytes(png())
    source = opened(tmp_path / "d")
    assert counts(source) == {"a": 2, "b": 2}
    assert f"left alone: {junk.split('/')[0]}" in source.description


def run_folder(root: Path) -> None:
    """As a run leaves it, with images in it."""
    for name in ("work/index/parquet-1/packs/x.bin", "work/preview.png", "set/preview.png", "report.html"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png())
    (root / "config.json").write_text("{}")


@pytest.mark.parametrize("where", ["runs/first", "out", "a/run"])
def test_a_run_inside_the_data_is_no_class(tmp_path: Path, where: str) -> None:
    tree(tmp_path / "d", {"a": 2, "b": 2})
    run_folder(tmp_path / "d" / where)
    assert counts(opened(tmp_path / "d")) == {"a": 2, "b": 2}


def test_the_folder_of_the_run_itself_is_no_class_even_before_it_is_one(tmp_path: Path) -> None:
    tree(tmp_path / "d", {"a": 2, "b": 2})
    index = tmp_path / "d" / "out" / "work" / "index"
    index.mkdir(parents=True)
    (index.parent.parent / "sample.png").write_bytes(png())
    source = open_source(str(tmp_path / "d"), index_dir=str(index))
    assert counts(source) == {"a": 2, "b": 2}
    assert "left alone: out" in source.description


def test_annotations_beside_one_folder_of_classes(tmp_path: Path) -> None:
    tree(tmp_path / "d" / "images", {"a": 2, "b": 2})
    (tmp_path / "d" / "annotations" / "xmls").mkdir(parents=True)
    (tmp_path / "d" / "annotations" / "xmls" / "a_0.xml").write_text("<x/>")
    source = opened(tmp_path / "d")
    assert counts(source) == {"a": 2, "b": 2}
    assert "left alone: annotations" in source.description


def test_a_folder_of_other_files_among_classes_is_none_and_an_empty_one_is(tmp_path: Path) -> None:
    tree(tmp_path / "d", {"a": 2, "b": 2, "empty": 0, "labels": 0})
    (tmp_path / "d" / "labels" / "a.txt").write_text("x")
    source = opened(tmp_path / "d")
    assert counts(source) == {"a": 2, "b": 2, "empty": 0}
    assert "without images left alone: labels" in source.description


# ---- shards beside folders, and folders beside shards


def test_parquet_that_names_the_images_beside_it(tmp_path: Path) -> None:
    tree(tmp_path / "d" / "img", {"x": 2, "y": 2})
    paths = [f"img/{c}/{c}_{k}.png" for c in "xy" for k in range(2)]
    labelled_parquet(tmp_path / "d" / "train.parquet", [1, 0, 1, 0], [{"bytes": None, "path": p} for p in paths])
    source = opened(tmp_path / "d")
    assert counts(source) == {"0": 2, "1": 2}
    assert "1 Parquet file in" in source.description
    assert "left alone: img" in source.description


def test_a_hub_snapshot_with_pictures_for_its_page(tmp_path: Path) -> None:
    labelled_parquet(tmp_path / "d" / "data" / "train-00000-of-00001.parquet", [0, 1, 1])
    labelled_parquet(tmp_path / "d" / "data" / "validation-00000-of-00001.parquet", [0, 1])
    for name in ("assets", "examples"):
        (tmp_path / "d" / name).mkdir()
        (tmp_path / "d" / name / "plot.png").write_bytes(png())
    (tmp_path / "d" / "README.md").write_text("x")
    assert counts(opened(tmp_path / "d")) == {"0": 1, "1": 2}
    assert counts(opened(tmp_path / "d", split="val")) == {"0": 1, "1": 1}


def test_a_folder_of_the_hub_cache(tmp_path: Path) -> None:
    root = tmp_path / "datasets--x--y"
    labelled_parquet(root / "snapshots" / "abc" / "data" / "train-0.parquet", [0, 1])
    labelled_parquet(root / "snapshots" / "old" / "data" / "train-0.parquet", [0])
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc")
    (root / "blobs").mkdir()
    (root / "blobs" / "5f3c").write_bytes(png())
    assert counts(opened(root)) == {"0": 1, "1": 1}
    (root / "refs" / "main").unlink()
    with pytest.raises(UserError, match="several snapshots; name one: abc, old"):
        opened(root)


def test_data_twice_is_an_error_that_says_both(tmp_path: Path) -> None:
    tree(tmp_path / "d", {"a": 1, "b": 1})
    make.tar(tmp_path / "d" / "all.tar", {"x.jpg": png(), "x.cls": b"0"})
    with pytest.raises(UserError, match=r"a data set twice, in class folders \(a, b\) and in all.tar"):
        opened(tmp_path / "d")
    assert counts(opened(tmp_path / "d" / "*.tar")) == {"0": 1}
    labelled_parquet(tmp_path / "e" / "data" / "x.parquet", [0])
    tree(tmp_path / "e", {"a": 1, "b": 1})
    with pytest.raises(UserError, match=r"twice, in class folders \(a, b\) and in data/x.parquet"):
        opened(tmp_path / "e")


def test_an_archive_or_a_table_beside_the_folders_is_left_alone(tmp_path: Path) -> None:
    tree(tmp_path / "d", {"a": 1, "b": 1})
    make.tar(tmp_path / "d" / "original.tar", {"a/x.jpg": png(), "b/y.jpg": png()})  # the tree itself, packed
    source = opened(tmp_path / "d")
    assert counts(source) == {"a": 1, "b": 1}
    assert "original.tar left alone" in source.description


def test_several_data_sets_in_one_folder(tmp_path: Path) -> None:
    for name in ("fine", "coarse"):
        labelled_parquet(tmp_path / "d" / name / "0.parquet", [0])
    with pytest.raises(UserError, match="several data sets: coarse, fine; name one"):
        opened(tmp_path / "d")
    make.tar(tmp_path / "e" / "x.tar", {"x.jpg": png(), "x.cls": b"0"})
    labelled_parquet(tmp_path / "e" / "x.parquet", [0])
    with pytest.raises(UserError, match=r"holds .tar and .parquet files"):
        opened(tmp_path / "e")


def condensed(root: Path) -> None:
    for ipc in (1, 10):
        labelled_parquet(root / "data" / f"ipc{ipc}" / "train-00000-of-00001.parquet", [0, 1] * ipc)
    names = [f"data/ipc{ipc}/train-00000-of-00001.parquet" for ipc in (1, 10)]
    names.append("../secret/ipc10/x.parquet")
    content = {"format_version": 1, "ipc": [1, 10], "files": {name: {} for name in names}}
    (root / "manifest.json").write_text(json.dumps(content))


def test_a_condensed_set_is_a_source_at_its_largest_ipc(tmp_path: Path) -> None:
    condensed(tmp_path / "set")
    source = opened(tmp_path / "set")
    assert counts(source) == {"0": 10, "1": 10}
    assert "a condensed set; its images at IPC 10 are the source" in source.description
    run = tmp_path / "run"
    (run / "work").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    with pytest.raises(UserError, match="a run that has made no set"):
        opened(run)
    shutil.move(tmp_path / "set", run / "set")
    assert counts(opened(run)) == {"0": 10, "1": 10}


@pytest.mark.parametrize("manifest", ["{", "[]", '{"ipc": []}', '{"ipc": ["x"], "files": {}}', '{"ipc": [1]}'])
def test_another_manifest_is_no_condensed_set(tmp_path: Path, manifest: str) -> None:
    labelled_parquet(tmp_path / "d" / "data" / "train.parquet", [0, 1])
    (tmp_path / "d" / "manifest.json").write_text(manifest)
    assert counts(opened(tmp_path / "d")) == {"0": 1, "1": 1}


def test_every_kind_says_what_was_opened(tmp_path: Path) -> None:
    tree(tmp_path / "d" / "train", {"a": 1, "b": 1})
    assert opened(tmp_path / "d").description == f"class folders in {tmp_path}/d/train (split train, 2 classes)"
    assert opened(tmp_path / "d" / "train").description.endswith("(no split named, 2 classes)")
    assert opened(Path("digits:")).description == "scikit-learn's digits (split train, 10 classes)"
