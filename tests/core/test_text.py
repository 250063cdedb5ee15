from __future__ import annotations

import os
import unicodedata

import pytest

from raycond.core.text import comparable, csv_cell, from_csv_cell, shown, storable, visible


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("crête à l'œuf 蛋 🥚", "crête à l'œuf 蛋 🥚"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("abc\u202etxt", "abc\\u202etxt"),
        ("a\u2028b", "a\\u2028b"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
        ("\ud800", "\\ud800"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("", ""),
        (7, "7"),
    ],
)
def test_control_characters_are_escaped_and_letters_are_not(text: object, expected: str) -> None:
    assert shown(text) == expected
    shown(text).encode()


def test_long_text_is_cut() -> None:
    assert shown("x" * 300, 10) == "x" * 10 + "…"
    assert shown("x" * 10, 10) == "x" * 10


def test_what_is_stored_differs_only_where_it_is_no_utf8() -> None:
    assert storable("a\n\x1b é") == "a\n\x1b é"
    assert storable(os.fsdecode(b"caf\xe9/\xc3\xa9.jpg")) == "caf\\xe9/é.jpg"
    storable("\ud800\udfff").encode()


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("@SUM(1)", "'@SUM(1)"),
        ("+1+1", "'+1+1"),
        ("-cat", "'-cat"),
        ("＝1", "'＝1"),
        ("\t=1", "'\t=1"),
        ("'tis", "''tis"),
        ("'", "''"),
        ("-5", "-5"),
        ("+0.5", "+0.5"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula_and_all_read_back(text: str, cell: str) -> None:
    assert csv_cell(text) == cell
    assert from_csv_cell(cell) == text


@pytest.mark.parametrize(
    ("raw", "carried"),
    [
        ("cat", "cat"),
        ("日本 犬", "日本 犬"),
        ("a\\b", "a\\b"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
        ("a\nb\x1b[31m", "a\\nb\\x1b[31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("cat\u200b", "cat\\u200b"),
        ("../../etc", "../../etc"),
        ("x" * 300, "x" * 300),
    ],
)
def test_names_are_carried_in_the_form_in_which_they_are_shown(raw: str, carried: str) -> None:
    assert visible(raw) == carried
    assert visible(carried) == carried


def test_one_name_has_one_spelling() -> None:
    composed, parted = "café", unicodedata.normalize("NFD", "café")
    assert composed != parted
    assert comparable(composed) == comparable(parted) == composed
