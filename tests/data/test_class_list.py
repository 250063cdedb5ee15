"""Class lists in every form, and what the labels of a source mean under them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raycond.core.errors import UserError
from raycond.data.class_list import ClassList, classes_of, load_class_list
from raycond.data.classes import Classes


def written(tmp_path: Path, content: Any, name: str = "list.json") -> str:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (tmp_path / name).write_bytes(data)
    return str(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "name", "ids", "names"),
    [
        (["b", "a", 3], "x.json", ("b", "a", "3"), ("b", "a", "3")),
        ({"x": "ex", "y": "why"}, "x.json", ("x", "y"), ("ex", "why")),
        ({"ids": ["p", "q"], "names": ["P", "Q"]}, "x.json", ("p", "q"), ("P", "Q")),
        ({"cat": 1, "ant": 0}, "x.json", ("ant", "cat"), ("ant", "cat")),
        ({"1": ["n2", "two"], "0": ["n1", "one"]}, "x.json", ("n1", "n2"), ("one", "two")),
        (b"b\n\n a \n", "x.txt", ("b", "a"), ("b", "a")),
        (b"b\na\n", "classes", ("b", "a"), ("b", "a")),
        (b'["b", "a"]', "classes.list", ("b", "a"), ("b", "a")),
        (
            b"n00000001 crane\nn00000002 crane, derrick\n",
            "x.txt",
            ("n00000001", "n00000002"),
            ("crane", "crane, derrick"),
        ),
        (b"n00000001 crane\nn00000002 crane\n", "x.txt", None, ("crane (n00000001)", "crane (n00000002)")),
        ("ça va\n".encode("utf-8-sig"), "x.txt", ("ça va",), ("ça va",)),
    ],
)
def test_forms(tmp_path: Path, content: Any, name: str, ids: tuple[str, ...] | None, names: tuple[str, ...]) -> None:
    classes = load_class_list(written(tmp_path, content, name)).classes
    assert classes.names == names
    assert ids is None or classes.ids == ids


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (3, "it holds int"),
        ([], "it holds no class"),
        ([None], "None is neither"),
        ([["a"]], "neither a text nor"),
        (["a", "a"], "repeated: a"),
        (["a", " "], "' ' is neither"),
        ({"cat": 1, "ant": 2}, "positions are not 0 to 1"),
        ({"0": ["n1"], "1": ["n2"]}, "list index"),
        ({"5": ["n1", "one"]}, "0"),
        ({"ids": ["a"], "names": []}, "1 ids but 0 names"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a"', "Expecting"),
        ("cat\n".encode("utf-16"), "codec|character"),
    ],
)
def test_what_is_no_list(tmp_path: Path, content: Any, problem: str) -> None:
    with pytest.raises(
        UserError, match=rf"list.json: cannot be read as a class list \(.*{problem}.*\); expected a list"
    ):
        load_class_list(written(tmp_path, content))


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.txt: cannot be read as a class list \(No such file"):
        load_class_list(str(tmp_path / "none.txt"))


def meaning(ids: str, labels: list[int], positional: bool = False) -> dict[int, str]:
    """What whole numbers mean under a list of ids."""
    names = ids.split()
    index = ClassList(Classes.of(names), positional).match(f"i{k}" for k in labels)
    return {int(label[1:]): names[k] for label, k in index.items()}


def test_a_number_under_a_class_label_is_a_position_whatever_the_names_look_like() -> None:
    assert meaning("0 1 10 2", [0, 1, 2, 3], positional=True) == {0: "0", 1: "1", 2: "10", 3: "2"}
    assert meaning("00000 00001", [0, 1], positional=True) == {0: "00000", 1: "00001"}
    assert meaning("1990 1991", [0, 1], positional=True) == {0: "1990", 1: "1991"}
    assert meaning("1 2 3", [0, 1, 2], positional=True) == {0: "1", 1: "2", 2: "3"}


def test_a_number_under_another_list_names_an_id_where_all_numbers_do() -> None:
    assert meaning("2 1 0", [0, 1, 2]) == {0: "0", 1: "1", 2: "2"}
    assert meaning("00000 00001", [0, 1]) == {0: "00000", 1: "00001"}
    assert meaning("1990 1991", [0, 1]) == {0: "1990", 1: "1991"}
    assert meaning("1 2 3", [1, 2, 3]) == {1: "1", 2: "2", 3: "3"}
    assert meaning("1 2 3", [0, 1, 2]) == {0: "1", 1: "2", 2: "3"}
    assert meaning("1 2 3", [0, 1, 2, 3]) == {1: "1", 2: "2", 3: "3"}  # neither fits: what has no class is left out
    assert meaning("a b", [0, 1, 2]) == {0: "a", 1: "b"}
    assert meaning("1 01", [0, 1]) == {0: "1", 1: "01"}


def test_texts_are_ids_or_names() -> None:
    classes = ClassList(Classes.of(["n1", "n2", "n3"], ["tench", "crane", "crane"]))
    assert classes.match(["sn2", "stench", "scrane", "sno"]) == {"sn2": 1, "stench": 0}


def test_labels_without_a_list_are_its_classes() -> None:
    classes, index = classes_of(["i10", "i9", "i-1", "s11"], None)
    assert classes.ids == ("9", "10", "11")
    assert index == {"i9": 0, "i10": 1, "s11": 2}


def test_the_users_list_decides_the_order() -> None:
    wanted = ClassList(Classes.of(["cat", "ant", "bee"]))
    declared = ClassList(Classes.of(["ant", "bee"]), positional=True)
    classes, index = classes_of(["i0", "i1"], declared, wanted)
    assert (classes.ids, index) == (("cat", "ant", "bee"), {"i0": 1, "i1": 2})
    assert classes_of(["i0", "i2"], None, wanted)[1] == {"i0": 0, "i2": 2}
    with pytest.raises(UserError, match="x: the class list has no dog; it must hold every class"):
        classes_of(["sdog", "scat"], None, wanted, "x")
