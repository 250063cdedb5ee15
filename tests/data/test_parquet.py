"""Parquet with an image column: bytes copied once into packs, columns found, nothing lost."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raycond.core.errors import BadImage, ClassMismatch, UserError
from raycond.data import images, parquet
from raycond.data.index import IndexSource
from raycond.data.sources import open_source
from tests.data.make import png

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def features(image: str = "image", label: str = "label", names: list[str] | None = None) -> dict[bytes, bytes]:
    kinds: dict[str, Any] = {image: {"_type": "Image"}, label: {"dtype": "int64", "_type": "Value"}}
    if names:
        kinds[label] = {"names": names, "_type": "ClassLabel"}
    return {b"huggingface": json.dumps({"info": {"features": kinds}}).encode()}


def written(
    path: Path,
    labels: list[Any],
    pictures: list[Any] | None = None,
    *,
    image: str = "image",
    label: str = "label",
    metadata: dict[bytes, bytes] | None = None,
    kind: pa.DataType = PICTURE,
    first: int = 0,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if pictures is None:
        pictures = [{"bytes": png(first + k), "path": None} for k in range(len(labels))]
    table = pa.table({image: pa.array(pictures, kind), label: pa.array(labels)})
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=7)
    return path


def opened(uri: Path | str, tmp_path: Path, **options: Any) -> IndexSource:
    source = open_source(str(uri), index_dir=str(tmp_path / "index"), **options)
    assert isinstance(source, IndexSource)
    return source


@pytest.fixture
def two(tmp_path: Path) -> Path:
    names = features(names=["ant", "bee", "cow"])
    for k in range(2):
        path = tmp_path / "set" / "data" / f"train-0000{k}-of-00002.parquet"
        written(path, [j % 3 for j in range(40)], metadata=names, first=40 * k)
    written(tmp_path / "set" / "data" / "validation-0.parquet", [0, 1, 2], metadata=names)
    (tmp_path / "set" / "README.md").write_text("x")
    return tmp_path / "set"


def test_refs_point_at_the_same_bytes(two: Path, tmp_path: Path) -> None:
    source = opened(two, tmp_path)
    assert source.classes.ids == ("ant", "bee", "cow")
    assert [len(source.refs(k)) for k in range(3)] == [28, 26, 26]
    ref = source.refs(1)[-1]
    assert ref.id == "train-00001-of-00002.parquet/00000037"
    for ref in source.refs(1):
        k = 40 * int(ref.id.split("-")[1]) + int(ref.id.rsplit("/", 1)[1])
        assert np.array_equal(images.load(ref, size=8)[0], images.decode(png(k), size=8))
    packs = list((tmp_path / "index").rglob("*.bin"))
    assert len(packs) == 2
    assert sum(pack.stat().st_size for pack in packs) == sum(len(png(k)) for k in range(80))
    val = opened(two, tmp_path, split="val", classes=source.classes)
    assert [len(val.refs(k)) for k in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("image", "label", "values", "ids"),
    [
        ("image", "label", [3, 1, 20], ("1", "3", "20")),
        ("img", "fine_label", ["b", "a", "c"], ("a", "b", "c")),
        ("jpg", "cls", [True, False, True], ("0", "1")),
        ("img", "labels", pa.array(["y", "x", "y"]).dictionary_encode().to_pylist(), ("x", "y")),
    ],
)
def test_columns_by_name(tmp_path: Path, image: str, label: str, values: list[Any], ids: tuple[str, ...]) -> None:
    for kind in (PICTURE, pa.binary(), pa.large_binary()):
        pictures = [{"bytes": png(k), "path": "x.png"} if kind == PICTURE else png(k) for k in range(3)]
        path = written(
            tmp_path / f"{kind}.parquet".replace("<", "_"), values, pictures, image=image, label=label, kind=kind
        )
        source = opened(path, tmp_path)
        assert source.classes.ids == ids
        assert sum(len(source.refs(k)) for k in range(len(ids))) == 3
        assert images.load(source.refs(0)[0], size=8)[0].shape == (8, 8, 3)


def test_columns_by_features_and_by_option(tmp_path: Path) -> None:
    meta = features("photo", "species", ["a", "b"])
    path = written(tmp_path / "x.parquet", [1, 0], image="photo", label="species", metadata=meta)
    assert opened(path, tmp_path).classes.ids == ("a", "b")
    path = written(tmp_path / "y.parquet", [1, 0], image="photo", label="species")
    with pytest.raises(UserError, match=r"Columns: photo \(struct.*species \(int64\)"):
        opened(path, tmp_path)
    source = opened(path, tmp_path, image_column="photo", label_column="species")
    assert source.classes.ids == ("0", "1")
    with pytest.raises(UserError, match="image_column 'species' is not a column of a usable type"):
        opened(path, tmp_path, image_column="species", label_column="species")


def test_float_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give label_column"):
        opened(written(tmp_path / "x.parquet", [1.0, 0.5]), tmp_path)


def test_repeated_class_names_get_numbers_as_ids(tmp_path: Path) -> None:
    path = written(tmp_path / "x.parquet", [0, 1], metadata=features(names=["crane", "crane"]))
    classes = opened(path, tmp_path).classes
    assert (classes.ids, classes.names) == (("0", "1"), ("crane (0)", "crane (1)"))


def test_bad_rows_are_listed_and_paths_are_followed(tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "a.png").write_bytes(png(5))
    pictures = [
        {"bytes": png(0), "path": None},
        {"bytes": None, "path": None},
        None,
        {"bytes": None, "path": "pics/a.png"},
        {"bytes": None, "path": str(tmp_path / "pics" / "a.png")},
        {"bytes": None, "path": "pics/gone.png"},
        {"bytes": png(1), "path": None},
        {"bytes": png(2), "path": None},
        {"bytes": png(3), "path": None},
        {"bytes": png(4), "path": None},
    ]
    labels = [0, 0, 1, 0, 1, 1, None, -1, 2, 1]
    path = written(tmp_path / "x.parquet", labels, pictures, metadata=features(names=["a", "b"]))
    source = opened(path, tmp_path)
    assert [(r.id[-1], r.label, r.class_id, r.reason) for r in source.bad] == [
        ("1", 0, "a", "no image"),
        ("2", 1, "b", "no image"),
        ("5", 1, "b", "no image bytes, and no file at its path"),
        ("6", -1, "", "no label"),
        ("7", -1, "", "label -1 is not one of the 2 classes"),
        ("8", -1, "", "label 2 is not one of the 2 classes"),
    ]
    assert [ref.id[-1] for ref in source.refs(0)] == ["0", "3"]
    assert source.refs(0)[1].uri == source.refs(1)[0].uri == str(tmp_path / "pics" / "a.png")
    for ref, seed in zip([*source.refs(0), *source.refs(1)], [0, 5, 5, 4], strict=True):
        assert np.array_equal(images.load(ref, size=8)[0], images.decode(png(seed), size=8))


def test_only_paths_make_no_pack(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(5))
    kind = pa.struct([("bytes", pa.null()), ("path", pa.string())])
    source = opened(written(tmp_path / "x.parquet", [0], [{"bytes": None, "path": "a.png"}], kind=kind), tmp_path)
    assert source.refs(0)[0].uri == str(tmp_path / "a.png")
    before = source.fingerprint(0)
    assert opened(tmp_path / "x.parquet", tmp_path).fingerprint(0) == before


def test_files_must_agree(tmp_path: Path) -> None:
    written(tmp_path / "set" / "a.parquet", [0, 1], metadata=features(names=["a", "b"]))
    written(tmp_path / "set" / "b.parquet", [0, 1], metadata=features(names=["b", "a"]))
    with pytest.raises(ClassMismatch, match="another order"):
        opened(tmp_path / "set", tmp_path)
    written(tmp_path / "set" / "b.parquet", [0, 1], image="picture")
    with pytest.raises(UserError, match=r"b.parquet: image_column 'image' is not a column"):
        opened(tmp_path / "set", tmp_path)


@pytest.mark.parametrize("data", [b"", b"PAR1 this is not Parquet PAR1"])
def test_damaged_files_are_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(UserError, match=r"x.parquet: cannot be read as Parquet"):
        opened(tmp_path / "x.parquet", tmp_path)


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "x.parquet", [0] * 30)
    data = bytearray(path.read_bytes())
    data[200:4000] = bytes(3800)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"x.parquet: cannot be read as Parquet"):
        opened(path, tmp_path)
    assert list((tmp_path / "index").rglob("*.bin")) == []


def built(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_killed_copy_goes_on_and_ends_the_same(two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(two, tmp_path / "whole")
    copied: list[str] = []
    plain = parquet._batches

    def killed(uri: str, image: str, label: str) -> Iterator[Any]:
        copied.append(uri[-18:-17])
        for k, batch in enumerate(plain(uri, image, label)):
            if len(copied) == 2 and k == 1:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(parquet, "_batches", killed)
    with pytest.raises(KeyboardInterrupt):
        opened(two, tmp_path / "cut")
    # A process killed outright leaves its half-written pack behind.
    leftover = next((tmp_path / "cut").rglob("packs")) / ".x.part"
    leftover.write_bytes(b"half")
    opened(two, tmp_path / "cut")
    assert copied == ["0", "1", "1"]
    assert built(tmp_path / "cut") == built(tmp_path / "whole")


def test_a_lost_pack_is_copied_again(two: Path, tmp_path: Path) -> None:
    source = opened(two, tmp_path)
    pack = Path(source.refs(0)[0].uri)
    data = pack.read_bytes()
    pack.write_bytes(data[:-1])
    opened(two, tmp_path)
    assert pack.read_bytes() == data
    pack.unlink()
    opened(two, tmp_path)
    assert pack.read_bytes() == data


def test_the_index_folder_may_move(two: Path, tmp_path: Path) -> None:
    source = opened(two, tmp_path)
    before = [source.fingerprint(k) for k in range(3)]
    (tmp_path / "index").rename(tmp_path / "moved")
    moved = open_source(str(two), index_dir=str(tmp_path / "moved"))
    assert not (tmp_path / "index").exists()
    assert images.load(moved.refs(0)[0], size=8)[0].shape == (8, 8, 3)
    assert [moved.fingerprint(k) for k in range(3)] == before


def test_remote_parquet_and_packs(tmp_path: Path) -> None:
    path = written(tmp_path / "x.parquet", [0, 1, 0])
    fsspec.filesystem("memory").pipe_file("/test-parquet/x.parquet", path.read_bytes())
    for _ in range(2):
        source = open_source("memory://test-parquet/x.parquet", index_dir="memory://test-parquet-index")
        ref = source.refs(0)[1]
        assert ref.uri.startswith("memory://test-parquet-index/parquet-")
        assert np.array_equal(images.load(ref, size=8)[0], images.decode(png(2), size=8))


def test_a_hugging_face_dataset_opens(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = {"image": [Image.new("RGB", (9, 9), (k, 0, 0)) for k in (10, 20)], "label": [1, 0]}
    datasets.Dataset.from_dict(rows, features=kinds).to_parquet(str(tmp_path / "x.parquet"))
    source = opened(tmp_path / "x.parquet", tmp_path)
    assert source.classes.ids == ("no", "yes")
    assert [images.load(source.refs(k)[0], size=9)[0][0, 0, 0] for k in range(2)] == [20, 10]


@pytest.mark.parametrize("names", ["0 1 10 2", "00000 00001 00002", "1990 1991 1992", "1 2 3", "3 2 1 0"])
def test_a_number_under_a_class_label_is_a_position(tmp_path: Path, names: str) -> None:
    listed = names.split()
    labels = [k % len(listed) for k in range(12)]
    source = opened(written(tmp_path / "x.parquet", labels, metadata=features(names=listed)), tmp_path)
    assert source.classes.ids == tuple(listed)
    for k in range(len(listed)):
        assert [int(ref.id[-8:]) % len(listed) for ref in source.refs(k)] == [k] * (12 // len(listed))


def test_a_class_list_of_the_user_orders_the_names_of_a_class_label(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("cow\nant\nbee\n")
    path = written(tmp_path / "x.parquet", [0, 1, 2, 2], metadata=features(names=["ant", "bee", "cow"]))
    source = opened(path, tmp_path, class_list=str(tmp_path / "list.txt"))
    assert source.classes.ids == ("cow", "ant", "bee")
    assert [[int(ref.id[-8:]) for ref in source.refs(k)] for k in range(3)] == [[2, 3], [0], [1]]


def test_texts_of_digits_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    assert opened(written(tmp_path / "x.parquet", ["10", "9", "1"]), tmp_path).classes.ids == ("1", "9", "10")


def test_paths_do_not_lead_out_of_the_source(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(1))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "good.png").write_bytes(png(2))
    os.mkfifo(tmp_path / "set" / "pipe.png")
    paths = [
        "good.png",
        "pipe.png",
        str(tmp_path / "secret.png"),
        "../secret.png",
        f"file://{tmp_path}/secret.png",
        "/etc/passwd",
        f"reference://x::file://{tmp_path}/secret.png",
        "http://127.0.0.1:9/x.png",
        "memory://x.png",
        "a\0b",
        "x" * 5000,
        "sub/../good.png",
    ]
    path = written(tmp_path / "set" / "x.parquet", [0] * len(paths), [{"bytes": None, "path": p} for p in paths])
    source = opened(path, tmp_path)
    assert [Path(ref.uri).name for ref in source.refs(0)] == ["good.png", "pipe.png", "good.png"]
    reasons = {int(record.id[-8:]): record.reason for record in source.bad}
    assert all("leads out of the source" in reasons[k] for k in (2, 3, 4, 5))
    assert all("chained" in reasons[k] for k in (6, 9))
    assert all("another protocol" in reasons[k] for k in (7, 8))
    assert reasons[10] == "no image bytes, and no file at its path"
    with pytest.raises(BadImage, match="not a regular file"):
        images.load(source.refs(0)[1], size=8)


def test_paths_that_the_user_allows(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(png(1))
    fsspec.filesystem("memory").pipe_file("/test-allowed/b.png", png(2))
    pictures = [
        {"bytes": None, "path": p} for p in (f"{tmp_path}/pictures/a.png", "a.png", "memory://test-allowed/b.png")
    ]
    path = written(tmp_path / "set" / "x.parquet", [0, 0, 0], pictures)
    source = opened(path, tmp_path, image_root=str(tmp_path / "pictures"), protocols=["memory"])
    assert [ref.uri for ref in source.refs(0)] == [f"{tmp_path}/pictures/a.png"] * 2 + ["memory://test-allowed/b.png"]
    with pytest.raises(UserError, match=r"leads out of the source \(--image-root allows a folder\)"):
        opened(path, tmp_path)


def test_class_names_of_any_text(tmp_path: Path) -> None:
    names = ["../../x", "caf\u0065\u0301", "a\x1b[31m", "\ud800", "Crane", "crane"]
    source = opened(written(tmp_path / "x.parquet", list(range(6)), metadata=features(names=names)), tmp_path)
    assert source.classes.ids == ("../../x", "café", "a\\x1b[31m", "\\ud800", "Crane", "crane")
    assert source.classes.names[4:] == ("Crane (4)", "crane (5)")


@pytest.mark.parametrize(
    "feature",
    [
        3,
        [],
        {"label": 3},
        {"label": {"_type": "ClassLabel", "names": 3}},
        {"label": {"_type": "ClassLabel", "names": []}},
    ],
)
def test_features_that_make_no_sense_are_passed_over(tmp_path: Path, feature: Any) -> None:
    meta = {b"huggingface": json.dumps({"info": {"features": feature}}).encode()}
    assert opened(written(tmp_path / "x.parquet", [0, 1], metadata=meta), tmp_path).classes.ids == ("0", "1")


def test_texts_that_are_not_utf8_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([png(0), png(1)], pa.binary()), "label": pa.array(["cafe", "x"])})
    pq.write_table(table, tmp_path / "x.parquet", compression="none", use_dictionary=False)
    data = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(data.replace(b"cafe", b"caf\xe9"))
    with pytest.raises(UserError, match=r"x.parquet: cannot be read as Parquet"):
        opened(tmp_path / "x.parquet", tmp_path)


def test_a_small_file_that_stands_for_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_GROWTH_BYTES", 1 << 20)
    zeros = pa.array([bytes(1 << 20)] * 60, pa.binary())
    table = pa.table({"image": zeros, "label": [0] * 60})
    for name, options in (("compressed", {"use_dictionary": False}), ("repeated", {"use_dictionary": True})):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(table, path, compression="zstd", **options)
        assert path.stat().st_size < 1 << 16
        with pytest.raises(UserError, match=r"bytes that stand for more than \d+ bytes of images"):
            opened(path, tmp_path)
        assert list((tmp_path / "index").rglob("*.bin")) == []
