from __future__ import annotations

import random
from typing import Any

import pytest

from raycond.evaluate.method_names import (
    FULL,
    METHODS,
    condensed,
    current_name,
    former_name,
    in_order,
    kind_of,
    meaning,
    method_name,
    quantized_kind,
    uniform_twin,
)

SD = "sd:stable-diffusion-v1-5"
DIT = "dit:DiT-XL-2-256"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("decoded centroids", "vae", "sqrt"), "decoded centroids (vae, sqrt)"),
        (("D4M", SD, "uniform"), f"d4m ({SD}, uniform)"),
        (("DDOQ", DIT, "uniform"), f"ddoq ({DIT}, uniform)"),  # a set measured with other weights than its own
        (("medoids", "medoid", "density", "set a"), "medoids (medoid, density) [set a]"),
        (("DM", "vae", "uniform"), "dm"),
        (("DM", "vae", "density"), "dm (density)"),
        (("kip", "", "", "b"), "kip [b]"),
    ],
)
def test_names(parts: tuple[str, ...], expected: str) -> None:
    assert method_name(*parts) == expected


@pytest.mark.parametrize(
    ("quantizer", "generator", "weights", "diffusion", "expected"),
    [
        ("lloyd", "vae", "uniform", {}, "decoded centroids"),
        ("minibatch", "vae", "uniform", {}, "decoded centroids"),
        ("lloyd", "vae", "sqrt", {}, "decoded centroids"),
        ("lloyd", "medoid", "sqrt", {}, "medoids"),
        ("minibatch", SD, "uniform", {}, "d4m"),
        ("lloyd", SD, "uniform", {}, "diffused centroids"),
        ("minibatch", SD, "sqrt", {}, "ddoq"),
        ("lloyd", DIT, "sqrt", {"noise": 0.5}, "ddoq"),
        ("lloyd", DIT, "uniform", {"noise": 0.5}, "diffused centroids"),
        ("lloyd", DIT, "uniform", {"noise": 1, "mode_guidance": 0.1, "recipe": "published"}, "mgd3"),
        ("lloyd", DIT, "uniform", {"noise": 1, "mode_guidance": 0.1, "recipe": "pipeline"}, "diffused centroids"),
        ("lloyd", DIT, "sqrt", {"noise": 1}, "diffused centroids"),
        ("lloyd", SD, "sqrt", {"mode_guidance": 0.1}, "diffused centroids"),
    ],
)
def test_a_published_name_is_for_the_published_method(
    quantizer: str, generator: str, weights: str, diffusion: dict[str, Any], expected: str
) -> None:
    found = quantized_kind(quantizer=quantizer, generator=generator, weights=weights, diffusion=diffusion)
    assert found == expected


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("d4m vae", "decoded centroids (vae, uniform)"),
        ("ddoq vae sqrt", "decoded centroids (vae, sqrt)"),
        ("ddoq vae density [runs [2]]", "decoded centroids (vae, density) [runs [2]]"),
        ("d4m medoid [b]", "medoids (medoid, uniform) [b]"),
        (f"d4m {SD}", f"ddoq ({SD}, uniform)"),
        (f"ddoq {SD} sqrt", f"ddoq ({SD}, sqrt)"),
        ("random", "random"),
        ("dm", "dm"),
    ],
)
def test_names_of_before_are_read_and_known(former: str, now: str) -> None:
    assert current_name(former) == now
    assert current_name(now) == now
    assert former_name(now) == former


def test_rows_of_before_without_a_generator() -> None:
    assert (current_name("d4m"), current_name("ddoq")) == ("centroids (uniform)", "centroids (weighted)")
    assert kind_of(current_name("ddoq")) == "weighted"


@pytest.mark.parametrize(
    ("method", "twin"),
    [
        ("decoded centroids (vae, sqrt)", "decoded centroids (vae, uniform)"),
        (f"ddoq ({SD}, density) [runs [2]]", f"ddoq ({SD}, uniform) [runs [2]]"),
        ("centroids (weighted)", "centroids (uniform)"),
        ("decoded centroids (vae, uniform)", None),
        ("random", None),
        ("full", None),
        ("ddoq", None),
    ],
)
def test_uniform_twins(method: str, twin: str | None) -> None:
    assert uniform_twin(method) == twin


def test_a_generator_may_have_any_name() -> None:
    name = method_name("ddoq", "sd:a, (b)", "sqrt", "c, d")
    found = condensed(name)
    assert found is not None
    assert found == ("ddoq", "sd:a, (b)", "sqrt", "c, d")
    assert found.name == name


def test_order_of_every_table() -> None:
    expected = [
        "random", "medoid", "herding", "k-center", "el2n", "medoids (medoid, uniform)", "medoids (medoid, sqrt)",
        f"d4m ({SD}, uniform)", f"ddoq ({SD}, uniform)", f"ddoq ({SD}, sqrt)", "decoded centroids (vae, uniform)",
        "decoded centroids (vae, sqrt)", "decoded centroids (vae, density)", "decoded centroids (vae, uniform) [b]",
        "decoded centroids (vae, sqrt) [b]", "dm", "kip", "full",
    ]  # fmt: skip
    assert in_order(random.Random(0).sample(expected * 2, 2 * len(expected))) == expected


def test_every_known_name_has_a_meaning() -> None:
    sets = (
        "decoded centroids (vae, uniform)",
        f"d4m ({SD}, uniform)",
        f"ddoq ({SD}, density)",
        "medoids (medoid, sqrt)",
    )
    for method in (*METHODS, FULL, "rded", "dm", *sets, f"mgd3 ({DIT}, uniform)", "centroids (weighted)"):
        assert meaning(method), method
    assert meaning("zeta") == ""
    assert "codebook" in meaning("decoded centroids (vae, uniform)")
    assert "D4M" not in meaning("decoded centroids (vae, uniform)")
    assert "in proportion to" in meaning("decoded centroids (vae, density)")
    assert meaning("decoded centroids (vae, sqrt) [a\nb]").endswith("of the set a\\nb")
    assert meaning("dm (density)") == meaning("dm")


def test_rows_of_matching_methods() -> None:
    assert meaning("dc").startswith("DC: ")
    assert meaning("dc (8-bit)") == meaning("dc") + ", as the 8-bit images that are stored"
    assert meaning("dm+dream [a]") == meaning("dm") + ", against real images that represent their class evenly (DREAM)"
    assert meaning("magic (8-bit)") == meaning("magic+dream") == ""
