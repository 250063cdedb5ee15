from __future__ import annotations

import os

import pytest

from raycond.core.text import csv_cell, from_csv_cell, shown, storable


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
