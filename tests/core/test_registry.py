"""The registry: names, forms, near names, and that nothing is imported before it is used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from raycond.core.errors import UserError
from raycond.core.registry import Entry, Registry, did_you_mean

KINDS = Registry(
    "--thing",
    [
        Entry("circle", "a round one", "math:pi"),
        Entry("folder", "one from a folder", "os.path:join", "FOLDER"),
        Entry("grid", "a square one", "builtins:int", "[SIDE]"),
    ],
)


def test_names_and_help_list_the_kinds_in_their_order():
    assert KINDS.names() == ("circle", "folder", "grid")
    assert KINDS.help() == (
        "  circle         a round one\n  folder:FOLDER  one from a folder\n  grid[:SIDE]    a square one"
    )
    assert "grid" in KINDS
    assert "cube" not in KINDS


@pytest.mark.parametrize(
    ("spec", "name", "where"),
    [
        ("circle", "circle", ""),
        ("folder:s3://a/b:c", "folder", "s3://a/b:c"),
        ("grid", "grid", ""),
        ("grid:", "grid", ""),
        ("grid:3", "grid", "3"),
    ],
)
def test_parse_takes_a_name_and_what_follows_its_first_colon(spec: str, name: str, where: str):
    entry, found = KINDS.parse(spec)
    assert (entry.name, found) == (name, where)


@pytest.mark.parametrize("spec", ["circle:3", "circle:", "folder", "folder:"])
def test_parse_says_the_form_of_a_kind_that_is_written_wrongly(spec: str):
    with pytest.raises(UserError, match=rf"--thing {spec}: expected (circle|folder:FOLDER), "):
        KINDS.parse(spec)


@pytest.mark.parametrize(("spec", "near"), [("circel", "circle"), ("Grid:3", "grid"), ("foldr:x", "folder")])
def test_an_unknown_kind_gets_the_nearest_name_and_the_list(spec: str, near: str):
    with pytest.raises(UserError) as caught:
        KINDS.parse(spec)
    name = spec.partition(":")[0]
    assert str(caught.value) == f"--thing {name}: not one of circle, folder:FOLDER, grid[:SIDE]; did you mean {near}?"


def test_a_name_near_to_nothing_gets_no_hint():
    with pytest.raises(UserError, match=r"--thing qqq: not one of .*, grid\[:SIDE\]$"):
        KINDS.check("qqq")
    assert did_you_mean("qqq", ["circle"]) == ""


def test_check_gives_back_a_known_name():
    assert KINDS.check("circle") == "circle"


def test_the_module_of_a_kind_is_imported_when_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "one_new_file.py").write_text("THING = 'opened'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    kinds = Registry("--thing", [*KINDS, Entry("new", "a new one", "one_new_file:THING")])
    assert "one_new_file" not in sys.modules
    try:
        assert kinds["new"].load() == "opened"
    finally:
        sys.modules.pop("one_new_file", None)
