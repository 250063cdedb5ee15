"""WebDataset tars: indexed once without reading image bytes, resumable, nothing lost."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from raycond.core.errors import UserError
from raycond.data import images, index, tar
from raycond.data.index import IndexSource
from raycond.data.sources import open_source
from tests.data import make
from tests.data.make import png


def members(first: int, count: int, classes: int = 3) -> dict[str, bytes]:
    out: dict[str, bytes] = {}
    for k in range(first, first + count):
        out[f"{k:04d}.{('jpg', 'JPEG', 'png', 'webp')[k % 4]}"] = png(k)
        out[f"{k:04d}.cls"] = f"{k % classes}\n".encode()
    return out


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for k in range(3):
        make.tar(tmp_path / "tars" / f"data-{k:03d}.tar", members(10 * k, 10))
    return tmp_path / "tars"


def opened(uri: Path | str, tmp_path: Path, **options: object) -> IndexSource:
    source = open_source(str(uri), index_dir=str(tmp_path / "index"), **options)  # type: ignore[arg-type]
    assert isinstance(source, IndexSource)
    return source


def test_refs_are_byte_ranges_of_the_images(shards: Path, tmp_path: Path) -> None:
    source = opened(shards, tmp_path)
    assert source.classes.ids == ("0", "1", "2")
    assert [len(source.refs(k)) for k in range(3)] == [10, 10, 10]
    for label in range(3):
        refs = source.refs(label)
        assert [r.id for r in refs] == sorted(r.id for r in refs)
        for ref in refs:
            k = int(ref.id.split("/")[1].split(".")[0])
            assert k % 3 == ref.label == label
            assert np.array_equal(images.load(ref, size=8)[0], images.decode(png(k), size=8))
    assert source.refs(1)[0].id == "data-000.tar/0001.JPEG"


@pytest.mark.parametrize("pattern", ["data-{000..002}.tar", "data-*.tar", "data-{000,001,002}.tar", "data-00[0-2].tar"])
def test_patterns(shards: Path, tmp_path: Path, pattern: str) -> None:
    assert len(opened(shards / pattern, tmp_path).refs(0)) == 10


def test_one_tar_and_patterns_that_miss(shards: Path, tmp_path: Path) -> None:
    assert len(opened(shards / "data-001.tar", tmp_path).refs(0)) == 3
    with pytest.raises(UserError, match=r"2 of 5 files missing, first .*data-003.tar"):
        opened(shards / "data-{000..004}.tar", tmp_path)
    with pytest.raises(UserError, match="matches no file"):
        opened(shards / "other-*.tar", tmp_path)


def test_splits_by_file_name_and_by_folder(tmp_path: Path) -> None:
    make.tar(tmp_path / "a" / "x-train-0.tar", members(0, 6))
    make.tar(tmp_path / "a" / "x-val-0.tar", members(0, 3))
    make.tar(tmp_path / "b" / "train" / "0.tar", members(0, 6))
    make.tar(tmp_path / "b" / "val" / "0.tar", members(0, 3))
    for name in ("a", "b"):
        train = opened(tmp_path / name, tmp_path)
        val = opened(tmp_path / name, tmp_path, split="val", classes=train.classes)
        assert (len(train.refs(0)), len(val.refs(0))) == (2, 1)
    (tmp_path / "a" / "x-val-0.tar").unlink()
    with pytest.raises(UserError, match="no file of the val split"):
        opened(tmp_path / "a", tmp_path, split="val")


def test_labels_from_json(tmp_path: Path) -> None:
    values = [{"label": "cat"}, {"cls": "dog"}, {"class": "cat"}, {"class_id": "ant"}, {"label": True, "cls": "dog"}]
    out = {f"k{k}.json": json.dumps(v).encode() for k, v in enumerate(values)}
    out |= {f"k{k}.jpg": png(k) for k in range(5)}  # after their labels, as some writers sort them
    source = opened(make.tar(tmp_path / "x.tar", out), tmp_path)
    assert source.classes.ids == ("ant", "cat", "dog")
    assert [[ref.id[-6:] for ref in source.refs(k)] for k in range(3)] == [
        ["k3.jpg"],
        ["k0.jpg", "k2.jpg"],
        ["k1.jpg", "k4.jpg"],
    ]


def test_numbers_sort_as_numbers(tmp_path: Path) -> None:
    out = {}
    for k in (0, 2, 10, 100):
        out |= {f"{k}.jpg": png(k), f"{k}.cls": f"{k:03d}".encode()}
    source = opened(make.tar(tmp_path / "x.tar", out), tmp_path)
    assert source.classes.ids == ("0", "2", "10", "100")
    assert source.refs(3)[0].id == "x.tar/100.jpg"


@pytest.mark.parametrize(
    ("name", "text", "ids", "names"),
    [
        ("classes.json", '["a", "b", "c", "d"]', "abcd", "abcd"),
        ("classes.json", '{"2": "two", "1": "one", "0": "nil"}', "210", ("two", "one", "nil")),
        ("classes.json", '{"ids": ["x", "y", "z"], "names": ["X", "Y", "Z"]}', "xyz", "XYZ"),
        ("classes.txt", "a\nb\n\nc c\n", ("a", "b", "c c"), ("a", "b", "c c")),
        ("classes.txt", "n00000001 one, uno\nn00000002 two\nn00000003 3\n", None, ("one", "two", "3")),
    ],
)
def test_class_list_beside_the_tars(
    shards: Path, tmp_path: Path, name: str, text: str, ids: str | None, names: str
) -> None:
    plain = opened(shards, tmp_path / "plain")
    (shards / name).write_text(text)
    source = opened(shards, tmp_path)
    assert source.classes.names == tuple(names)
    assert source.classes.ids == (tuple(ids) if ids else tuple(f"n0000000{k}" for k in (1, 2, 3)))
    for label in range(3):  # "2" names label 2, which is first in that list; otherwise a number is a position
        expected = 2 - label if ids == "210" else label
        assert [ref.id for ref in source.refs(label)] == [ref.id for ref in plain.refs(expected)]


def test_class_list_that_makes_no_sense(shards: Path, tmp_path: Path) -> None:
    (shards / "classes.json").write_text("3")
    with pytest.raises(UserError, match=r"classes.json: cannot be read as a class list"):
        opened(shards, tmp_path)
    (shards / "classes.json").write_text("[]")
    with pytest.raises(UserError, match="holds no class"):
        opened(shards, tmp_path)


def test_bad_records_are_listed_and_not_lost(tmp_path: Path) -> None:
    out = members(0, 3) | {
        "nolabel.jpg": png(),
        "noimage.cls": b"1",
        "text.jpg": png(),
        "text.cls": b"cat",
        "minus.jpg": png(),
        "minus.cls": b"-1",
        "nofield.jpg": png(),
        "nofield.json": b'{"caption": "a cat"}',
        "broken.jpg": png(),
        "broken.json": b"{",
        "0000.png": png(),
        "__index__.json": b"{}",
        "._0001.jpg": b"apple",
        "README": b"hello",
    }
    source = opened(make.tar(tmp_path / "x.tar", out), tmp_path)
    assert {record.id.removeprefix("x.tar/"): (record.label, record.reason) for record in source.bad} == {
        "nolabel.jpg": (-1, "no label (.cls or .json) with this key"),
        "noimage": (1, "no image with this key"),
        "text.jpg": (-1, ".cls holds 'cat', not a whole number"),
        "minus.jpg": (-1, "label -1 is not one of the 3 classes"),
        "nofield.jpg": (
            -1,
            ".json has no label: none of label, cls, class, class_id is a whole number or a text",
        ),
        "broken.jpg": (-1, ".json cannot be parsed"),
        "0000.png": (-1, "a second image with the same key"),
    }
    assert [len(source.refs(k)) for k in range(3)] == [1, 1, 1]
    assert [r.id for r in opened(tmp_path / "x.tar", tmp_path, max_classes=1).bad if r.label == 1] == []


def test_labels_outside_the_class_list_are_bad(shards: Path, tmp_path: Path) -> None:
    (shards / "classes.txt").write_text("a\nb\n")
    source = opened(shards, tmp_path)
    assert {(record.label, record.reason) for record in source.bad} == {(-1, "label 2 is not one of the 2 classes")}
    assert len(source.bad) == 10


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    make.tar(tmp_path / "x.tar", {"a.jpg": png(), "b.txt": b""})
    with pytest.raises(UserError, match="no record has both an image and a label"):
        opened(tmp_path / "x.tar", tmp_path)


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar"])
def test_compressed_tars_are_refused(tmp_path: Path, name: str) -> None:
    path = make.tar(tmp_path / "t" / name, members(0, 3), "w:gz")
    for uri in (path, path.parent):
        with pytest.raises(UserError, match=r"compressed.*plain \.tar files"):
            opened(uri, tmp_path)


MEMBER = 2 * 1024  # an image of under 512 bytes and its label, each with its header


@pytest.mark.parametrize("cut", [0, 10 * MEMBER + 700, 10 * MEMBER + 300])
def test_a_tar_cut_short_is_an_error(tmp_path: Path, cut: int) -> None:
    path = make.tar(tmp_path / "x.tar", members(0, 30))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"x.tar: the tar is cut short or damaged"):
        opened(path, tmp_path)


def test_a_tar_cut_between_members_is_a_bad_record(tmp_path: Path) -> None:
    path = make.tar(tmp_path / "x.tar", members(0, 30))
    path.write_bytes(path.read_bytes()[: 9 * MEMBER])
    source = opened(path, tmp_path)
    assert [(r.id, r.reason) for r in source.bad] == [("x.tar", "the tar has no end mark; it may be cut short")]
    assert [len(source.refs(k)) for k in range(3)] == [3, 3, 3]


def test_a_damaged_header_is_an_error(tmp_path: Path) -> None:
    path = make.tar(tmp_path / "x.tar", members(0, 30))
    data = bytearray(path.read_bytes())
    data[9 * MEMBER + 150] ^= 0xFF  # the header's checksum; tarfile alone would take this for the end
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"x.tar: the tar is cut short or damaged"):
        opened(path, tmp_path)


class Counting(io.FileIO):
    taken = 0

    def read(self, size: int = -1) -> bytes:  # type: ignore[override]
        data = super().read(size)
        Counting.taken += len(data)
        return data


def test_image_bytes_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = {f"{k}.jpg": bytes(200_000) for k in range(5)} | {f"{k}.cls": b"0" for k in range(5)}
    path = make.tar(tmp_path / "x.tar", big)
    monkeypatch.setattr(tar.stream, "reader", lambda uri: Counting(uri))
    entry = index.files.entry(str(path))
    records = list(tar.scan(index.Input("x.tar", entry, "", "")))
    assert len(records) == 5
    assert 0 < Counting.taken < 20_000


def test_an_index_is_made_once_and_again_when_the_tars_change(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned: list[str] = []
    plain = tar.scan

    def counted(source: index.Input) -> object:
        scanned.append(source.name)
        return plain(source)

    monkeypatch.setattr(tar, "scan", counted)
    first = opened(shards, tmp_path)
    assert scanned == ["data-000.tar", "data-001.tar", "data-002.tar"]
    assert opened(shards, tmp_path) == first
    assert len(scanned) == 3
    prints = [first.fingerprint(k) for k in range(3)]
    make.tar(shards / "data-001.tar", members(10, 13))
    make.tar(shards / "data-003.tar", members(30, 1))
    again = opened(shards, tmp_path)
    assert scanned[3:] == ["data-001.tar", "data-003.tar"]
    assert sum(len(again.refs(k)) for k in range(3)) == 34
    assert all(a != again.fingerprint(k) for k, a in enumerate(prints))
    (shards / "data-003.tar").unlink()
    assert sum(len(opened(shards, tmp_path).refs(k)) for k in range(3)) == 33
    assert len(list((tmp_path / "index").glob("tar-*/parts/*"))) == 3


def built(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_killed_build_goes_on_and_ends_the_same(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = opened(shards, tmp_path / "whole")
    scanned: list[str] = []
    plain = tar.scan

    def killed(source: index.Input) -> object:
        scanned.append(source.name)
        for k, record in enumerate(plain(source)):
            if len(scanned) == 2 and k == 4:
                raise KeyboardInterrupt
            yield record

    monkeypatch.setattr(tar, "scan", killed)
    with pytest.raises(KeyboardInterrupt):
        opened(shards, tmp_path / "cut")
    again = opened(shards, tmp_path / "cut")
    assert scanned == ["data-000.tar", "data-001.tar", "data-001.tar", "data-002.tar"]
    assert built(tmp_path / "cut") == built(tmp_path / "whole")
    assert [again.refs(k) for k in range(3)] == [whole.refs(k) for k in range(3)]


def test_merging_in_many_passes_gives_the_same_index(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(shards, tmp_path / "one")
    monkeypatch.setattr(index, "_PASS_ROWS", 1)
    opened(shards, tmp_path / "many")
    assert built(tmp_path / "one") == built(tmp_path / "many")


def test_passes_cover_every_label_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_PASS_ROWS", 10)
    assert list(index._passes([4, 4, 4, 30, 0, 1, 9])) == [(0, 2), (2, 3), (3, 4), (4, 7)]


def test_one_row_group_per_label_even_if_empty(shards: Path, tmp_path: Path) -> None:
    (shards / "classes.txt").write_text("a\nb\nc\nd\n")
    source = opened(shards, tmp_path)
    footer = pq.read_metadata(next((tmp_path / "index").glob("tar-*/classes/*.index.parquet")))
    assert [footer.row_group(k).num_rows for k in range(footer.num_row_groups)] == [10, 10, 10, 0]
    assert source.refs(3) == []


def test_source_is_small_and_survives_pickling(shards: Path, tmp_path: Path) -> None:
    source = opened(shards, tmp_path, limit=2)
    data = pickle.dumps(source)
    assert len(data) < 1500
    assert pickle.loads(data).refs(2) == source.refs(2)
    assert len(source.refs(2)) == 2


def test_a_source_opened_before_a_rebuild_does_not_mix_up_labels(shards: Path, tmp_path: Path) -> None:
    old = opened(shards, tmp_path)
    (shards / "classes.json").write_text('{"2": "two", "1": "one", "0": "nil"}')
    opened(shards, tmp_path)
    with pytest.raises(UserError, match="open the source again"):
        old.refs(0)


def test_a_deleted_index_says_so(shards: Path, tmp_path: Path) -> None:
    source = opened(shards, tmp_path)
    next((tmp_path / "index").glob("tar-*/classes/*.index.parquet")).unlink()
    with pytest.raises(UserError, match="open the source again"):
        source.refs(0)


def test_remote_tars_and_index(tmp_path: Path) -> None:
    make.tar(tmp_path / "a.tar", members(0, 6))
    fsspec.filesystem("memory").pipe_file("/test-tars/a.tar", (tmp_path / "a.tar").read_bytes())
    for _ in range(2):  # built, then reused
        source = open_source("memory://test-tars", index_dir="memory://test-tars-index")
        ref = source.refs(1)[1]
        assert (ref.id, ref.uri) == ("a.tar/0004.jpg", "memory://test-tars/a.tar")
        assert np.array_equal(images.load(ref, size=8)[0], images.decode(png(4), size=8))


def test_same_names_in_several_folders_stay_apart() -> None:
    assert index.short_names(["/r/a/0.tar", "/r/a/1.tar"]) == ["0.tar", "1.tar"]
    assert index.short_names(["/r/a/0.tar", "/r/b/0.tar"]) == ["a/0.tar", "b/0.tar"]
    with pytest.raises(UserError, match="given twice"):
        index.short_names(["/r/0.tar", "/r/0.tar"])


def test_links_and_folders_in_a_tar_are_not_records(tmp_path: Path) -> None:
    path = make.tar(tmp_path / "x.tar", members(0, 3))
    with tarfile.open(path, "a") as file:
        for name, kind in (("d.jpg", tarfile.DIRTYPE), ("l.jpg", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "0000.jpg"
            file.addfile(info)
    assert opened(path, tmp_path).bad == []


def sample(key: str, label: bytes = b"0", ending: str = "jpg") -> dict[str, bytes]:
    return {f"{key}.{ending}": png(len(key)), f"{key}.cls": label}


def test_keys_with_dots_are_samples_of_their_own(tmp_path: Path) -> None:
    out = {name: data for k in range(60) for name, data in sample(f"IMG.{k}").items()} | sample("a") | sample("v1.2/b")
    source = opened(make.tar(tmp_path / "x.tar", out), tmp_path)
    assert (len(source.refs(0)), source.bad) == (62, [])


def test_every_image_that_lost_its_label_is_a_record(tmp_path: Path) -> None:
    out = sample("a", b"1") | {f"IMG.{k}.jpg": png(k) for k in range(60)} | {"IMG.cls": b"0"}
    source = opened(make.tar(tmp_path / "x.tar", out), tmp_path)
    assert sum(record.reason == "no label (.cls or .json) with this key" for record in source.bad) == 60
    numbered = sample("b", b"1") | {"b.1.jpg": png(1), "b.2.jpg": png(2)}  # not fields of b, which a number tells apart
    assert len(opened(make.tar(tmp_path / "y.tar", numbered), tmp_path).bad) == 2


def test_fields_of_a_sample_are_no_samples(tmp_path: Path) -> None:
    out = sample("a") | {"a.seg.png": png(1), "a.depth.png": png(2), "a.txt": b"caption", "a.npy": b"\x93NUMPY"}
    source = opened(make.tar(tmp_path / "x.tar", out), tmp_path)
    assert ([ref.id for ref in source.refs(0)], source.bad) == (["x.tar/a.jpg"], [])


def test_an_image_and_a_label_under_one_short_key_belong_together(tmp_path: Path) -> None:
    out = {"a.image.jpg": png(1), "a.cls": b"0", "b.image.png": png(2), "b.label.cls": b"1"}
    source = opened(make.tar(tmp_path / "x.tar", out), tmp_path)
    assert [[ref.id for ref in source.refs(k)] for k in range(2)] == [["x.tar/a.image.jpg"], ["x.tar/b.image.png"]]
    assert source.bad == []


def test_a_member_repeated_is_recorded_each_time(tmp_path: Path) -> None:
    path = make.tar(tmp_path / "x.tar", sample("a"))
    for _ in range(3):
        make.tar(path, {"a.jpg": png(9)}, "a")
    assert len({record.id for record in opened(path, tmp_path).bad}) == 3


@pytest.mark.parametrize("ending", ["jfif", "JPE", "bmp", "gif", "tif", "img", "bytes", "jpg?size=200"])
def test_images_in_a_tar_are_known_by_their_content(tmp_path: Path, ending: str) -> None:
    out = sample("a", ending=ending) | sample("c/b", b"1")
    source = opened(make.tar(tmp_path / "x.tar", out), tmp_path)
    assert source.refs(0)[0].id == f"x.tar/a.{ending}"
    assert np.array_equal(images.load(source.refs(0)[0], size=8)[0], images.decode(png(1), size=8))


def test_images_without_an_ending(tmp_path: Path) -> None:
    source = opened(make.tar(tmp_path / "x.tar", {"a": png(1), "a.cls": b"0", "notes": b"text"}), tmp_path)
    assert ([ref.id for ref in source.refs(0)], source.bad) == (["x.tar/a"], [])


def test_names_of_any_bytes_in_a_tar(tmp_path: Path) -> None:
    out = sample("caf\udce9", b"1") | sample("a\nb") | {"x\x1b[31m.jpg": png(3)}
    path = tmp_path / os.fsdecode(b"tr\xe9.tar")
    make.tar(path, out)
    source = opened(path, tmp_path)
    assert source.refs(1)[0].id == "tr\\xe9.tar/caf\\xe9.jpg"
    assert images.load(source.refs(1)[0], size=8)[0].shape == (8, 8, 3)
    assert [record.id for record in source.bad] == ["tr\\xe9.tar/x\\x1b[31m.jpg"]
    assert opened(path, tmp_path).refs(0) == source.refs(0)


def test_labels_of_any_text(tmp_path: Path) -> None:
    labels = ["../../etc", "caf\u0065\u0301", "café", "a\u202eb", "\ud800", "a\nb"]
    out = {}
    for k, label in enumerate(labels):
        out |= {f"{k}.jpg": png(k), f"{k}.json": json.dumps({"label": label}).encode()}
    source = opened(make.tar(tmp_path / "x.tar", out), tmp_path)
    assert source.classes.ids == ("../../etc", "\\ud800", "a\\nb", "a\\u202eb", "café")
    assert [len(source.refs(k)) for k in range(5)] == [1, 1, 1, 1, 2]


def test_texts_of_digits_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    out = {}
    for k in (10, 9, 1):
        out |= {f"{k}.jpg": png(k), f"{k}.json": json.dumps({"label": str(k)}).encode()}
    assert opened(make.tar(tmp_path / "x.tar", out), tmp_path).classes.ids == ("1", "9", "10")


def test_a_class_list_of_the_user(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("2\n0\n1\n")
    plain = [ref.id for ref in opened(shards, tmp_path).refs(2)]
    source = opened(shards, tmp_path, class_list=str(tmp_path / "list.txt"))
    assert source.classes.ids == ("2", "0", "1")
    assert [ref.id for ref in source.refs(0)] == plain
    (tmp_path / "list.txt").write_text("2\n0\n")
    with pytest.raises(UserError, match="the class list has no 1"):
        opened(shards, tmp_path, class_list=str(tmp_path / "list.txt"))


def test_a_damaged_index_is_made_again(shards: Path, tmp_path: Path) -> None:
    source = opened(shards, tmp_path)
    folder = next((tmp_path / "index").glob("tar-*"))
    for pattern in ("manifest.json", "parts/*", "classes/*.index.parquet", "classes/*.bad.parquet"):
        for path in sorted(folder.glob(pattern))[:1]:
            path.write_bytes(path.read_bytes()[:40])
            if pattern == "classes/*.index.parquet":
                index._footer.cache_clear()
                with pytest.raises(UserError, match="cannot be read as an index .*; open the source again"):
                    source.refs(0)
                (folder / "manifest.json").unlink()
            elif pattern == "classes/*.bad.parquet":
                with pytest.raises(UserError, match="cannot be read as a list of bad images"):
                    _ = source.bad
                (folder / "manifest.json").unlink()
            elif pattern == "parts/*":
                (folder / "manifest.json").unlink()
            index._footer.cache_clear()
            again = opened(shards, tmp_path)
            assert [again.refs(k) for k in range(3)] == [source.refs(k) for k in range(3)]
            assert again.bad == []


def test_an_archive_of_class_folders_says_to_unpack_it(tmp_path: Path) -> None:
    make.tar(tmp_path / "d" / "x.tar", {"a/x.jpg": png(), "b/y.jpg": png()})
    with pytest.raises(UserError, match=r"no record has both .* \(an archive of class folders must be unpacked\)"):
        opened(tmp_path / "d", tmp_path)


def test_a_pipe_called_tar_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.tar")
    with pytest.raises(UserError, match="not a regular file"):
        opened(tmp_path / "x.tar", tmp_path)
