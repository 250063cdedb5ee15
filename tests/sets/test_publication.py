"""A set is replaced by one switch: whoever opens the folder meanwhile gets the former set or the new one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import raycond
from raycond.core import files, stream
from raycond.core.errors import UserError
from raycond.sets.publication import Publication
from raycond.sets.verify import verify
from raycond.sets.writer import ClassPart
from tests.sets.make import CLASSES, part, write


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def former(ipc: int, label: int) -> ClassPart:
    """Parts that differ from the usual ones in every image."""
    other = part(ipc, (label + 1) % 3)
    return ClassPart(label, other.images, other.codebook, other.medoid_ids)


def opened(folder: str) -> list[bytes]:
    return raycond.open(folder).images


def in_pandas(folder: Path) -> list[bytes]:
    return [image["bytes"] for image in pd.read_parquet(folder / "data" / "ipc4").image]


def in_datasets(folder: Path, cache: Path) -> list[Any]:
    import datasets

    rows = datasets.load_dataset(str(folder), "ipc4", cache_dir=str(cache))["train"]
    return [bytes(row["bytes"]) for row in rows.cast_column("image", datasets.Image(decode=False))["image"]]


@pytest.mark.parametrize("place", ["local", "remote"])
def test_while_a_new_set_is_written_the_former_one_is_there(tmp_path: Path, place: str) -> None:
    folder = str(tmp_path / "s") if place == "local" else f"memory://publication{tmp_path}/s"
    write(folder, load=former)
    before, looked = opened(folder), 0

    def load(ipc: int, label: int) -> ClassPart:
        nonlocal looked
        looked += 1
        assert opened(folder) == before
        if place == "local":
            assert verify(folder) == []
            assert in_pandas(tmp_path / "s") == before
            assert in_datasets(tmp_path / "s", tmp_path / "cache") == before
        return part(ipc, label)

    write(folder, load=load)
    assert looked > 6
    assert opened(folder) != before
    assert verify(folder) == []


class Stop(BaseException):
    """Stands for the end of the process: nothing may catch it."""


def stopping(monkeypatch: pytest.MonkeyPatch, at: int) -> Callable[[], int]:
    """From now on the `at`-th change of a name in the file system (counted from 0) does not happen any more."""
    count = 0

    def counted(change: Callable[..., None]) -> Callable[..., None]:
        def instead(*args: Any, **options: Any) -> None:
            nonlocal count
            count += 1
            if count > at:
                raise Stop
            change(*args, **options)

        return instead

    monkeypatch.setattr(os, "replace", counted(os.replace))
    monkeypatch.setattr(os, "unlink", counted(os.unlink))
    return lambda: count


def test_wherever_the_writer_dies_the_folder_holds_one_whole_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "old", load=former)
    write(tmp_path / "new")
    sets = [opened(str(tmp_path / "old")), opened(str(tmp_path / "new"))]
    seen = set()
    for at in range(100):
        folder = tmp_path / f"s{at}"
        write(folder, load=former)
        with monkeypatch.context() as patched:
            changes = stopping(patched, at)
            try:
                write(folder)
                died = False
            except Stop:
                died = True
        seen.add(sets.index(opened(str(folder))))
        assert in_datasets(folder, tmp_path / f"cache{at}") in sets
        with monkeypatch.context() as patched:
            patched.setattr(files, "is_running", lambda _: False)  # the process that died was this one
            write(folder)
        assert contents(folder) == contents(tmp_path / "new")
        assert verify(str(folder)) == []
        if not died:
            assert changes() == at
            break
    assert not died
    assert at >= 4 + 2 + 1 + 4  # new files, card and preview, manifest, former files
    assert seen == {0, 1}


def test_wherever_the_writer_dies_an_object_store_holds_one_whole_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There nothing can be renamed: files are put one by one, and the last put is the switch."""
    root = f"memory://store{tmp_path}"
    write(f"{root}/old", load=former)
    write(f"{root}/new")
    sets = [opened(f"{root}/old"), opened(f"{root}/new")]
    seen = set()
    for at in range(100):
        folder, count = f"{root}/s{at}", 0
        write(folder, load=former)

        def counted(change: Callable[..., Any], at: int = at) -> Callable[..., Any]:
            def instead(*args: Any, **options: Any) -> Any:
                nonlocal count
                count += 1
                if count > at:
                    raise Stop
                return change(*args, **options)

            return instead

        died = False
        with monkeypatch.context() as patched:
            for place, name in ((stream, "writer"), (files, "write_bytes"), (files, "delete")):
                patched.setattr(place, name, counted(getattr(place, name)))
            try:
                write(folder)
            except Stop:
                died = True
        seen.add(sets.index(opened(folder)))
        write(folder)
        assert opened(folder) == sets[1]
        assert verify(folder) == []
        if not died:
            break
    assert not died
    assert at >= 4 + 2 + 1 + 4  # new files, card and preview, manifest, former files
    assert seen == {0, 1}


def test_an_interrupted_writer_leaves_no_file_behind(tmp_path: Path) -> None:
    def stop(ipc: int, label: int) -> ClassPart:
        if (ipc, label) == (4, 2):
            raise KeyboardInterrupt
        return part(ipc, label)

    write(tmp_path / "s", load=former)
    before = contents(tmp_path / "s")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "s", load=stop)
    assert contents(tmp_path / "s") == before
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "fresh", load=stop)
    assert contents(tmp_path / "fresh") == {}
    with pytest.raises(UserError, match=r"no manifest.json: .* never finished \(run its command again\)"):
        raycond.open(str(tmp_path / "fresh"))


def test_what_a_killed_writer_left_goes_with_the_next(tmp_path: Path) -> None:
    write(tmp_path / "s")
    (tmp_path / "s" / "data" / "ipc4" / ".abc.part").write_bytes(b"x")
    write(tmp_path / "s")
    assert not list((tmp_path / "s").rglob("*.part"))
    assert oct((tmp_path / "s" / "manifest.json").stat().st_mode)[-3:] == "644"
    assert {oct(f.stat().st_mode)[-3:] for f in (tmp_path / "s" / "data" / "ipc4").iterdir()} == {"644"}


def test_a_reader_whose_files_are_replaced_reads_the_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The set is replaced between the reading of its manifest and that of its files."""
    from raycond.sets import reader

    folder, read, replaced = tmp_path / "s", reader.read_table, []
    write(folder, load=former)

    def late(*args: Any) -> Any:
        if not replaced:
            replaced.append(True)
            write(folder)
        return read(*args)

    monkeypatch.setattr(reader, "read_table", late)
    found = raycond.open(str(folder)).images
    monkeypatch.undo()
    assert found == opened(str(folder))
    (next((folder / "data" / "ipc4").iterdir())).unlink()
    with pytest.raises(UserError, match="missing, though the manifest lists it"):
        raycond.open(str(folder))


def test_equal_files_have_equal_names_and_different_ones_do_not(tmp_path: Path) -> None:
    names = []
    for data in (b"a", b"a", b"b"):
        with Publication(str(tmp_path / "s")) as new:
            with new.stream("data/x", ".parquet") as file:
                file.write(data)
            names.append(file.name)
            assert new.files[file.name] == {"sha256": files.sha256(data), "bytes": 1}
    assert names[0] == names[1] == f"data/x-{files.sha256(b'a')[:12]}.parquet"
    assert names[2] != names[0]
    assert not [f for f in (tmp_path / "s").rglob("*") if f.is_file()]  # never switched


def test_classes_of_the_former_set_do_not_matter(tmp_path: Path) -> None:
    write(tmp_path / "s", ipcs=(1, 2, 4))
    write(tmp_path / "s", ipcs=(1,), classes=CLASSES)
    assert torch.equal(raycond.open(str(tmp_path / "s")).labels, torch.arange(3))
