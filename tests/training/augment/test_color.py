from __future__ import annotations

import itertools

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from raycond.core.errors import UserError
from raycond.training.augment import jitter, lighting
from tests.training.augment.make import generator, images

VALUES = (0.4, 1.5, 0.1)


def changed(image: torch.Tensor, kind: int, factor: float) -> torch.Tensor:
    """Brightness, contrast or saturation of one image (3, h, w), written out."""
    gray = (torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1) * image).sum(0, keepdim=True)
    about = (torch.zeros(1, 1, 1), gray.mean().view(1, 1, 1), gray)[kind]
    return factor * image + (1 - factor) * about


def test_jitter_draws_factors_and_an_order_for_each_image_and_does_not_clamp() -> None:
    x = images(64)
    draws = torch.rand(64, 6, generator=generator(4))
    low, high = torch.tensor([0.6, 0.0, 0.9]), torch.tensor([1.4, 2.5, 1.1])
    factors, orders = low + (high - low) * draws[:, :3], draws[:, 3:].argsort(1)
    out = jitter(x, *VALUES, generator(4))
    for image, result, factor, order in zip(x, out, factors.tolist(), orders.tolist(), strict=True):
        for kind in order:
            image = changed(image, kind, factor[kind])
        torch.testing.assert_close(result, image, rtol=0, atol=2e-6)
    assert {tuple(order) for order in orders.tolist()} == set(itertools.permutations(range(3)))
    assert float(out.min()) < -0.1
    assert float(out.max()) > 1.1


def test_within_the_range_jitter_is_that_of_torchvision() -> None:
    x = 0.45 + 0.1 * images(32)
    draws = torch.rand(32, 6, generator=generator(5))
    names = ("adjust_brightness", "adjust_contrast", "adjust_saturation")
    out = jitter(x, 0.4, 0.4, 0.4, generator(5))
    for image, result, draw in zip(x, out, draws, strict=True):
        for kind in draw[3:].argsort().tolist():
            image = getattr(reference, names[kind])(image, 0.6 + 0.8 * float(draw[kind]))
        torch.testing.assert_close(result, image, rtol=0, atol=5e-4)  # its grey is 0.2989 red


def test_value_0_leaves_a_property_and_the_other_draws_alone() -> None:
    x = images()
    assert torch.equal(jitter(x, 0, 0, 0, generator()), x)
    draws = torch.rand(16, 6, generator=generator())
    expected = torch.stack([changed(image, 1, 0.6 + 0.8 * float(d)) for image, d in zip(x, draws[:, 1], strict=True)])
    torch.testing.assert_close(jitter(x, 0, 0.4, 0, generator()), expected, rtol=0, atol=1e-6)


def test_grey_images_have_no_saturation() -> None:
    x = images(channels=1)
    torch.testing.assert_close(jitter(x, 0, 0, 0.4, generator()), x, rtol=0, atol=1e-6)


def test_jitter_needs_1_or_3_channels() -> None:
    with pytest.raises(UserError, match="1 or 3 channels, not 2"):
        jitter(images(channels=2), 0.4, 0.4, 0.4, generator())


def test_lighting_adds_one_colour_with_the_covariance_of_imagenet() -> None:
    x = images(1, 3, 2).expand(20000, -1, -1, -1)
    added = lighting(x, 0.1, generator()) - x
    torch.testing.assert_close(added, added[:, :, :1, :1].expand_as(added), rtol=0, atol=1e-6)
    vectors = torch.tensor([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(3), rtol=0, atol=2e-3)
    expected = 0.01 * vectors @ torch.diag(torch.tensor([0.2175, 0.0188, 0.0045]) ** 2) @ vectors.T
    torch.testing.assert_close(added[:, :, 0, 0].T.cov(), expected, rtol=0.05, atol=1e-6)


def test_lighting_needs_3_channels() -> None:
    with pytest.raises(UserError, match="3 channels and the images have 1"):
        lighting(images(channels=1), 0.1, generator())
