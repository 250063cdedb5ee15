from __future__ import annotations

import os

import pytest

from raycond.core.text import shown


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
