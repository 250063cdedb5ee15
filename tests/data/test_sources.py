"""open_source: options are checked, kinds are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from raycond.core.errors import UserError
from raycond.data import locate
from raycond.data.sources import Source, open_source
from tests.data import make
from tests.data.make import png


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "valid"}, "split: 'valid'"),
        ({"limit": 0}, "limit: must be at least 1"),
        ({"max_classes": -1}, "max_classes: must be at least 1"),
    ],
)
def test_nonsense_options(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_source("digits:", index_dir="x", **options)


def test_files_of_no_known_kind(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_bytes(b"x")
    with pytest.raises(UserError, match=r"neither .tar nor .parquet"):
        open_source(str(tmp_path / "x.dat"), index_dir="x")
    with pytest.raises(UserError, match="no folders and no data files"):
        open_source(str(tmp_path), index_dir="x")


def test_kinds_are_told_apart(tmp_path: Path) -> None:
    make.tree(tmp_path / "folder" / "only" / "train", {"a": 1, "b": 1})
    make.tar(tmp_path / "tars" / "deep" / "x.tar", {"a.jpg": png(), "a.cls": b"0"})
    assert locate.locate(str(tmp_path / "folder"), "train")[:2] == ("folder", f"{tmp_path}/folder/only/train")
    place = locate.locate(str(tmp_path / "tars"), "train")
    assert (place.kind, place.names) == ("tar", (f"{tmp_path}/tars/deep/x.tar",))


def test_a_relative_path_means_the_same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make.tree(tmp_path / "set", {"a": 1, "b": 1})
    monkeypatch.chdir(tmp_path)
    source: Source = open_source("set", index_dir="index")
    monkeypatch.chdir("/")
    assert source.refs(0)[0].uri == f"{tmp_path}/set/a/a_0.png"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("x", ["x"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("a-{8..10}", ["a-8", "a-9", "a-10"]),
        ("{a,b}-{0..1}", ["a-0", "a-1", "b-0", "b-1"]),
    ],
)
def test_braces(pattern: str, names: list[str]) -> None:
    assert locate._braces(pattern) == names


def test_a_folder_with_brackets_in_its_name(tmp_path: Path) -> None:
    make.tree(tmp_path / "set[1]", {"a": 1, "b": 1})
    assert len(open_source(str(tmp_path / "set[1]"), index_dir="x").refs(0)) == 1
    with pytest.raises(UserError, match="last part of the path only"):
        open_source(str(tmp_path / "no*" / "x-*.tar"), index_dir="x")


def test_a_set_of_one_class(tmp_path: Path) -> None:
    source = open_source(str(make.tree(tmp_path / "s", {"a": 3})), index_dir="x")
    assert (source.classes.ids, len(source.refs(0))) == (("a",), 3)
