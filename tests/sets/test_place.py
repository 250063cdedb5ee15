from __future__ import annotations

from pathlib import Path

import pytest

from raycond.core.errors import UserError
from raycond.sets.place import set_folder, set_or_path
from tests.sets.make import write


def test_a_set_and_its_run_are_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "run" / "set")
    for path in (f"{tmp_path}/run", f"{tmp_path}/run/", f"{tmp_path}/run/set", f"file://{tmp_path}/run"):
        assert set_folder(path) == set_or_path(path) == f"{tmp_path}/run/set"
    monkeypatch.chdir(tmp_path)
    assert set_or_path("run") == f"{tmp_path}/run/set"


def test_a_set_inside_a_set_is_not_meant(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "a" / "set")
    assert set_folder(str(tmp_path / "a")) == str(tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "no such folder"),
        ("file", "is a file"),
        ("file/below", "no such folder"),
        ("empty", "no manifest.json"),
        ("a\nb", r"a\\nb: no such folder"),
    ],
)
def test_what_is_no_set_is_said_when_it_is_opened(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    path = f"{tmp_path}/{name}"
    with pytest.raises(UserError, match=message):
        set_folder(path)
    assert set_or_path(path) == path
