"""Array sources: digits and idx files, read safely, split, fingerprinted."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import fsspec
import numpy as np
import pytest

from raycond.core.errors import UserError
from raycond.data import arrays, images
from raycond.data.refs import ImageRef
from raycond.data.sources import open_source


def idx(array: np.ndarray) -> bytes:
    return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def written(folder: Path, count: int = 9, packed: bool = False, prefix: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(("train", "t10k")):
        pixels = np.arange(count * 30, dtype=np.uint32).astype(np.uint8).reshape(count, 6, 5) + number
        for kind, array in (("images-idx3", pixels), ("labels-idx1", np.arange(count, dtype=np.uint8) % 3)):
            data = idx(array.astype(np.uint8))
            ending = ".gz" if packed else ""
            path = folder / f"{prefix}{name}-{kind}-ubyte{ending}"
            path.write_bytes(gzip.compress(data, mtime=0) if packed else data)
    return folder


def test_digits_split_scale_and_ids() -> None:
    from sklearn.datasets import load_digits

    data = load_digits()
    train = open_source("digits:", index_dir="x")
    val = open_source("digits:", split="val", index_dir="x", classes=train.classes)
    assert train.classes.ids == tuple("0123456789")
    for label in range(10):
        every = np.flatnonzero(data.target == label)
        assert [ref.offset for ref in val.refs(label)] == every[4::5].tolist()
        assert sorted(r.offset for s in (train, val) for r in s.refs(label)) == every.tolist()
    ref = val.refs(3)[0]
    assert ref == ImageRef(f"digits/{ref.offset:05d}", 3, "digits:", ref.offset, 0)
    image, sha = images.load(ref, size=8, channels=1)
    assert np.array_equal(image[..., 0], np.rint(data.images[ref.offset] / 16 * 255))
    assert sha == images.files.sha256(image.tobytes())
    assert images.load(ref, size=16)[0].shape == (16, 16, 3)
    assert train.fingerprint(0) != val.fingerprint(0)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("prefix", ["", "emnist-letters-"])
def test_idx_folder(tmp_path: Path, packed: bool, prefix: str) -> None:
    source = open_source(str(written(tmp_path, packed=packed, prefix=prefix)), index_dir="x")
    assert source.classes.ids == ("0", "1", "2")
    assert [ref.offset for ref in source.refs(1)] == [1, 4, 7]
    assert source.refs(1)[0].id == f"{prefix}train/00001"
    image, _ = images.load(source.refs(1)[0], size=5, resize="squash", channels=1)
    assert image.shape == (5, 5, 1)
    assert arrays.row(source.refs(1)[0].uri, 1)[0].tolist() == [30, 31, 32, 33, 34]
    val = open_source(str(tmp_path), split="val", index_dir="x", limit=2)
    assert [ref.id.split("/")[0] for ref in val.refs(0)] == [f"{prefix}t10k"] * 2
    assert arrays.row(val.refs(0)[0].uri, 1)[0, 0] == 31


def test_fashion_names_come_from_the_path(tmp_path: Path) -> None:
    folder = written(tmp_path / "fashion-mnist", 30)
    assert open_source(str(folder), index_dir="x").classes.names == ("0", "1", "2")
    labels = idx(np.arange(30, dtype=np.uint8) % 10)
    (folder / "train-labels-idx1-ubyte").write_bytes(labels)
    assert open_source(str(folder), index_dir="x").classes.names[-1] == "Ankle boot"
    (tmp_path / "fashion-mnist").rename(tmp_path / "mnist")
    assert open_source(str(tmp_path / "mnist"), index_dir="x").classes.names[-1] == "9"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("images-idx3", b"", "not an idx file"),
        ("images-idx3", b"\x00\x00\x0d\x03" + bytes(12), "starts with 00000d03, expected 00000803"),
        ("images-idx3", struct.pack(">4I", 0x803, 9, 6, 5) + bytes(269), "announces 270 bytes"),
        ("images-idx3", struct.pack(">4I", 0x803, 9, 6, 5) + bytes(999), "has more than 270"),
        ("images-idx3", struct.pack(">4I", 0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1), "the file has 0|damaged"),
        ("images-idx3", struct.pack(">4I", 0x803, 9, 0, 5), "images of 0 x 5"),
        ("images-idx3", idx(np.zeros((8, 6, 5), np.uint8)), "8 images but .* 9 labels"),
        ("labels-idx1", idx(np.zeros((9, 1), np.uint8)), "starts with 00000802"),
        ("images-idx3", gzip.compress(idx(np.zeros((9, 6, 5), np.uint8)), mtime=0)[:-12], "damaged|announces"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (written(tmp_path) / f"train-{name}-ubyte").write_bytes(data)
    with pytest.raises(UserError, match=message):
        open_source(str(tmp_path), index_dir="x")


def test_a_missing_pair_is_named(tmp_path: Path) -> None:
    (written(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match=r"val split: expected .*t10k or test-images.*train-images, train-labels"):
        open_source(str(tmp_path), split="val", index_dir="x")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    source = open_source(str(written(tmp_path)), index_dir="x")
    before, ref = source.fingerprint(0), source.refs(0)[0]
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(idx(np.full((9, 6, 5), 7, np.uint8)))
    os.utime(path, ns=(5, 5))
    assert images.load(ref, size=6)[0].max() == 7
    assert source.fingerprint(0) != before


def test_remote_idx(tmp_path: Path) -> None:
    for path in written(tmp_path).iterdir():
        fsspec.filesystem("memory").pipe_file(f"/test-idx/{path.name}", path.read_bytes())
    source = open_source("memory://test-idx", index_dir="x")
    assert images.load(source.refs(2)[0], size=5)[0].shape == (5, 5, 3)


@pytest.mark.parametrize(("name", "boot"), [("mnist", "9"), ("fashion-mnist", "Ankle boot")])
def test_real_mnist(real_data: Path, name: str, boot: str) -> None:
    train = open_source(str(real_data / name), index_dir="x")
    val = open_source(str(real_data / name), split="val", index_dir="x", classes=train.classes)
    assert train.classes.names[9] == boot
    assert sum(len(train.refs(k)) for k in range(10)) == 60_000
    assert sum(len(val.refs(k)) for k in range(10)) == 10_000
    mean = np.mean([images.load(ref, size=28, channels=1)[0] for ref in train.refs(0)[:200]])
    assert 30 < mean < 110


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(struct.pack(">4I", 0x803, 60_000, 4000, 4000) + bytes(1000), mtime=0),  # a bomb: 960 GB of pixels
        struct.pack(">4I", 0x803, 60_000, 4000, 4000),
        b"\x1f\x8b" + bytes(30),
        gzip.compress(idx(np.zeros((9, 6, 5), np.uint8)), mtime=0)[:20] + b"\xff" * 20,
    ],
)
def test_hostile_idx_files_are_refused_before_their_pixels(tmp_path: Path, data: bytes) -> None:
    (written(tmp_path) / "train-images-idx3-ubyte").write_bytes(data)
    with pytest.raises(UserError, match="train-images-idx3-ubyte: "):
        open_source(str(tmp_path), index_dir="x")


def test_a_class_list_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("zero\none\ntwo\n")
    source = open_source(str(written(tmp_path / "d")), index_dir="x", class_list=str(tmp_path / "names.txt"))
    assert source.classes.ids == ("zero", "one", "two")
    assert [ref.offset for ref in source.refs(1)] == [1, 4, 7]
    (tmp_path / "names.txt").write_text("2\n0\n1\n")
    source = open_source(str(tmp_path / "d"), index_dir="x", class_list=str(tmp_path / "names.txt"))
    assert [ref.offset for ref in source.refs(0)] == [2, 5, 8]
    (tmp_path / "names.txt").write_text("zero\none\n")
    with pytest.raises(UserError, match="the class list has no 2"):
        open_source(str(tmp_path / "d"), index_dir="x", class_list=str(tmp_path / "names.txt"))
    (tmp_path / "names.txt").write_text("\n".join(str(9 - k) for k in range(10)))
    nine = open_source("digits:", index_dir="x", class_list=str(tmp_path / "names.txt")).refs(0)
    assert [ref.offset for ref in nine] == [ref.offset for ref in open_source("digits:", index_dir="x").refs(9)]


def test_a_listing_counts_the_bytes_of_the_rows(tmp_path: Path) -> None:
    digits = open_source("digits:", index_dir="x")
    assert digits.listing(3).bytes == 64 * len(digits.refs(3))
    source = open_source(str(written(tmp_path)), index_dir="x")
    assert source.listing(0) == (3, source.fingerprint(0), 3 * 30)


def test_a_header_of_no_images_of_billions_of_pixels(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 0, 2**32 - 1, 2**32 - 1))
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte: cannot be read as an idx file"):
        open_source(str(tmp_path), index_dir="x")
