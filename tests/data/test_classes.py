"""The class list: unique, ordered, compared with both lists shown."""

from __future__ import annotations

import pytest

from raycond.core.errors import ClassMismatch, UserError
from raycond.data.classes import Classes, require_same


def test_round_trip_head_and_index() -> None:
    classes = Classes.of(["b", "a", "c"], ["B", "A", "C"])
    assert Classes.from_dict(classes.to_dict()) == classes
    assert (len(classes), classes.index("a"), classes.head(2).names) == (3, 1, ("B", "A"))
    assert classes.head(None) == classes.head(9) == classes
    with pytest.raises(UserError, match="'z' is not one of the 3"):
        classes.index("z")


def test_bad_lists() -> None:
    with pytest.raises(UserError, match="repeated: a"):
        Classes.of(["a", "b", "a"])
    with pytest.raises(UserError, match="2 ids but 1 names"):
        Classes.of(["a", "b"], ["A"])


def test_require_same() -> None:
    one = Classes.of(["a", "b"])
    require_same(one, Classes.of(["a", "b"], ["other", "names"]), "x", "y")
    with pytest.raises(ClassMismatch, match=r"only in train: b; only in val: c") as caught:
        require_same(one, Classes.of(["a", "c"]), "train", "val")
    assert "train (2): a, b" in str(caught.value)
    assert "val (2): a, c" in str(caught.value)
    with pytest.raises(ClassMismatch, match="another order, first at label 0: a and b"):
        require_same(one, Classes.of(["b", "a"]), "train", "val")
    many = Classes.of(str(k) for k in range(50))
    with pytest.raises(ClassMismatch, match="30 more"):
        require_same(many, one, "train", "val")
