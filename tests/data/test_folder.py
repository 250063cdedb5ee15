"""Class-folder trees: found at any depth, listed when asked, chosen and fingerprinted without regard to order."""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import sys
import unicodedata
from pathlib import Path

import fsspec
import pytest

from raycond.core import files
from raycond.core.errors import BadImage, ClassMismatch, UserError
from raycond.data import class_names, folder, quarantine, rows
from raycond.data.images import load, load_many
from raycond.data.quarantine import BadRecord
from raycond.data.sources import open_source
from tests.data import make
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
    with pytest.raises(UserError, match=r"has train/ but no val, valid, validation, dev or test/"):
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
    for name in ("notes.txt", ".hidden.png", "README", "x.jpg.md5", "Thumbs.db"):
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
    class_names._imagenet.cache_clear()
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


def encoded(kind: str) -> bytes:
    return make.encoded(make.picture(1), kind)


@pytest.mark.parametrize(
    "name",
    ["1.jfif", "2.jpe", "3", "4.jpg?size=200", "5.JPEG_1", "image.php", "6.dat", "7.tmp", "photo.of.a.cat", "8.jpg~"],
)
def test_the_content_decides_what_an_image_is(tmp_path: Path, name: str) -> None:
    for class_id in ("a", "b"):  # all files of the source have the odd ending
        (tmp_path / "s" / class_id).mkdir(parents=True)
        (tmp_path / "s" / class_id / name).write_bytes(encoded("JPEG"))
    source = open_source(str(tmp_path / "s"), index_dir="x")
    assert [ref.id for ref in source.refs(1)] == [f"b/{name}"]
    assert load(source.refs(1)[0], size=8)[0].shape == (8, 8, 3)


def test_every_file_of_a_class_is_an_image_a_record_or_known_for_something_else(tmp_path: Path) -> None:
    folder = tree(tmp_path / "s", {"a": 1, "b": 1}) / "a"
    odd = {
        "x.heic": b"\0\0\0\x1cftypheic",
        "y": b"no image",
        "z.jpg": b"",
        "w.avif": encoded("PNG"),
        "v.xyz": b"\0" * 90,
    }
    for name, data in odd.items():
        (folder / name).write_bytes(data)
    for name in ("labels.txt", "box.xml", "meta.json", "Thumbs.db", "desktop.ini", "README", "SHA256SUMS.sha256"):
        (folder / name).write_text("x")
    source = open_source(str(tmp_path / "s"), index_dir="x")
    results = {ref.id: image for ref, image, _ in load_many(source.refs(0), size=8)}
    bad = {name: image.reason for name, image in results.items() if isinstance(image, BadImage)}
    assert bad == {
        "a/x.heic": "not an image in a known format: HEIC",
        "a/y": "not an image in a known format",
        "a/z.jpg": "empty (0 bytes)",
        "a/v.xyz": "not an image in a known format",
    }
    assert results.keys() - bad.keys() == {"a/a_0.png", "a/w.avif"}


def test_images_beside_the_class_folders_are_recorded(tmp_path: Path) -> None:
    root = tree(tmp_path / "s", {"a": 1, "b": 1})
    for name, data in {"stray.jpg": b"x", "unnamed": png(), "notes": b"text", "list.csv": b"x"}.items():
        (root / name).write_bytes(data)
    source = open_source(str(root), index_dir="x")
    assert [(r.id, r.label, r.reason) for r in source.bad] == [
        ("stray.jpg", -1, "lies outside the class folders"),
        ("unnamed", -1, "lies outside the class folders"),
    ]


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_a_record_and_does_not_block(tmp_path: Path, kind: str) -> None:
    source = open_source(str(tree(tmp_path / "s", {"a": 1, "b": 1})), index_dir="x")
    path = tmp_path / "s" / "a" / "odd.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path may have 108 bytes
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
        os.chdir(here)
    else:
        os.symlink("/dev/zero", path)
    with pytest.raises(BadImage, match="not a regular file"):
        load(source.refs(0)[1], size=8)


def test_a_pipe_among_the_names_that_are_sniffed(tmp_path: Path) -> None:
    root = tree(tmp_path / "s", {"a": 1, "b": 1})
    os.mkfifo(root / "odd")
    (root / "c").mkdir()
    os.mkfifo(root / "c" / "0")
    source = open_source(str(root), index_dir="x")
    assert (source.classes.ids, source.bad) == (("a", "b"), [])


@pytest.mark.parametrize(
    "name", [b"caf\xe9", "日本".encode(), b"a\nb", b"\x1b[31mred", "\u202egnp".encode(), b"we\\ird"]
)
def test_names_of_any_bytes_are_carried_and_can_be_stored(tmp_path: Path, name: bytes) -> None:
    root = tree(tmp_path / "s", {"a": 1, "b": 1})
    os.rename(os.fsencode(root / "b"), os.fsencode(root) + b"/" + name)
    os.rename(os.fsencode(root / "a" / "a_0.png"), os.fsencode(root / "a") + b"/" + name + b".png")
    source = open_source(str(root), index_dir="x", limit=1)
    bad = []
    for label in range(2):
        (ref,) = source.refs(label)
        assert load(ref, size=8)[0].shape == (8, 8, 3)
        assert ref.id.isprintable()
        bad.append(BadRecord.of(ref, source.classes.ids[label], f"made up for {ref.uri}"))
    quarantine.write(str(tmp_path / "bad.parquet"), bad)
    assert {r.id for r in quarantine.read(str(tmp_path / "bad.parquet"))} == {r.id for r in bad}
    assert len(source.fingerprint(0)) == 64
    assert all(i.isprintable() and i.encode() for i in (*source.classes.ids, source.description))


def test_composed_and_parted_spellings_of_a_class_are_one(tmp_path: Path) -> None:
    composed, parted = "café", unicodedata.normalize("NFD", "café")
    tree(tmp_path / "train", {composed: 1, "x": 1})
    tree(tmp_path / "val", {parted: 2, "x": 1})  # copied from another system
    train = open_source(str(tmp_path), index_dir="x")
    val = open_source(str(tmp_path), split="val", index_dir="x", classes=train.classes)
    assert len(val.refs(train.classes.index("café"))) == 2
    (tmp_path / "train" / parted).mkdir()
    with pytest.raises(UserError, match=r"are of one class, café; their names are the same text"):
        open_source(str(tmp_path), index_dir="x")


def test_folders_of_digits_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    source = open_source(str(tree(tmp_path, {str(k): 1 for k in range(12)})), index_dir="x")
    assert source.classes.ids == tuple(str(k) for k in range(12))
    assert [source.refs(k)[0].id.split("/")[0] for k in range(12)] == [str(k) for k in range(12)]


def test_a_class_list_gives_the_order(tmp_path: Path) -> None:
    root = tree(tmp_path / "s", {"ant": 1, "bee": 2, "cat": 3})
    listed = tmp_path / "order.json"
    listed.write_text('{"c": "cat", "ant": "the ant", "bee": "bee"}')
    source = open_source(str(root), index_dir="x", class_list=str(listed))
    assert (source.classes.ids, source.classes.names) == (("c", "ant", "bee"), ("cat", "the ant", "bee"))
    assert [len(source.refs(k)) for k in range(3)] == [3, 1, 2]
    assert source.refs(0)[0].id == "c/cat_0.png"
    assert len(open_source(str(root), index_dir="x", class_list=str(listed), max_classes=1).refs(0)) == 3
    listed.write_text('["ant", "bee"]')
    with pytest.raises(UserError, match="the class list has no cat; it must hold every class"):
        open_source(str(root), index_dir="x", class_list=str(listed))
    listed.write_text('["ant", "bee", "cat", "dog"]')
    with pytest.raises(UserError, match="has no folder for dog of the class list"):
        open_source(str(root), index_dir="x", class_list=str(listed))


def test_a_listing_counts_and_fingerprints_at_once(tmp_path: Path) -> None:
    source = open_source(str(tree(tmp_path, {"a": 3, "b": 1})), index_dir="x", limit=2)
    size = sum(Path(ref.uri).stat().st_size for ref in source.refs(0))
    assert source.listing(0) == (2, source.fingerprint(0), size)
    assert source.listing(1).images == 1
