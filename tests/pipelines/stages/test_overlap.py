"""Validation images that are trained on: an error for the same files, a warning for copies, both once."""

from __future__ import annotations

from pathlib import Path

import pytest

from raycond.core.errors import UserError
from raycond.data.rows import RowSource
from raycond.data.sources import open_source
from raycond.pipelines.stages import overlap as stage
from raycond.pipelines.stages.overlap import require_disjoint
from tests.data.make import encoded, picture


def source(folder: Path, kind: str, first: int = 0) -> RowSource:
    (folder / "a").mkdir(parents=True)
    for k in range(6):
        (folder / "a" / f"{k}.img").write_bytes(encoded(picture(first + k), kind))
    return open_source(str(folder), index_dir="x")


def seen(val: RowSource, train: RowSource, record: Path, allow: bool = False) -> stage.Overlap:
    return require_disjoint(val, train, val_digest="v", train_digest="t", record=str(record), allow=allow)


def test_the_same_files_are_an_error_unless_that_is_allowed(tmp_path: Path) -> None:
    train, val = source(tmp_path / "train", "PNG"), source(tmp_path / "val", "PNG")
    with pytest.raises(UserError, match="6 of 6 validation images are training images too"):
        seen(val, train, tmp_path / "record")
    assert seen(val, train, tmp_path / "record", allow=True).shared == 6
    with pytest.raises(UserError, match="6 of 6 validation images are training images too"):
        seen(val, train, tmp_path / "record")


def test_copies_are_a_warning_and_looked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train, val = source(tmp_path / "train", "PNG"), source(tmp_path / "val", "BMP")
    first = seen(val, train, tmp_path / "record")
    assert (first.shared, first.alike, first.compared) == (0, 6, 6)
    monkeypatch.setattr(stage, "overlap", lambda *_: pytest.fail("looked for again"))
    assert seen(val, train, tmp_path / "record") == first
    warned = [line.startswith("WARNING    6 of 6 validation") for line in capsys.readouterr().err.splitlines()]
    assert warned == [True]  # the summary and the report say it every time


def test_other_images_are_nothing_to_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, val = source(tmp_path / "train", "PNG"), source(tmp_path / "val", "PNG", first=50)
    assert not seen(val, train, tmp_path / "record").notable
    assert capsys.readouterr().err == ""
