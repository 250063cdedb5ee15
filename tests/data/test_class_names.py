"""Names of classes: one name for one class, one order for one set of ids."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from raycond.core.errors import UserError
from raycond.data import class_names
from raycond.data.class_names import first_words, in_order, named, with_names


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["10", "9", "1"], ["1", "9", "10"]),
        (["00010", "00009"], ["00009", "00010"]),
        (["01", "1", "0"], ["0", "01", "1"]),
        (["10", "9", "a"], ["10", "9", "a"]),
        (["n02", "n01"], ["n01", "n02"]),
        (["²", "1"], ["1", "²"]),  # a digit for str.isdigit, and no number
    ],
)
def test_ids_of_digits_are_in_the_order_of_numbers(ids: list[str], expected: list[str]) -> None:
    assert in_order(ids) == expected


def test_the_two_cranes_of_imagenet_have_two_names() -> None:
    pytest.importorskip("timm")
    cranes = named(["n02012849", "n03126707"])
    assert all(name.startswith("crane: ") for name in cranes.names)
    assert len(set(cranes.names)) == 2
    assert named(["n03710637", "n03710721"]).names == ("maillot", "maillot, tank suit")
    assert named(["n02113186", "n02963159"]).names == ("Cardigan, Cardigan Welsh corgi", "cardigan")
    assert named(["n02012849", "n01440764"]).names == ("crane", "tench")  # alone it is just a crane


def test_all_of_imagenet_is_told_apart_whatever_the_case() -> None:
    pytest.importorskip("timm")
    from timm.data.imagenet_info import ImageNetInfo

    for subset in ("imagenet-1k", "imagenet-22k"):
        classes = named(ImageNetInfo(subset).label_names())
        assert len({" ".join(name.casefold().split()) for name in classes.names}) == len(classes)


def test_without_timm_ids_are_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm.data.imagenet_info", None)
    class_names._imagenet.cache_clear()
    assert named(["n02012849", "n03126707"]).names == ("n02012849", "n03126707")


def test_names_given_by_the_data_are_told_apart_by_their_ids() -> None:
    assert with_names(["a", "b", "c"], ["crane", "Crane ", "bird"]).names == ("crane (a)", "Crane  (b)", "bird")
    assert named(["Crane", "crane"]).names == ("Crane (0)", "crane (1)")
    assert with_names(["0", "1"], ["café", unicodedata.normalize("NFD", "café")]).names == ("café (0)", "café (1)")


def test_ids_that_are_the_same_text_are_refused() -> None:
    with pytest.raises(UserError, match="ids must be unique, repeated: café"):
        named(["café", unicodedata.normalize("NFD", "café")])


def test_names_are_carried_in_a_form_that_can_be_stored() -> None:
    classes = named(["a\nb", "caf\udce9", "\u202egnp"])
    assert classes.ids == ("a\\nb", "caf\\xe9", "\\u202egnp")
    assert "".join(classes.ids + classes.names).encode()


def test_first_words() -> None:
    assert first_words(["tench, Tinca tinca", "goldfish"]) == ["tench", "goldfish"]
    assert first_words(["a, x", "a, y"]) == ["a, x", "a, y"]
    assert first_words(["a", "a"], ["a: one", "a: two"]) == ["a: one", "a: two"]
