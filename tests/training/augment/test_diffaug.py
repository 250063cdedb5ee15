from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.training.augment import dsa
from raycond.training.augment.diffaug import diffaug
from tests.training.augment.make import generator, images


def test_flip_and_color_come_first_then_one_operation_then_cutout() -> None:
    x = images(6) - 0.5
    g = generator(3)
    expected = x
    for strategy in ("flip", "color", "crop_rotate", "cutout"):
        expected = dsa(expected, strategy, g)
    torch.testing.assert_close(diffaug(x, "cutout_crop_color_rotate_flip", generator(3)), expected, rtol=0, atol=0)


def test_color_and_cutout_are_always_applied() -> None:
    x = images(40) + 1
    for seed in range(10):
        out = diffaug(x, "color_crop_cutout", generator(seed))
        assert bool((out == 0).flatten(1).any(1).all())
        assert not bool((out == x).any())


def test_one_of_the_others_each_as_often() -> None:
    x = torch.full((1, 1, 16, 16), 2.0)
    cropped = 0
    for seed in range(300):
        edge = diffaug(x, "crop_scale", generator(seed), shared=True)[0, 0]
        fractional = bool(((edge > 0) & (edge < 2)).any())  # only scaling mixes pixels with what is outside
        cropped += int(not fractional)
    assert 120 < cropped < 260  # scales above 1 enlarge, and mix nothing in


@pytest.mark.parametrize("seed", range(6))
def test_shared_is_the_same_transform_for_batches_of_any_size(seed: int) -> None:
    x = images(20)
    strategy = "color_crop_cutout_flip_scale_rotate"
    every = diffaug(x, strategy, generator(seed), shared=True)
    part = diffaug(x[5:12], strategy, generator(seed), shared=True)
    torch.testing.assert_close(part, every[5:12], rtol=0, atol=1e-6)


def test_gradients_flow_to_the_images() -> None:
    x: Tensor = images(3).requires_grad_()
    diffaug(x, "color_crop", generator(1)).sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().max()) > 0


@pytest.mark.parametrize(("strategy", "words"), [("color_colour", "'colour'"), ("dc", "by itself")])
def test_wrong_strategies_are_errors(strategy: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        diffaug(images(), strategy, generator())
