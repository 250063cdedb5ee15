"""Class-folder trees: found at any depth, listed when asked, chosen and fingerprinted without regard to order."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from pathlib import Path

import fsspec
import pytest

from raycond.core import files
from raycond.core.errors import ClassMismatch, UserError
from raycond.data import class_names, folder, rows
from raycond.data.images import load
from raycond.data.sources import open_source
from tests.data.make import png, tree


def test_refs_of_a_tree(tmp_path: Path) -> None:
    source = open_source(str(tree(tmp_path / "set", {"b": 2, "a": 3})), index_dir=str(tmp_path))
    assert source.classes.ids == source.classes.names == ("a", "b")
    assert [ref.id for ref in source.refs(0)] == ["a/a_0.png", "a/a_1.png", "a/a_2.png"]
    assert [(ref.label, ref.uri) for ref in source.refs(1)] == [(1, f"{tmp_path}/set/b/b_{k}.png") for k in range(2)]
    assert source.bad == []
    with pytest.raises(UserError, match="label 2 is not one of the 2"):
        source.refs(2)


@pytest.mark.parametrize("inside", ["", "train", "data/set", "ILSVRC/Data/CLS-LOC/train", "train/images"])
def test_any_depth_of_root(tmp_path: Path, inside: str) -> None:
    tree(tmp_path / "root" / inside, {"a": 1, "b": 1})
    source = open_source(str(tmp_path / "root"), index_dir=str(tmp_path))
    assert [source.refs(k)[0].id for k in range(2)] == ["a/a_0.png", "b/b_0.png"]


@pytest.mark.parametrize("name", ["val", "validation", "test"])
def test_splits(tmp_path: Path, name: str) -> None:
    tree(tmp_path / "train", {"a": 1, "b": 1})
    tree(tmp_path / name, {"a": 2, "b": 2})
    train = open_source(str(tmp_path), index_dir="x")
    val = open_source(str(tmp_path), split="val", index_dir="x", classes=train.classes)
    assert (len(train.refs(0)), len(val.refs(0))) == (1, 2)


def test_a_missing_split_is_not_replaced_by_another(tmp_path: Path) -> None:
    tree(tmp_path / "train", {"a": 1, "b": 1})
    with pytest.raises(UserError, match=r"has train/ but no val or validation or test/"):
        open_source(str(tmp_path), split="val", index_dir="x")
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "ILSVRC_1.JPEG").write_bytes(png())
    with pytest.raises(UserError, match="val/ holds images without class folders"):
        open_source(str(tmp_path), split="val", index_dir="x")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    source = open_source(str(tree(tmp_path, {"boat": 1, "train": 2})), index_dir="x")
    assert source.classes.ids == ("boat", "train")
    assert len(source.refs(1)) == 2


def test_nested_images_extensions_and_what_is_not_an_image(tmp_path: Path) -> None:
    deep = tree(tmp_path / "s", {"a": 1, "b": 1}) / "a" / "x" / "y"
    deep.mkdir(parents=True)
    for name in ("1.JPEG", "2.Jpg", "3.webp", "4.bmp", "5.GIF", "6.tif", "7.tiff", "8.ppm", "9.pgm"):
        (deep / name).write_bytes(png())
    for name in ("notes.txt", ".hidden.png", "png", "x.jpg.md5"):
        (deep / name).write_bytes(b"")
    (tmp_path / "s" / "__MACOSX").mkdir()
    (tmp_path / "s" / "empty").mkdir()
    source = open_source(str(tmp_path / "s"), index_dir="x")
    assert source.classes.ids == ("a", "b", "empty")
    ids = [ref.id for ref in source.refs(0)]
    assert len(ids) == 10
    assert ids == sorted(ids)
    assert ids[1] == "a/x/y/1.JPEG"
    assert source.refs(2) == []


def test_stray_archives_do_not_hide_the_tree(tmp_path: Path) -> None:
    tree(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "raw.tar").write_bytes(b"")
    assert len(open_source(str(tmp_path), index_dir="x").refs(0)) == 1


@pytest.mark.parametrize("inside", [None, "image", "text", "empty"])
def test_no_class_folder_says_what_was_expected(tmp_path: Path, inside: str | None) -> None:
    root = tmp_path / "set"
    if inside is not None:
        root.mkdir()
        for name in ("a", "b") if inside != "image" else ():
            (root / name).mkdir()
            if inside == "text":
                (root / name / "x.txt").write_text("x")
        if inside == "image":
            (root / "x.png").write_bytes(png())
    expected = {None: "does not exist", "image": "images lie directly"}.get(inside, "no class folder with images")
    with pytest.raises(UserError, match=expected) as caught:
        open_source(str(root), index_dir="x")
    assert "expected" in str(caught.value)


def test_a_class_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(str(tree(tmp_path, {"a": 1, "b": 1})), index_dir="x")

    def refuse(_: str) -> list[files.Entry]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "listdir", refuse)
    with pytest.raises(UserError, match=r"/a: the folder cannot be listed \(Permission denied\)"):
        source.refs(0)


def test_a_link_to_its_parent_is_an_error(tmp_path: Path) -> None:
    source = open_source(str(tree(tmp_path, {"a": 1, "b": 1})), index_dir="x")
    os.symlink(tmp_path / "a", tmp_path / "a" / "loop")
    with pytest.raises(UserError, match="point to its own parent"):
        source.refs(0)


def test_a_dangling_link_stays_a_reference(tmp_path: Path) -> None:
    source = open_source(str(tree(tmp_path, {"a": 1, "b": 1})), index_dir="x")
    os.symlink(tmp_path / "gone.png", tmp_path / "a" / "link.png")
    assert [ref.id for ref in source.refs(0)] == ["a/a_0.png", "a/link.png"]


def test_limit_takes_the_smallest_hashes_whatever_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = str(tree(tmp_path, {"a": 20, "b": 3}))
    chosen = open_source(uri, index_dir="x", limit=5).refs(0)
    every = [ref.id for ref in open_source(uri, index_dir="x").refs(0)]
    best = sorted(every, key=lambda i: hashlib.sha1(i.encode()).hexdigest())[:5]
    assert [ref.id for ref in chosen] == sorted(best)
    assert sorted(best) != every[:5]
    assert len(open_source(uri, index_dir="x", limit=5).refs(1)) == 3
    plain = folder.walk
    monkeypatch.setattr(folder, "walk", lambda *a: reversed(list(plain(*a))))
    assert open_source(uri, index_dir="x", limit=5).refs(0) == chosen


def test_max_classes_and_class_mismatch(tmp_path: Path) -> None:
    tree(tmp_path / "train", {"a": 1, "b": 1, "c": 1})
    tree(tmp_path / "val", {"a": 1, "b": 1, "d": 1})
    train = open_source(str(tmp_path), index_dir="x")
    with pytest.raises(ClassMismatch, match="c") as caught:
        open_source(str(tmp_path), split="val", index_dir="x", classes=train.classes)
    assert "a, b, c" in str(caught.value)
    assert "a, b, d" in str(caught.value)
    head = open_source(str(tmp_path), index_dir="x", max_classes=2)
    assert head.classes.ids == ("a", "b")
    val = open_source(str(tmp_path), split="val", index_dir="x", classes=head.classes, max_classes=2)
    assert val.classes == head.classes
    with pytest.raises(ClassMismatch):
        open_source(str(tmp_path), split="val", index_dir="x", classes=head.classes)
    with pytest.raises(UserError, match="not one of the 2"):
        head.refs(2)


def test_fingerprint_follows_names_sizes_and_stamps(tmp_path: Path) -> None:
    source = open_source(str(tree(tmp_path, {"a": 2, "b": 1})), index_dir="x")
    seen = {source.fingerprint(0), source.fingerprint(1)}
    path = tmp_path / "a" / "a_0.png"
    before = source.fingerprint(0)
    assert before == open_source(str(tmp_path), index_dir="y").fingerprint(0)
    os.utime(path, ns=(1, 1))
    seen.add(source.fingerprint(0))
    path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, ns=(1, 1))
    seen.add(source.fingerprint(0))
    path.rename(path.with_name("a_9.png"))
    seen.add(source.fingerprint(0))
    assert len(seen) == 5


def test_nothing_is_held_per_image(tmp_path: Path) -> None:
    source = open_source(str(tree(tmp_path, {"a": 2, "b": 1})), index_dir="x")
    small = len(pickle.dumps(source))
    for k in range(2, 60):
        (tmp_path / "a" / f"a_{k}.png").write_bytes(b"x")
    assert len(source.refs(0)) == 60
    again = open_source(str(tmp_path), index_dir="x")
    assert len(again.refs(0)) == 60
    assert len(pickle.dumps(source)) == len(pickle.dumps(again)) == small
    assert pickle.loads(pickle.dumps(source)).refs(0) == source.refs(0)


def test_remote_tree() -> None:
    memory = fsspec.filesystem("memory")
    for name in ("train/a/1.png", "train/b/x/2.JPG", "val/a/3.png", "val/b/4.png"):
        memory.pipe_file(f"/test-folder/{name}", png())
    source = open_source("memory://test-folder", index_dir="memory://ix")
    assert [ref[:3] for k in range(2) for ref in source.refs(k)] == [
        ("a/1.png", 0, "memory://test-folder/train/a/1.png"),
        ("b/x/2.JPG", 1, "memory://test-folder/train/b/x/2.JPG"),
    ]
    assert load(source.refs(1)[0], size=4)[0].shape == (4, 4, 3)
    with pytest.raises(UserError, match="does not exist"):
        open_source("memory://test-nowhere", index_dir="memory://ix")


def test_wordnet_ids_get_names_where_all_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert class_names.named(["a", "n01440764"]).names == ("a", "n01440764")
    pytest.importorskip("timm")
    assert class_names.named(["n01440764", "n02102040"]).names == ("tench", "English springer")
    assert class_names.named(["n01440764", "n99999999"]).names == ("n01440764", "n99999999")
    monkeypatch.setitem(sys.modules, "timm.data.imagenet_info", None)
    assert class_names.named(["n01440764"]).names == ("n01440764",)


def test_rows_base_is_abstract(tmp_path: Path) -> None:
    source = open_source(str(tree(tmp_path, {"a": 1, "b": 1})), index_dir="x")
    assert isinstance(source, rows.RowSource)
    with pytest.raises(NotImplementedError):
        rows.RowSource("x", source.classes).refs(0)


def test_real_imagenette(real_data: Path, tmp_path: Path) -> None:
    train = open_source(str(real_data / "imagenette"), index_dir=str(tmp_path))
    val = open_source(str(real_data / "imagenette"), split="val", index_dir=str(tmp_path), classes=train.classes)
    assert len(train.classes) == 10
    assert train.classes.names[:3] == ("tench", "English springer", "cassette player")
    assert [len(train.refs(k)) for k in range(10)] == [400] * 10
    assert [len(val.refs(k)) for k in range(10)] == [100] * 10
    for k in range(10):
        image, _ = load(train.refs(k)[0], size=64)
        assert image.shape == (64, 64, 3)
        assert image.std() > 10
