from __future__ import annotations

import itertools

import pytest

from raycond.core.errors import UserError
from raycond.methods.kernels.architecture import Architecture, Level
from raycond.methods.kernels.registry import kernel

POOLED = Level(1, True)


@pytest.mark.parametrize(("side", "radii", "pairs"), [(28, [7, 3, 1], 364**2), (32, [7, 3, 1], 424**2)])
def test_flatten_needs_few_displacements(side: int, radii: list[int], pairs: int) -> None:
    network = kernel("convnet3")
    assert network.radii((1, side, side)) == [(r, r) for r in radii]
    assert network.pixel_pairs((1, side, side))[0] == pairs


def test_pixel_pairs_are_those_that_pooling_brings_to_the_diagonal() -> None:
    """Counted pair by pair: two pixels matter if their 4×4 areas are the same, or a displacement leads there."""
    network = Architecture("two", (POOLED, POOLED))
    side, radius = 9, network.radii((1, 9, 9))[0][0]
    assert radius == 3
    near = sum(abs(p - q) <= radius for p, q in itertools.product(range(side), repeat=2))
    assert network.pixel_pairs((1, side, side))[0] == near**2
    together = [abs(p - q) for p, q in itertools.product(range(8), repeat=2) if p // 4 == q // 4]
    assert max(together) == radius


def test_gap_needs_all_pairs() -> None:
    network = Architecture("gap", (POOLED, POOLED), head="gap")
    assert network.pixel_pairs((3, 8, 4)) == [(8 * 4) ** 2, (4 * 2) ** 2]
    assert network.self_radii((3, 8, 8)) == [(1, 1), (0, 0)]


def test_without_pooling_every_pixel_meets_itself_alone() -> None:
    assert kernel("conv-vec3").pixel_pairs((3, 7, 5)) == [35]
    assert kernel("fc3").pixel_pairs((3, 7, 5)) == [1]
    assert kernel("fc3").activations((3, 7, 5)) == 3


def test_odd_maps_lose_their_last_row() -> None:
    assert kernel("convnet").sizes((1, 28, 28)) == [(28, 28), (14, 14), (7, 7)]
    assert kernel("convnet").final_size((1, 28, 28)) == (3, 3)


def test_images_that_a_network_does_not_take() -> None:
    with pytest.raises(UserError, match=r"myrtle5 is defined for square images, not 32×30.*crop"):
        kernel("myrtle5").check((3, 32, 30))
    with pytest.raises(UserError, match="at least 8 pixels a side, not 7×28"):
        kernel("convnet").check((1, 7, 28))
    kernel("fc1").check((1, 2, 3))
    with pytest.raises(UserError, match="at least one pixel"):
        kernel("fc1").check((1, 0, 3))


@pytest.mark.parametrize(
    "options",
    [
        {"levels": ()},
        {"levels": (Level(0),)},
        {"levels": (Level(1), Level(1))},
        {"levels": (Level(1),), "filter": 5},
        {"levels": (Level(1),), "w_std": 0.0},
        {"levels": (Level(1),), "b_std": float("nan")},
    ],
)
def test_networks_that_are_none(options: dict) -> None:
    with pytest.raises(UserError, match="kernel odd"):
        Architecture("odd", **options)
