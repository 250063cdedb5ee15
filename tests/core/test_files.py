"""The filesystem layer: one behaviour for local and remote places, atomic local writes."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
from pathlib import Path

import pytest

from raycond.core import files
from raycond.core.errors import UserError


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "root") if request.param == "local" else f"memory://test-files{tmp_path}"


def test_write_read_list_delete(root: str) -> None:
    uri = files.join(root, "a", "x.bin")
    assert not files.exists(uri)
    files.write_bytes(uri, b"0123456789")
    files.write_bytes(files.join(root, "b.bin"), b"")
    files.write_bytes(files.join(root, ".hidden"), b"")
    assert files.exists(uri)
    assert files.is_dir(root)
    assert not files.is_dir(uri)
    assert files.read_bytes(uri) == b"0123456789"
    assert files.read_bytes(uri, 3) == b"3456789"
    assert files.read_bytes(uri, 3, 4) == b"3456"
    assert files.read_bytes(uri, 0, 2) == b"01"
    assert [(e.name, e.is_dir) for e in files.listdir(root)] == [("a", True), ("b.bin", False)]
    entry = files.listdir(files.join(root, "a"))[0]
    assert (entry.uri, entry.size) == (uri, 10)
    assert files.entry(uri) == entry
    files.delete(uri)
    files.delete(uri)
    assert not files.exists(uri)


def test_delete_folder(root: str) -> None:
    for name in ("a/x", "a/b/.hidden", "c"):
        files.write_bytes(files.join(root, name), b"1")
    files.delete_folder(files.join(root, "a"))
    files.delete_folder(files.join(root, "a"))
    assert [entry.name for entry in files.listdir(root)] == ["c"]


def test_missing_files_raise(root: str) -> None:
    for action in (files.read_bytes, files.entry, files.listdir):
        with pytest.raises(FileNotFoundError):
            action(files.join(root, "none"))


def test_stamp_changes_with_the_content(root: str) -> None:
    uri = files.join(root, "x")
    files.write_bytes(uri, b"1")
    before = files.entry(uri).stamp
    files.write_bytes(uri, b"2")
    assert files.entry(uri).stamp != before


def test_json_round_trip(root: str) -> None:
    value = {"b": [1, 2.5, None], "a": "é"}
    files.write_json(files.join(root, "x.json"), value)
    assert files.read_json(files.join(root, "x.json")) == value


def test_a_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = str(tmp_path / "x")
    files.write_bytes(uri, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write_bytes(uri, b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x", b"old")]


def test_a_full_disk_names_the_file_that_did_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        files.write_bytes(str(tmp_path / "x"), b"new")
    assert caught.value.filename == str(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_written_files_can_be_read_by_others(tmp_path: Path) -> None:
    files.write_bytes(str(tmp_path / "x"), b"")
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o644


def test_dangling_links_are_listed(tmp_path: Path) -> None:
    os.symlink(tmp_path / "gone", tmp_path / "link")
    os.symlink(tmp_path, tmp_path / "up")
    assert [(e.name, e.is_dir) for e in files.listdir(str(tmp_path))] == [("link", False), ("up", True)]


def test_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert files.absolute("a/../b") == files.absolute(f"file://{tmp_path}/b") == str(tmp_path / "b")
    assert files.absolute("s3://bucket/x/") == "s3://bucket/x"
    assert files.absolute("~") == os.path.expanduser("~")


def test_unknown_schemes_are_user_errors() -> None:
    with pytest.raises(UserError, match="nosuch://x"):
        files.exists("nosuch://x")


def test_digests_do_not_depend_on_order_or_spacing() -> None:
    assert files.digest({"a": 1, "b": [2]}) == files.digest({"b": [2], "a": 1})
    assert files.digest({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()
    assert files.digest([1, 2]) != files.digest([2, 1])


def test_hidden_folders_of_killed_processes_go_with_the_next(tmp_path: Path) -> None:
    node, dead = platform.node(), 2**22 + 1  # above the largest number of a process
    (tmp_path / f".{node}.{dead}.abc.part" / "inside").mkdir(parents=True)
    others = [f".{node}.{os.getpid()}.abc.part", ".somebody-elses.part", f".another-machine.{dead}.abc.part"]
    for name in others:
        (tmp_path / name).mkdir()
    made = files.hidden_folder(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {*others, os.path.basename(made)}
