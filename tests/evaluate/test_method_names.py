from __future__ import annotations

import random

import pytest

from raycond.evaluate.method_names import FULL, METHODS, in_order, meaning, method_name, uniform_twin


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("DDOQ", "vae", "sqrt"), "ddoq vae sqrt"),
        (("D4M", "vae", "uniform"), "d4m vae"),
        (("DDOQ", "vae", "uniform"), "d4m vae"),  # a set measured with other weights than its own
        (("D4M", "vae", "density"), "ddoq vae density"),
        (("ddoq", "medoid", "density", "set a"), "ddoq medoid density [set a]"),
        (("DM", "vae", "uniform"), "dm"),
        (("kip", "", "", "b"), "kip [b]"),
        (("ddoq", "", ""), "ddoq"),
        (("d4m", "", ""), "d4m"),
    ],
)
def test_names(parts: tuple[str, ...], expected: str) -> None:
    assert method_name(*parts) == expected


@pytest.mark.parametrize(
    ("method", "twin"),
    [
        ("ddoq", "d4m"),
        ("ddoq vae sqrt", "d4m vae"),
        ("ddoq vae density [runs [2]]", "d4m vae [runs [2]]"),
        ("d4m vae", None),
        ("random", None),
        ("full", None),
        ("ddoqx", None),
    ],
)
def test_uniform_twins(method: str, twin: str | None) -> None:
    assert uniform_twin(method) == twin


def test_order_of_every_table() -> None:
    expected = [
        "random", "medoid", "herding", "k-center", "el2n", "d4m", "ddoq", "d4m medoid", "ddoq medoid sqrt", "d4m vae",
        "ddoq vae sqrt", "ddoq vae density", "d4m vae [b]", "ddoq vae sqrt [b]", "dm", "kip", "full",
    ]  # fmt: skip
    assert in_order(random.Random(0).sample(expected * 2, 2 * len(expected))) == expected


def test_every_known_name_has_a_meaning() -> None:
    for method in (*METHODS, FULL, "d4m", "ddoq", "rded", "dm", "d4m vae", "ddoq sd:x density", "ddoq medoid sqrt [b]"):
        assert meaning(method), method
    assert meaning("zeta") == ""
    assert "codebook" in meaning("d4m")
    assert "in proportion to their number" in meaning("ddoq vae density")
    assert meaning("ddoq vae sqrt [a\nb]").endswith("of the set a\\nb")
    assert meaning("dm density") == meaning("dm")


def test_rows_of_matching_methods() -> None:
    assert meaning("dc").startswith("DC: ")
    assert meaning("dc (8-bit)") == meaning("dc") + ", as the 8-bit images that are stored"
    assert meaning("dm+dream [a]") == meaning("dm") + ", against real images that represent their class evenly (DREAM)"
    assert meaning("magic (8-bit)") == meaning("magic+dream") == ""
