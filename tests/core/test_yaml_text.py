from __future__ import annotations

import pytest

from raycond.core.errors import UserError
from raycond.core.yaml_text import read_yaml


def test_plain_values() -> None:
    assert read_yaml("a: [1, 2.5, true, null, text]\nb: {c: d}", "x") == {
        "a": [1, 2.5, True, None, "text"],
        "b": {"c": "d"},
    }


@pytest.mark.parametrize(
    "text",
    [
        "{", "a: b: c", "\x00", "[" * 20000, "{a: " * 20000, "!!int ''", "!!bool x", "!!timestamp x", "2024-13-45",
        "!!python/name:os.system", "? [a]\n: b", "a: &a [*a]", "a: &a [x, x]\nb: [*a, *a]", "<<: 5", "9" * 5000,
    ],
)  # fmt: skip
def test_everything_else_is_one_error(text: str) -> None:
    with pytest.raises(UserError, match=r"^file\.yaml: not valid YAML"):
        read_yaml(text, "file.yaml")
